"""Custom nodes of versions, for callers: list, install, update, remove.

Installing and updating are jobs of the kind `custom_node`, one at a time, answered when they are quick. A start after a
kill takes back what was half done, and lets the job go on. `work.py` does the work and is loaded when first needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from pumas.apps.catalog import DEFAULT_APP, Apps
from pumas.config import Layout
from pumas.errors import PumasError, Unsupported
from pumas.jobs.service import JobContext, JobService, Slots
from pumas.jobs.store import Json
from pumas.library.service import ANSWER_WITHIN_S
from pumas.processes.values import Version

if TYPE_CHECKING:
    from pumas.nodes.git import Git
    from pumas.nodes.work import InstallRequirements, Node, Nodes, RemovedNode

T = TypeVar("T")

log = logging.getLogger(__name__)

KIND = "custom_node"
_OURS = (".pumas-nodes.json", ".pumas-nodes", ".pumas-nodes-trash")
"""In a version's folder, where something was ever done here."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`result` is None while the job is still at it: `name`, `commit`, `previous_commit`."""

    job_id: str
    result: Json | None


class InstalledVersions(Protocol):
    """`pumas.versions` knows it. Raises UnknownApp, VersionNotFound, InvalidInput."""

    async def get(self, tag: str, app_id: str) -> Version: ...
    async def installed(self, app_id: str) -> Sequence[Version]: ...


