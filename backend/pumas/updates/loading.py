"""Loads what else would be loaded at first use: once an update has changed the files, that would be of another version.

Called just before; the start after the update begins anew with little. Commands and clients are programs of their own.
"""

from __future__ import annotations

import importlib
import pkgutil

import pumas

_OTHER_PROGRAMS = ("pumas.cli", "pumas.client", "pumas.__main__")


def load_all() -> None:
    """Blocks for a second or so."""
    for module in pkgutil.walk_packages(pumas.__path__, "pumas."):
        if not module.name.startswith(_OTHER_PROGRAMS):
            importlib.import_module(module.name)
