"""Which files of which models the rules are about."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import orjson

from pumas.config import Layout
from pumas.errors import CorruptState
from pumas.library.metadata import METADATA, OVERRIDES
from pumas.library.references import REFERENCES, Storage, references
from pumas.library.store import Mappable
from pumas.links.places import Place
from pumas.links.rules import Rule, is_linkable
from pumas.storage import json_file
from pumas.storage.paths import display_name

GONE = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True, slots=True)
class File:
    """One file that a rule wants: `name` in its folder (or the one referenced), `source` absolute, `inside` relative to
    the library or "" when it lies outside."""

    model: Mappable
    name: str
    source: str
    inside: str
    device: int


class Files:
    """Finds them, and notes what is left out: `excluded` says of which models and why; of those in `unread` it is not
    known what they have, and so neither which of their links are wanted."""

    def __init__(self, layout: Layout, place: Place, warnings: list[str]) -> None:
        self._folder = layout.library
        self._library = str(layout.library)
        self._place = place
        self._warnings = warnings
        self.excluded: list[str] = []
        self.unread: set[str] = set()

    def device(self, model: Mappable) -> int | None:
        """Of its folder; None when that is gone or cannot be looked at."""
        try:
            return os.stat(f"{self._library}/{model.id}").st_dev
        except GONE:
            return None
        except OSError:
            self._leave_unread(model)
            return None

    def is_allowed(self, model: Mappable) -> bool:
        """Whether the model's overrides let this version have it. What cannot be understood does not."""
        path = f"{self._library}/{model.id}/{OVERRIDES}"
        try:
            if _read_small(path) == b"{}":
                return True
            overrides = json_file.load(self._folder / model.id / OVERRIDES).value or {}
        except CorruptState:
            self.excluded.append(f"{model.id}: its overrides cannot be read")
            return False
        problem = excluded(overrides, self._place.app.id, self._place.version)
        if problem:
            self.excluded.append(f"{model.id}: {problem}")
        return problem is None

    def of(self, model: Mappable, device: int, *, deep: bool) -> Iterator[File]:
        folder = f"{self._library}/{model.id}"
        try:
            names = list(_deep_names(folder)) if deep else _names(folder)
        except GONE:
            return
        except OSError:
            self._leave_unread(model)
            return
        for name in names:
            try:
                name.encode()
            except UnicodeEncodeError:
                self._warnings.append(f"{model.id}: {display_name(name)[:100]} has no usable name.")
                continue
            inside = f"{model.id}/{name}"
            yield File(model, name, f"{folder}/{name}", inside, device)
        if model.storage == Storage.REFERENCE:
            yield from self._referenced(model)

    def _referenced(self, model: Mappable) -> Iterator[File]:
        """The files of a model that lie in another program's store."""
        try:
            metadata = json_file.load(self._folder / model.id / METADATA).value or {}
        except CorruptState:
            self._leave_unread(model)
            return
        for reference in references(metadata.get(REFERENCES)):
            try:
                device = os.stat(reference.path).st_dev
            except OSError:
                continue
            if is_linkable(os.path.basename(reference.name)):
                yield File(model, reference.name, reference.path, "", device)

    def _leave_unread(self, model: Mappable) -> None:
        """What it has is not known, so neither is which of its links are wanted."""
        self.unread.add(model.id)
        self.excluded.append(f"{model.id}: it cannot be read")


def _names(folder: str) -> list[str]:
    """Raises OSError."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if is_linkable(e.name) and e.is_file())


def _deep_names(folder: str) -> Iterator[str]:
    """Files below a model, but for hidden folders and for models that lie in it. Raises OSError."""
    for path, folders, names in os.walk(folder, onerror=_raise):
        if path != folder and METADATA in names:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for name in sorted(names):
            if is_linkable(name) and os.path.isfile(f"{path}/{name}"):
                yield f"{path}/{name}"[len(folder) + 1 :]


def _raise(error: OSError) -> None:
    raise error


def _read_small(path: str) -> bytes | None:
    """What `json_file.load` would be asked for, read at the least cost; None leaves it to that."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 3)
    except OSError:
        return None
    finally:
        os.close(fd)


def chooser(rules: Sequence[Rule]) -> Callable[[Mappable], list[Rule]]:
    """The rules that want a model. Most models are alike in what rules ask."""
    reads_tags = any(rule.reads_tags for rule in rules)
    known: dict[tuple[str, str, str], list[Rule]] = {}

    def choose(model: Mappable) -> list[Rule]:
        if reads_tags:
            tags = _tags(model.tags_json)
            return [rule for rule in rules if rule.wants_model(model, tags)]
        key = (model.model_type, model.subtype, model.family)
        if key not in known:
            known[key] = [rule for rule in rules if rule.wants_model(model, ())]
        return known[key]

    return choose


def _tags(text: str) -> list[str]:
    try:
        value: object = orjson.loads(text)
    except ValueError:
        return []
    return [tag for tag in value if isinstance(tag, str)] if isinstance(value, list) else []  # pyright: ignore


def excluded(overrides: dict[str, object], app_id: str, version: str) -> str | None:
    """Why a model with these overrides is not for this version of an app; None when it is.

    https://packaging.python.org/en/latest/specifications/version-specifiers/
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion, Version

    ranges = overrides.get("version_ranges")
    if ranges is None:
        return None
    if not isinstance(ranges, dict):
        return "its version ranges cannot be understood"
    for app, specifier in ranges.items():  # pyright: ignore[reportUnknownVariableType] - JSON
        if not isinstance(app, str) or app.lower() != app_id or specifier is None or specifier in ("", "*"):
            continue
        try:
            if not isinstance(specifier, str):
                raise InvalidSpecifier
            if not SpecifierSet(specifier).contains(Version(version), prereleases=True):
                return f"it is for {app} {specifier[:60]}"
        except InvalidSpecifier:
            return f"its version range for {app} cannot be understood"
        except InvalidVersion:
            return f"it is for {app} {str(specifier)[:60]}, and {version[:60]} is no version number"  # pyright: ignore
    return None
