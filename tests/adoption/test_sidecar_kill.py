"""A backend killed while it adopts or takes back, and one of either kind started on what is left.

Whatever the moment: the journal and the library agree, a model is whole or absent, the owner's files are as they were,
and what was cut off can be done again. `PUMAS_FAULT_RUNS` sets how many kills each case gets (2 unless told).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sidecar as running
from contract.served import rust_is_built
from sidecar import Sidecar, eventually

from .adopting_setup import snapshot
from .stores import environment, gguf, write

Launch = Callable[..., Sidecar]
RUNS = int(os.environ.get("PUMAS_FAULT_RUNS", "2"))
FILES = {f"a-0000{n}-of-00002.gguf": gguf(n) for n in (1, 2)}
# Without the Rust backend Python takes its place.
OTHER = "rust" if rust_is_built() else "python"
ORDERS = pytest.mark.parametrize(("killed", "next_one"), [("python", OTHER), (OTHER, "python"), (OTHER, OTHER)])
MODES = pytest.mark.parametrize("mode", ["hardlink", "reference"])
FINAL = ("completed", "failed", "cancelled")


class Place:
    """A launcher beside a store with one model of two files, and the backend that runs there now."""

    def __init__(self, launch: Launch, folder: Path, backend: str, mode: str) -> None:
        self._launch, self._home, self._mode = launch, folder / "home", mode
        self.store = folder / "store"
        for name, data in FILES.items():
            write(self.store / "acme" / "A" / name, data)
        self.before = snapshot(self.store)
        self.sidecar = self._start(backend)
        self.library = self.sidecar.root / "shared-resources" / "models"

    def _start(self, backend: str) -> Sidecar:
        return self._launch(env={**environment(self._home), running.RUST_SWITCH: "1" if backend == "rust" else "0"})

    def restart(self, backend: str) -> None:
        self.sidecar.close()
        self.sidecar = self._start(backend)

    def adopt(self) -> str:
        """Answers the model's id."""
        item = {"store": str(self.store), "name": "acme/A/a"}
        answer = self.sidecar.result("adopt_models", {"items": [item], "mode": self._mode})
        (result,) = answer["results"]
        assert result["success"], result
        return result["model_id"]

    def undo(self, model_id: str) -> dict[str, Any]:
        return self.sidecar.result("undo_adoption", {"model_id": model_id})

    def models(self) -> list[str]:
        """Each is whole, and the journal knows it."""
        assert snapshot(self.store) == self.before
        self.sidecar.result("refresh_model_index")
        found = sorted(self.sidecar.result("get_models")["models"])
        listed = self.sidecar.result("list_adoptions")["adoptions"]
        assert sorted(one["model_id"] for one in listed if one["present"]) == found
        data = FILES if self._mode == "hardlink" else {}
        for model_id in found:
            own = {path.name: path.read_bytes() for path in (self.library / model_id).glob("*.gguf")}
            assert own == data
        return found

    def end_jobs(self, call: str) -> None:
        """`call` is what is asked for each that was cut off."""
        for job in self.sidecar.result("list_jobs", {"states": ["paused"]})["jobs"]:
            job_id = job["job_id"]
            self.sidecar.result(call, {"job_id": job_id})

            def ended(job_id: str = job_id) -> bool:
                return self.sidecar.result("get_job", {"job_id": job_id})["job"]["state"] in FINAL

            eventually(ended, 60, f"the end of {job_id}")


@ORDERS
@MODES
def test_adopting(launch: Launch, tmp_path: Path, mode: str, killed: str, next_one: str) -> None:
    place = Place(launch, tmp_path, killed, mode)

    def nothing_there() -> None:
        for model_id in place.models():
            place.undo(model_id)

    kills = running.kills(RUNS, lambda: place.sidecar, nothing_there, lambda _: place.adopt())
    for number, (_, when) in enumerate(kills):
        place.restart(next_one)
        assert len(place.models()) <= 1, when
        place.end_jobs("resume_job" if number % 2 else "cancel_job")
        found = place.models() or [place.adopt()]
        undone = place.undo(found[0])
        assert (undone["success"], undone["trash_id"]) == (True, None), f"{when}: {undone}"
        assert (place.models(), os.listdir(place.library / ".staging")) == ([], []), when
        place.restart(killed)


@ORDERS
@MODES
def test_taking_back(launch: Launch, tmp_path: Path, mode: str, killed: str, next_one: str) -> None:
    place = Place(launch, tmp_path, killed, mode)
    kills = running.kills(RUNS, lambda: place.sidecar, lambda: (place.models() or [place.adopt()])[0], place.undo)
    for _, when in kills:
        place.restart(next_one)
        found = place.models()
        trashed = place.sidecar.result("list_trash")["entries"]
        assert len(found) + len(trashed) <= 1, f"{when}: in the library, in the trash, or gone; never two of these"
        for entry in trashed:
            assert place.sidecar.result("restore_model", {"trash_id": entry["trash_id"]})["success"]
            found.append(entry["model_id"])
        for model_id in found:
            undone = place.undo(model_id)
            assert (undone["success"], undone["trash_id"]) == (True, None), f"{when}: {undone}"
        assert place.models() == [], when
        place.restart(killed)
