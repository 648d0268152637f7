"""Power cuts under load: what was answered is on the disk, the rest is whole or absent, nothing stays behind.

The disk is copied at random moments while callers import, delete, restore and edit (see `volumes.py` for what such a
copy lacks); then a sidecar starts on each copy. `PUMAS_FAULT_RUNS` sets how many copies (3 unless told).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sidecar as running
from faults.library_load import Promises, check_nothing_left_over, check_promises, load
from faults.volumes import Volume, volume
from sidecar import Sidecar, eventually, stopped

RUNS = int(os.environ.get("PUMAS_FAULT_RUNS", "3"))
PER_LOAD = 6
LONGEST_S = 0.8


@pytest.fixture
def disk() -> Iterator[Volume]:
    with volume() as one:
        yield one


def start(disk: Volume) -> Sidecar:
    root = disk.path / "launcher"
    root.mkdir(exist_ok=True)
    return running.start(root)


@pytest.mark.parametrize("seed", range(max(1, -(-RUNS // PER_LOAD))))
def test_what_a_power_cut_leaves(disk: Volume, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    kept: list[tuple[Path, Promises]] = []
    victim = start(disk)
    with load(victim, tmp_path / "user", disk.path / "user", seed) as callers:
        eventually(lambda: callers.calls >= 2, 30, "the first imports")
        for _ in range(min(PER_LOAD, RUNS)):
            time.sleep(rng.uniform(0, LONGEST_S))
            with stopped(victim):
                # First: a caller may begin with another file while the disk is copied.
                promises = callers.promises()
                kept.append((disk.keep(), promises))
        callers.stop()
    assert callers.refused == []
    victim.kill()
    for number, (copy, promises) in enumerate(kept):
        with disk.shown(copy):
            survivor = start(disk)
            try:
                check_promises(survivor, promises)
                check_nothing_left_over(survivor, promises, resume=bool(number % 2))
            finally:
                survivor.close()


def test_what_was_answered_last_is_kept(disk: Volume, tmp_path: Path) -> None:
    """Nobody else makes the disk sync what an answer promised: the power goes right after it."""
    kept: list[tuple[Path, Promises]] = []
    victim = start(disk)
    with load(victim, tmp_path / "user", disk.path / "user", seed=1, callers=0) as caller:
        copied = caller.bring_in("copy")
        steps: list[Callable[[], object]] = [
            lambda: caller.bring_in("move"),
            lambda: caller.bring_in("hardlink"),
            lambda: caller.limit(copied),
            lambda: caller.mark(copied),
            lambda: caller.delete(copied),
            lambda: caller.restore(copied),
        ]
        for step in steps:
            step()
            with stopped(victim):
                kept.append((disk.keep(), caller.promises()))
    assert caller.refused == []
    victim.kill()
    for copy, promises in kept:
        with disk.shown(copy):
            survivor = start(disk)
            try:
                check_promises(survivor, promises)
            finally:
                survivor.close()
