"""The hub's methods in memory: the real rows and services over a hub on loopback, with a clock that the test sets."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.hub import Drop, Hub, HubContent, Page, Repo, Stall, Status
from fixtures.hub import repositories as R
from hub.conftest import MakeClient
from pumas.config import Layout
from pumas.events.stream import EventStream
from pumas.hub import methods, origins, work
from pumas.hub.cache import Answers, Deadline
from pumas.hub.client import HubClient
from pumas.hub.repositories import Repositories
from pumas.hub.service import HASH, HubService
from pumas.hub.store import HubStore
from pumas.jobs.service import JobService
from pumas.jobs.store import JobStore
from pumas.library.catalog import Catalog
from pumas.library.service import LibraryService
from pumas.net.client import NetworkClient
from pumas.rpc.registry import Methods
from pumas.storage.database import Database, Schema
from pumas.storage.troubles import Troubles

HOUR = 3600.0


class Memory:
    """A sidecar without a socket. `now` is its hub cache's clock, `room` what a download may take of its disk."""

    def __init__(self, root: Path, client: HubClient) -> None:
        self.layout = Layout(root)
        self.layout.library.mkdir(parents=True)
        events, troubles = EventStream(), Troubles()
        self.jobs_db = Database(self.layout.jobs_db, Schema.load("jobs"), disposable=False)
        self.hub_db = Database(self.layout.hub_db, Schema.load("hub"), disposable=True)
        self.jobs = JobService(JobStore(self.jobs_db), events)
        self.library = LibraryService(self.layout, Catalog(self.layout, events, troubles), self.jobs, troubles)
        self.room = 10**12
        self.service = HubService(self.layout, client, self.library, self.jobs, self.hub_db, lambda: self.room)
        self.now = 1_700_000_000.0
        self.restart_cache()
        self.rows = Methods()
        methods.register(self.rows, self.service)

    def restart_cache(self) -> None:
        """As after a restart: what is on the disk is left."""
        store = HubStore(self.hub_db)
        answers = Answers(store, clock=lambda: self.now)
        made = work.HubWork(self.layout, self.service.client, self.library, self.jobs, store, lambda: self.room)
        made._answers = answers
        made._repositories = Repositories(self.service.client, answers)
        made.origins = origins.Origins(made._repositories, self.jobs, store)
        self.service._work = made

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        return json.loads(json.dumps(await self.rows.call(method, params)))

    async def ok(self, method: str, **params: Any) -> dict[str, Any]:
        result = await self.call(method, **params)
        assert result["success"], result
        return result

    def hold(self, model_id: str, **metadata: Any) -> None:
        folder = self.layout.library / model_id
        folder.mkdir(parents=True)
        text = {"official_name": "Mine", "model_type": "llm", "family": "llama", **metadata}
        (folder / "metadata.json").write_text(json.dumps(text))

    async def close(self) -> None:
        self.service.close()
        await self.jobs.close()
        await self.library.close()
        self.jobs_db.close_sync()
        self.hub_db.close_sync()


@pytest.fixture
async def memory(tmp_path: Path, client: HubClient) -> AsyncIterator[Memory]:
    made = Memory(tmp_path / "root", client)
    await made.jobs.open()
    await made.library.open()
    yield made
    await made.close()


def asked(hub: Hub) -> list[str]:
    return [record.path for record in hub.requests]


# -- search ------------------------------------------------------------------------------------------------------------


async def test_a_cold_search_is_one_request_and_a_warm_one_none(hub: Hub, memory: Memory) -> None:
    first = await memory.ok("search_hf_models", query="lumen")
    assert asked(hub) == ["/api/models"]
    again = await memory.ok("search_hf_models", query="  LUMEN ", kind=None, limit=25)
    assert asked(hub) == ["/api/models"]
    assert again == first
    assert [model["repoId"] for model in first["models"]][:2] == [R.LLM, R.GGUF]
    assert (first["stale"], first["fetched_at"]) == (False, "2023-11-14T22:13:20.000000Z")


