"""Wire models of the version methods. Sizes are bytes; times ISO-8601 UTC. Shapes are those of existing clients."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from pumas.rpc.models import Name, Params, Result

AppId = Annotated[str, Field(max_length=100, description="Case does not matter.")]
Tag = Annotated[str, Field(max_length=200, description="Release tag, also the name of the version's folder.")]


class AppChoice(Params):
    app_id: AppId = "comfyui"


class VersionChoice(AppChoice):
    tag: Tag


class RemoveVersion(VersionChoice):
    last: bool = Field(False, description="Also the active version, when no other is installed.")


class AppInfo(Result):
    app_id: str
    name: str
    description: str
    homepage: str
    folder: str = Field(description="Of its versions, below the launcher root.")
    repository: str
    port: int = Field(description="What it uses by itself.")
    has_python: bool = Field(description="Each version has its own Python environment.")
    takes_models: bool
    installed: list[str] = Field(description="Tags, newest first.")
    active: str | None


class AppList(Result):
    apps: list[AppInfo]


class GetAvailable(AppChoice):
    force_refresh: bool = Field(False, description="Ask GitHub now. Otherwise from memory or disk, even if old.")


class Asset(Result):
    model_config = ConfigDict(extra="allow", from_attributes=True, defer_build=True)

    name: str | None = None
    size: int | None = None
    browser_download_url: str | None = None
    download_url: str | None = None


class Release(Result):
    """As GitHub lists it, and what is known beyond that."""

    model_config = ConfigDict(extra="allow", from_attributes=True, defer_build=True)

    tag_name: str
    name: str
    published_at: str | None
    prerelease: bool
    body: str | None
    html_url: str
    assets: list[Asset]
    total_size: int | None = Field(description="null: not calculated yet.")
    archive_size: int | None
    dependencies_size: int | None
    installing: bool


class AvailableVersions(Result):
    success: bool
    versions: list[Release]
    error: str | None = None
    error_code: str | None = None
    rate_limited: bool = False
    retry_after_secs: int | None = None
    stale: bool = Field(False, description="Older than its time; a fresh list is on its way or cannot be had.")


class SetDefault(AppChoice):
    tag: Tag | None = Field(None, description="null: none.")


class Validate(AppChoice):
    rebuild: bool = Field(False, description="When the list of versions cannot be read: list anew what is on disk.")


class ValidationResult(Result):
    had_invalid: bool
    removed: list[str] = Field(description="Always empty: nothing is removed. Kept for older clients.")
    valid: list[str]


class ValidationReport(ValidationResult):
    incomplete: list[str] = Field(description="Listed, but not whole on disk.")
    missing: list[str] = Field(description="Listed, but not on disk.")
    unknown: list[str] = Field(description="Folders that are not listed; they stay.")
    result: ValidationResult


class VersionInfo(Result):
    """What is kept about an installed version; keys of older sidecars are passed on."""

    model_config = ConfigDict(extra="allow", from_attributes=True, defer_build=True)

    path: str | None = None
    installedDate: str | None = None
    releaseTag: str | None = None
    pythonVersion: str | None = None
    downloadUrl: str | None = None
    size: int | None = None


class DependencyStatus(Result):
    installed: list[str]
    missing: list[str]
    requirementsFile: str | None = Field(description="Relative to the launcher root.")


class OneVersionStatus(Result):
    info: VersionInfo | None
    dependencies: DependencyStatus
    isActive: bool


class VersionStatus(Result):
    installedCount: int
    activeVersion: str | None
    defaultVersion: str | None
    versions: dict[str, OneVersionStatus]


class RemovedVersion(Result):
    trash_id: str = Field(description="For restore_version.")


class RemovedVersionInfo(Result):
    trash_id: str
    tag: str
    reason: Literal["removed", "replaced"]
    removed_at: str


class TrashId(AppChoice):
    trash_id: Name


class CacheStatusInfo(Result):
    has_cache: bool
    is_valid: bool
    is_fetching: bool
    age_seconds: int | None
    last_fetched: str | None
    ttl: int
    releases_count: int


class CacheStatusReply(CacheStatusInfo):
    status: CacheStatusInfo = Field(description="The same once more, where some clients look for it.")
    error: str | None = Field(None, description="Why the last fetch failed.")
    retry_after_secs: int | None = Field(None, description="GitHub wants no call before.")


class FetchCompleted(Result):
    completed: bool


class InstallVersion(VersionChoice):
    reinstall: bool = Field(False, description="Build it anew although it is there; the old build stays until then.")
    activate: bool = Field(False, description="Make it active once it is installed.")
    progress_callback: Any = Field(None, description="Ignored.")


class InstallAccepted(Result):
    job_id: str


class UpdateAccepted(Result):
    tag: str
    job_id: str | None = Field(description="null: it was installed already and is active now.")


class TagReply(Result):
    tag: str


class CompletedItem(Result):
    name: str
    type: Literal["archive", "package"]
    size: int | None
    completed_at: str


class InstallationProgress(Result):
    tag: str
    started_at: str
    stage: Literal["download", "extract", "venv", "dependencies", "setup"]
    stage_progress: int = Field(ge=0, le=100)
    overall_progress: int = Field(ge=0, le=100)
    current_item: str | None
    download_speed: float | None = Field(description="Bytes per second.")
    eta_seconds: int | None
    total_size: int | None
    downloaded_bytes: int
    dependency_count: int | None
    completed_dependencies: int
    completed_items: list[CompletedItem]
    error: str | None = Field(description="Holds `cancel` when the user cancelled, and only then.")
    pid: int | None
    log_path: str | None
    total_weight: int | None = Field(None, description="Absent before the packages are known.")
    completed_weight: int | None = None
    completed_at: str | None = Field(None, description="Absent until it is finished.")
    success: bool | None = Field(None, description="Absent until it is finished.")


class CancelInstallation(Params):
    app_id: AppId | None = Field(None, description="null: whichever app is installing.")


class CalculateSize(VersionChoice):
    force_refresh: bool = False
    archive_size: int | None = Field(None, ge=0, le=2**50, description="Ignored: it is found out.")
    requirements: list[str] | None = Field(None, max_length=10_000, description="Ignored: they are looked up.")


class SizeInfoOf(VersionChoice):
    archive_size: int = Field(ge=0, le=2**50)


class DependenciesOf(VersionChoice):
    top_n: int | None = Field(None, ge=0, le=100_000)


class PackageSize(Result):
    package: str
    version_spec: str
    size: int | None


class ReleaseSizeInfo(Result):
    tag: str
    total_size: int
    total_bytes: int
    archive_size: int
    dependencies_size: int
    dependency_count: int = Field(description="Packages that the release itself names.")
    unknown_size_count: int
    dependencies: list[PackageSize]
    requirements_hash: str
    calculated_at: str
    platform: str
    python_version: str
    dependencies_size_source: str = Field(description="`unknown`: an estimate, which is tried again later.")
    is_estimated: bool


class AllSizes(Result):
    """Beside these, one key for each tag with its ReleaseSize."""

    model_config = ConfigDict(extra="allow", from_attributes=True, defer_build=True)

    sizes: dict[str, int] = Field(description="Tag -> total bytes.")
    pending: list[str] = Field(description="Still being calculated; ask again.")


class SizeBreakdown(Result):
    total_size: int | None = None
    archive_size: int | None = None
    dependencies_size: int | None = None
    total_size_formatted: str | None = None
    archive_size_formatted: str | None = None
    dependencies_size_formatted: str | None = None
    archive_percentage: float | None = None
    dependencies_percentage: float | None = None
    dependency_count: int | None = None
    unknown_count: int | None = None
