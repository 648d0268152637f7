"""Carries out one installation: download, extract, venv, dependencies, setup, and the rename that makes it visible.

A version is built beside the others, started once, and takes its place whole; until then nothing that was there is
touched. Each step can be done again, so an interrupted installation goes on where it was. One `Install` per run; `run`
blocks in a thread of its own. Knows apps by their descriptions alone.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pumas.apps.command import VENV, is_complete, missing_of, python_of
from pumas.apps.description import AppDescription, Python
from pumas.config import Layout
from pumas.errors import (
    Cancelled,
    DependencyFailed,
    InstallFailed,
    Interrupted,
    PumasError,
    UnsafeArchive,
)
from pumas.jobs.store import Json, now
from pumas.storage import json_file
from pumas.storage.files import (
    DiskFull,
    disk_errors,
    has_no_room,
    make_folders,
    remove_stale_temporaries,
)
from pumas.storage.json_file import JsonObject
from pumas.versions.archive import FORMS, extract, form_of, single_folder
from pumas.versions.fetching import Archive, ArchiveFetch
from pumas.versions.filling import Filling, Resolution
from pumas.versions.packages import Packages, Resolved, Wish, relocate
from pumas.versions.places import Places, remove_tree, sync, write_lightly
from pumas.versions.placing import Placing
from pumas.versions.progress import Progress
from pumas.versions.requirements import digest
from pumas.versions.running import InstallLog, Programs, end_noted
from pumas.versions.setup_links import make
from pumas.versions.smoke import smoke_launch
from pumas.versions.state import MARKER, VersionState

if TYPE_CHECKING:
    from pumas.downloads.bandwidth import Bandwidth
    from pumas.net.client import NetworkClient

_RESOLVING = "resolving.json"
# What took less is sooner done again after a kill than kept: that waits for all that anybody writes on the volume.
_WORTH_KEEPING_S = 1.0
_PROGRAM_STARTS = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"MZ", b"#!")


class Work(Protocol):
    """What an installation needs of its job; `JobContext` is one."""

    @property
    def job_id(self) -> str: ...
    @property
    def checkpoint(self) -> Json: ...
    def check(self) -> None: ...
    def save_checkpoint_sync(self, state: Json) -> None: ...


@dataclass(frozen=True)
class Plan:
    """What is to be installed. `replace`: build the tag anew although it is there; `activate`: use it then."""

    app_id: str
    tag: str
    archive: Archive
    published_at: str = ""
    replace: bool = False
    activate: bool = False

    def to_json(self) -> Json:
        return {
            "app_id": self.app_id,
            "tag": self.tag,
            "archive": self.archive.to_json(),
            "published_at": self.published_at,
            "replace": self.replace,
            "activate": self.activate,
        }

    @classmethod
    def from_json(cls, value: Json) -> Plan:
        return cls(
            value["app_id"],
            value["tag"],
            Archive.from_json(value["archive"]),
            value["published_at"],
            value["replace"],
            value["activate"],
        )


@dataclass(frozen=True)
class Tools:
    """What all installations use. `in_use` says whether a version runs; `smoke` False leaves out the try."""

    layout: Layout
    network: NetworkClient
    bandwidth: Bandwidth
    in_use: Callable[[str, str], bool]
    smoke: bool = True


class Install:
    def __init__(
        self,
        tools: Tools,
        work: Work,
        app: AppDescription,
        state: VersionState,
        plan: Plan,
        progress: Progress,
        log: InstallLog,
    ) -> None:
        self._tools, self._job, self._app, self._state, self._plan = tools, work, app, state, plan
        self._progress, self._log = progress, log
        self._places = Places(state.folder)
        self._tree = self._places.tree(work.job_id)
        self._placing = Placing(state, self._places, plan.tag, work.job_id)
        self._warnings: list[str] = []
        self._kept: Json = work.checkpoint
        # Waits for the list of what was installed, which is made while the version is tried.
        self._list: Callable[[], None] = lambda: None

    def run(self) -> Json:
        """The job's result: `app_id`, `tag`, `path`, `warnings`.

        Raises:
            InstallFailed, DependencyFailed, SmokeLaunchFailed, UnsafeArchive, NetworkError, DigestMismatch, the disk's
            failures; what was built is removed then. Cancelled likewise; Interrupted leaves it for the next run.
        """
        self._log.say(f"Installing {self._app.name} {self._plan.tag}.")
        try:
            with disk_errors("Installing"):
                if not self._placing.is_placed():
                    self._job.check()
                    self._build()
                return self._finish()
        except Interrupted:
            self._log.say("Interrupted; it goes on when the sidecar runs again.")
            raise
        except Cancelled:
            self._log.say("Cancelled.")
            self._discard()
            raise
        except PumasError as failure:
            error = self._cause_of(failure)
            self._log.say(f"Failed: {failure}" if error is failure else f"Failed: {failure} {error}")
            self._discard()
            raise error from None

    def _cause_of(self, failure: PumasError) -> PumasError:
        """Programs that we start say in words of their own that the disk is full."""
        if isinstance(failure, InstallFailed) and has_no_room(self._places.folder):
            return DiskFull("Installing")
        return failure

    # -- steps -------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        work = self._places.work(self._job.job_id)
        programs = Programs(work / "running.json", self._log, self._job.check)
        programs.end_leftover()
        end_noted(work / _RESOLVING)
        packages = Packages(self._tools.layout.cache, programs)
        done: list[str] = self._kept.get("steps", [])
        if "extract" not in done or not self._tree.is_dir():
            done = []
        self._kept = {**self._kept, "steps": done}
        keeping: list[Future[None]] = []
        with ThreadPoolExecutor(1, "install-sync") as aside, ThreadPoolExecutor(1, "resolve") as resolving:
            needless: Path | None = None
            if "extract" not in done:
                archive = needless = self._download(work)
                if self._step("extract", lambda: self._unpack(archive, work)) > _WORTH_KEEPING_S:
                    keeping.append(aside.submit(self._keep_done, ["extract"], needless))
                    needless = None
            if self._app.python is not None and "dependencies" not in done:
                self._build_environment(self._app.python, packages, work, resolving)
                keeping.append(aside.submit(self._keep_done, ["extract", "dependencies"], needless))
            self._progress.stage("setup", "Trying to start it")
            self._set_up(programs)
            for kept in keeping:
                kept.result()

    def _keep_done(self, steps: list[str], needless: Path | None) -> None:
        """Keep which steps are done, once a power cut would take nothing they made, and remove what that was made of.

        Meanwhile the work goes on; little is left to write then when the version takes its place.
        """
        with contextlib.suppress(OSError, PumasError):  # a step that is not kept is done again
            sync(self._tree)
            self._kept = {**self._kept, "steps": steps}
            self._job.save_checkpoint_sync(self._kept)
            if needless is not None:
                needless.unlink(missing_ok=True)

    def _step(self, name: str, work: Callable[[], None]) -> float:
        """Seconds that it took."""
        self._job.check()
        began = time.monotonic()
        self._progress.stage(name)
        self._log.say(f"Stage {name}.")
        work()
        took = time.monotonic() - began
        self._log.say(f"Stage {name} took {took:.1f} s.")
        return took

    def _download(self, work: Path) -> Path:
        self._progress.stage("download", self._plan.archive.name)
        self._log.say(f"Stage download: {self._plan.archive.url}")
        fetch = ArchiveFetch(
            self._plan.archive,
            work,
            self._tools.network,
            self._tools.bandwidth,
            self._job.check,
            self._progress.download,
        )
        archive, sha256 = fetch.run()
        size = archive.stat().st_size
        verified = "as published" if fetch.compared else "not compared with a published one"
        self._log.say(f"{size:,} bytes, sha256 {sha256} ({verified}).")
        self._progress.arrived(self._plan.archive.name, "archive", size)
        self._kept = {**self._kept, "sha256": sha256, "size": size}  # it is there still when this is not kept
        return archive

    def _unpack(self, archive: Path, work: Path) -> None:
        remove_tree(self._tree)
        fresh = work / "unpacked"
        remove_tree(fresh)
        if form_of(archive) is None and self._app.package.kind == "bundle":
            self._place_program(archive, fresh)
        else:
            self._extract(archive, fresh)
        with disk_errors("Unpacking"):
            top = fresh if (fresh / self._app.package.complete[0].split("|")[0]).exists() else single_folder(fresh)
            top.chmod(0o755)
            for name in self._app.package.programs:
                _let_run(top / name)
            os.rename(top, self._tree)
        remove_tree(fresh)

    def _extract(self, archive: Path, fresh: Path) -> None:
        size, done, told = max(1, archive.stat().st_size), 0, 0

        def advance(count: int) -> None:
            nonlocal done, told
            done += count
            self._job.check()
            # Of hundreds of thousands of small members nobody hears one by one.
            if done * 100 // size > told:
                told = done * 100 // size
                self._progress.at(done / size)

        written = extract(archive, fresh, advance=advance)
        self._log.say(f"Unpacked {written:,} bytes.")

    def _place_program(self, file: Path, fresh: Path) -> None:
        """Some releases are the program itself."""
        with disk_errors("Unpacking"), open(file, "rb") as start:
            if not start.read(4).startswith(_PROGRAM_STARTS):
                raise UnsafeArchive(f"it is no program and no archive that is known ({FORMS})")
        with disk_errors("Unpacking"):
            fresh.mkdir(mode=0o700)
            target = fresh / Path(self._app.package.programs[-1]).name
            shutil.copyfile(file, target)
            target.chmod(0o755)

    def _build_environment(self, python: Python, packages: Packages, work: Path, resolving: Executor) -> None:
        """Make the environment and fill it.

        One that was being filled when a kill came may hold halves of packages: it is made anew.
        """
        requirements = self._tree / python.requirements
        wish = Wish(requirements if requirements.is_file() else None, python.extra, before=self._plan.published_at)
        programs = Programs(work / _RESOLVING, self._log, self._job.check)

        def resolve() -> Future[Resolution]:
            aside = Packages(self._tools.layout.cache, programs)
            return resolving.submit(aside.resolve_dated, wish, build=True, python=python_of(self._tree))

        def make() -> None:
            self._log.say(f"Python {platform.python_version()} by {packages.tool}.")
            packages.make(self._tree / VENV)

        self._step("venv", make)
        self._step("dependencies", lambda: self._install_dependencies(packages, wish, resolve))

    def _install_dependencies(self, packages: Packages, wish: Wish, resolve: Callable[[], Future[Resolution]]) -> None:
        if wish.requirements is None and not wish.extra:
            return
        self._progress.at(0.0, "Resolving")
        filling = Filling(self._tree, packages, wish, self._progress)
        if packages.resolves_by_itself:
            before = filling.fill_by_itself(resolve)
            self._list = lambda: self._keep_list(filling, wish)
        else:
            resolved, before = resolve().result()
            filling.fill(resolved, self._keep_constraints(wish.requirements, resolved))
        if wish.before and not before:
            self._log.say(packages.why_undated)
            self._warnings.append(packages.why_undated)

    def _keep_list(self, filling: Filling, wish: Wish) -> None:
        try:
            self._keep_constraints(wish.requirements, filling.listed())
        except DependencyFailed as error:  # the environment is whole: nothing depends on it
            self._log.say(f"What was installed cannot be listed. {error}")

    def _keep_constraints(self, requirements: Path | None, resolved: list[Resolved]) -> Path:
        """Exactly what was resolved, kept for a look; named by what it was made from, so that it is never stale."""
        text = requirements.read_bytes() if requirements else b""
        name = f"{self._plan.tag}-{digest(text)[7:19]}.txt"
        path = self._tools.layout.cache / "constraints" / name
        lines = [f"{one.name}=={one.version}" for one in resolved if one.version and not _is_direct(one)]
        with disk_errors("Writing the constraints"):
            make_folders(path.parent)
            write_lightly(path, "\n".join([*lines, ""]).encode())
        return path

    def _set_up(self, programs: Programs) -> None:
        before = set(os.listdir(self._tree))
        if not is_complete(self._app, self._tree):
            raise InstallFailed(
                "setup", f"The release of {self._app.name} lacks {', '.join(missing_of(self._app, self._tree))}."
            )
        if self._tools.smoke:
            seconds = smoke_launch(self._app, self._tree, self._tools.layout.root, programs)
            self._log.say(f"Started and answered after {seconds:.1f} s.")
        self._list()
        self._progress.at(0.6, "Finishing")
        place = self._state.place(self._plan.tag)
        for link in self._app.links:
            make(link, self._tree, place, self._tools.layout.root, came_with_release=link.name in before)
        if self._app.models is not None:
            with disk_errors("Preparing the models' folder"):
                make_folders(self._tree / self._app.models.folder)
        if self._app.python is not None:
            relocate(self._tree / VENV, place)
        self._mark()
        self._job.check()
        began = time.monotonic()
        self._placing.take(replace=self._plan.replace, in_use=self._tools.in_use)
        self._log.say(f"In place after {time.monotonic() - began:.2f} s.")

    # -- taking its place --------------------------------------------------------------------------------------------

    def _mark(self) -> None:
        value: JsonObject = {"app": self._app.id, "tag": self._plan.tag, "job": self._job.job_id, "info": self._info()}
        with disk_errors("Preparing the version"):
            remove_stale_temporaries(self._tree)  # of an earlier run that was killed here
            # It comes to the disk with all else before the version takes its place.
            write_lightly(self._tree / MARKER, json_file.encode(value))

    def _info(self) -> JsonObject:
        info: JsonObject = {
            "path": f"{self._app.folder}/{self._plan.tag}",
            "installedDate": now(),
            "releaseTag": self._plan.tag,
            "releaseDate": self._plan.published_at or None,
            "downloadUrl": self._plan.archive.url,
            "size": self._kept.get("size"),
            "sha256": self._kept.get("sha256"),
        }
        if self._app.python is not None:
            info["pythonVersion"] = f"Python {platform.python_version()}"
            info["dependenciesInstalled"] = True
        return {key: value for key, value in info.items() if value is not None}

    def _finish(self) -> Json:
        tag = self._plan.tag
        self._placing.settle(self._info(), activate=self._plan.activate)
        self._progress.at(1.0, "Installed")
        self._log.say(f"{self._app.name} {tag} is installed.")
        place = self._state.place(tag)
        return {"app_id": self._app.id, "tag": tag, "path": str(place), "warnings": list(self._warnings)}

    # -- inside ------------------------------------------------------------------------------------------------------

    def _discard(self) -> None:
        """Never what took its place already: then the tree is the former build."""
        if self._placing.is_placed():
            return
        self._places.discard(self._job.job_id)


def _let_run(program: Path) -> None:
    """Archives that were packed on Windows, or from stored artifacts of a build, say of no file that it may be run."""
    if program.is_file():
        program.chmod(program.stat().st_mode | 0o111)


def _is_direct(one: Resolved) -> bool:
    """From an address of its own rather than an index; such cannot be constrained by a version."""
    return one.url is not None and not one.url.startswith(("http://", "https://"))
