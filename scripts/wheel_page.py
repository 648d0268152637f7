"""Puts the built page into the package, where `pumas.config.page_folder` looks for it. hatchling calls it for a wheel.

The page is built by `./launcher page`, never here: installing a package starts no other package manager. One without a
page is whole all the same, and says at `/` how to get it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PAGE = Path("electron", "dist", "renderer")
PLACE = "pumas/_page"


class WheelPage(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """`version` is "editable" for an installation that stays in the checkout, which has the page already."""
        if version == "editable":
            return
        page = Path(self.root, PAGE)
        if (page / "index.html").is_file():
            build_data["force_include"][str(page)] = PLACE
        else:
            self.app.display_warning("The page is not built, so this package comes without it; see ./launcher page")
