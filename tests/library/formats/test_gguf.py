import random
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGUFValueType as T
from made_models import make_gguf

from pumas.errors import MalformedModelFile
from pumas.library.formats.gguf import MAX_ITEM_BYTES, MAX_ITEMS, TENSOR_TYPES, GgufArray, GgufHeader, read_gguf
from pumas.library.formats.reader import open_regular


def read(path: Path, *, tensors: bool = True) -> GgufHeader:
    with open_regular(path) as file:
        return read_gguf(file, tensors=tensors)


def test_the_block_sizes_are_those_of_the_official_library() -> None:
    official = {int(kind): (kind.name.lower(), *size) for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert {kind: TENSOR_TYPES[kind] for kind in official} == official


SCALARS = {
    T.UINT8: (0, 255),
    T.INT8: (-128, 127),
    T.UINT16: (0, 65535),
    T.INT16: (-(2**15), 2**15 - 1),
    T.UINT32: (0, 2**32 - 1),
    T.INT32: (-(2**31), 2**31 - 1),
    T.UINT64: (0, 2**64 - 1),
    T.INT64: (-(2**63), 2**63 - 1),
}
TYPES = [gguf.GGMLQuantizationType(k) for k in TENSOR_TYPES]


def value_of(kind: T, rng: random.Random) -> Any:
    if kind in SCALARS:
        return rng.choice([*SCALARS[kind], rng.randint(*SCALARS[kind])])
    if kind is T.BOOL:
        return rng.random() < 0.5
    if kind is T.STRING:
        return "".join(rng.choices('abc ü模😀\n"\\', k=rng.choice([0, 1, 5, 300])))
    return float(np.float32(rng.uniform(-1e9, 1e9)))


def generate(path: Path, rng: random.Random) -> None:
    writer = gguf.GGUFWriter(
        path,
        rng.choice(["llama", "flux", "bert", "x"]),
        endianess=rng.choice([gguf.GGUFEndian.LITTLE, gguf.GGUFEndian.BIG]),
    )
    if rng.random() < 0.3:
        writer.add_custom_alignment(rng.choice([8, 32, 64, 4096]))
    kinds = [*SCALARS, T.BOOL, T.STRING, T.FLOAT32, T.FLOAT64]
    for number in range(rng.randint(0, 12)):
        kind = rng.choice([*kinds, T.ARRAY])
        if kind is T.ARRAY:
            item = rng.choice([T.UINT32, T.INT32, T.FLOAT32, T.STRING, T.BOOL, T.INT64])
            length = rng.choice([1, 2, MAX_ITEMS, MAX_ITEMS + 1, 400])
            writer.add_key_value(f"key.{number}", [value_of(item, rng) for _ in range(length)], T.ARRAY, sub_type=item)
        else:
            writer.add_key_value(f"key.{number}", value_of(kind, rng), kind)
    for number in range(rng.randint(0, 5)):
        kind = rng.choice(TYPES)
        size = TENSOR_TYPES[kind][2]
        rows, blocks = rng.randint(1, 3), rng.randint(1, 2)
        writer.add_tensor(f"blk.{number}.w", np.zeros((rows, blocks * size), np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def official_value(field: gguf.ReaderField) -> Any:
    found = field.contents()
    return found.tolist() if isinstance(found, np.ndarray | np.generic) else found


def compare(path: Path) -> None:
    ours, theirs = read(path), gguf.GGUFReader(path)
    fields = {name: field for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert list(ours.metadata) == list(fields)
    for name, field in fields.items():
        value, expected = ours.metadata[name], official_value(field)
        if isinstance(value, GgufArray):
            assert value.length == len(expected)
            for item, real in zip(value.first, expected, strict=False):
                assert item == real or (
                    len(real.encode()) > MAX_ITEM_BYTES and real.startswith(item) and not value.whole
                )
            assert len(value.first) == min(MAX_ITEMS, value.length)
        else:
            assert value == expected, name
    assert [(t.name, t.shape, t.type) for t in ours.tensors] == [
        (t.name, tuple(t.shape.tolist()), int(t.tensor_type)) for t in theirs.tensors
    ]
    assert ours.parameters == sum(int(t.n_elements) for t in theirs.tensors)


def test_agrees_with_the_official_reader_on_generated_files(tmp_path: Path) -> None:
    rng = random.Random(20250301)
    for _ in range(300):
        generate(tmp_path / "m.gguf", rng)
        compare(tmp_path / "m.gguf")


def test_both_byte_orders_and_the_older_versions(tmp_path: Path) -> None:
    for big in (False, True):
        header = read(make_gguf(tmp_path / "m", general__name="Ü", big_endian=big, tensors={"t": (4, 2)}))
        assert (header.version, header.big_endian, header.text("general.name")) == (3, big, "Ü")
    two = bytearray((tmp_path / "m").read_bytes())
    two[4:8] = struct.pack(">I", 2)
    (tmp_path / "m").write_bytes(two)
    assert read(tmp_path / "m").version == 2
    one = b"GGUF" + struct.pack("<III", 1, 0, 1) + struct.pack("<I", 3) + b"a.b" + struct.pack("<II", 8, 2) + b"hi"
    (tmp_path / "m").write_bytes(one)
    assert read(tmp_path / "m").metadata == {"a.b": "hi"}


def test_long_texts_are_cut_and_say_so(tmp_path: Path) -> None:
    header = read(make_gguf(tmp_path / "m", chat="ü" * 50_000, list=["x" * 1000]))
    assert header.cut == {"chat": 100_000}
    assert header.text("chat") == "ü" * 32_768
    assert header.metadata["list"] == GgufArray("string", 1, ("x" * 256,), whole=False)


def test_a_vocabulary_is_passed_over(tmp_path: Path) -> None:
    words = [f"word{n}" for n in range(200_000)]
    header = read(make_gguf(tmp_path / "m", tokens=words, after="yes", tensors={"t": (2,)}))
    assert header.metadata["tokens"] == GgufArray("string", 200_000, tuple(words[:MAX_ITEMS]), whole=False)
    assert header.text("after") == "yes"
    assert header.parameters == 2


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


def head(tensors: int, keys: int, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def info(name: bytes, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return u64(len(name)) + name + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


NESTED = struct.pack("<IQ", 9, 1)
HOSTILE = {
    "version 0": (head(0, 0, 0), "version 0"),
    "version 4": (head(0, 0, 4), "version 4"),
    "no counts": (b"GGUF\3\0\0\0", "cut short"),
    "too many keys for the file": (head(0, 2**60), "more than the file has room"),
    "one key more than fits": (head(0, 9) + bytes(13 * 9 - 1), "more than the file has room"),
    "too many tensors for the file": (head(2**63, 0), "more than the file has room"),
    "too many keys at all": (head(0, 20_000) + bytes(13 * 20_000), "more than any real"),
    "too many tensors at all": (head(70_000, 0) + bytes(24 * 70_000), "more than any real"),
    "long key": (head(0, 1) + u64(2**40) + bytes(50), "a key of"),
    "key that is not text": (head(0, 1) + key(b"\xff\xfe", 0, b"\1"), "not UTF-8"),
    "same key twice": (head(0, 2) + key(b"a", 0, b"\1") * 2 + bytes(20), "same key twice"),
    "unknown value": (head(0, 1) + key(b"a", 13, bytes(20)), "unknown type 13"),
    "string beyond the end": (head(0, 1) + key(b"a", 8, u64(2**62) + bytes(50)), "cut short"),
    "array beyond the end": (
        head(0, 1) + key(b"a", 9, struct.pack("<IQ", 10, 2**61) + bytes(50)),
        "more than the file",
    ),
    "array whose size overflows": (
        head(0, 1) + key(b"a", 9, struct.pack("<IQ", 10, 2**64 - 1) + bytes(50)),
        "more than",
    ),
    "array of unknown": (head(0, 1) + key(b"a", 9, struct.pack("<IQ", 99, 1) + bytes(50)), "unknown type 99"),
    "string in an array": (
        head(0, 1) + key(b"a", 9, struct.pack("<IQ", 8, 70) + u64(0) * 69 + u64(2**64 - 1)),
        "cut short",
    ),
    "deep arrays": (head(0, 1) + key(b"a", 9, NESTED * 50), "too deeply"),
    "many strings": (head(0, 1) + key(b"a", 9, struct.pack("<IQ", 8, 3_000_000) + bytes(24_000_100)), "more elements"),
    "dimensions": (head(1, 0) + u64(1) + b"t" + struct.pack("<I", 2**31) + bytes(50), "dimensions"),
    "tensor name": (head(1, 0) + u64(5000) + bytes(6000), "tensor name of"),
    "same tensor twice": (head(2, 0) + info(b"t", (1,), 0, 0) * 2 + bytes(64), "same tensor twice"),
    "half a block": (head(1, 0) + info(b"t", (33,), 2, 0) + bytes(64), "whole blocks"),
    "data beyond the end": (head(1, 0) + info(b"t", (1000,), 0, 0) + bytes(64), "tensor data are missing"),
    "sizes that overflow": (head(1, 0) + info(b"t", (2**63, 2**63), 0, 0) + bytes(64), "tensor data are missing"),
    "offset beyond the end": (head(1, 0) + info(b"t", (1,), 0, 2**63) + bytes(64), "tensor data are missing"),
    "alignment": (
        head(1, 1) + key(b"general.alignment", 4, b"\3\0\0\0") + info(b"t", (1,), 0, 0) + bytes(64),
        "power of two",
    ),
    "much metadata": (
        head(0, 200) + b"".join(key(b"k%03d" % n, 8, u64(65536) + b"x" * 65536) for n in range(200)),
        "more metadata",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_refused_with_a_reason(tmp_path: Path, name: str) -> None:
    data, reason = HOSTILE[name]
    (tmp_path / "m.gguf").write_bytes(data)
    with pytest.raises(MalformedModelFile, match=reason):
        read(tmp_path / "m.gguf")


def test_a_sparse_file_of_a_terabyte_does_not_make_counts_true(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    with path.open("wb") as file:
        file.write(head(0, 1) + key(b"a", 9, struct.pack("<IQ", 8, 2**36)))
        file.truncate(2**40)
    with pytest.raises(MalformedModelFile, match="more elements"):
        read(path)


def test_every_cut_of_a_good_file_is_refused(tmp_path: Path) -> None:
    whole = make_gguf(tmp_path / "m", a__b=[1, 2, 3], c="text", tensors={"t": (8, 2), "u": (3,)}).read_bytes()
    data_ends = len(whole) - (-(-12 // 32) * 32 - 12)  # the last tensor's padding may be missing
    for length in range(data_ends):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(MalformedModelFile):
            read(tmp_path / "cut")
