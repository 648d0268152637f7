"""Reads zip archives that nobody has vouched for, by their list of members.

Names: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (4.6.9, appendix D). `zipfile` makes an object of
every member before anything can be asked, and what it lets pass differs between versions of Python. Blocks; writes
nothing, and knows nothing of where members go.
"""

from __future__ import annotations

import os
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from struct import Struct
from typing import BinaryIO, Final, NamedTuple

from pumas import zip_records
from pumas.errors import UnsafeArchive

_CHUNK: Final = 256 * 1024
_UNICODE_HEAD: Final = Struct("<BL")
_LONGEST_COMMENT: Final = 65_536
_LARGEST_LIST: Final = 64 * 1024 * 1024
_ENCRYPTED, _UTF8 = 1, 1 << 11
_UNICODE_EXTRA: Final = 0x7075


class Member(NamedTuple):
    """`raw` is the name as it stands in the archive, `offset` the place of the member's own head."""

    name: str
    raw: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    mode: int
    offset: int

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")

    @property
    def is_encrypted(self) -> bool:
        return bool(self.flags & _ENCRYPTED)


class _Entry(NamedTuple):
    """What the list says of a member, in the order of the format; `name`, `extra` and `comment` are lengths."""

    magic: bytes
    made_by: int
    needs: int
    flags: int
    method: int
    time: int
    date: int
    crc: int
    packed: int
    size: int
    name: int
    extra: int
    comment: int
    disk: int
    internal: int
    external: int
    offset: int

    @property
    def whole(self) -> int:
        return zip_records.ENTRY.size + self.name + self.extra + self.comment


class ZipArchive:
    """`file` stays open, and is nobody else's meanwhile."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        """Raises UnsafeArchive: it is damaged, or has more than `most` members."""
        self._file = file
        self._list, self._begins, self._moved, counts = _find_list(file, most)
        starts: list[int] = []
        for at, entry in _entries(self._list):
            # How many there are is counted, too: what is said of it may be a lie.
            if len(starts) == most:
                raise too_many(most)
            starts.append(self._sizes(at, entry)[2])
        if len(starts) not in counts:
            raise _damaged("it has another number of members than it says")
        self._starts = sorted(starts)

    def members(self) -> Iterator[Member]:
        for at, entry in _entries(self._list):
            raw, extra = self._texts(at, entry)
            size, packed, offset = self._sizes(at, entry)
            name, mode = _name(raw, entry.flags, extra), entry.external >> 16
            yield Member(name, raw, entry.flags, entry.method, entry.crc, packed, size, mode, offset)

    def content(self, member: Member) -> Content:
        """Raises UnsafeArchive: it is not where it should be, or packed in a way that is not understood."""
        start = self._content_at(member)
        if member.method not in (zip_records.STORED, zip_records.DEFLATED):
            raise UnsafeArchive("it cannot be read: a member is packed in an unusual way", member.name)
        self._file.seek(start)
        return Content(self._file, member)

    def _content_at(self, member: Member) -> int:
        """Behind the member's own head, which must tell of the same member, and ends before the next."""
        after = bisect_right(self._starts, member.offset)
        ends = self._starts[after] if after < len(self._starts) else self._begins
        head = b""
        if member.offset + zip_records.LOCAL.size <= self._begins:
            self._file.seek(member.offset)
            head = self._file.read(zip_records.LOCAL.size)
        if len(head) < zip_records.LOCAL.size or not head.startswith(zip_records.LOCAL_MAGIC):
            raise _damaged("a member is not where it should be")
        name_size, extra_size = zip_records.LOCAL.unpack(head)[9:]
        if self._file.read(name_size) != member.raw:
            raise _damaged("a member has another name than in the list of members")
        start = member.offset + zip_records.LOCAL.size + name_size + extra_size
        if start + member.packed > ends:
            raise _damaged("its members overlap")
        return start

    def _texts(self, at: int, entry: _Entry) -> tuple[bytes, bytes]:
        """(name, further fields)"""
        begins = at + zip_records.ENTRY.size
        between = begins + entry.name
        return self._list[begins:between], self._list[between : between + entry.extra]

    def _sizes(self, at: int, entry: _Entry) -> tuple[int, int, int]:
        """(unpacked, packed, where its own head begins)"""
        size, packed, offset = entry.size, entry.packed, entry.offset
        if zip_records.MOST_32 in (size, packed, offset):
            size, packed, offset = _wide(self._texts(at, entry)[1], size, packed, offset)
        return size, packed, offset + self._moved


class Content:
    """The unpacked bytes of a member, ending with an error when they are not those that the list tells of."""

    def __init__(self, file: BinaryIO, member: Member) -> None:
        self._file = file
        self._left = member.packed
        self._is_packed, self._inflater = member.method == zip_records.DEFLATED, zlib.decompressobj(-zlib.MAX_WBITS)
        self._expected, self._crc = member.crc, 0

    def read(self, size: int) -> bytes:
        """At most `size` bytes, which is more than 0; none at the end. Raises UnsafeArchive, OSError."""
        data = self._inflated(size) if self._is_packed else self._packed(size)
        self._crc = zlib.crc32(data, self._crc)
        if not data and self._crc != self._expected:
            raise _damaged("a member has another checksum than it says")
        return data

    def _packed(self, size: int) -> bytes:
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data

    def _inflated(self, size: int) -> bytes:
        while not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._packed(_CHUNK)
            try:
                data = self._inflater.decompress(packed, size)
            except zlib.error:
                raise _damaged("corrupt deflate stream") from None
            if data or not packed:
                return data
        return b""


