"""What the hub says about one model repository at one commit, as plain values.

Everything in them was said by somebody else: texts are cut to one clean line, numbers and digests have the right form,
but file paths are still as the hub wrote them. `selection.py` decides which of them may become paths here. Neighbours:
`reading.py` makes these from the client library's answers, `cache.py` keeps them. Nothing here knows HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from pumas.errors import InvalidInput

Json = dict[str, Any]

HUB: Final = "https://huggingface.co"
DEFAULT_REVISION: Final = "main"
# Of hf-mirror.com only what an address names is taken; who is asked is decided by the settings.
_HUB_HOSTS: Final = frozenset({"huggingface.co", "www.huggingface.co", "hf.co", "www.hf.co", "hf-mirror.com"})
_OTHER_KINDS: Final = frozenset({"datasets", "spaces", "buckets", "kernels", "collections", "papers", "docs", "api"})
_FILE_PAGES: Final = frozenset({"blob", "resolve", "raw"})
# The file that the hub's page shows beside the others; its address is what one copies after a click on a quantisation.
_SHOWN_FILE: Final = "show_file_info="
# `owner/name:Q4_K_M`, as llama.cpp (`common_download_split_repo_tag`) and Ollama name a quantisation or a whole file.
_TAG: Final = re.compile(r"[\w.-]{1,200}", re.ASCII)
_NO_TAG: Final = "latest"
_PLAIN: Final = re.compile(r"[^\s/:]+")
# https://github.com/huggingface/huggingface_hub/blob/main/src/huggingface_hub/utils/_validators.py
_REPO_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
_NOT_IN_ID: Final = re.compile(r"--|\.\.|[.-](?:/|$)|/.*\.git$")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a commit. `path` is the hub's own text; `size` in bytes; `sha256` for files in large-file storage.

    `git_oid` is the git blob id: of the content for small files, of the pointer for large ones.
    """

    path: str
    size: int
    git_oid: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class HubModel:
    """One repository at one commit. `gated` is `"auto"`, `"manual"` or False; times are ISO-8601 UTC or "".

    `unusable` are paths whose entries make no sense (no size, a digest that is none). `parameters` counts weights by
    the type they are stored in, as the hub read it from safetensors headers; `gguf` is what it read from a GGUF header.
    """

    repo_id: str
    commit: str
    files: tuple[HubFile, ...]
    unusable: tuple[str, ...] = ()
    author: str = ""
    tags: tuple[str, ...] = ()
    pipeline_tag: str = ""
    library_name: str = ""
    license: str = ""
    gated: str | bool = False
    private: bool = False
    base_model: tuple[str, ...] = ()
    downloads: int | None = None
    likes: int | None = None
    last_modified: str = ""
    card: Mapping[str, Any] = field(default_factory=dict[str, Any])
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    gguf: Mapping[str, Any] = field(default_factory=dict[str, Any])
    parameters: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def name(self) -> str:
        return self.repo_id.rpartition("/")[2]

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Json) -> HubModel:
        lists = {key: tuple(value[key]) for key in ("unusable", "tags", "base_model")}
        fields: Json = {**value, **lists, "files": tuple(HubFile(**file) for file in value["files"])}
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class HubListing:
    """One repository in a search result: as `HubModel`, but the hub lists only the names of the files."""

    repo_id: str
    commit: str
    paths: tuple[str, ...]
    author: str = ""
    tags: tuple[str, ...] = ()
    pipeline_tag: str = ""
    library_name: str = ""
    license: str = ""
    gated: str | bool = False
    base_model: tuple[str, ...] = ()
    downloads: int | None = None
    likes: int | None = None
    last_modified: str = ""
    parameter_count: int | None = None

    @property
    def name(self) -> str:
        return self.repo_id.rpartition("/")[2]

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Json) -> HubListing:
        fields: Json = {**value, **{key: tuple(value[key]) for key in ("paths", "tags", "base_model")}}
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Place:
    """What an address on the hub names: a repository, and where its page is of one, a revision and a file or folder in
    it, or the quantisation behind a colon. `names` has the file, or a pattern for what is in the folder."""

    repo_id: str
    revision: str = ""
    names: tuple[str, ...] = ()
    quant: str = ""

    def revision_for(self, asked: str) -> str:
        """What a caller asks for besides has precedence; `main` is what stands there when nothing was asked for."""
        return self.revision if self.revision and asked == DEFAULT_REVISION else asked

    def names_for(self, quant: str | None, asked: Sequence[str] | None) -> tuple[str, ...]:
        """The same for the choice of files."""
        return tuple(asked or ()) if quant or asked else self.names

    def quant_for(self, quant: str | None, asked: Sequence[str] | None) -> str:
        """The same for the quantisation; files that are asked for take its place, too."""
        return quant or "" if quant or asked else self.quant


