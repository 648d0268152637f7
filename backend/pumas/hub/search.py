"""What a search shows: results made from the hub's listing, and which of them belong to a model that we hold.

A listing names files but not their sizes, so sizes are `None` until the repository itself was looked at; nothing is
estimated. The keys are those that desktop shells read (camelCase). Nothing here asks anybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from pumas.errors import InvalidInput
from pumas.hub.model import HUB, HubListing, Json, is_place, parse_repo_id
from pumas.hub.selection import Contents, DownloadOption
from pumas.library.entry import repo_id

MAX_QUERY: Final = 200
MAX_LIMIT: Final = 100

# Names of older sidecars -> the hub's tasks (https://huggingface.co/tasks).
_TASKS: Final = {
    "llm": "text-generation",
    "diffusion": "text-to-image",
    "audio": "automatic-speech-recognition",
    "vision": "image-classification",
    "embedding": "feature-extraction",
}
_TASK: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
# A word in a tag -> the task it stands for, where the hub names none; then any tag with one of the last words.
_KINDS: Final = (
    ("text-to-image", "text-to-image"), ("image-to-image", "image-to-image"), ("text-to-video", "text-to-video"),
    ("text-to-audio", "text-to-audio"), ("tts", "text-to-audio"), ("audio-to-text", "audio-to-text"),
    ("asr", "audio-to-text"), ("speech-recognition", "audio-to-text"), ("text-to-3d", "text-to-3d"),
    ("image-to-3d", "image-to-3d"),
)  # fmt: skip
_KIND_WORDS: Final = ("video", "audio", "image", "text", "3d")
_FORMAT_TAGS: Final = frozenset({"safetensors", "gguf", "onnx", "tflite"})
_NO_FAMILY: Final = frozenset({"", "unknown", "imported"})


def words_of(query: str) -> str:
    """The text to search for. The address of a repository becomes its name. Raises InvalidInput when it is too long."""
    text = " ".join(query.split())
    if len(text) > MAX_QUERY:
        raise InvalidInput("query", f"must have at most {MAX_QUERY} characters")
    return parse_repo_id(text) if is_place(text) else text


def task_of(kind: str | None) -> str:
    """The hub's name of a task, `""` for none. Raises InvalidInput."""
    text = (kind or "").strip().lower().replace("_", "-")
    text = _TASKS.get(text, text)
    if text and (len(text) > 64 or not _TASK.fullmatch(text)):
        raise InvalidInput("kind", "must be a task such as text-generation")
    return text


def result(listing: HubListing) -> Json:
    """One search result, without sizes."""
    contents = Contents(listing.paths, listing.repo_id)
    return {
        "repoId": listing.repo_id,
        "name": listing.name,
        "developer": listing.author,
        "kind": listing.pipeline_tag or _kind_by_tags(listing.tags),
        "formats": contents.formats if listing.paths else sorted(_FORMAT_TAGS & set(listing.tags)),
        "quants": contents.quants,
        "url": f"{HUB}/{listing.repo_id}",
        "releaseDate": listing.last_modified,
        "downloads": listing.downloads,
        "totalSizeBytes": None,
        "quantSizes": {},
        "downloadOptions": [{"quant": quant, "sizeBytes": None} for quant in contents.quants],
        "likes": listing.likes,
        "license": listing.license,
        "gated": bool(listing.gated),
        "baseModel": list(listing.base_model),
        "parameters": listing.parameter_count,
        "commit": listing.commit,
    }


def sizes_of(options: Iterable[DownloadOption]) -> dict[str, int]:
    """Bytes per quantisation, and under `""` those of everything that a download without one takes."""
    return {option.quant or "": option.size_bytes for option in options if option.kind in ("quant", "all")}


def with_sizes(found: Sequence[Json], known: Mapping[tuple[str, str], Mapping[str, int]]) -> list[Json]:
    """The results, with sizes where the repository was looked at in the same state."""
    return [_sized(one, known.get((one["repoId"], one["commit"]))) for one in found]


def _sized(one: Json, sizes: Mapping[str, int] | None) -> Json:
    if sizes is None:
        return one
    of_quants = {quant: sizes[quant] for quant in one["quants"] if quant in sizes}
    choices = [{"quant": quant, "sizeBytes": of_quants.get(quant)} for quant in one["quants"]]
    return {**one, "totalSizeBytes": sizes.get(""), "quantSizes": of_quants, "downloadOptions": choices}


def _kind_by_tags(tags: Iterable[str]) -> str:
    lowered = [tag.lower() for tag in tags if ":" not in tag]
    for word, kind in _KINDS:
        if any(re.search(rf"(?:^|[^a-z]){word}(?:$|[^a-z0-9])", tag) for tag in lowered):
            return kind
    return next((tag for tag in lowered if any(word in tag for word in _KIND_WORDS)), "unknown")


# -- related models ----------------------------------------------------------------------------------------------------


def family_token(metadata: Mapping[str, Any]) -> str:
    """The family as it may stand in a repository's name; `""` when it is not known."""
    family = metadata.get("family")
    text = family.strip().lower() if isinstance(family, str) else ""
    return "" if text in _NO_FAMILY else _plain(text)


def own_repo(metadata: Mapping[str, Any]) -> str:
    """`owner/name` of where the model came from, `""` when nothing says."""
    return repo_id(metadata.get("repo_id")) or repo_id(metadata.get("download_url")) or ""


def base_repo(metadata: Mapping[str, Any]) -> str:
    """`owner/name` of what the model was made from, else of where it came from; `""` when nothing says."""
    card = metadata.get("model_card")
    said = cast(Json, card).get("base_model") if isinstance(card, dict) else None
    return repo_id(metadata.get("base_model")) or repo_id(said) or own_repo(metadata)


def related(listings: Iterable[HubListing], owner: str, token: str, own: str) -> list[HubListing]:
    """Repositories of this owner whose name holds the family, without the model's own."""
    return [
        listing
        for listing in listings
        if listing.repo_id.partition("/")[0].lower() == owner.lower()
        and token in _plain(listing.repo_id)
        and listing.repo_id.lower() != own.lower()
    ]


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", text.lower())
