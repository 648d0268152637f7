"""What would have to be done so that a version of an app finds the library's models. Looks, and changes nothing.

Each file of each model is held against the rules; what they want is held against the app's folder and the registry.
The same library, rules and folder give the same plan, and names once given stay: a plan that was carried out leaves
nothing to do. Foreign things in the way are conflicts. `applying.py` carries plans out.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import orjson

from pumas.config import Layout
from pumas.errors import CorruptState, PumasError
from pumas.library.metadata import METADATA, OVERRIDES
from pumas.library.reconcile import LibraryOffline
from pumas.library.references import REFERENCES, Storage, references
from pumas.library.store import Mappable
from pumas.links.linking import LinkKind, is_ours, leads_to, library_of, same_place
from pumas.links.places import Place
from pumas.links.rules import HERE, Rule, Rules, is_linkable, load_rules
from pumas.links.store import Link, LinkStore
from pumas.links.values import Action, Plan, PlannedLink, Unneeded
from pumas.links.volumes import Ability, Volumes, device_of
from pumas.storage import json_file
from pumas.storage.paths import contained, display_name, relative_path, slug

_SHOWN = 20
_GONE = (FileNotFoundError, NotADirectoryError)
# Names that are usable at a glance: what Windows reserves is shorter.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{7,}[A-Za-z0-9._+-]{0,180}[A-Za-z0-9]")


class Models(Protocol):
    """What is asked of the library's index. Calls block."""

    @property
    def state(self) -> str: ...

    def mappable(self) -> list[Mappable]: ...


@dataclass(slots=True)
class _Folder:
    """A folder of the app into which a rule leads. `path` is the name that links get, `real` where that is.

    `entries` are the names there now: whether each is a symbolic link. `names` are those given to sources so far.
    """

    path: str
    real: str
    device: int
    ability: Ability
    way: str
    entries: dict[str, bool]
    names: dict[str, str] = field(default_factory=dict[str, str])
    known: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class _File:
    """One file that a rule wants: `name` in its folder (or the one referenced), `source` absolute, `inside` relative to
    the library or "" when it lies outside."""

    model: Mappable
    name: str
    source: str
    inside: str
    device: int


class Planner:
    """Calls block."""

    def __init__(self, layout: Layout, store: LinkStore, models: Models, volumes: Volumes) -> None:
        self._layout = layout
        self._store = store
        self._models = models
        self._volumes = volumes

    def plan(
        self,
        place: Place,
        model_ids: Collection[str] | None = None,
        *,
        allow_copy: bool = False,
        replace_models_link: bool = False,
    ) -> Plan:
        """
        Args:
            model_ids: only these; None means all, and then links that are not wanted any more are seen too.
            allow_copy: where no link can be made, plan a copy.
            replace_models_link: a folder may take the place of a models folder that is somebody's link.

        Raises:
            LibraryOffline: the library's drive is away.
            PumasError: the index or the registry cannot be read.
        """
        run = _Run(
            self._layout,
            self._store,
            self._volumes,
            place,
            allow_copy=allow_copy,
            replace_models_link=replace_models_link,
        )
        return run.plan(self._listed(), model_ids)

    def _listed(self) -> list[Mappable]:
        models = self._models.mappable()
        if self._models.state == "offline" or (models and not is_there(str(self._layout.library))):
            raise LibraryOffline("The library's drive is away; nothing was looked at or changed.")
        return models


