"""The releases of one app: kept in memory and on disk, asked for anew when they are old, offered when they are stale.

Reads the caches of older sidecars (`lastFetched` with or without a zone, reduced entries, null keys). Only `refresh`
touches the network. Calls block; several that want fresh data at once cause one fetch.
"""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pumas.apps.description import AppDescription
from pumas.errors import NetworkError, Offline, PumasError, RateLimited, ReleaseNotFound
from pumas.library.moments import utc_moment
from pumas.storage import json_file
from pumas.storage.files import disk_errors, make_folders
from pumas.storage.json_file import JsonObject
from pumas.versions.github import PAGE, GitHub, Page
from pumas.versions.tags import check_tag, offered

log = logging.getLogger(__name__)

TTL_S = 3600


@dataclass(frozen=True)
class Release:
    """`raw` is the API's object, with both spellings of an asset's address."""

    tag: str
    raw: JsonObject

    @property
    def published_at(self) -> str:
        return _text(self.raw.get("published_at"))

    @property
    def is_prerelease(self) -> bool:
        return self.raw["prerelease"] is True

    @property
    def assets(self) -> list[JsonObject]:
        return cast("list[JsonObject]", self.raw["assets"])


@dataclass(frozen=True)
class CacheStatus:
    """`age_s` None and `last_fetched` "" when nothing was ever fetched. `limited_s`: the host wants no call so long."""

    has_cache: bool
    is_valid: bool
    is_fetching: bool
    age_s: int | None
    last_fetched: str
    ttl: int
    count: int
    limited_s: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class _Cache:
    fetched: float
    """Seconds since the epoch."""
    pages: list[Page]
    releases: list[Release] = field(default_factory=list[Release])
    offered: list[Release] = field(default_factory=list[Release])
    ttl: int = TTL_S


