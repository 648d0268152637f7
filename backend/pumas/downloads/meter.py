"""What is known about a running download from one moment to the next, for whoever asks.

Threads report bytes and waits; `snapshot` is answered from memory. Progress never falls except after a restart of a
file, which is counted and said.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_WINDOW_S = 5.0
_BUCKET_S = 0.25
# What a stop may lose: blocks that were under way.
_LOST_BY_A_STOP = 16 * 1024 * 1024
# Without a byte for so long, a download is not "downloading", whatever its connections hope for.
_SILENCE_S = 3.0


@dataclass(frozen=True, slots=True)
class FileProgress:
    """`state`: `waiting`, `downloading`, `verifying` or `done`. Sizes in bytes."""

    path: str
    size: int
    downloaded: int
    state: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`speed` in bytes per second, None for an `eta_s` that nobody can know.

    `activity`: `downloading`, `retrying`, `waiting` (for space or for the schedule), `verifying` or `publishing`;
    `note` is a sentence about a wait or a restart, or "".
    """

    activity: str
    downloaded: int
    total: int
    speed: float
    eta_s: float | None
    restarts: int
    retries: int
    note: str


@dataclass(slots=True)
class _File:
    path: str
    size: int
    arrived: int = 0
    pending: int = 0
    state: str = "waiting"


class Meter:
    def __init__(self, files: Sequence[tuple[str, int]], shown: int = 0, clock: Callable[[], float] = time.monotonic):
        """`files` as (path, size); `shown` is what an earlier run had reported, below which this one does not fall."""
        self._clock = clock
        self._lock = threading.Lock()
        self._files = {path: _File(path, size) for path, size in files}
        self._total = sum(size for _path, size in files)
        self._arrived = 0
        self._pending = 0
        self._shown = min(shown, self._total)
        self._furthest = 0
        self._buckets: deque[list[float]] = deque()
        self._began = self._last_byte = clock()
        self._retrying_until = 0.0
        self._phase = ""
        self._note = self._retry_note = ""
        self._restarts = self._retries = 0

    # -- told by the threads -----------------------------------------------------------------------------------------

    def received(self, path: str, count: int) -> bool:
        """Bytes came off the wire; they count as `pending` until a whole block of them is kept.

        Returns whether more is there now than ever since the last restart: what only replaces lost bytes is no headway.
        """
        moment = self._clock()
        with self._lock:
            file = self._files[path]
            if file.state == "waiting":
                file.state = "downloading"
            file.pending += count
            self._pending += count
            self._last_byte = moment
            self._retrying_until, self._retry_note = 0.0, ""
            if not self._buckets or moment - self._buckets[-1][0] > _BUCKET_S:
                self._buckets.append([moment, 0.0])
            self._buckets[-1][1] += count
            while self._buckets[0][0] < moment - _WINDOW_S:
                self._buckets.popleft()
            there = self._arrived + self._pending
            further = there > self._furthest
            self._furthest = max(self._furthest, there)
            return further

    def dropped(self, path: str, count: int) -> None:
        """Pending bytes were kept or lost."""
        with self._lock:
            self._files[path].pending -= count
            self._pending -= count

    def arrived(self, path: str, count: int, state: str = "downloading") -> None:
        """So many bytes of the file are kept in all."""
        with self._lock:
            file = self._files[path]
            self._arrived += count - file.arrived
            file.arrived, file.state = count, state

    def resumed(self, found: int) -> None:
        """An earlier run left so many bytes; much less than it had shown is a restart, too."""
        with self._lock:
            if found + _LOST_BY_A_STOP < self._shown:
                self._restarts += 1
                self._note = "Most of what had arrived is not on the disk any more; it is fetched again."
                self._shown = 0
            self._shown = min(self._total, max(self._shown, found))

    def restarted(self, path: str, why: str) -> None:
        """The file begins anew: the only thing that lets progress fall."""
        with self._lock:
            self._restarts += 1
            self._note = f"Began {path} again: {why}."
            self._arrived -= self._files[path].arrived
            self._files[path].arrived = 0
            self._shown = self._furthest = 0

    def retries(self, wait_s: float, why: str) -> None:
        """A connection waits before its next try; what is said about it holds until bytes come."""
        with self._lock:
            self._retries += 1
            self._retrying_until = max(self._retrying_until, self._clock() + wait_s)
            self._retry_note = why

    def phase(self, name: str, note: str = "") -> None:
        """What the whole download is at, when that is not fetching; "" for fetching."""
        with self._lock:
            self._phase, self._note, self._retry_note = name, note, ""
            self._last_byte = self._clock()

    # -- asked by others ---------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        moment = self._clock()
        with self._lock:
            self._shown = max(self._shown, min(self._total, self._arrived + max(0, self._pending)))
            speed = self._speed(moment)
            left = self._total - self._shown
            return Snapshot(
                activity=self._activity(moment, left),
                downloaded=self._shown,
                total=self._total,
                speed=speed,
                eta_s=left / speed if speed > 0 and left else (0.0 if not left else None),
                restarts=self._restarts,
                retries=self._retries,
                note=self._retry_note or self._note,
            )

    def files(self) -> list[FileProgress]:
        with self._lock:
            return [
                FileProgress(f.path, f.size, min(f.size, f.arrived + max(0, f.pending)), f.state)
                for f in self._files.values()
            ]

    def _speed(self, moment: float) -> float:
        recent = sum(count for at, count in self._buckets if at >= moment - _WINDOW_S)
        return recent / max(_BUCKET_S, min(_WINDOW_S, moment - self._began))

    def _activity(self, moment: float, left: int) -> str:
        if self._phase:
            return self._phase
        if not left:
            return "verifying"
        silent = moment - self._last_byte > _SILENCE_S
        return "retrying" if silent or moment < self._retrying_until else "downloading"
