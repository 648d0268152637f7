"""What an import would do: the model's type, family, name and place, the space it needs, what to warn about.

The caller's words win over what the files say, and what a library it came from said stands between the two. Making a
plan opens files and changes nothing; `importing.py` carries it out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pumas.config import Layout
from pumas.errors import InvalidInput, SeveralModels
from pumas.jobs.store import Json, now
from pumas.library.copying import Mode
from pumas.library.formats.detect import FileFormat, SecurityTier, security_tier
from pumas.library.formats.text import one_line
from pumas.library.hashing import Digests
from pumas.library.import_source import Source, SourceFile, read_source
from pumas.library.metadata import METADATA
from pumas.storage.files import free_space
from pumas.storage.json_file import JsonObject
from pumas.storage.paths import caller_path, slug

if TYPE_CHECKING:
    from pumas.library.formats.identify import Identity

_MAX_NAME = 500
_REPO_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
_NO_FAMILY = frozenset({"", "imported", "unknown"})
# What another library's metadata must not decide: these follow from the files and from where they are put.
_DECIDED_HERE = frozenset(
    {"model_id", "family", "model_type", "subtype", "official_name", "cleaned_name", "hashes", "size_bytes", "files"}
    | {"added_date", "updated_date", "security_tier", "format", "quantization", "primary_file"}
    | {"storage", "references", "adoption"}
)


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What the caller wants; empty values mean: find out.

    `security_acknowledged` accepts files that can run code when an app loads them (pickle).
    """

    path: str
    family: str = ""
    official_name: str = ""
    repo_id: str | None = None
    model_type: str = ""
    subtype: str = ""
    tags: tuple[str, ...] = ()
    security_acknowledged: bool = False
    mode: Mode = Mode.COPY
    allow_duplicate: bool = False
    dry_run: bool = False

    def mode_of(self, file: SourceFile) -> Mode:
        """How this file comes in: what a link leads to stays where it is, so it is not moved but copied."""
        return Mode.COPY if self.mode is Mode.MOVE and file.found.is_symlink() else self.mode

    def to_json(self) -> Json:
        return {**asdict(self), "tags": list(self.tags)}

    @classmethod
    def from_json(cls, value: Json) -> ImportRequest:
        fields: Json = {**value, "tags": tuple(value["tags"]), "mode": Mode(value["mode"])}
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """`model_id` is the id unless it is taken by then (`-2` is appended).

    `new_bytes` must be written at most; files that can be linked do not count. `look_alikes` are models whose primary
    file has the same size. `warnings` are sentences for a person.
    """

    request: ImportRequest
    source: Source
    identity: Identity
    model_type: str
    subtype: str
    family: str
    official_name: str
    security_tier: SecurityTier
    new_bytes: int
    free_bytes: int
    look_alikes: tuple[str, ...]
    security_findings: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def model_id(self) -> str:
        return f"{self.model_type}/{self.family}/{slug(self.official_name, 'model')}"

    @property
    def work_bytes(self) -> int:
        """What will be read: everything once, and the primary file before that when its size is known already."""
        return self.source.size + (self.source.primary.stamp.size if self.look_alikes else 0)

    def metadata(self, model_id: str, digests: dict[str, Digests]) -> JsonObject:
        """The content of `metadata.json`; digests are by file name and all of them were computed."""
        moment, primary, carried = now(), self.source.primary.name, self.source.metadata
        carried_tags: object = carried.get("tags")
        old_tags = cast(list[object], carried_tags) if isinstance(carried_tags, list) else []
        repo_id = self.request.repo_id
        return {
            "base_model": self.identity.base_model,
            "preview_image": "",
            "release_date": "",
            "download_url": f"https://huggingface.co/{repo_id}" if repo_id else "",
            "model_card": {},
            "inference_settings": {},
            "compatible_apps": [],
            "notes": "",
            "match_source": "import",
            "pending_online_lookup": not repo_id,
            "lookup_attempts": 0,
            **{key: value for key, value in carried.items() if key not in _DECIDED_HERE},
            "model_id": model_id,
            "family": self.family,
            "model_type": self.model_type,
            "subtype": self.subtype,
            "official_name": self.official_name,
            "cleaned_name": model_id.rpartition("/")[2],
            "tags": [tag for tag in dict.fromkeys(one_line(t, 200) for t in (*self.request.tags, *old_tags)) if tag],
            "hashes": {"sha256": digests[primary].sha256, "blake3": digests[primary].blake3},
            "added_date": moment,
            "updated_date": moment,
            "size_bytes": self.source.size,
            "files": [
                {
                    "name": file.name,
                    "original_name": file.original_name,
                    "size": digests[file.name].size,
                    "sha256": digests[file.name].sha256,
                    "blake3": digests[file.name].blake3,
                }
                for file in self.source.files
            ],
            "primary_file": primary,
            "format": str(self.identity.format),
            "quantization": self.identity.quantization,
            "architecture": self.identity.architecture,
            "parameters": self.identity.parameters,
            "license": self.identity.license,
            "security_tier": str(self.security_tier),
        }


