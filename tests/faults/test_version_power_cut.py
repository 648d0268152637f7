"""Power cuts while versions come, go and change places: what was answered is on the disk, the rest is done or undone.

The disk is copied at random moments (see `volumes.py` for what such a copy lacks), then a sidecar starts on each copy:
what it finds is what the last answer promised, or what the change under way was to bring. `PUMAS_FAULT_RUNS` sets how
many copies each app gets (2 unless told). `kill -9` at such moments: `test_version_faults.py`.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from faults.test_version_faults import COMFYUI, NEW, OLD, OLLAMA, OTHER, Bench, comfyui, ollama, opened, starts
from faults.volumes import Volume, can_mount, volume
from fixtures.releases import ReleaseServer
from sidecar import stopped
from versions.setup import server

__all__ = ["server"]
RUNS = int(os.environ.get("PUMAS_FAULT_RUNS", "2"))
PER_ROUND = 6
# Without a disk of our own a copy is made file by file, and the tools that fill environments do not stop for it.
APPS = ("ollama", "comfyui") if can_mount() else ("ollama",)


@dataclass(frozen=True)
class Standing:
    """What callers were told: which versions there are, made by which installations, and which is used."""

    installed: frozenset[str]
    active: str
    builds: frozenset[str]

    @classmethod
    def of(cls, bench: Bench) -> Standing:
        active = bench.call("get_active_version")["version"]
        return cls(frozenset(bench.installed()), active, frozenset(bench.builds()))


@dataclass
class Round:
    """A caller that makes one change after the other; `standings[n]` is what was so after `n` of them."""

    bench: Bench
    standings: list[Standing] = field(default_factory=list[Standing])
    failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.standings.append(Standing.of(self.bench))
            for change in self._changes():
                change()
                self.standings.append(Standing.of(self.bench))
        except BaseException as error:
            self.failure = error

    def _changes(self) -> list[Callable[[], object]]:
        bench = self.bench
        removed: dict[str, str] = {}

        def remove(tag: str) -> None:
            removed[tag] = bench.call("remove_version", tag=tag)["trash_id"]

        def install(tag: str, **options: bool) -> None:
            assert bench.job("install_version", tag=tag, **options)["state"] == "completed"

        return [
            lambda: install(NEW),
            lambda: bench.call("switch_version", tag=OTHER),
            lambda: bench.call("rollback_version"),
            lambda: remove(OTHER),
            lambda: bench.call("restore_version", trash_id=removed[OTHER]),
            lambda: install(OLD, reinstall=True),
            lambda: bench.call("rollback_version"),
            lambda: remove(NEW),
            lambda: bench.call("purge_removed_version", trash_id=removed[NEW]),
        ]


def cut(disk: Volume, bench: Bench, times: int, longest_s: float, rng: random.Random) -> list[tuple[Path, int, Round]]:
    """Copies of the disk, each with how many changes had been answered, out of one round of changes."""
    bench.arrange()
    bench.start_again()
    one, kept = Round(bench), list[tuple[Path, int, Round]]()
    caller = threading.Thread(target=one.run)
    caller.start()
    began = time.monotonic()
    for moment in sorted(rng.uniform(0, longest_s) for _ in range(times)):
        time.sleep(max(0.0, began + moment - time.monotonic()))
        with stopped(bench.sidecar):
            # First: what is told while the disk is copied was so before.
            answered = len(one.standings) - 1
            kept.append((disk.keep(), answered, one))
    caller.join()
    if one.failure is not None:
        raise one.failure
    return kept


@pytest.mark.parametrize("app_id", APPS)
def test_what_a_power_cut_leaves_of_versions(server: ReleaseServer, app_id: str) -> None:
    server.releases[OLLAMA] = [ollama(tag) for tag in (NEW, OTHER, OLD)]
    server.releases[COMFYUI] = [comfyui(tag) for tag in (NEW, OTHER, OLD)]
    rng = random.Random(app_id)
    with volume() as disk, opened(disk.path / "launcher", app_id, server) as bench:
        began = time.monotonic()
        cut(disk, bench, 0, 0, rng)
        took = time.monotonic() - began
        for first in range(0, RUNS, PER_ROUND):
            kept = cut(disk, bench, min(PER_ROUND, RUNS - first), took, rng)
            past = set(bench.past)
            bench.kill()
            for copy, answered, round_ in kept:
                with disk.shown(copy):
                    assert starts(bench.folder / OLD), "the version in use does not start"
                    bench.past = set(past)
                    bench.start()
                    try:
                        bench.check(set())
                        fits = round_.standings[max(0, answered) : answered + 2]
                        assert Standing.of(bench) in fits, (answered, Standing.of(bench), fits)
                    finally:
                        bench.sidecar.close()
            bench.start()
