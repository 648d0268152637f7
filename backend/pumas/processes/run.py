"""One start of an app, from the first process to the last, as the sidecar sees it.

`service.py` keeps the runs; `start` and `adopt` make them. A run is looked at from the event loop; what blocks is asked
for on threads. Whom it may signal stands in `family.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pumas.errors import PumasError, StopFailed
from pumas.processes import family, kernel
from pumas.processes.ending import Ending
from pumas.processes.kernel import Identity, Seen
from pumas.processes.ledger import Ledger, Record
from pumas.processes.spawn import Orders, WaitingKeeper
from pumas.processes.values import RunState

log = logging.getLogger(__name__)

LOOK_S = 0.05
KILL_PATIENCE_S = 2.0
"""How long killed processes may take to go; one that hangs in a driver does not go at all."""
END_POLL_S = 0.5
EXIT_PATIENCE_S = 1.0


class Run:
    """`settled` is set when it became ready or ended. `exit_code` is that of its first process, negative for a signal,
    None while unknown. Times are in seconds of the monotonic clock."""

    def __init__(self, record: Record, exit_file: Path, process: subprocess.Popen[bytes] | None = None) -> None:
        """`process` is the keeper when this sidecar started it, None when an earlier one did."""
        self.record = record
        self.state = RunState.STARTING
        self._exit_file = exit_file
        self.asked_to_stop = False
        self.error: str | None = None
        self.exit_code: int | None = None
        self.began = time.monotonic()
        self.settled = asyncio.Event()
        self.over = asyncio.Event()
        self.ending: asyncio.Task[Ending] | None = None
        self._process = process

    @property
    def run_id(self) -> str:
        return self.record.run_id

    @property
    def adopted(self) -> bool:
        """Whether an earlier sidecar started it."""
        return self._process is None

    @property
    def going(self) -> bool:
        return self.state is not RunState.EXITED

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.record.port}"

    def family(self, everyone: Mapping[int, Seen] | None = None) -> list[Seen]:
        """Its processes now. Blocks for a moment."""
        seen = kernel.table() if everyone is None else everyone
        record = self.record
        if kernel.alive(record.keeper_identity):
            return family.members(record.marks, record.keeper, seen)
        if record.boot != kernel.boot():
            return []
        return family.orphans(record.marks, record.run_id, seen)

    async def end(self, grace_s: float) -> Ending:
        """Stop all its processes; who calls twice gets the same attempt.

        Raises:
            StopFailed: some are still there.
        """
        if self.ending is None or self.ending.done():
            self.ending = asyncio.create_task(self._end(grace_s))
            # A caller that hangs up does not hear of a failure; the state then says that it still runs.
            self.ending.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self.ending)

    async def _end(self, grace_s: float) -> Ending:
        before = self.state
        self.asked_to_stop, self.state = True, RunState.STOPPING
        ending = await asyncio.to_thread(Ending, self.family, grace_s)
        patience = time.monotonic() + grace_s + KILL_PATIENCE_S
        while not await asyncio.to_thread(ending.step):
            if time.monotonic() > patience:
                self.asked_to_stop, self.state = False, before
                raise StopFailed(f"{len(self.family())} processes of this app do not end, not even when killed.")
            await asyncio.sleep(LOOK_S)
        await asyncio.to_thread(self.let_go)
        return ending

    def leave_to_keeper(self) -> None:
        """Have it end without us: what the sidecar does when it stops itself. Returns at once."""
        record = self.record
        self.asked_to_stop = True
        with contextlib.suppress(OSError):
            if not kernel.tell(record.keeper, record.keeper_start, signal.SIGUSR1):
                Ending(self.family, 0.0).step()

    def let_go(self) -> None:
        """Its processes are gone: what the keeper still waits for is nothing of ours."""
        record = self.record
        with contextlib.suppress(OSError):
            if kernel.alive(record.keeper_identity):
                kernel.tell(record.keeper, record.keeper_start, signal.SIGTERM)

    async def wait(self, seconds: float) -> None:
        """A pause that ends early with the run."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.over.wait()

    async def wait_until_gone(self) -> None:
        """Returns when none of its processes is left, and knows its exit code if there is one to know."""
        await ended(self.record.leader_identity)
        while await asyncio.to_thread(self.family):  # noqa: ASYNC110 - no event tells of other processes' ends
            await asyncio.sleep(END_POLL_S)
        await asyncio.to_thread(self._collect)

    def _collect(self) -> None:
        self.let_go()
        patience = time.monotonic() + EXIT_PATIENCE_S
        path = self._exit_file
        while (code := _exit_code(path)) is None and time.monotonic() < patience:
            if not kernel.alive(self.record.keeper_identity):
                code = _exit_code(path)
                break
            time.sleep(LOOK_S)
        self.exit_code = code
        with contextlib.suppress(OSError):
            path.unlink()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(EXIT_PATIENCE_S)


def start(record: Record, orders: Orders, ledger: Ledger) -> tuple[Record, subprocess.Popen[bytes]]:
    """Start an app and write down who it is. `record` names no process yet. Blocks.

    Raises:
        LaunchFailed, Unsupported; DiskError, NotEnoughSpace, ReadOnly, CorruptState: nothing runs.
    """
    waiting = WaitingKeeper(record.run_id, orders.environment)
    who = waiting.identity
    record = replace(record, boot=who.boot, keeper=who.pid, keeper_start=who.start)
    try:
        ledger.put(record)
        leader = waiting.go(orders)
    except BaseException:
        waiting.abandon()
        with contextlib.suppress(PumasError):
            ledger.remove([record.run_id])
        raise
    record = record.led_by(leader)
    try:
        ledger.put(record)
    except PumasError as error:  # the keeper is written down, and leads to the app
        log.warning("the ledger of processes does not have the first process: %s", error)
    return record, waiting.process


def with_leader(record: Record) -> Record:
    """A record that was written before the first process was known: the keeper's first child that leads a session."""
    if record.leader:
        return record
    below = kernel.descendants(record.keeper, kernel.table())
    first = [seen for seen in below if seen.parent == record.keeper and seen.session == seen.pid]
    leader = min(first, key=lambda seen: seen.start, default=None)
    return record if leader is None else record.led_by(Identity(leader.pid, leader.start, record.boot))


async def ended(who: Identity) -> None:
    """Wait until this process has ended. Linux tells by a descriptor (pidfd_open(2)); elsewhere it is looked at."""
    loop = asyncio.get_running_loop()
    try:
        fd = os.pidfd_open(who.pid)
    except (AttributeError, OSError):
        while await asyncio.to_thread(kernel.alive, who):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(END_POLL_S)
        return
    try:
        if kernel.alive(who):  # else the number is another's by now
            gone = asyncio.Event()
            loop.add_reader(fd, gone.set)
            try:
                await gone.wait()
            finally:
                loop.remove_reader(fd)
    finally:
        os.close(fd)


def _exit_code(path: Path) -> int | None:
    try:
        with path.open("rb") as file:
            code: object = json.loads(file.read(200))["exit_code"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return code if isinstance(code, int) else None
