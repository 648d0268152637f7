"""The folders of an app into which rules lead, and the names that links get there."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pumas.config import Layout
from pumas.errors import PumasError
from pumas.links.files import File
from pumas.links.linking import library_of
from pumas.links.rules import HERE
from pumas.links.volumes import Ability, Volumes, device_of
from pumas.storage.paths import contained, relative_path, slug

# Names that are usable at a glance: what Windows reserves is shorter.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{7,}[A-Za-z0-9._+-]{0,180}[A-Za-z0-9]")


@dataclass(slots=True)
class Folder:
    """A folder of the app into which a rule leads. `path` is the name that links get, `way` leads from where that
    really is to the library.

    `entries` are the names there now: whether each is a symbolic link. `names` are those given to sources so far,
    without case; `known` are those that links have, by source.
    """

    path: str
    device: int
    ability: Ability
    way: str
    entries: dict[str, bool]
    names: dict[str, str] = field(default_factory=dict[str, str])
    known: dict[str, str] = field(default_factory=dict[str, str])

    def name_for(self, file: File) -> str:
        """The name that a file has or gets there."""
        name = self.known.get(file.source) or self._free_name(file)
        self.names[name.casefold()] = file.source
        return name

    def _free_name(self, file: File) -> str:
        """The file's own name, or one with the model's when another model's file has that."""
        own = _usable_name(file.name.rpartition("/")[2])
        candidates = itertools.chain((own,), _other_names(own, file))
        return next(name for name in candidates if self.names.get(name.casefold(), file.source) == file.source)


class Folders:
    """Those that were asked for so far. Why a folder takes no links is added to `warnings`."""

    def __init__(
        self,
        layout: Layout,
        volumes: Volumes,
        models: str,
        known: Mapping[str, Mapping[str, str]],
        warnings: list[str],
        *,
        is_new: bool,
    ) -> None:
        """
        Args:
            models: the app's folder for models, absolute.
            known: the names that links have, by folder and source.
            is_new: the models folder is a link, which is not followed: a real one will be in its place.
        """
        self._root = layout.root
        self._library = library_of(str(layout.root))
        self._volumes = volumes
        self._models = models
        self._known = known
        self._warnings = warnings
        self._is_new = is_new
        self._opened: dict[str, Folder | None] = {}

    def open(self, subdir: str) -> Folder | None:
        """None for one that no link may go into."""
        if subdir not in self._opened:
            self._opened[subdir] = self._look_at(subdir)
        return self._opened[subdir]

    def _look_at(self, subdir: str) -> Folder | None:
        root = self._root / os.path.relpath(self._models, self._root)
        path = self._models if subdir == HERE else f"{self._models}/{subdir}"
        try:
            if subdir != HERE and not self._is_new:
                contained(root, subdir, "target_subdir")
            if not self._is_new and _is_taken(path, self._models):
                self._warnings.append(f"{subdir} is no folder, so nothing is linked there.")
                return None
        except PumasError:
            self._warnings.append(f"{subdir} is a link that leads out of the app, so nothing is linked there.")
            return None
        above = os.path.dirname(self._models)
        real = os.path.realpath(above) + path[len(above) :] if self._is_new else os.path.realpath(path)
        device = device_of(above if self._is_new else path)
        folder = Folder(
            path,
            device,
            self._volumes.ability(device),
            os.path.relpath(self._library, real),
            {} if self._is_new else _entries(path),
            known=dict(self._known.get(path, {})),
        )
        folder.names = {name.casefold(): source for source, name in folder.known.items()}
        return folder


def _is_taken(path: str, models: str) -> bool:
    """Whether something that is no folder stands there, or in the place of a folder above it."""
    while not os.path.lexists(path) and len(path) > len(models):
        path = os.path.dirname(path)
    return os.path.lexists(path) and not os.path.isdir(path)


def _entries(path: str) -> dict[str, bool]:
    try:
        with os.scandir(path) as entries:
            return {entry.name: entry.is_symlink() for entry in entries}
    except FileNotFoundError:
        return {}


def _other_names(own: str, file: File) -> Iterator[str]:
    stem, dot, extension = own.rpartition(".") if "." in own else (own, "", "")
    stem = f"{stem[:100]}-{slug(file.model.id.rpartition('/')[2], 'model')[:80]}"
    yield f"{stem}{dot}{extension}"
    for number in itertools.count(2):
        yield f"{stem}-{number}{dot}{extension}"


def _usable_name(name: str) -> str:
    if _PLAIN.fullmatch(name):
        return name
    try:
        return relative_path(name)
    except PumasError:
        stem, dot, extension = name.rpartition(".")
        return f"{slug(stem, 'file')}.{slug(extension, 'bin')}" if dot else slug(name, "file")
