"""How much a release weighs: its archive, and what it depends on, found out from metadata alone.

Nothing of a release is run or built to find out (`packages.resolve` with `build` False). Results are kept in the files
of older sidecars, by tag; an estimate says that it is one and is tried again later.
"""

from __future__ import annotations

import datetime
import logging
import platform
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from pumas.apps.description import AppDescription
from pumas.config import Layout
from pumas.errors import HttpStatus, PumasError, ReleaseNotFound
from pumas.library.moments import utc_moment
from pumas.net.client import NetworkClient
from pumas.net.options import Timeouts
from pumas.storage import json_file
from pumas.storage.files import disk_errors, make_folders
from pumas.storage.json_file import JsonObject
from pumas.versions.github import GitHub
from pumas.versions.packages import Packages, Resolved, Wish
from pumas.versions.releases import Release
from pumas.versions.requirements import digest, parse
from pumas.versions.running import InstallLog, Programs
from pumas.versions.scratch import scratch

log = logging.getLogger(__name__)

TYPICAL_ARCHIVE = 131_072_000
"""Bytes, for an archive whose length nobody tells."""
RETRY_S = 3600.0
_TIMEOUTS = Timeouts(connect_s=5, read_s=10)
_UNITS = ("B", "KB", "MB", "GB", "TB")
"""(archive, dependencies, total) in bytes, each None while it is not known."""
SizesOf = Callable[[Release], tuple[int | None, int | None, int | None]]


@dataclass(frozen=True)
class ReleaseSize:
    """Bytes. `source` says where the dependencies' size comes from: `pip_report` is any resolver's report."""

    tag: str
    archive_size: int
    dependencies_size: int
    dependency_count: int = 0
    unknown_count: int = 0
    dependencies: tuple[JsonObject, ...] = ()
    requirements_hash: str = ""
    calculated_at: str = ""
    source: str = "unknown"
    archive_known: bool = True
    platform: str = field(default_factory=lambda: _platform())
    python_version: str = f"{sys.version_info.major}.{sys.version_info.minor}"

    @property
    def total_size(self) -> int:
        return self.archive_size + self.dependencies_size

    @property
    def estimated(self) -> bool:
        return self.source == "unknown" or not self.archive_known


