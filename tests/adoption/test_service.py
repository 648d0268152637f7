"""Adoption as a client of a real sidecar sees it: scan, adopt by id, states that come and go, undo, restart."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sidecar as running
from pumas.adoption import service
from pumas.adoption.scan import Scanner
from pumas.errors import JobNotFound, PumasError, TimedOut
from pumas.events.stream import EventStream
from pumas.jobs.service import JobService
from pumas.jobs.store import JobStore
from pumas.library.holdings import Holdings
from pumas.library.publishing import Publisher
from pumas.library.service import LibraryParts
from pumas.storage.database import Database, Schema
from pumas.storage.json_file import StateLock
from sidecar import Sidecar

from .adopting_setup import Setup, snapshot
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


def stores(server: Sidecar) -> list[dict[str, Any]]:
    """Those of the test's home; this machine may have one for all its users."""
    home = str(server.root.parent)
    return [one for one in server.result("scan_model_stores")["stores"] if one["path"].startswith(home)]


def stored_id(server: Sidecar, kind: str) -> str:
    (model,) = [model for store in stores(server) if store["kind"] == kind for model in store["models"]]
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
    assert [store["kind"] for store in stores(server)] == ["huggingface", "ollama"]
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
    assert {model["in_library"] for store in stores(server) for model in store["models"]} == {result["model_id"]}
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
        # What lies in staging comes and goes meanwhile.
        running.eventually(lambda: len(list(library.glob("[!.]*/*/*/metadata.json"))) > 10, what="some adoptions")
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
        lambda: again.result("get_job", {"job_id": job["job_id"]})["job"]["state"] == "completed", 60, "the rest"
    )
    result = again.result("get_job", {"job_id": job["job_id"]})["job"]["result"]
    assert (result["adopted"], result["failed"]) == (60, 0)
    assert len(again.result("get_models")["models"]) == 60
    assert list((library / ".staging").iterdir()) == []
    assert snapshot(tmp_path / "more") == before


@pytest.mark.parametrize("damage", ["random", "folder"])
def test_a_damaged_journal_is_put_aside_and_the_models_say_what_they_are(
    launch: Launch, home: Path, damage: str
) -> None:
    first = launch(env=environment(home))
    result = adopt(first, stored_id(first, "ollama"))
    first.close()
    database = first.data / "adoptions.db"
    for path in first.data.glob("adoptions.db*"):
        path.unlink()
    database.mkdir() if damage == "folder" else database.write_bytes(os.urandom(5000))
    second = launch(env=environment(home))
    assert second.result("list_adoptions")["adoptions"] == []
    assert state(second, result["model_id"]) == ("ok", "hardlink")
    assert second.result("undo_adoption", {"model_id": result["model_id"]})["adoption_id"] == result["adoption_id"]
    assert adopt(second, stored_id(second, "ollama"))["success"]


# -- what takes long ---------------------------------------------------------------------------------------------------


class Slow:
    """The service in this process, with a scanner that waits for the test."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("ANSWER_WITHIN_S", "FIND_WITHIN_S", "ADOPT_WITHIN_S"):
            monkeypatch.setattr(service, name, 0.05)
        self.setup = Setup(root)
        self.go = threading.Event()
        self.events = EventStream()
        self.events.bind(asyncio.get_running_loop())
        self.jobs_db = Database(self.setup.layout.jobs_db, Schema.load("jobs"), disposable=False)
        self.jobs = JobService(JobStore(self.jobs_db), self.events)
        publisher = Publisher(
            self.setup.library, StateLock(self.setup.layout.state_lock), self.setup.staging, self.setup.index
        )
        holdings = Holdings(self.setup.layout.library, self.setup.index)
        parts = LibraryParts(
            self.setup.index, self.setup.staging, publisher, self.setup.models, self.setup.trash, holdings
        )
        self.service = service.AdoptionService(
            self.setup.layout, parts, self.jobs, self.setup.database, self.setup.around
        )
        real = Scanner.scan

        def scan(scanner: Scanner, folders: Any, *, known: bool, check: Callable[[], None] = lambda: None) -> Any:
            while not self.go.wait(0.01):
                check()
            return real(scanner, folders, known=known, check=check)

        monkeypatch.setattr(Scanner, "scan", scan)

    async def close(self) -> None:
        self.go.set()
        await self.jobs.close()
        self.service.close()
        self.jobs_db.close_sync()


@pytest.fixture
async def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Slow]:
    one = Slow(tmp_path, monkeypatch)
    await one.jobs.open()
    await one.service.open()
    yield one
    await one.close()


async def test_a_long_scan_is_a_job_that_is_asked_again(slow: Slow) -> None:
    write(slow.setup.lm_studio / "x.gguf", gguf(1))
    answer = await slow.service.scan([], known=True)
    assert answer.scan is None
    assert (await slow.service.scanned(answer.job_id)).scan is None
    slow.go.set()
    await slow.jobs.wait(answer.job_id, 10)
    done = await slow.service.scanned(answer.job_id)
    assert done.scan is not None
    assert [model.name for model in done.scan.models()] == ["x"]


async def test_a_scan_that_is_cancelled_says_so(slow: Slow) -> None:
    answer = await slow.service.scan([], known=True)
    await slow.jobs.cancel(answer.job_id)
    await slow.jobs.wait(answer.job_id, 10)
    with pytest.raises(PumasError, match="Cancelled"):
        await slow.service.scanned(answer.job_id)


async def test_finding_what_to_adopt_does_not_take_for_ever(slow: Slow) -> None:
    with pytest.raises(TimedOut):
        await slow.service.adopt([service.Wanted(id="folder-1")], "auto", [], dry_run=False)


async def test_only_the_last_scans_are_kept(slow: Slow) -> None:
    slow.go.set()
    ids = [(await slow.service.scan([], known=False)).job_id for _ in range(4)]
    for job_id in ids:
        await slow.jobs.wait(job_id, 10)
    assert (await slow.service.scanned(ids[-1])).scan is not None
    with pytest.raises(JobNotFound):
        await slow.service.scanned(ids[0])
