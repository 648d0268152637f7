"""ONNX models, known by the shape of their protobuf message.

Only the fields of the outermost message are walked (`ModelProto` of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto);
the graph is passed over. Protobuf has no magic number, so a file counts as ONNX when it begins with a plausible
`ir_version` and every field up to the end of the file is one that a model has, with its proper wire type.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from .reader import BoundedReader, OpenedFile

_VARINT: Final = 0
_LENGTH: Final = 2

# field number -> (name, wire type)
_FIELDS: Final = {
    1: ("ir_version", _VARINT),
    2: ("producer_name", _LENGTH),
    3: ("producer_version", _LENGTH),
    4: ("domain", _LENGTH),
    5: ("model_version", _VARINT),
    6: ("doc_string", _LENGTH),
    7: ("graph", _LENGTH),
    8: ("opset_import", _LENGTH),
    14: ("metadata_props", _LENGTH),
    20: ("training_info", _LENGTH),
    25: ("functions", _LENGTH),
    26: ("configuration", _LENGTH),
}
_TEXTS: Final = {"producer_name", "producer_version", "domain", "doc_string"}
_MAX_IR_VERSION: Final = 100  # 13 in 2025
_MAX_TEXT_BYTES: Final = 4 * 1024
_MAX_READ_BYTES: Final = 32 * 1024 * 1024
_MAX_FIELDS: Final = 20_000
_MAX_PROPS: Final = 256


@dataclass(slots=True)
class OnnxHeader:
    ir_version: int
    texts: dict[str, str] = field(default_factory=dict[str, str])
    props: dict[str, str] = field(default_factory=dict[str, str])


class _NotOnnx(Exception):
    pass


def read_onnx(file: OpenedFile) -> OnnxHeader | None:
    """The outer fields, or None when this is not ONNX; `MalformedModelFile` when it is, but ends too early."""
    reader = BoundedReader(file, max_bytes=_MAX_READ_BYTES, max_steps=_MAX_FIELDS)
    try:
        return _walk(reader)
    except _NotOnnx:
        return None


def _walk(reader: BoundedReader) -> OnnxHeader:
    if reader.remaining < 4 or reader.take(1) != b"\x08":
        raise _NotOnnx
    header = OnnxHeader(_varint(reader))
    if not 1 <= header.ir_version <= _MAX_IR_VERSION:
        raise _NotOnnx
    seen: set[str] = set()
    while reader.remaining:
        reader.spend(1)
        name = _field(reader, header, recognised=bool(seen & {"producer_name", "opset_import"}))
        seen.add(name)
    if "graph" not in seen:
        raise _NotOnnx
    return header


def _field(reader: BoundedReader, header: OnnxHeader, *, recognised: bool) -> str:
    number, wire = divmod(_varint(reader), 8)
    name, expected = _FIELDS.get(number, ("", -1))
    if wire != expected:
        raise _NotOnnx
    if wire == _VARINT:
        _varint(reader)
        return name
    length = _varint(reader)
    if length > reader.remaining:
        if recognised:
            raise reader.fail(f"is cut short: {length - reader.remaining} bytes of its {name} are missing")
        raise _NotOnnx
    if name in _TEXTS:
        header.texts[name] = _text(reader, length)
    elif name == "metadata_props" and length <= 2 * _MAX_TEXT_BYTES and len(header.props) < _MAX_PROPS:
        _prop(reader.take(length), header)
    else:
        reader.skip(length)
    return name


def _varint(reader: BoundedReader) -> int:
    value = 0
    for shift in range(0, 64, 7):
        if not reader.remaining:
            raise _NotOnnx
        byte = reader.take(1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise _NotOnnx


def _text(reader: BoundedReader, length: int) -> str:
    raw = reader.take(min(length, _MAX_TEXT_BYTES))
    reader.skip(length - len(raw))
    return raw.decode("utf-8", "replace")


def _prop(raw: bytes, header: OnnxHeader) -> None:
    """A `StringStringEntryProto`: field 1 the key, field 2 the value. One that is odd is passed over."""
    texts: dict[int, str] = {}
    at = 0
    while at + 1 < len(raw):
        tag, length, at = raw[at], raw[at + 1], at + 2
        if length >= 0x80:
            if at >= len(raw) or raw[at] >= 0x80:
                return
            length, at = (length & 0x7F) | raw[at] << 7, at + 1
        texts[tag] = raw[at : at + length].decode("utf-8", "replace")
        at += length
    if 0x0A in texts:
        header.props[texts[0x0A]] = texts.get(0x12, "")