class _Run:
    def __init__(
        self,
        layout: Layout,
        store: LinkStore,
        volumes: Volumes,
        place: Place,
        *,
        allow_copy: bool,
        replace_models_link: bool,
    ) -> None:
        self._layout = layout
        self._library = str(layout.library)
        self._named_library = library_of(store.root)
        self._store = store
        self._volumes = volumes
        self._place = place
        self._allow_copy = allow_copy
        self._replace_models_link = replace_models_link
        self._folders: dict[str, _Folder | None] = {}
        self._plan = Plan(place)
        self._excluded: list[str] = []
        self._unread: set[str] = set()

    def plan(self, models: Sequence[Mappable], model_ids: Collection[str] | None) -> Plan:
        plan, place = self._plan, self._place
        if not place.models:
            plan.errors.append(f"{place.app.name} takes no models by links.")
            return plan
        rules = load_rules(self._layout, place.app, place.version)
        plan.from_app = rules.from_app
        plan.warnings += rules.warnings
        if not rules.rules:
            plan.errors.append(f"There are no mapping rules for {place.app.name} {place.tag}.")
        if not self._look_at_models_folder():
            return plan
        rows = self._store.below(place.models)
        by_target = {self._store.absolute(row.target_path): row for row in rows}
        self._note_known_names(by_target)
        wanted = [one for one in models if model_ids is None or one.id in model_ids]
        for file, folder in sorted(self._wanted(wanted, rules), key=lambda f: f[0].source not in f[1].known):
            if (planned := self._classify(file, folder, by_target)) is not None:
                plan.links.append(planned)
        plan.links.sort(key=lambda link: link.target)
        self._look_at_rest(by_target, model_ids)
        self._warn()
        return plan

    # -- the app's folders ---------------------------------------------------------------------------------------------

    def _look_at_models_folder(self) -> bool:
        """Whether links can be planned there."""
        models = self._place.models
        if not os.path.islink(models):
            if os.path.lexists(models) and not os.path.isdir(models):
                self._plan.errors.append(f"{os.path.basename(models)} of {self._place.tag} is no folder.")
                return False
            return True
        real = os.path.realpath(models)
        library = os.path.realpath(self._library)
        if real == library or real.startswith(f"{library}/") or library.startswith(f"{real}/"):
            # Links made through it would land in the library itself.
            self._plan.models_link = os.readlink(models)
            return True
        text = os.readlink(models)
        self._plan.foreign_link = display_name(text)
        if self._replace_models_link:
            self._plan.models_link = text
            return True
        self._plan.errors.append(
            f"The models folder of {self._place.tag} is a link to {display_name(text)}, so nothing is linked there; "
            "replace_models_link puts a folder in its place and keeps the link beside that."
        )
        return False

    def _note_known_names(self, by_target: dict[str, Link]) -> None:
        """A link keeps the name that it was once given."""
        self._known: dict[str, dict[str, str]] = {}
        for target, row in by_target.items():
            folder, _, name = target.rpartition("/")
            self._known.setdefault(folder, {}).setdefault(self._store.absolute(row.source_path), name)

    def _folder(self, subdir: str) -> _Folder | None:
        """None for one that no link may go into."""
        if subdir not in self._folders:
            self._folders[subdir] = self._open_folder(subdir)
        return self._folders[subdir]

    def _open_folder(self, subdir: str) -> _Folder | None:
        root = self._layout.root / os.path.relpath(self._place.models, self._layout.root)
        path = self._place.models if subdir == HERE else f"{self._place.models}/{subdir}"
        empty = bool(self._plan.models_link)
        try:
            if subdir != HERE and not empty:
                contained(root, subdir, "target_subdir")
            if not empty and _is_taken(path, self._place.models):
                self._plan.warnings.append(f"{subdir} is no folder, so nothing is linked there.")
                return None
        except PumasError:
            self._plan.warnings.append(f"{subdir} is a link that leads out of the app, so nothing is linked there.")
            return None
        # A models folder that is a link itself is not followed: a real one will be in its place.
        above = os.path.dirname(self._place.models)
        real = os.path.realpath(above) + path[len(above) :] if empty else os.path.realpath(path)
        device = device_of(above if empty else path)
        folder = _Folder(
            path,
            real,
            device,
            self._volumes.ability(device),
            os.path.relpath(self._named_library, real),
            {} if empty else _entries(path),
            known=self._known.get(path, {}),
        )
        folder.names = {name.casefold(): source for source, name in folder.known.items()}
        return folder

    # -- what the rules want -------------------------------------------------------------------------------------------

    def _wanted(self, models: Sequence[Mappable], rules: Rules) -> Iterator[tuple[_File, _Folder]]:
        """Each file once per folder."""
        choose = _chooser(rules.rules)
        seen: set[tuple[str, str]] = set()
        for model in models:
            chosen = choose(model)
            if not chosen or (device := self._device(model)) is None or not self._allowed(model):
                continue
            for file in self._files(model, device, deep=any(rule.deep for rule in chosen)):
                for rule in chosen:
                    if rule.matches(file.name) and (key := (rule.folder, file.source)) not in seen:
                        folder = self._folder(rule.folder)
                        if folder is not None:
                            seen.add(key)
                            yield file, folder

    def _device(self, model: Mappable) -> int | None:
        """Of its folder; None when that is gone or cannot be looked at."""
        try:
            return os.stat(f"{self._library}/{model.id}").st_dev
        except _GONE:
            return None
        except OSError:
            self._leave_unread(model)
            return None

    def _allowed(self, model: Mappable) -> bool:
        """Whether the model's overrides let this version have it. What cannot be understood does not."""
        path = f"{self._library}/{model.id}/{OVERRIDES}"
        try:
            if _read_small(path) == b"{}":
                return True
            overrides = json_file.load(self._layout.library / model.id / OVERRIDES).value or {}
        except CorruptState:
            self._excluded.append(f"{model.id}: its overrides cannot be read")
            return False
        problem = excluded(overrides, self._place.app.id, self._place.version)
        if problem:
            self._excluded.append(f"{model.id}: {problem}")
        return problem is None

    def _files(self, model: Mappable, device: int, *, deep: bool) -> Iterator[_File]:
        folder = f"{self._library}/{model.id}"
        try:
            names = list(_deep_names(folder)) if deep else _names(folder)
        except _GONE:
            return
        except OSError:
            self._leave_unread(model)
            return
        for name in names:
            try:
                name.encode()
            except UnicodeEncodeError:
                self._plan.warnings.append(f"{model.id}: {display_name(name)[:100]} has no usable name.")
                continue
            inside = f"{model.id}/{name}"
            yield _File(model, name, f"{folder}/{name}", inside, device)
        if model.storage == Storage.REFERENCE:
            yield from self._referenced(model)

    def _referenced(self, model: Mappable) -> Iterator[_File]:
        """The files of a model that lie in another program's store."""
        try:
            metadata = json_file.load(self._layout.library / model.id / METADATA).value or {}
        except CorruptState:
            self._leave_unread(model)
            return
        for reference in references(metadata.get(REFERENCES)):
            try:
                device = os.stat(reference.path).st_dev
            except OSError:
                continue
            if is_linkable(os.path.basename(reference.name)):
                yield _File(model, reference.name, reference.path, "", device)

    def _leave_unread(self, model: Mappable) -> None:
        """What it has is not known, so neither is which of its links are wanted."""
        self._unread.add(model.id)
        self._excluded.append(f"{model.id}: it cannot be read")

    # -- what is there -------------------------------------------------------------------------------------------------

    def _classify(self, file: _File, folder: _Folder, by_target: dict[str, Link]) -> PlannedLink | None:
        name = folder.known.get(file.source) or _free_name(file, folder)
        folder.names[name.casefold()] = file.source
        target = f"{folder.path}/{name}"
        external = file.device != folder.device
        kind = _kind(folder.ability, external=external)
        library = self._named_library if external else folder.way
        text = f"{library}/{file.inside}" if file.inside else file.source
        action, reason, existing, stamp = self._look(file, folder, name, target, text, by_target.get(target))
        size = _size(file.source) if kind is LinkKind.COPY else 0
        if kind is LinkKind.COPY and action in (Action.CREATE, Action.UPDATE) and not self._allow_copy:
            action, reason = Action.COPY, "No link can be made there; it would need a copy"
        return PlannedLink(
            action,
            file.model.id,
            file.model.official_name,
            file.source,
            target,
            kind,
            text if kind is LinkKind.SYMLINK else "",
            external,
            reason,
            existing,
            size,
            stamp,
        )

    def _look(
        self, file: _File, folder: _Folder, name: str, target: str, wanted: str, row: Link | None
    ) -> tuple[Action, str, str, str]:
        """(action, reason, what is there, its stamp)"""
        is_link = folder.entries.get(name)
        if is_link is None:
            return Action.CREATE, "The link is missing" if row else "New", "", ""
        try:
            if not is_link:
                return self._look_at_file(file, target, row)
            text = os.readlink(target)
        except OSError:
            return Action.CONFLICT, "It cannot be looked at", "", ""
        if text == wanted or same_place(leads_to(target, text), file.source):
            return Action.SKIP, "Already linked" if row else "Already linked, though not by us", text, ""
        if row is not None and is_ours(row, target, self._store.absolute(row.source_path)):
            return Action.UPDATE, "Our link leads elsewhere", text, ""
        return Action.CONFLICT, "Symlink to a different source", text, f"link {text}"

    def _look_at_file(self, file: _File, target: str, row: Link | None) -> tuple[Action, str, str, str]:
        status = os.lstat(target)
        stamp = f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"
        ours = row is not None and is_ours(row, target, self._store.absolute(row.source_path))
        if stat.S_ISREG(status.st_mode) and os.path.samestat(status, os.stat(file.source)):
            return Action.SKIP, "Already linked" if row else "Already linked, though not by us", "", ""
        if ours and row is not None and row.link_type == LinkKind.COPY:
            if self._store.absolute(row.source_path) == file.source and status.st_size == _size(file.source):
                return Action.SKIP, "Already copied", "", ""
            return Action.UPDATE, "Our copy is of another file", "", stamp
        if ours:
            return Action.UPDATE, "Our link leads elsewhere", "", stamp
        what = "folder" if stat.S_ISDIR(status.st_mode) else "file exists"
        return Action.CONFLICT, f"Non-symlink {what}", target, stamp

    # -- rows that no wanted file has ----------------------------------------------------------------------------------

    def _look_at_rest(self, by_target: dict[str, Link], model_ids: Collection[str] | None) -> None:
        wanted = {link.target for link in self._plan.links}
        away = unread = 0
        for target, row in by_target.items():
            if target in wanted or (model_ids is not None and row.model_id not in model_ids):
                continue
            source = self._store.absolute(row.source_path)
            unneeded = Unneeded(row, target, _text_of(target), "")
            file = target if row.link_type == LinkKind.SYMLINK else source
            if self._plan.models_link or not os.path.lexists(target):
                self._plan.broken.append(_because(unneeded, "The link is gone"))
            elif not is_ours(row, target, source):
                self._plan.broken.append(_because(unneeded, "Something else is there now; it stays"))
            elif row.model_id in self._unread or is_unreadable(file):
                unread += 1
            elif os.path.exists(file):
                self._plan.unwanted.append(_because(unneeded, "No rule wants it any more"))
            elif is_away(source, self._library):
                away += 1
            else:
                self._plan.broken.append(_because(unneeded, "The model's file is gone"))
        if away:
            self._plan.warnings.append(f"{away} links lead to files on a drive that is away; they stay.")
        if unread:
            self._plan.warnings.append(f"{unread} links are of models that cannot be read; they stay.")

    def _warn(self) -> None:
        plan = self._plan
        external = sum(link.external for link in plan.links)
        if external:
            plan.warnings.append(
                f"The library and the app lie on different volumes: {external} links are absolute and break when the "
                "library is moved."
            )
        for text in self._excluded[:_SHOWN]:
            plan.warnings.append(f"Left out: {text}.")
        if len(self._excluded) > _SHOWN:
            plan.warnings.append(f"{len(self._excluded) - _SHOWN} more models are left out.")
        copies = plan.of(Action.COPY)
        if copies:
            plan.warnings.append(
                f"{len(copies)} files ({sum(link.size for link in copies):,} bytes) cannot be linked there and would "
                "have to be copied; allow_copy does that."
            )
        if plan.foreign_link:
            plan.warnings.append(
                f"The models folder is a link to {plan.foreign_link}; it is moved aside for a real folder. The app "
                "finds what lies there again when it is imported."
            )
        elif plan.models_link:
            plan.warnings.append("The models folder is a link into the library; it is moved aside for a real folder.")
        if plan.unwanted:
            plan.warnings.append(f"{len(plan.unwanted)} links are wanted by no rule any more; they stay until removed.")


