"""Running apps: start, watch, stop, and find again what an earlier sidecar of this root started.

Knows apps by their descriptions (`pumas.apps`) and versions through `Versions`. At most one run per app. Events:
`process.state` at each change of a run, `process.log` with new lines while somebody follows them. What a poll asks is
answered from memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pumas.apps.catalog import DEFAULT_APP, Apps
from pumas.apps.command import Command, command_of
from pumas.apps.description import AppDescription
from pumas.config import Layout
from pumas.errors import (
    AlreadyRunning,
    DiskError,
    FileUnavailable,
    Interrupted,
    InvalidInput,
    NoActiveVersion,
    NotRunning,
    ProcessNotFound,
    PumasError,
)
from pumas.events.stream import EventStream
from pumas.processes import kernel, output, ports, readiness
from pumas.processes.ledger import Ledger, OnExit, Record, exit_file, recognised
from pumas.processes.output import Follower, Tail
from pumas.processes.readiness import Answer
from pumas.processes.run import Run, RunState, start, with_leader
from pumas.processes.spawn import GRACE_S, Orders
from pumas.processes.usage import Usage, UsageMonitor
from pumas.storage.files import disk_errors, make_folders
from pumas.storage.json_file import StateLock
from pumas.storage.paths import slug
from pumas.storage.troubles import Troubles
from pumas.system.resources import Nvml

log = logging.getLogger(__name__)

STATE_TOPIC, LOG_TOPIC = "process.state", "process.log"
READY_WAIT_S = 8.0
"""How long a start waits for the app to be ready before it answers that it is not yet."""
SLOW_PROBE_S = 5.0
NEWS_S = 0.3
OVER_S = 2.5
LEAVE_S = 0.4
REMEMBERED = 20
MAX_ARGS, MAX_ARG = 200, 4096
_SUBJECT = "launcher-data/metadata/processes.json"


class Version(Protocol):
    """An installed version; `folder` is absolute."""

    @property
    def tag(self) -> str: ...
    @property
    def folder(self) -> Path: ...


class Versions(Protocol):
    """What is installed; `pumas.versions` knows it. Raises UnknownApp, VersionNotFound, InvalidInput."""

    async def get(self, tag: str, app_id: str) -> Version: ...
    async def active(self, app_id: str) -> Version | None: ...
    async def switch(self, tag: str, app_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run as it is now. `pid` is its first process, `processes` how many it has; `started_at` is ISO 8601 in UTC."""

    run_id: str
    app_id: str
    tag: str
    state: RunState
    pid: int
    port: int
    url: str
    log_path: str
    started_at: str
    adopted: bool
    exit_code: int | None
    error: str | None
    usage: Usage

    @property
    def ready(self) -> bool:
        return self.state is RunState.READY


@dataclass(frozen=True, slots=True)
class Stopped:
    """How many processes were told to end, and how many of them had to be killed."""

    processes: int
    killed: int


