"""What the hub's words about a repository become in a model's `metadata.json`: type, family, tags, licence, origin.

Only what the hub says stands here. Names of files, their digests, sizes and dates are added by whoever has fetched and
hashed them. The keys are those of the library (`library/metadata.py`, `library/import_plan.py`).
"""

from __future__ import annotations

import re
from typing import Final

import orjson

from pumas.hub import kinds
from pumas.hub.model import HUB, HubListing, HubModel, Json
from pumas.hub.selection import Choice
from pumas.library.formats.families import ModelType, family_in_text, family_of, type_of
from pumas.library.formats.shards import PIPELINE_INDEX
from pumas.library.formats.text import one_line

MAX_CARD_BYTES: Final = 16 * 1024
MAX_TAGS: Final = 100
_UNWANTED_IN_CARD: Final = frozenset({"model-index", "model_index", "eval_results", "widget", "extra_gated_fields"})
# Tags that say how the hub files a repository, not what the model is.
_FILING: Final = re.compile(r"(?:base_model|license|region|arxiv|doi|dataset|deploy|endpoints_compatible|autotrain).*")

# https://huggingface.co/tasks
_LLM, _DIFFUSION, _AUDIO = ModelType.LLM, ModelType.DIFFUSION, ModelType.AUDIO
_VISION, _EMBEDDING = ModelType.VISION, ModelType.EMBEDDING
TYPE_OF_TASK: Final[dict[str, ModelType]] = {
    **dict.fromkeys(
        ("text-generation", "text2text-generation", "conversational", "image-text-to-text", "any-to-any", "translation",
         "summarization", "question-answering", "video-text-to-text", "audio-text-to-text", "visual-question-answering",
         "document-question-answering", "fill-mask", "table-question-answering"), _LLM),
    **dict.fromkeys(
        ("text-to-image", "image-to-image", "text-to-video", "image-to-video", "unconditional-image-generation",
         "text-to-3d", "image-to-3d", "video-to-video", "image-text-to-image", "image-text-to-video"), _DIFFUSION),
    **dict.fromkeys(
        ("automatic-speech-recognition", "text-to-speech", "text-to-audio", "audio-to-audio", "audio-classification",
         "voice-activity-detection"), _AUDIO),
    **dict.fromkeys(
        ("image-classification", "object-detection", "image-segmentation", "depth-estimation", "image-to-text",
         "mask-generation", "zero-shot-image-classification", "zero-shot-object-detection", "keypoint-detection",
         "video-classification", "image-feature-extraction"), _VISION),
    **dict.fromkeys(
        ("feature-extraction", "sentence-similarity", "text-ranking", "text-classification", "token-classification",
         "zero-shot-classification", "visual-document-retrieval"), _EMBEDDING),
}  # fmt: skip
# Fragments of the names that publishers give, and the family as `formats/families.py` names it; the first decides.
_IMAGE_FAMILIES: Final = (
    ("flux", "flux"), ("sdxl", "sdxl"), ("stable-diffusion-xl", "sdxl"), ("sd_xl", "sdxl"), ("sd-xl", "sdxl"),
    ("stable-diffusion-3", "sd3"), ("sd3", "sd3"), ("qwen-image", "qwen-image"), ("z-image", "z-image"),
    ("hunyuanvideo", "hunyuan-video"), ("hunyuan-video", "hunyuan-video"), ("ltx-video", "ltx-video"),
    ("wan2", "wan"), ("wan-", "wan"), ("kolors", "kolors"), ("pixart", "pixart"), ("chroma", "chroma"),
    ("lumina", "lumina"), ("auraflow", "auraflow"), ("mochi", "mochi"), ("sana", "sana"), ("hidream", "hidream"),
    ("cogvideo", "cogvideox"), ("stable-diffusion", "stable-diffusion"), ("sd-v1", "stable-diffusion"),
)  # fmt: skip
# Word in a tag or a file's folder -> the subtype under which apps look for such a file.
_SUBTYPES: Final = (
    ("lora", "loras"), ("controlnet", "controlnet"), ("textual_inversion", "embeddings"), ("vae", "vae"),
    ("upscaler", "upscale_models"),
)  # fmt: skip


