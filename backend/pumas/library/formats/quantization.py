"""How a model's weights are stored, read from file names and from header numbers.

A quantisation is a lower-case token with underscores (`q4_k_m`, `iq4_nl`, `fp8_e4m3fn`, `gptq_4bit`). Names follow
patterns rather than a list, because new ones appear every few months; both stand in
`contracts/tables/quantizations.json`. Used for files on disk and for listings of a hub; knows nothing about either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pumas.tables import table


@dataclass(frozen=True, slots=True)
class Quantization:
    """`token` says how weights are stored; `mark` that it is another mix of the same kinds (`UD-`, `smol-`)."""

    token: str
    mark: str = ""

    @property
    def label(self) -> str:
        """What tells two files of one repository apart."""
        return f"{self.mark}_{self.token}" if self.mark else self.token


_TABLE: Final = table("quantizations")
# llama.cpp's `general.file_type`: https://github.com/ggml-org/llama.cpp/blob/master/include/llama.h (enum llama_ftype)
GGUF_FILE_TYPES: Final[dict[int, str]] = {int(number): token for number, token in _TABLE["gguf_file_types"].items()}
_GUESSED: Final = 1024  # a flag that llama.cpp adds when it guessed

# In order of how much a match says: the first pattern that matches a part of the path wins, its last match counts.
# They see lower-case text in which every run of other characters is one underscore, with one at each end. What a match
# must contain stands before it: most texts contain little of that, and a first look at a library asks for every name.
# A pattern that ends in `$` says itself where in a name it stands: `half` is a word of names too, so it counts in
# `model.half.safetensors`, not in `half-life.safetensors`.
_PATTERNS: Final = tuple(
    (needed, re.compile(f"_{pattern}" if pattern.endswith("$") else rf"_(?:{pattern})(?=_)"), form)
    for needed, pattern, form in _TABLE["names"]
)
# Publishers' words for mixes that they choose per layer, beside which they often publish the plain one.
_MARKS: Final = tuple((mark, re.compile(pattern)) for mark, pattern in _TABLE["marks"])
MARKS: Final[tuple[str, ...]] = tuple(mark for mark, _pattern in _MARKS)
_OTHER: Final = re.compile(r"[^a-z0-9]+")
# Older libraries dropped the dots of file names, so a token may be glued to what stood before: `harbor-7bQ4_K_M`.
_GLUED: Final = re.compile(r"(?<=[a-z0-9])(?=(?:I?Q[1-8]_|BF16|F16))")
_MAX_PATH: Final = 4096


def parse_quantization(path: str) -> Quantization | None:
    """The quantisation that a path names: its file name decides, then its folders from the innermost outwards."""
    for part in reversed(path[-_MAX_PATH:].replace("\\", "/").split("/")):
        parted = _GLUED.sub("_", part) if "Q" in part or "F16" in part else part
        text = f"_{_OTHER.sub('_', parted.lower())}_"
        token = _best(text)
        if token:
            return Quantization(token, next((mark for mark, pattern in _MARKS if pattern.search(text)), ""))
    return None


def _best(text: str) -> str:
    for needed, pattern, form in _PATTERNS:
        if needed in text:
            last = None
            for last in pattern.finditer(text):  # noqa: B007 - only the last one counts
                pass
            if last is not None:
                return form.format(*last.groups())
    return ""


def detect_quantization(path: str) -> str:
    """The token of `parse_quantization`, or `""`."""
    found = parse_quantization(path)
    return found.token if found else ""


def gguf_file_type(value: int | None) -> str:
    """The token for a GGUF file's `general.file_type`, or `""` when it says nothing."""
    return GGUF_FILE_TYPES.get(value & ~_GUESSED, "") if value is not None and value >= 0 else ""


def agree(named: str, stored: str) -> bool:
    """Whether a name's token can be a finer word for what the header says: `q4_k_xl` for `q4_k_m`, `fp16` for `f16`."""
    return _coarse(named) == _coarse(stored)


def _coarse(token: str) -> str:
    token = token.replace("fp16", "f16").replace("fp32", "f32")
    return token.split("_")[0]


def sort_quantizations(tokens: Iterable[str]) -> list[str]:
    """Importance-matrix kinds first, then k-quants and plain ones by bits, then integers, then floating point."""
    return sorted(tokens, key=_rank)


_KINDS: Final[list[str]] = _TABLE["kinds"]
_SIZES: Final[list[str]] = _TABLE["sizes"]


def _rank(token: str) -> tuple[int, int, int, str]:
    mark, _, rest = token.partition("_")
    plain = rest if mark in MARKS else token
    match = re.match(r"([a-z]*)_?(\d*)_?(.*)", plain)
    kind, bits, rest = match.groups() if match else (plain, "", "")
    order = _KINDS.index(kind) if kind in _KINDS else len(_KINDS)
    size = _SIZES.index(rest) if rest in _SIZES else -1
    return order, int(bits or 0), size, token
