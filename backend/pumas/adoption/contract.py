"""Wire models of the adoption methods. Sizes are bytes, times ISO-8601 UTC."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pumas.library.contract import STATE, ModelIdText, State, Tags
from pumas.rpc.models import Name, Params, PathText, Result, Text

Kind = Literal["huggingface", "ollama", "lm_studio", "comfyui", "webui", "pumas", "folder"]
Mode = Literal["hardlink", "reflink", "reference"]
Folders = Annotated[list[PathText], Field(max_length=100)]

# -- scan ------------------------------------------------------------------------------------------------------------


class ScanModelStores(Params):
    folders: Folders = Field([], description="Further folders to look into, absolute.")
    known: bool = Field(True, description="Look where programs keep their models by themselves.")
    job_id: Name | None = Field(None, description="The `job_id` of an earlier answer that was `pending`.")


class StoredFile(Result):
    name: str = Field(description="The name it gets in a model.")
    path: str = Field(description="Where the bytes are, absolute, links resolved.")
    size: int
    links: int = Field(description="Names (hard links) that the bytes have.")
    claimed_sha256: str | None = Field(description="What the store says; nobody here hashed the bytes.")


class StoredModel(Result):
    stored_id: str = Field(description="For `adopt_models`; the same in every scan.")
    name: str
    title: str
    repo_id: str | None
    revision: str | None = Field(description="The commit, in a Hugging Face cache.")
    refs: list[str] = Field(description="Branches or tags that mean this one.")
    size: int
    format: str = Field(description="By its name: `gguf`, `safetensors`, …; empty when that does not say.")
    quantization: str
    in_library: str | None = Field(description="The model of the library that has these bytes already.")
    problem: str | None = Field(description="Why it cannot be adopted as it is.")
    files: list[StoredFile]


class StoreProblem(Result):
    path: str = Field(description="Relative to the store.")
    kind: str
    message: str


class Store(Result):
    kind: Kind
    path: str
    size: int = Field(description="Bytes of all models, each file counted once.")
    truncated: bool = Field(description="There is more than a scan looks at.")
    models: list[StoredModel]
    problems: list[StoreProblem]
    more_problems: int


class Place(Result):
    store: str = Field(description="The store's path, or `library`.")
    model: str
    path: str


class Repeated(Result):
    certainty: Literal["shared", "duplicate", "possible"] = Field(
        description="`shared`: one file under several names already. `duplicate`: the same SHA-256. `possible`: only "
        "size and name are the same."
    )
    size: int
    freed: int = Field(description="What one shared copy would free.")
    sha256: str | None
    verified: bool = Field(description="All its digests were computed by us; else some are only claimed.")
    places: list[Place]


class StoreScan(Result):
    pending: bool = Field(description="The scan goes on; ask again with `job_id`.")
    job_id: str
    stores: list[Store]
    repeated: list[Repeated] = Field(description="Bytes in several places, the largest gains first.")
    omitted: int = Field(description="Repeated files beyond those shown.")
    shared_bytes: int = Field(description="Saved already by files with several names.")
    freed_bytes: int = Field(description="What sharing all duplicates would free.")
    possible_bytes: int = Field(description="What could be freed if the possible ones are equal.")
    seconds: float


# -- adopt -----------------------------------------------------------------------------------------------------------


class AdoptItem(Params):
    stored_id: Name | None = Field(None, description="From `scan_model_stores`; or give `store` and `name`.")
    store: PathText | None = None
    name: Name | None = None
    revision: Name | None = Field(None, description="With `name`, where a store has several; by default `main`.")
    official_name: Text | None = Field(None, description="The shown name; by default the store's.")
    family: Text | None = Field(None, description="By default found in the file.")
    model_type: Name | None = Field(None, description="By default found in the file.")
    subtype: Text | None = Field(None, description="By default found in the file or by the store's folder.")
    tags: Tags = Field([])
    security_acknowledged: bool = Field(False, description="Adopt files that can run code when loaded (pickle).")
    allow_duplicate: bool = Field(False, description="Adopt bytes that the library already has.")


class AdoptModels(Params):
    items: Annotated[list[AdoptItem], Field(max_length=10_000)]
    mode: Literal["auto", "reflink", "hardlink", "reference"] = Field(
        "auto",
        description="`reflink` and `hardlink` need the library's volume; `reference` leaves the files where they are. "
        "`auto` takes the first that is possible. Bytes are never copied.",
    )
    dry_run: bool = Field(False, description="Only say what would be done.")
    folders: Folders = Field([], description="Where to look for a `stored_id` besides the known places.")


class AdoptedItem(Result):
    store: str
    name: str
    success: bool
    adoption_id: str | None = Field(None, description="For `undo_adoption`.")
    model_id: str | None = None
    model_path: str | None = Field(None, description="Absolute path of the model's folder.")
    mode: Mode | None = Field(None, description="How the bytes are shared.")
    size: int = Field(0, description="Bytes that were not copied.")
    security_tier: Literal["safe", "unknown", "pickle"] | None = None
    security_findings: list[str] = Field([])
    warnings: list[str] = Field([])
    error: str | None = None
    error_code: str | None = None
    duplicate_of: str | None = None
    dry_run: bool = False


class AdoptOutcome(Result):
    success: bool = Field(description="No item failed.")
    adopted: int
    failed: int
    size: int = Field(description="Bytes that were not copied.")
    results: list[AdoptedItem]
    job_id: str | None
    pending: int = Field(description="Items that the job still works on.")


# -- list and undo ---------------------------------------------------------------------------------------------------


class ListAdoptions(Params):
    undone: bool = Field(False, description="Also those that were taken back.")
    limit: int = Field(100, ge=1, le=1000)
    offset: int = Field(0, ge=0, le=2**31)


class AdoptionInfo(Result):
    adoption_id: str
    model_id: str
    official_name: str
    mode: Mode
    kind: Kind
    store: str
    name: str
    revision: str | None
    size: int = Field(description="Bytes that were not copied.")
    present: bool = Field(description="The model is in the library; else it was deleted, moved or taken back.")
    state: State = Field(description=STATE)
    undone: bool
    trash_id: str | None = Field(description="Where a model that was taken back was left.")
    created_at: str


class AdoptionList(Result):
    adoptions: list[AdoptionInfo]
    total_count: int
    size: int = Field(description="Bytes that need no space of their own, of those shown that are present.")


class UndoAdoption(Params):
    adoption_id: Name | None = None
    model_id: ModelIdText | None = None
    dry_run: bool = Field(False, description="Only say what would be removed.")


class UndoneAdoption(Result):
    adoption_id: str
    model_id: str
    mode: Mode
    size: int = Field(description="Bytes of the files whose names were removed; the owner still has them.")
    removed: list[str]
    kept_in_store: list[str] = Field(description="The owner's files, untouched.")
    trash_id: str | None = Field(description="Set when the folder held more; `reasons` say what.")
    reasons: list[str]
    dry_run: bool
