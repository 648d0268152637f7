from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pumas.client import (
    CallFailed,
    Event,
    InvalidParams,
    MethodNotFound,
    NotReachable,
    PumasClient,
    Refused,
    WaitTimedOut,
)
from pumas.client.failures import DiskError, Interrupted, JobNotFound, WrongJobState
from sidecar import TOKEN, Sidecar, eventually

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def client(jobs_sidecar: Sidecar) -> Any:
    with PumasClient(jobs_sidecar.root) as one:
        yield one


def start_job(client: PumasClient, **params: Any) -> str:
    return client.call("start_test_job", params)["job_id"]


# -- calls -----------------------------------------------------------------------------------------------------------


def test_typed_methods(client: PumasClient) -> None:
    assert client.health_check() == {"status": "ok"}
    assert client.list_jobs(kind="none", states=["failed"], limit=1) == {"success": True, "jobs": []}
    assert client.discover()["openrpc"].startswith("1.")


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda c: c.get_job("nope"), JobNotFound, "No job 'nope'"),
        (lambda c: c.list_jobs(limit=0), InvalidParams, "limit: must be at least 1"),
        (lambda c: c.get_job(5), InvalidParams, "job_id: must be a string"),
        (lambda c: c.call("no_such"), MethodNotFound, "no_such"),
        (lambda c: c.call("get_job", {"nope": 1}), InvalidParams, "nope"),
    ],
)
def test_failures(client: PumasClient, call: Callable[[PumasClient], Any], error: type[CallFailed], text: str) -> None:
    with pytest.raises(error, match=text):
        call(client)


def test_a_wrong_token(jobs_sidecar: Sidecar) -> None:
    with PumasClient(url=f"http://{jobs_sidecar.host}", token="wrong-token-aaaa") as stranger:
        with pytest.raises(Refused, match="HTTP 401") as caught:
            stranger.health_check()
        assert caught.value.status == 401
        with pytest.raises(Refused, match="HTTP 401"):
            next(iter(stranger.events()))
        assert "wrong-token" not in f"{caught.value!r}{caught.value}{stranger!r}"


def test_a_sidecar_without_token(open_sidecar: Sidecar) -> None:
    with PumasClient(open_sidecar.root) as client:
        assert client.health_check() == {"status": "ok"}


def test_nothing_runs(tmp_path: Path) -> None:
    with pytest.raises(NotReachable, match=r"pumas serve --root"):
        PumasClient(tmp_path)


def test_nothing_answers() -> None:
    with PumasClient(url="http://127.0.0.1:9", token=TOKEN) as client, pytest.raises(NotReachable) as caught:
        client.health_check()
    assert "pumas serve" in str(caught.value)
    assert TOKEN not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_no_answer_in_time(trap: Callable[..., Any]) -> None:
    release = threading.Event()

    def silence(_n: int) -> bytes:
        release.wait(30)
        return b""

    server = trap(silence)
    with PumasClient(url=server.url, token=TOKEN, timeout=0.05) as client:
        with pytest.raises(NotReachable, match="did not answer within"):
            client.health_check()
        release.set()


