"""`GET /events` over real connections: replay, resync, topics, junk, slow and leaving readers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass

import pytest

from pumas.events.stream import QUEUE_EVENTS, EventStream
from pumas.rpc import sse
from pumas.rpc.http import HttpServer
from sidecar import Sidecar, eventually

TOKEN = "t" * 32


@dataclass
class Message:
    event: str
    data: dict[str, object]
    id: int | None


class Reader:
    """A hand-made event-stream client on one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._text = b""
        self.status = 0
        self.head = ""

    @classmethod
    async def open(cls, port: int, query: str = "", last: str | None = None, limit: int = 2**16) -> Reader:
        self = cls(*await asyncio.open_connection("127.0.0.1", port, limit=limit))
        header = "" if last is None else f"Last-Event-ID: {last}\r\n"
        head = f"GET /events{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {TOKEN}\r\n{header}\r\n"
        self._writer.write(head.encode("utf-8", "surrogateescape"))
        self.head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 30)).decode()
        self.status = int(self.head.split()[1])
        return self

    async def message(self) -> Message:
        while b"\n\n" not in self._text:
            size = int((await asyncio.wait_for(self._reader.readline(), 30)).strip() or b"0", 16)
            if size == 0:
                raise EOFError
            self._text += await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        block, _, self._text = self._text.partition(b"\n\n")
        fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if not line.startswith(":"))
        return Message(
            fields.get("event", ""), json.loads(fields.get("data", "{}")), int(fields["id"]) if "id" in fields else None
        )

    async def ready(self) -> int:
        message = await self.message()
        assert message.event == "ready"
        assert message.id == message.data["cursor"]
        assert message.id is not None
        return message.id

    def close(self) -> None:
        self._writer.close()


@dataclass
class Stream:
    server: HttpServer
    events: EventStream
    port: int

    async def reader(self, query: str = "", last: str | None = None) -> Reader:
        reader = await Reader.open(self.port, query, last)
        assert reader.status == 200
        return reader

    def readers(self) -> int:
        return len(self.events._readers)  # pyright: ignore[reportPrivateUsage]


@pytest.fixture
async def stream() -> AsyncGenerator[Stream]:
    events = EventStream()
    server = HttpServer(token=TOKEN, events=events)
    port = await server.listen("127.0.0.1", 0)
    yield Stream(server, events, port)
    await server.close()


async def test_an_event_reaches_a_reader(stream: Stream) -> None:
    reader = await stream.reader()
    assert "text/event-stream" in reader.head
    assert "Access-Control" not in reader.head
    cursor = await reader.ready()
    assert cursor == stream.events.cursor
    stream.events.publish("job.state", {"job_id": "x", "text": "line\nbreak \u2028 ü"})
    message = await reader.message()
    assert (message.event, message.id) == ("job.state", cursor + 1)
    assert message.data == {"job_id": "x", "text": "line\nbreak \u2028 ü"}


async def test_coming_back_replays_what_was_missed(stream: Stream) -> None:
    reader = await stream.reader()
    cursor = await reader.ready()
    reader.close()
    for n in range(50):
        stream.events.publish("job.progress", {"n": n})
    again = await stream.reader(last=str(cursor))
    assert await again.ready() == cursor
    assert [(await again.message()).data["n"] for _ in range(50)] == list(range(50))
    third = await stream.reader(last=str(cursor + 48))
    assert await third.ready() == cursor + 48
    assert (await third.message()).data == {"n": 48}
    assert (await third.message()).data == {"n": 49}


@pytest.mark.parametrize("last", ["1", "0", "9999999999999999999"])
async def test_a_cursor_of_another_life_gets_resync(stream: Stream, last: str) -> None:
    reader = await stream.reader(last=last)
    assert await reader.ready() == stream.events.cursor
    told = await reader.message()
    assert (told.event, told.data) == ("resync", {"cursor": stream.events.cursor})


