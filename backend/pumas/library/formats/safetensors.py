"""The JSON header of a safetensors file, parsed piece by piece.

The format allows 100 MB of header. Decoding that at once would take seconds and hundreds of megabytes, so the text is
walked in windows and an entry is forgotten once it was checked. The rules are those of the official parser
(https://github.com/huggingface/safetensors, `safetensors/src/tensor.rs`): known dtypes, sizes that agree, no holes,
no data missing. Stricter in two places: a tensor named twice, and fields that hold objects, are refused. Milder in one:
bytes after the last tensor are counted, not refused.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast

from .reader import WINDOW, BoundedReader, OpenedFile

MAX_HEADER_BYTES: Final = 100_000_000  # the official parser's
MAX_READ_BYTES: Final = 16 * 1024 * 1024  # ours: the headers of the largest single files are about a third of this
MAX_TENSORS: Final = 50_000
MAX_LISTED: Final = 20_000  # tensors whose names and shapes are kept; all of them are counted and checked
MAX_ENTRY_BYTES: Final = 8 * 1024  # looked ahead
MAX_DESCRIPTION_BYTES: Final = 2 * 1024
MAX_DIMS: Final = 64
MAX_NAME_BYTES: Final = 4 * 1024
MAX_KEYS: Final = 10_000  # of __metadata__
MAX_TEXT_BYTES: Final = 64 * 1024  # of one metadata value; the rest is cut and said so
MAX_LISTED_BYTES: Final = 2 * 1024 * 1024  # of their names
MAX_KEPT_BYTES: Final = 8 * 1024 * 1024  # of all metadata

# dtype -> bits of an element
DTYPES: Final[dict[str, int]] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}


class TensorInfo(NamedTuple):
    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(slots=True)
class SafetensorsHeader:
    """What the header says. `tensors` lists at most `MAX_LISTED`; counts cover all tensors."""

    metadata: dict[str, str] = field(default_factory=dict[str, str])
    cut: dict[str, int] = field(default_factory=dict[str, int])  # metadata key -> real length in bytes
    tensors: list[TensorInfo] = field(default_factory=list[TensorInfo])
    tensor_count: int = 0
    elements: Counter[str] = field(default_factory=Counter[str])  # per dtype
    trailing: int = 0  # bytes after the last tensor, which the format does not allow


_SPACE = re.compile(rb"[ \t\r\n]*+")
_TEXT_RUN = re.compile(rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+')
_WHOLE_ESCAPES = re.compile(r"[^\\]*+(?:\\(?:[^u]|u[0-9a-fA-F]{4})[^\\]*+)*+")
_INT = rb"(?:0|[1-9][0-9]{0,19})"
_USUAL_ENTRY = re.compile(  # what every writer produces, with the comma that leads to the next entry
    rb'"([^"\\\x00-\x1f]*+)": ?\{"dtype": ?"([A-Z0-9_]+)", ?"shape": ?\[((?:%b(?:, ?%b){0,63}+)?)\], ?"data_offsets": ?'
    rb"\[(%b), ?(%b)\]\}, ?" % (_INT, _INT, _INT, _INT)
)
_FLAT_OBJECT = re.compile(rb'\{(?:[^{}"]*+"[^"\\]*+(?:\\.[^"\\]*+)*+")*+[^{}"]*+\}', re.DOTALL)


def read_safetensors(file: OpenedFile) -> SafetensorsHeader:
    """Parse and check the header; raises `MalformedModelFile` when the official parser would refuse the file."""
    reader = BoundedReader(file, max_bytes=8 + MAX_READ_BYTES)
    if reader.remaining < 8:
        raise reader.fail("is cut short: it has no header")
    length = int.from_bytes(reader.take(8), "little")
    if length > MAX_HEADER_BYTES:
        raise reader.fail("is not a safetensors file: its header would be larger than 100 MB")
    if length > reader.remaining:
        raise reader.fail("is cut short: its header is longer than the file")
    if length > MAX_READ_BYTES:
        raise reader.fail("its header is larger than any real model's (16 MiB)")
    reader.end = reader.pos + length
    return _Parser(reader).header()


class _Parser:
    """A cursor over the header text: `buffer[at:]` is what was read and not yet consumed."""

    def __init__(self, reader: BoundedReader) -> None:
        self.reader = reader
        self.buffer, self.at = b"", 0
        self.result = SafetensorsHeader()
        self.kept_left, self.names_left = MAX_KEPT_BYTES, MAX_LISTED_BYTES
        self.seen: set[int] = set()  # hashes of names: 64 bits of a keyed hash do not collide by accident
        self.metadata_seen = 0
        self.starts, self.ends = array("Q"), array("Q")

    def header(self) -> SafetensorsHeader:
        self.expect(b"{")
        if self.peek() != b"}":
            self.entry()
            while self.peek() == b",":
                self.at += 1
                self.ensure(MAX_ENTRY_BYTES)
                self.usual_tensors()
                self.entry()
        self.expect(b"}")
        if self.peek():
            raise self.fail("there is text after the header's end")
        self.check_offsets()
        return self.result

    def fail(self, reason: str) -> Exception:
        return self.reader.fail(f"has a damaged header: {reason}")

    # --- text

    def refill(self, want: int) -> bool:
        """Have at least `want` bytes in view if the header has them; False when nothing was added."""
        have = len(self.buffer) - self.at
        count = min(max(WINDOW, want - have), self.reader.remaining)
        if not count:
            return False
        self.reader.check_time()
        self.buffer = self.buffer[self.at :] + self.reader.take(count)
        self.at = 0
        return True

    def ensure(self, want: int) -> None:
        if len(self.buffer) - self.at < want:
            self.refill(want)

    def peek(self) -> bytes:
        """The next byte that is not white space, left in place; empty at the end."""
        while True:
            space = _SPACE.match(self.buffer, self.at)
            self.at = space.end() if space else self.at
            if self.at < len(self.buffer) or not self.refill(1):
                return self.buffer[self.at : self.at + 1]

    def expect(self, token: bytes) -> None:
        if self.peek() != token:
            raise self.fail(f"a {token.decode()} is missing")
        self.at += 1

    def string(self, limit: int) -> tuple[str, int]:
        """A JSON string: its first `limit` bytes decoded, and its length in the file."""
        self.expect(b'"')
        kept, length = bytearray(), 0
        check = codecs.getincrementaldecoder("utf-8")()
        try:
            while True:
                run = _TEXT_RUN.match(self.buffer, self.at)
                end = run.end() if run else self.at
                piece = self.buffer[self.at : end]
                check.decode(piece)
                kept += piece[: max(0, limit - length)]
                length += len(piece)
                self.at = end
                if self.buffer[end : end + 1] == b'"':
                    break
                # An escape has up to six bytes and may be split by the window; anything else here is an error.
                rest = self.buffer[end : end + 6]
                if (rest and (rest[:1] != b"\\" or len(rest) == 6)) or not self.refill(6 + len(rest)):
                    raise self.fail("a text does not end or holds a forbidden character")
            check.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise self.fail("a text is not UTF-8") from error
        self.at += 1
        return self.decoded(bytes(kept), cut=length > limit), length

    def decoded(self, raw: bytes, *, cut: bool) -> str:
        text = raw.decode("utf-8", "ignore" if cut else "strict")
        if "\\" not in text:
            return text
        if cut:
            whole = _WHOLE_ESCAPES.match(text)
            text = whole.group() if whole else ""
        plain = cast("str", json.loads(f'"{text}"'))
        if cut and plain and "\ud800" <= plain[-1] <= "\udbff":
            plain = plain[:-1]
        try:
            plain.encode()
        except UnicodeEncodeError as error:
            raise self.fail("a text holds half of a surrogate pair") from error
        return plain

    def keep(self, size: int) -> None:
        self.kept_left -= size
        if self.kept_left < 0:
            raise self.fail("it holds more text than any real model's")

    # --- entries

    def entry(self) -> None:
        self.reader.check_time()
        self.ensure(MAX_ENTRY_BYTES)
        name, length = self.string(MAX_NAME_BYTES)
        if length > MAX_NAME_BYTES:
            raise self.fail("a tensor name is too long")
        self.expect(b":")
        if name == "__metadata__":
            self.metadata()
        else:
            self.described_tensor(name)

    def usual_tensors(self) -> None:
        """As many entries of the usual form as are in view; what is left starts with an entry again."""
        self.peek()
        match, buffer, at = _USUAL_ENTRY.match, self.buffer, self.at
        try:
            while (usual := match(buffer, at)) and usual.end(1) - usual.start(1) <= MAX_NAME_BYTES:
                raw_name, dtype, shape, start, end = usual.groups()
                if raw_name == b"__metadata__":
                    break
                at = usual.end()
                dims = tuple(map(int, shape.split(b","))) if shape else ()
                self.tensor(raw_name.decode("utf-8"), dtype.decode("ascii"), dims, int(start), int(end))
        except UnicodeDecodeError as error:
            raise self.fail("a tensor name is not UTF-8") from error
        self.at = at

    def described_tensor(self, name: str) -> None:
        """A tensor entry with another order of fields, more white space, or fields that we do not know."""
        self.peek()
        self.ensure(MAX_ENTRY_BYTES)
        value = _FLAT_OBJECT.match(self.buffer, self.at)
        if value is None or value.end() - value.start() > MAX_DESCRIPTION_BYTES:
            raise self.fail("a tensor has no usable description")
        self.at = value.end()
        try:
            fields = json.loads(value.group(), object_pairs_hook=_without_duplicates)
            dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
        except (ValueError, KeyError, RecursionError) as error:
            raise self.fail("a tensor has no usable description") from error
        if (
            not isinstance(dtype, str)
            or not _naturals(shape)
            or not _naturals(offsets)
            or len(offsets) != 2
            or len(shape) > MAX_DIMS
        ):
            raise self.fail("a tensor has no usable description")
        self.tensor(name, dtype, tuple(shape), *offsets)

    def tensor(self, name: str, dtype: str, shape: tuple[int, ...], start: int, end: int) -> None:
        seen = self.seen
        seen.add(hash(name))
        count = self.result.tensor_count = self.result.tensor_count + 1
        if len(seen) != count + self.metadata_seen:
            raise self.fail("it names the same tensor twice")
        if count > MAX_TENSORS:
            raise self.reader.fail(f"has more tensors than any real model ({MAX_TENSORS})")
        if count % 1024 == 0:
            self.reader.check_time()
        if dtype not in DTYPES:
            raise self.fail("a tensor has an unknown dtype")
        if end >= 2**63 or start > end:
            raise self.fail("a tensor's place is impossible")
        elements = math.prod(shape)
        if elements * DTYPES[dtype] != (end - start) * 8:
            raise self.fail("a tensor's size disagrees with its shape")
        self.result.elements[dtype] += elements
        self.starts.append(start)
        self.ends.append(end)
        if count <= MAX_LISTED and self.names_left > 0:
            self.names_left -= len(name)
            self.result.tensors.append(TensorInfo(name, dtype, shape))

    def metadata(self) -> None:
        if self.metadata_seen:
            raise self.fail("it has two __metadata__ objects")
        self.metadata_seen = 1
        self.seen.add(hash("__metadata__"))
        if self.peek() == b"n":
            self.ensure(4)
            if self.buffer[self.at : self.at + 4] != b"null":
                raise self.fail("__metadata__ is not an object")
            self.at += 4
            return
        self.expect(b"{")
        if self.peek() != b"}":
            self.metadata_pair()
            while self.peek() == b",":
                self.at += 1
                self.metadata_pair()
        self.expect(b"}")

    def metadata_pair(self) -> None:
        key, key_length = self.string(MAX_NAME_BYTES)
        self.expect(b":")
        value, length = self.string(MAX_TEXT_BYTES)
        self.keep(len(key) + len(value) + 64)
        if key_length > MAX_NAME_BYTES or len(self.result.metadata) >= MAX_KEYS:
            raise self.fail("its __metadata__ is larger than any real model's")
        self.result.metadata[key] = value
        if length > MAX_TEXT_BYTES:
            self.result.cut[key] = length

    def check_offsets(self) -> None:
        """The tensors must cover the data part exactly, in any order of entries."""
        places = zip(self.starts, self.ends, strict=True)
        if any(self.starts[i] < self.ends[i - 1] for i in range(1, len(self.starts))):
            places = sorted(places)
        end = 0
        for start, next_end in places:
            if start != end:
                raise self.fail("its tensors overlap or leave holes")
            end = next_end
        have = self.reader.file.size - self.reader.end
        if have < end:
            raise self.reader.fail(f"is cut short: {end - have} bytes of tensor data are missing")
        # The official library refuses such a file too, but nothing of the model is missing.
        self.result.trailing = have - end


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the same field twice")
    return found


def _naturals(value: object) -> bool:
    if not isinstance(value, list):
        return False
    items = cast("list[object]", value)
    return all(type(item) is int and 0 <= item < 2**64 for item in items)
