"""GitHub's release list of one repository, page by page, each asked for only when it changed.

https://docs.github.com/rest/releases/releases#list-releases and
https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api (conditional requests do not count
against the rate limit). The base address is the setting PUMAS_GITHUB_API. Calls block; nothing is kept here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote

from pumas.errors import HttpStatus, InvalidReply, PumasError, RateLimited, ReleaseNotFound
from pumas.net.client import NetworkClient
from pumas.net.options import Timeouts
from pumas.storage.json_file import JsonObject

API_VARIABLE = "PUMAS_GITHUB_API"
API = "https://api.github.com"
RAW = "https://raw.githubusercontent.com"
PAGE = 100
_HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
_LARGEST_PAGE = 16 * 1024 * 1024
_LARGEST_FILE = 1024 * 1024
_TIMEOUTS = Timeouts(connect_s=5, read_s=10)
_PATIENCE_S = 4.0
_LONGEST_WAIT_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Page:
    """`releases` as the API gave them, `etag` names this state of the page."""

    etag: str
    releases: list[JsonObject]


def api() -> str:
    return os.environ.get(API_VARIABLE, "").rstrip("/") or API


class GitHub:
    """Thread-safe."""

    def __init__(self, network: NetworkClient, now: Callable[[], float] = time.time) -> None:
        self._network = network
        self._now = now

    def pages(self, repository: str, known: Sequence[Page], most: int) -> Iterator[Page]:
        """All pages up to `most`, each when it comes; a page of `known` that has not changed is not sent again.

        Raises:
            RateLimited: with the seconds until the host's own time of reset.
            NetworkError, ReleaseNotFound: there is no such repository.
        """
        for number in range(most):
            page = self._page(repository, number + 1, known[number] if number < len(known) else None)
            yield page
            if len(page.releases) < PAGE:
                break

    def file(self, repository: str, tag: str, path: str) -> bytes:
        """A small file of the repository at a tag. Raises NetworkError; HttpStatus 404 when it has none."""
        if os.environ.get(API_VARIABLE):
            url = f"{api()}/repos/{repository}/contents/{quote(path)}?ref={quote(tag, safe='')}"
        else:
            url = f"{RAW}/{repository}/{quote(tag, safe='')}/{quote(path)}"
        headers = {"Accept": "application/vnd.github.raw"}
        with self._network.send("GET", url, headers=headers, timeouts=_TIMEOUTS, patience_s=_PATIENCE_S) as reply:
            return reply.read(_LARGEST_FILE)

    def _page(self, repository: str, number: int, known: Page | None) -> Page:
        url = f"{api()}/repos/{repository}/releases?per_page={PAGE}&page={number}"
        headers = _HEADERS | ({"If-None-Match": known.etag} if known and known.etag else {})
        with self._network.send(
            "GET", url, headers=headers, timeouts=_TIMEOUTS, patience_s=_PATIENCE_S, check=False, preload=_LARGEST_PAGE
        ) as reply:
            if reply.status == 304 and known is not None:
                return known
            if reply.status >= 400:
                raise self._failure(repository, reply.failure(), reply.headers.get("x-ratelimit-reset", ""))
            body: object = reply.json(_LARGEST_PAGE)
            if not isinstance(body, list):
                raise InvalidReply(reply.failure().host, "no list of releases")
            releases = [_cleaned(cast(JsonObject, one)) for one in cast("list[object]", body) if _is_release(one)]
            return Page(reply.headers.get("ETag", "")[:200], releases)

    def _failure(self, repository: str, error: PumasError, reset: str) -> PumasError:
        if isinstance(error, RateLimited) and reset.isascii() and reset.isdigit():
            wait = min(max(error.retry_after_s, int(reset[:15]) - self._now()), _LONGEST_WAIT_S)
            return RateLimited(error.host, wait)
        if isinstance(error, HttpStatus) and error.status == 404:
            return ReleaseNotFound(repository, "releases", "are not listed by GitHub")
        return error


def _is_release(value: object) -> bool:
    return isinstance(value, dict) and isinstance(cast(JsonObject, value).get("tag_name"), str)


# Big, of no use to anybody here, and about people.
_LEFT_OUT = frozenset({"author", "reactions", "uploader", "mentions_count"})


def _cleaned(release: JsonObject) -> JsonObject:
    kept = {key: value for key, value in release.items() if key not in _LEFT_OUT}
    assets: object = kept.get("assets")
    kept["assets"] = [_asset(cast(JsonObject, one)) for one in cast("list[Any]", assets) if isinstance(one, dict)] if (
        isinstance(assets, list)
    ) else []  # fmt: skip
    return kept


def _asset(asset: JsonObject) -> JsonObject:
    return {key: value for key, value in asset.items() if key not in _LEFT_OUT}