class Sizes:
    """Thread-safe. Blocks; one calculation at a time, and equal ones only once."""

    def __init__(self, layout: Layout, network: NetworkClient, github: GitHub) -> None:
        self._layout = layout
        self._network = network
        self._github = github
        self._lock = threading.Lock()
        self._writing = threading.Lock()

    def kept(self, app: AppDescription, tag: str) -> ReleaseSize | None:
        return _kept(self._layout, app).get(tag)

    def calculate(self, app: AppDescription, release: Release, *, force: bool = False) -> ReleaseSize:
        """Find out, or answer what was found out before. Always leaves a value, at worst an estimate.

        Raises:
            ReleaseNotFound: a bundle that has nothing for this machine.
        """
        with self._lock:
            known = self.kept(app, release.tag)
            if known is not None and not force and not (known.estimated and _age_s(known) > RETRY_S):
                return known
            found = self._bundle(app, release) if app.package.kind == "bundle" else self._source(app, release)
            self._keep(app, found)
            return found

    def leave_estimate(self, app: AppDescription, release: Release) -> ReleaseSize:
        """What can be said at once, while the real thing takes its time; without a time, so that it is due at once."""
        estimate = ReleaseSize(release.tag, TYPICAL_ARCHIVE, 0, archive_known=False)
        with self._writing:
            known = self.kept(app, release.tag)
            if known is None:
                self._write(app, estimate)
        return known or estimate

    # -- inside ------------------------------------------------------------------------------------------------------

    def _bundle(self, app: AppDescription, release: Release) -> ReleaseSize:
        size = bundle_size(app, release)
        if size is None:
            raise ReleaseNotFound(app.name, release.tag, "has nothing for this machine")
        return ReleaseSize(release.tag, size, 0, source="asset", calculated_at=_now())

    def _source(self, app: AppDescription, release: Release) -> ReleaseSize:
        archive = self._length(str(release.raw.get("zipball_url") or release.raw.get("tarball_url") or ""))
        text = self._requirements(app, release.tag)
        resolved: list[Resolved] | None = None
        if text is not None:
            try:
                resolved = self._resolve(app, release, text)
            except PumasError as error:
                log.info("dependencies of %s %s not sized: %s", app.id, release.tag, error)
        listed = [{"package": one.name, "version_spec": f"=={one.version}", "size": one.size} for one in resolved or []]
        listed.sort(key=lambda one: (-(cast("int | None", one["size"]) or 0), str(one["package"])))
        return ReleaseSize(
            release.tag,
            archive if archive is not None else TYPICAL_ARCHIVE,
            sum(one.size or 0 for one in resolved or []),
            len(parse(text or "")),
            sum(one.size is None for one in resolved or []),
            tuple(listed),
            digest(text or ""),
            _now(),
            "unknown" if resolved is None else "pip_report",
            archive is not None,
        )

    def _resolve(self, app: AppDescription, release: Release, text: str) -> list[Resolved]:
        with scratch(self._layout.cache, "size-") as place:
            requirements = place / "requirements.txt"
            requirements.write_text(text, encoding="utf-8")
            quiet = InstallLog(place / "log")
            try:
                packages = Packages(self._layout.cache, Programs(place / "note", quiet, lambda: None))
                extra = app.python.extra if app.python else ()
                resolved = packages.resolve(Wish(requirements, extra, release.published_at), build=False)
            finally:
                quiet.close()
        return [one if one.size is not None else self._with_length(one) for one in resolved]

    def _with_length(self, one: Resolved) -> Resolved:
        return Resolved(one.name, one.version, self._length(one.url or ""), one.url)

    def _length(self, url: str) -> int | None:
        """The length that a server tells for an address, None when it tells none."""
        if not url.startswith(("http://", "https://")):
            return None
        try:
            with self._network.send("HEAD", url, timeouts=_TIMEOUTS, patience_s=2.0) as reply:
                length = reply.headers.get("Content-Length", "")
                return int(length) if length.isascii() and length.isdigit() and int(length) else None
        except PumasError:
            return None

    def _requirements(self, app: AppDescription, tag: str) -> str | None:
        """The text of the release's requirements file, "" when it has none, None when nobody answers."""
        path = self._layout.cache / _named("release-requirements", app)
        cached = _object(path)
        entry = cached.get(tag)
        if isinstance(entry, dict) and isinstance(cast(JsonObject, entry).get("requirements_txt"), str):
            return str(cast(JsonObject, entry)["requirements_txt"])
        name = app.python.requirements if app.python else "requirements.txt"
        try:
            text = self._github.file(app.releases.repository, tag, name).decode("utf-8", "replace")
        except HttpStatus as error:
            if error.status != 404:
                return None
            text = ""
        except PumasError:
            return None
        fresh = {
            "requirements_txt": text,
            "requirements_hash": digest(text),
            "fetched_at": _now(),
            "source_url": f"https://github.com/{app.releases.repository}/blob/{tag}/{name}",
        }
        _save(path, {**cached, tag: fresh})
        return text

    def _keep(self, app: AppDescription, found: ReleaseSize) -> None:
        with self._writing:
            self._write(app, found)

    def _write(self, app: AppDescription, found: ReleaseSize) -> None:
        path = self._layout.cache / _named("release-sizes", app)
        _save(path, {**_object(path), found.tag: _written(found)})


def bundle_size(app: AppDescription, release: Release) -> int | None:
    """The size of the asset for this machine."""
    sizes = {str(asset.get("name")): asset.get("size") for asset in release.assets}
    name = app.package.choose(list(sizes))
    size = sizes.get(name) if name else None
    return size if isinstance(size, int) and size >= 0 else None


