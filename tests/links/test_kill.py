"""Killed, or refused by the disk, at any system call: each link is registered or is not ours, and nothing is lost.

One operation runs in a forked child, with strace making the faults (`faults/strace.py`). After each the same folders
are opened as a start does, looked at whole, and the operation is repeated; applying then leaves nothing to do.
`PUMAS_FAULT_RUNS` sets how many faults each operation gets (12 unless told).
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from faults.strace import Point, forked, points
from pumas.errors import PumasError
from pumas.links.applying import KEPT_FOLDER

from .setup import APP, TAG, Setup, write

RUNS = int(os.environ.get("PUMAS_FAULT_RUNS", "12"))
# `a` and `b` are linked; `c`, `d` and `e` are new, and something of the user's is where `d` and `e` belong.
IDS = {name: f"diffusion/sdxl/{name}" for name in "abcde"}
WORDS = {IDS["d"]: "overwrite", IDS["e"]: "rename"}
THEIRS = {"d.safetensors": b"theirs d", "e.safetensors": b"theirs e"}
FAULTS = ("signal=KILL", "error=ENOSPC", "error=EIO")


@dataclass(frozen=True)
class Operation:
    """`prepare` runs undisturbed, `run` is disturbed."""

    run: Callable[[Setup], object]
    prepare: Callable[[Setup], object] = lambda _setup: None


def trash_id(setup: Setup) -> str:
    return setup.trash.list()[0].trash_id


OPERATIONS = {
    "apply": Operation(lambda s: s.apply(WORDS)),
    "delete": Operation(lambda s: s.trash.delete(IDS["a"])),
    "restore": Operation(lambda s: s.trash.restore(trash_id(s)), lambda s: s.trash.delete(IDS["a"])),
    "orphans": Operation(lambda s: s.work.remove_orphans(APP, TAG, [f"{s.models}/checkpoints/mine"])),
    "broken": Operation(lambda s: s.work.clean_broken(), lambda s: (s.library / IDS["b"] / "b.safetensors").unlink()),
}


def build(root: Path) -> Setup:
    setup = Setup(root)
    for name in "ab":
        setup.model(IDS[name], f"{name}.safetensors")
    setup.apply()
    for name in "cde":
        setup.model(IDS[name], f"{name}.safetensors")
    place = setup.models / "checkpoints"
    for name, data in THEIRS.items():
        write(place / name, data)
    (place / "mine").symlink_to(setup.library / IDS["a"] / "a.safetensors")
    # Our own link to somewhere else: to be made anew.
    (row,) = setup.store.of_models([IDS["b"]])
    target = Path(setup.store.absolute(row.target_path))
    target.unlink()
    target.symlink_to("/old/place")
    setup.store.begin([row._replace(link_text="/old/place")])
    setup.store.finish()
    setup.index.reconcile()
    return setup


@pytest.fixture
def folder() -> Generator[Path]:
    # tmpfs: hundreds of runs with dozens of fsyncs each. What is tested is the order of calls.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)


class World:
    """The same start for every run, in the same place, so that absolute links in it are right."""

    def __init__(self, folder: Path, name: str) -> None:
        self.operation = OPERATIONS[name]
        self.root, self.template = folder / "root", folder / f"template-{name}"
        setup = build(self.root)
        self.operation.prepare(setup)
        setup.close()
        os.rename(self.root, self.template)

    def renew(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.template, self.root, symlinks=True)

    def run(self, *strace: str) -> int:
        """Wait status of the child."""
        return forked(self._attempt, strace)

    def _attempt(self) -> int:
        with suppress(PumasError):
            self.operation.run(Setup(self.root))
        return 0

    def points(self, log: Path) -> list[Point]:
        """Every call of the operation that changes something, but for the index of models, which is a cache."""
        for _ in range(2):  # the first may still load and compile modules
            self.renew()
            assert self.run("-o", str(log), "-y", "-s", "300") == 0
        return points(log, apart_from="models.db")


def start(root: Path) -> Setup:
    """What a start of the sidecar does."""
    setup = Setup(root)
    setup.trash.recover()
    setup.keeper.recover()
    return setup


def check(setup: Setup) -> None:
    """Nothing of the user's is lost, and registry and disk agree."""
    place = setup.models / "checkpoints"
    kept = {setup.store.absolute(r.kept_path): setup.store.absolute(r.target_path) for r in setup.store.replaced()}
    for name, data in THEIRS.items():
        places = [Path(path) for path, was in kept.items() if was == str(place / name) and os.path.lexists(path)]
        found = [path for path in (place / name, *places) if not path.is_symlink() and path.is_file()]
        assert [path.read_bytes() for path in found] == [data], f"{name} is lost, or there twice"
    mine = [path for path in (place / "mine", *(setup.models / KEPT_FOLDER).rglob("mine")) if path.is_symlink()]
    assert len(mine) == 1
    rows = {setup.store.absolute(row.target_path) for row in setup.store.all()}
    for path, folders, names in os.walk(setup.models):
        if KEPT_FOLDER in folders:
            folders.remove(KEPT_FOLDER)
        for name in names:
            full = f"{path}/{name}"
            assert "pumas-tmp" not in name
            assert full in rows or name == "mine" or not os.path.islink(full), f"{name} is not registered"
    assert setup.store.making() == []
    in_trash = {entry.model_id: setup.layout.trash / entry.trash_id / "model" for entry in setup.trash.list()}
    for name, model_id in IDS.items():
        homes = [home for home in (setup.library / model_id, in_trash.get(model_id)) if home and home.is_dir()]
        assert len(homes) == 1
        assert (homes[0] / f"{name}.safetensors").exists() or name == "b"
        if model_id in in_trash:
            assert not any(row.model_id == model_id for row in setup.store.all())
        elif name == "a":
            assert (place / "a.safetensors").is_symlink(), "its link is where the model is"


def check_again(setup: Setup, operation: Operation) -> None:
    with suppress(PumasError, IndexError):
        operation.run(setup)
    check(setup)
    setup.index.reconcile()
    setup.apply(WORDS)
    check(setup)
    assert setup.apply(WORDS).created == 0 and not setup.plan().changes


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_at_any_system_call(folder: Path, tmp_path: Path, name: str, fault: str) -> None:
    assert shutil.which("strace"), "strace is needed to make system calls fail; ./launcher setup installs it"
    world = World(folder, name)
    points = world.points(tmp_path / "log")
    assert len(points) >= 8
    chosen = points if len(points) <= RUNS else [points[i * len(points) // RUNS] for i in range(RUNS)]
    killed = 0
    for point in chosen:
        world.renew()
        status = world.run(*point.inject(fault))
        assert status in (0, signal.SIGKILL), f"{point}: the operation failed by a bug"
        killed += status == signal.SIGKILL
        setup = start(world.root)
        try:
            check(setup)
            check_again(setup, world.operation)
        except BaseException as error:
            error.add_note(f"at {point}, {fault}")
            raise
        finally:
            setup.close()
    shutil.rmtree(world.template)
    assert killed > len(chosen) // 2 or not fault.startswith("signal")