async def test_a_search_is_asked_again_after_an_hour(hub: Hub, memory: Memory) -> None:
    await memory.ok("search_hf_models", query="lumen")
    memory.now += HOUR - 1
    await memory.ok("search_hf_models", query="lumen")
    assert len(hub.requests) == 1
    memory.now += 1
    await memory.ok("search_hf_models", query="lumen")
    assert len(hub.requests) == 2


@pytest.mark.parametrize("fault", [Drop(), Status(503), Page(), Status(429, retry_after=7200)], ids=repr)
async def test_without_the_hub_a_search_shows_what_was_known(hub: Hub, memory: Memory, fault: Any) -> None:
    fresh = await memory.ok("search_hf_models", query="lumen")
    memory.restart_cache()
    memory.now += 10 * 24 * HOUR
    hub.fault(fault, times=None)
    stale = await memory.ok("search_hf_models", query="lumen")
    assert stale == {**fresh, "stale": True}
    failed = await memory.call("search_hf_models", query="dawn")
    assert failed["success"] is False
    assert failed["models"] == []
    assert failed["error_code"] in ("connection_failed", "http_error", "invalid_reply", "rate_limited", "circuit_open")


async def test_searches_differ_by_words_task_and_limit(hub: Hub, memory: Memory) -> None:
    every = await memory.ok("search_hf_models", query="acme")
    speech = await memory.ok("search_hf_models", query="acme", kind="audio")
    two = await memory.ok("search_hf_models", query="acme", limit=2)
    assert {model["kind"] for model in speech["models"]} == {"automatic-speech-recognition"}
    assert two["models"] == every["models"][:2]
    assert len(hub.requests) == 3


@pytest.mark.parametrize(("limit", "sent"), [(-5, "1"), (0, "1"), (100, "100"), (10**9, "100")])
async def test_the_limit_is_clamped(hub: Hub, memory: Memory, limit: int, sent: str) -> None:
    await memory.ok("search_hf_models", query="x", limit=limit)
    assert f"limit={sent}&" in hub.requests[0].target


async def test_an_address_is_searched_for_by_its_repository(memory: Memory) -> None:
    found = await memory.ok("search_hf_models", query=f"https://huggingface.co/{R.GGUF}")
    assert [model["repoId"] for model in found["models"]] == [R.GGUF]


async def test_sizes_come_with_the_first_look_at_a_repository(hub: Hub, memory: Memory) -> None:
    async def of_gguf() -> dict[str, Any]:
        found = await memory.ok("search_hf_models", query="lumen")
        return next(model for model in found["models"] if model["repoId"] == R.GGUF)

    before = await of_gguf()
    assert before["totalSizeBytes"] is None
    assert {option["sizeBytes"] for option in before["downloadOptions"]} == {None}
    shown = await memory.ok("get_hf_model", repo_id=R.GGUF, card=False)
    after = await of_gguf()
    sizes = {option["quant"]: option["size_bytes"] for option in shown["options"] if option["kind"] == "quant"}
    assert after["quantSizes"] == sizes
    assert [option["quant"] for option in after["downloadOptions"]] == after["quants"] == before["quants"]
    assert len(hub.requests) == 2


async def test_a_hub_that_hangs_holds_nobody_up(hub: Hub, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deadline.__init__, "__defaults__", (0.2,))
    hub.fault(Stall(after_bytes=None), kind="models", times=None)
    failed = await memory.call("search_hf_models", query="lumen")
    assert failed["error_code"] == "timed_out"
    hub.reset()


# -- one repository ----------------------------------------------------------------------------------------------------


