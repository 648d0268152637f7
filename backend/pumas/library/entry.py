"""What one model folder gives the index: a row made from its `metadata.json`, or from its files when it has none.

Both older sidecars' metadata is taken as it is (nulls, `base_model` as text or list, four forms of time stamps). The
folder's path below the library is the model's identity; `model_id` in the file is not. A value of a wrong type makes
the file damaged; a value that is too long is cut. Nothing here reads a disk or knows SQL.
"""

from __future__ import annotations

import datetime
import functools
import math
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, cast

import orjson

from pumas.library.formats.quantization import detect_quantization
from pumas.library.formats.shards import is_projector
from pumas.library.moments import parsed, utc_text
from pumas.library.words import facet, further, humps, same, size_band, words

JsonObject = dict[str, Any]

MAX_TEXT = 512
MAX_DESCRIPTION = 4000
MAX_TAG = 100
MAX_TAGS = 256
MAX_FILES = 10_000
MAX_METADATA_BYTES = 64 * 1024
MAX_INT64 = 2**63 - 1

# What an app can load, and whether loading it may run code from it.
MODEL_EXTENSIONS: Final = {
    "gguf": "safe",
    "safetensors": "safe",
    "onnx": "safe",
    "ggml": "safe",
    "ckpt": "pickle",
    "pt": "pickle",
    "pth": "pickle",
    "bin": "pickle",
}
_TIERS: Final = frozenset(("safe", "pickle", "unknown"))
_STORAGES: Final = frozenset(("owned", "hardlink", "reflink", "reference"))
_NO_FAMILY: Final = frozenset(("", "unknown", "imported"))

