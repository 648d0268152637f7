"""Which container a file is, from its bytes.

`detect_format` is what `validate_file_type` shows and what import refuses by. It knows the containers, not the models
in them (`identify`), and uses a name only to word an error better.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pumas.errors import MalformedModelFile
from pumas.zip_records import LOCAL_MAGIC

from .ggml import read_ggml
from .gguf import MAGIC as GGUF_MAGIC
from .gguf import GgufHeader, read_gguf
from .onnx import OnnxHeader, read_onnx
from .pickle_files import hides_imports, is_pickle, torch_members
from .reader import OpenedFile, open_regular
from .safetensors import MAX_HEADER_BYTES, SafetensorsHeader, read_safetensors

# What a download without Git LFS, or one that was not allowed, leaves in the place of a model.
_LFS_POINTER: Final = b"version https://git-lfs.github.com/"
_WEB_PAGES: Final = (b"<!doctype html", b"<html")


class FileFormat(StrEnum):
    """The names on the wire; `error`, for a file that cannot be read, is the caller's to add."""

    SAFETENSORS = "safetensors"
    GGUF = "gguf"
    GGML = "ggml"
    PICKLE = "pickle"
    ONNX = "onnx"
    UNKNOWN = "unknown"


class SecurityTier(StrEnum):
    SAFE = "safe"
    PICKLE = "pickle"
    UNKNOWN = "unknown"


_TIERS: Final = {FileFormat.PICKLE: SecurityTier.PICKLE, FileFormat.UNKNOWN: SecurityTier.UNKNOWN}


def security_tier(file_format: FileFormat) -> SecurityTier:
    """Whether an app that loads the file may run code from it."""
    return _TIERS.get(file_format, SecurityTier.SAFE)


@dataclass(frozen=True, slots=True)
class Detected:
    """The container, and why it cannot be used (`""` when it can). A damaged file keeps its format."""

    format: FileFormat
    error: str = ""

    @property
    def valid(self) -> bool:
        return self.format is not FileFormat.UNKNOWN and not self.error


@dataclass(frozen=True, slots=True)
class Container:
    """A file's format together with the header that was read on the way."""

    format: FileFormat
    header: GgufHeader | SafetensorsHeader | OnnxHeader | None = None


def detect_format(path: str) -> Detected:
    """Name the container and check its header. Raises `FileUnavailable` when the file cannot be read."""
    with open_regular(path) as file:
        found = sniff(file)
        try:
            if read_container(file, found).format is FileFormat.UNKNOWN:
                return Detected(FileFormat.UNKNOWN, _why_unknown(file))
        except MalformedModelFile as error:
            return Detected(found, str(error))
        return Detected(found)


def sniff(file: OpenedFile) -> FileFormat:
    """The container by its first bytes, without checking the rest of its header."""
    head = file.pread(16, 0)
    if head.startswith(GGUF_MAGIC):
        return FileFormat.GGUF
    if read_ggml(file):
        return FileFormat.GGML
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER_BYTES:
        # The length can be made an opcode that swallows the rest as its operand, and apps go by the file's name.
        return FileFormat.PICKLE if hides_imports(file) else FileFormat.SAFETENSORS
    if head.startswith(LOCAL_MAGIC):
        return FileFormat.PICKLE if _is_torch_archive(file) else FileFormat.UNKNOWN
    if is_pickle(file):
        return FileFormat.PICKLE
    return FileFormat.ONNX if _is_onnx(file, head) else FileFormat.UNKNOWN


def read_container(file: OpenedFile, file_format: FileFormat) -> Container:
    """Read the header that belongs to `file_format`; raises `MalformedModelFile` when it is damaged."""
    if file_format is FileFormat.GGUF:
        return Container(file_format, read_gguf(file))
    if file_format is FileFormat.SAFETENSORS:
        return Container(file_format, read_safetensors(file))
    if file_format is FileFormat.ONNX:
        header = read_onnx(file)
        if header is None:
            raise MalformedModelFile(f"{file.name}: is named .onnx but is not a whole ONNX model")
        return Container(file_format, header)
    if file_format is FileFormat.PICKLE and file.pread(4, 0).startswith(LOCAL_MAGIC):
        torch_members(file)
    return Container(file_format)


def _is_torch_archive(file: OpenedFile) -> bool:
    try:
        return torch_members(file) is not None
    except MalformedModelFile:
        return True


def _is_onnx(file: OpenedFile, head: bytes) -> bool:
    try:
        return read_onnx(file) is not None or (head.startswith(b"\x08") and file.name.lower().endswith(".onnx"))
    except MalformedModelFile:
        return True


def _why_unknown(file: OpenedFile) -> str:
    if not file.size:
        return f"{file.name}: is empty"
    if file.pread(4, 0).startswith(LOCAL_MAGIC):
        return f"{file.name}: is a ZIP archive, but not one that torch writes"
    head = file.pread(64, 0)
    if head.startswith(_LFS_POINTER):
        return f"{file.name}: is a Git LFS pointer, not the model itself; 'git lfs pull' in its folder fetches that"
    if head.lstrip().lower().startswith(_WEB_PAGES):
        return f"{file.name}: is a web page, not a model; download the model again"
    return f"{file.name}: is not a model file that we know"
