"""Every parser at once against files that nobody made in good faith: no crash, no hang, bounded memory."""

import json
import os
import pickle
import random
import struct
import tracemalloc
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_models import make_gguf, make_onnx, make_safetensors, make_torch_zip, raw_safetensors

from pumas.errors import FileUnavailable, MalformedModelFile
from pumas.library.formats import pickle_files, reader
from pumas.library.formats.detect import FileFormat, detect_format
from pumas.library.formats.embedded import embedded_metadata
from pumas.library.formats.identify import Identity, identify
from pumas.library.formats.pickle_files import scan_pickle

HEADERS = 10_000
MEMORY = 64 * 1024 * 1024


def look(path: Path) -> FileFormat | None:
    """Everything that is ever done to an unknown file; only the expected failures may come out of it."""
    found = detect_format(path)
    shown = embedded_metadata(path)
    json.dumps(shown.metadata, allow_nan=False, ensure_ascii=False).encode("utf-8")
    assert (shown.metadata is None) == bool(shown.error)
    try:
        identity: Identity | None = identify(path)
    except MalformedModelFile as error:
        identity = None
        assert str(path.parent) not in str(error)
        str(error).encode("utf-8")
    assert (identity is not None and identity.format is found.format) or found.error
    if found.format is FileFormat.PICKLE:
        scan_pickle(path)
    return found.format if found.valid else None


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("good")
    keys = {"general__name": "x", "a": [1, 2, 3], "b": ["x", "yy"], "c": 0.5, "d": True}
    tensors = {"blk.0.attn_q.weight": (4, 4), "output.weight": (8,)}
    paths = [
        make_gguf(folder / "1", "llama", tensors=tensors, **keys),
        make_gguf(folder / "2", "flux", tensors=tensors, big_endian=True, **keys),
        make_safetensors(folder / "3", {"model.layers.0.self_attn.q_proj.weight": (4, 4), "b": (2,)}, {"format": "pt"}),
        raw_safetensors(folder / "4", {"__metadata__": {"ü": '\\ " 😀'}}),
        make_torch_zip(folder / "5", {"a.weight": 1, "b": [1.5]}),
        make_torch_zip(folder / "6", {"a.weight": 1}, 8),
        make_onnx(folder / "7"),
    ]
    old = pickle.dumps({"a.weight": [1, 2]}, 0), pickle.dumps({"a.weight": [1, 2]}, 4)
    return [*(path.read_bytes() for path in paths), *old, b"tjgg" + bytes(60)]


INTERESTING = [0, 1, 0x7F, 0x80, 0xFF]
HUGE = [2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]