async def test_what_is_shown_of_a_repository(hub: Hub, memory: Memory) -> None:
    memory.hold("llm/llama/mine", repo_id=R.GGUF.upper().replace("QUANTWORKS", "quantworks"))
    memory.hold("llm/llama/other", repo_id="acme/Other")
    shown = await memory.ok("get_hf_model", repo_id=R.GGUF, quant="Q4_K_M")
    repo = hub.content.repos[R.GGUF]
    assert shown["commit"] == repo.branches["main"]
    assert shown["url"] == f"{hub.url}/{R.GGUF}"
    assert (shown["architecture"], shown["context_length"], shown["parameters"]) == ("llama", 4096, 196_864)
    assert (shown["license"], shown["gated"], shown["base_model"]) == ("apache-2.0", "no", [R.LLM])
    assert shown["held"] == ["llm/llama/mine"]
    assert shown["card"].startswith(f"# {R.GGUF}")
    for file in shown["files"]:
        true = repo.file(file["path"])
        assert (file["size"], file["git_oid"], file["sha256"]) == (
            true.size,
            true.blob_id,
            true.sha256 if true.lfs else None,
        )
    choice = shown["choice"]
    assert choice["quant"] == "q4_k_m"
    assert choice["files"] == ["Lumen-7B-Instruct-Q4_K_M.gguf", "config.json"]
    assert choice["total_bytes"] == sum(repo.file(path).size for path in choice["files"])
    assert choice["offered"] == ["mmproj-F16.gguf"]


async def test_what_does_not_fit_is_said_not_to(hub: Hub, memory: Memory) -> None:
    shown = await memory.ok("get_hf_model", repo_id=R.GGUF, card=False)
    sizes = sorted(option["size_bytes"] for option in shown["options"])
    middle = sizes[len(sizes) // 2]
    memory.room = middle
    shown = await memory.ok("get_hf_model", repo_id=R.GGUF, card=False)
    assert shown["free_bytes"] > 0
    assert [option["fits"] for option in shown["options"]] == [
        option["size_bytes"] <= middle for option in shown["options"]
    ]
    assert shown["choice"]["fits"] is False


async def test_a_commit_is_asked_about_once_for_ever(hub: Hub, memory: Memory) -> None:
    commit = hub.content.repos[R.LLM].branches["main"]
    await memory.ok("get_hf_model", repo_id=R.LLM, revision=commit, card=False)
    memory.now += 300 * 24 * HOUR
    memory.restart_cache()
    await memory.ok("get_hf_model", repo_id=R.LLM, revision=commit, card=False)
    assert len(hub.requests) == 1
    await memory.ok("get_hf_model", repo_id=R.LLM, card=False)
    memory.now += 601
    await memory.ok("get_hf_model", repo_id=R.LLM, card=False)
    assert len(hub.requests) == 3


async def test_a_gated_repository_is_shown_without_its_card(memory: Memory) -> None:
    shown = await memory.ok("get_hf_model", repo_id=R.GATED)
    assert (shown["gated"], shown["card"]) == ("auto", None)
    assert shown["choice"]["files"]
    assert (await memory.ok("get_hf_model", repo_id=R.GATED_MANUAL))["gated"] == "manual"


async def test_hostile_names_are_shown_as_refused(memory: Memory) -> None:
    shown = await memory.ok("get_hf_model", repo_id=R.HOSTILE, card=False)
    assert shown["choice"] is None
    assert len(shown["refused"]) >= 25
    assert all(one["path"].isprintable() and one["reason"] for one in shown["refused"])
    assert all(file["path"].isprintable() for file in shown["files"])
    assert "\ud83d" not in json.dumps(shown)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"repo_id": "acme/nothing"}, "repo_not_found"),
        ({"repo_id": R.DISABLED}, "repo_not_found"),
        ({"repo_id": "lumen"}, "invalid_input"),
        ({"repo_id": R.LLM, "revision": "v9"}, "revision_not_found"),
        ({"repo_id": R.LLM, "revision": "a..b"}, "invalid_input"),
        ({"repo_id": R.GGUF, "quant": "q9_9"}, "invalid_input"),
        ({"repo_id": R.GGUF, "filenames": ["../x"]}, "invalid_input"),
        ({"repo_id": R.EMPTY, "quant": "q8_0"}, "invalid_input"),
    ],
)
async def test_what_cannot_be_shown(memory: Memory, params: dict[str, Any], code: str) -> None:
    assert (await memory.call("get_hf_model", **params))["error_code"] == code


