"""The formats before GGUF, known by their magic number.

A magic is a 32-bit number, so on disk its letters stand backwards (or forwards, written by a big-endian machine).
Values from llama.cpp and whisper.cpp before August 2023. Only the first integers after the magic are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .reader import OpenedFile

# letters of the number -> what such a file holds
_MEANING: Final = {
    b"ggml": "model",  # without version: llama, gpt-2, gpt-j, whisper, …
    b"ggmf": "model",
    b"ggjt": "model",
    b"ggla": "adapter",
    b"ggsn": "session",
}
MAGICS: Final = {letters: name for name in _MEANING for letters in (name, name[::-1])}
_WHISPER_VOCABULARIES: Final = {51_864, 51_865, 51_866}
_WHISPER_AUDIO_CONTEXT: Final = 1_500


@dataclass(frozen=True, slots=True)
class GgmlFacts:
    """`variant` is the magic's name, `holds` one of model, adapter, session; `whisper` if it is a speech model."""

    variant: str
    holds: str
    whisper: bool


def read_ggml(file: OpenedFile) -> GgmlFacts | None:
    """Facts from the first 12 bytes, or None when the file is something else."""
    head = file.pread(12, 0)
    name = MAGICS.get(head[:4])
    if name is None or len(head) < 12:
        return None
    order = "little" if head[:4] == name[::-1] else "big"
    vocabulary, context = (int.from_bytes(head[at : at + 4], order) for at in (4, 8))
    whisper = name == b"ggml" and vocabulary in _WHISPER_VOCABULARIES and context == _WHISPER_AUDIO_CONTEXT
    return GgmlFacts(name.decode(), _MEANING[name], whisper)
