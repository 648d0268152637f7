"""Results of the hub methods on the wire. Sizes are bytes, times ISO-8601 UTC; searches keep older sidecars' keys.

Imported when somebody asks for a schema: the handlers answer with plain objects, and the contract tests hold them to
these.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pumas.rpc.models import Result

STALE = "The hub could not be reached; this is what it said at `fetched_at`."
FETCHED = "When the hub said so; null when it was not asked."
Fields = dict[str, Any]

# -- search ----------------------------------------------------------------------------------------------------------


class DownloadOption(Result):
    quant: str
    sizeBytes: int | None = Field(description="Null as long as nobody looked at the repository (`get_hf_model`).")


class HubResult(Result):
    repoId: str
    name: str
    developer: str
    kind: str = Field(description="The task; `unknown` when nothing says.")
    formats: list[str]
    quants: list[str]
    url: str
    releaseDate: str = Field(description="When it was changed last, or empty.")
    downloads: int | None
    totalSizeBytes: int | None = Field(description="Of a download without a quant; null as for `sizeBytes`.")
    quantSizes: dict[str, int]
    downloadOptions: list[DownloadOption]
    likes: int | None
    license: str
    gated: bool = Field(description="Its terms have to be accepted on the hub before files are given.")
    baseModel: list[str]
    parameters: int | None = Field(description="Number of weights, where the hub has counted them.")
    commit: str


class HubResults(Result):
    models: list[HubResult]
    stale: bool = Field(description=STALE)
    fetched_at: str | None = Field(description=FETCHED)


# -- one repository --------------------------------------------------------------------------------------------------


class HubFile(Result):
    path: str
    size: int
    role: Literal["weights", "foreign", "projector", "companion", "helper", "refused"] = Field(
        description="`foreign`: weights for another framework; `helper`: stays on the hub; `refused`: see `refused`."
    )
    quant: str | None
    sha256: str | None = Field(description="As the hub states it; small files have none.")
    git_oid: str


class HubOption(Result):
    kind: Literal["quant", "all", "file", "projector"] = Field(
        description="`all`: a download without a quant; `file` (a model that shares its label, or has none) and "
        "`projector` are asked for by `filenames`."
    )
    quant: str | None
    weights: list[str] = Field(description="The files with weights, more than one when it comes in parts.")
    file_count: int = Field(description="With the files that belong beside them.")
    size_bytes: int
    fits: bool = Field(description="The library's disk has room for it beside what downloads under way still need.")


class Refused(Result):
    path: str
    reason: str


class HubChoice(Result):
    quant: str | None
    files: list[str]
    total_bytes: int
    fits: bool
    pickles: list[str] = Field(description="Files that can run code when loaded; to be acknowledged for a download.")
    offered: list[str] = Field(description="Projectors for images or sound that could be taken in addition.")


class HubModel(Result):
    repo_id: str = Field(description="As the hub spells it; a repository that was renamed has its new name.")
    revision: str = Field(description="As asked.")
    commit: str
    url: str
    name: str
    author: str
    task: str
    library: str
    tags: list[str]
    license: str
    gated: Literal["no", "auto", "manual"] = Field(
        description="Whether terms have to be accepted; `manual`: the author then decides."
    )
    private: bool
    base_model: list[str]
    downloads: int | None
    likes: int | None
    last_modified: str
    parameters: int | None
    context_length: int | None
    architecture: str
    model_type: str
    subtype: str
    family: str
    formats: list[str]
    quants: list[str]
    files: list[HubFile] = Field(description="The first 2,000.")
    file_count: int
    options: list[HubOption] = Field(description="The ways to take it; empty when it holds no model file.")
    choice: HubChoice | None = Field(
        description="What a download with this `quant` and `filenames` would fetch; null when none are given and there "
        "is no model file, or not everything can be taken."
    )
    refused: list[Refused] = Field(
        description="Files that cannot be taken because of their names or entries, or because a set lacks parts."
    )
    free_bytes: int
    held: list[str] = Field(description="Models of the library that are from this repository.")
    card: str | None = Field(description="Text of the model card, cut to 128 KiB; null when it could not be had.")
    card_data: Fields
    stale: bool = Field(description=STALE)
    fetched_at: str


# -- where a file is from --------------------------------------------------------------------------------------------


class HubMatch(Result):
    repo_id: str
    official_name: str
    family: str
    model_type: str
    subtype: str
    variant: str
    precision: str
    tags: list[str]
    base_model: str
    download_url: str
    description: str
    license: str
    gated: bool
    revision: str = Field(description="The commit that was looked at.")
    match_confidence: float = Field(description="1.0 for equal digests; else how alike the names are.")
    match_method: Literal["hash", "filename_exact", "filename_fuzzy"]
    requires_confirmation: bool
    hash_mismatch: bool = Field(description="The repository has a file of this name, and its bytes are others.")
    matched_filename: str
    pending_full_verification: bool = Field(description="Digests were not compared yet.")
    fast_hash: str = Field(description="SHA-256 of size, first and last 8 MiB; empty without a path.")
    expected_sha256: str
    sha256: str = Field(description="The file's own, empty as long as it was not needed.")
    job_id: str | None = Field(description="The job that hashes the file; ask again when it is done.")


class LookupResult(Result):
    found: bool
    metadata: HubMatch | None


# -- newer upstream --------------------------------------------------------------------------------------------------


class HubDrift(Result):
    model_id: str
    repo_id: str
    revision: str = Field(description="The commit that we hold; empty when it was not recorded.")
    state: Literal["current", "same_files", "newer", "unknown", "gone", "unasked"] = Field(
        description="`same_files`: newer commits, but no file that we hold was changed. `unknown`: nothing to compare. "
        "`gone`: the hub does not show it any more. `unasked`: the hub could not be asked, or not yet."
    )
    upstream: str = Field(description="The commit there now.")
    upstream_date: str
    changed: list[str] = Field(description="Files of ours that the hub has with other content.")
    removed: list[str] = Field(description="Files of ours that the hub has no more.")
    error: str
    error_code: str
    stale: bool = Field(description="The hub could not be reached; this is what it said before.")


class DriftList(Result):
    models: list[HubDrift]
    newer: int = Field(description="How many are `newer`.")
    unasked: int = Field(description="How many are `unasked`; ask again for these.")
