"""From a version to a running process, killed at every step: an app that runs is always one that is written down."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pumas.errors import InvalidInput
from pumas.processes import starting
from pumas.processes.starting import check_arguments
from sidecar import eventually

from .conftest import MakeBench
from .programs import Root, command_line, runs

BACKEND = Path(starting.__file__).resolve().parents[2]

DRIVER = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace

root, die_at = Path(sys.argv[1]), int(sys.argv[2])
from pumas.apps.catalog import Apps
from pumas.config import Layout
from pumas.processes import ledger, run, spawn, starting
from pumas.storage.json_file import StateLock

steps = 0
def step(*_):
    global steps
    steps += 1
    if steps == die_at:
        os.kill(os.getpid(), signal.SIGKILL)

def around(owner, name):
    real = getattr(owner, name)
    def wrapped(*args, **kwargs):
        step()
        result = real(*args, **kwargs)
        step()
        return result
    setattr(owner, name, wrapped)

for owner, name in (
    (spawn.WaitingKeeper, "__init__"), (spawn.WaitingKeeper, "go"), (spawn.Orders, "to_line"),
    (ledger.Ledger, "put"), (ledger.Ledger, "add_log"), (os, "replace"),
):
    around(owner, name)

layout = Layout(root)
version = SimpleNamespace(tag="v1", folder=root / "web-versions" / "v1")
wish = starting.Wish(Apps(layout).get("web"), version)
book = ledger.Ledger(layout.processes_file, StateLock(layout.state_lock))
starting.begin(layout, book, wish)
print("done", steps, flush=True)
os._exit(0)
"""


def drive(root: Root, die_at: int) -> int | None:
    """Start the app in a process that dies at the given step; how many steps there are once it came through."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(root.path), str(die_at)],
        env={**os.environ, "PYTHONPATH": str(BACKEND)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[1])


async def test_killed_at_every_step_of_a_start(opened: MakeBench, root: Root) -> None:
    root.install("web")
    outcomes: list[bool] = []
    for die_at in range(1, 200):
        steps = await asyncio.to_thread(drive, root, die_at)
        async with opened(grace_s=1.0) as bench:
            # A keeper whose sidecar died before it gave an order ends by itself.
            async with asyncio.timeout(30):
                while known(root) != {run.pid for run in bench.service.list()}:
                    await asyncio.sleep(0.02)
            outcomes.append(bool(bench.service.list()))
            for run in bench.service.list():
                await bench.service.stop(run_id=run.run_id)
        await asyncio.to_thread(eventually, lambda: root.leftovers() == [], 10.0, f"all gone after {die_at}")
        if steps is not None:
            break
    assert len(outcomes) > 15, "there is something to look at"
    assert outcomes == sorted(outcomes), "first never running, from some step on always"
    assert outcomes[0] is False and outcomes[-1] is True


def known(root: Root) -> set[int]:
    return {pid for pid in root.leftovers() if "app.py" in command_line(pid) and runs(pid)}


@pytest.mark.parametrize("arguments", [(), ("--x",), ("", " ", "a b", "ü☃", "$(x)", "-" * 4096), ("x",) * 200])
def test_arguments_are_taken_as_they_are(arguments: tuple[str, ...]) -> None:
    check_arguments(arguments)


@pytest.mark.parametrize("arguments", [("a\0",), ("\ud83d",), ("x" * 4097,), ("x",) * 201])
def test_arguments_that_no_vector_can_hold(arguments: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput):
        check_arguments(arguments)
