"""Where models go: the models folder of each installed version of an app.

The one place that links ask about versions; today's answer is the version's folder itself.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from pumas.apps.catalog import Apps
from pumas.apps.description import AppDescription
from pumas.config import Layout
from pumas.errors import InvalidInput, VersionNotFound

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,99}")


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
    def __init__(self, layout: Layout, apps: Apps) -> None:
        self._root = str(layout.root)
        self._apps = apps

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
        place = self._place(app, tag)
        if not os.path.isdir(place.folder):
            raise VersionNotFound(app.name, tag)
        return place

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
        try:
            names = sorted(e.name for e in os.scandir(f"{self._root}/{app.folder}") if e.is_dir())
        except OSError:
            return []
        return [self._place(app, name) for name in names if _TAG.fullmatch(name)]

    def all(self) -> list[Place]:
        return [place for app in self._apps for place in self.of_app(app.id)]

    def _place(self, app: AppDescription, tag: str) -> Place:
        folder = f"{self._root}/{app.folder}/{tag}"
        return Place(app, tag, folder, f"{folder}/{app.models.folder}" if app.models else "")
