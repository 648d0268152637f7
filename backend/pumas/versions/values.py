"""What the versions domain gives to its callers, and what it holds for each app. Plain values."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pumas.apps.description import AppDescription
from pumas.versions.places import Places
from pumas.versions.progress import Progress
from pumas.versions.state import InstalledVersion, VersionState

if TYPE_CHECKING:
    from pumas.versions.releases import Release, ReleaseList


@dataclass(frozen=True)
class Dependencies:
    """`requirements` is root-relative; None when the version has no such file. `absent` are those of `missing` that are
    not there in any version."""

    installed: list[str]
    missing: list[str]
    requirements: str | None
    absent: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class OneVersion:
    version: InstalledVersion
    dependencies: Dependencies
    active: bool


@dataclass(frozen=True)
class Overview:
    active: str | None
    default: str | None
    versions: list[OneVersion]


@dataclass(frozen=True)
class Offered:
    """A release as it is shown. `installing`: at this moment."""

    release: Release
    total_size: int | None
    archive_size: int | None
    dependencies_size: int | None
    installing: bool
    page: str
    """Where a person reads about it, when the release does not say."""


@dataclass
class OneApp:
    """`job_id` is that of the installation under way; `installing` is held while one is accepted or a version changes
    its place."""

    app: AppDescription
    state: VersionState
    places: Places
    releases: ReleaseList
    progress: Progress | None = None
    job_id: str | None = None
    installing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def busy(self) -> bool:
        """Whether something is installed, or changes its place."""
        return self.job_id is not None or self.installing.locked()
