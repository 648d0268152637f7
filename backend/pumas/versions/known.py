"""What all parts of this domain share: the state of each app, made when it is first asked for, the threads for what
takes long, the question whether a version runs, and the word that a version changed. Does no work itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from pumas.apps.catalog import Apps
from pumas.config import Layout
from pumas.events.stream import EventStream
from pumas.storage.json_file import StateLock
from pumas.storage.troubles import Troubles
from pumas.versions.places import Places
from pumas.versions.state import VersionState
from pumas.versions.values import OneApp

if TYPE_CHECKING:
    from pumas.net.client import NetworkClient

T = TypeVar("T")


class Known:
    """For one event loop; `app` and `runs` may be called from any thread."""

    def __init__(
        self, layout: Layout, apps: Apps, troubles: Troubles, events: EventStream, network: NetworkClient
    ) -> None:
        self.layout = layout
        self.apps = apps
        self.troubles = troubles
        self.events = events
        self.network = network
        self._file_lock = StateLock(layout.state_lock)
        self._made: dict[str, OneApp] = {}
        self._lock = threading.Lock()
        self._in_use: list[Callable[[str, str], bool]] = []
        self._threads: ThreadPoolExecutor | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.changes = 0

    def app(self, app_id: str) -> OneApp:
        """Blocks. Raises UnknownApp."""
        from pumas.versions.github import GitHub
        from pumas.versions.releases import ReleaseList

        app = self.apps.get(app_id)
        with self._lock:
            one = self._made.get(app.id)
            if one is None or (one.app is not app and not one.busy):
                # What is under way in an app goes on as it began; its new description counts after that.
                progress = one.progress if one is not None else None
                state = VersionState(self.layout, app, self._file_lock, self.troubles)
                releases = ReleaseList(app, self.layout.cache, GitHub(self.network))
                one = self._made[app.id] = OneApp(app, state, Places(state.folder), releases, progress)
            return one

    def made(self) -> list[OneApp]:
        """Those that were asked for so far."""
        return list(self._made.values())

    async def of(self, app_id: str) -> OneApp:
        """Raises UnknownApp."""
        one = self._made.get(app_id)
        return one if one and self.apps.holds(one.app) else await asyncio.to_thread(lambda: self.app(app_id))

    async def do(self, app_id: str, work: Callable[[OneApp], T]) -> T:
        """Some file work on an app's state. Raises UnknownApp, and what `work` raises."""
        return await asyncio.to_thread(lambda: work(self.app(app_id)))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """In a thread of our own: it may wait for the network or take minutes."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(8, thread_name_prefix="versions")
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        """Have it done behind, until `close`."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def spawned(self, start: str) -> list[asyncio.Task[None]]:
        """What goes on behind under a name that begins so."""
        return [task for task in self._tasks if task.get_name().startswith(start)]

    def ask_in_use(self, call: Callable[[str, str], bool]) -> None:
        self._in_use.append(call)

    def runs(self, app_id: str, tag: str) -> bool:
        return any(asked(app_id, tag) for asked in self._in_use)

    def tell(self, app_id: str, what: str, tag: str) -> None:
        """`what` happened to a version: `installed`, `removed` or `active`."""
        self.changes += 1
        self.events.publish("version.changed", {"app_id": app_id.strip().lower(), "what": what, "tag": tag})

    def tell_of_releases(self, app_id: str) -> None:
        """The list of an app's releases, or what is known of their sizes, is newer."""
        self.changes += 1
        self.events.publish("releases.changed", {"app_id": app_id})

    def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
