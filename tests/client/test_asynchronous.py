from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from pumas.client import (
    AsyncPumasClient,
    CallFailed,
    Event,
    InvalidParams,
    NotReachable,
    Refused,
    WaitTimedOut,
    discovery,
)
from pumas.client.failures import Cancelled, JobNotFound
from sidecar import TOKEN, Sidecar

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


async def test_calls_side_by_side(jobs_sidecar: Sidecar) -> None:
    async with AsyncPumasClient(jobs_sidecar.root) as client:
        answers = await asyncio.gather(*(client.health_check() for _ in range(20)))
        assert answers == [{"status": "ok"}] * 20
        assert (await client.list_jobs(kind="none"))["jobs"] == []


@pytest.mark.parametrize(
    ("method", "params", "error"),
    [("get_job", {"job_id": "nope"}, JobNotFound), ("list_jobs", {"limit": 0}, InvalidParams), ("no", {}, CallFailed)],
)
async def test_failures(jobs_sidecar: Sidecar, method: str, params: dict[str, Any], error: type[CallFailed]) -> None:
    async with AsyncPumasClient(jobs_sidecar.root) as client:
        with pytest.raises(error):
            await client.call(method, params)


async def test_it_starts_one_and_stops_it(tmp_path: Path) -> None:
    client = AsyncPumasClient(tmp_path, start=True)
    assert repr(client) == "AsyncPumasClient('not connected')"
    # The first calls come at once, and still only one sidecar is started.
    assert await asyncio.gather(*(client.health_check() for _ in range(5))) == [{"status": "ok"}] * 5
    assert client.started_sidecar
    owner = discovery.find(tmp_path)
    assert owner is not None
    await client.close()
    assert not owner.alive


def test_one_client_in_one_run_after_the_other(jobs_sidecar: Sidecar, caplog: pytest.LogCaptureFixture) -> None:
    client = AsyncPumasClient(jobs_sidecar.root)

    async def several() -> list[Any]:
        return await asyncio.gather(*(client.health_check() for _ in range(5)))

    assert [asyncio.run(several()) for _ in range(3)] == [[{"status": "ok"}] * 5] * 3
    asyncio.run(client.close())
    assert not caplog.records


async def test_nothing_runs(tmp_path: Path) -> None:
    with pytest.raises(NotReachable, match="pumas serve"):
        async with AsyncPumasClient(tmp_path):
            pass


async def test_nothing_answers_and_no_token_is_told() -> None:
    async with AsyncPumasClient(url="http://127.0.0.1:9", token=TOKEN) as client:
        with pytest.raises(NotReachable, match="pumas serve") as caught:
            await client.health_check()
    assert TOKEN not in f"{caught.value!r} {client!r} {vars(client)!r}"


async def test_a_wrong_token(jobs_sidecar: Sidecar) -> None:
    async with AsyncPumasClient(url=f"http://{jobs_sidecar.host}", token="wrong") as client:
        with pytest.raises(Refused, match="HTTP 401"):
            await client.health_check()
        with pytest.raises(Refused, match="HTTP 401"):
            await anext(client.events())


async def test_the_token_is_not_sent_to_whoever_takes_over_the_port(
    launch: Callable[..., Sidecar], trap: Callable[..., Any]
) -> None:
    victim = launch()
    async with AsyncPumasClient(victim.root) as client:
        await client.health_check()
        victim.kill()
        thief = trap(lambda _n: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", victim.port)
        with pytest.raises(NotReachable, match="has stopped"):
            await client.health_check()
    assert thief.requests == []


async def test_proxies_of_the_environment_are_not_asked(jobs_sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with AsyncPumasClient(jobs_sidecar.root) as client:
        assert await client.health_check() == {"status": "ok"}


async def test_events_and_a_job(jobs_sidecar: Sidecar, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with AsyncPumasClient(jobs_sidecar.root) as client:
        seen: list[dict[str, Any]] = []

        def watch(progress: dict[str, Any]) -> None:
            seen.append(progress)
            gate.touch()

        started = await client.call("start_test_job", {"gate": str(gate)})
        job = await client.wait_for_job(started["job_id"], watch, timeout=20)
        assert job["state"] == "completed"
        assert seen
        cursor = await first_cursor(client)
        async with aclosing(client.events("job.state", after=cursor - 1)) as events:
            event = await anext(events)
            assert (event.topic, event.cursor) == ("job.state", cursor)


async def first_cursor(client: AsyncPumasClient) -> int:
    """The cursor of an event that has just been published."""
    async with aclosing(client.events(["job.state"])) as events:
        waiting = asyncio.ensure_future(anext(events))
        while not waiting.done():
            await client.call("start_test_job")
            await asyncio.wait([waiting], timeout=0.05)
        cursor = waiting.result().cursor
    assert cursor is not None
    return cursor


async def test_a_cancelled_job_raises(jobs_sidecar: Sidecar, tmp_path: Path) -> None:
    async with AsyncPumasClient(jobs_sidecar.root) as client:
        job_id = (await client.call("start_test_job", {"gate": str(tmp_path / "never")}))["job_id"]
        with pytest.raises(WaitTimedOut):
            await client.wait_for_job(job_id, timeout=0.05)
        await client.cancel_job(job_id)
        with pytest.raises(Cancelled):
            await client.wait_for_job(job_id, timeout=20)
        assert (await client.wait_for_job(job_id, check=False, timeout=20))["state"] == "cancelled"


async def test_a_cut_stream_goes_on_where_it_was_cut(trap: Callable[..., Any]) -> None:
    replies = [
        STREAM + b'retry: 1\nevent: ready\ndata: {"cursor":5}\n\n',
        STREAM + b'event: ready\ndata: {"cursor":9}\n\nid: 6\nevent: a\ndata: {}\n\nid: 7\nevent: b\ndata: {"cut',
        b"",
        STREAM + b'event: ready\ndata: {"cursor":9}\n\nid: 7\nevent: b\ndata: {"n":1}\n\n',
    ]
    server = trap(lambda n: replies[n])
    async with (
        AsyncPumasClient(url=server.url, token=TOKEN) as client,
        aclosing(client.events(["a", "b"])) as events,
    ):
        assert [await anext(events), await anext(events)] == [Event("a", {}, 6), Event("b", {"n": 1}, 7)]
    sent = [
        next((line for line in request.split(b"\r\n") if line.startswith(b"Last-Event-ID")), None)
        for request in server.requests
    ]
    assert sent == [None, b"Last-Event-ID: 5", b"Last-Event-ID: 6", b"Last-Event-ID: 6"]


def test_importing_does_not_load_the_other_client() -> None:
    code = "import sys; from pumas.client import AsyncPumasClient; print('requests' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "False"