def kept_sizes(layout: Layout, app: AppDescription) -> SizesOf:
    """Look-up of what is known, without asking anybody."""
    if app.package.kind == "bundle":

        def of_bundle(release: Release) -> tuple[int | None, int | None, int | None]:
            size = bundle_size(app, release)
            # Nothing for this machine weighs nothing: older clients ask again and again while there is no total.
            return size, 0, size or 0

        return of_bundle
    kept = _kept(layout, app)

    def of_source(release: Release) -> tuple[int | None, int | None, int | None]:
        size = kept.get(release.tag)
        return (None, None, None) if size is None else (size.archive_size, size.dependencies_size, size.total_size)

    return of_source


def formatted(size: int) -> str:
    """As older sidecars show it: whole bytes, one decimal for KB and MB, two from GB on; 1024-based."""
    amount, unit = float(size), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.{(0, 1, 1, 2, 2)[unit]}f} {_UNITS[unit]}"


_read: dict[Path, tuple[tuple[int, int], dict[str, ReleaseSize]]] = {}


def _kept(layout: Layout, app: AppDescription) -> dict[str, ReleaseSize]:
    """By tag; read again when the file changed."""
    path = layout.cache / _named("release-sizes", app)
    try:
        status = path.stat()
    except OSError:
        return {}
    stamp = (status.st_mtime_ns, status.st_ino)
    known = _read.get(path)
    if known is None or known[0] != stamp:
        entries = {tag: size for tag, value in _object(path).items() if (size := _parsed(tag, value)) is not None}
        known = _read[path] = (stamp, entries)
    return known[1]


def _parsed(tag: str, value: object) -> ReleaseSize | None:
    """An entry as we or older sidecars wrote it; None when it says nothing."""
    if not isinstance(value, dict):
        return None
    entry = cast(JsonObject, value)
    archive, dependencies = _count(entry, "archive_size"), _count(entry, "dependencies_size")
    if archive is None or dependencies is None:
        return None
    listed: object = entry.get("dependencies")
    named = [cast(JsonObject, one) for one in cast("list[object]", listed) if isinstance(one, dict)] if (
        isinstance(listed, list)
    ) else []  # fmt: skip
    source = str(entry.get("dependencies_size_source") or "unknown")
    return ReleaseSize(
        tag,
        archive,
        dependencies,
        _count(entry, "dependency_count") or 0,
        _count(entry, "unknown_size_count") or 0,
        tuple(named),
        str(entry.get("requirements_hash") or ""),
        str(entry.get("calculated_at") or ""),
        source,
        entry.get("archive_known") is not False,
        str(entry.get("platform") or ""),
        str(entry.get("python_version") or ""),
    )


def _count(entry: JsonObject, key: str) -> int | None:
    value = entry.get(key)
    return value if isinstance(value, int) and 0 <= value < 2**50 else None


def _written(size: ReleaseSize) -> JsonObject:
    return {
        "tag": size.tag,
        "total_size": size.total_size,
        "archive_size": size.archive_size,
        "dependencies_size": size.dependencies_size,
        "dependency_count": size.dependency_count,
        "unknown_size_count": size.unknown_count,
        "dependencies": list(size.dependencies),
        "requirements_hash": size.requirements_hash,
        "calculated_at": size.calculated_at,
        "platform": size.platform,
        "python_version": size.python_version,
        "dependencies_size_source": size.source,
        "archive_known": size.archive_known,
    }


def _named(stem: str, app: AppDescription) -> str:
    """Older sidecars size one app only, in files without its name."""
    return f"{stem}.json" if app.versions_file == "versions.json" else f"{stem}-{app.id}.json"


def _object(path: Path) -> JsonObject:
    """A cache that cannot be read is empty."""
    try:
        return json_file.parse_object(path)
    except (OSError, ValueError):
        return {}


def _save(path: Path, value: JsonObject) -> None:
    try:
        with disk_errors("Writing the sizes of releases"):
            make_folders(path.parent)
        json_file.save(path, value)
    except PumasError as error:
        log.warning("%s not kept: %s", path.name, error)


def _platform() -> str:
    system = {"linux": "linux", "darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform)
    return f"{system}_{platform.machine().lower()}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def _age_s(size: ReleaseSize) -> float:
    when = utc_moment(size.calculated_at)
    if when is None:
        return float("inf")
    age = (datetime.datetime.now(datetime.UTC) - when).total_seconds()
    return age if age >= 0 else float("inf")
