"""What the name of a file on disk says about the repository it may be from, and how sure that is.

Pure text: candidates come from a search, proof only from comparing digests (`lookup.py`).
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import Final

from pumas.hub import kinds
from pumas.library.formats.quantization import parse_quantization

EXACT: Final = 0.9
PLAUSIBLE: Final = 0.6
NOT_WORTH_SHOWING: Final = 0.4
MAX_SEARCHES: Final = 4
CERTAIN: Final = 0.95
"""The most that names can prove: a repository that lists a file of exactly this name."""
_LACKS_IT: Final = 0.85
"""What the likeness of names counts for when the repository is known to hold no file of this name."""

# Names that every second repository has: they say nothing.
_COMMON: Final = re.compile(
    r"(?i)(?:pytorch_|diffusion_pytorch_|tf_|adapter_|ggml-|open_clip_)?model|consolidated(?:[._]\d+)?|weights|checkpoint|"
    r"last|best|latest|final|output|pytorch_lora_weights|lora|unet|vae|ae|text_encoder|clip_[lg]|file|download"
)
_SHARD: Final = re.compile(r"[-_.]\d{5}(?:-of-\d{5})?$")
_TRAILING: Final = re.compile(
    r"(?i)[-_. ](?:fp16|fp32|bf16|f16|f32|fp8|int[48]|gguf|ggml|ggmlv3|awq|gptq|exl[23]|imat|i1|ud|full|fixed|pruned|"
    r"ema|emaonly|ema[-_]only|safetensors|merged|scaled|quantized)$"
)
# What browsers and file managers put behind the name of a second copy.
_COPY: Final = re.compile(r"(?i)(?: ?\(\d{1,3}\)| - copy(?: ?\(\d{1,3}\))?| copy(?: \d{1,3})?)$")
_VERSION: Final = re.compile(r"(?i)[-_. ]v\d+(?:[._]\d+)*$")
_NOTHING: Final = re.compile(r"(?!)")
_LAST_WORD: Final = re.compile(r"[-_. ]+[^-_. ]*$")
_SIZE: Final = re.compile(r"(?i)[-_. ]\d+(?:\.\d+)?[bm]$")
_QUANT: Final = re.compile(
    r"(?i)[-_. ](?:ud[-_])?(?:i?t?q\d[a-z0-9_]*|mxfp\d[a-z_]*|nvfp\d|[bf]?fp?(?:8|16|32)(?:[-_]e\dm\d(?:fn)?)?"
    r"|(?:awq|gptq|bnb)[-_]?(?:int)?\d?(?:bit)?|\d[-_]?bits?|w\d+a\d+|\d(?:\.\d+)?bpw)$"
)


def title(filename: str) -> str:
    """The name without extension, shard number and the words for how weights are stored; `""` for a common name.

    What it is called stays whole: `Lumen-7B-Instruct-v0.3-Q4_K_M.gguf` gives `Lumen-7B-Instruct-v0.3`.
    """
    text = _SHARD.sub("", _stem(filename))
    while (shorter := _QUANT.sub("", _TRAILING.sub("", text)).rstrip("-_. ")) != text:
        text = shorter
    return "" if _COMMON.fullmatch(text) else text


def original(filename: str) -> str:
    """The name without what a second download or copy added to it: `a (1).gguf` gives `a.gguf`."""
    stem, dot, suffix = filename.rpartition(".")
    return f"{_COPY.sub('', stem)}.{suffix}" if dot else filename


def searches(filename: str) -> list[str]:
    """Texts to search for, most exact first: the title, without its version, its size, then without its last words."""
    texts: list[str] = []
    text = title(filename)
    for pattern in (_NOTHING, _VERSION, _SIZE, *[_LAST_WORD] * MAX_SEARCHES):
        text = pattern.sub("", text)
        if len(text) > 2 and text not in texts:
            texts.append(text)
    return texts[:MAX_SEARCHES]


def likeness(filename: str, repo_id: str, paths: tuple[str, ...] = ()) -> float:
    """How much a repository looks like the one that the file is from, 0.0 to 1.0. Its listed files count."""
    meant = original(filename).lower()
    listed = any(path.rpartition("/")[2].lower() == meant for path in paths)
    text, name = title(filename).lower(), title(f"{repo_id.rpartition('/')[2]}.x").lower()
    if not text:
        return 0.0
    ratio = SequenceMatcher(None, _words(text), _words(name), autojunk=False).ratio()
    if listed:
        return CERTAIN
    return min(ratio * _LACKS_IT if paths else ratio, CERTAIN)


def variant(filename: str) -> str:
    """`ema`, `pruned`, `full`, or what the container says."""
    words = re.split(r"[-_. ]+", filename.lower())
    return next(
        (word for word in ("ema", "emaonly", "pruned", "full") if word in words),
        "safetensors" if kinds.extension(filename) == "safetensors" else "standard",
    )


def precision(filename: str) -> str:
    """The quantisation or number format that the name says, `unknown` if none."""
    found = parse_quantization(filename)
    return found.label if found else "unknown"


def _stem(filename: str) -> str:
    name = original(filename.rpartition("/")[2].strip())
    return name.rpartition(".")[0] or name


def _words(text: str) -> str:
    return re.sub(r"[-_. ]+", "-", text).strip("-")
