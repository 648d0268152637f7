"""Wire models of what the link methods answer with: for the contract and its tests.

The server sends plain objects of this form (`shaping.py`), so nothing here is loaded until somebody asks for the
contract. Paths are absolute, sizes are bytes, times ISO-8601 UTC.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pumas.rpc.models import Result

Kind = Literal["symlink", "hardlink", "copy"]


class MapAction(Result):
    model_id: str
    model_name: str
    source_path: str = Field(description="The model's file.")
    target_path: str = Field(description="The link.")
    reason: str
    link_type: Kind | None = Field(None, description="Of what is to be made.")
    size: int | None = Field(None, description="Bytes that a copy needs.")
    existing_target: str | None = Field(None, description="What is in the way: where a link leads, or the file itself.")


class BrokenMapping(Result):
    target_path: str
    existing_target: str = Field(description="Where the link leads; empty when it is gone.")
    reason: str


class MappingPlan(Result):
    plan_id: str = Field(description="For `apply_model_mapping` and `sync_with_resolutions`.")
    to_create: list[MapAction]
    to_skip_exists: list[MapAction]
    conflicts: list[MapAction] = Field(description="Something foreign is in the way; only resolutions touch it.")
    broken_to_remove: list[BrokenMapping]
    needs_copy: list[MapAction] = Field(description="No link can be made there, and copies are not allowed.")
    unwanted: list[BrokenMapping] = Field(
        description="Our links that no rule wants; `remove_orphaned_links` removes them."
    )
    total_actions: int = Field(description="Entries of the first four lists.")
    copy_bytes: int = Field(description="What the copies of this plan need.")
    models_link: str | None = Field(
        description="Where the models folder leads when it is somebody's link; `replace_models_link` gives that up."
    )
    warnings: list[str]
    errors: list[str]


class Replaced(Result):
    target_path: str
    backup_path: str = Field(description="Where what was in the way is now.")


class AppliedMapping(Result):
    links_created: int
    links_removed: int = Field(description="Broken ones.")
    total_links: int = Field(description="Links of this version that are in place.")
    links_skipped: int
    conflicts: int = Field(description="Left alone, because something foreign is in the way.")
    copied_bytes: int
    errors: list[str] = Field(description="Links that could not be made.")
    job_id: str | None
    pending: bool = Field(description="The job goes on; the counts are not known yet.")


class SyncedModels(Result):
    links_created: int
    links_updated: int = Field(description="Of those created: our own links that led elsewhere.")
    links_skipped: int
    conflicts: int
    errors: list[str]
    job_id: str | None
    pending: bool


class Resolved(Result):
    links_created: int
    links_skipped: int
    links_renamed: int
    overwrites: int
    errors: list[str]
    backups: list[Replaced]
    job_id: str | None
    pending: bool


class RefreshedMappings(Result):
    results: dict[str, int] = Field(description="Tag to links in place.")
    job_id: str | None
    pending: bool


class CrossFilesystem(Result):
    cross_filesystem: bool
    library_path: str | None = None
    app_path: str | None = None
    warning: str | None = None
    recommendation: str | None = None


class LinkInfo(Result):
    link_id: int
    model_id: str
    source_path: str
    target_path: str
    link_type: Kind
    app_id: str
    app_version: str = Field(description="The tag without a leading v.")
    is_external: bool = Field(description="Link and file lie on different volumes.")
    created_at: str


Links = list[LinkInfo]


class LinkList(Result):
    links: list[LinkInfo]
    total_count: int


class BrokenLink(Result):
    link_id: int
    target_path: str
    expected_source: str
    model_id: str
    reason: str


class LinkReport(Result):
    status: Literal["healthy", "warnings", "errors"]
    total_links: int
    healthy_links: int
    broken_links: list[BrokenLink]
    orphaned_links: list[str] = Field(description="Links into the library that no rule wants, or that are not ours.")
    backups: list[Replaced] = Field(description="What was moved aside for links and is still kept.")
    warnings: list[str]
    errors: list[str]


class CleanedLinks(Result):
    cleaned: int


class RemovedOrphans(Result):
    removed: int
    kept: list[str] = Field(description="Links into the library that we did not make; name them in `paths`.")
