"""Files that a page hands over: stored whole under their names or not at all, and only for who may call.

`place` is a server of the backend under test, `inside` one in this process, whose limits a test can change.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from pumas.events.stream import EventStream
from pumas.rpc import uploads as module
from pumas.rpc.http import HttpServer
from pumas.rpc.uploads import AT_ONCE, KEPT_S, Uploads
from sidecar import Reply, Sidecar, chosen_backend, parse_reply, request_bytes

TOKEN = "upload-token-0123456789abcdefghijklm"
BATCH = "0123456789abcdef" * 2


@dataclass
class Place:
    port: int
    folder: Path

    def head(self, query: str, length: int, **changes: str | None) -> list[tuple[str, str]]:
        headers: dict[str, str | None] = {
            "Host": f"127.0.0.1:{self.port}",
            "Connection": "close",
            "Authorization": f"Bearer {TOKEN}",
            "Content-Type": "application/octet-stream",
            "Content-Length": str(length),
        }
        headers |= {name.replace("_", "-"): value for name, value in changes.items()}
        return [(name, value) for name, value in headers.items() if value is not None]

    async def send(self, name: str, data: bytes = b"abc", **changes: str | None) -> Reply:
        return await self.ask(f"batch={BATCH}&name={quote(name, safe='')}", data, **changes)

    async def ask(self, query: str, data: bytes = b"abc", **changes: str | None) -> Reply:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request_bytes("POST", f"/uploads?{query}", self.head(query, len(data), **changes), data))
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return parse_reply(answer)

    def stored(self) -> dict[str, bytes]:
        """Every file and what it holds; what goes away while one looks is not there."""
        found = {}
        for folder, _, names in os.walk(self.folder):
            for path in (Path(folder, name) for name in names):
                with contextlib.suppress(FileNotFoundError):
                    found[str(path.relative_to(self.folder))] = path.read_bytes()
        return found


@pytest.fixture
async def place(inside: Place, launch: Callable[..., Sidecar]) -> Place:
    if chosen_backend(os.environ) == "python":
        return inside
    sidecar = await asyncio.to_thread(launch, token=TOKEN)
    return Place(sidecar.port, sidecar.data / "uploads")


@pytest.fixture
async def inside(tmp_path: Path) -> AsyncIterator[Place]:
    folder = tmp_path / "uploads"
    server = HttpServer(token=TOKEN, events=EventStream(), uploads=Uploads(folder))
    yield Place(await server.listen("127.0.0.1", 0), folder)
    await server.close()


async def test_a_file_is_stored_under_its_name_for_this_user_only(place: Place) -> None:
    data = os.urandom(9 * 1024 * 1024)
    answer = await place.send("Große Datei.gguf", data)
    path = place.folder / BATCH / "Große Datei.gguf"
    assert (answer.status, answer.json) == (201, {"path": str(path)})
    assert place.stored() == {f"{BATCH}/Große Datei.gguf": data}
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert (await place.send("second.gguf")).status == 201, "one batch is one folder"
    assert (await place.send("second.gguf", b"other")).status == 409
    assert place.stored()[f"{BATCH}/second.gguf"] == b"abc"


async def test_a_folder_comes_file_by_file(place: Place) -> None:
    for name in ("Model/model_index.json", "Model/unet/a.safetensors", "Model/vae/a.safetensors"):
        answer = await place.send(name, name.encode())
        assert (answer.status, answer.json) == (201, {"path": str(place.folder / BATCH / name)})
    assert (await place.send("Model/unet")).status == 409, "a folder is no file"
    assert (await place.send("Model/model_index.json/x")).status == 409
    assert place.stored()[f"{BATCH}/Model/vae/a.safetensors"] == b"Model/vae/a.safetensors"
    assert {p.stat().st_mode & 0o777 for p in place.folder.rglob("*") if p.is_dir()} == {0o700}


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/etc/x",
        ".hidden",
        "con",
        "a\\b",
        "a\nb",
        "x\x00",
        "a" * 300,
        "a ",
        "a/../b",
        "a//b",
        "a/",
        ".git/x",
        "a/.b",
        "a/con/b",
        "/".join("abcdefghi"),
    ],
)
async def test_names_stay_inside(place: Place, name: str) -> None:
    assert (await place.send(name)).status == 400
    assert place.stored() == {}


@pytest.mark.parametrize(
    "query",
    ["", f"batch={BATCH}", "name=a", "batch=../x&name=a", f"batch={BATCH.upper()}&name=a", f"batch={BATCH}&name=a&c=d"],
)
async def test_the_question_must_be_right(place: Place, query: str) -> None:
    assert (await place.ask(query)).status in (400, 404)
    assert place.stored() == {}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Authorization": None}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "multipart/form-data"}, 415),
        ({"Content_Type": None}, 415),
        ({"Content_Encoding": "gzip"}, 415),
    ],
)
async def test_who_may_not(place: Place, changes: dict[str, str | None], status: int) -> None:
    assert (await place.ask(f"batch={BATCH}&name=a.gguf", b"abc", **changes)).status == status
    assert place.stored() == {}


async def test_half_a_file_is_none(place: Place) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", place.port)
    query = f"batch={BATCH}&name=half.gguf"
    writer.write(request_bytes("POST", f"/uploads?{query}", place.head(query, 100), b"only this"))
    await writer.drain()
    for _ in range(200):
        if place.stored():
            break
        await asyncio.sleep(0.01)
    writer.close()
    await writer.wait_closed()
    for _ in range(500):
        if not place.stored():
            break
        await asyncio.sleep(0.01)
    assert place.stored() == {}
    assert (await place.send("half.gguf")).status == 201


async def test_a_batch_that_empties_takes_no_newcomer_along(inside: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a batch goes with its last file, also between its making and its next file."""
    folder, opened = inside.folder / BATCH, os.open

    def opens(path: os.PathLike[str], *arguments: int) -> int:
        if Path(path).parent == folder and not left:
            left.append(path)
            folder.rmdir()
        return opened(path, *arguments)

    left: list[object] = []
    monkeypatch.setattr(module.os, "open", opens)
    assert (await inside.send("next.gguf")).status == 201
    assert left and inside.stored() == {f"{BATCH}/next.gguf": b"abc"}


