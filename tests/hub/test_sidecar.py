"""The hub's methods as a stranger sees them: a real sidecar process, asked over its socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sidecar as running
from fixtures.hub import Claims, Hub, HubFile, Page, Repo, Stall, Status
from fixtures.hub import repositories as R
from sidecar import Sidecar, eventually

MARK = "hf_granted"


@pytest.fixture
def server(hub: Hub, tmp_path: Path) -> Iterator[Sidecar]:
    sidecar = running.start(tmp_path / "root", env=hub.env(home=tmp_path / "home", token=MARK))
    yield sidecar
    sidecar.close()


@pytest.fixture(scope="module")
def shared(one_hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    folder = tmp_path_factory.mktemp("shared")
    sidecar = running.start(folder / "root", env=one_hub.env(home=folder / "home"))
    yield sidecar
    sidecar.close()


def test_search_show_and_look_up(hub: Hub, server: Sidecar, tmp_path: Path) -> None:
    found = server.result("search_hf_models", {"query": "lumen", "kind": None, "limit": 25})
    assert [model["repoId"] for model in found["models"]][:2] == [R.LLM, R.GGUF]
    assert len(hub.requests) == 1
    assert server.result("search_hf_models", {"query": "lumen"}) == found
    assert len(hub.requests) == 1

    shown = server.result("get_hf_model", {"repoId": R.GGUF, "quant": "UD-Q8_K_XL"})
    assert [path.rpartition("/")[0] for path in shown["choice"]["files"]] == ["UD-Q8_K_XL", "UD-Q8_K_XL", ""]
    assert shown["choice"]["fits"]

    name = "Lumen-7B-Instruct-Q6_K.gguf"
    data = hub.content.repos[R.GGUF].file(name).data
    assert isinstance(data, bytes)
    (tmp_path / name).write_bytes(data)
    match = server.result("lookup_hf_metadata_for_file", {"filename": name, "file_path": str(tmp_path / name)})
    assert (match["metadata"]["match_method"], match["metadata"]["repo_id"]) == ("hash", R.GGUF)


def test_an_address_is_shown_and_fetched_as_what_it_names(hub: Hub, server: Sidecar) -> None:
    name = "Lumen-7B-Instruct-Q6_K.gguf"
    address = f"https://huggingface.co/{R.GGUF}/blob/main/{name}"
    assert server.result("get_hf_model", {"repo_id": address})["choice"]["files"] == [name]
    asked = server.result("get_hf_model", {"repo_id": address, "quant": "UD-Q8_K_XL"})
    assert name not in asked["choice"]["files"]
    started = server.result("start_model_download_from_hf", {"repo_id": address})
    size = hub.content.repos[R.GGUF].file(name).size
    assert (started["files"], started["total_bytes"]) == (1, size)

    repo = Repo("acme/Branches")
    repo.commit({"README.md": b"# See the branches"})
    repo.commit({"model.gguf": b"GGUF" * 9}, branch="4_25")
    hub.content.repos[repo.id] = repo
    shown = server.result("get_hf_model", {"repo_id": f"https://huggingface.co/{repo.id}/tree/4_25"})
    assert (shown["revision"], shown["choice"]["files"]) == ("4_25", ["model.gguf"])
    started = server.result("start_model_download_from_hf", {"repo_id": f"hf.co/{repo.id}/tree/4_25"})
    assert (started["revision"], started["files"]) == (shown["commit"], 1)


def test_a_quantisation_behind_a_colon_is_shown_and_fetched(hub: Hub, server: Sidecar) -> None:
    address, name = f"{R.GGUF}:q6_k", "Lumen-7B-Instruct-Q6_K.gguf"
    for repo_id in (address, f"hf.co/{R.GGUF}:Q6_K"):
        assert server.result("get_hf_model", {"repo_id": repo_id})["choice"]["files"] == [name, "config.json"]
    shown = server.result("get_hf_model", {"repo_id": f"https://huggingface.co/{R.GGUF}?show_file_info={name}"})
    assert shown["choice"]["files"] == [name]
    asked = server.result("get_hf_model", {"repo_id": address, "filenames": ["mmproj-F16.gguf"]})
    assert asked["choice"]["files"] == ["mmproj-F16.gguf"]
    assert "is not among" in server.result("get_hf_model", {"repo_id": f"{R.GGUF}:q9_k"})["error"]
    assert [one["repoId"] for one in server.result("search_hf_models", {"query": address})["models"]] == [R.GGUF]

    started = server.result("start_model_download_from_hf", {"repo_id": address})
    status = server.result("get_model_download_status", {"download_id": started["download_id"]})
    assert (started["files"], status["repo_id"], status["quant"]) == (2, R.GGUF, "q6_k")


def test_what_a_download_still_needs_is_no_room_for_another(hub: Hub, server: Sidecar, tmp_path: Path) -> None:
    size = shutil.disk_usage(tmp_path).free // 10 * 6
    for name in ("One", "Two"):
        hub.content.repos[f"acme/{name}"] = repo = Repo(f"acme/{name}")
        data = f"{name} is not that large".encode()
        repo.commit({f"{name}-Q8_0.gguf": HubFile(data, lfs=True, claims=Claims(size=size))})
    hub.fault(Stall(after_bytes=None), kind="resolve", times=None)
    wish = {"repo_id": "acme/Two", "card": False}
    assert server.result("get_hf_model", wish)["choice"]["fits"] is True
    started = server.result("start_model_download_from_hf", {"repo_id": "acme/One"})
    assert started["success"], started
    assert server.result("get_hf_model", wish)["choice"]["fits"] is False
    assert server.result("start_model_download_from_hf", {"repo_id": "acme/Two"})["error_code"] == "disk_full"
    server.result("cancel_model_download", {"download_id": started["download_id"]})
    eventually(lambda: server.result("get_hf_model", wish)["choice"]["fits"], what="room for the other")


def test_a_set_that_is_still_being_uploaded_hides_nothing_else(hub: Hub, server: Sidecar) -> None:
    repo = Repo("acme/Half-GGUF")
    repo.commit({"Half-Q4_K_M.gguf": b"GGUF" * 9, "Half-Q8_0-00001-of-00002.gguf": b"GGUF" * 8})
    hub.content.repos[repo.id] = repo
    shown = server.result("get_hf_model", {"repo_id": repo.id})
    assert [option["quant"] for option in shown["options"]] == ["q4_k_m"]
    assert shown["choice"] is None
    assert shown["refused"] == [
        {"path": "Half-Q8_0-00001-of-00002.gguf", "reason": "on the hub, 1 of 2 parts are missing"}
    ]
    for wish in ({"quant": "q8_0"}, {"filenames": ["*Q8_0*"]}):
        assert "1 of 2 parts" in server.result("get_hf_model", {"repo_id": repo.id, **wish})["error"]
    assert server.result("get_hf_model", {"repo_id": repo.id, "quant": "q4_k_m"})["choice"]["files"]


def test_what_was_known_outlives_a_restart_without_the_hub(hub: Hub, tmp_path: Path) -> None:
    env = hub.env(home=tmp_path / "home")
    first = running.start(tmp_path / "root", env=env)
    found = first.result("search_hf_models", {"query": "lumen"})
    first.close()
    hub.fault(Status(503), times=None)
    second = running.start(tmp_path / "root", env=env)
    try:
        assert second.result("search_hf_models", {"query": "lumen"}) == found
    finally:
        second.close()


def test_a_hub_that_hangs_does_not_hold_up_other_calls(hub: Hub, server: Sidecar) -> None:
    server.result("search_hf_models", {"query": "warm"})
    hub.fault(Stall(after_bytes=None), times=None)

    def ask(number: int) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):  # the end of the test ends it
            server.rpc("search_hf_models", {"query": f"x{number}"})

    waiting = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in waiting:
        thread.start()
    hub.wait_until(lambda: len(hub.requests) >= 5)
    for _ in range(20):
        assert server.result("health_check")
        assert server.result("search_hf_models", {"query": "warm"})["models"] == []
        assert server.result("get_models")
    assert all(thread.is_alive() for thread in waiting)
    server.close()
    for thread in waiting:
        thread.join(15)


def test_a_network_that_answers_with_a_page_is_told_as_that(hub: Hub, server: Sidecar) -> None:
    hub.fault(Page(), times=None)
    failed = server.result("search_hf_models", {"query": "lumen"})
    assert (failed["success"], failed["error_code"], failed["models"]) == (False, "invalid_reply", [])


def test_the_token_is_in_no_log_no_answer_and_no_file(hub: Hub, server: Sidecar, tmp_path: Path) -> None:
    answers: list[Any] = [
        server.rpc("get_hf_model", {"repo_id": R.GATED}),
        server.rpc("get_hf_model", {"repo_id": "acme/nothing"}),
        server.rpc("search_hf_models", {"query": "lumen"}),
    ]
    hub.fault(Status(403), times=None)
    answers.append(server.rpc("search_hf_models", {"query": "other"}))
    assert any(record.headers.get("authorization") == f"Bearer {MARK}" for record in hub.requests)
    assert MARK not in json.dumps(answers) + server.log() + server.stderr()
    server.close()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert MARK.encode() not in path.read_bytes(), path


def test_nothing_is_asked_or_written_that_the_user_did_not_ask_for(hub: Hub, tmp_path: Path) -> None:
    """The client library has telemetry of its own: it asks the hub which agents there are and keeps the answer."""
    env = {**hub.env(home=tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "0", "HF_HUB_DISABLE_UPDATE_CHECK": "0"}
    server = running.start(tmp_path / "root", env=env)
    try:
        server.result("search_hf_models", {"query": "lumen"})
        server.result("get_hf_model", {"repo_id": R.LLM, "card": False})
    finally:
        server.close()
    assert [record.path for record in hub.requests] == ["/api/models", f"/api/models/{R.LLM}/revision/main"]
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("search_hf_models", {}),
        ("search_hf_models", {"query": 5}),
        ("search_hf_models", {"query": "x", "odd": 1}),
        ("get_hf_model", {"repo_id": "a/b", "filenames": "x"}),
        ("lookup_hf_metadata_for_file", {"filename": None, "file_path": 5}),
        ("list_hf_revisions_drift", {"model_ids": "x"}),
        ("get_related_models", {"limit": 5}),
    ],
)
def test_wrong_parameters_are_invalid_params(shared: Sidecar, method: str, params: dict[str, Any]) -> None:
    assert shared.rpc(method, params)["error"]["code"] == -32602
