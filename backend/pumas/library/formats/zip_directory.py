"""The list of members of a ZIP file, read boundedly.

The standard library reads a whole central directory into objects, however large it claims to be, and trusts more of it
than a loader of models would. Knows nothing about what the members mean.
"""

from __future__ import annotations

import zlib
from typing import Final, NamedTuple

from pumas import zip_records

from .reader import BoundedReader, OpenedFile

_MAX_COMMENT: Final = 65_535
_MAX_DIRECTORY_BYTES: Final = 8 * 1024 * 1024
_MAX_MEMBERS: Final = 50_000


class Member(NamedTuple):
    name: str
    method: int
    packed_size: int
    offset: int


def read_directory(file: OpenedFile) -> list[Member]:
    """Every member; raises `MalformedModelFile` when there is no usable central directory."""
    reader, count = _at_directory(file)
    members: list[Member] = []
    for _ in range(count):
        reader.spend(1)
        entry = zip_records.ENTRY.unpack(reader.take(zip_records.ENTRY.size))
        magic, method, packed, size = entry[0], entry[4], entry[8], entry[9]
        if magic != zip_records.ENTRY_MAGIC:
            raise reader.fail("has a damaged ZIP directory")
        name = reader.take(entry[10]).decode("utf-8", "replace")
        extra = reader.take(entry[11])
        reader.skip(entry[12])
        packed, offset = _wide(extra, size, packed, entry[16])
        members.append(Member(name, method, packed, offset))
    return members


def read_member(file: OpenedFile, member: Member, limit: int) -> bytes | None:
    """The member's first `limit` bytes, or None when it is stored in a way that we do not read."""
    head = file.pread(zip_records.LOCAL.size, min(member.offset, file.size))
    if len(head) < zip_records.LOCAL.size or not head.startswith(zip_records.LOCAL_MAGIC):
        return None
    local = zip_records.LOCAL.unpack(head)
    start = member.offset + zip_records.LOCAL.size + local[9] + local[10]
    if member.method == zip_records.STORED:
        return file.pread(min(limit, member.packed_size), start)
    if member.method == zip_records.DEFLATED:
        packed = file.pread(min(limit, member.packed_size), start)
        try:
            return zlib.decompressobj(-15).decompress(packed, limit)
        except zlib.error:
            return None
    return None


def first_local_name(file: OpenedFile) -> str:
    """The name in the very first local header, which need not agree with the directory."""
    head = file.pread(zip_records.LOCAL.size + 512, 0)
    if len(head) < zip_records.LOCAL.size:
        return ""
    return head[zip_records.LOCAL.size : zip_records.LOCAL.size + zip_records.LOCAL.unpack_from(head)[9]].decode(
        "utf-8", "replace"
    )


def _at_directory(file: OpenedFile) -> tuple[BoundedReader, int]:
    """A reader placed on the first entry, and how many entries there are."""
    tail_start = max(0, file.size - zip_records.END.size - _MAX_COMMENT - zip_records.LOCATOR64.size)
    tail = file.pread(file.size - tail_start, tail_start)
    reader = BoundedReader(file, max_bytes=_MAX_DIRECTORY_BYTES)
    at = tail.rfind(zip_records.END_MAGIC)
    if at < 0 or at + zip_records.END.size > len(tail):
        raise reader.fail("is a ZIP file without directory: damaged or cut short")
    end = zip_records.END.unpack_from(tail, at)
    count, size, offset = end[4], end[5], end[6]
    locator_at = at - zip_records.LOCATOR64.size
    if zip_records.MOST_16 in end[3:5] or zip_records.MOST_32 in (size, offset):
        if locator_at < 0:
            raise reader.fail("has a damaged ZIP directory")
        raw = file.pread(zip_records.END64.size, min(zip_records.LOCATOR64.unpack_from(tail, locator_at)[2], file.size))
        if len(raw) < zip_records.END64.size or not raw.startswith(zip_records.END64_MAGIC):
            raise reader.fail("has a damaged ZIP directory")
        count, size, offset = zip_records.END64.unpack(raw)[7:10]
    if offset + size > file.size:
        raise reader.fail("has a damaged ZIP directory")
    reader.pos, reader.end = offset, offset + size
    reader.check_count("ZIP members", count, zip_records.ENTRY.size, _MAX_MEMBERS)
    return reader, count


def _wide(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int]:
    """Sizes beyond 32 bit stand in an extra field, in this order, each only if its short form is all ones."""
    at = 0
    while at + zip_records.EXTRA.size <= len(extra):
        kind, length = zip_records.EXTRA.unpack_from(extra, at)
        at += zip_records.EXTRA.size
        if kind == zip_records.WIDE_EXTRA:
            numbers = iter([int.from_bytes(extra[i : i + 8], "little") for i in range(at, at + length, 8)])
            if size == zip_records.MOST_32:
                next(numbers, 0)
            packed = next(numbers, packed) if packed == zip_records.MOST_32 else packed
            offset = next(numbers, offset) if offset == zip_records.MOST_32 else offset
            break
        at += length
    return packed, offset
