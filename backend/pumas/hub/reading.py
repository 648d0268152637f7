"""Makes our values out of the client library's answers, believing nothing: any field may be missing or of any type.

A field that is not what it should be counts as missing; only a reply without a name or a commit is refused. Neighbours:
`client.py` asks, `model.py` holds the values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from pumas.errors import InvalidInput
from pumas.hub.model import HubFile, HubListing, HubModel, Json, is_commit, parse_repo_id
from pumas.library.formats.text import MAX_INT64, one_line
from pumas.library.moments import utc_moment, utc_text

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

MAX_TAGS: Final = 500
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_BASE_MODEL: Final = "base_model:"
_RELATIONS: Final = ("adapter", "finetune", "merge", "quantized")
# What the library, and a reader, fails with at a value of the wrong type.
ODD: Final = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
_MAX_NODES: Final = 5_000
_MAX_DEPTH: Final = 12


# Names of the library -> keys of the hub.
_AS_SENT: Final = {"card_data": "cardData", "last_modified": "lastModified", "safetensors": "safetensors"}


class Unreadable(ValueError):
    """The answer cannot be one about a model; the message says why."""


def tolerant(kind: type[ModelInfo]) -> type[ModelInfo]:
    """`huggingface_hub.ModelInfo`, for which one field that it cannot read is missing, not a failure of all.

    What the library's own reading fails at, or loses, when it is a little odd is left as the hub sent it.
    """
    if getattr(kind, "is_tolerant", False):
        return kind

    describe = cast(Any, kind).__init__

    class Described(kind):
        is_tolerant = True

        def __init__(self, /, **given: Any) -> None:
            as_sent = {name: given.pop(key, None) for name, key in _AS_SENT.items()}
            try:
                describe(self, **given)
            except ODD:
                describe(self, **_readable(kind, given))
            self.__dict__.update(as_sent)

    return Described


def _readable(kind: type[ModelInfo], given: Json) -> Json:
    def reads(name: str, value: Any) -> bool:
        try:
            kind(**{"id": "", name: value})
        except ODD:
            return False
        return True

    siblings = [_whole(cast(Json, one)) for one in _list(given.get("siblings")) if isinstance(one, dict)]
    fields = {"id": None, **given, "siblings": siblings}
    return {name: value for name, value in fields.items() if reads(name, value)}


def _whole(sibling: Json) -> Json:
    """With every key that the library looks for."""
    lfs = sibling.get("lfs")
    pointer = {"size": None, "sha256": None, "pointerSize": None, **_object(lfs)} if lfs else None
    return {"rfilename": None, **sibling, "lfs": pointer}


def entries(page: Any) -> Iterator[Json]:
    """Of one page of a listing. Raises `Unreadable` when it is none.

    What is no object is given as an empty one, which no reader takes: were it left out here, the library would ask for
    a further page to have as many as it wants.
    """
    if not isinstance(page, list):
        raise Unreadable("no description of a model")
    for entry in cast(list[Any], page):
        yield _object(entry)


def read_model(info: Any) -> HubModel:
    """From a `tolerant` `ModelInfo` with files' metadata. Raises `Unreadable`."""
    files: list[HubFile] = []
    unusable: list[str] = []
    for sibling in _list(getattr(info, "siblings", None)):
        file = _file(sibling)
        if isinstance(file, HubFile):
            files.append(file)
        else:
            unusable.append(file)
    card = _card(info)
    return HubModel(
        **_common(info, card),
        files=tuple(files),
        unusable=tuple(unusable),
        private=getattr(info, "private", None) is True,
        card=card,
        config=_plain_object(getattr(info, "config", None)),
        gguf=_plain_object(getattr(info, "gguf", None)),
        parameters=_parameters(info),
    )


def read_listing(info: Any) -> HubListing:
    """From an element of `HfApi.list_models`. Raises `Unreadable`."""
    paths = (getattr(sibling, "rfilename", None) for sibling in _list(getattr(info, "siblings", None)))
    total = sum(_parameters(info).values()) or _count(_plain_object(getattr(info, "gguf", None)).get("total"))
    return HubListing(
        **_common(info, _card(info)),
        paths=tuple(path for path in paths if isinstance(path, str) and is_text(path)),
        parameter_count=total or None,
    )


