"""Wire models of the library methods. Sizes are bytes, times ISO-8601 UTC; ids are paths below the library root."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints

from pumas.library.search import Sort
from pumas.rpc.models import MAX_LIST, Name, Params, PathText, Result, Text

ModelIdText = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Tags = Annotated[list[Tag], Field(max_length=1000)]
Values = Annotated[list[Tag], Field(max_length=64)]
ModelIds = Annotated[list[ModelIdText], Field(max_length=MAX_LIST)]
Paths = Annotated[list[PathText], Field(max_length=MAX_LIST)]

State = Literal["ok", "missing", "offline"]
STATE = "`missing`: its owner removed the files; `offline`: their drive or store is away. Else `ok`."
Storage = Literal["owned", "hardlink", "reflink", "reference"]
STORAGE = (
    "`owned`: the bytes are the library's alone; else how they are shared with the program they were adopted from."
)

# -- models ----------------------------------------------------------------------------------------------------------


class ModelEntry(Result):
    path: str
    size: int | None
    addedDate: str | None
    modelType: str = Field(description="The subtype when there is one, else the type, else `unknown`.")
    officialName: str | None
    cleanedName: str | None
    relatedAvailable: bool
    state: State = Field("ok", description=STATE)
    storage: Storage = Field("owned", description=STORAGE)


class ModelId(Params):
    model_id: ModelIdText = Field(description="The model's path below the library, for example `llm/llama/Llama-8B`.")


class RelPath(Params):
    rel_path: ModelIdText = Field(description="The model's path below the library.")


class UpdateOverrides(RelPath):
    overrides: dict[str, Any] = Field(
        description="For example `{version_ranges: {comfyui: '>=0.4,<0.9'}}`; replaces what is stored."
    )


class EditModel(ModelId):
    official_name: Annotated[Text | None, Field(min_length=1, max_length=512)] = Field(
        None, description="The shown name. Left out: as it is. So are the others."
    )
    family: Text | None = None
    model_type: Name | None = None
    subtype: Text | None = None
    tags: Tags | None = Field(None, description="Replaces all tags.")
    notes: Text | None = Field(None, description="The user's own text about the model.")


class Indexed(Result):
    indexed_count: int = Field(description="Models in the index.")


class StorageScan(Result):
    modelsFound: int
    workflowsFound: int
    customNodesFound: int
    totalSize: int


class TroubleInfo(Result):
    subject: str = Field(description="A path below the launcher root, or what part of the program it concerns.")
    kind: str
    message: str


class LibraryStatus(Result):
    indexing: bool
    deep_scan_in_progress: bool
    model_count: int
    pending_lookups: int
    last_scan: str | None
    state: Literal["ready", "offline", "read_only"]
    trouble_count: int
    troubles: list[TroubleInfo] = Field(description="What is wrong with files and folders, the first thousand.")


class ModelDetail(Result):
    model_id: str
    folder: str = Field(description="Absolute path.")
    metadata: dict[str, Any] = Field(description="metadata.json as it is on disk.")
    overrides: dict[str, Any]


# -- search ----------------------------------------------------------------------------------------------------------


Query = Annotated[str, StringConstraints(max_length=1_000_000)]
QUERY = "Words; each matches as a prefix, all must match. Empty lists everything, newest first."


class ModelFilters(Params):
    model_type: Text | None = Field(None, description="Exactly this type, for example `llm`.")
    tags: Tags = Field([], description="All of these tags, upper and lower case alike.")
    model_types: Values = Field([], description="Any of these types.")
    families: Values = Field([], description="Any of these families, upper and lower case alike.")
    formats: Values = Field([], description="Any of these, for example `gguf`.")
    quants: Values = Field([], description="Any of these quantisations, for example `Q4_K_M`.")
    sizes: Values = Field([], description="Any of these bands, each named by its lower bound in GiB: `0`, `1`, `4`, …")
    apps: Values = Field([], description="Linked into any of these apps, for example `comfyui`.")


class SearchModels(ModelFilters):
    query: Query = Field(description=QUERY)
    limit: int = Field(100, description="Clamped to 1..1000.")
    offset: int = Field(0, description="Clamped to 0 and above.")
    sort: Sort = Field(
        "relevance",
        description="`relevance`: the best match, without words the newest. By size, those of unknown size come last.",
    )


class CountFacets(ModelFilters):
    query: Query = Field("", description=QUERY)


class FoundModel(Result):
    model_id: str
    id: str
    path: str
    file_path: str = Field(description="Absolute path of the model's folder.")
    official_name: str
    cleaned_name: str
    family: str
    model_type: str
    subtype: str
    tags: list[str]
    description: str
    repo_id: str | None
    size_bytes: int | None
    security_tier: str | None
    added_date: str | None
    updated_at: str
    last_used: str | None
    related_available: bool
    state: State = Field("ok", description=STATE)
    storage: Storage = Field("owned", description=STORAGE)
    formats: list[str] = Field([])
    quants: list[str] = Field([])


class SearchResult(Result):
    models: list[FoundModel]
    total_count: int = Field(description="All matches, not only this page.")
    query_time_ms: float
    query: str = Field(description="The full-text expression that was used.")
    matched: Literal["all", "any"] = Field(
        description="`any` when no model holds all words, and models with some of them are shown instead."
    )


class FacetsReply(Result):
    """Value to number of models, the most frequent first, at most a hundred of each."""

    types: dict[str, int]
    families: dict[str, int]
    formats: dict[str, int]
    quants: dict[str, int]
    sizes: dict[str, int] = Field(description="By the lower bound in GiB of each band.")
    tags: dict[str, int]
    apps: dict[str, int] = Field(description="By the id of the app that models are linked into.")


# -- import ----------------------------------------------------------------------------------------------------------


class ImportOptions(Params):
    repo_id: Text | None = Field(None, description="Hub repository that the file is from, `owner/name`.")
    model_type: Text | None = Field(None, description="`llm`, `diffusion`, …; by default found in the file.")
    subtype: Text | None = Field(None, description="`checkpoints`, `loras`, …; by default found in the file.")
    tags: Tags = Field([])
    security_acknowledged: bool = Field(
        False, description="Import files that can run code when loaded (pickle). They are scanned all the same."
    )
    mode: Literal["copy", "move", "hardlink"] = Field(
        "copy", description="`copy` shares blocks where the file system can; `move` removes the source once imported."
    )
    allow_duplicate: bool = Field(False, description="Import bytes that the library already holds.")


# No call takes longer than 10 s.
WaitSeconds = Annotated[
    float, Field(ge=0, le=9, description="Answer after so many seconds at most; 0: at once, with the job to follow.")
]


class ImportModel(ImportOptions):
    local_path: PathText = Field(description="Absolute path of a file or folder.")
    family: Text = Field(description="`unknown`, `imported` or empty: taken from the file.")
    official_name: Text = Field(description="The shown name.")
    dry_run: bool = Field(False, description="Only say what would be imported.")
    wait_seconds: WaitSeconds = 9


class ImportSpec(ImportOptions):
    path: PathText = Field(description="Absolute path of a file or folder.")
    family: Text = Field("unknown", description="`unknown`, `imported` or empty: taken from the file.")
    official_name: Text | None = Field(None, description="The shown name; by default the file's name.")


class ImportBatch(Params):
    legacy_names: ClassVar = {"imports": "import_specs", "specs": "import_specs"}

    import_specs: Annotated[list[ImportSpec], Field(max_length=MAX_LIST)]
    dry_run: bool = Field(False, description="Only say what would be imported.")
    wait_seconds: WaitSeconds = 9


class SkippedFile(Result):
    path: str
    reason: str


class ImportItem(Result):
    path: str = Field(description="As given.")
    success: bool
    model_path: str | None = Field(None, description="Absolute path of the model's folder.")
    model_id: str | None = None
    error: str | None = None
    error_code: str | None = None
    security_tier: Literal["safe", "unknown", "pickle"] | None = None
    security_findings: list[str] = Field(
        [], description="What the pickle scanner found. A tripwire, not a wall: no finding does not mean safe."
    )
    duplicate_of: str | None = Field(None, description="The model that holds these bytes already.")
    skipped: list[SkippedFile] = Field([])
    size: int | None = Field(None, description="Bytes of all files.")
    dry_run: bool = Field(False, description="Nothing was imported; this is what would have been.")
    warnings: list[str] = Field([], description="What a person should know, as sentences.")
    candidates: list[str] = Field([], description="Of a folder of several models: a path to import for each.")


class ImportOutcome(ImportItem):
    job_id: str | None = Field(None, description="The job that did the work, or still does when `pending`.")
    pending: bool = Field(False, description="The work goes on; follow the job.")


class BatchOutcome(Result):
    success: bool = Field(description="No item failed.")
    imported: int
    failed: int
    results: list[ImportItem]
    job_id: str | None = None
    pending: int = Field(0, description="Items that the job still works on.")


# -- files on the user's disk ----------------------------------------------------------------------------------------


class FilePath(Params):
    file_path: PathText


class FilePaths(Params):
    legacy_names: ClassVar = {"files": "file_paths"}

    file_paths: Paths


class ShardValidation(Result):
    complete: bool
    missing_shards: list[int]
    total_expected: int
    total_found: int
    error: str


class ShardGroup(Result):
    files: list[str]
    validation: ShardValidation


class ShardGroups(Result):
    groups: dict[str, ShardGroup]


class FileType(Result):
    valid: bool
    detected_type: Literal["safetensors", "gguf", "ggml", "pickle", "onnx", "unknown", "error"]
    error: str


class EmbeddedMetadata(Result):
    success: bool = Field(description="False when the file holds no metadata that can be read; `error` says why.")
    file_type: Literal["gguf", "safetensors", "unsupported", "unknown"]
    metadata: dict[str, Any] | None
    truncated: dict[str, int] = Field(
        description="Values shown in part: key -> real number of elements, or of bytes for a text."
    )
    error: str | None


class LinkCount(Result):
    link_count: int
    is_hard_linked: bool


class WritableFile(Result):
    path: str
    writable: bool = Field(description="It exists and may be removed from its folder.")
    reason: str | None


class WritableFiles(Result):
    all_writable: bool
    details: list[WritableFile]


# -- trash and verification ------------------------------------------------------------------------------------------


class DeleteModel(ModelId):
    dry_run: bool = Field(False, description="Only say what would go into the trash.")


class Deleted(Result):
    links_removed: int = Field(description="Links into it; they come back when it is restored.")
    trash_id: str | None = Field(description="For `restore_model`; null for a dry run.")
    model_ids: list[str] = Field(description="The model and those nested in its folder.")
    size: int


class TrashEntry(Result):
    trash_id: str
    model_id: str
    model_ids: list[str]
    official_name: str
    deleted_at: str
    size: int
    files: int


class TrashList(Result):
    entries: list[TrashEntry]


class RestoreModel(Params):
    trash_id: Name
    dry_run: bool = False


class Restored(Result):
    model_id: str
    model_ids: list[str]
    links_restored: int = Field(description="Links into it that are back too.")


class EmptyTrash(Params):
    trash_ids: Annotated[list[Name], Field(max_length=MAX_LIST)] | None = Field(
        None, description="Only these entries; by default all."
    )
    older_than_days: float = Field(0, ge=0, le=36500, description="Only entries deleted at least so long ago.")
    dry_run: bool = Field(False, description="Only say what would be removed for ever.")


class Emptied(Result):
    removed: list[TrashEntry]
    freed: int = Field(description="Bytes.")


class VerifyLibrary(Params):
    model_ids: ModelIds | None = Field(None, description="Only these models; by default all.")


class Started(Result):
    job_id: str