def describe(model: HubModel, choice: Choice) -> Json:
    """The part of `metadata.json` that the hub's words fill, for the files of `choice`."""
    architecture = architecture_of(model)
    kind = type_and_subtype(model, architecture, choice)
    return {
        "official_name": model.name,
        "family": family(model, kind[0], architecture),
        "model_type": str(kind[0]),
        "subtype": kind[1],
        "architecture": architecture,
        "quantization": choice.quant or "",
        "tags": tags_of(model),
        "base_model": list(model.base_model),
        "license": model.license,
        "gated": model.gated,
        "description": one_line(model.card.get("description") or model.card.get("model_summary"), 1000),
        "model_card": card_of(model),
        "release_date": model.last_modified,
        "download_url": f"{HUB}/{model.repo_id}",
        "repo_id": model.repo_id,
        "revision": model.commit,
        "pipeline_tag": model.pipeline_tag,
        "library_name": model.library_name,
        "preview_image": "",
        "inference_settings": {},
        "compatible_apps": [],
        "notes": "",
        "match_source": "hf",
        "match_method": "hash",
        "match_confidence": 1.0,
        "pending_online_lookup": False,
        "lookup_attempts": 0,
    }


def architecture_of(model: HubModel) -> str:
    """As a GGUF header or a config names it, `""` when neither was seen by the hub."""
    gguf = one_line(model.gguf.get("architecture"), 64)
    return gguf or one_line(model.config.get("model_type"), 64)


def type_and_subtype(model: HubModel, architecture: str, choice: Choice) -> tuple[ModelType, str]:
    """What kind of model this is, for the folder it goes into: a guess that the files' own content may overrule."""
    of_task = TYPE_OF_TASK.get(model.pipeline_tag)
    found = type_of(architecture) or of_task or _type_by_signs(model, architecture, choice)
    return found, _subtype(model, found, choice)


def _type_by_signs(model: HubModel, architecture: str, choice: Choice) -> ModelType:
    pipeline = any(file.path == PIPELINE_INDEX for file in choice.files)
    if pipeline or model.library_name in ("diffusers", "diffusion-single-file") or _image_family(model):
        return _DIFFUSION
    if model.library_name == "sentence-transformers":
        return _EMBEDDING
    by_language = architecture or model.library_name in ("transformers", "mlx", "vllm", "llama.cpp", "gguf")
    all_gguf = choice.weights and all(kinds.extension(file.path) == "gguf" for file in choice.weights)
    return _LLM if by_language or all_gguf else ModelType.UNKNOWN


def _subtype(model: HubModel, model_type: ModelType, choice: Choice) -> str:
    adapter = any(file.path.endswith("adapter_config.json") for file in choice.files)
    if model_type is not _DIFFUSION:
        return "loras" if adapter else ""
    words = {tag.lower() for tag in model.tags}
    named = model.name.lower()
    found = next((subtype for word, subtype in _SUBTYPES if word in words or word in named), "")
    return found or ("loras" if adapter else "checkpoints")


def family(model: HubModel | HubListing, model_type: ModelType, architecture: str) -> str:
    """`unknown` when neither the architecture nor a name tells."""
    if model_type is _DIFFUSION and (named := _image_family(model)):
        return named
    if architecture:
        return one_line(family_of(architecture), 64) or "unknown"
    return family_in_text(_names(model)) or _image_family(model) or "unknown"


def _image_family(model: HubModel | HubListing) -> str:
    names = _names(model).lower()
    return next((name for fragment, name in _IMAGE_FAMILIES if fragment in names), "")


def _names(model: HubModel | HubListing) -> str:
    """Where a family may be named: the repository, what it was made from, and tags, which often are architectures."""
    return " ".join((model.name, *model.base_model, *tags_of(model)))


def tags_of(model: HubModel | HubListing) -> list[str]:
    """The tags that say something about the model."""
    return [tag for tag in model.tags if not _FILING.fullmatch(tag)][:MAX_TAGS]


def card_of(model: HubModel) -> Json:
    """The card's data without what is long, and without its largest entries when it is still too long."""
    card = {key: value for key, value in model.card.items() if key not in _UNWANTED_IN_CARD}
    sizes = {key: len(orjson.dumps(value)) + len(key) for key, value in card.items()}
    while sizes and sum(sizes.values()) > MAX_CARD_BYTES:
        largest = max(sizes, key=lambda key: sizes[key])
        del sizes[largest], card[largest]
    return card
