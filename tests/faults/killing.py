"""Where and how a real sidecar is killed in the middle of a call: at system calls that change files, or at a moment."""

from __future__ import annotations

import contextlib
import http.client
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from faults.strace import CHANGING, Point, points, traced
from sidecar import Sidecar, killed_after

Act = Callable[[], object]
Way = Point | float
"""A system call, or seconds from the beginning of the call."""


def kill_often(
    sidecar: Callable[[], Sidecar], prepare: Callable[[], Act], log: Path, count: int, check: Callable[[int], None]
) -> None:
    """Kill about `count` calls. After each, `check` starts another sidecar, which is then the one to be killed, and
    looks at what it finds; it is given the number of the kill."""
    ways = ways_to_kill(sidecar(), prepare, log, count)
    kills = 0
    for number, way in enumerate(ways):
        if number >= count and kills >= count // 2:
            break
        kills += killed(sidecar(), prepare(), way)
        try:
            check(number)
        except Exception as error:
            raise AssertionError(f"killed at {way}: {error}") from error
    assert kills >= count // 2, f"killed {kills} of {len(ways)} times"


def ways_to_kill(sidecar: Sidecar, prepare: Callable[[], Act], log: Path, count: int) -> list[Way]:
    """Found by two calls that are not disturbed; `prepare` makes ready for one. About `count` points over the whole
    call, then moments.

    Which thread does which system call differs from run to run: a point may not come up again, then a moment stands in.
    """
    act = prepare()
    with traced(sidecar.pid, ["-o", str(log), "-s", "0", "-e", f"trace={','.join(CHANGING)}"]):
        act()
    act = prepare()
    started = time.monotonic()
    act()
    took = time.monotonic() - started
    moments = random.Random(count)
    return [*_spread(points(log), count - max(1, count // 4)), *(moments.uniform(0, took) for _ in range(4 * count))]


def killed(sidecar: Sidecar, act: Act, way: Way) -> bool:
    """Whether that happened while it acted."""
    if not isinstance(way, Point):
        return killed_after(sidecar, way, act)
    with traced(sidecar.pid, way.inject("signal=KILL")), contextlib.suppress(OSError, http.client.HTTPException):
        act()
    return not sidecar.alive()


def _spread(found: Sequence[Point], count: int) -> list[Point]:
    """At most `count` of the points, evenly over the operation, the last among them."""
    return list(found) if len(found) <= count else [found[(i + 1) * len(found) // count - 1] for i in range(count)]
