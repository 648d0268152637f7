"""Small real model files for the tests, made by the official libraries where there is one."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import save_file


def make_gguf(
    path: Path,
    architecture: str = "llama",
    *,
    tensors: Mapping[str, tuple[int, ...]] | None = None,
    big_endian: bool = False,
    **keys: Any,
) -> Path:
    """`keys` are key–values with `__` for the dot; lists become arrays."""
    writer = gguf.GGUFWriter(path, architecture, endianess=gguf.GGUFEndian(int(big_endian)))
    for key, value in keys.items():
        name = key.replace("__", ".")
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        writer.add_array(name, value) if isinstance(value, list) else add[type(value)](name, value)
    for name, shape in (tensors or {}).items():
        writer.add_tensor(name, np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def make_safetensors(
    path: Path, tensors: Mapping[str, tuple[int, ...]], metadata: dict[str, str] | None = None, dtype: Any = np.float16
) -> Path:
    save_file({name: np.zeros(shape, dtype) for name, shape in tensors.items()}, path, metadata=metadata)
    return path


def raw_safetensors(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def tensor(dtype: str, shape: list[int], start: int, end: int, **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end], **more}


def make_zip(path: Path, members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    path.write_bytes(buffer.getvalue())
    return path


def make_torch_zip(path: Path, content: object, compression: int = zipfile.ZIP_STORED) -> Path:
    """What `torch.save` writes: a state dict's pickle, its storages, a version."""
    return make_zip(
        path,
        {"archive/data.pkl": pickle.dumps(content, 2), "archive/data/0": bytes(64), "archive/version": b"3\n"},
        compression,
    )


def field(number: int, value: int | bytes) -> bytes:
    """One protobuf field."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def make_onnx(path: Path, graph: bytes = b"\x0a\x00" * 50) -> Path:
    prop = field(14, field(1, b"author") + field(2, b"someone"))
    path.write_bytes(
        field(1, 8) + field(2, b"pytorch") + field(3, b"2.5") + field(7, graph) + field(8, field(2, 17)) + prop
    )
    return path
