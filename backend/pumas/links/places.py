"""Where models go: the models folder of each installed version of an app.

The one place that links ask about versions: folders that nobody installed get no links.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pumas.apps.catalog import Apps
from pumas.apps.description import AppDescription
from pumas.errors import InvalidInput, VersionNotFound

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,99}")


class Version(Protocol):
    """An installed version; `folder` is absolute."""

    @property
    def tag(self) -> str: ...
    @property
    def folder(self) -> Path: ...


class Installed(Protocol):
    """What is installed of one app; `pumas.versions` knows it. Calls block."""

    def installed(self) -> Sequence[Version]: ...

    def get(self, tag: str) -> Version:
        """Raises VersionNotFound, InvalidInput."""
        ...


OfApp = Callable[[str], Installed]


@dataclass(frozen=True, slots=True)
class Place:
    """An installed version. `models` is its folder for models (absolute, it may not exist yet), "" for an app that
    takes none; `version` is the tag without a leading v."""

    app: AppDescription
    tag: str
    folder: str
    models: str

    @property
    def version(self) -> str:
        return self.tag.lstrip("vV") or self.tag


class Places:
    """Calls block."""

    def __init__(self, apps: Apps, installed: OfApp) -> None:
        self._apps = apps
        self._installed = installed

    def get(self, app_id: str, tag: str) -> Place:
        """
        Raises:
            UnknownApp: no such app.
            InvalidInput: no tag could be written like that.
            VersionNotFound: it is not installed.
        """
        app = self._apps.get(app_id)
        tag = tag.strip()
        if not _TAG.fullmatch(tag):
            raise InvalidInput("version_tag", "must begin with a letter or digit and hold letters, digits, '.' and '-'")
        return _place(app, self._installed(app.id).get(tag))

    def find(self, app_id: str, tag: str) -> Place | None:
        """None for a version that is not installed. Raises UnknownApp, InvalidInput."""
        try:
            return self.get(app_id, tag)
        except VersionNotFound:
            return None

    def require_app(self, app_id: str) -> None:
        """Raises UnknownApp."""
        self._apps.get(app_id)

    def of_app(self, app_id: str) -> list[Place]:
        """All installed versions, by tag. Raises UnknownApp."""
        app = self._apps.get(app_id)
        versions = sorted(self._installed(app.id).installed(), key=lambda version: version.tag)
        return [_place(app, version) for version in versions]

    def all(self) -> list[Place]:
        return [place for app in self._apps for place in self.of_app(app.id)]


def _place(app: AppDescription, version: Version) -> Place:
    folder = str(version.folder)
    return Place(app, version.tag, folder, f"{folder}/{app.models.folder}" if app.models else "")
