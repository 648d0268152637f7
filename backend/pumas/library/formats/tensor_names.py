"""What a set of tensor names says about the model that they belong to.

Rules are data (`contracts/tables/tensor_names.json`). A rule holds when each of its groups has a fragment that stands
in some tensor's name, and none of its exclusions does; of several the first that holds decides, so the most special
come first. A leading `^` ties a fragment to a name's beginning. Layouts are those of the original repositories, of
diffusers and of transformers. Knows nothing about files; `identify` brings the names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final

from pumas.tables import table

from .families import UNKNOWN, Kind, ModelType

_MAX_NAMES: Final = 20_000
_MAX_TEXT: Final = 1_000_000


@dataclass(slots=True)
class TensorNames:
    """Names, and shapes where they are known. Of very many names only the first count."""

    names: Sequence[str]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    _joined: str = ""

    def __post_init__(self) -> None:
        enough = next((n for n, size in enumerate(accumulate(map(len, self.names))) if size > _MAX_TEXT), _MAX_NAMES)
        self.names = self.names[: min(enough, _MAX_NAMES)]
        self._joined = "\n" + "\n".join(self.names) + "\n"

    def has(self, fragment: str) -> bool:
        return fragment.replace("^", "\n") in self._joined

    def any(self, fragments: Iterable[str]) -> bool:
        return any(map(self.has, fragments))

    def share(self, pattern: re.Pattern[str]) -> float:
        """The part of all names that match, 0 to 1."""
        return sum(1 for name in self.names if pattern.search(name)) / max(1, len(self.names))

    def count(self, pattern: re.Pattern[str]) -> int:
        return sum(1 for name in self.names if pattern.search(name))

    def width(self, fragment: str) -> int:
        """The last dimension of the first tensor whose name holds `fragment`; 0 when it is not known."""
        return next((self.shapes[n][-1] for n in self.names if fragment in n and self.shapes.get(n)), 0)

    def inside(self, prefix: str) -> TensorNames:
        """Only the names that begin with `prefix`, which is taken off."""
        names = {name: name[len(prefix) :] for name in self.names if name.startswith(prefix)}
        shapes = {short: self.shapes[name] for name, short in names.items() if name in self.shapes}
        return TensorNames(list(names.values()), shapes)


class Rule:
    """Of `groups` each must have a fragment that is there, of `unless` none may be."""

    def __init__(self, rule: dict[str, Any], exclusions: Mapping[str, Sequence[str]]) -> None:
        model_type, subtype, family, architecture = rule["kind"]
        self.kind = Kind(ModelType(model_type), subtype, family, architecture)
        self.groups: Sequence[Sequence[str]] = rule["all"]
        self.unless = exclusions[rule["unless"]] if "unless" in rule else ()

    def holds(self, tensors: TensorNames) -> bool:
        return all(map(tensors.any, self.groups)) and not tensors.any(self.unless)


def _first(rules: Iterable[Rule], tensors: TensorNames) -> Kind | None:
    return next((rule.kind for rule in rules if rule.holds(tensors)), None)


def _image(family: str, architecture: str = "", subtype: str = "diffusion_models") -> Kind:
    return Kind(ModelType.DIFFUSION, subtype, family, architecture or family)


def _part(subtype: str, family: str = "", architecture: str = "") -> Kind:
    """A part of an image program's set of models."""
    return Kind(ModelType.DIFFUSION, subtype, family, architecture or family or subtype)


_TABLE: Final = table("tensor_names")


def _rules(name: str) -> tuple[Rule, ...]:
    return tuple(Rule(rule, _TABLE["exclusions"]) for rule in _TABLE[name])


def _any_of(name: str) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, _TABLE[name])))


_IMAGE_TRANSFORMERS: Final = _rules("image_transformers")
_UNETS: Final = _rules("unets")
_IMAGE_WRAPPERS: Final[list[str]] = _TABLE["image_wrappers"]
# The text encoders inside a checkpoint of SDXL.
_SDXL_TEXT: Final = "^conditioner.embedders."
_WRAPPERS: Final[list[str]] = [*_IMAGE_WRAPPERS, *_TABLE["other_wrappers"]]
_OTHER_PARTS: Final[list[str]] = _TABLE["other_parts"]
_CONTROLNETS: Final = _rules("controlnets")
# Whole files with one purpose.
_PURPOSES: Final = _rules("purposes")
_VAES: Final = _rules("vaes")


def _llm(family: str) -> Kind:
    return Kind(ModelType.LLM, "", family, family)


# Layouts of language models that only one family has; Llama, Mistral and others share theirs.
_LANGUAGE_FAMILIES: Final = _rules("language_models")
_CERTAIN_LAYOUTS: Final = frozenset[str](_TABLE["certain_layouts"])

