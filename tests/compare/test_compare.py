"""The comparison finds what differs and nothing else: a backend against itself, and roots that were changed."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compare import sequences
from compare.main import Comparison
from compare.pair import Step
from compare.state import held
from contract.replay import differences


def test_a_backend_does_not_differ_from_itself(tmp_path: Path) -> None:
    outcome = Comparison(tmp_path, ("python", "python")).run(count=40, seed=3, examples=4)
    assert outcome.findings == []
    assert outcome.unserved == []
    assert outcome.calls["examples"] >= 4
    assert outcome.calls["generated calls"] > 20
    assert outcome.calls["sequences"] == 1


def test_one_call_is_shown_from_both_sides(tmp_path: Path) -> None:
    replies, different = Comparison(tmp_path, ("python", "python")).one(Step("get_model", {"model_id": "a/b/c"}))
    assert replies[0]["result"]["error_code"] == "model_not_found"
    assert different == []


def _metadata(root: Path) -> None:
    (root / "a" / "metadata.json").write_text(json.dumps({"family": "other", "job_id": "job-1"}))


def _row(root: Path) -> None:
    with sqlite3.connect(root / "x.db") as database:
        database.execute("UPDATE t SET name = 'b'")
    database.close()


CHANGES: dict[str, Callable[[Path], object]] = {
    "a value in a JSON file": _metadata,
    "a row": _row,
    "bytes": lambda root: (root / "model.gguf").write_bytes(b"GGUF!"),
    "a file more": lambda root: (root / "a" / "more").touch(),
    "a file less": lambda root: (root / "model.gguf").unlink(),
    "a folder more": lambda root: (root / "b").mkdir(),
}


def _root(folder: Path) -> Path:
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "metadata.json").write_text(json.dumps({"family": "llama", "job_id": "job-1"}))
    (folder / "model.gguf").write_bytes(b"GGUF?")
    with sqlite3.connect(folder / "x.db") as database:
        database.execute("CREATE TABLE t (name, created_at, inode)")
        database.execute("INSERT INTO t VALUES ('a', '2026-01-01T00:00:00Z', 1)")
    database.close()
    return folder


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_it_sees_each_change_on_the_disk(tmp_path: Path, change: Callable[[Path], object]) -> None:
    def same(value: Any) -> Any:
        return value

    one, other = _root(tmp_path / "one"), _root(tmp_path / "other")
    assert differences(held(one, same), held(other, same)) == []
    change(other)
    assert differences(held(one, same), held(other, same))


@pytest.mark.parametrize("seed", range(20))
def test_what_differs_is_made_short(seed: int) -> None:
    rng = random.Random(seed)
    steps = [Step(str(n), {}) for n in range(rng.randrange(2, 20))]
    culprits = set(rng.sample(range(len(steps)), 2))

    def differs(some: list[Step]) -> bool:
        return culprits <= {int(step.method) for step in some}

    assert {int(step.method) for step in sequences.shrink(steps, differs)} == culprits


def test_ids_that_nobody_told_are_said_to_be_there(tmp_path: Path) -> None:
    def same(value: Any) -> Any:
        return value

    for name, made_up in (("one", "0" * 32), ("other", "f" * 32)):
        (tmp_path / name).mkdir()
        for file in ("plan.json", f"plan-{made_up}.json"):
            (tmp_path / name / file).write_text(json.dumps({f"plan-{made_up}": f"\nnode-{made_up[:16]}", "x": "ab-12"}))
    found = held(tmp_path / "one", same)
    assert found == held(tmp_path / "other", same)
    assert found["plan.json"] == found["<plan>.json"] == {"<plan>": "\n<node>", "x": "ab-12"}