def _because(unneeded: Unneeded, reason: str) -> Unneeded:
    return Unneeded(unneeded.link, unneeded.target, unneeded.existing, reason)


def _chooser(rules: Sequence[Rule]) -> Callable[[Mappable], list[Rule]]:
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


def is_away(source: str, library: str) -> bool:
    """Whether a missing file may come back: its whole folder, or the library, is not there."""
    if source.startswith(f"{library}/"):
        return not is_there(library)
    return not os.path.isdir(os.path.dirname(source))


def is_unreadable(path: str) -> bool:
    """Whether something may be there that cannot be looked at: it is not known to be gone."""
    try:
        os.stat(path)
    except _GONE:
        return False
    except OSError:
        return True
    return False


def is_there(library: str) -> bool:
    """Whether the library's drive is: a folder in which nothing is may be the place where it should be mounted."""
    try:
        with os.scandir(library) as entries:
            return any(entry.name[0] != "." and entry.is_dir() for entry in entries)
    except OSError:
        return False


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


def _free_name(file: _File, folder: _Folder) -> str:
    """The file's own name, or one with the model's when another model's file has that."""
    own = _usable_name(file.name.rpartition("/")[2])
    if folder.names.get(own.casefold(), file.source) == file.source:
        return own
    return next(
        name for name in _other_names(own, file) if folder.names.get(name.casefold(), file.source) == file.source
    )


def _other_names(own: str, file: _File) -> Iterator[str]:
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


def _kind(ability: Ability, *, external: bool) -> LinkKind:
    if ability.symlinks:
        return LinkKind.SYMLINK
    return LinkKind.HARDLINK if ability.hardlinks and not external else LinkKind.COPY


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _text_of(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
