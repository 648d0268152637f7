"""The kinds of models, and what the names that files give their own architecture mean.

The names stand in `contracts/tables/families.json`; their sources: the architecture list of llama.cpp
(https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py), the names in GGUF files that image and
video programs make, transformers' `model_type`, and ModelSpec. What tensors say is in `tensor_names`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from pumas.tables import table


class ModelType(StrEnum):
    LLM = "llm"
    DIFFUSION = "diffusion"
    AUDIO = "audio"
    VISION = "vision"
    EMBEDDING = "embedding"
    UNKNOWN = "unknown"


class Kind(NamedTuple):
    """What a model is: type, subtype (`""` when there is none), family and architecture (`""` when not known)."""

    model_type: ModelType
    subtype: str = ""
    family: str = ""
    architecture: str = ""


UNKNOWN: Final = Kind(ModelType.UNKNOWN)

_TABLE: Final = table("families")
# Architectures, as GGUF's `general.architecture` and transformers' `model_type` name them.
_FAMILY_OF: Final[dict[str, str]] = _TABLE["families"]
_TYPE_OF: Final = {name: ModelType(kind) for kind, names in _TABLE["types"].items() for name in names}


def family_of(architecture: str) -> str:
    """The family that an architecture belongs to; an unknown one is its own family."""
    if architecture in _FAMILY_OF:
        return _FAMILY_OF[architecture]
    if architecture in _TYPE_OF:
        return architecture.replace("_", "-")
    return architecture


def type_of(architecture: str) -> ModelType | None:
    """The type of an architecture that is not a language model, or None."""
    return _TYPE_OF.get(architecture)


_FAMILY_WORDS: Final[list[str]] = _TABLE["family_words"]


def family_in_text(text: str) -> str:
    """A language model's family named in a text, to choose among families whose tensors look alike; `""` if none."""
    words = text.lower()
    found = next((word for word in _FAMILY_WORDS if re.search(rf"(?<![a-z]){word}(?![a-z])", words)), "")
    return family_of(found) if found else ""


# https://github.com/Stability-AI/ModelSpec and kohya's `ss_base_model_version`: first fragment that is found
_SPEC_FAMILIES: Final[list[tuple[str, str]]] = _TABLE["trainers_families"]
_SPEC_SUBTYPES: Final[list[tuple[str, str]]] = _TABLE["trainers_subtypes"]


def kind_of_metadata(metadata: Mapping[str, str]) -> Kind:
    """What trainers wrote about an image model; `UNKNOWN` when they wrote nothing."""
    spec = metadata.get("modelspec.architecture", "").lower()
    text = spec or metadata.get("ss_base_model_version", "").lower()
    family = next((family for fragment, family in _SPEC_FAMILIES if fragment in text), "")
    if not family:
        return UNKNOWN
    subtype = next((subtype for fragment, subtype in _SPEC_SUBTYPES if fragment in spec), "")
    if not subtype and "ss_network_module" in metadata:
        subtype = "loras"
    return Kind(ModelType.DIFFUSION, subtype, family, spec.partition("/")[0][:64])
