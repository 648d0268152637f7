"""Wire models of the link methods. Paths are absolute, sizes are bytes, times ISO-8601 UTC."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pumas.library.contract import ModelIds, ModelIdText
from pumas.rpc.models import MAX_LIST, Params, PathText, Result

Kind = Literal["symlink", "hardlink", "copy"]
App = Annotated[str, Field(max_length=200, description="The app; compared without case.")]
Tag = Annotated[str, Field(min_length=1, max_length=200, description="The tag of an installed version.")]
PlanId = Annotated[str, Field(max_length=200)]
PLAN = "From `preview_model_mapping`: apply only if that is still what would be done."
COPY = "Copy files where no link can be made; without this they are left out."
DEFAULT = "comfyui"


class OfApp(Params):
    app_id: App = DEFAULT


class OfVersion(OfApp):
    version_tag: Tag


# -- plan and apply --------------------------------------------------------------------------------------------------


class PreviewMapping(OfVersion):
    allow_copy: bool = Field(False, description=COPY)


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
    warnings: list[str]
    errors: list[str]


class ApplyMapping(PreviewMapping):
    plan_id: PlanId | None = Field(None, description=PLAN)


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


class SyncModels(OfVersion):
    model_ids: ModelIds


class SyncedModels(Result):
    links_created: int
    links_updated: int = Field(description="Of those created: our own links that led elsewhere.")
    links_skipped: int
    conflicts: int
    errors: list[str]
    job_id: str | None
    pending: bool


class SyncWithResolutions(ApplyMapping):
    resolutions: dict[ModelIdText, Annotated[str, Field(max_length=100)]] = Field(
        description="Model id to `skip`, `overwrite` (what is in the way is kept in a folder of its own) or `rename` "
        "(it is kept beside the link as `<name>.old`). Models that are not named are skipped.",
        max_length=MAX_LIST,
    )


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


# -- links that there are --------------------------------------------------------------------------------------------


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


class LinksOfModel(Params):
    model_id: ModelIdText


class ListLinks(Params):
    app_id: App | None = None
    version_tag: Tag | None = None
    limit: int = Field(1000, ge=1, le=10_000)
    offset: int = Field(0, ge=0, le=2**31)


class LinkList(Result):
    links: list[LinkInfo]
    total_count: int


class LinkHealth(OfApp):
    version_tag: Tag | None = Field(None, description="Look for orphans in this version; null looks in none.")


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


class RemoveOrphans(OfVersion):
    paths: list[PathText] = Field(
        [],
        max_length=MAX_LIST,
        description="Also these links, of `orphaned_links`, that we did not make; they are moved aside, not deleted.",
    )


class RemovedOrphans(Result):
    removed: int
    kept: list[str] = Field(description="Links into the library that we did not make; name them in `paths`.")