async def test_a_repository_that_was_removed_is_not_shown_from_memory(hub: Hub, memory: Memory) -> None:
    await memory.ok("get_hf_model", repo_id=R.LLM, card=False)
    memory.now += HOUR
    hub.fault(Status(404, error_code="RepoNotFound"), times=None)
    assert (await memory.call("get_hf_model", repo_id=R.LLM, card=False))["error_code"] == "repo_not_found"


# -- related -----------------------------------------------------------------------------------------------------------


async def test_related_models_are_the_base_owners_of_the_family(hub: Hub, memory: Memory) -> None:
    memory.hold("llm/lumen/mine", family="Lumen", base_model=R.LLM, repo_id=f"{R.LLM}-FP8")
    found = await memory.ok("get_related_models", model_id="llm/lumen/mine")
    names = [model["repoId"] for model in found["models"]]
    assert names[0] == R.LLM
    assert all(name.startswith("acme/Lumen") and name != f"{R.LLM}-FP8" for name in names)
    assert len(hub.requests) == 1
    assert "author=acme" in hub.requests[0].target


@pytest.mark.parametrize(
    "metadata", [{"family": "unknown", "base_model": R.LLM}, {"family": "llama"}, {"base_model": 5.5}]
)
async def test_nothing_is_related_to_what_is_not_known(hub: Hub, memory: Memory, metadata: dict[str, Any]) -> None:
    memory.hold("llm/x/mine", **metadata)
    found = await memory.ok("get_related_models", model_id="llm/x/mine")
    assert found == {"success": True, "models": [], "stale": False, "fetched_at": None}
    assert not hub.requests


# -- where a file is from ----------------------------------------------------------------------------------------------


def file_of(hub: Hub, folder: Path, repo_id: str, path: str, name: str = "") -> Path:
    data = hub.content.repos[repo_id].file(path).data
    assert isinstance(data, bytes)
    target = folder / (name or path.rpartition("/")[2])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return target


QUANTISED = "Lumen-7B-Instruct-Q5_K_M.gguf"


