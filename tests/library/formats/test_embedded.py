import json
import os
import struct
from pathlib import Path

from made_models import make_gguf, make_onnx, make_safetensors, make_torch_zip, raw_safetensors

from pumas.library.formats.embedded import EmbeddedMetadata, EmbeddedType, embedded_metadata


def sendable(found: EmbeddedMetadata) -> None:
    text = json.dumps(found.metadata, allow_nan=False, ensure_ascii=False)
    assert json.loads(text.encode("utf-8")) == found.metadata


def test_gguf_keys_are_shown_and_long_ones_cut(tmp_path: Path) -> None:
    path = make_gguf(
        tmp_path / "named.safetensors",
        general__name="Name",
        general__repo_url="https://huggingface.co/a/b",
        general__tags=["a", "b"],
        chat="x" * 70_000,
        tokens=[f"t{n}" for n in range(5000)],
        scores=[0.5] * 65,
        few=[1, 2, 3],
        on=True,
        eps=0.5,
    )
    found = embedded_metadata(path)
    sendable(found)
    assert (found.file_type, found.error) == (EmbeddedType.GGUF, "")
    assert found.truncated == {"chat": 70_000, "tokens": 5000, "scores": 65}
    assert found.metadata is not None
    assert len(str(found.metadata.pop("chat"))) == 65_536
    assert found.metadata.pop("tokens") == [f"t{n}" for n in range(64)]
    assert found.metadata.pop("scores") == [0.5] * 64
    assert found.metadata == {
        "general.architecture": "llama",
        "general.name": "Name",
        "general.repo_url": "https://huggingface.co/a/b",
        "general.tags": ["a", "b"],
        "few": [1, 2, 3],
        "on": True,
        "eps": 0.5,
    }


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


def test_values_that_json_cannot_hold_are_made_to_fit(tmp_path: Path) -> None:
    keys = [
        key(b"nan", 6, struct.pack("<f", float("nan"))),
        key(b"inf", 12, struct.pack("<d", float("-inf"))),
        key(b"big", 10, struct.pack("<Q", 2**64 - 1)),
        key(b"floats", 9, struct.pack("<IQff", 6, 2, float("inf"), 1.5)),
        key(b"bytes", 8, struct.pack("<Q", 4) + b"a\xff\xedb"),
        key(b"surrogate", 8, struct.pack("<Q", 3) + b"\xed\xa0\x80"),
    ]
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(keys))
    found = embedded_metadata(path)
    sendable(found)
    assert found.metadata == {
        "nan": None,
        "inf": None,
        "big": str(2**64 - 1),
        "floats": [None, 1.5],
        "bytes": "a\ufffd\ufffdb",
        "surrogate": "\ufffd\ufffd\ufffd",
    }


def test_safetensors_metadata(tmp_path: Path) -> None:
    path = make_safetensors(tmp_path / "m.bin", {"a": (1,)}, {"format": "pt", "modelspec.title": "Tü"})
    assert embedded_metadata(path) == EmbeddedMetadata(
        EmbeddedType.SAFETENSORS, {"format": "pt", "modelspec.title": "Tü"}
    )
    assert embedded_metadata(make_safetensors(path, {"a": (1,)})).metadata == {}
    long = embedded_metadata(raw_safetensors(path, {"__metadata__": {"tags": "y" * 100_000}}))
    assert long.truncated == {"tags": 100_000}
    sendable(long)


def failed(path: Path | str, expected: EmbeddedType) -> None:
    found = embedded_metadata(path)
    assert (found.file_type, found.metadata) == (expected, None)
    assert found.error
    assert str(Path(path).parent) + "/" not in found.error


def test_what_has_no_metadata_says_why(tmp_path: Path) -> None:
    failed(make_torch_zip(tmp_path / "m.gguf", {}), EmbeddedType.UNSUPPORTED)
    failed(make_onnx(tmp_path / "m.onnx"), EmbeddedType.UNSUPPORTED)
    failed(tmp_path / "missing.gguf", EmbeddedType.UNKNOWN)
    failed(tmp_path, EmbeddedType.UNKNOWN)
    os.mkfifo(tmp_path / "pipe.gguf")
    failed(tmp_path / "pipe.gguf", EmbeddedType.UNKNOWN)
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\3\0\0\0")
    failed(tmp_path / "cut.gguf", EmbeddedType.GGUF)
