"""The header of a GGUF file: key–values and tensor descriptions, never tensor data.

Follows https://github.com/ggml-org/ggml/blob/master/docs/gguf.md for versions 1 to 3 in both byte orders. Arrays
are passed over and only their first elements kept: a vocabulary would otherwise cost more memory than all the rest.
Neighbours: `identify` draws conclusions from what is read here, `embedded` shows it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Final, NamedTuple

from .reader import BoundedReader, OpenedFile

MAGIC: Final = b"GGUF"

MAX_HEADER_BYTES: Final = 128 * 1024 * 1024  # the largest known vocabularies make headers of about 20 MB
MAX_KEYS: Final = 10_000
MAX_KEY_BYTES: Final = 65_535  # the specification's
MAX_TENSORS: Final = 32_768
MAX_STEPS: Final = 1_500_000  # keys, tensors, and strings in arrays; the largest vocabularies need half of it
MAX_NAME_BYTES: Final = 256  # readers of today refuse more than 64 or 128
MAX_DIMS: Final = 8
MAX_ARRAY_DEPTH: Final = 4
_STEPS_PER_ARRAY: Final = 8  # an array inside an array costs about as much as so many strings
MAX_TEXT_BYTES: Final = 64 * 1024  # of one string value; the rest is cut and said so
MAX_KEPT_BYTES: Final = 8 * 1024 * 1024  # of all key–values together
MAX_ITEMS: Final = 64  # of an array
MAX_ITEM_BYTES: Final = 256  # of one string in an array


class _Scalar(NamedTuple):
    name: str
    code: str  # of the struct module


_SCALARS: Final = {
    0: _Scalar("uint8", "B"),
    1: _Scalar("int8", "b"),
    2: _Scalar("uint16", "H"),
    3: _Scalar("int16", "h"),
    4: _Scalar("uint32", "I"),
    5: _Scalar("int32", "i"),
    6: _Scalar("float32", "f"),
    7: _Scalar("bool", "?"),
    10: _Scalar("uint64", "Q"),
    11: _Scalar("int64", "q"),
    12: _Scalar("float64", "d"),
}
_STRING: Final = 8
_ARRAY: Final = 9

# ggml type -> (name, elements of a block, bytes of a block); 4, 5 and 31–33, 36–38 were withdrawn.
# https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py
TENSOR_TYPES: Final[dict[int, tuple[str, int, int]]] = {
    0: ("f32", 1, 4),
    1: ("f16", 1, 2),
    2: ("q4_0", 32, 18),
    3: ("q4_1", 32, 20),
    6: ("q5_0", 32, 22),
    7: ("q5_1", 32, 24),
    8: ("q8_0", 32, 34),
    9: ("q8_1", 32, 40),
    10: ("q2_k", 256, 84),
    11: ("q3_k", 256, 110),
    12: ("q4_k", 256, 144),
    13: ("q5_k", 256, 176),
    14: ("q6_k", 256, 210),
    15: ("q8_k", 256, 292),
    16: ("iq2_xxs", 256, 66),
    17: ("iq2_xs", 256, 74),
    18: ("iq3_xxs", 256, 98),
    19: ("iq1_s", 256, 50),
    20: ("iq4_nl", 32, 18),
    21: ("iq3_s", 256, 110),
    22: ("iq2_s", 256, 82),
    23: ("iq4_xs", 256, 136),
    24: ("i8", 1, 1),
    25: ("i16", 1, 2),
    26: ("i32", 1, 4),
    27: ("i64", 1, 8),
    28: ("f64", 1, 8),
    29: ("iq1_m", 256, 56),
    30: ("bf16", 1, 2),
    34: ("tq1_0", 256, 54),
    35: ("tq2_0", 256, 66),
    39: ("mxfp4", 32, 17),
    40: ("nvfp4", 64, 36),
    41: ("q1_0", 128, 18),
}


@dataclass(frozen=True, slots=True)
class GgufArray:
    """An array value: what its elements are, how many there are, and the first of them (none of nested arrays).

    `whole` says that `first` holds all of them, uncut.
    """

    item_type: str
    length: int
    first: tuple[GgufScalar, ...]
    whole: bool


GgufScalar = int | float | bool | str
GgufValue = GgufScalar | GgufArray


class GgufTensor(NamedTuple):
    """`shape` as stored, fastest dimension first."""

    name: str
    shape: tuple[int, ...]
    type: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    version: int
    big_endian: bool
    metadata: dict[str, GgufValue]
    cut: dict[str, int] = field(default_factory=dict[str, int])  # key -> real length in bytes of a string that was cut
    tensors: tuple[GgufTensor, ...] = ()

    def text(self, key: str) -> str:
        value = self.metadata.get(key)
        return value if isinstance(value, str) else ""

    def integer(self, key: str) -> int | None:
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @property
    def parameters(self) -> int:
        """Elements of all tensors in this file (a split model has more files)."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)