class ReleaseList:
    """Thread-safe."""

    def __init__(self, app: AppDescription, folder: Path, github: GitHub, now: Callable[[], float] = time.time) -> None:
        """`folder` is `launcher-data/cache`."""
        self._app = app
        self._folder = folder
        self._github = github
        self._now = now
        self._lock = threading.Lock()
        self._fetching = threading.Lock()
        self._cache: _Cache | None = None
        self._read = False
        self._limited_until = 0.0
        self._error = ""

    def offered(self) -> list[Release]:
        """What is known, newest first, without asking anybody; empty when nothing is."""
        cache = self._known()
        return [] if cache is None else cache.offered

    def get(self, tag: str) -> Release:
        """Any release that is known, offered or not. Raises ReleaseNotFound, InvalidInput."""
        tag = check_tag(tag)
        cache = self._known()
        for release in cache.releases if cache else ():
            if release.tag == tag:
                return release
        raise ReleaseNotFound(self._app.name, tag)

    def status(self) -> CacheStatus:
        cache = self._known()
        fetching = self._fetching.locked()
        limited = max(0.0, self._limited_until - self._now())
        if cache is None:
            return CacheStatus(False, False, fetching, None, "", TTL_S, 0, limited, self._error)
        return CacheStatus(
            has_cache=True,
            is_valid=self._is_fresh(cache),
            is_fetching=fetching,
            age_s=max(0, int(self._now() - cache.fetched)),
            last_fetched=_iso(cache.fetched),
            ttl=cache.ttl,
            count=len(cache.releases),
            limited_s=limited,
            error=self._error,
        )

    def is_stale(self) -> bool:
        """Whether it is time to ask, and nobody forbids it."""
        cache = self._known()
        return (cache is None or not self._is_fresh(cache)) and self._now() >= self._limited_until

    def refresh(self, *, only_stale: bool = False) -> None:
        """Ask GitHub, or wait for who is asking already.

        Raises:
            RateLimited, NetworkError, ReleaseNotFound: what is known stays, beside what came before that.
        """
        before = self._cache
        with self._fetching:
            if self._cache is not before or (only_stale and not self.is_stale()):
                return  # somebody else just did
            left = self._limited_until - self._now()
            if left > 0:
                raise RateLimited("GitHub", left)
            try:
                self._fetch()
                self._error = ""
            except PumasError as error:
                self._error = str(error)
                if isinstance(error, RateLimited):
                    self._limited_until = self._now() + error.retry_after_s
                raise

    # -- inside ------------------------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        cache = self._known()
        known = cache.pages if cache else []
        pages: list[Page] = []
        try:
            pages.extend(self._github.pages(self._app.releases.repository, known, self._app.releases.pages))
        except PumasError:
            if pages:  # what came before it is in the list
                fetched = cache.fetched if cache else self._now() - TTL_S - 1
                self._keep(self._cache_of(fetched, pages + known[len(pages) :]))
            raise
        self._keep(self._cache_of(self._now(), pages))

    def _keep(self, fresh: _Cache) -> None:
        with self._lock:
            self._cache = fresh
        try:
            self._save(fresh)
        except PumasError as error:
            log.warning("releases of %s not kept: %s", self._app.id, error)

    def _cache_of(self, fetched: float, pages: list[Page], ttl: int = TTL_S) -> _Cache:
        releases = _releases(pages)
        return _Cache(fetched, pages, releases, _offered(self._app, releases), ttl)

    def _is_fresh(self, cache: _Cache) -> bool:
        """A time in the future is one of a clock that was wrong."""
        return 0 <= self._now() - cache.fetched < cache.ttl

    def _known(self) -> _Cache | None:
        with self._lock:
            if not self._read:
                self._read = True
                found = [cache for name in self._app.release_caches if (cache := self._load(name)) is not None]
                now = self._now()
                self._cache = max(found, key=lambda one: one.fetched if one.fetched <= now else 0.0, default=None)
            return self._cache

    def _load(self, name: str) -> _Cache | None:
        """A cache that cannot be read is none."""
        try:
            value = json_file.parse_object(self._folder / name)
        except (OSError, ValueError):
            return None
        fetched = _seconds(value.get("lastFetched"))
        entries: object = value.get("releases")
        if fetched is None or not isinstance(entries, list):
            return None
        releases = [
            cast(JsonObject, one)
            for one in cast("list[object]", entries)
            if isinstance(one, dict) and isinstance(cast(JsonObject, one).get("tag_name"), str)
        ]
        etags: object = value.get("etags")
        names = [_text(one) for one in cast("list[object]", etags)] if isinstance(etags, list) else []
        whole = len(names) == max(1, -(-len(releases) // PAGE))
        pages = [
            Page(names[at // PAGE] if whole else "", releases[at : at + PAGE])
            for at in range(0, max(1, len(releases)), PAGE)
        ]
        ttl = value.get("ttl")
        return self._cache_of(fetched, pages, ttl if isinstance(ttl, int) and 0 < ttl <= 86400 else TTL_S)

    def _save(self, cache: _Cache) -> None:
        path = self._folder / self._app.release_caches[0]
        with disk_errors("Writing the list of releases"):
            make_folders(path.parent)
        value = {
            "lastFetched": _iso(cache.fetched),
            "ttl": cache.ttl,
            "releases": [release for page in cache.pages for release in page.releases],
            "etags": [page.etag for page in cache.pages],
        }
        json_file.save(path, value)


def is_passing(error: PumasError) -> bool:
    """Whether what is known may be shown although asking failed."""
    return isinstance(error, NetworkError | Offline | ReleaseNotFound)


def _offered(app: AppDescription, releases: list[Release]) -> list[Release]:
    """A bundle that has nothing for this machine yet hides none that has; where none has, all are shown."""
    ready = [one for one in releases if app.package.choose([str(asset.get("name")) for asset in one.assets])]
    known = {one.tag: one for one in ready or releases}
    return [known[tag] for tag in offered(app, known, {one.tag for one in known.values() if one.is_prerelease})]


def _releases(pages: list[Page]) -> list[Release]:
    """One of each tag: what is published between two pages moves the last of the one to the other. Drafts, which only
    their authors are shown, are none."""
    found: dict[str, Release] = {}
    for raw in (raw for page in pages for raw in page.releases):
        tag = str(raw["tag_name"])
        if tag not in found and raw.get("draft") is not True:
            found[tag] = Release(tag, _filled(raw))
    return list(found.values())


def _filled(raw: JsonObject) -> JsonObject:
    """Nothing that a reader needs is missing or null; an asset that is still being uploaded is none."""
    given: object = raw.get("assets")
    listed = cast("list[object]", given) if isinstance(given, list) else []
    assets = [
        {**one, "download_url": one.get("browser_download_url")}
        for one in (cast(JsonObject, one) for one in listed if isinstance(one, dict))
        if one.get("state") in (None, "uploaded")
    ]
    tag = str(raw["tag_name"])
    return {**raw, "name": _text(raw.get("name")) or tag, "prerelease": raw.get("prerelease") is True, "assets": assets}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _iso(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _seconds(value: object) -> float | None:
    """Times as older sidecars wrote them: with `Z`, with an offset, or without either (then UTC)."""
    when = utc_moment(value)
    return None if when is None else when.timestamp()