async def test_equal_bytes_are_proof(hub: Hub, memory: Memory, tmp_path: Path) -> None:
    path = file_of(hub, tmp_path, R.GGUF, QUANTISED)
    found = await memory.ok("lookup_hf_metadata_for_file", filename=QUANTISED, file_path=str(path))
    match = found["metadata"]
    assert (match["repo_id"], match["match_method"], match["match_confidence"]) == (R.GGUF, "hash", 1.0)
    assert match["sha256"] == match["expected_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (match["requires_confirmation"], match["pending_full_verification"]) == (False, False)
    assert match["revision"] == hub.content.repos[R.GGUF].branches["main"]


async def test_a_file_is_hashed_once(hub: Hub, memory: Memory, tmp_path: Path) -> None:
    path = file_of(hub, tmp_path, R.GGUF, QUANTISED)
    for _ in range(3):
        await memory.ok("lookup_hf_metadata_for_file", filename=QUANTISED, file_path=str(path))
    assert len(await memory.jobs.list(kind=HASH)) == 1
    asked_before = len(hub.requests)
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    changed = await memory.ok("lookup_hf_metadata_for_file", filename=QUANTISED, file_path=str(path))
    assert changed["metadata"]["hash_mismatch"]
    assert len(await memory.jobs.list(kind=HASH)) == 2
    assert len(hub.requests) == asked_before


async def test_a_file_of_another_size_is_not_hashed(hub: Hub, memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / QUANTISED
    path.write_bytes(b"x" * 1000)
    match = (await memory.ok("lookup_hf_metadata_for_file", filename=QUANTISED, file_path=str(path)))["metadata"]
    assert (match["match_method"], match["hash_mismatch"], match["requires_confirmation"]) == (
        "filename_fuzzy",
        True,
        True,
    )
    assert match["match_confidence"] <= 0.5
    assert match["sha256"] == ""
    assert await memory.jobs.list(kind=HASH) == []


async def test_a_renamed_file_is_found_by_its_bytes(hub: Hub, memory: Memory, tmp_path: Path) -> None:
    path = file_of(hub, tmp_path, R.GGUF, QUANTISED, "lumen-instruct-mine.gguf")
    match = (await memory.ok("lookup_hf_metadata_for_file", filename=path.name, file_path=str(path)))["metadata"]
    assert (match["match_method"], match["matched_filename"]) == ("hash", QUANTISED)


async def test_a_file_with_a_name_that_says_nothing_is_found_by_its_folder(
    hub: Hub, memory: Memory, tmp_path: Path
) -> None:
    path = file_of(hub, tmp_path / "lumen-pirate-lora", R.LORA, "adapter_model.safetensors")
    match = (await memory.ok("lookup_hf_metadata_for_file", file_path=str(path)))["metadata"]
    assert (match["repo_id"], match["match_method"]) == (R.LORA, "hash")


async def test_a_name_alone_is_no_proof(memory: Memory) -> None:
    match = (await memory.ok("lookup_hf_metadata_for_file", filename=QUANTISED))["metadata"]
    assert (match["repo_id"], match["match_method"], match["pending_full_verification"]) == (
        R.GGUF,
        "filename_exact",
        True,
    )
    assert match["match_confidence"] < 1.0


async def test_a_large_file_is_answered_before_it_is_hashed(
    hub: Hub, memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_of(hub, tmp_path, R.GGUF, QUANTISED)
    go, real = threading.Event(), origins.digest_open

    def slow(*given: Any) -> Any:
        go.wait(30)
        return real(*given)

    monkeypatch.setattr(origins, "digest_open", slow)
    monkeypatch.setattr(Deadline.__init__, "__defaults__", (0.5,))
    first = (await memory.ok("lookup_hf_metadata_for_file", filename=QUANTISED, file_path=str(path)))["metadata"]
    assert (first["match_method"], first["pending_full_verification"]) == ("filename_exact", True)
    second = (await memory.ok("lookup_hf_metadata_for_file", filename=QUANTISED, file_path=str(path)))["metadata"]
    assert second["job_id"] == first["job_id"]
    go.set()
    await memory.jobs.wait(first["job_id"], 10)
    proof = (await memory.ok("lookup_hf_metadata_for_file", filename=QUANTISED, file_path=str(path)))["metadata"]
    assert (proof["match_method"], proof["job_id"]) == ("hash", None)


async def test_nothing_alike_is_not_found(memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "zzz-quite-different.gguf"
    path.write_bytes(b"x")
    for params in ({"filename": path.name}, {"filename": path.name, "file_path": str(path)}):
        found = await memory.ok("lookup_hf_metadata_for_file", **params)
        assert found == {"success": True, "found": False, "metadata": None}


async def test_a_hub_that_cannot_be_reached_is_not_not_found(hub: Hub, memory: Memory) -> None:
    hub.fault(Drop(), times=None)
    failed = await memory.call("lookup_hf_metadata_for_file", filename=QUANTISED)
    assert (failed["success"], failed["found"], failed["metadata"]) == (False, False, None)
    assert failed["error_code"] == "connection_failed"


# -- newer upstream ----------------------------------------------------------------------------------------------------


async def test_drift_is_one_request_per_repository(hub: Hub, memory: Memory) -> None:
    repo = hub.content.repos[R.LLM]
    weights = "model-00001-of-00002.safetensors"
    commits = list(repo.commits)
    old = repo.commits[commits[1]]
    files = [{"name": weights, "size": 1, "sha256": old.files[weights].sha256}]
    memory.hold("llm/a/old", repo_id=R.LLM, revision=old.id, files=files)
    memory.hold("llm/a/current", repo_id=R.LLM, revision=repo.branches["main"])
    memory.hold("llm/a/gone", repo_id="acme/nothing", revision="1" * 40)
    memory.hold("llm/a/local")
    found = await memory.ok("list_hf_revisions_drift")
    states = {model["model_id"]: model["state"] for model in found["models"]}
    assert states == {"llm/a/old": "newer", "llm/a/current": "current", "llm/a/gone": "gone"}
    assert (found["newer"], found["unasked"]) == (1, 0)
    (old_one,) = [model for model in found["models"] if model["model_id"] == "llm/a/old"]
    assert (old_one["changed"], old_one["upstream"]) == ([weights], repo.branches["main"])
    assert sorted(asked(hub)) == [f"/api/models/{R.LLM}/revision/main", "/api/models/acme/nothing/revision/main"]
    await memory.ok("list_hf_revisions_drift", model_ids=["llm/a/old"])
    assert len(hub.requests) == 2


async def test_drift_without_the_hub_says_so(hub: Hub, memory: Memory) -> None:
    memory.hold("llm/a/one", repo_id=R.LLM, revision="1" * 40)
    memory.hold("llm/a/two", repo_id=R.GGUF, revision="1" * 40)
    await memory.ok("list_hf_revisions_drift", model_ids=["llm/a/one"])
    hub.fault(Drop(), times=None)
    memory.now += 2 * HOUR
    found = {model["model_id"]: model for model in (await memory.ok("list_hf_revisions_drift"))["models"]}
    assert (found["llm/a/one"]["state"], found["llm/a/one"]["stale"]) == ("newer", True)
    assert (found["llm/a/two"]["state"], found["llm/a/two"]["error_code"]) == ("unasked", "connection_failed")


async def test_a_damaged_model_does_not_stop_the_others(memory: Memory) -> None:
    memory.hold("llm/a/one", repo_id=R.LLM)
    memory.hold("llm/a/two", repo_id=R.LLM)
    await memory.ok("list_hf_revisions_drift")
    (memory.layout.library / "llm/a/one/metadata.json").write_text("{ damaged")
    found = await memory.ok("list_hf_revisions_drift")
    assert [model["model_id"] for model in found["models"]] == ["llm/a/two"]
    failed = await memory.call("list_hf_revisions_drift", model_ids=["llm/a/one"])
    assert failed["error_code"] == "corrupt_state"


async def test_many_models_take_no_longer_than_a_call_may(
    tmp_path: Path, network: NetworkClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    repos = [Repo(f"acme/m{number}") for number in range(30)]
    for repo in repos:
        repo.commit({"a.gguf": b"x"})
    monkeypatch.setattr(Deadline.__init__, "__defaults__", (0.5,))
    with Hub(HubContent.of(*repos)) as hub:
        memory = Memory(tmp_path / "root", HubClient(network, hub.env()))
        for repo in repos:
            memory.hold(f"llm/a/{repo.id.rpartition('/')[2]}", repo_id=repo.id)
        hub.fault(Stall(after_bytes=None), kind="model", times=None)
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = await memory.ok("list_hf_revisions_drift")
        assert loop.time() - began < 5
        assert found["unasked"] == 30
        hub.reset()
        network.close()
        await memory.close()


async def test_a_token_is_in_no_answer_and_not_on_the_disk(hub: Hub, tmp_path: Path, make_client: MakeClient) -> None:
    token = "hf_granted"
    memory = Memory(tmp_path / "root", make_client(token))
    await memory.ok("get_hf_model", repo_id=R.GATED)
    texts = [await memory.call("search_hf_models", query="x"), await memory.call("get_hf_model", repo_id="acme/none")]
    await memory.close()
    assert token not in json.dumps(texts)
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert token.encode() not in kept
    assert all(record.headers.get("authorization") == f"Bearer {token}" for record in hub.requests)