def parse_repo_id(text: str) -> str:
    """The `owner/name` in what a user gave: itself, `hf.co/owner/name`, or the address of one of its pages on the hub,
    each also with a quantisation behind a colon.

    Raises:
        InvalidInput: it names no model repository.
    """
    return parse_place(text).repo_id


def parse_place(text: str) -> Place:
    """As `parse_repo_id`, with what else an address names: `…/owner/name/blob/main/q8_0.gguf`, `owner/name:Q8_0`."""
    given = text.strip()
    is_address = "://" in given or given.lower().split("/")[0] in _HUB_HOSTS
    parts, shown = _of_address(given) if is_address else ([given], "")
    repo_id, colon, tag = "/".join(parts[:2]).partition(":")
    if colon and (not _TAG.fullmatch(tag) or parts[2:]):
        raise InvalidInput("repo_id", "must have one quantisation after its colon, as in owner/name:Q4_K_M")
    if len(repo_id) > 200 or not _REPO_ID.fullmatch(repo_id) or _NOT_IN_ID.search(repo_id):
        raise InvalidInput("repo_id", "must be written as owner/name, or as the address of a model on the hub")
    if tag.lower().endswith(".gguf"):
        return Place(repo_id, names=(tag,))
    if tag:
        return Place(repo_id, quant="" if tag.lower() == _NO_TAG else tag)
    page, revision, path = "".join(parts[2:3]), "".join(parts[3:4]), "/".join(parts[4:])
    if shown:
        return Place(repo_id, revision if page == "tree" else "", (shown,))
    if page in _FILE_PAGES:
        return Place(repo_id, revision, (path,) if path else ())
    if page == "tree":
        return Place(repo_id, revision, (f"{path}/*",) if path else ())
    return Place(repo_id)


def is_place(text: str) -> bool:
    """Whether a text is an address on the hub, or names a quantisation: no words to search for."""
    host, slash, rest = text.partition("/")
    if "://" in text or (slash and host in _HUB_HOSTS):
        return True
    name, colon, tag = rest.partition(":")
    return bool(colon and _TAG.fullmatch(tag) and _PLAIN.fullmatch(host) and _PLAIN.fullmatch(name))


def _of_address(text: str) -> tuple[list[str], str]:
    """(the parts of its path, the file that its query names)."""
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host, path = parts.hostname or "", parts.path
        shown = next((field for field in parts.query.split("&") if field.startswith(_SHOWN_FILE)), "")
    except ValueError:
        raise InvalidInput("repo_id", "is not an address") from None
    if parts.scheme == "hf":
        path = f"/{parts.netloc}{path}"
    elif parts.scheme not in ("http", "https") or host not in _HUB_HOSTS:
        raise InvalidInput("repo_id", "is an address outside of huggingface.co")
    names = [unquote(part) for part in path.split("/") if part]
    names = names[1:] if names[:1] == ["models"] else names
    if names and names[0] in _OTHER_KINDS:
        raise InvalidInput("repo_id", "is the address of something other than a model")
    return names, unquote(shown.removeprefix(_SHOWN_FILE))


def is_commit(text: str) -> bool:
    """Whether this is a full commit id, which always means the same files."""
    return _COMMIT.fullmatch(text) is not None