def mutate(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(max(1, len(changed) - 8))
        match rng.randrange(6):
            case 0:
                changed[at] = rng.choice(INTERESTING)
            case 1:
                changed[at] ^= 1 << rng.randrange(8)
            case 2:
                changed[at : at + 8] = struct.pack("<Q", rng.choice(HUGE))
            case 3:
                changed[at : at + 4] = struct.pack("<I", rng.randrange(2**32))
            case 4:
                del changed[at : at + rng.randrange(16)]
            case _:
                changed[at:at] = changed[at : at + rng.randrange(40)]
        if len(changed) < 9:
            break
    return bytes(changed[: rng.randrange(len(changed) + 1)] if rng.random() < 0.2 else changed)


MAGICS = [
    b"GGUF\3\0\0\0",
    b"GGUF\2\0\0\0",
    b"GGUF\0\0\0\3",
    b"\x40\0\0\0\0\0\0\0{",
    b"\x80\4",
    b"PK\3\4",
    b"\x08\x08",
    b"lmgg",
    b"(",
    b"",
]


def test_random_and_changed_headers(tmp_path: Path, good: list[bytes]) -> None:
    rng = random.Random(20250304)
    path = tmp_path / "m.bin"
    seen: Counter[FileFormat | None] = Counter()
    for number in range(HEADERS):
        if number % 4 == 0:
            data = rng.choice(MAGICS) + rng.randbytes(rng.choice([0, 7, 40, 300]))
        else:
            data = mutate(rng.choice(good), rng)
        path.write_bytes(data)
        seen[look(path)] += 1
    # Some of the changes hurt nothing, most do; all kinds came by.
    assert set(seen) >= {None, *FileFormat} - {FileFormat.UNKNOWN}
    assert 0.1 * HEADERS < seen[None] < 0.9 * HEADERS


@settings(max_examples=200, deadline=None)
@given(magic=st.sampled_from(MAGICS), rest=st.binary(max_size=400))
def test_any_bytes_after_any_magic(tmp_path_factory: pytest.TempPathFactory, magic: bytes, rest: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.bin"
    path.write_bytes(magic + rest)
    look(path)


def gguf_head(tensors: int, keys: int) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys)


def gguf_key(name: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


def gguf_info(name: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<IQIQ", 1, 1, 0, 0)


def entries(count: int, name: str) -> bytes:
    listed = (f'"{name}{n}":{{"dtype":"U8","shape":[1],"data_offsets":[{n},{n + 1}]}}' for n in range(count))
    return b"{" + ",".join(listed).encode() + b"}"


def safetensors_file(header: bytes, data: int = 0) -> bytes:
    return struct.pack("<Q", len(header)) + header + bytes(data)


# What asks for the most time and memory that a header may take, one kind of demand each.
DEMANDING: dict[str, Callable[[], bytes]] = {
    "gguf: most keys": lambda: (
        gguf_head(0, 10_000) + b"".join(gguf_key(b"%05d" % n, 5, bytes(4)) for n in range(10_000))
    ),
    "gguf: most tensors": lambda: (
        gguf_head(32_768, 0) + b"".join(gguf_info(b"%0200d" % n) for n in range(32_768)) + bytes(64)
    ),
    "gguf: most strings": lambda: (
        gguf_head(0, 1) + gguf_key(b"a", 9, struct.pack("<IQ", 8, 1_400_000) + bytes(8 * 1_400_000))
    ),
    "gguf: strings that jump": lambda: (
        gguf_head(0, 1)
        + gguf_key(b"a", 9, struct.pack("<IQ", 8, 90) + (struct.pack("<Q", 300_000) + bytes(300_000)) * 90)
    ),
    "gguf: arrays of arrays": lambda: (
        gguf_head(0, 1) + gguf_key(b"a", 9, struct.pack("<IQ", 9, 500_000) + struct.pack("<IQ", 0, 0) * 500_000)
    ),
    "gguf: arrays to show": lambda: (
        gguf_head(0, 400)
        + b"".join(
            gguf_key(b"%04d" % n, 9, struct.pack("<IQ", 8, 64) + (struct.pack("<Q", 250) + b"\xff" * 250) * 64)
            for n in range(400)
        )
    ),
    "safetensors: most tensors": lambda: safetensors_file(entries(50_000, "model.layers.x.weight."), 50_000),
    "safetensors: long names": lambda: safetensors_file(entries(4_000, "n" * 4_000), 4_000),
    "safetensors: one text": lambda: safetensors_file(b'{"__metadata__":{"a":"' + b"\\u00e9" * 2_700_000 + b'"}}'),
    "safetensors: emoji": lambda: safetensors_file(b'{"__metadata__":{"a":"' + "😀".encode() * 4_000_000 + b'"}}'),
    "safetensors: spaces": lambda: safetensors_file(b"{" + b" " * 16_000_000 + b"}"),
    "safetensors: nested": lambda: safetensors_file(b'{"a":' + b"[" * 16_000_000),
    "safetensors: quotes": lambda: safetensors_file(b'{"a":{' + b'"' * 16_000_000),
    "safetensors: shapes": lambda: safetensors_file(
        b"{"
        + b",".join(
            b'"%d":{"dtype":"U8","shape":[%b],"data_offsets":[0,0]}' % (n, b",".join([b"0"] * 8_000))
            for n in range(900)
        )
        + b"}"
    ),
    "safetensors: layers to match": lambda: safetensors_file(
        entries(20_000, "a.self_attn.b.lora_c.transformer_blocks."), 20_000
    ),
    "pickle: memo": lambda: b"\x80\x04" + b"K\x01\x94" * 2_000_000 + b".",
    "pickle: imports": lambda: b"\x80\x04" + b"cm\nn\n" * 500_000 + b".",
    "pickle: back to the start": lambda: b"\x80\x04" + b"\x94" * 300_000 + b"\x93" * 300_000 + b".",
    "pickle: a line without end": lambda: b"c" + b"x" * 5_000_000,
    "pickle: digits": lambda: b"(I" + b"9" * 5_000_000 + b"\n.",
    "onnx: fields": lambda: b"\x08\x08" + b"\x42\x00" * 500_000 + b"\x3a\x00",
    "onnx: a text": lambda: b"\x08\x08\x32\x80\x80\x80\x04" + b"x" * 0x800000 + b"\x3a\x00",
    "zip: members": lambda: (
        b"PK\3\4"
        + bytes(26)
        + b"PK\1\2"
        + bytes(42)
        + (b"PK\1\2" + bytes(42)) * 60_000
        + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 60_000, 60_000, 46 * 60_000, 30, 0)
    ),
}


@pytest.mark.parametrize("name", DEMANDING)
def test_demanding_headers_stay_within_memory(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_files, "_SCAN_SECONDS", 0.2)
    path = tmp_path / "m.bin"
    path.write_bytes(DEMANDING[name]())
    tracemalloc.start()
    try:
        with suppress(MalformedModelFile):
            identify(path)
        if name.startswith("pickle"):
            scan_pickle(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= MEMORY


@pytest.mark.parametrize(
    "name", [name for name in DEMANDING if name.startswith(("gguf", "safetensors", "onnx", "zip"))]
)
def test_every_parser_stops_when_its_time_is_spent(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.bin"
    path.write_bytes(DEMANDING[name]())
    now = [0.0]

    def leap() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(reader.time, "thread_time", leap)
    found = detect_format(path)
    assert not found.valid


def test_a_file_that_shrinks_or_vanishes_while_it_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_gguf(tmp_path / "m.gguf", "llama", words=[f"w{n}" for n in range(60_000)], tensors={"t": (64,)})
    whole, real = path.read_bytes(), reader.OpenedFile.pread
    for keep in (0, 4, 5_000, 300_000):
        calls = 0

        def shrinking(file: reader.OpenedFile, count: int, offset: int, keep: int = keep) -> bytes:
            nonlocal calls
            calls += 1
            if calls == 4:
                os.truncate(path, keep)
            return real(file, count, offset)

        path.write_bytes(whole)
        monkeypatch.setattr(reader.OpenedFile, "pread", shrinking)
        assert not detect_format(path).valid
        assert calls >= 4
        monkeypatch.undo()
    path.unlink()
    with pytest.raises(FileUnavailable):
        detect_format(path)


def test_an_error_of_the_disk_is_an_error_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_gguf(tmp_path / "m.gguf", "llama")

    def broken(_fd: int, _count: int, _offset: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(reader, "_pread", broken)
    for call in (detect_format, identify, scan_pickle):
        with pytest.raises(FileUnavailable, match=r"m\.gguf: cannot be read at byte 0 \(Input/output error\)"):
            call(path)
    assert embedded_metadata(path).error


def test_nothing_is_imported_that_is_heavy_or_dangerous() -> None:
    assert not {"numpy", "gguf", "safetensors", "torch", "picklescan"} & set(vars(pickle_files))