@pytest.mark.parametrize(
    "last", ["", " ", "-1", "1.5", "abc", "1e9", "0x10", "9" * 30, "٣", "1 2", "null", "\udcff", "a" * 5000]
)
async def test_junk_as_cursor_is_a_fresh_start(stream: Stream, last: str) -> None:
    stream.events.publish("job.state", {"old": 1})
    reader = await stream.reader(last=last)
    assert await reader.ready() == stream.events.cursor
    stream.events.publish("job.state", {"new": 1})
    assert (await reader.message()).data == {"new": 1}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("?", 200),
        ("?topics=", 200),
        ("?topics=job", 200),
        ("?topics=job,model.added", 200),
        ("?topics=job&topics=mode%6C.added", 200),
        ("?topics=Job", 400),
        ("?topics=job,,model", 200),
        ("?topics=job%00", 400),
        ("?topics=" + ",".join("abcdefghijklmnopqrstuvwxyzabcdefghijkl"), 400),
        ("?topics=../x", 400),
        ("?token=x", 400),
        ("?topics=job&x=1", 400),
    ],
)
async def test_queries(stream: Stream, query: str, status: int) -> None:
    reader = await Reader.open(stream.port, query)
    assert reader.status == status
    reader.close()


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        (
            "?topics=nope",
            b"There is no topic nope, only: "
            b"download, install, job, library, links, model, network, process, releases, system, version.",
        ),
        ("?topics=model,job.stat", b"There is no topic job.stat, only: job.progress, job.state."),
        ("?topics=modell.added", b"There is no topic modell.added, only: download, install, "),
        ("?topics=jobs", b"There is no topic jobs, only: download, "),
        ("?topics=Job", b"There is no topic Job, only: download, "),
        ("?topics=job.*", b"There is no topic of that name, only: job.progress, job.state."),
        ("?topics=job,%3Cscript%3E", b"There is no topic of that name, only: download, "),
        ("?topics=" + "a" * 41, b"There is no topic of that name, only: download, "),
        ("?topics=job&token=x", b"topics is the only parameter."),
    ],
)
def test_who_misspells_a_topic_is_told_which_there_are(shared: Sidecar, query: str, answer: bytes) -> None:
    reply = shared.http("GET", f"/events{query}")
    assert (reply.status, reply.body[: len(answer)]) == (400, answer)
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


def test_topics_may_be_given_one_by_one(shared: Sidecar) -> None:
    """As many HTTP libraries write a list."""
    with shared.connect() as sock:
        head = f"GET /events?topics=job&topics=network HTTP/1.1\r\nHost: {shared.host}\r\n"
        sock.sendall(f"{head}Authorization: Bearer {shared.token}\r\n\r\n".encode())
        told = b""

        def heard(word: bytes) -> None:
            nonlocal told
            while word not in told:
                piece = sock.recv(65536)
                assert piece, told
                told += piece

        heard(b"event: ready")
        shared.result("set_network_settings", {"offline": True})
        heard(b"event: network.settings")
        shared.result("set_network_settings", {"offline": False})


async def test_topics_are_chosen(stream: Stream) -> None:
    reader = await stream.reader("?topics=job.state,model")
    await reader.ready()
    for topic in ("job.progress", "model.added", "jobless", "job.state"):
        stream.events.publish(topic, {})
    assert [(await reader.message()).event for _ in range(2)] == ["model.added", "job.state"]


async def test_a_reader_that_stops_reading_is_resynced_and_holds_little(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "WRITE_DEADLINE_S", 30.0)
    slow = await stream.reader()
    await slow.ready()
    quick = await stream.reader()
    await quick.ready()
    text = "x" * 20_000
    for n in range(QUEUE_EVENTS * 2):
        stream.events.publish("job.progress", {"n": n, "text": text})
        if n % 50 == 0:
            await asyncio.sleep(0)
    while True:  # what was in flight arrives, then the loss is told
        message = await slow.message()
        if message.event == "resync":
            break
    stream.events.publish("job.state", {"last": True})
    while (message := await slow.message()).event != "job.state":
        pass
    assert message.data == {"last": True}


async def test_a_reader_that_never_reads_is_cut(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "WRITE_DEADLINE_S", 0.3)
    deaf = await stream.reader()
    await deaf.ready()
    for _ in range(100):
        stream.events.publish("job.progress", {"text": "x" * 500_000})
        await asyncio.sleep(0)
    for _ in range(1000):
        if not stream.readers():
            break
        await asyncio.sleep(0.01)
    assert stream.readers() == 0
    deaf.close()


async def test_keepalive_finds_those_who_left(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "KEEPALIVE_S", 0.05)
    reader = await stream.reader()
    await reader.ready()
    reader.close()
    for _ in range(1000):
        if not stream.readers():
            break
        await asyncio.sleep(0.01)
    assert stream.readers() == 0


async def test_the_end_of_the_server_ends_the_stream(stream: Stream) -> None:
    reader = await stream.reader()
    await reader.ready()
    await stream.server.close()
    with pytest.raises((EOFError, ConnectionError, asyncio.IncompleteReadError)):
        while True:
            await reader.message()


# -- the real process --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def follow(sidecar: Sidecar, last: str | None = None) -> Iterator[socket.socket]:
    with sidecar.connect() as sock:
        header = "" if last is None else f"Last-Event-ID: {last}\r\n"
        auth = "".join(f"{k}: {v}\r\n" for k, v in sidecar.auth().items())
        sock.sendall(f"GET /events HTTP/1.1\r\nHost: {sidecar.host}\r\n{auth}{header}\r\n".encode())
        yield sock


def test_many_readers_leave_and_health_answers(shared: Sidecar) -> None:
    for _ in range(100):
        with follow(shared) as sock:
            assert b"200 OK" in sock.recv(1000)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(follow(shared)) for _ in range(50)]
        for sock in socks:
            data = b""
            while b"event: ready" not in data:
                data += sock.recv(4096)
        assert shared.healthy()
    assert eventually(shared.healthy)
    assert "Traceback" not in shared.stderr()
