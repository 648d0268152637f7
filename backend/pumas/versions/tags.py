"""Release tags: which are allowed, and in which order they come.

A tag is also a folder name. Order is that of the version inside the tag (https://peps.python.org/pep-0440/), so that
v0.10 comes after v0.9; tags without a version come last, by text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from pumas.apps.description import AppDescription
from pumas.errors import InvalidInput
from pumas.storage.paths import relative_path

if TYPE_CHECKING:
    from packaging.version import Version

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,99}")


def check_tag(text: str) -> str:
    """The trimmed tag.

    Raises:
        InvalidInput: not made of letters, digits, `.` and `-`, or no name for a folder.
    """
    tag = text.strip()
    if not _TAG.fullmatch(tag):
        raise InvalidInput("tag", "must be made of letters, digits, '.' and '-', and begin with a letter or digit")
    relative_path(tag, "tag")
    return tag


def _installable(tag: str) -> bool:
    try:
        return check_tag(tag) == tag
    except InvalidInput:
        return False


@functools.lru_cache(maxsize=4096)
def _version(text: str) -> Version | None:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(text)
    except InvalidVersion:
        return None


def version_of(app: AppDescription, tag: str) -> Version | None:
    """The version inside a tag; None when there is none."""
    text = app.releases.version_text(tag)
    return _version(text) if text else None


def newest_first(app: AppDescription, tags: Iterable[str]) -> list[str]:
    def key(tag: str) -> tuple[bool, Any, str]:
        version = version_of(app, tag)
        return (False, 0, tag) if version is None else (True, version, tag)

    return sorted(tags, key=key, reverse=True)


def offered(app: AppDescription, tags: Iterable[str], prereleases: Collection[str] = ()) -> list[str]:
    """Those tags that are offered, newest first: with `newest_per` minor only the highest of each major.minor, and
    beside it the highest prerelease that comes after it, which must not hide it; tags without a version, and such as
    cannot be installed, never."""
    known = [(tag, version) for tag in tags if _installable(tag) and (version := version_of(app, tag)) is not None]
    known.sort(key=lambda one: one[1], reverse=True)
    if app.releases.newest_per == "release":
        return [tag for tag, _version in known]
    chosen: list[str] = []
    seen: dict[bool, set[tuple[int, int, int]]] = {True: set(), False: set()}
    for tag, version in known:
        minor = (version.epoch, version.major, version.minor)
        is_prerelease = tag in prereleases or version.is_prerelease
        if minor not in seen[False] and minor not in seen[is_prerelease]:
            seen[is_prerelease].add(minor)
            chosen.append(tag)
    return chosen