def read_gguf(file: OpenedFile, *, tensors: bool = True) -> GgufHeader:
    """Parse the header of `file`; with `tensors`, also check that the tensors' data lies within the file.

    Raises `MalformedModelFile` when it is not GGUF, damaged, cut short, or beyond the budgets above.
    """
    return _Parser(BoundedReader(file, max_bytes=MAX_HEADER_BYTES, max_steps=MAX_STEPS)).header(tensors)


class _Parser:
    def __init__(self, reader: BoundedReader) -> None:
        self.reader = reader
        if reader.remaining < 8 or reader.take(4) != MAGIC:
            raise reader.fail("is not a GGUF file")
        version = int.from_bytes(reader.take(4), "little")
        # The specification has no byte-order mark: a version whose low half is empty was written the other way round.
        self.big_endian = version & 0xFFFF == 0
        if self.big_endian:
            version = int.from_bytes(version.to_bytes(4, "little"), "big")
        if version not in (1, 2, 3):
            raise reader.fail(f"has GGUF version {version}; versions 1 to 3 are known")
        self.version = version
        order = ">" if self.big_endian else "<"
        self.u32 = Struct(order + "I")
        self.size = Struct(order + ("I" if version == 1 else "Q"))
        self.scalars = {code: Struct(order + scalar.code) for code, scalar in _SCALARS.items()}
        self.smallest = {code: s.size for code, s in self.scalars.items()}
        self.smallest |= {_STRING: self.size.size, _ARRAY: 4 + self.size.size}
        self.kept_left = MAX_KEPT_BYTES
        self.metadata: dict[str, GgufValue] = {}
        self.cut: dict[str, int] = {}

    def header(self, with_tensors: bool) -> GgufHeader:
        reader = self.reader
        tensor_count, key_count = self.number(self.size), self.number(self.size)
        smallest_tensor = 2 * self.size.size + 8
        reader.check_count("tensors", tensor_count, smallest_tensor, MAX_TENSORS)
        reader.check_count("keys", key_count, self.size.size + 5, MAX_KEYS)
        for _ in range(key_count):
            self.key_value()
        found: tuple[GgufTensor, ...] = ()
        if with_tensors:
            reader.check_count("tensors", tensor_count, smallest_tensor)
            found = self.tensor_infos(tensor_count)
        return GgufHeader(self.version, self.big_endian, self.metadata, self.cut, found)

    def number(self, kind: Struct) -> Any:
        return kind.unpack(self.reader.take(kind.size))[0]

    def keep(self, size: int) -> None:
        self.kept_left -= size + 64
        if self.kept_left < 0:
            raise self.reader.fail("holds more metadata than any real model")

    def raw_string(self, what: str, limit: int) -> bytes:
        length = self.number(self.size)
        if length > limit:
            raise self.reader.fail(f"has {what} of {length} bytes; {limit} are allowed")
        return self.reader.take(length)

    def name(self, what: str, limit: int) -> str:
        try:
            return self.raw_string(what, limit).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.reader.fail(f"has {what} that is not UTF-8") from error

    def key_value(self) -> None:
        self.reader.spend(1)
        key = self.name("a key", MAX_KEY_BYTES)
        self.keep(len(key))
        if key in self.metadata:
            raise self.reader.fail("has the same key twice")
        kind = self.number(self.u32)
        if kind == _STRING:
            value, length = self.cut_string(MAX_TEXT_BYTES)
            if length > MAX_TEXT_BYTES:
                self.cut[key] = length
            self.metadata[key] = value
        elif kind == _ARRAY:
            self.metadata[key] = self.array(1)
        else:
            self.metadata[key] = self.scalar(kind)

    def scalar(self, kind: int) -> GgufScalar:
        if kind not in self.scalars:
            raise self.reader.fail(f"has a value of unknown type {kind}")
        self.keep(0)
        return self.number(self.scalars[kind])

    def cut_string(self, limit: int) -> tuple[str, int]:
        """The string's first `limit` bytes and its real length."""
        length = self.number(self.size)
        if length > self.reader.remaining:
            raise self.reader.fail("is cut short: a string reaches beyond the end of the file")
        kept = min(length, limit)
        self.keep(kept)
        raw = self.reader.take(kept)
        self.reader.skip(length - kept)
        return raw.decode("utf-8", "ignore" if kept < length else "replace"), length

    def array(self, depth: int) -> GgufArray:
        if depth > MAX_ARRAY_DEPTH:
            raise self.reader.fail("nests arrays too deeply")
        kind, length = self.number(self.u32), self.number(self.size)
        if kind not in self.smallest:
            raise self.reader.fail(f"has an array of unknown type {kind}")
        self.reader.check_count("array elements", length, self.smallest[kind])
        if kind == _ARRAY:
            self.reader.spend(_STEPS_PER_ARRAY * length)
            for _ in range(length):
                self.array(depth + 1)
            return GgufArray("array", length, (), whole=not length)
        shown = min(length, MAX_ITEMS if depth == 1 else 0)
        if kind == _STRING:
            texts = [self.cut_string(MAX_ITEM_BYTES) for _ in range(shown)]
            self.reader.skip_strings(length - shown, self.size)
            whole = shown == length and all(size <= MAX_ITEM_BYTES for _, size in texts)
            return GgufArray("string", length, tuple(text for text, _ in texts), whole)
        first = tuple(self.scalar(kind) for _ in range(shown))
        self.reader.skip((length - shown) * self.smallest[kind])
        return GgufArray(_SCALARS[kind].name, length, first, shown == length)

    def tensor_infos(self, count: int) -> tuple[GgufTensor, ...]:
        found: list[GgufTensor] = []
        names: set[str] = set()
        data_end = 0
        for _ in range(count):
            self.reader.spend(1)
            name = self.name("a tensor name", MAX_NAME_BYTES)
            if name in names:
                raise self.reader.fail("has the same tensor twice")
            names.add(name)
            dims = self.number(self.u32)
            if dims > MAX_DIMS:
                raise self.reader.fail(f"has a tensor of {dims} dimensions")
            shape: tuple[int, ...] = tuple(self.number(self.size) for _ in range(dims))
            kind, offset = self.number(self.u32), self.number(self.scalars[10])
            found.append(GgufTensor(name, shape, kind))
            data_end = max(data_end, offset + self.data_bytes(shape, kind))
        if found:
            self.check_data(data_end)
        return tuple(found)

    def data_bytes(self, shape: tuple[int, ...], kind: int) -> int:
        """Bytes of a tensor's data; 0 for types that only other programs know."""
        if kind not in TENSOR_TYPES:
            return 0
        _, block, block_bytes = TENSOR_TYPES[kind]
        if shape and shape[0] % block:
            raise self.reader.fail("has a tensor whose rows are not whole blocks")
        return math.prod(shape) * block_bytes // block

    def check_data(self, data_end: int) -> None:
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
            raise self.reader.fail("has an alignment that is not a power of two")
        start = -(-self.reader.pos // alignment) * alignment
        missing = start + data_end - self.reader.file.size
        if missing > 0:
            raise self.reader.fail(f"is cut short: {missing} bytes of tensor data are missing")
