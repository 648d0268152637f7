"""What a model file says about itself, as values that every JSON reader takes.

Chosen by content, not by name. Large arrays and texts are cut, and `truncated` says which and how long they really are.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import StrEnum

from pumas.errors import MalformedModelFile, PumasError

from .detect import FileFormat, sniff
from .gguf import GgufArray, GgufHeader, GgufScalar, read_gguf
from .reader import OpenedFile, open_regular
from .safetensors import read_safetensors
from .text import json_number

Json = str | int | float | bool | None | list["Json"]


class EmbeddedType(StrEnum):
    """The names on the wire."""

    GGUF = "gguf"
    SAFETENSORS = "safetensors"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class EmbeddedMetadata:
    """`metadata` is None exactly when there is an `error`. `truncated`: key → real number of elements or bytes."""

    file_type: EmbeddedType
    metadata: dict[str, Json] | None = None
    truncated: dict[str, int] = field(default_factory=dict[str, int])
    error: str = ""


def embedded_metadata(path: str | os.PathLike[str]) -> EmbeddedMetadata:
    """Read the metadata inside a GGUF or safetensors file. Never raises for what the file is or holds."""
    found = EmbeddedType.UNKNOWN
    try:
        with open_regular(path) as file:
            found = _TYPES.get(sniff(file), EmbeddedType.UNSUPPORTED)
            if found is EmbeddedType.GGUF:
                return _of_gguf(read_gguf(file, tensors=False))
            if found is EmbeddedType.SAFETENSORS:
                return _of_safetensors(file)
            return EmbeddedMetadata(found, error=f"{file.name}: only GGUF and safetensors files describe themselves")
    except MalformedModelFile as error:
        return EmbeddedMetadata(found, error=str(error))
    except PumasError as error:
        return EmbeddedMetadata(EmbeddedType.UNKNOWN, error=str(error))


_TYPES = {FileFormat.GGUF: EmbeddedType.GGUF, FileFormat.SAFETENSORS: EmbeddedType.SAFETENSORS}


def _of_gguf(header: GgufHeader) -> EmbeddedMetadata:
    metadata: dict[str, Json] = {}
    truncated = dict(header.cut)
    for key, value in header.metadata.items():
        if isinstance(value, GgufArray):
            metadata[key] = [_scalar(item) for item in value.first]
            if not value.whole:
                truncated[key] = value.length
        else:
            metadata[key] = _scalar(value)
    return EmbeddedMetadata(EmbeddedType.GGUF, metadata, truncated)


def _scalar(value: GgufScalar) -> Json:
    return value if isinstance(value, str | bool) else json_number(value)


def _of_safetensors(file: OpenedFile) -> EmbeddedMetadata:
    header = read_safetensors(file)
    return EmbeddedMetadata(EmbeddedType.SAFETENSORS, dict(header.metadata), dict(header.cut))
