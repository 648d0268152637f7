"""What would have to be done so that a version of an app finds the library's models. Looks, and changes nothing.

Each file of each model is held against the rules; what they want is held against the app's folder and the registry.
The same library, rules and folder give the same plan, and names once given stay: a plan that was carried out leaves
nothing to do. Foreign things in the way are conflicts. `applying.py` carries plans out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from pumas.config import Layout
from pumas.library.reconcile import LibraryOffline
from pumas.library.store import Mappable
from pumas.links.files import GONE, File, Files, chooser
from pumas.links.folders import Folder, Folders
from pumas.links.linking import LinkKind, is_ours, leads_to, library_of, same_place
from pumas.links.places import Place
from pumas.links.rules import Rules, load_rules
from pumas.links.store import Link, LinkStore
from pumas.links.values import Action, Plan, PlannedLink, Unneeded
from pumas.links.volumes import Ability, Volumes
from pumas.storage.paths import display_name

_SHOWN = 20


class Models(Protocol):
    """What is asked of the library's index. Calls block."""

    @property
    def state(self) -> str: ...

    def mappable(self) -> list[Mappable]: ...


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
        self._plan = Plan(place)
        self._files = Files(layout, place, self._plan.warnings)

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
        folders = Folders(
            self._layout,
            self._volumes,
            place.models,
            self._known_names(by_target),
            plan.warnings,
            is_new=bool(plan.models_link),
        )
        chosen = [one for one in models if model_ids is None or one.id in model_ids]
        wanted = sorted(self._wanted(chosen, rules, folders), key=lambda f: f[0].source not in f[1].known)
        plan.links += [self._classify(file, folder, by_target) for file, folder in wanted]
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

    def _known_names(self, by_target: Mapping[str, Link]) -> Mapping[str, Mapping[str, str]]:
        """By folder and source: a link keeps the name that it was once given."""
        known: dict[str, dict[str, str]] = {}
        for target, row in by_target.items():
            folder, _, name = target.rpartition("/")
            known.setdefault(folder, {}).setdefault(self._store.absolute(row.source_path), name)
        return known

    # -- what the rules want -------------------------------------------------------------------------------------------

    def _wanted(self, models: Sequence[Mappable], rules: Rules, folders: Folders) -> Iterator[tuple[File, Folder]]:
        """Each file once per folder."""
        choose, files = chooser(rules.rules), self._files
        seen: set[tuple[str, str]] = set()
        for model in models:
            chosen = choose(model)
            if not chosen or (device := files.device(model)) is None or not files.is_allowed(model):
                continue
            for file in files.of(model, device, deep=any(rule.deep for rule in chosen)):
                for rule in chosen:
                    if rule.matches(file.name) and (key := (rule.folder, file.source)) not in seen:
                        folder = folders.open(rule.folder)
                        if folder is not None:
                            seen.add(key)
                            yield file, folder

    # -- what is there -------------------------------------------------------------------------------------------------

    def _classify(self, file: File, folder: Folder, by_target: dict[str, Link]) -> PlannedLink:
        name = folder.name_for(file)
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
        self, file: File, folder: Folder, name: str, target: str, wanted: str, row: Link | None
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

    def _look_at_file(self, file: File, target: str, row: Link | None) -> tuple[Action, str, str, str]:
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
            elif row.model_id in self._files.unread or is_unreadable(file):
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
        for text in self._files.excluded[:_SHOWN]:
            plan.warnings.append(f"Left out: {text}.")
        if len(self._files.excluded) > _SHOWN:
            plan.warnings.append(f"{len(self._files.excluded) - _SHOWN} more models are left out.")
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


def is_away(source: str, library: str) -> bool:
    """Whether a missing file may come back: its whole folder, or the library, is not there."""
    if source.startswith(f"{library}/"):
        return not is_there(library)
    return not os.path.isdir(os.path.dirname(source))


def is_unreadable(path: str) -> bool:
    """Whether something may be there that cannot be looked at: it is not known to be gone."""
    try:
        os.stat(path)
    except GONE:
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