def make_plan(layout: Layout, request: ImportRequest, find_by_size: Callable[[int], list[str]]) -> ImportPlan:
    """
    Raises:
        UnsafePath, FileUnavailable: the path cannot be used.
        InvalidInput: the path is the library itself, a folder around it, or a model that is in it already.
        NotAModel, SeveralModels, MalformedModelFile: see `import_source.read_source`.
    """
    from pumas.library.formats.identify import identify, identify_folder

    path = caller_path(request.path)
    refuse_own_folders(layout, path)
    if request.repo_id and not _REPO_ID.fullmatch(request.repo_id):
        raise InvalidInput("repo_id", "must be written as owner/name")
    source = read_source(path)
    telling = [file.found for file in source.telling]
    identity = identify(telling[0]) if len(telling) == 1 else identify_folder(telling)
    return plan_of(layout, request, source, identity, find_by_size)


def plan_of(
    layout: Layout,
    request: ImportRequest,
    source: Source,
    identity: Identity,
    find_by_size: Callable[[int], list[str]],
) -> ImportPlan:
    """The plan for files that were looked at already."""
    model_type = request.model_type or _text(source, "model_type") or identity.model_type
    official_name = request.official_name or _text(source, "official_name") or source.title
    return ImportPlan(
        request=request,
        source=source,
        identity=identity,
        model_type=slug(model_type, "unknown").lower(),
        subtype=one_line(request.subtype or _text(source, "subtype") or identity.subtype, 64),
        family=_family(request.family, _text(source, "family"), identity.family),
        official_name=one_line(official_name, _MAX_NAME),
        security_tier=_tier(source),
        new_bytes=_new_bytes(layout, source, request),
        free_bytes=free_space(layout.library),
        look_alikes=tuple(find_by_size(source.primary.stamp.size)),
        security_findings=tuple(_scan(source)),
        warnings=identity.notes,
    )


def candidates(layout: Layout, path: str) -> list[str]:
    """The paths to import for everything in `path`: itself when it is one model. Raises as `make_plan`."""
    folder = caller_path(path)
    refuse_own_folders(layout, folder)
    try:
        read_source(folder)
    except SeveralModels as several:
        return several.candidates
    return [path]


def refuse_own_folders(layout: Layout, path: Path) -> None:
    """Raises InvalidInput for what holds our state, and for what is a model here already.

    Files in the library that belong to no model may be imported: old flat folders, and what cut-off imports left.
    """
    real, library, uploads, data, *private = (
        Path(os.path.realpath(p))
        for p in (path, layout.library, layout.uploads, layout.data, layout.trash, layout.staging)
    )
    if uploads in real.parents:
        return  # a page handed it over for this
    if library.is_relative_to(real) or data.is_relative_to(real):
        raise InvalidInput("path", "is a folder that holds the library or the launcher; name a folder of models")
    if any(real.is_relative_to(folder) for folder in (data, *private)):
        raise InvalidInput("path", "lies in a folder that the launcher keeps for itself")
    if not real.is_relative_to(library):
        return
    below = [folder for folder in (real, *real.parents) if folder != library and folder.is_relative_to(library)]
    if any(os.path.isfile(folder / METADATA) for folder in below) and not _is_leftover(real.relative_to(library)):
        raise InvalidInput("path", "is in the library already")


def _is_leftover(relative: Path) -> bool:
    return relative.parts[0] == ".downloads" or any(part.startswith(".tmp_import_") for part in relative.parts)


def _text(source: Source, key: str) -> str:
    value = source.metadata.get(key)
    return value if isinstance(value, str) else ""


def _family(*wishes: str) -> str:
    """The first that says something, as a folder name."""
    meant = (slug(wish, "unknown").lower() for wish in wishes)
    return next((family for family in meant if family not in _NO_FAMILY), "unknown")


def _tier(source: Source) -> SecurityTier:
    """One file that can run code makes the whole model one that can."""
    tiers = {security_tier(file.format) for file in source.weights if file.format is not None}
    return next(tier for tier in (SecurityTier.PICKLE, SecurityTier.UNKNOWN, SecurityTier.SAFE) if tier in tiers)


def _scan(source: Source) -> list[str]:
    """What the scanner says about pickles: a tripwire, not a wall."""
    from pumas.library.formats.pickle_files import scan_pickle

    said: list[str] = []
    for file in source.weights:
        if file.format is not FileFormat.PICKLE:
            continue
        report = scan_pickle(os.fspath(file.found))
        said += [f"{file.original_name}: dangerous import {issue}" for issue in report.issues]
        said += [f"{file.original_name}: unknown import {name}" for name in report.unknown]
        if not report.scanned:
            said.append(f"{file.original_name}: could not be scanned to its end ({report.reason})")
    return said


def _new_bytes(layout: Layout, source: Source, request: ImportRequest) -> int:
    if request.mode is Mode.HARDLINK:
        return 0
    device = _device(layout.library)
    return sum(
        file.stamp.size for file in source.files if request.mode_of(file) is Mode.COPY or file.stamp.device != device
    )


def _device(folder: Path) -> int:
    while not os.path.exists(folder):
        folder = folder.parent
    return folder.stat().st_dev
