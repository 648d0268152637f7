"""Sidecars that are killed while they adopt models of another program's store, or undo that, and their successors.

Every second successor is of the other backend, where both are built. The store is never touched, the journal and the
library agree, and what was begun is finished or taken back. `PUMAS_FAULT_RUNS` sets how many kills each gets (4 unless
told). Python's work alone, at every audited event: `tests/adoption/test_kill.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sidecar as running
from adoption.adopting_setup import snapshot
from adoption.stores import environment, gguf, write
from contract.served import rust_is_built
from faults.killing import kill_often
from sidecar import RUST_SWITCH, Sidecar, chosen_backend, eventually

RUNS = int(os.environ.get("PUMAS_FAULT_RUNS", "4"))
FINAL = ("completed", "failed", "cancelled")
Json = dict[str, Any]


class Adopting:
    """A store of LM Studio with models of two shards each, and a sidecar beside it."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.home, self.root, self.mode = folder / "home", folder / "launcher", mode
        self.root.mkdir()
        self.own = chosen_backend(os.environ)
        self.count = 0
        self.sidecar = self._start(self.own)
        self.add()

    def _start(self, backend: str) -> Sidecar:
        switch = {RUST_SWITCH: "1" if backend == "rust" else "0"}
        return running.start(self.root, env=environment(self.home) | switch)

    def restart(self, backend: str) -> None:
        self.sidecar.close()
        self.sidecar = self._start(backend)

    def add(self) -> Callable[[], object]:
        """Put another model into the store; what adopts it."""
        self.count += 1
        for shard in (1, 2):
            name = f"model{self.count}-{shard:05}-of-00002.gguf"
            path = self.home / ".lmstudio" / "models" / "acme" / f"Model{self.count}" / name
            write(path, gguf(10 * self.count + shard))
        self.before = snapshot(self.home)
        stored = self.stored(f"Model{self.count}")
        return lambda: self.sidecar.result("adopt_models", {"items": [{"stored_id": stored}], "mode": self.mode})

    def stored(self, name: str) -> str:
        found = [one for store in self.sidecar.result("scan_model_stores")["stores"] for one in store["models"]]
        (stored,) = [one["stored_id"] for one in found if name in one["name"]]
        return stored

    def ids(self) -> list[str]:
        return sorted(self.sidecar.result("get_models")["models"])

    def check(self, *, resume: bool) -> None:
        """After a kill and a start."""
        assert snapshot(self.home) == self.before, "the store is as it was"
        for job in self.sidecar.result("list_jobs", {"limit": 1000})["jobs"]:
            assert job["state"] in (*FINAL, "paused"), job
            if job["state"] == "paused":
                self.sidecar.result("resume_job" if resume else "cancel_job", {"job_id": job["job_id"]})
                self._ended(job["job_id"])
        assert snapshot(self.home) == self.before, "the store is as it was"
        adopted = self.sidecar.result("list_adoptions")["adoptions"]
        assert sorted(one["model_id"] for one in adopted) == self.ids(), "the journal and the library agree"
        library = self.root / "shared-resources" / "models"
        assert [path for path in (library / ".staging").rglob("*") if path.is_file()] == []
        theirs = {path.name: path.read_bytes() for path in self.home.rglob("*.gguf")}
        for model_id in self.ids():
            ours = {path.name: path.read_bytes() for path in (library / model_id).glob("*.gguf")}
            assert len(ours) == (2 if self.mode == "hardlink" else 0), f"{model_id} is whole"
            assert ours.items() <= theirs.items()
        models = self.sidecar.result("get_models")["models"]
        assert [one for one in models.values() if one["state"] != "ok"] == []
        assert not self.sidecar.result("get_library_status")["troubles"]

    def _ended(self, job_id: str) -> None:
        eventually(lambda: self.sidecar.result("get_job", {"job_id": job_id})["job"]["state"] in FINAL, 60)


@pytest.fixture(params=["hardlink", "reference"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Adopting]:
    one = Adopting(tmp_path, request.param)
    yield one
    one.sidecar.close()


def adopting(bench: Adopting) -> Callable[[], object]:
    return bench.add()


def undoing(bench: Adopting) -> Callable[[], object]:
    before = bench.ids()
    bench.add()()
    (model_id,) = set(bench.ids()) - set(before)
    return lambda: bench.sidecar.result("undo_adoption", {"model_id": model_id})


@pytest.mark.parametrize("prepare", [adopting, undoing])
def test_killed_and_gone_on_with(
    bench: Adopting, tmp_path: Path, prepare: Callable[[Adopting], Callable[[], object]]
) -> None:
    others = ["python", "rust"] if rust_is_built() else ["python"]

    def check(number: int) -> None:
        bench.restart(others[number // 2 % len(others)])
        bench.check(resume=bool(number % 2))
        bench.restart(bench.own)

    kill_often(lambda: bench.sidecar, lambda: prepare(bench), tmp_path / "trace", RUNS, check)
    while ids := bench.ids():
        assert bench.sidecar.result("undo_adoption", {"model_id": ids[0]})["success"]
    bench.check(resume=False)
