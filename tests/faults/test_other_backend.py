"""A backend killed in the middle of a call, and the other one started on what is left: both go on with the same files.

What must hold is in `library_load.py`: what was answered is there, all else is whole or absent, an interrupted import
is finished or given up by the other backend, and nothing is left behind. `PUMAS_FAULT_RUNS` sets how many kills each
operation gets (2 unless told).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

import sidecar as running
from contract.served import rust_is_built
from faults.library_bench import OPERATIONS, Bench
from faults.library_load import check_nothing_left_over, check_promises

RUNS = int(os.environ.get("PUMAS_FAULT_RUNS", "2"))
# Without the Rust backend Python takes its place: the next start is Python's then, too.
OTHER = "rust" if rust_is_built() else "python"


@pytest.fixture
def bench(tmp_path: Path) -> Generator[Bench]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as far:
        one = Bench(tmp_path / "launcher", Path(far), tmp_path / "user")
        yield one
        one.sidecar.close()


@pytest.mark.parametrize(("killed", "next_one"), [("python", OTHER), (OTHER, "python")])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_other_one_goes_on(bench: Bench, operation: str, killed: str, next_one: str) -> None:
    bench.restart(killed)
    prepare = OPERATIONS[operation]
    kills = running.kills(RUNS, lambda: bench.sidecar, lambda: prepare(bench), lambda act: act())
    for number, (_act, when) in enumerate(kills):
        try:
            bench.restart(next_one)
            promises = bench.caller.promises()
            check_promises(bench.sidecar, promises)
            check_nothing_left_over(bench.sidecar, promises, resume=bool(number % 2))
        except Exception as error:
            raise AssertionError(f"{operation}, {killed} {when}, gone on with by {next_one}: {error}") from error
        bench.caller.look()
        bench.restart(killed)
