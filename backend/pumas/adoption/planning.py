"""What adopting one stored model would make of it: its files checked, its place and its metadata.

Opens headers to learn what the model is, and nothing more of a file. `adopting.py` carries a plan out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from pumas.adoption.found import WRITE_ONCE, StoredModel, StoreKind
from pumas.config import Layout
from pumas.errors import FileUnavailable, InvalidInput, NotAModel, PickleNotAcknowledged
from pumas.jobs.store import Json
from pumas.library.formats.detect import SecurityTier
from pumas.library.formats.identify import Identity, identify, identify_folder
from pumas.library.formats.quantization import agree
from pumas.library.formats.reader import open_regular
from pumas.library.hashing import Digests, Stamp
from pumas.library.import_plan import ImportPlan, ImportRequest, plan_of
from pumas.library.import_source import (
    MUST_BE_MODELS,
    Skipped,
    Source,
    SourceFile,
    require_downloaded,
    target_name,
    weights_format,
)
from pumas.library.references import Reference, Storage, mount_of
from pumas.storage.json_file import JsonObject
from pumas.storage.paths import display_name


class AdoptMode(StrEnum):
    """How the caller wants bytes to be shared. `auto`: the first of the others that is possible."""

    AUTO = "auto"
    REFLINK = "reflink"
    HARDLINK = "hardlink"
    REFERENCE = "reference"

    @property
    def storages(self) -> tuple[Storage, ...]:
        return (Storage.REFLINK, Storage.HARDLINK, Storage.REFERENCE) if self is AdoptMode.AUTO else (Storage(self),)


@dataclass(frozen=True, slots=True)
class AdoptRequest:
    """Which stored model (`kind`, `store`, `name`, `revision` as a scan shows them) and how; "" means: find out."""

    kind: StoreKind
    store: str
    name: str
    revision: str | None = None
    mode: AdoptMode = AdoptMode.AUTO
    official_name: str = ""
    family: str = ""
    model_type: str = ""
    subtype: str = ""
    tags: tuple[str, ...] = ()
    security_acknowledged: bool = False
    allow_duplicate: bool = False
    dry_run: bool = False

    def to_json(self) -> Json:
        return {**asdict(self), "tags": list(self.tags)}

    @classmethod
    def from_json(cls, value: Json) -> AdoptRequest:
        fields: Json = {
            **value,
            "kind": StoreKind(value["kind"]),
            "mode": AdoptMode(value["mode"]),
            "tags": tuple(value["tags"]),
        }
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class AdoptionPlan:
    """`plan` is what an import of the same files would be."""

    model: StoredModel
    plan: ImportPlan

    @property
    def files(self) -> tuple[SourceFile, ...]:
        return self.plan.source.files

    def warnings(self, storage: Storage, wanted: AdoptMode) -> list[str]:
        """What a person should know about sharing bytes in this way."""
        owner = self.model.kind.replace("_", " ")
        said = list(self.plan.warnings)
        if storage is Storage.HARDLINK and self.model.kind not in WRITE_ONCE:
            said.append(f"The files are one with those in the {owner} folder: who writes into them changes this model.")
        if storage is Storage.REFERENCE:
            said.append(f"The files stay in the {owner} store: the model is missing once they are removed there.")
            if wanted is AdoptMode.AUTO:
                said.append("They cannot be linked into the library, which is on another volume or may not link them.")
        return said

    def metadata(self, model_id: str, adoption_id: str, storage: Storage) -> JsonObject:
        """The content of `metadata.json`. No digest is in it that we did not compute; what the store claims is marked
        as claimed."""
        unknown = {file.name: Digests("", "", file.stamp.size) for file in self.files}
        value = self.plan.metadata(model_id, unknown)
        claims = {file.shown: file.claimed_sha256 for file in self.model.files}
        value["files"] = [
            {"name": file.name, "original_name": file.original_name, "size": file.stamp.size}
            | _claim(claims[str(file.found)])
            for file in self.files
        ]
        value["storage"] = str(storage)
        value["adoption"] = {
            "id": adoption_id,
            "kind": str(self.model.kind),
            "store": self.model.store,
            "name": self.model.name,
            "revision": self.model.revision,
            "files": [
                {"name": f.name, "path": str(f.path), "size": f.stamp.size, "mtime_ns": f.stamp.mtime_ns}
                for f in self.files
            ],
        }
        if storage is Storage.REFERENCE:
            value["references"] = [self._reference(file).to_json() for file in self.files]
        return value

    def _reference(self, file: SourceFile) -> Reference:
        mount = mount_of(file.path)
        return Reference(file.name, str(file.path), file.stamp.size, file.stamp.mtime_ns, self.model.store, mount)


def _claim(sha256: str) -> JsonObject:
    return {"claimed_sha256": sha256, "digest_state": "claimed"} if sha256 else {}


def make_plan(
    layout: Layout, model: StoredModel, request: AdoptRequest, find_by_size: Callable[[int], list[str]]
) -> AdoptionPlan:
    """
    Raises:
        FileUnavailable: a file is gone, is no regular file, cannot be read, or is not what the scan saw.
        InvalidInput: the files are in the library already.
        NotAModel, MalformedModelFile: it is not whole, or a file is not what its name says.
        PickleNotAcknowledged: a file can run code when an app loads it.
    """
    if model.problem:
        raise NotAModel(f"{model.name} is not whole: {model.problem}; nothing was adopted.")
    source = _source(layout, model)
    plan = plan_of(
        layout,
        ImportRequest(
            path=model.name,
            family=request.family or model.family,
            official_name=request.official_name or model.title,
            repo_id=model.repo_id,
            model_type=request.model_type or _known_type(model),
            subtype=request.subtype or model.subtype,
            tags=request.tags,
        ),
        source,
        _identity(model, source),
        find_by_size,
    )
    if plan.security_tier is SecurityTier.PICKLE and not request.security_acknowledged:
        raise PickleNotAcknowledged(
            f"{plan.official_name} can run code when an app loads it (pickle); "
            "pass security_acknowledged to adopt it all the same."
        )
    return AdoptionPlan(model, plan)


def _known_type(model: StoredModel) -> str:
    return "" if model.model_type == "unknown" else model.model_type


def _source(layout: Layout, model: StoredModel) -> Source:
    library = os.path.realpath(layout.library)
    weights = {file.name for file in model.weights}
    files: list[SourceFile] = []
    skipped: list[Skipped] = []
    for file in model.files:
        path = Path(file.path)
        if path.is_relative_to(library):
            raise InvalidInput("item", f"{display_name(file.name)} is in the library already")
        stamp = Stamp(file.device, file.inode, file.size, file.mtime_ns)
        with open_regular(path) as opened:
            if Stamp.of(os.fstat(opened.fd)) != stamp:
                raise FileUnavailable(display_name(file.name), "was changed since its store was read; try again")
        require_downloaded(Path(file.shown), file.name)
        file_format = weights_format(path) if file.name in weights else None
        if file_format is None and Path(file.name).suffix.lower() in MUST_BE_MODELS:
            raise NotAModel(f"{display_name(file.name)} is not a model file that we know; nothing was adopted.")
        name = target_name(file.name, file_format)
        if any(name.casefold() == other.name.casefold() for other in files):
            skipped.append(Skipped(display_name(file.name), "another file has the same name once it is cleaned"))
            continue
        files.append(SourceFile(Path(file.shown), path, name, display_name(file.name), stamp, file_format))
    if not any(file.format for file in files):
        raise NotAModel(f"{model.name} holds no model file that we know; nothing was adopted.")
    return Source(Path(model.store), model.title, tuple(files), tuple(skipped))


def _identity(model: StoredModel, source: Source) -> Identity:
    """By the files' content; a name is asked where a blob's own says nothing."""
    if len(source.telling) > 1 and model.kind is not StoreKind.OLLAMA:
        return identify_folder([file.found for file in source.telling])
    identity = identify(source.primary.found)
    named = model.quantization
    if named and (not identity.quantization or agree(named, identity.quantization)):
        return replace(identity, quantization=named)
    return identity
