"""What an installed version has and lacks of its packages, by metadata on disk alone; and bringing what it lacks."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from pumas.apps.command import VENV, python_of
from pumas.apps.description import AppDescription
from pumas.config import Layout
from pumas.errors import DependencyFailed
from pumas.versions.packages import Packages, Wish, distributions, normalised
from pumas.versions.requirements import parse
from pumas.versions.running import Programs
from pumas.versions.values import Dependencies


def look_up(app: AppDescription, folder: Path, tag: str) -> Dependencies:
    """A package of a wrong version counts as missing; one below the mark in the requirements file is never missing.

    `absent` are those that the release asks for, as far as the environment alone decides what it can import.
    """
    if app.python is None:
        return Dependencies([], [], None)
    path = folder / app.python.requirements
    text = ""
    with contextlib.suppress(OSError):
        text = path.read_text(encoding="utf-8", errors="replace")
    there = distributions(folder / VENV)
    installed, missing, absent = set[str](), set[str](), set[str]()
    for wanted in parse(text, app.python.optional_after):
        if not wanted.applies():
            continue
        version = there.get(wanted.name)
        if version is not None and wanted.fits(version):
            installed.add(wanted.name)
        elif not wanted.optional:
            missing.add(wanted.name)
            absent |= {wanted.name} if version is None else set[str]()
    for name in map(normalised, app.python.extra):
        if name in there:
            installed.add(name)
        else:
            missing.add(name)
    if not _is_closed(folder / VENV):
        absent.clear()
    place = f"{app.folder}/{tag}/{app.python.requirements}" if path.is_file() else None
    return Dependencies(sorted(installed), sorted(missing), place, sorted(absent))


def _is_closed(venv: Path) -> bool:
    """Whether it is an environment that sees no packages but its own. https://docs.python.org/3/library/venv.html"""
    with contextlib.suppress(OSError):
        text = (venv / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace").lower()
        return "true" not in re.findall(r"(?m)^include-system-site-packages\s*=\s*(\w+)", text)
    return False


def stamp(app: AppDescription, folder: Path) -> object:
    """Changes when the answer of `look_up` may have changed."""
    if app.python is None:
        return None
    stamps: list[object] = []
    for path in (folder / app.python.requirements, *folder.glob("venv/lib/python*/site-packages")):
        with contextlib.suppress(OSError):
            status = path.stat()
            stamps.append((path.name, status.st_mtime_ns, status.st_ino))
    return stamps


def install_dependencies(app: AppDescription, folder: Path, layout: Layout, programs: Programs) -> None:
    """Bring what a version that is there lacks into its own environment, which is made when missing.

    Raises:
        InstallFailed, DependencyFailed.
    """
    if app.python is None:
        raise DependencyFailed("dependencies", f"{app.name} has no Python environment.")
    packages = Packages(layout.cache, programs)
    if not python_of(folder).exists():
        packages.make(folder / VENV)
    requirements = folder / app.python.requirements
    wish = Wish(requirements if requirements.is_file() else None, app.python.extra)
    packages.install(folder, wish, None, on_line=lambda _line: None, on_look=lambda: None)
