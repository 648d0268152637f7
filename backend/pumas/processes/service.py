"""Running apps: start, watch, stop, and find again what an earlier sidecar of this root started.

Knows apps by their descriptions (`pumas.apps`) and versions through `Versions`. At most one run per app. Events:
`process.state` at each change of a run, `process.log` with new lines while somebody follows them, `process.settings`
when somebody chose what becomes of them. What a poll asks is answered from memory. What starts and watches processes
(`starting.py`, `watching.py`, `run.py`, `usage.py`) is loaded when the first app is started or found.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pumas.apps.catalog import DEFAULT_APP, Apps
from pumas.config import Layout
from pumas.errors import (
    AlreadyRunning,
    FileUnavailable,
    Interrupted,
    NotRunning,
    ProcessNotFound,
    PumasError,
)
from pumas.events.stream import EventStream
from pumas.processes.ledger import Ledger, OnExit, Record, exit_file, is_log, recognised
from pumas.processes.values import GRACE_S, LogTail, RunInfo, RunState, Stopped, Usage, Versions
from pumas.storage.json_file import StateLock
from pumas.storage.troubles import Troubles

if TYPE_CHECKING:
    from pumas.apps.description import AppDescription
    from pumas.processes.kernel import Seen
    from pumas.processes.run import Run
    from pumas.processes.usage import UsageMonitor
    from pumas.system.resources import Nvml

log = logging.getLogger(__name__)

ShowPage = Callable[[str, str, str], Awaitable[object]]
STATE_TOPIC = "process.state"
SETTINGS_TOPIC = "process.settings"
READY_WAIT_S = 8.0
"""How long a start waits for the app to be ready before it answers that it is not yet."""
OVER_S = 2.5
LEAVE_S = 0.4
REMEMBERED = 20
_SUBJECT = "launcher-data/metadata/processes.json"


@dataclass(frozen=True, slots=True)
class _Launch:
    """What is asked for, as `ProcessService.launch` explains; `avoid` is a port that the app must not get."""

    app_id: str
    tag: str | None
    extra_args: tuple[str, ...]
    port: int | None
    switch: bool
    remember: bool
    open_page: bool
    avoid: int = 0


class ProcessService:
    """For the event loop of the sidecar."""

    def __init__(
        self,
        layout: Layout,
        events: EventStream,
        troubles: Troubles,
        apps: Apps,
        versions: Versions,
        *,
        load_nvml: Callable[[], Nvml | None] | None = None,
        ready_wait_s: float = READY_WAIT_S,
        grace_s: float = GRACE_S,
    ) -> None:
        """`load_nvml` stands in for the driver's library."""
        self._layout, self._events, self._troubles = layout, events, troubles
        self._apps, self._versions = apps, versions
        self._load_nvml, self._ready_wait_s, self._grace_s = load_nvml, ready_wait_s, grace_s
        self._ledger = Ledger(layout.processes_file, StateLock(layout.state_lock))
        self._show: ShowPage | None = None
        self._on_exit = OnExit.STOP
        # Two who choose at once: what is told last is what holds.
        self._changing = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._past: deque[Run] = deque(maxlen=REMEMBERED)
        self._starting: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._usage: UsageMonitor | None = None
        self._remembered: Run | None = None
        self._refusal: str | None = None

    def show_pages_by(self, show: ShowPage) -> None:
        """Have `show(url, app_id, tag)` open the page of an app."""
        self._show = show

    # -- life --------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Find what an earlier sidecar started. Raises DiskError when the ledger cannot be put in order."""
        found, gone = await asyncio.to_thread(self._recall)
        for record in found:
            app = await asyncio.to_thread(self._description, record.app_id)
            log.info("%s %s, process %d, runs on", record.app_id, record.tag, record.leader)
            self._keep(record, None, app)
        with contextlib.suppress(PumasError):  # a root that cannot be written; the next start looks again
            await asyncio.to_thread(self._ledger.remove, gone)

    def _recall(self) -> tuple[list[Record], list[str]]:
        contents = self._ledger.load()
        if contents.wrong:
            self._troubles.report(_SUBJECT, "damaged_state", f"{contents.wrong}; what it named is left alone.")
            log.warning("%s", contents.wrong)
        self._on_exit = contents.on_exit
        found, gone = list[Record](), list[str]()
        for record in contents.runs:
            if recognised(record) is not None and is_log(self._layout.logs, Path(record.log)):
                from pumas.processes.run import with_leader

                found.append(with_leader(record))
            else:
                gone.append(record.run_id)
                with contextlib.suppress(OSError):
                    exit_file(self._layout.cache, record.run_id).unlink()
        return found, gone

    async def close(self) -> None:
        """Do with the apps what the setting says, and stop watching. Takes half a second at most."""
        self._closing = True
        going = [run for run in self._runs.values() if run.going]
        if self._on_exit is OnExit.STOP and going:
            await asyncio.to_thread(lambda: [run.leave_to_keeper() for run in going])
            await asyncio.gather(*(run.wait(LEAVE_S) for run in going))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._usage is not None:
            await self._usage.close()

    # -- acting ------------------------------------------------------------------------------------------------------

    async def launch(
        self,
        app_id: str = DEFAULT_APP,
        tag: str | None = None,
        extra_args: Sequence[str] = (),
        *,
        port: int | None = None,
        switch: bool = False,
        remember: bool = False,
        open_page: bool = False,
    ) -> RunInfo:
        """Start an app and wait some seconds for it to be ready; the state tells whether it is, or has ended already.

        Args:
            tag: None means the active version.
            extra_args: go to the app as they are, after its own arguments.
            port: None means the app's own when it is free, else any; and another one when the app ends at once
                because somebody has taken that meanwhile.
            switch: make the version the active one first.
            remember: note log and failure for `last_launch_log` and `last_launch_error`.
            open_page: show the app's page once it is ready.

        Raises:
            UnknownApp, NoActiveVersion, VersionNotFound, InvalidInput, FileUnavailable: it is not there, or not whole.
            DependencyFailed: packages that it needs are missing.
            AlreadyRunning: this or another version of the app runs.
            LaunchFailed, Unsupported: it could not be started. DiskError, NotEnoughSpace, ReadOnly: nor written down.
        """
        wish = _Launch(app_id, tag, tuple(extra_args), port, switch, remember, open_page)
        run = await self._launched(wish)
        if port is None and await self._lost_its_port(run):
            log.info("%s is started again: another program took port %d first", app_id, run.record.port)
            run = await self._launched(replace(wish, avoid=run.record.port))
        return self._info(run)

    async def stop(self, app_id: str | None = None, run_id: str | None = None) -> Stopped:
        """End a run with all its processes: TERM, some seconds of grace, KILL. Without a run, the one of the app.

        Raises:
            UnknownApp, ProcessNotFound: there is no such app or run.
            NotRunning: nothing of it runs that we started.
            StopFailed: it is still there.
        """
        run = await asyncio.to_thread(self._find, app_id or DEFAULT_APP, run_id)
        if run is None or not run.going:
            raise NotRunning(self._name(run.record.app_id if run else app_id or DEFAULT_APP))
        ending = await run.end(self._grace_s)
        await run.wait(OVER_S)
        if ending.met == 0:
            raise NotRunning(self._name(run.record.app_id))
        return Stopped(ending.met, ending.killed)

    def set_on_exit(self, wish: OnExit) -> None:
        """Blocks; call from a thread. Raises DiskError, NotEnoughSpace, ReadOnly, CorruptState."""
        with self._changing:
            self._ledger.set_on_exit(wish)
            self._on_exit = wish
            self._events.publish_threadsafe(SETTINGS_TOPIC, {"on_exit": wish.value})

    # -- asking ------------------------------------------------------------------------------------------------------

    @property
    def ledger_path(self) -> str:
        """Where the numbers of what runs are kept."""
        return str(self._ledger.path)

    @property
    def last_launch_log(self) -> str | None:
        """The log of the last launch that was to be remembered."""
        return self._remembered.record.log if self._remembered else None

    @property
    def last_launch_error(self) -> str | None:
        """Why the last launch that was to be remembered failed, or what became of it since."""
        return self._remembered.error if self._remembered else self._refusal

    @property
    def on_exit(self) -> OnExit:
        return self._on_exit

    def running(self, app_id: str = DEFAULT_APP) -> RunInfo | None:
        """The app's run, None when nothing of it runs. From memory."""
        run = self._going(app_id)
        return None if run is None else self._info(run)

    def runs(self, app_id: str, tag: str) -> bool:
        """Whether this version runs. From memory, and from any thread."""
        run = self._going(app_id)
        return run is not None and run.record.tag == tag

    def list(self, *, ended: bool = False) -> list[RunInfo]:
        """What runs, newest first, and what has ended of late when asked for. From memory."""
        runs = [run for run in self._runs.values() if run.going]
        runs += [run for run in self._past if ended]
        return [self._info(run) for run in sorted(runs, key=lambda run: run.record.started_at, reverse=True)]

    async def log(self, app_id: str | None = None, run_id: str | None = None, lines: int = 200) -> LogTail:
        """The end of a run's log; of the app's newest run when none is named. Reads no more than that.

        Raises:
            UnknownApp, ProcessNotFound, FileUnavailable, DiskError.
        """
        return await asyncio.to_thread(self._log, app_id or DEFAULT_APP, run_id, lines)

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _launched(self, wish: _Launch) -> Run:
        """Start it, and wait a while until it is ready or has ended."""
        try:
            # A caller that hangs up must not leave something half started.
            run = await asyncio.shield(self._spawn(self._launch(wish)))
        except AlreadyRunning:  # what is known of the run that goes on stays
            raise
        except PumasError as error:
            if wish.remember:
                self._remembered, self._refusal = None, str(error)
            raise
        if wish.remember:
            self._remembered, self._refusal = run, None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._ready_wait_s):
                await run.settled.wait()
        return run

    @staticmethod
    async def _lost_its_port(run: Run) -> bool:
        """Whether it ended at once, and somebody has bound the port that was free when it was chosen."""
        from pumas.processes import ports

        if run.going or run.asked_to_stop:
            return False
        return await asyncio.to_thread(ports.holder, run.record.port, ()) is not ports.Holder.NOBODY

    async def _launch(self, launch: _Launch) -> Run:
        from pumas.processes import starting

        tag = launch.tag
        starting.check_arguments(launch.extra_args)
        app = await asyncio.to_thread(self._apps.get, launch.app_id)
        async with self._starting.setdefault(app.id, asyncio.Lock()):
            versions = self._versions
            version = await (versions.require_active(app.id) if tag is None else versions.get(tag, app.id))
            running = self._going(app.id)
            if running is not None:
                raise AlreadyRunning(app.name, running.record.tag)
            if self._closing:
                raise Interrupted("The sidecar is stopping.")
            await self._versions.prepare(version.tag, app.id)
            if launch.switch:
                await self._versions.switch(version.tag, app.id)
            taken = {run.record.port for run in self._runs.values() if run.going} | {launch.avoid}
            wish = starting.Wish(app, version, launch.extra_args, launch.port, taken, self._grace_s)
            record, keeper = await asyncio.to_thread(starting.begin, self._layout, self._ledger, wish)
            run = self._keep(record, keeper, app)
            if launch.open_page and app.launch.page and self._show is not None:
                self._spawn(self._show_when_ready(run, app, self._show))
            return run

    async def _show_when_ready(self, run: Run, app: AppDescription, show: ShowPage) -> None:
        await run.settled.wait()
        if run.state is not RunState.READY:
            return
        try:
            await show(f"{run.url}{app.launch.page}", run.record.app_id, run.record.tag)
        except PumasError as error:  # the app runs all the same
            log.info("the page of %s was not opened: %s", app.name, error)

    def _keep(self, record: Record, keeper: Any, app: AppDescription | None) -> Run:
        """Watch a run to its end; `app` is None when its description is gone, so that nobody can tell readiness."""
        from pumas.processes import watching
        from pumas.processes.run import Run
        from pumas.processes.usage import UsageMonitor

        run = Run(record, exit_file(self._layout.cache, record.run_id), keeper)
        self._runs[run.run_id] = run
        if self._usage is None:
            self._usage = UsageMonitor(self._families, load_nvml=self._load_nvml)
        self._tell(run)
        self._spawn(self._watch(run, app.name if app else record.app_id))
        self._spawn(watching.follow_log(run, self._events))
        if app is not None:
            self._spawn(watching.until_ready(run, app, self._tell))
        return run

    async def _watch(self, run: Run, name: str) -> None:
        from pumas.processes import watching

        await watching.until_over(run, name)
        # Off the list before anybody is told, so that a new start is possible at once.
        self._runs.pop(run.run_id, None)
        self._past.append(run)
        try:
            await asyncio.to_thread(self._ledger.remove, [run.run_id])
        except PumasError as error:  # the next start finds that it is gone
            log.warning("the ledger of processes keeps an ended run: %s", error)
        run.over.set()
        run.settled.set()
        self._tell(run)

    def _families(self) -> Mapping[str, Sequence[Seen]]:
        """On the sampling thread."""
        from pumas.processes import kernel

        runs = [run for run in tuple(self._runs.values()) if run.going]
        everyone = kernel.table() if runs else {}
        return {run.run_id: run.family(everyone) for run in runs}

    def _log(self, app_id: str, run_id: str | None, lines: int) -> LogTail:
        from pumas.processes import output

        run = self._find(app_id, run_id)
        path = run.record.log if run else self._ledger.last_log(self._apps.get(app_id).id)
        if path is None or not is_log(self._layout.logs, Path(path)):
            raise FileUnavailable(self._name(app_id), "it was not started yet, so there is no log")
        found = output.tail(Path(path), lines)
        return LogTail(path, found.lines, found.cut)

    def _find(self, app_id: str, run_id: str | None) -> Run | None:
        """The run meant. Raises UnknownApp, ProcessNotFound. Blocks."""
        runs = (*tuple(self._runs.values()), *tuple(self._past))
        if run_id is not None:
            for run in runs:
                if run.run_id == run_id:
                    return run
            raise ProcessNotFound(run_id)
        app_id = self._apps.get(app_id).id
        own = [run for run in runs if run.record.app_id == app_id]
        return next((run for run in own if run.going), own[-1] if own else None)

    def _going(self, app_id: str) -> Run | None:
        return next((run for run in tuple(self._runs.values()) if run.record.app_id == app_id and run.going), None)

    def _info(self, run: Run) -> RunInfo:
        record = run.record
        used = self._usage.latest().get(run.run_id) if self._usage is not None and run.going else None
        return RunInfo(
            run_id=record.run_id,
            app_id=record.app_id,
            tag=record.tag,
            state=run.state,
            pid=record.leader,
            port=record.port,
            url=run.url,
            log_path=record.log,
            started_at=record.started_at,
            adopted=run.adopted,
            exit_code=run.exit_code,
            error=run.error,
            usage=used or Usage(),
        )

    def _tell(self, run: Run) -> None:
        from pumas.processes.watching import who

        facts = {"pid": run.record.leader, "port": run.record.port, "exit_code": run.exit_code, "error": run.error}
        self._events.publish(STATE_TOPIC, {**who(run), "state": run.state.value, **facts})

    def _description(self, app_id: str) -> AppDescription | None:
        with contextlib.suppress(PumasError):
            return self._apps.get(app_id)
        return None

    def _name(self, app_id: str) -> str:
        app = self._description(app_id)
        return app.name if app else app_id

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, PumasError):
            log.error("watching an app failed by a bug", exc_info=error)