_ADAPTED: Final = re.compile(
    r"\.lora_(?:A|B|up|down|a|b|linear_layer|embedding_A|embedding_B|magnitude_vector)\b|[._]lora\.(?:up|down)\."
    r"|\.(?:hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t2|oft_blocks|oft_diag|boft_blocks|dora_scale"
    r"|diff_b|diff|glora_[ab][12])\b|\.alpha$"
)
_ADAPTED_IMAGE: Final = _any_of("adapted_image_words")
_ADAPTED_LANGUAGE: Final = re.compile(
    r"(?:^|\.)(?:layers|h|blk)\.\d+\.(?:self_attn|mlp|attn|attention|linear_attn|block_sparse_moe)\b"
)
_ADAPTED_FAMILIES: Final = _rules("adapted_image_models")
_CONTEXT_KEYS: Final[list[str]] = _TABLE["text_keys"]
# Width of the text that an image model listens to.
_FAMILY_OF_WIDTH: Final[dict[int, str]] = {int(width): name for width, name in _TABLE["families_of_text_width"].items()}
_INVERSION_NAMES: Final = frozenset[str](_TABLE["inversion_names"])
_LANGUAGE_MARKS: Final = _any_of("language_words")
_IMAGE_MARKS: Final = _any_of("image_words")
_ENOUGH_MARKS: Final = 5
_LARGE_BYTES: Final = 1_000_000_000


def kind_of_tensors(tensors: TensorNames, size: int) -> Kind:
    """What the names say; `size` of the file in bytes. `UNKNOWN` when they say nothing."""
    if tensors.share(_ADAPTED) >= 0.5:
        return _adapter(tensors)
    if _is_inversion(tensors):
        width = tensors.shapes[tensors.names[0]][-1] if tensors.shapes.get(tensors.names[0]) else 0
        return _part("embeddings", _FAMILY_OF_WIDTH.get(width, ""), "textual-inversion")
    if controlnet := _first(_CONTROLNETS, tensors):
        return controlnet
    return _image_model(tensors) or _first(_PURPOSES, tensors) or _first(_VAES, tensors) or _by_counting(tensors, size)


def _image_model(tensors: TensorNames) -> Kind | None:
    prefix = next((wrapper for wrapper in _WRAPPERS if tensors.has(f"^{wrapper}")), "")
    inner = tensors.inside(prefix) if prefix else tensors
    if controlnet := _first(_CONTROLNETS, inner):
        return controlnet
    kind = _first(_IMAGE_TRANSFORMERS, inner) or _unet(inner, tensors)
    if kind is None and prefix in _IMAGE_WRAPPERS:
        kind = _image("sdxl" if tensors.has(_SDXL_TEXT) else "")  # else of a family that we do not know
    if kind and prefix and tensors.any(_OTHER_PARTS):
        return kind._replace(subtype="checkpoints")
    return kind


def _unet(inner: TensorNames, checkpoint: TensorNames) -> Kind | None:
    kind = _first(_UNETS, inner)
    if kind is None or kind.family == "sdxl":
        return kind
    width = inner.width("attn2.to_k.")
    if width in (1280, 2048) or checkpoint.has(_SDXL_TEXT):
        return _image("sdxl")
    second = width == 1024 or checkpoint.has("^cond_stage_model.model.")
    return kind._replace(architecture="sd2" if second else "sd1")


def _adapter(tensors: TensorNames) -> Kind:
    images = tensors.count(_ADAPTED_IMAGE) > 0
    if not images and tensors.count(_ADAPTED_LANGUAGE):
        found = _first(_LANGUAGE_FAMILIES, tensors)
        return Kind(ModelType.LLM, "loras", found.family if found else "", "lora")
    found = _first(_ADAPTED_FAMILIES, tensors)
    width = next((width for key in _CONTEXT_KEYS if (width := tensors.width(key))), 0)
    family = found.family if found else _FAMILY_OF_WIDTH.get(width, "")
    return Kind(ModelType.DIFFUSION if images or family else ModelType.UNKNOWN, "loras", family, "lora")


def _is_inversion(tensors: TensorNames) -> bool:
    """A textual inversion: a few vectors under one of the names that trainers give them."""
    if not tensors.names:
        return False
    if set(tensors.names) <= _INVERSION_NAMES:
        return True
    first = tensors.names[0]
    vector = len(tensors.shapes.get(first, ())) in (1, 2) and tensors.shapes[first][-1] in _FAMILY_OF_WIDTH
    return len(tensors.names) == 1 and first.startswith("<") and vector


def _by_counting(tensors: TensorNames, size: int) -> Kind:
    found = _first(_LANGUAGE_FAMILIES, tensors)
    language, images = tensors.count(_LANGUAGE_MARKS), tensors.count(_IMAGE_MARKS)
    if language > images and (language > _ENOUGH_MARKS or size > _LARGE_BYTES):
        return found or _llm("")
    if images > language and images > _ENOUGH_MARKS:
        return _image("stable-diffusion", subtype="checkpoints")
    return found if found and found.family in _CERTAIN_LAYOUTS else UNKNOWN