def test_proxies_of_the_environment_are_not_asked(
    client: PumasClient, jobs_sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with PumasClient(jobs_sidecar.root) as fresh:
        assert fresh.health_check() == {"status": "ok"}


def test_redirects_are_not_followed(trap: Callable[..., Any]) -> None:
    second = trap(lambda _n: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    first = trap(lambda _n: f"HTTP/1.1 307 Moved\r\nLocation: {second.url}/rpc\r\nContent-Length: 0\r\n\r\n".encode())
    with PumasClient(url=first.url, token=TOKEN) as client, pytest.raises(Refused, match="HTTP 307"):
        client.health_check()
    assert second.requests == []


def test_the_token_is_not_sent_to_whoever_takes_over_the_port(
    launch: Callable[..., Sidecar], trap: Callable[..., Any]
) -> None:
    victim = launch()
    with PumasClient(victim.root) as client:
        client.health_check()
        victim.kill()
        thief = trap(lambda _n: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", victim.port)
        with pytest.raises(NotReachable, match="has stopped"):
            client.health_check()
        with pytest.raises(NotReachable, match="has stopped"):
            next(iter(client.events()))
        with pytest.raises(NotReachable):
            PumasClient(victim.root)
    assert thief.requests == []


def test_a_restarted_sidecar_is_found_again(launch: Callable[..., Sidecar], tmp_path: Path) -> None:
    first = launch()
    with PumasClient(first.root) as client:
        client.health_check()
        first.close()
        second = launch(token="another-token-0123456789")
        assert client.health_check() == {"status": "ok"}
        assert client.url.endswith(f":{second.port}")


def test_importing_is_light() -> None:
    code = (
        "import sys, pumas.client;"
        "heavy = {'aiohttp', 'requests', 'pydantic', 'rich', 'typer', 'psutil'} & set(sys.modules);"
        "pumas.client.PumasClient; print(sorted(heavy), 'aiohttp' in sys.modules, 'pydantic' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[] False False"


def test_repr_shows_no_token(client: PumasClient) -> None:
    assert TOKEN not in repr(client) + repr(vars(client))


# -- events ----------------------------------------------------------------------------------------------------------


def test_events_of_a_job(client: PumasClient) -> None:
    with client.events(["job.state"]) as events:
        stream = events.with_ready()
        assert next(stream).topic == "ready"
        job_id = start_job(client)
        seen = [next(events) for _ in range(3)]
    assert [event.data["state"] for event in seen] == ["queued", "running", "completed"]
    assert {event.topic for event in seen} == {"job.state"}
    assert {event.data["job_id"] for event in seen} == {job_id}
    assert all(isinstance(event.cursor, int) for event in seen)
    with client.events("job.state", after=seen[0].cursor) as again:
        assert [next(again), next(again)] == seen[1:]


def test_a_cursor_from_another_run_brings_resync(client: PumasClient) -> None:
    with client.events(after=1) as events:
        assert next(events).topic == "resync"


def test_close_from_another_thread_ends_the_iteration(client: PumasClient) -> None:
    events = client.events()
    began = threading.Event()

    def read() -> list[Event]:
        stream = events.with_ready()
        next(stream)
        began.set()
        return list(events)

    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(read)
        assert began.wait(30)
        events.close()
        assert seen.result(30) == []
    assert list(events) == []


def test_a_cut_stream_goes_on_where_it_was_cut(trap: Callable[..., Any]) -> None:
    replies = [
        STREAM + b'retry: 1\nevent: ready\ndata: {"cursor":5}\n\n',
        STREAM + b'event: ready\ndata: {"cursor":9}\n\nid: 6\nevent: a\ndata: {}\n\nid: 7\nevent: b\ndata: {"cut',
        b"",
        STREAM + b'event: ready\ndata: {"cursor":9}\n\nid: 7\nevent: b\ndata: {"n":1}\n\n',
    ]
    server = trap(lambda n: replies[n])
    with PumasClient(url=server.url, token=TOKEN) as client, client.events(["a", "b"]) as events:
        assert [next(events), next(events)] == [Event("a", {}, 6), Event("b", {"n": 1}, 7)]
    assert [cursor_of(request) for request in server.requests] == [None, b"5", b"6", b"6"]
    assert all(b"GET /events?topics=a%2Cb HTTP/1.1" in request for request in server.requests)
    assert all(TOKEN.encode() not in request.split(b"\r\n")[0] for request in server.requests)


def cursor_of(request: bytes) -> bytes | None:
    found = [line for line in request.split(b"\r\n") if line.startswith(b"Last-Event-ID:")]
    return found[0].partition(b": ")[2] if found else None


# -- waiting ---------------------------------------------------------------------------------------------------------


def test_wait_for_a_job(client: PumasClient, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    gate = tmp_path / "gate"

    def watch(progress: dict[str, Any]) -> None:
        seen.append(progress)
        gate.touch()

    job = client.wait_for_job(start_job(client, steps=4, gate=str(gate)), watch, timeout=20)
    assert (job["state"], job["result"], job["progress"]) == ("completed", {"steps": 4}, 1.0)
    assert seen
    assert all(set(p) == {"job_id", "kind", "stage", "item", "done", "total", "unit", "progress"} for p in seen)
    assert client.wait_for_job(job["job_id"], timeout=20)["state"] == "completed", "one that has ended already"


def test_a_failed_job_raises_its_error(client: PumasClient) -> None:
    job_id = start_job(client, fail=True)
    with pytest.raises(DiskError, match="input/output error") as caught:
        client.wait_for_job(job_id, timeout=20)
    assert caught.value.details["job_id"] == job_id
    assert client.wait_for_job(job_id, check=False, timeout=20)["state"] == "failed"


def test_a_paused_job_ends_the_wait(client: PumasClient, tmp_path: Path) -> None:
    job_id = start_job(client, gate=str(tmp_path / "never"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.wait_for_job, job_id, timeout=20)
        eventually(lambda: pausable(client, job_id), what="a running job")
        client.pause_job(job_id)
        with pytest.raises(Interrupted):
            waiting.result(20)
    client.cancel_job(job_id)
    assert client.wait_for_job(job_id, check=False, timeout=20)["state"] == "cancelled"
    with pytest.raises(WrongJobState):
        client.cancel_job(job_id)


def pausable(client: PumasClient, job_id: str) -> bool:
    return client.get_job(job_id)["job"]["state"] == "running"


def test_the_wait_has_a_limit_and_the_job_goes_on(client: PumasClient, tmp_path: Path) -> None:
    job_id = start_job(client, gate=str(tmp_path / "gate"))
    with pytest.raises(WaitTimedOut):
        client.wait_for_job(job_id, timeout=0.05)
    (tmp_path / "gate").touch()
    assert client.wait_for_job(job_id, timeout=20)["state"] == "completed"


def test_an_unknown_job(client: PumasClient) -> None:
    with pytest.raises(JobNotFound):
        client.wait_for_job("nope", timeout=20)