_TEXT = (str,)
_EXPECTED: Final[tuple[tuple[str, tuple[type, ...]], ...]] = (
    ("model_type", _TEXT),
    ("subtype", _TEXT),
    ("family", _TEXT),
    ("official_name", _TEXT),
    ("cleaned_name", _TEXT),
    ("description", _TEXT),
    ("download_url", _TEXT),
    ("added_date", _TEXT),
    ("updated_date", _TEXT),
    ("tags", (list, str)),
    ("base_model", (str, list, dict)),
    ("hashes", (dict,)),
    ("files", (list,)),
    ("model_card", (dict,)),
    ("size_bytes", (int, float)),
)

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_HUB_URL = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?!datasets/|spaces/)([^/?#\s]+/[^/?#\s]+)")
_ODD = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")
_REPO_KEYS: Final = ("repo_id", "repoId", "model_id", "modelId", "id", "name", "model")


class DamagedMetadata(ValueError):
    """The file is JSON but cannot be what it should be; the message names the field, never its content."""


class IndexEntry(NamedTuple):
    """One row of the table `models`, in the order of its columns."""

    id: str
    path: str
    cleaned_name: str
    official_name: str
    model_type: str
    tags_json: str
    hashes_json: str
    metadata_json: str
    updated_at: str
    subtype: str
    family: str
    tags: str
    description: str
    kinds: str
    facets: str
    other_names: str
    name_key: str
    added_date: str | None
    last_used: str | None
    size_bytes: int | None
    primary_file: str
    primary_size: int | None
    sha256: str
    repo_id: str
    security_tier: str
    related_available: int
    pending_lookup: int
    derived: int
    storage: str
    state: str


class FoundFile(NamedTuple):
    """A file of a model folder: name relative to it, size in bytes."""

    name: str
    size: int


def from_metadata(model_id: str, metadata: JsonObject) -> IndexEntry:
    """Make the row of a model from its metadata.

    Raises:
        DamagedMetadata: a field has a type that no sidecar ever wrote.
    """
    for field, types in _EXPECTED:
        value = metadata.get(field)
        # The exact type, as JSON gives it: true and false are no numbers.
        if value is not None and type(value) not in types:
            raise DamagedMetadata(f"{field} has a wrong type")
    files = _files(metadata.get("files"))
    encoded = orjson.dumps(metadata)
    size = _integer(metadata.get("size_bytes"))
    if size is None and files:
        size = min(sum(file.size for file in files), MAX_INT64)
    downloaded_from = repo_id(metadata.get("download_url"))
    description = metadata.get("description") or _card(metadata).get("description")
    return _entry(
        model_id,
        model_type=_text(metadata.get("model_type")),
        subtype=_text(metadata.get("subtype")),
        family=_text(metadata.get("family")),
        official_name=_text(metadata.get("official_name")),
        cleaned_name=_text(metadata.get("cleaned_name")),
        description=_text(description, MAX_DESCRIPTION),
        tags=_tags(metadata.get("tags")),
        hashes=metadata.get("hashes") or {},
        metadata_json=encoded.decode() if len(encoded) <= MAX_METADATA_BYTES else "{}",
        added_date=timestamp(metadata.get("added_date")),
        updated_date=timestamp(metadata.get("updated_date")),
        last_used=timestamp(metadata.get("last_used")),
        size=size,
        files=files,
        repo_id=repo_id(metadata.get("repo_id")) or downloaded_from or "",
        base_repo=_has_base_repo(metadata, downloaded_from),
        security_tier=metadata.get("security_tier"),
        pending=metadata.get("pending_online_lookup") is True and metadata.get("match_source") != "manual",
        quantization=_text(metadata.get("quantization")),
        storage=metadata.get("storage"),
    )


def from_files(
    model_id: str, files: Sequence[FoundFile], modified: float, identity: tuple[str, str, str] = ("", "", "")
) -> IndexEntry:
    """Make the row of a folder that holds model files but no metadata.

    Args:
        modified: when the folder changed last, seconds since 1970.
        identity: type, subtype and family as the files' content tells them, `""` where it does not; the path decides
            where the content is silent.
    """
    moment = _utc_text(modified)
    model_type, subtype, family = identity
    return _entry(
        model_id,
        model_type=_text(model_type),
        subtype=_text(subtype),
        family=_text(family),
        official_name="",
        cleaned_name="",
        description="",
        tags=[],
        hashes={},
        metadata_json="{}",
        added_date=moment,
        updated_date=moment,
        last_used=None,
        size=min(sum(file.size for file in files), MAX_INT64),
        files=files,
        repo_id="",
        base_repo=False,
        security_tier=None,
        pending=False,
        derived=True,
    )


def _entry(
    model_id: str,
    *,
    model_type: str,
    subtype: str,
    family: str,
    official_name: str,
    cleaned_name: str,
    description: str,
    tags: list[Tag],
    hashes: JsonObject,
    metadata_json: str,
    added_date: str | None,
    updated_date: str | None,
    last_used: str | None,
    size: int | None,
    files: Sequence[FoundFile],
    repo_id: str,
    base_repo: bool,
    security_tier: object,
    pending: bool,
    quantization: str = "",
    derived: bool = False,
    storage: object = None,
) -> IndexEntry:
    parts = model_id.split("/")
    model_type = model_type or (parts[0] if len(parts) > 1 else "unknown")
    family = family or (parts[1] if len(parts) > 2 else "")
    cleaned_name = cleaned_name or parts[-1][:MAX_TEXT]
    official_name = official_name or cleaned_name
    primary = primary_file(files)
    formats = sorted({extension(file.name) for file in files} & MODEL_EXTENSIONS.keys())
    tier = security_tier if isinstance(security_tier, str) and security_tier in _TIERS else None
    quantization = _told_quantization(quantization) or (detect_quantization(primary.name) if primary else "")
    properties = (
        ("type", model_type),
        ("subtype", subtype),
        ("family", same(family)),
        ("size", "" if size is None else size_band(size)),
        *(("format", name) for name in formats),
        ("quant", quantization),
    )
    facets = [facet(kind, value) for kind, value in properties if value]
    facets += [tag.facet for tag in tags]
    official_words = words(official_name)
    # Its last part is nearly always the name, and those above it are seen again and again.
    named = [] if parts[-1] == cleaned_name else words(parts[-1])
    named = [*words(cleaned_name), *chain.from_iterable(map(_few_words, parts[:-1])), *named]
    described = [*official_words, *_few_words(model_type), *_few_words(family)]
    besides = [*further([*described, *named]), *humps(f"{official_name} {cleaned_name}")]
    other_words = [*named, *besides]
    # Words that are not ASCII are in `besides` for a reason, and only there.
    in_columns = {word for word in described if word.isascii()} if besides else {*described}
    tag_texts = [tag.text for tag in tags]
    return IndexEntry(
        id=model_id,
        path=model_id,
        cleaned_name=cleaned_name,
        official_name=official_name,
        model_type=model_type,
        tags_json=orjson.dumps(tag_texts).decode(),
        hashes_json=orjson.dumps({name: _text(hashes.get(name)) for name in ("sha256", "blake3")}).decode(),
        metadata_json=metadata_json,
        updated_at=updated_date or added_date or "",
        subtype=subtype,
        family=family,
        tags=" ".join([*tag_texts, *chain.from_iterable(tag.besides for tag in tags)]),
        description=description,
        kinds=" ".join([subtype, *formats, quantization]).rstrip(),
        facets=" ".join(facets),
        other_names=" ".join(w for w in dict.fromkeys(other_words) if w not in in_columns),
        name_key=" ".join(official_words),
        added_date=added_date,
        last_used=last_used,
        size_bytes=size,
        primary_file=primary.name if primary else "",
        primary_size=primary.size if primary else None,
        sha256=_digest(hashes.get("sha256")),
        repo_id=repo_id,
        security_tier=tier or (MODEL_EXTENSIONS[extension(primary.name)] if primary else "unknown"),
        related_available=int(base_repo and family.lower() not in _NO_FAMILY),
        pending_lookup=int(pending),
        derived=int(derived),
        storage=storage if isinstance(storage, str) and storage in _STORAGES else "owned",
        state="ok",
    )


@functools.lru_cache(maxsize=256)
def _few_words(text: str) -> tuple[str, ...]:
    """`words` of types and families, of which a library has few."""
    return tuple(words(text))


@functools.lru_cache(maxsize=256)
def _told_quantization(text: str) -> str:
    """As the tables spell it; there are few."""
    return detect_quantization(text)


def extension(name: str) -> str:
    return name.rpartition(".")[2].lower()


def is_model_file(name: str) -> bool:
    return name.rpartition(".")[2].lower() in MODEL_EXTENSIONS and not name.startswith(".")


def primary_file(files: Iterable[FoundFile]) -> FoundFile | None:
    """The largest file that an app could load, projectors last; of equal ones the first by name."""
    candidates = [file for file in files if extension(file.name) in MODEL_EXTENSIONS]
    if not candidates:
        return None
    return min(candidates, key=lambda file: (is_projector(file.name), -file.size, file.name))


def formats_and_quantizations(kinds: str) -> tuple[list[str], list[str]]:
    """What the column `kinds` says after the subtype; quantisations in capitals, as they are usually written."""
    found = kinds.split()
    formats = [word for word in found if word in MODEL_EXTENSIONS]
    return formats, [word.upper() for word in found[found.index(formats[-1]) + 1 :]] if formats else []


# -- values of one field ---------------------------------------------------------------------------------------------


def _text(value: object, limit: int = MAX_TEXT) -> str:
    """One clean line: well-formed, no control or direction characters, at most `limit` characters; "" if not text."""
    if not isinstance(value, str):
        return ""
    if value.isprintable() and len(value) <= limit:
        return value.strip()
    kept = value[: 4 * limit].encode("utf-8", "replace").decode()
    return _ODD.sub(" ", kept).strip()[:limit].rstrip()


class Tag(NamedTuple):
    """`besides` are words that lead to it, too."""

    text: str
    facet: str
    besides: list[str]


# Tags repeat over a library, and each costs a digest.
@functools.lru_cache(maxsize=16384)
def _tag(text: str) -> Tag:
    clean = _text(text, MAX_TAG)
    return Tag(clean, facet("tag", same(clean)), [*further(words(clean)), *humps(clean)])


def _tags(value: object) -> list[Tag]:
    items = cast(list[object], [value] if isinstance(value, str) else value or [])
    tags = [_tag(item[: 4 * MAX_TAG]) for item in items[:MAX_TAGS] if isinstance(item, str)]
    # One of each, without regard to case: the facet is the same for both spellings.
    return list({tag.facet: tag for tag in reversed(tags) if tag.text}.values())[::-1]


def _integer(value: object) -> int | None:
    """A count that fits 64 bit; None for anything that is no such number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return int(value) if 0 <= value <= MAX_INT64 else None


def _digest(value: object) -> str:
    return value.lower() if isinstance(value, str) and _SHA256.fullmatch(value) else ""


def _files(value: object) -> list[FoundFile]:
    found: list[FoundFile] = []
    for item in cast(list[object], value or [])[:MAX_FILES]:
        if isinstance(item, dict):
            fields = cast(JsonObject, item)
            name = _text(fields.get("name"), 1024)
            if name:
                found.append(FoundFile(name, _integer(fields.get("size")) or 0))
    return found


def timestamp(value: object) -> str | None:
    """Any of the four forms (naive with "Z", with offset, naive local) as UTC with microseconds and "Z"; else None."""
    return _parse_time(value) if isinstance(value, str) and len(value) <= 40 else None


@functools.lru_cache(maxsize=1024)
def _parse_time(text: str) -> str | None:
    found = parsed(text.strip())
    if found is None or (len(text) == 27 and text[-1] == "Z" and text[10] == "T"):
        return found and text
    try:
        # A naive time is local: so it is taken for that here.
        return utc_text(found)
    except (ValueError, OverflowError, OSError):
        return None


def _utc_text(seconds: float) -> str | None:
    try:
        return utc_text(datetime.datetime.fromtimestamp(seconds, datetime.UTC))
    except (ValueError, OverflowError, OSError):
        return None


def repo_id(value: object) -> str | None:
    """`owner/name` from a repository id, a hub URL, a list of such, or an object that names one."""
    if not value:
        return None
    if isinstance(value, str):
        # A bound before the patterns: a real address is short.
        text = value[:300].strip()
        match = _HUB_URL.match(text)
        text = match.group(1) if match else text
        return text if _REPO_ID.fullmatch(text) else None
    if isinstance(value, list):
        return next((found for item in cast(list[object], value)[:16] if (found := _repo_id_of(item))), None)
    return _repo_id_of(value)


def _repo_id_of(value: object) -> str | None:
    if isinstance(value, dict):
        fields = cast(JsonObject, value)
        return next((found for key in _REPO_KEYS if (found := _repo_id_of(fields.get(key)))), None)
    return repo_id(value) if isinstance(value, str) else None


def _has_base_repo(metadata: JsonObject, downloaded_from: str | None) -> bool:
    return bool(downloaded_from or repo_id(metadata.get("base_model")) or repo_id(_card(metadata).get("base_model")))


def _card(metadata: JsonObject) -> JsonObject:
    return metadata.get("model_card") or {}
