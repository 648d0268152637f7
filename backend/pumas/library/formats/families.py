"""Tables: the kinds of models, and what the names that files give their own architecture mean.

Sources: the architecture list of llama.cpp
(https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py), the names in GGUF files that image and
video programs make, transformers' `model_type`, and ModelSpec. What tensors say is in `tensor_names`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple


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

# --- architectures, as GGUF's `general.architecture` and transformers' `model_type` name them

_FAMILY_OF: Final[dict[str, str]] = {
    "codellama": "llama",
    "mixtral": "mistral",
    "phi2": "phi",
    "phi3": "phi",
    "qwen2": "qwen",
    "starcoder2": "starcoder",
    "gptneox": "gpt-neox",
    "gpt_neox": "gpt-neox",
    "gptj": "gpt-j",
    "hyvid": "hunyuan-video",
    "hunyuan_video": "hunyuan-video",
    "sd1": "stable-diffusion",
    "sd2": "stable-diffusion",
    "sd": "stable-diffusion",
    "aura": "auraflow",
    "ltxv": "ltx-video",
    "lumina2": "lumina",
    "pig": "",
    "t5encoder": "t5",
}
_DIFFUSION: Final = frozenset(
    {
        "aura", "auraflow", "chroma", "cogvideox", "cosmos", "ernie_image", "flux", "flux2", "hidream",
        "hunyuan_dit", "hunyuan_image", "hunyuan_video", "hyvid", "kandinsky5", "kolors", "ltxv", "lumina2",
        "mochi", "omnigen", "pig", "pixart", "qwen_image", "sana", "sd", "sd1", "sd2", "sd3", "sd35", "sdxl",
        "wan", "z_image",
    }
)  # fmt: skip
_AUDIO: Final = frozenset(
    {
        "ace-step", "acestep", "audiogen", "bark", "clap", "csm", "data2vec-audio", "dia", "encodec", "hubert",
        "kokoro", "mimi", "moonshine", "moshi", "musicgen", "orpheus-snac", "outetts-vocoder", "parler",
        "parler-tts", "seamless_m4t", "snac", "speech-encoder-decoder", "speecht5", "stable-audio", "vits",
        "voxtral", "wav2vec2", "wavlm", "wavtokenizer-dec", "whisper", "xtts",
    }
)  # fmt: skip
_EMBEDDING: Final = frozenset(
    {
        "albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "eurobert",
        "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "llama-embed", "modern-bert", "modernbert", "mpnet",
        "neo-bert", "neobert", "new", "nomic-bert", "nomic-bert-moe", "nomic_bert", "roberta",
        "t5gemma-encoder", "xlm-roberta", "xlm_roberta",
    }
)  # fmt: skip
_VISION: Final = frozenset(
    {
        "beit", "blip", "blip-2", "clip", "clip_vision_model", "convnext", "deit", "depth_anything", "detr",
        "dinov2", "dinov3_vit", "efficientnet", "florence2", "mobilenet_v2", "owlvit", "resnet", "sam", "sam2",
        "segformer", "siglip", "siglip2", "siglip_vision_model", "swin", "vit", "yolo", "yolos",
    }
)  # fmt: skip
_TYPE_OF: Final = {
    **dict.fromkeys(_DIFFUSION, ModelType.DIFFUSION),
    **dict.fromkeys(_AUDIO, ModelType.AUDIO),
    **dict.fromkeys(_EMBEDDING, ModelType.EMBEDDING),
    **dict.fromkeys(_VISION, ModelType.VISION),
}


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


_FAMILY_WORDS: Final = (
    "llama", "mixtral", "mistral", "falcon", "qwen", "gemma", "phi", "deepseek", "yi", "starcoder", "smollm", "granite",
)  # fmt: skip


def family_in_text(text: str) -> str:
    """A language model's family named in a text, to choose among families whose tensors look alike; `""` if none."""
    words = text.lower()
    found = next((word for word in _FAMILY_WORDS if re.search(rf"(?<![a-z]){word}(?![a-z])", words)), "")
    return family_of(found) if found else ""


# https://github.com/Stability-AI/ModelSpec and kohya's `ss_base_model_version`: first fragment that is found
_SPEC_FAMILIES: Final = (
    ("flux-2", "flux"),
    ("flux", "flux"),
    ("chroma", "chroma"),
    ("stable-diffusion-xl", "sdxl"),
    ("sdxl", "sdxl"),
    ("stable-diffusion-v3", "sd3"),
    ("stable-diffusion-3", "sd3"),
    ("sd3", "sd3"),
    ("stable-diffusion", "stable-diffusion"),
    ("sd_v1", "stable-diffusion"),
    ("sd_v2", "stable-diffusion"),
    ("wan", "wan"),
    ("hunyuan-video", "hunyuan-video"),
    ("qwen-image", "qwen-image"),
    ("lumina", "lumina"),
    ("kolors", "kolors"),
    ("pixart", "pixart"),
    ("ltx", "ltx-video"),
)
_SPEC_SUBTYPES: Final = (
    ("/lora", "loras"),
    ("/textual-inversion", "embeddings"),
    ("/controlnet", "controlnet"),
    ("/control-net", "controlnet"),
    ("/vae", "vae"),
)


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