async def test_one_that_stalls_ends(inside: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_DEADLINE_S", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", inside.port)
    query = f"batch={BATCH}&name=slow.gguf"
    writer.write(request_bytes("POST", f"/uploads?{query}", inside.head(query, 100), b"only this"))
    assert parse_reply(await asyncio.wait_for(reader.read(), 30)).status == 400
    writer.close()
    assert inside.stored() == {}


async def test_not_too_many_at_once(place: Place) -> None:
    writers: list[asyncio.StreamWriter] = []
    for number in range(AT_ONCE):
        _, writer = await asyncio.open_connection("127.0.0.1", place.port)
        query = f"batch={BATCH}&name={number}.gguf"
        writer.write(request_bytes("POST", f"/uploads?{query}", place.head(query, 100), b"begun"))
        writers.append(writer)
    for _ in range(500):
        if len(place.stored()) == AT_ONCE:
            break
        await asyncio.sleep(0.01)
    assert (await place.send("more.gguf")).status == 503
    for writer in writers:
        writer.close()


async def test_a_full_disk_is_named(inside: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "_write", full)
    assert (await inside.send("a.gguf")).status == 507
    assert inside.stored() == {}


async def test_what_nobody_wanted_goes_after_a_day(place: Place) -> None:
    old, new, foreign = place.folder / ("a" * 32), place.folder / ("b" * 32), place.folder / "notes"
    for folder in (old, new, foreign):
        folder.mkdir(parents=True)
        (folder / "x").write_bytes(b"x")
    moment = time.time() - KEPT_S - 60
    os.utime(old, (moment, moment))
    os.utime(foreign, (moment, moment))
    assert (await place.send("a.gguf")).status == 201
    assert {p.name for p in place.folder.iterdir()} == {"b" * 32, "notes", BATCH}
