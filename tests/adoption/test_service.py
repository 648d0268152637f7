"""Adoption as a client of a real sidecar sees it: scan, adopt by id, states that come and go, undo, restart."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sidecar as running
from sidecar import Sidecar

from .adopting_setup import snapshot
from .stores import environment, gguf, hf_file, ollama_model, sha256, write

ROCKET = "registry.ollama.ai/library/rocket/latest"
Launch = Callable[..., Sidecar]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    ollama_model(folder / ".ollama" / "models", ROCKET, gguf(1))
    hf_file(folder / ".cache" / "huggingface" / "hub", "acme/Rocket", "rocket.gguf", gguf(1))
    return folder


@pytest.fixture
def server(launch: Launch, home: Path) -> Iterator[Sidecar]:
    yield launch(env=environment(home))


def stored_id(server: Sidecar, kind: str) -> str:
    scan = server.result("scan_model_stores")
    (model,) = [model for store in scan["stores"] if store["kind"] == kind for model in store["models"]]
    return model["stored_id"]


def adopt(server: Sidecar, stored: str, **params: Any) -> dict[str, Any]:
    outcome = server.result("adopt_models", {"items": [{"stored_id": stored}], **params})
    assert outcome["success"], outcome
    (result,) = outcome["results"]
    return result


def state(server: Sidecar, model_id: str) -> tuple[str, str]:
    server.result("refresh_model_index")
    listed = server.result("get_models")["models"][model_id]
    (found,) = server.result("search_models_fts", {"query": model_id.rpartition("/")[2]})["models"]
    assert (found["state"], found["storage"]) == (listed["state"], listed["storage"])
    return listed["state"], listed["storage"]


def test_what_is_found_and_what_it_would_free(server: Sidecar, home: Path) -> None:
    scan = server.result("scan_model_stores")
    assert [store["kind"] for store in scan["stores"]] == ["huggingface", "ollama"]
    assert (scan["pending"], scan["freed_bytes"], scan["possible_bytes"]) == (False, 4096, 0)
    (repeated,) = scan["repeated"]
    assert (repeated["certainty"], repeated["sha256"], repeated["verified"]) == ("duplicate", sha256(gguf(1)), False)
    again = server.result("scan_model_stores", {"job_id": scan["job_id"]})
    assert again == scan
    assert server.result("get_job", {"job_id": scan["job_id"]})["job"]["result"]["models"] == 2


def test_a_reference_comes_and_goes_with_its_drive(server: Sidecar, home: Path) -> None:
    result = adopt(server, stored_id(server, "ollama"), mode="reference")
    model_id, store = result["model_id"], home / ".ollama" / "models"
    assert state(server, model_id) == ("ok", "reference")
    store.rename(home / "away")
    assert state(server, model_id) == ("offline", "reference")
    assert server.result("list_adoptions")["adoptions"][0]["state"] == "offline"
    (home / "away").rename(store)
    assert state(server, model_id) == ("ok", "reference")
    (store / "blobs" / f"sha256-{sha256(gguf(1))}").unlink()
    assert state(server, model_id) == ("missing", "reference")
    assert server.result("undo_adoption", {"model_id": model_id})["success"]
    assert model_id not in server.result("get_models")["models"]


def test_the_metadata_is_not_written_by_coming_and_going(server: Sidecar, home: Path) -> None:
    result = adopt(server, stored_id(server, "ollama"), mode="reference")
    metadata = Path(result["model_path"]) / "metadata.json"
    before = metadata.stat().st_mtime_ns, metadata.read_bytes()
    store = home / ".ollama" / "models"
    store.rename(home / "away")
    state(server, result["model_id"])
    (home / "away").rename(store)
    assert state(server, result["model_id"]) == ("ok", "reference")
    assert (metadata.stat().st_mtime_ns, metadata.read_bytes()) == before


def test_adopt_list_undo(server: Sidecar, home: Path) -> None:
    before = snapshot(home / ".cache")
    result = adopt(server, stored_id(server, "huggingface"))
    assert state(server, result["model_id"]) == ("ok", "hardlink")
    listed = server.result("list_adoptions")
    (one,) = listed["adoptions"]
    assert (one["adoption_id"], one["present"], one["undone"]) == (result["adoption_id"], True, False)
    assert listed["size"] == 4096
    stores = server.result("scan_model_stores")["stores"]
    assert {model["in_library"] for store in stores for model in store["models"]} == {result["model_id"]}
    assert server.result("undo_adoption", {"adoption_id": result["adoption_id"]})["trash_id"] is None
    assert server.result("get_models")["models"] == {}
    assert server.result("list_adoptions")["adoptions"] == []
    assert snapshot(home / ".cache") == before


def test_deleting_and_restoring_keeps_the_adoption(server: Sidecar, home: Path) -> None:
    result = adopt(server, stored_id(server, "ollama"), mode="reference")
    deleted = server.result("delete_model_with_cascade", {"model_id": result["model_id"]})
    assert server.result("list_adoptions")["adoptions"][0]["present"] is False
    server.result("restore_model", {"trash_id": deleted["trash_id"]})
    assert server.result("list_adoptions")["adoptions"][0]["present"] is True
    assert state(server, result["model_id"]) == ("ok", "reference")


def test_an_id_is_good_after_a_restart(launch: Launch, home: Path, tmp_path: Path) -> None:
    write(tmp_path / "more" / "acme" / "X" / "x.gguf", gguf(5))
    first = launch(env=environment(home))
    scan = first.result("scan_model_stores", {"folders": [str(tmp_path / "more")], "known": False})
    (model,) = scan["stores"][0]["models"]
    first.close()
    second = launch(env=environment(home))
    lost = second.result("adopt_models", {"items": [{"stored_id": model["stored_id"]}]})
    assert lost["error_code"] == "stored_model_not_found"
    assert adopt(second, model["stored_id"], folders=[str(tmp_path / "more")])["mode"] == "hardlink"
    assert second.result("scan_model_stores", {"job_id": scan["job_id"]})["error_code"] == "job_not_found"


def test_a_verified_claim_is_found_by_its_digest(server: Sidecar, home: Path) -> None:
    result = adopt(server, stored_id(server, "ollama"), mode="reference")

    def hashes() -> str:
        return server.result("get_model", {"model_id": result["model_id"]})["metadata"]["hashes"]["sha256"]

    assert hashes() == ""
    job_id = server.result("verify_library", {"model_ids": [result["model_id"]]})["job_id"]
    running.eventually(
        lambda: server.result("get_job", {"job_id": job_id})["job"]["state"] == "completed", what="the verification"
    )
    assert hashes() == sha256(gguf(1))
    (place, *_others) = server.result("scan_model_stores")["repeated"][0]["places"]
    assert place["store"] == "library"


def test_a_kill_in_the_middle_of_many_leaves_whole_models_only(launch: Launch, home: Path, tmp_path: Path) -> None:
    for number in range(60):
        write(tmp_path / "more" / "acme" / "X" / f"m{number}.gguf", gguf(number))
    server = launch(env=environment(home))
    params = {"folders": [str(tmp_path / "more")], "known": False}
    (store,) = server.result("scan_model_stores", params)["stores"]
    items = [{"stored_id": model["stored_id"]} for model in store["models"]]
    body = {"jsonrpc": "2.0", "id": 1, "method": "adopt_models", "params": {"items": items}}
    data = json.dumps(body).encode()
    head = [("Host", server.host), ("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
    library = server.root / "shared-resources" / "models"
    with server.connect() as sock:
        sock.sendall(running.request_bytes("POST", "/rpc", [*head, *server.auth().items()], data))
        running.eventually(lambda: len(list(library.glob("*/*/*/metadata.json"))) > 10, what="some adoptions")
        server.kill()
    before = snapshot(tmp_path / "more")
    again = launch(env=environment(home))
    (job,) = again.result("list_jobs", {"kind": "adopt"})["jobs"]
    assert job["state"] == "paused"
    models = again.result("get_models")["models"]
    assert len(models) >= 10
    assert again.result("list_adoptions", {"limit": 1000})["total_count"] == len(models)
    for model_id in models:
        (weights,) = [name for name in os.listdir(library / model_id) if name.endswith(".gguf")]
        assert (library / model_id / weights).stat().st_nlink == 2
    again.result("resume_job", {"job_id": job["job_id"]})
    running.eventually(
        lambda: again.result("get_job", {"job_id": job["job_id"]})["job"]["state"] == "completed", what="the rest"
    )
    result = again.result("get_job", {"job_id": job["job_id"]})["job"]["result"]
    assert (result["adopted"], result["failed"]) == (60, 0)
    assert len(again.result("get_models")["models"]) == 60
    assert list((library / ".staging").iterdir()) == []
    assert snapshot(tmp_path / "more") == before
