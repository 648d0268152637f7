"""What a file in a repository is for, from its path alone: weights, something that belongs beside them, or neither.

Tables and patterns; `selection.py` decides with them. Lists of what is taken, not of what is left out: a repository may
hold anything.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from pumas.library.formats.quantization import parse_quantization


class Role(StrEnum):
    """`WEIGHTS` are a model's; `FOREIGN` ones are the same model for another framework. `HELPER` stays on the hub."""

    WEIGHTS = "weights"
    FOREIGN = "foreign"
    PROJECTOR = "projector"
    COMPANION = "companion"
    HELPER = "helper"


# Extension -> the format's name in search results.
NATIVE: Final = {
    "safetensors": "safetensors", "sft": "safetensors", "gguf": "gguf", "ggml": "ggml", "ckpt": "ckpt", "pt": "pt",
    "pth": "pth", "bin": "bin",
}  # fmt: skip
FOREIGN: Final = {
    "onnx": "onnx", "onnx_data": "onnx", "tflite": "tflite", "mlmodel": "mlmodel", "pb": "pb", "h5": "h5",
    "msgpack": "msgpack", "ot": "ot", "task": "task", "litertlm": "litertlm", "engine": "engine",
}  # fmt: skip
# A loader may run code from these.
PICKLES: Final = frozenset({"ckpt", "pt", "pth", "bin"})
_COMPANION: Final = frozenset(
    {"json", "jsonl", "txt", "yaml", "yml", "toml", "model", "spm", "vocab", "merges", "tiktoken", "jinja", "py"}
    | {"bpe", "codes", "params", "template", "npy", "npz", "wts"}
)
# Terms travel with the weights; the other three are Ollama's.
_COMPANION_NAMES: Final = re.compile(r"(?:licen[cs]e|notice|use_policy)[^/]*|modelfile|template|params")
# Left behind by training and quantising, or read by people alone.
_HELPERS: Final = re.compile(
    r"readme.*|\.git.*|.*\.(?:md|png|jpe?g|gif|webp|svg|bmp|pdf|mp4|webm|mov|wav|mp3|flac|ipynb|log|html?|csv|tsv|parquet|"
    r"arrow|zip|tar|gz|7z|sh|bat|ps1|c|cpp|h|exe|dll|so|lock|imatrix|dat|gguf_file|gguf\.part.*|out|tmp|part|incomplete|"
    r"metadata|aria2|crdownload|download|pumas-tmp|bak)"
    r"|(?:optimizer|scheduler|scaler|rng_state|training_args|random_states|zero_pp_rank|mp_rank|global_step|trainer_state|"
    r"all_results|train_results|eval_results|runs|events\.out)[-_.\d]*.*\.?(?:pt|pth|bin|json|safetensors|pkl|txt)?"
    r"|.*(?:imatrix|importance_matrix).*|requirements.*\.txt|setup\.py|thumbs\.db|desktop\.ini|\.ds_store"
    r"|(?:results|measurement|benchmark.*|test_.*|example.*|sample.*)\.(?:json|txt|py)"
)
_NOT_HELPERS: Final = re.compile(r"scheduler_config\.json|tokenizer.*|preprocessor_config\.json")
_PROJECTOR: Final = re.compile(r"mmproj|(?:^|[-_.])projector(?:[-_.]|$)")
_OPENVINO: Final = re.compile(r"openvino.*\.(?:bin|xml)")
_SHARD: Final = re.compile(r"-\d{1,10}-of-\d{1,10}", re.ASCII)
_INDEX: Final = re.compile(
    r"(?P<base>.+)\.(?P<suffix>safetensors|bin)\.index(?:\.(?P<variant>[^.]+))?\.json", re.DOTALL
)
_VARIANT: Final = re.compile(r"non_ema|ema|quantized|no_variant|fp16|fp32|bf16")
# One model saved by several frameworks: `pytorch_model.bin`, `tf_model.h5`, `model.safetensors`.
_FRAMEWORK: Final = re.compile(r"^(?:pytorch|tf|flax|rust)_(?=model|lora|adapter)")


def split(path: str) -> tuple[str, str]:
    """(folder, file name)."""
    folder, _, name = path.rpartition("/")
    return folder, name


def extension(name: str) -> str:
    """Lower case, without its dot; `""` when there is none. External data of ONNX files counts as one kind."""
    lowered = name.lower()
    suffix = lowered.rpartition(".")[2] if "." in name else ""
    return "onnx_data" if suffix.startswith("onnx_data") or lowered.endswith(".onnx.data") else suffix


def role(path: str) -> Role:
    """What the file is, by its name. A hidden file or folder is a helper."""
    parts = path.lower().split("/")
    name, suffix = parts[-1], extension(parts[-1])
    if any(part.startswith(".") for part in parts) or parts[0] in ("runs", "logs", "assets", "images"):
        return Role.HELPER
    if _COMPANION_NAMES.fullmatch(name):
        return Role.COMPANION
    if _HELPERS.fullmatch(name) and not _NOT_HELPERS.fullmatch(name):
        return Role.HELPER
    if suffix == "gguf" and _PROJECTOR.search(name):
        return Role.PROJECTOR
    if suffix in FOREIGN or _OPENVINO.fullmatch(name):
        return Role.FOREIGN
    if suffix in NATIVE:
        return Role.WEIGHTS
    return Role.COMPANION if suffix in _COMPANION else Role.HELPER


def format_of(path: str) -> str:
    """The format's name in search results, `""` for a file without weights."""
    suffix = extension(path)
    weights = role(path) in (Role.WEIGHTS, Role.FOREIGN, Role.PROJECTOR)
    return (NATIVE.get(suffix) or FOREIGN.get(suffix) or "") if weights else ""


def label(path: str) -> str:
    """The quantisation that the path names, as it tells files of one repository apart; `""` when it names none."""
    found = parse_quantization(path)
    return found.label if found else ""


def base(name: str) -> str:
    """The name without shard numbers and extension, in lower case: equal for all parts of one set."""
    stem = _SHARD.sub("", name).lower()
    return stem.rpartition(".")[0] or stem


def twin(name: str) -> str:
    """As `base`, and equal for the forms in which different frameworks save the same weights."""
    return _FRAMEWORK.sub("", base(name))


def is_variant_of(candidate: str, plain: str) -> bool:
    """Whether one base name is the other with a precision behind it: `model.fp16` and `model`."""
    if not candidate.startswith(plain) or candidate[len(plain) : len(plain) + 1] not in (".", "-", "_"):
        return False
    rest = candidate[len(plain) + 1 :]
    if _VARIANT.fullmatch(rest):
        return True
    return parse_quantization(rest) is not None and not re.search(r"[a-z]{5,}", rest.replace("quant", ""))


def indexed_set(name: str) -> tuple[str, str] | None:
    """For an index of shards: (base, extension) of the set that it lists; None for any other file.

    Two spellings of a variant are in use: `model.fp16.safetensors.index.json` and `model.safetensors.index.fp16.json`.
    """
    match = _INDEX.fullmatch(name.lower())
    if match is None:
        return None
    variant = match["variant"]
    return (f"{match['base']}.{variant}" if variant else match["base"]), match["suffix"]
