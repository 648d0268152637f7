"""Settings that last, and events that tell what changed."""

from __future__ import annotations

import asyncio
import json
import stat
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from net.stub import Stub, reply
from pumas.config import Layout
from pumas.errors import FileUnavailable, HttpStatus, InvalidInput, Offline
from pumas.events.stream import EventStream
from pumas.net.service import TOPIC, NetworkService
from pumas.net.settings import NetworkSettings
from pumas.storage.troubles import Troubles


class Root:
    """A launcher root, and what the service tells about it."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(folder)
        self.file = self.layout.network_settings
        self.events, self.troubles = EventStream(), Troubles()

    def open(self) -> NetworkService:
        return NetworkService(self.layout, self.events, self.troubles)

    def write(self, text: str) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(text)

    @property
    def kinds(self) -> list[str]:
        return [trouble.kind for trouble in self.troubles.list()]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


async def test_settings_last_and_belong_to_the_user(root: Root) -> None:
    service = root.open()
    assert service.settings() == NetworkSettings() and not root.file.exists(), "nothing is written unasked"
    await service.change(offline=True, proxy="http://me:secret@p:1", mirrors={"h": "https://m"})
    assert service.client.offline()
    assert root.open().settings() == NetworkSettings(True, "http://me:secret@p:1", {"h": "https://m"})
    assert stat.S_IMODE(root.file.stat().st_mode) == 0o600
    await service.change(offline=False)
    again = root.open()
    assert not again.settings().offline and again.settings().proxy == "http://me:secret@p:1"
    assert not root.kinds


async def test_what_a_newer_version_wrote_stays(root: Root) -> None:
    root.write('{"offline": true, "future": {"a": 1}}')
    await root.open().change(offline=False)
    assert json.loads(root.file.read_text())["future"] == {"a": 1}


async def test_a_refused_change_changes_nothing(root: Root) -> None:
    service = root.open()
    for wishes, kind in (
        ({"offline": True, "proxy": "nonsense"}, InvalidInput),
        ({"offline": True, "mirrors": {"h": "m"}}, InvalidInput),
        ({"offline": True, "ca_bundle": "/none.pem"}, FileUnavailable),
    ):
        with pytest.raises(kind):
            await service.change(**wishes)
    assert service.settings() == NetworkSettings() and not service.client.offline() and not root.file.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "123", "\0\0\0", '{"offline": tr'])
async def test_a_damaged_file_is_a_trouble_and_is_kept(root: Root, text: str) -> None:
    root.write(text)
    service = root.open()
    assert service.settings() == NetworkSettings() and root.kinds == ["corrupt_state"]
    assert root.file.read_text() == text, "left as it was"
    await service.change(offline=True)
    assert not root.kinds and root.open().settings().offline
    kept = [path for path in root.file.parent.iterdir() if path.name != "network.json" and path.read_text() == text]
    assert len(kept) == 1, "beside the new one"


async def test_a_damaged_file_is_read_from_its_backup(root: Root) -> None:
    service = root.open()
    await service.change(offline=True)
    await service.change(proxy="http://p:1")
    root.file.write_text("{")
    assert root.open().settings().offline and root.kinds == ["recovered_state"]


async def test_a_value_that_makes_no_sense_is_a_trouble_and_the_others_hold(root: Root) -> None:
    root.write('{"offline": "maybe", "proxy": "http://p:1"}')
    service = root.open()
    assert service.settings() == NetworkSettings(proxy="http://p:1") and root.kinds == ["damaged_settings"]
    await service.change(offline=False)
    assert not root.kinds and root.open().settings() == NetworkSettings(proxy="http://p:1")


async def follow(root: Root, act: Callable[[], Awaitable[Any]], count: int) -> list[dict[str, Any]]:
    root.events.bind(asyncio.get_running_loop())
    with root.events.subscribe([TOPIC]) as reader:
        await act()
        events = [await asyncio.wait_for(reader.next(), 30) for _ in range(count)]
    return [json.loads(event.data) for event in events]


async def test_events_tell_when_offline_mode_changes(root: Root) -> None:
    service = root.open()

    async def act() -> None:
        await service.change(offline=True)
        await service.change(offline=True, mirrors={"h": "https://m"})
        await service.change(offline=False)

    expected = [{"offline": flag, "is_offline": flag, "circuit_states": {}} for flag in (True, False)]
    assert await follow(root, act, 2) == expected


async def test_events_tell_when_a_host_is_left_alone(root: Root, stub: Stub) -> None:
    service = root.open()
    stub.answer["*"] = reply(500)

    def ask() -> None:
        for _ in range(3):
            with pytest.raises(HttpStatus):
                service.client.send("GET", stub.url, retry=False)

    state = {"offline": False, "is_offline": True, "circuit_states": {stub.url: "open"}}
    assert await follow(root, lambda: asyncio.to_thread(ask), 1) == [state]
    status = await service.status()
    assert status.is_offline and not status.offline and status.circuits == {stub.url: "open"}
    assert (status.counted.total, status.counted.failed, status.counted.success_rate) == (3, 3, 0.0)
    assert status.hosts[0].last_error == f"127.0.0.1:{stub.port} has a problem of its own (HTTP 500)."
    service.close()


async def test_a_change_holds_from_the_next_request_on(root: Root, stub: Stub) -> None:
    service = root.open()
    stub.answer["*"] = reply(200)
    await asyncio.to_thread(lambda: service.client.send("GET", stub.url).close())
    await service.change(offline=True)
    with pytest.raises(Offline):
        await asyncio.to_thread(lambda: service.client.send("GET", stub.url))
    status = await service.status()
    assert (status.counted.succeeded, status.counted.withheld, status.offline) == (1, 1, True)


async def test_the_status_needs_no_worker_thread(root: Root) -> None:
    release, pool = threading.Event(), ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(pool)
    stuck = asyncio.create_task(asyncio.to_thread(release.wait, 30))
    await asyncio.sleep(0)
    service = root.open()
    for _ in range(3):
        assert (await asyncio.wait_for(service.status(), 30)).counted.total == 0
    assert not stuck.done()
    release.set()
    await stuck


async def test_the_status_knows_the_proxy_without_its_password(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@env:1")
    service = root.open()
    assert (await service.status()).proxy == "http://me:***@env:1"
    await service.change(proxy="http://me:secret@set:1")
    assert (await service.status()).proxy == "http://me:***@set:1"
    await service.change(proxy="direct")
    assert (await service.status()).proxy is None