@dataclass(frozen=True, slots=True)
class LogTail:
    """The end of a run's log."""

    log_path: str
    tail: Tail


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
        """`load_nvml` stands in for the driver's library; the times are in seconds."""
        self._layout, self._events, self._troubles = layout, events, troubles
        self._apps, self._versions = apps, versions
        self._ready_wait_s, self._grace_s = ready_wait_s, grace_s
        self._ledger = Ledger(layout.processes_file, StateLock(layout.state_lock))
        self._on_exit = OnExit.STOP
        self._runs: dict[str, Run] = {}
        self._past: deque[Run] = deque(maxlen=REMEMBERED)
        self._starting: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._usage = UsageMonitor(self._families, load_nvml=load_nvml)
        self._remembered: Run | None = None
        self._refusal: str | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Find what an earlier sidecar started. Raises DiskError when the ledger cannot be put in order."""
        found, gone = await asyncio.to_thread(self._recall)
        for record in found:
            run = Run(record, exit_file(self._layout.data, record.run_id))
            log.info("%s %s, process %d, runs on", record.app_id, record.tag, record.leader)
            self._keep(run)
        with contextlib.suppress(PumasError):
            await asyncio.to_thread(self._ledger.remove, gone)

    def _recall(self) -> tuple[list[Record], list[str]]:
        contents = self._ledger.load()
        if contents.wrong:
            self._troubles.report(_SUBJECT, "damaged_state", f"{contents.wrong}; what it named is left alone.")
            log.warning("%s", contents.wrong)
        self._on_exit = contents.on_exit
        found, gone = list[Record](), list[str]()
        for record in contents.runs:
            if recognised(record) is not None and self._is_log(Path(record.log)):
                found.append(with_leader(record))
            else:
                gone.append(record.run_id)
                exit_file(self._layout.data, record.run_id).unlink(missing_ok=True)
        return found, gone

    async def close(self) -> None:
        """Do with the apps what the setting says, and stop watching. Takes half a second at most."""
        self._closing = True
        going = [run for run in self._runs.values() if run.going]
        if self._on_exit is OnExit.STOP and going:
            await asyncio.to_thread(lambda: [run.leave_to_keeper() for run in going])
            await asyncio.gather(*(_within(LEAVE_S, run.over) for run in going))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
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
    ) -> RunInfo:
        """Start an app and wait some seconds for it to be ready; the state tells whether it is, or has ended already.

        Args:
            tag: None means the active version.
            extra_args: go to the app as they are, after its own arguments.
            port: None means the app's own when it is free, else any.
            switch: make the version the active one first.
            remember: note log and failure for `last_launch_log` and `last_launch_error`.

        Raises:
            UnknownApp, NoActiveVersion, VersionNotFound, InvalidInput, FileUnavailable: it is not there, or not whole.
            AlreadyRunning: this or another version of the app runs.
            LaunchFailed, Unsupported: it could not be started. DiskError, NotEnoughSpace, ReadOnly: nor written down.
        """
        if remember:
            self._remembered = self._refusal = None
        try:
            run = await self._finish(self._launch(app_id, tag, tuple(extra_args), port, switch))
        except PumasError as error:
            if remember:
                self._refusal = str(error)
            raise
        if remember:
            self._remembered = run
        await _within(self._ready_wait_s, run.settled)
        return self._info(run)

    async def stop(self, app_id: str | None = None, run_id: str | None = None) -> Stopped:
        """End a run with all its processes: TERM, some seconds of grace, KILL. None is what it says: the default app.

        Raises:
            UnknownApp, ProcessNotFound: there is no such app or run.
            NotRunning: nothing of it runs that we started.
            StopFailed: it is still there.
        """
        run = await asyncio.to_thread(self._find, app_id or DEFAULT_APP, run_id)
        if run is None or not run.going:
            raise NotRunning(self._name(app_id or DEFAULT_APP if run is None else run.record.app_id))
        ending = await run.end(self._grace_s)
        await _within(OVER_S, run.over)
        if ending.met == 0:
            raise NotRunning(self._name(run.record.app_id))
        return Stopped(ending.met, ending.killed)

    def set_on_exit(self, wish: OnExit) -> None:
        """Blocks; call from a thread. Raises DiskError, NotEnoughSpace, ReadOnly, CorruptState."""
        self._ledger.set_on_exit(wish)
        self._on_exit = wish

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

    def _log(self, app_id: str, run_id: str | None, lines: int) -> LogTail:
        run = self._find(app_id, run_id)
        path = run.record.log if run else self._ledger.last_log(self._apps.get(app_id).id)
        if path is None or not self._is_log(Path(path)):
            raise FileUnavailable(self._name(app_id), "it was not started yet, so there is no log")
        return LogTail(path, output.tail(Path(path), lines))

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _launch(
        self, app_id: str, tag: str | None, extra_args: tuple[str, ...], port: int | None, switch: bool
    ) -> Run:
        _check_arguments(extra_args)
        app = await asyncio.to_thread(self._apps.get, app_id)
        async with self._starting.setdefault(app.id, asyncio.Lock()):
            version = await (self._versions.active(app.id) if tag is None else self._versions.get(tag, app.id))
            if version is None:
                raise NoActiveVersion(app.name)
            running = self._going(app.id)
            if running is not None:
                raise AlreadyRunning(app.name, running.record.tag)
            if self._closing:
                raise Interrupted("The sidecar is stopping.")
            if switch:
                await self._versions.switch(version.tag, app.id)
            taken = {run.record.port for run in self._runs.values() if run.going}
            record, process = await asyncio.to_thread(self._start, app, version, extra_args, port, taken)
            run = Run(record, exit_file(self._layout.data, record.run_id), process)
            self._keep(run)
            return run

    def _start(
        self, app: AppDescription, version: Version, extra_args: tuple[str, ...], port: int | None, taken: set[int]
    ) -> tuple[Record, Any]:
        port = port or _choose_port(app.launch.port, taken)
        command = command_of(app, version.folder, self._layout.root, port, extra_args=extra_args)
        log_path = self._new_log(app.id, version.tag)
        run_id = secrets.token_hex(16)
        record = Record(
            run_id=run_id,
            app_id=app.id,
            tag=version.tag,
            boot="",
            keeper=0,
            keeper_start=0,
            leader=0,
            leader_start=0,
            port=port,
            command=command.argv,
            programs=_programs(command.argv[0]),
            folder=str(version.folder),
            log=str(log_path),
            started_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        )
        exits = exit_file(self._layout.data, run_id)
        with disk_errors("Making the cache folder"):
            make_folders(exits.parent)
        return start(record, _orders(command, record, exits, self._grace_s), self._ledger)

    def _new_log(self, app_id: str, tag: str) -> Path:
        """A name that is free. The oldest logs of the app go, and none but those that the ledger knows as ours."""
        with disk_errors("Making the log folder"):
            make_folders(self._layout.logs)
        stem = f"launch-{app_id}-{slug(tag, 'version')}-{int(time.time())}"
        path = self._layout.logs / f"{stem}.log"
        number = 1
        while os.path.lexists(path):
            number += 1
            path = self._layout.logs / f"{stem}-{number}.log"
        for spare in self._ledger.add_log(app_id, str(path)):
            self._remove_log(Path(spare))
        return path

    def _remove_log(self, path: Path) -> None:
        if not self._is_log(path):
            return
        for name in (path.name, *(f"{path.name}.{number}" for number in range(1, 10))):
            with contextlib.suppress(OSError):
                path.with_name(name).unlink()

    def _is_log(self, path: Path) -> bool:
        """Only such are read and removed, whatever the ledger says."""
        return path.parent == self._layout.logs and path.name.startswith("launch-")

    def _keep(self, run: Run) -> None:
        self._runs[run.run_id] = run
        self._tell(run)
        for work in (self._watch(run), self._make_ready(run), self._follow_log(run)):
            self._spawn(work)

    async def _watch(self, run: Run) -> None:
        """From now to its end."""
        await run.wait_until_gone()
        if run.ending is not None:
            await asyncio.wait([run.ending])
        if run.error is None and not run.asked_to_stop and not self._closing:
            run.error = _ended_by_itself(self._name(run.record.app_id), run)
        run.state = RunState.EXITED
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

    async def _make_ready(self, run: Run) -> None:
        app = await asyncio.to_thread(self._apps.get, run.record.app_id)
        ready = app.launch.ready
        for pause in readiness.pauses():
            if run.over.is_set() or run.state is RunState.STOPPING:
                return
            answer = await asyncio.to_thread(self._probe, app, run)
            if answer is Answer.READY and run.state in (RunState.STARTING, RunState.NOT_ANSWERING):
                run.state, run.error = RunState.READY, None
                run.settled.set()
                self._tell(run)
                return
            if run.state is RunState.STARTING and time.monotonic() - run.began > ready.timeout_s:
                why = "another program has its port" if answer is Answer.FOREIGN else "it does not answer"
                run.state = RunState.NOT_ANSWERING
                run.error = f"{app.name} runs but is not ready after {ready.timeout_s:g} s: {why}. See its log."
                self._tell(run)
            await _within(SLOW_PROBE_S if run.state is RunState.NOT_ANSWERING else pause, run.over)

    def _probe(self, app: AppDescription, run: Run) -> Answer:
        pids = [seen.pid for seen in run.family()]
        return readiness.probe(app.launch.ready, run.record.port, pids)

    async def _follow_log(self, run: Run) -> None:
        """Publish new lines, some times a second at most and only while somebody follows them."""
        follower: Follower | None = None
        try:
            while True:
                over = run.over.is_set()
                if not self._events.wanted(LOG_TOPIC):
                    if follower is not None:
                        follower.close()
                        follower = None
                elif follower is None:
                    new = not run.adopted and time.monotonic() - run.began < 2 * NEWS_S
                    follower = await asyncio.to_thread(Follower, Path(run.record.log), from_start=new)
                if follower is not None:
                    news = await asyncio.to_thread(follower.news)
                    if news.lines or news.skipped:
                        self._events.publish(
                            LOG_TOPIC, {**_who(run), "lines": list(news.lines), "skipped_bytes": news.skipped}
                        )
                if over:
                    return
                await _within(NEWS_S, run.over)
        finally:
            if follower is not None:
                follower.close()

    def _families(self) -> Mapping[str, Sequence[kernel.Seen]]:
        """On the sampling thread."""
        runs = [run for run in tuple(self._runs.values()) if run.going]
        everyone = kernel.table() if runs else {}
        return {run.run_id: run.family(everyone) for run in runs}

    def _find(self, app_id: str, run_id: str | None) -> Run | None:
        """The run meant. Raises UnknownApp, ProcessNotFound."""
        if run_id is not None:
            for run in (*self._runs.values(), *self._past):
                if run.run_id == run_id:
                    return run
            raise ProcessNotFound(run_id)
        app_id = self._apps.get(app_id).id
        past = [run for run in self._past if run.record.app_id == app_id]
        return self._going(app_id) or (past[-1] if past else None)

    def _going(self, app_id: str) -> Run | None:
        return next((run for run in self._runs.values() if run.record.app_id == app_id and run.going), None)

    def _info(self, run: Run) -> RunInfo:
        record = run.record
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
            usage=self._usage.latest().get(record.run_id, Usage()) if run.going else Usage(),
        )

    def _tell(self, run: Run) -> None:
        self._events.publish(
            STATE_TOPIC,
            {
                **_who(run),
                "state": run.state.value,
                "pid": run.record.leader,
                "port": run.record.port,
                "exit_code": run.exit_code,
                "error": run.error,
            },
        )

    def _name(self, app_id: str) -> str:
        try:
            return self._apps.get(app_id).name
        except PumasError:
            return app_id

    async def _finish(self, work: Coroutine[Any, Any, Run]) -> Run:
        """A caller that hangs up must not leave something half started."""
        return await asyncio.shield(self._spawn(work))

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, PumasError):
            log.error("watching an app failed by a bug", exc_info=error)


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait for an event, but not for long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _check_arguments(extra_args: tuple[str, ...]) -> None:
    if len(extra_args) > MAX_ARGS or any(len(arg) > MAX_ARG for arg in extra_args):
        raise InvalidInput("extra_args", f"at most {MAX_ARGS} of at most {MAX_ARG} characters each")
    for arg in extra_args:
        if "\0" in arg:
            raise InvalidInput("extra_args", "must not hold NUL characters")
        try:
            arg.encode()
        except UnicodeEncodeError:
            raise InvalidInput("extra_args", "must be well-formed text") from None


def _choose_port(own: int, taken: set[int]) -> int:
    for _ in range(20):
        port = ports.free_port(own)
        if port not in taken:
            return port
        own = 0
    raise DiskError("No free port was found.")


def _programs(program: str) -> tuple[str, ...]:
    """The file and what it links to: a Python of a virtual environment is a link to another."""
    return tuple(dict.fromkeys((program, os.path.realpath(program))))


def _orders(command: Command, record: Record, exits: Path, grace_s: float) -> Orders:
    environment = {name: value for name, value in command.environment.items() if not name.startswith("PUMAS_")}
    return Orders(
        command=command.argv,
        folder=command.folder,
        environment=environment,
        programs=record.programs,
        log=Path(record.log),
        exit_file=exits,
        grace_s=grace_s,
    )


def _who(run: Run) -> dict[str, Any]:
    return {"run_id": run.run_id, "app_id": run.record.app_id, "tag": run.record.tag}


def _ended_by_itself(name: str, run: Run) -> str:
    code = run.exit_code
    how = "" if code is None else f" by signal {-code}" if code < 0 else f" with status {code}"
    return f"{name} ended by itself{how}. See its log."