def too_many(most: int) -> UnsafeArchive:
    return UnsafeArchive(f"it has more than {most:,} members")


def _damaged(what: str) -> UnsafeArchive:
    return UnsafeArchive(f"it is damaged: {what}")


def _find_list(file: BinaryIO, most: int) -> tuple[bytes, int, int, range]:
    """(the list, where it begins, by how much all places are moved, which numbers of members it may have)"""
    whole = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, whole - _LONGEST_COMMENT - zip_records.END.size))
    tail = file.read()
    at = tail.rfind(zip_records.END_MAGIC)
    if at < 0 or len(tail) - at < zip_records.END.size:
        raise _damaged("it has no list of members")
    count, length, offset = zip_records.END.unpack_from(tail, at)[4:7]
    # Where the list ends; what stands before the archive moves everything.
    ends = start + at
    # Some writers tell no more than the lower 16 bits of a larger number.
    counts = range(count, most + 1, zip_records.MOST_16 + 1)
    if count == zip_records.MOST_16 or zip_records.MOST_32 in (length, offset):
        found = _find_end64(file, ends)
        if found is not None:
            ends, count, length, offset = found
            counts = range(count, count + 1)
    if count > most:
        raise too_many(most)
    if length > _LARGEST_LIST:
        raise UnsafeArchive("its list of members is longer than any real one")
    if length > ends:
        raise _damaged("its list of members is cut")
    begins = ends - length
    if offset > begins:
        raise _damaged("its list of members is not where it should be")
    file.seek(begins)
    return file.read(length), begins, begins - offset, counts


def _find_end64(file: BinaryIO, ends: int) -> tuple[int, int, int, int] | None:
    """(where it stands, number of members, length and place of the list), of an archive that has ZIP64's end, too."""
    here = ends - zip_records.LOCATOR64.size - zip_records.END64.size
    if here < 0:
        return None
    file.seek(here)
    data = file.read(zip_records.END64.size + zip_records.LOCATOR64.size)
    if not (
        data.startswith(zip_records.END64_MAGIC)
        and data.startswith(zip_records.LOCATOR64_MAGIC, zip_records.END64.size)
    ):
        return None
    count, length, offset = zip_records.END64.unpack_from(data)[7:10]
    return here, count, length, offset


def _entries(members: bytes) -> Iterator[tuple[int, _Entry]]:
    """Where each entry begins, and what it says."""
    at = 0
    while at < len(members):
        if len(members) - at < zip_records.ENTRY.size or not members.startswith(zip_records.ENTRY_MAGIC, at):
            raise _damaged("its list of members is cut")
        entry = _Entry._make(zip_records.ENTRY.unpack_from(members, at))
        if entry.whole > len(members) - at:
            raise _damaged("its list of members is cut")
        yield at, entry
        at += entry.whole


def _fields(extra: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while len(extra) - at >= zip_records.EXTRA.size:
        kind, length = zip_records.EXTRA.unpack_from(extra, at)
        at += zip_records.EXTRA.size
        if length > len(extra) - at:
            break
        found[kind] = extra[at : at + length]
        at += length
    return found


def _wide(extra: bytes, *narrow: int) -> Iterator[int]:
    """Sizes and places that need more than 32 bits stand in a field of their own, in this order."""
    values = _fields(extra).get(zip_records.WIDE_EXTRA, b"")
    at = 0
    for number in narrow:
        if number == zip_records.MOST_32 and len(values) - at >= 8:
            yield int.from_bytes(values[at : at + 8], "little")
            at += 8
        else:
            yield number


def _name(raw: bytes, flags: int, extra: bytes) -> str:
    """UTF-8 where a flag says so, or where a field of Info-ZIP repeats a name so; all others are code page 437."""
    encoded = raw if flags & _UTF8 else _repeated(raw, extra) if extra else None
    # What follows a NUL is for other readers than those that look.
    if encoded is None:
        return raw.partition(b"\0")[0].decode("cp437")
    try:
        return encoded.partition(b"\0")[0].decode()
    except UnicodeDecodeError:
        raise UnsafeArchive("a name is not well-formed text", encoded.decode("utf-8", "replace")) from None


def _repeated(raw: bytes, extra: bytes) -> bytes | None:
    """The name in UTF-8; None where it was not repeated, or of another name (changed since by a program that does not
    know the field)."""
    field = _fields(extra).get(_UNICODE_EXTRA, b"")
    if len(field) <= _UNICODE_HEAD.size or _UNICODE_HEAD.unpack_from(field) != (1, zlib.crc32(raw)):
        return None
    return field[_UNICODE_HEAD.size :]
