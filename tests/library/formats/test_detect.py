import os
import pickle
from pathlib import Path

import pytest
from made_models import field, make_gguf, make_onnx, make_safetensors, make_torch_zip, make_zip, raw_safetensors, tensor

from pumas.errors import FileUnavailable
from pumas.library.formats.detect import Detected, FileFormat, SecurityTier, detect_format, security_tier
from pumas.library.formats.onnx import read_onnx
from pumas.library.formats.reader import open_regular


def test_containers_are_told_by_content_whatever_the_name(tmp_path: Path) -> None:
    whisper = b"lmgg" + (51865).to_bytes(4, "little") + (1500).to_bytes(4, "little")
    made = {
        FileFormat.GGUF: [make_gguf(tmp_path / "a"), make_gguf(tmp_path / "b", big_endian=True)],
        FileFormat.SAFETENSORS: [make_safetensors(tmp_path / "c", {"w": (2, 2)}), raw_safetensors(tmp_path / "d", {})],
        FileFormat.PICKLE: [make_torch_zip(tmp_path / "e", {"a": 1})],
        FileFormat.ONNX: [make_onnx(tmp_path / "f")],
        FileFormat.UNKNOWN: [make_zip(tmp_path / "g", {"a.txt": b"hello"})],
        FileFormat.GGML: [],
    }
    for number, magic in enumerate([b"lmgg", b"fmgg", b"tjgg", b"algg", b"ggml", b"ggmf", b"ggjt", b"ggla", b"nsgg"]):
        made[FileFormat.GGML].append(tmp_path / f"ggml{number}")
        made[FileFormat.GGML][-1].write_bytes(magic + whisper)
    for expected, paths in made.items():
        for path in paths:
            for ending in (".safetensors", ".gguf", ".ckpt", ".pt", ".bin", ".onnx", ".txt", ""):
                named = path.rename(tmp_path / f"model{ending}")
                found = detect_format(named)
                assert found.format is expected, (path.name, ending)
                assert found.valid == (expected is not FileFormat.UNKNOWN)
                named.rename(path)


DAMAGED = {
    "gguf": (b"GGUF\3\0\0\0", FileFormat.GGUF, "cut short"),
    "gguf of the future": (b"GGUF\x63\0\0\0" + bytes(16), FileFormat.GGUF, "version 99"),
    "safetensors without data": (b"\x02\0\0\0\0\0\0\0{", FileFormat.SAFETENSORS, "cut short"),
    "safetensors of nonsense": (b"\x03\0\0\0\0\0\0\0{,}", FileFormat.SAFETENSORS, "damaged"),
    "onnx cut": (field(1, 8) + field(2, b"pytorch") + b"\x3a\xff\xff\x03" + bytes(99), FileFormat.ONNX, "cut short"),
    "nothing": (b"", FileFormat.UNKNOWN, "is empty"),
    "a web page": (b"\n <!DOCTYPE html><html>", FileFormat.UNKNOWN, "is a web page, not a model; download"),
    "an older web page": (b"<HTML>", FileFormat.UNKNOWN, "is a web page"),
    "a Git LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
        FileFormat.UNKNOWN,
        "'git lfs pull'",
    ),
    "zeros": (bytes(4096), FileFormat.UNKNOWN, "not a model file"),
    "only a magic": (b"lmgg", FileFormat.UNKNOWN, "not a model file"),
    "a zip without directory": (b"PK\3\4" + bytes(100), FileFormat.UNKNOWN, "ZIP"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_keep_their_format_and_say_what_is_wrong(tmp_path: Path, name: str) -> None:
    data, expected, reason = DAMAGED[name]
    path = tmp_path / "model.bin"
    path.write_bytes(data)
    found = detect_format(path)
    assert found.format is expected
    assert not found.valid
    assert reason in found.error
    assert found.error.startswith("model.bin: ")
    assert str(tmp_path) not in found.error


def test_a_truncated_download_is_not_valid(tmp_path: Path) -> None:
    for path in (
        make_gguf(tmp_path / "a.gguf", tensors={"t": (64, 64)}),
        make_safetensors(tmp_path / "a.safetensors", {"t": (64, 64)}),
        make_torch_zip(tmp_path / "a.pt", {"t": 1}),
        make_onnx(tmp_path / "a.onnx", bytes(500)),
    ):
        assert detect_format(path).valid
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) * 2 // 3])
        assert not detect_format(path).valid


def test_what_cannot_be_read_is_an_exception(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    for path in (tmp_path / "pipe.gguf", tmp_path, tmp_path / "missing", "/dev/null"):
        with pytest.raises(FileUnavailable):
            detect_format(path)


def test_only_formats_without_code_are_safe() -> None:
    tiers = {file_format: security_tier(file_format) for file_format in FileFormat}
    assert tiers == {
        FileFormat.SAFETENSORS: SecurityTier.SAFE,
        FileFormat.GGUF: SecurityTier.SAFE,
        FileFormat.GGML: SecurityTier.SAFE,
        FileFormat.ONNX: SecurityTier.SAFE,
        FileFormat.PICKLE: SecurityTier.PICKLE,
        FileFormat.UNKNOWN: SecurityTier.UNKNOWN,
    }
    assert Detected(FileFormat.GGUF).valid


NOT_ONNX = {
    "no graph": field(1, 8) + field(2, b"pytorch"),
    "version 0": field(1, 0) + field(7, b"xx"),
    "version 1000": field(1, 1000) + field(7, b"xx"),
    "a field of another message": field(1, 8) + field(9, b"x") + field(7, b"xx"),
    "wrong wire type": field(1, 8) + field(2, 5) + field(7, b"xx"),
    "endless number": b"\x08" + b"\xff" * 20,
    "another order": field(7, b"xx") + field(1, 8),
}


@pytest.mark.parametrize("name", NOT_ONNX)
def test_other_protobuf_messages_are_not_onnx(tmp_path: Path, name: str) -> None:
    (tmp_path / "m.bin").write_bytes(NOT_ONNX[name])
    assert detect_format(tmp_path / "m.bin").format is FileFormat.UNKNOWN


def test_onnx_says_who_made_it(tmp_path: Path) -> None:
    with open_regular(make_onnx(tmp_path / "m")) as file:
        header = read_onnx(file)
    assert header is not None
    assert header.ir_version == 8
    assert header.texts == {"producer_name": "pytorch", "producer_version": "2.5"}
    assert header.props == {"author": "someone"}


def test_a_pickle_is_never_taken_for_something_safe(tmp_path: Path) -> None:
    for protocol in range(6):
        for content in ([tensor("F32", [1], 0, 4)], {"a": b"GGUF"}, "{}", ["{" * 20]):
            (tmp_path / "m").write_bytes(pickle.dumps(content, protocol))
            assert detect_format(tmp_path / "m").format is FileFormat.PICKLE
