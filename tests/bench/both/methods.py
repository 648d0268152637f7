"""What one call of each method costs in either backend: the contract's examples, asked many times.

The first example of a method that works is set up for both backends. What answers the same when it is asked again is
asked in turns over kept connections; what changes something is asked once of each of several fresh sidecars.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.both.figures import Contest
from bench.programs import Client, rss_mb
from bench.table import percentile
from contract import replay

LONGEST_S = 4.0
"""So long is one method asked for at most."""


@dataclass(frozen=True)
class Cost:
    """Of one method in one backend: milliseconds until the whole reply was there, and MB in memory afterwards."""

    p50_ms: float
    p99_ms: float
    memory_mb: float


@dataclass(frozen=True)
class Compared:
    """`calls` were made of each backend; `fresh`: each of a sidecar of its own."""

    name: str
    calls: int
    fresh: bool
    costs: tuple[Cost, Cost]

    @property
    def ratio(self) -> float:
        """How many times as long the second backend takes."""
        return self.costs[1].p50_ms / self.costs[0].p50_ms


def examples(served: frozenset[str]) -> dict[str, Path]:
    """By method that both serve: its example that shows a success, with no other method before it than served ones."""
    found: dict[str, Path] = {}
    for path in replay.all_examples():
        name = path.name.rsplit(".", 2)[0]
        example = json.loads(path.read_text(encoding="utf-8"))
        called = {name, *(call["method"] for call in example.get("before", []))}
        failed = "result" not in example or (
            isinstance(example["result"], dict) and example["result"].get("success") is False
        )
        if not failed and called <= served and (name not in found or ".success." in path.name):
            found[name] = path
    return found


def measure(contest: Contest, path: Path) -> Compared:
    """Raises AssertionError or OSError when the example cannot be set up, or a reply does not come."""
    name = path.name.rsplit(".", 2)[0]
    calls = contest.run.pick(full=200, quick=50, tiny=3)
    fresh = contest.run.pick(full=9, quick=3, tiny=1)
    times: list[list[float]] = [[], []]
    with contextlib.ExitStack() as stack:
        asked = [stack.enter_context(_asked(path, backend)) for backend in contest.backends]
        for values, one in zip(times, asked, strict=True):
            values.append(one.ask())
        memory = [one.memory() for one in asked]
        again = all(one.answers_the_same() for one in asked)
        if again:
            _in_turns(asked, times, calls)
            memory = [one.memory() for one in asked]
    if not again:
        for _ in range(fresh - 1):
            for values, backend in zip(times, contest.backends, strict=True):
                with _asked(path, backend) as one:
                    values.append(one.ask())
    ours, theirs = (
        Cost(percentile(values, 50), percentile(values, 99), weight)
        for values, weight in zip(times, memory, strict=True)
    )
    return Compared(name, len(times[0]), not again, (ours, theirs))


def _in_turns(asked: list[_Asked], times: list[list[float]], calls: int) -> None:
    """The first call is not counted: it makes connections and warms caches."""
    for values in times:
        values.clear()
    end = time.monotonic() + LONGEST_S
    for turn in itertools.cycle(([0, 1], [1, 0])):
        for side in turn:
            times[side].append(asked[side].ask())
        if len(times[0]) >= calls or time.monotonic() > end:
            return


class _Asked:
    """One backend, with everything done that comes before the call."""

    def __init__(self, path: Path, stage: replay.Stage, sidecar: Any) -> None:
        name = path.name.rsplit(".", 2)[0]
        self._connect = functools.partial(Client, sidecar.port, name, stage.params(), sidecar.token)
        self._pid: int = sidecar.pid
        self._reply: Any = None

    @functools.cached_property
    def _client(self) -> Client:
        """Connected at its first use: a sidecar closes what says nothing while the other one is set up."""
        return self._connect()

    def ask(self) -> float:
        """Milliseconds."""
        took, body = self._client.ask()
        self._reply = json.loads(body)
        return took * 1e3

    def memory(self) -> float:
        """0 once the process has ended, as some calls ask it to."""
        try:
            return rss_mb(self._pid)
        except OSError:
            return 0.0

    def answers_the_same(self) -> bool:
        before = self._reply
        try:
            self.ask()
        except OSError:
            return False
        return "error" not in self._reply and not replay.differences(before, self._reply)

    def close(self) -> None:
        if "_client" in vars(self):
            self._client.socket.close()


@contextlib.contextmanager
def _asked(path: Path, backend: str) -> Iterator[_Asked]:
    example = json.loads(path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        stage = replay.Stage(Path(folder), example, backend)
        with stage.ready() as sidecar, contextlib.closing(_Asked(path, stage, sidecar)) as asked:
            yield asked