def _common(info: Any, card: Json) -> Json:
    repo_id, commit = getattr(info, "id", None), getattr(info, "sha", None)
    tags = _texts(getattr(info, "tags", None))
    try:
        repo_id = parse_repo_id(repo_id if isinstance(repo_id, str) else "")
    except InvalidInput:
        raise Unreadable("a repository without a usable name") from None
    if not isinstance(commit, str) or not is_commit(commit):
        raise Unreadable(f"no commit for {repo_id}")
    gated = getattr(info, "gated", None)
    return {
        "repo_id": repo_id,
        "commit": commit,
        "author": one_line(getattr(info, "author", None)) or repo_id.partition("/")[0],
        "tags": tags,
        "pipeline_tag": one_line(getattr(info, "pipeline_tag", None), 64),
        "library_name": one_line(getattr(info, "library_name", None), 64),
        "license": _license(card, tags),
        "gated": gated if gated in ("auto", "manual") else bool(gated),
        "base_model": _base_models(card, tags),
        "downloads": _count(getattr(info, "downloads", None)),
        "likes": _count(getattr(info, "likes", None)),
        "last_modified": _time(getattr(info, "last_modified", None)),
    }


def _file(sibling: Any) -> HubFile | str:
    """The file, or its path when its entry makes no sense. A digest is looked at before it is used for anything."""
    path, oid, lfs = (getattr(sibling, key, None) for key in ("rfilename", "blob_id", "lfs"))
    size = _count(getattr(sibling, "size", None))
    sha256 = getattr(lfs, "sha256", None) if lfs is not None else None
    if not isinstance(path, str):
        return ""
    if not is_text(path):
        return path.encode("utf-8", "backslashreplace").decode()
    good_digest = lfs is None or (isinstance(sha256, str) and _SHA256.fullmatch(sha256) is not None)
    if size is None or not isinstance(oid, str) or not is_commit(oid) or not good_digest:
        return path
    return HubFile(path, size, oid, sha256)


def is_text(value: str) -> bool:
    """Whether it can be encoded: JSON may hold halves of characters, which no file system and no client takes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _card(info: Any) -> Json:
    card = _plain_object(getattr(info, "card_data", None))
    return {key: value for key, value in card.items() if value is not None and key != "model-index"}


def _license(card: Json, tags: Iterable[str]) -> str:
    said = card.get("license")
    named = one_line(card.get("license_name"), 100) if said == "other" else ""
    listed = ", ".join(_texts(said)) if isinstance(said, list) else one_line(said, 100)
    return named or listed or next((tag.removeprefix("license:") for tag in tags if tag.startswith("license:")), "")


def _base_models(card: Json, tags: Iterable[str]) -> tuple[str, ...]:
    said = card.get("base_model")
    texts = _texts(said if isinstance(said, list) else [said])
    if not texts:
        texts = tuple(tag.removeprefix(_BASE_MODEL) for tag in tags if tag.startswith(_BASE_MODEL))
        texts = tuple(text for text in texts if text.partition(":")[0] not in _RELATIONS)
    return tuple(dict.fromkeys(texts))[:20]


def _parameters(info: Any) -> dict[str, int]:
    said = _object(_object(getattr(info, "safetensors", None)).get("parameters"))
    counted = {one_line(key, 32): _count(value) for key, value in list(said.items())[:100]}
    return {key: count for key, count in counted.items() if key and count}


def _texts(value: Any) -> tuple[str, ...]:
    texts = (one_line(item, 200) for item in _list(value)[:MAX_TAGS])
    return tuple(text for text in texts if text)


def _list(value: Any) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else []


def _object(value: Any) -> Json:
    return cast(Json, value) if isinstance(value, dict) else {}


def _count(value: Any) -> int | None:
    usable = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_INT64
    return value if usable else None


def _time(value: Any) -> str:
    found = utc_moment(value)
    return "" if found is None else utc_text(found)


def _plain_object(value: Any) -> Json:
    """A copy in plain JSON values with bounded depth, number and length; `{}` for anything but an object."""
    room = [_MAX_NODES]
    copied = _plain(_object(value), room, _MAX_DEPTH)
    return cast(Json, copied)


def _plain(value: Any, room: list[int], depth: int) -> Any:
    room[0] -= 1
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) <= MAX_INT64 else str(value)[:100]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, str):
        return value[:10_000].encode("utf-8", "replace").decode()
    if depth and isinstance(value, dict):
        pairs = cast(Json, value).items()
        return {str(key)[:200]: _plain(item, room, depth - 1) for key, item in pairs if room[0] > 0}
    if depth and isinstance(value, list):
        return [_plain(item, room, depth - 1) for item in cast(list[Any], value) if room[0] > 0]
    return None
