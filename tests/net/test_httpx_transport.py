"""The official Hugging Face client, sending through ours."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from huggingface_hub.utils import get_session

from net.stub import Handler, Stub, Time, hang_up, json_reply, raw, redirect, reply, silence
from pumas import __version__
from pumas.errors import (
    Cancelled,
    CircuitOpen,
    ConnectionFailed,
    HttpStatus,
    InvalidReply,
    NetworkError,
    Offline,
    RateLimited,
)
from pumas.net import httpx_transport as module
from pumas.net.client import NetworkClient, Timeouts
from pumas.net.httpx_transport import asking, use_for_huggingface_hub
from pumas.net.settings import NetworkSettings

TOKEN = "hf_secretsecretsecret"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
INFO = {"id": "a/b", "sha": COMMIT, "siblings": [{"rfilename": "x.gguf"}]}


@pytest.fixture
def api(client: NetworkClient, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> HfApi:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(
        "huggingface_hub.utils._http.time.sleep", lambda _s: pytest.fail("the library waited by itself")
    )
    use_for_huggingface_hub(client)
    return HfApi(endpoint=stub.url, token=TOKEN)


def test_a_question_and_its_answer(api: HfApi, client: NetworkClient, stub: Stub) -> None:
    stub.answer["/api/models/a/b"] = json_reply(INFO)
    assert api.model_info("a/b").sha == COMMIT
    asked = stub.asked[0]
    assert asked.headers["user-agent"] == f"pumas/{__version__}"
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert asked.headers["x-amzn-trace-id"], "the library's own hook has run"
    assert client.hosts.tally.now.succeeded == 1


def test_packed_answers_are_unpacked_once(api: HfApi, client: NetworkClient, stub: Stub) -> None:
    packed = gzip.compress(json.dumps(INFO).encode())
    stub.answer["/api/models/a/b"] = reply(200, packed, Content_Encoding="gzip", Content_Type="application/json")
    assert api.model_info("a/b").id == "a/b"
    assert stub.asked[0].headers["accept-encoding"] == "gzip, deflate"
    assert client.hosts.tally.now.received == len(packed)


def test_pages_and_queries(api: HfApi, stub: Stub) -> None:
    stub.answer["/api/models"] = [
        json_reply([INFO], 200, Link=f'<{stub.url}/api/models?cursor=2>; rel="next"'),
        json_reply([INFO | {"id": "c/d"}]),
    ]
    assert [model.id for model in api.list_models(search="ä b")] == ["a/b", "c/d"]
    assert "search=%C3%A4" in stub.targets[0] and stub.targets[1] == "/api/models?cursor=2"


def test_a_post_carries_its_body(api: HfApi, stub: Stub) -> None:
    stub.answer[f"/api/models/a/b/paths-info/{COMMIT}"] = json_reply([])
    assert api.get_paths_info("a/b", ["x.gguf"], revision=COMMIT) == []
    assert (stub.asked[0].method, b"x.gguf" in stub.asked[0].body) == ("POST", True)


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (reply(404, b"", X_Error_Code="RepoNotFound"), RepositoryNotFoundError),
        (reply(403, b"", X_Error_Code="GatedRepo"), GatedRepoError),
    ],
)
def test_what_the_hub_refuses_is_for_the_library_to_say(
    api: HfApi, stub: Stub, handler: Handler, kind: type[Exception]
) -> None:
    stub.answer["/api/models/a/b"] = handler
    with pytest.raises(kind):
        api.model_info("a/b")
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    ("handler", "kind", "asked"),
    [
        (reply(500), HttpStatus, 5),
        (reply(429, Retry_After="400"), RateLimited, 5),
        (hang_up, ConnectionFailed, 5),
        (reply(200, b"<html>log in"), (InvalidReply, json.JSONDecodeError), 1),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), ConnectionFailed, 5),
        (redirect("ftp://h/x"), InvalidReply, 1),
        (redirect("http://me:secret@127.0.0.1/"), InvalidReply, 1),
    ],
)
def test_failures_leave_as_ours_after_our_attempts(
    api: HfApi, stub: Stub, handler: Handler, kind: type[Exception], asked: int
) -> None:
    stub.answer["/api/models/a/b"] = handler
    with pytest.raises(kind) as caught:
        api.model_info("a/b")
    assert len(stub.asked) == asked and TOKEN not in str(caught.value)


def test_what_passes_is_tried_again(api: HfApi, stub: Stub, time: Time) -> None:
    stub.answer["/api/models/a/b"] = [
        reply(503),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
        reply(429, RateLimit='"api";r=0;t=20'),
        json_reply(INFO),
    ]
    assert api.model_info("a/b").id == "a/b"
    assert 20 <= sum(time.slept) < 24


def test_offline_and_breakers_hold_for_the_library_too(api: HfApi, client: NetworkClient, stub: Stub) -> None:
    stub.answer["/api/models/a/b"] = reply(500)
    for _ in range(3):
        with pytest.raises(HttpStatus):
            api.model_info("a/b")
    with pytest.raises(CircuitOpen):
        api.model_info("a/b")
    client.configure(NetworkSettings(offline=True))
    with pytest.raises(Offline):
        api.model_info("a/b")


def test_an_answer_without_end_is_given_up(
    api: HfApi, stub: Stub, monkeypatch: pytest.MonkeyPatch, client: NetworkClient
) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER", 1000)
    stub.answer["/api/models/a/b"] = reply(200, gzip.compress(bytes(1_000_000)), Content_Encoding="gzip")
    with pytest.raises(InvalidReply, match="longer than 1,000 bytes"):
        api.model_info("a/b")


def test_the_token_does_not_follow_a_redirect(api: HfApi, stub: Stub, other: Stub) -> None:
    stub.answer["/api/models/a/b"] = redirect(f"{other.url}/moved")
    other.answer["/moved"] = json_reply(INFO)
    assert api.model_info("a/b").id == "a/b"
    assert "authorization" in stub.asked[0].headers and "authorization" not in other.asked[0].headers


def test_redirects_end(api: HfApi, stub: Stub) -> None:
    stub.answer["/api/models/a/b"] = redirect("/api/models/a/b")
    with pytest.raises(httpx2.TooManyRedirects):
        api.model_info("a/b")
    assert len(stub.asked) == 6


def test_a_mirror_gets_no_token(api: HfApi, client: NetworkClient, stub: Stub, other: Stub) -> None:
    client.configure(NetworkSettings(mirrors={stub.url: other.url}))
    other.answer["/api/models/a/b"] = json_reply(INFO)
    assert api.model_info("a/b").id == "a/b"
    assert not stub.asked and "authorization" not in other.asked[0].headers


def test_how_a_call_waits_is_for_the_caller_to_say(api: HfApi, stub: Stub, time: Time) -> None:
    stub.answer["/api/models/a/b"] = reply(429, Retry_After="30")
    with asking(patience_s=5), pytest.raises(RateLimited):
        api.model_info("a/b")
    assert not time.slept and len(stub.asked) == 1
    told: list[float] = []

    def stop() -> None:
        if time.slept:
            raise Cancelled("no more")

    with asking(stop=stop, on_wait=lambda seconds, _reason: told.append(seconds)), pytest.raises(Cancelled):
        api.model_info("a/b")
    assert len(told) == 1 and 29 < told[0] < 31
    time.sleep(60)
    stub.answer["/api/models/a/b"] = silence
    with asking(timeouts=Timeouts(read_s=0.1), patience_s=0), pytest.raises(ConnectionFailed):
        api.model_info("a/b")


def test_files_come_as_they_are(
    api: HfApi, client: NetworkClient, stub: Stub, other: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    content = bytes(range(256)) * 4096

    def resolve(asked: Any, line: Any) -> None:
        head = {"ETag": '"e"', "X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(content)), "X-Linked-ETag": '"e"'}
        where = f"{other.url}/blob"
        reply(302, b"", Location=where, **{name.replace("-", "_"): value for name, value in head.items()})(asked, line)

    stub.answer["/a/b/resolve/main/x.gguf"] = resolve
    other.answer["/blob"] = reply(200, content, ETag='"e"')
    path = huggingface_hub.hf_hub_download(
        "a/b", "x.gguf", endpoint=stub.url, token=TOKEN, local_dir=tmp_path, cache_dir=tmp_path / "cache"
    )
    assert Path(path).read_bytes() == content
    assert all("authorization" not in asked.headers for asked in other.asked)
    assert other.asked[-1].headers["accept-encoding"] == "identity"
    assert client.hosts.tally.now.received == len(content)


def test_a_file_that_breaks_off_says_so(api: HfApi, stub: Stub) -> None:
    stub.answer["/a/b/resolve/main/x"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    with (
        get_session().stream("GET", f"{stub.url}/a/b/resolve/main/x") as response,
        pytest.raises(NetworkError),
    ):
        list(response.iter_bytes())


def test_a_file_that_is_not_read_is_closed(api: HfApi, client: NetworkClient, stub: Stub) -> None:
    stub.answer["/a/b/resolve/main/x"] = reply(200, bytes(10_000_000))
    with get_session().stream("GET", f"{stub.url}/a/b/resolve/main/x") as response:
        assert next(response.iter_bytes())
    assert response.is_closed


def test_no_line_of_the_log_holds_an_address_with_its_query(
    api: HfApi, stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="urllib3")
    caplog.set_level("INFO")
    stub.answer["/a/b/resolve/main/x"] = reply(200, b"x")
    get_session().get(f"{stub.url}/a/b/resolve/main/x?X-Signature=signed", headers={"authorization": TOKEN})
    assert "signed" not in caplog.text and TOKEN not in caplog.text
