"""Every benchmark still runs, in a size that says nothing about speed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from bench.table import Benchmark, Row, Run, Size, interleave, percentile

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench.py"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_script", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


BENCHMARKS: dict[str, Benchmark] = _script().benchmarks()


@pytest.mark.parametrize("name", BENCHMARKS)
def test_it_runs_and_says_what_it_measured(name: str, tmp_path: Path) -> None:
    rows = BENCHMARKS[name](Run(Size.TINY, tmp_path))
    assert rows
    for row in rows:
        assert row.measured >= 0
        assert row.baseline is None or row.baseline > 0


def test_the_benchmarks_of_the_server_are_found() -> None:
    assert {"start", "memory", "health", "idle", "flood", "stuck"} <= BENCHMARKS.keys()


@pytest.mark.parametrize(
    ("row", "ok"),
    [
        (Row("x", 11, "s", 10, ratio_at_most=1.1), True),
        (Row("x", 11.5, "s", 10, ratio_at_most=1.1), False),
        (Row("x", 59, "/s", 100, ratio_at_least=0.6), False),
        (Row("x", 61, "MB", 100, at_most=60), False),
        (Row("x", 99.9, "%", at_least=100), False),
        (Row("x", 1, "s", 0, ratio_at_most=1), False),
        (Row("x", 1e9, "s"), True),
    ],
)
def test_a_row_knows_whether_its_target_is_met(row: Row, ok: bool) -> None:
    assert row.ok is ok


def test_measures_take_turns_and_give_medians() -> None:
    turns: list[str] = []
    values = {"a": iter([1.0, 5.0, 2.0] * 2), "b": iter([10.0, 30.0, 20.0] * 2)}

    def measure(name: str) -> float:
        turns.append(name)
        return next(values[name])

    assert interleave(6, lambda: measure("a"), lambda: measure("b")) == [2.0, 20.0]
    rounds = [tuple(turns[at : at + 2]) for at in range(0, 12, 2)]
    assert set(rounds) == {("a", "b"), ("b", "a")}


def test_a_percentile_is_a_value_that_occurred() -> None:
    assert percentile(range(1, 101), 99) == 99
    assert percentile(range(1, 12), 99) == 11
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def bench(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | variables, timeout=60)


def test_rust_is_for_the_page_alone() -> None:
    done = bench("--rust", "library")
    assert done.returncode == 2 and "--rust goes with --ui" in done.stderr


def test_the_page_is_measured_with_the_rust_backend_when_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUMAS_RUST_BINARY", str(tmp_path / "pumas-rpc"))
    monkeypatch.setenv("PUMAS_RUST_BACKEND", "0")
    _script().take_rust()
    assert os.environ["PUMAS_RUST_BACKEND"] == "1"
