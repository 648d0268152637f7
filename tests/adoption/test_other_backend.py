"""What one backend adopted, or was killed while it adopted, the other goes on with and takes back, in both orders."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sidecar as running
from contract.served import rust_is_built
from sidecar import Sidecar

from .adopting_setup import snapshot
from .stores import environment, gguf, hf_file, ollama_model, sha256, write

Launch = Callable[..., Sidecar]
# Without the Rust backend Python takes its place.
OTHER = "rust" if rust_is_built() else "python"
ORDERS = pytest.mark.parametrize(("first", "second"), [("python", OTHER), (OTHER, "python")])
MANY = 60


def started(launch: Launch, home: Path, backend: str) -> Sidecar:
    return launch(env={**environment(home), running.RUST_SWITCH: "1" if backend == "rust" else "0"})


def items(server: Sidecar, folder: Path) -> list[dict[str, Any]]:
    (store,) = server.result("scan_model_stores", {"folders": [str(folder)], "known": False})["stores"]
    return [{"stored_id": model["stored_id"]} for model in store["models"]]


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        kept: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType] - JSON
        return {key: without_times(one) for key, one in kept.items() if key not in ("job_id", "seconds")}
    if isinstance(value, list):
        return [without_times(one) for one in value]  # pyright: ignore[reportUnknownVariableType] - JSON
    return value


@ORDERS
def test_a_killed_adoption_goes_on_in_the_other(launch: Launch, tmp_path: Path, first: str, second: str) -> None:
    folder, home = tmp_path / "more", tmp_path / "home"
    for number in range(MANY):
        write(folder / "acme" / "X" / f"m{number}.gguf", gguf(number))
    one = started(launch, home, first)
    body = {"jsonrpc": "2.0", "id": 1, "method": "adopt_models", "params": {"items": items(one, folder)}}
    data = json.dumps(body).encode()
    head = [("Host", one.host), ("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
    library = one.root / "shared-resources" / "models"
    with one.connect() as sock:
        sock.sendall(running.request_bytes("POST", "/rpc", [*head, *one.auth().items()], data))
        running.eventually(lambda: len(list(library.glob("[!.]*/*/*/metadata.json"))) > 5, what="some adoptions")
        one.kill()
    before = snapshot(folder)
    other = started(launch, home, second)
    (job,) = other.result("list_jobs", {"kind": "adopt"})["jobs"]
    assert job["state"] == "paused"
    models = other.result("get_models")["models"]
    assert len(models) > 5
    assert other.result("list_adoptions", {"limit": 1000})["total_count"] == len(models), "the journal knows each"
    other.result("resume_job", {"job_id": job["job_id"]})
    running.eventually(
        lambda: other.result("get_job", {"job_id": job["job_id"]})["job"]["state"] == "completed", 60, "the rest"
    )
    result = other.result("get_job", {"job_id": job["job_id"]})["job"]["result"]
    assert (result["adopted"], result["failed"], len(result["results"])) == (MANY, 0, MANY)
    assert len(other.result("get_models")["models"]) == MANY, "none twice"
    listed = other.result("list_adoptions", {"limit": 1000})["adoptions"]
    assert sorted(one["adoption_id"] for one in listed) == sorted(one["adoption_id"] for one in result["results"])
    weights = [path for adopted in listed for path in (library / adopted["model_id"]).glob("*.gguf")]
    assert [path.stat().st_nlink for path in weights] == [2] * MANY
    assert os.listdir(library / ".staging") == []
    assert snapshot(folder) == before


@ORDERS
def test_an_adoption_is_seen_and_taken_back_by_the_other(
    launch: Launch, tmp_path: Path, first: str, second: str
) -> None:
    home = tmp_path / "home"
    cache, store = home / ".cache" / "huggingface" / "hub", home / ".ollama" / "models"
    hf_file(cache, "acme/Rocket", "rocket.gguf", gguf(1))
    ollama_model(store, "registry.ollama.ai/library/harbor/latest", gguf(2))
    before = snapshot(home)
    one = started(launch, home, first)
    made: dict[str, str] = {}
    for folder, mode in ((cache, "hardlink"), (store, "reference")):
        (done,) = one.result("adopt_models", {"items": items(one, folder), "mode": mode})["results"]
        made[mode] = done["model_id"]
    listed = one.result("list_adoptions")
    scanned = without_times(one.result("scan_model_stores"))
    one.close()
    other = started(launch, home, second)
    assert other.result("list_adoptions") == listed
    assert without_times(other.result("scan_model_stores")) == scanned

    def state() -> str:
        other.result("refresh_model_index")
        return other.result("get_models")["models"][made["reference"]]["state"]

    store.rename(home / "away")
    assert state() == "offline"
    (home / "away").rename(store)
    assert state() == "ok"
    blob = store / "blobs" / f"sha256-{sha256(gguf(2))}"
    blob.rename(home / "kept")
    assert state() == "missing"
    (home / "kept").rename(blob)
    for adoption in listed["adoptions"]:
        undone = other.result("undo_adoption", {"adoption_id": adoption["adoption_id"]})
        assert (undone["success"], undone["trash_id"], undone["reasons"]) == (True, None, [])
    assert other.result("get_models")["models"] == {}
    assert other.result("list_adoptions", {"undone": True})["total_count"] == 2
    assert snapshot(home) == before