class NodeService:
    def __init__(self, layout: Layout, apps: Apps, versions: InstalledVersions, jobs: JobService) -> None:
        self._layout, self._apps, self._versions, self._jobs = layout, apps, versions, jobs
        self._note = layout.cache / "custom-node-git.json"
        self._at: str | None = None
        self._lock = asyncio.Lock()
        jobs.register(KIND, self._run, turns=Slots(1))

    async def open(self) -> None:
        """Take back what a kill left half done, and go on with it. Call after the jobs and the versions are open."""
        versions = await self._versions.installed(DEFAULT_APP)
        await asyncio.to_thread(self._tidy, versions)
        await self._jobs.go_on(KIND)

    def _tidy(self, versions: Sequence[Version]) -> None:
        if self._note.exists():
            from pumas.versions.running import end_noted

            end_noted(self._note)
        for version in versions:
            if any(os.path.lexists(version.folder / name) for name in _OURS):
                try:
                    self._nodes(version).tidy()
                except PumasError as error:
                    log.warning("custom nodes of %s: %s", version.tag, error)

    def works_on(self, app_id: str, tag: str) -> bool:
        """Whether nodes of a version are being changed: it must stay where it is."""
        return app_id == DEFAULT_APP and self._at == tag

    async def list(self, tag: str) -> list[Node]:
        """By name. Raises InvalidInput, VersionNotFound, CorruptState."""
        version = await self._versions.get(tag, DEFAULT_APP)
        return await asyncio.to_thread(lambda: self._nodes(version).list())

    async def install(
        self, tag: str, url: str, name: str | None = None, *, commit: str | None = None, requirements: bool = False
    ) -> Answer:
        """Clone a repository into a version's nodes.

        Args:
            name: of its folder; None: the last part of the address.
            commit: a branch, a tag, or a commit of the main branch (see `Git.clone`); None: the newest.
            requirements: install its requirements into the version's environment.

        Raises:
            InvalidInput, VersionNotFound, AlreadyExists, GitFailed, InstallFailed, CorruptState, the disk's failures.
        """

        def check() -> tuple[str, str]:
            from pumas.nodes import git, work

            if commit is not None:
                git.check_ref(commit)
            return git.check_url(url), work.check_name(name) if name is not None else work.name_of(url)

        checked, folder = await asyncio.to_thread(check)
        params: Json = {"do": "install", "url": checked, "name": folder, "commit": commit}
        return await self._do(tag, params, requirements, f"Install {folder}")

    async def update(self, tag: str, name: str, *, requirements: bool = False) -> Answer:
        """Raises InvalidInput, VersionNotFound, NodeNotFound, NotOurCheckout, LocalChanges, and as `install`."""
        return await self._do(tag, {"do": "update", "name": name}, requirements, f"Update {name[:100]}")

    async def remove(self, tag: str, name: str) -> str:
        """Move a node to the version's trash; its name there.

        Raises:
            InvalidInput, VersionNotFound, NodeNotFound, CorruptState, the disk's failures.
        """
        return await self._changed(tag, lambda nodes: nodes.remove(name))

    async def removed(self, tag: str) -> Sequence[RemovedNode]:
        """What lies in a version's trash, newest first. Raises InvalidInput, VersionNotFound, CorruptState."""
        version = await self._versions.get(tag, DEFAULT_APP)
        return await asyncio.to_thread(lambda: self._nodes(version).removed())

    async def restore(self, tag: str, trash_id: str) -> str:
        """Put a node back; its name. Raises TrashEntryNotFound, AlreadyExists, and as `remove`."""
        return await self._changed(tag, lambda nodes: nodes.restore(trash_id))

    async def purge(self, tag: str, trash_id: str) -> None:
        """Remove a node from the trash for good. Raises TrashEntryNotFound, and as `remove`."""
        await self._changed(tag, lambda nodes: nodes.purge(trash_id))

    async def _changed(self, tag: str, change: Callable[[Nodes], T]) -> T:
        version = await self._versions.get(tag, DEFAULT_APP)
        async with self._changing(version):
            return await asyncio.to_thread(lambda: change(self._nodes(version)))

    @contextlib.asynccontextmanager
    async def _changing(self, version: Version) -> AsyncGenerator[None]:
        async with self._lock:
            self._at = version.tag
            try:
                # It may have gone while others had their turn.
                await self._versions.get(version.tag, DEFAULT_APP)
                yield
            finally:
                self._at = None

    async def _do(self, tag: str, params: Json, requirements: bool, title: str) -> Answer:
        version = await self._versions.get(tag, DEFAULT_APP)
        params |= {"tag": version.tag, "requirements": requirements}
        job = await self._jobs.start(KIND, params, title=f"{title} for ComfyUI {version.tag}")
        return Answer(job.id, await self._jobs.outcome(job.id, ANSWER_WITHIN_S))

    async def _run(self, context: JobContext, params: Json) -> Json:
        version = await self._versions.get(params["tag"], DEFAULT_APP)
        async with self._changing(version):
            return await asyncio.to_thread(self._carry_out, context, version, params)

    def _carry_out(self, context: JobContext, version: Version, params: Json) -> Json:
        from pumas.nodes.git import Git

        nodes = self._nodes(version, Git(context.check, self._note))
        packages = self._requirements(context, version) if params["requirements"] else None
        context.report(stage="git", done=0, total=1, item=params["name"], unit="repositories")
        if params["do"] == "install":
            node = nodes.install(params["url"], params["name"], params["commit"], packages, context.job_id)
            return {"name": node.name, "commit": node.commit, "previous_commit": None, "node": asdict(node)}
        before, after = nodes.update(params["name"], packages)
        return {"name": params["name"], "commit": after, "previous_commit": before}

    def _requirements(self, context: JobContext, version: Version) -> InstallRequirements:
        """Installs into the version's own environment, with a log beside those of installations."""
        from pumas.apps.command import python_of
        from pumas.versions.packages import Packages, Wish
        from pumas.versions.running import InstallLog, Programs

        def install(requirements: Path) -> None:
            if not python_of(version.folder).exists():
                raise Unsupported(f"ComfyUI {version.tag} has no Python environment to install into.")
            context.report(stage="dependencies", done=0, total=1, item=requirements.name, unit="files")
            log = InstallLog(self._layout.logs / f"install-node-{context.job_id}.log")
            programs = Programs(self._layout.cache / f"node-{context.job_id}.json", log, context.check)
            programs.end_leftover()
            packages, nothing = Packages(self._layout.cache, programs), _nothing
            try:
                packages.install(version.folder, Wish(requirements), None, on_line=lambda _line: None, on_look=nothing)
            finally:
                log.close()

        return install

    def _nodes(self, version: Version, git: Git | None = None) -> Nodes:
        from pumas.nodes.work import Nodes

        place = self._apps.get(DEFAULT_APP).custom_nodes or "custom_nodes"
        return Nodes(version.folder, version.tag, place, git)


def _nothing() -> None:
    return
