"""How a model's weights are stored, read from file names and from header numbers.

A quantisation is a lower-case token with underscores (`q4_k_m`, `iq4_nl`, `fp8_e4m3fn`, `gptq_4bit`). Names follow
patterns rather than a list, because new ones appear every few months. Used for files on disk and for listings of a hub;
knows nothing about either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Quantization:
    """`token` says how weights are stored; `dynamic` that the name marks a mix chosen per layer (`UD-`)."""

    token: str
    dynamic: bool = False

    @property
    def label(self) -> str:
        """What tells two files of one repository apart."""
        return f"ud_{self.token}" if self.dynamic else self.token


# llama.cpp's `general.file_type`: https://github.com/ggml-org/llama.cpp/blob/master/include/llama.h (enum llama_ftype)
GGUF_FILE_TYPES: Final[dict[int, str]] = {
    0: "f32",
    1: "f16",
    2: "q4_0",
    3: "q4_1",
    4: "q4_1_f16",
    7: "q8_0",
    8: "q5_0",
    9: "q5_1",
    10: "q2_k",
    11: "q3_k_s",
    12: "q3_k_m",
    13: "q3_k_l",
    14: "q4_k_s",
    15: "q4_k_m",
    16: "q5_k_s",
    17: "q5_k_m",
    18: "q6_k",
    19: "iq2_xxs",
    20: "iq2_xs",
    21: "q2_k_s",
    22: "iq3_xs",
    23: "iq3_xxs",
    24: "iq1_s",
    25: "iq4_nl",
    26: "iq3_s",
    27: "iq3_m",
    28: "iq2_s",
    29: "iq2_m",
    30: "iq4_xs",
    31: "iq1_m",
    32: "bf16",
    33: "q4_0_4_4",
    34: "q4_0_4_8",
    35: "q4_0_8_8",
    36: "tq1_0",
    37: "tq2_0",
    38: "mxfp4",
    39: "nvfp4",
    40: "q1_0",
}
_GUESSED: Final = 1024  # a flag that llama.cpp adds when it guessed

# In order of how much a match says: the first pattern that matches a part of the path wins, its last match counts.
# They see lower-case text in which every run of other characters is one underscore, with one at each end. What a match
# must contain stands before it: most texts contain little of that, and a first look at a library asks for every name.
_PATTERNS: Final = tuple(
    (needed, re.compile(rf"_(?:{pattern})(?=_)"), form)
    for needed, pattern, form in (
        ("q", r"q([1-9])_?(0)_(4|8)_(4|8)", "q{}_{}_{}_{}"),
        ("q", r"q([1-9])_(0|1|k|k_s|k_m|k_l)_(r4|r8)", "q{}_{}_{}"),
        ("iq", r"(iq)([1-9])_?(xxs|xs|xxl|xl|nl|s|m|l|kss|ks|kl|kt|k)_(r4|r8|s|m|l)", "{}{}_{}_{}"),
        ("iq", r"(iq)([1-9])_?(xxs|xs|xxl|xl|nl|s|m|l|kss|ks|kl|kt|k)", "{}{}_{}"),
        ("q", r"q([1-9])_?k_?(xxs|xs|xxl|xl|s|m|l|p)", "q{}_k_{}"),
        ("q", r"(t?q)([1-9])_?(0|1)(?:_g\d+)?", "{}{}_{}"),
        ("q8", r"q8_?kv", "q8_kv"),
        ("q", r"q([1-9])_?k", "q{}_k"),
        ("iq", r"iq([1-9])", "iq{}"),
        ("i2", r"i2_?s", "i2_s"),
        ("", r"(mxfp|nvfp|mxint)(4|6|8)(?:_?a16)?", "{}{}"),
        ("", r"(gptq|awq|autoround|hqq|bnb|quip|aqlm)_(?:marlin_|model_)?(?:int|w)?([2-8])_?(?:bits?)?", "{}_{}bit"),
        ("bit", r"(?:int)?([2-8])_?bits?_(gptq|awq|autoround|hqq|bnb)", "{1}_{0}bit"),
        ("", r"(?:int|w)([2-8])_(gptq|awq|autoround|hqq|bnb)", "{1}_{0}bit"),
        ("w", r"w([1-9]|16)_?a([1-9]|16)", "w{}a{}"),
        ("8", r"(?:fp8|float8)_?(e4m3fnuz|e5m2fnuz|e4m3fn|e4m3|e5m2)", "fp8_{}"),
        ("m", r"(e4m3fn|e5m2)(?:_?fp8)?", "fp8_{}"),
        ("q4f", r"q4f(16|32)(?:_[0-2])?", "q4f{}"),
        ("bpw", r"([1-9])_?(\d{1,2})_?bpw", "{}_{}bpw"),
        ("bpw", r"([1-9])_?bpw", "{}_0bpw"),
        ("", r"(gptq|awq|aqlm|hqq|nf4|exl2|exl3)", "{}"),
        ("fp", r"(fp4|fp6|fp8)_?(?:mixed|scaled|wo)?", "{}"),
        ("float8", r"float8", "fp8"),
        ("int", r"q?(u?int[48])(?:wo)?", "{}"),
        ("bnb4", r"bnb4", "bnb_4bit"),
        ("1_58", r"1_58_?bits?", "1_58bit"),
        ("bit", r"([1-8])_?bits?", "{}bit"),
        ("q", r"q([1-8])", "q{}"),
        ("f", r"(bf16|fp16|fp32|f16|f32)", "{}"),
        ("bfloat16", r"bfloat16", "bf16"),
        ("float16", r"float16", "fp16"),
        # A word of names too, so only where precisions stand: `model.half.safetensors`, not `half-life.safetensors`.
        ("half", r"half(?=_[a-z]+_$)", "fp16"),
        ("float32", r"float32", "fp32"),
    )
)
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
            return Quantization(token, dynamic="_ud_" in text)
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


_KINDS: Final = ("iq", "tq", "q", "gptq", "awq", "int", "nf", "mxfp", "nvfp", "fp", "bf", "f")
_SIZES: Final = ("xxs", "xs", "ks", "s", "k_s", "k", "nl", "m", "k_m", "l", "k_l", "xl", "k_xl")


def _rank(token: str) -> tuple[int, int, int, str]:
    plain = token.removeprefix("ud_")
    match = re.match(r"([a-z]*)_?(\d*)_?(.*)", plain)
    kind, bits, rest = match.groups() if match else (plain, "", "")
    order = _KINDS.index(kind) if kind in _KINDS else len(_KINDS)
    size = _SIZES.index(rest) if rest in _SIZES else -1
    return order, int(bits or 0), size, token
