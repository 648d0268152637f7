"""The symbolic links that an app's description wants in a version's folder, such as one to what versions share.

Made once when a version is built (`make`), and put right before it is started (`mend`). Blocks.
"""

from __future__ import annotations

import os
from pathlib import Path

from pumas.apps.command import shared_of
from pumas.apps.description import SetupLink
from pumas.storage.files import disk_errors, make_folders
from pumas.versions.places import remove_tree


def make(link: SetupLink, tree: Path, place: Path, root: Path, *, came_with_release: bool) -> None:
    """Make it in `tree`, which will lie at `place`. What the release brought for use inside itself stays.

    Raises:
        DiskError, NotEnoughSpace, ReadOnly.
    """
    path, target = tree / link.name, _target(link, place, root)
    inside = target.is_relative_to(place)
    if came_with_release and inside:
        return
    with disk_errors("Preparing the version"):
        if link.make:
            make_folders(target)
        if inside and not (tree / target.relative_to(place)).exists():
            return
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.exists():
            # What the release or the try made there; the shared folder takes its place.
            remove_tree(path)
        _link(path, target, place / link.name)


def mend(link: SetupLink, place: Path, root: Path) -> None:
    """Make it where nothing is, or where a link leads nowhere. What is there and works stays, whoever made it.

    Raises:
        DiskError, NotEnoughSpace, ReadOnly.
    """
    path, target = place / link.name, _target(link, place, root)
    if path.exists():
        return
    with disk_errors(f"Preparing {link.name}"):
        if link.make:
            make_folders(target)
        if path.is_symlink():
            path.unlink()
        if target.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _link(path, target, path)


def _target(link: SetupLink, place: Path, root: Path) -> Path:
    return Path(link.target.format_map({"folder": str(place), "shared": str(shared_of(root))}))


def _link(path: Path, target: Path, final: Path) -> None:
    """`final` is where `path` will lie: from there the link is relative."""
    os.symlink(os.path.relpath(target, final.parent), path, target_is_directory=target.is_dir())
