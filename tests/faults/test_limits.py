"""Floods, giants and dawdlers: what one caller does costs the others nothing, and memory stays flat."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import psutil
import pytest

import sidecar as running
from pumas.events.stream import EventStream
from pumas.rpc import connections
from pumas.rpc import http as door
from pumas.rpc.dispatch import MAX_IN_FLIGHT, Dispatcher
from pumas.rpc.models import NoParams
from pumas.rpc.registry import Methods
from pumas.rpc.wrap import Wrapper, wrappers
from sidecar import TOKEN, Sidecar, eventually

MIB = 1024 * 1024
CALL = b'{"jsonrpc":"2.0","method":"health_check","id":1}'
LISTING = b'{"jsonrpc":"2.0","method":"list_jobs","params":{},"id":1}'


def rss(sidecar: Sidecar) -> int:
    return psutil.Process(sidecar.pid).memory_info().rss


def head(sidecar: Sidecar, *lines: str) -> bytes:
    fixed = ["POST /rpc HTTP/1.1", f"Host: {sidecar.host}", f"Authorization: Bearer {TOKEN}"]
    return "\r\n".join([*fixed, "Content-Type: application/json", *lines, "", ""]).encode()


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for thousands of sockets in the test's own process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192) if hard > 0 else 8192, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- giants ---------------------------------------------------------------------------------------------------------


def test_the_largest_body_is_read_and_one_byte_more_is_not(sidecar: Sidecar) -> None:
    frame = b'{"jsonrpc":"2.0","method":"get_job","params":{"job_id":"%s"},"id":7}'
    largest = frame % (b"x" * (32 * MIB - len(frame) + 2))
    assert len(largest) == 32 * MIB
    reply = sidecar.post(largest, timeout_s=60)
    assert (reply.error["code"], reply.json["id"]) == (-32602, 7)
    assert sidecar.raw(head(sidecar, f"Content-Length: {32 * MIB + 1}"), timeout_s=30).status == 413


def test_a_chunked_body_is_cut_at_the_limit(sidecar: Sidecar) -> None:
    chunk = b"%x\r\n%s\r\n" % (MIB, b" " * MIB)
    with sidecar.connect(20) as sock:
        sock.sendall(head(sidecar, "Transfer-Encoding: chunked"))
        sent = 0
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                sock.sendall(chunk)
                sent += 1
        # The server may have hung up by now; what it said before is lost then, and the end is what counts.
        assert running.read_reply(sock).status in (0, 413)
        assert sent < 64 or running.closed_by_server(sock, 5)
    assert sidecar.healthy()


def test_large_texts_do_not_hold_up_the_others(sidecar: Sidecar) -> None:
    """Reading 20 MB of brackets and numbers takes long; a short call beside it does not."""
    giants = [
        b'{"jsonrpc":"2.0","method":"get_job","params":{"job_id":[%s]},"id":1}' % b",".join([b"[]"] * 4_000_000),
        b'{"jsonrpc":"2.0","method":"get_job","params":{"job_id":[%s1]},"id":1}' % (b"1," * 8_000_000),
        b"[" * (20 * MIB),
        b'{"a":' * (4 * MIB),
        b'"' + b"\\u0041" * (3 * MIB) + b'"',
    ]
    slowest = longest = 0.0
    answers: list[int] = []

    def send(body: bytes) -> None:
        nonlocal longest
        began = time.monotonic()
        answers.append(sidecar.post(body, timeout_s=120).error["code"])
        longest = max(longest, time.monotonic() - began)

    sender = threading.Thread(target=lambda: [send(body) for body in giants])
    sender.start()
    while sender.is_alive():
        started = time.monotonic()
        assert sidecar.healthy()
        slowest = max(slowest, time.monotonic() - started)
    sender.join()
    assert answers == [-32602, -32602, -32700, -32700, -32600]
    assert slowest < max(5, longest / 2), f"{slowest:.1f} s beside texts of up to {longest:.1f} s"


def test_many_large_bodies_at_once_do_not_fill_the_memory(sidecar: Sidecar) -> None:
    """Twenty callers promise 30 MiB each and send all but the end of it: most are refused, none is kept."""
    before = rss(sidecar)
    socks = [sidecar.connect(20) for _ in range(20)]
    try:

        def send(sock: socket.socket) -> None:
            with contextlib.suppress(OSError):
                sock.sendall(head(sidecar, f"Content-Length: {30 * MIB}"))
                for _ in range(29):
                    sock.sendall(b" " * MIB)

        threads = [threading.Thread(target=send, args=(sock,)) for sock in socks]
        for thread in threads:
            thread.start()
        peak = before
        while any(thread.is_alive() for thread in threads):
            peak = max(peak, rss(sidecar))
            assert sidecar.healthy()
        assert peak - before < 300 * MIB
    finally:
        for sock in socks:
            sock.close()
    assert sidecar.healthy()


# -- floods ---------------------------------------------------------------------------------------------------------


def flood(sidecar: Sidecar, callers: int, each: int, body: bytes = LISTING) -> list[dict[str, Any]]:
    """`callers` connections at the same time with `each` calls; all their replies."""
    answers: list[dict[str, Any]] = []
    gate = threading.Barrier(callers)

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=60)
        headers = {**sidecar.auth(), "Content-Type": "application/json"}
        gate.wait()
        for _ in range(each):
            connection.request("POST", "/rpc", body=body, headers=headers)
            answers.append(json.loads(connection.getresponse().read()))
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.usefixtures("many_files")
def test_a_thousand_calls_at_once_are_all_answered_and_memory_is_flat(sidecar: Sidecar) -> None:
    flood(sidecar, 50, 10)
    before = rss(sidecar)
    for callers, each in ((10, 100), (100, 10), (1000, 1)):
        answers = flood(sidecar, callers, each)
        assert len(answers) == callers * each
        codes = {answer["error"]["code"] if "error" in answer else 0 for answer in answers}
        assert codes <= {0, -32000}
    assert rss(sidecar) - before < 40 * MIB
    assert sidecar.result("list_jobs")["success"]


@pytest.mark.usefixtures("many_files")
def test_a_thousand_without_a_token(launch: Callable[..., Sidecar]) -> None:
    """Every new connection asks the kernel whose it is; that must not add up."""
    sidecar = launch(token=None)
    answers = flood(sidecar, 500, 1, CALL)
    assert [answer["result"] for answer in answers] == [{"status": "ok"}] * 500


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("soft", [256, 4096])
def test_idle_and_half_open_connections_cost_the_others_nothing(launch: Callable[..., Sidecar], soft: int) -> None:
    """A thousand of them, also where the limit of open files that the sidecar inherits is small."""
    sidecar = launch(prefix=["prlimit", f"--nofile={soft}:4096"])
    before = rss(sidecar)
    kinds = [
        b"",
        b"POST /rpc",
        b"POST /rpc HTTP/1.1\r\nHost: x",
        head(sidecar, "Content-Length: 1000"),
        head(sidecar, "Content-Length: 1000") + b"{",
        head(sidecar, "Transfer-Encoding: chunked") + b"5\r\nab",
        head(sidecar, f"Content-Length: {len(CALL)}") + CALL,
        head(sidecar, "Content-Length: 0").replace(b"POST /rpc", b"GET /events"),
    ]
    with contextlib.ExitStack() as stack:
        for number in range(1000):
            sock = stack.enter_context(sidecar.connect())
            sock.sendall(kinds[number % len(kinds)])
        times = []
        for _ in range(50):
            started = time.monotonic()
            assert sidecar.healthy()
            times.append(time.monotonic() - started)
        assert sorted(times)[25] < 0.5
        assert rss(sidecar) - before < 60 * MIB
    assert eventually(sidecar.healthy)
    assert "Traceback" not in sidecar.stderr()


# -- dawdlers, on a server in this process with short deadlines -----------------------------------------------------


class Room:
    def __init__(self, server: door.HttpServer, port: int, gate: asyncio.Event) -> None:
        self.server, self.port, self.gate = server, port, gate

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    def request(self, body: bytes, length: int | None = None) -> bytes:
        size = len(body) if length is None else length
        lines = ["POST /rpc HTTP/1.1", f"Host: 127.0.0.1:{self.port}", f"Authorization: Bearer {TOKEN}"]
        return (
            "\r\n".join([*lines, "Content-Type: application/json", f"Content-Length: {size}", "", ""]).encode() + body
        )

    async def call(self, method: str) -> Any:
        reader, writer = await self.connect()
        writer.write(self.request(json.dumps({"method": method, "id": 1}).encode()))
        header = await reader.readuntil(b"\r\n\r\n")
        length = int(header.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        answer = json.loads(await reader.readexactly(length))
        writer.close()
        return answer


@pytest.fixture
async def room(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Room]:
    gate = asyncio.Event()
    methods = Methods()
    for name, kind in (("block", "raw"), ("long_text", "raw"), ("health_check", "builtin")):
        monkeypatch.setitem(wrappers(), name, Wrapper(kind, None, {}))

    @methods.row("block", NoParams, bool)
    async def block(_p: NoParams) -> bool:
        """Wait until the test lets go."""
        await gate.wait()
        return True

    @methods.row("long_text", NoParams, str)
    async def long_text(_p: NoParams) -> str:
        """Answer more than a pipe holds, and less than what is sent piece by piece."""
        return "x" * (door.LARGE_REPLY_BYTES - 1000)

    @methods.row("health_check", NoParams, dict[str, str])
    async def health(_p: NoParams) -> dict[str, str]:
        """Be there."""
        return {"status": "ok"}

    server = door.HttpServer(token=TOKEN, events=EventStream())
    port = await server.listen("127.0.0.1", 0)
    server.ready(Dispatcher(methods))
    yield Room(server, port, gate)
    gate.set()
    await server.close()


def test_the_real_deadlines() -> None:
    """Each slow or half-open connection is cut within 30 seconds."""
    assert (
        max(connections.HEADER_DEADLINE_S, connections.KEEPALIVE_S, door.BODY_DEADLINE_S, door.WRITE_DEADLINE_S) <= 30
    )


@pytest.mark.parametrize("start", [b"", b"P", b"POST /rpc HTTP/1.1\r\n", b"POST /rpc HTTP/1.1\r\nHost: x\r\nX-"])
async def test_a_header_that_does_not_end_is_cut(room: Room, monkeypatch: pytest.MonkeyPatch, start: bytes) -> None:
    monkeypatch.setattr(connections, "HEADER_DEADLINE_S", 0.2)
    reader, writer = await room.connect()
    writer.write(start)

    async def trickle() -> None:
        with contextlib.suppress(ConnectionError):
            while start.endswith(b"-"):  # in the middle of a header any letter is welcome
                writer.write(b"a")
                await asyncio.sleep(0.02)

    slow = asyncio.create_task(trickle())
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 30) == b""
    slow.cancel()
    assert (await room.call("health_check"))["result"] == {"status": "ok"}


async def test_an_idle_connection_is_cut_after_its_last_call(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "KEEPALIVE_S", 0.2)
    monkeypatch.setattr(connections, "HEADER_DEADLINE_S", 0.1)
    reader, writer = await room.connect()
    for _ in range(3):
        writer.write(room.request(CALL))
        await asyncio.wait_for(reader.readuntil(b'"id":1}'), 30)
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 30) == b""
    writer.close()


async def test_a_second_header_that_does_not_end_is_cut(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "KEEPALIVE_S", 0.2)
    monkeypatch.setattr(connections, "HEADER_DEADLINE_S", 0.1)
    reader, writer = await room.connect()
    writer.write(room.request(CALL))
    await asyncio.wait_for(reader.readuntil(b'"id":1}'), 30)

    async def trickle() -> None:
        writer.write(b"POST /rpc HTTP/1.1\r\nX-")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"a")
                await asyncio.sleep(0.02)

    slow = asyncio.create_task(trickle())
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 30) == b""
    slow.cancel()


async def test_a_caller_that_takes_no_reply_is_cut(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits to be sent to it would keep a connection that is closed politely for ever."""
    monkeypatch.setattr(connections, "KEEPALIVE_S", 0.2)
    monkeypatch.setattr(connections, "HEADER_DEADLINE_S", 0.1)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", room.port))
        sock.sendall(room.request(b'{"method":"long_text","id":1}') * 8)
        served = room.server._connections
        assert served is not None
        async with asyncio.timeout(30):
            while not served.connections:
                await asyncio.sleep(0.01)
            while served.connections:
                await asyncio.sleep(0.01)
    assert (await room.call("health_check"))["result"] == {"status": "ok"}


async def test_a_body_that_does_not_end_is_cut(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "BODY_DEADLINE_S", 0.2)
    reader, writer = await room.connect()
    writer.write(room.request(CALL, length=1000))
    assert (await asyncio.wait_for(reader.readline(), 30)).startswith(b"HTTP/1.1 408")
    writer.write(b" " * 10)
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), 30)
    assert (await room.call("health_check"))["result"] == {"status": "ok"}


async def test_a_long_call_is_not_cut_by_the_deadlines_of_connections(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEADER_DEADLINE_S", 0.1)
    monkeypatch.setattr(connections, "KEEPALIVE_S", 0.1)
    waiting = asyncio.create_task(room.call("block"))
    await asyncio.sleep(0.4)
    assert not waiting.done()
    room.gate.set()
    assert (await asyncio.wait_for(waiting, 30))["result"] is True


async def test_sixty_four_in_flight_over_sockets(room: Room) -> None:
    waiting = [asyncio.create_task(room.call("block")) for _ in range(MAX_IN_FLIGHT)]
    over: list[Any] = []
    while not any("error" in answer for answer in over):  # until all of them have arrived
        over.append(await asyncio.wait_for(room.call("block"), 30) if len(over) or await _all_in(room) else {})
    assert over[-1]["error"]["code"] == -32000
    assert (await asyncio.wait_for(room.call("health_check"), 30))["result"] == {"status": "ok"}
    room.gate.set()
    assert [answer["result"] for answer in await asyncio.gather(*waiting)] == [True] * MAX_IN_FLIGHT


async def _all_in(room: Room) -> bool:
    dispatcher = await room.server._dispatcher  # type: ignore[misc] # pyright: ignore[reportPrivateUsage]
    for _ in range(1000):
        if dispatcher._in_flight >= MAX_IN_FLIGHT:
            return True
        await asyncio.sleep(0.005)
    raise AssertionError("the calls did not arrive")


async def test_bodies_under_way_are_bounded_together(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_BUFFERED_BYTES", 100_000)
    holders = [await room.connect() for _ in range(3)]
    for _, writer in holders:
        writer.write(room.request(b" " * 45_000, length=50_000))
    first = [asyncio.create_task(reader.readline()) for reader, _ in holders]
    done, _ = await asyncio.wait(first, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result().split()[1] for task in done] == [b"503"]
    for _, writer in holders:
        with contextlib.suppress(ConnectionError):
            writer.write(b" " * 5_000)
    await asyncio.wait(first, timeout=30)
    assert sorted(task.result().split()[1] for task in first) == [b"200", b"200", b"503"]
    assert (await room.call("health_check"))["result"] == {"status": "ok"}


# -- other users of the machine -------------------------------------------------------------------------------------

STRANGER = """
import encodings.idna, os, socket, sys
port, uid, body, leave = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode(), sys.argv[4] == "leave"
if uid:
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
sock = socket.create_connection(("127.0.0.1", port))
sock.sendall(b"POST /rpc HTTP/1.1\\r\\nHost: 127.0.0.1:%d\\r\\nContent-Type: application/json\\r\\n"
             b"Content-Length: %d\\r\\nConnection: close\\r\\n\\r\\n%s" % (port, len(body), body))
if not leave:
    print(sock.recv(65536).decode().split("\\r\\n")[0])
"""


def stranger(sidecar: Sidecar, uid: int, body: bytes = CALL, leave: str = "stay") -> str:
    arguments = [sys.executable, "-c", STRANGER, str(sidecar.port), str(uid), body.decode(), leave]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=True).stdout.strip()


def test_callers_of_another_user_are_refused_without_a_token(open_sidecar: Sidecar) -> None:
    """Only root can become somebody else; for everybody else the table in tests/rpc/test_access.py stands alone."""
    assert "200" in stranger(open_sidecar, 0)
    if os.geteuid() != 0:
        return
    for uid in (1, 1000, 65534):
        assert "403" in stranger(open_sidecar, uid)


def test_a_stranger_that_leaves_at_once_is_not_taken_for_us(launch: Callable[..., Sidecar]) -> None:
    """A closed socket shows no owner in the kernel's table; a frozen server looks only after it was closed."""
    sidecar = launch(token=None)
    shutdown = b'{"jsonrpc":"2.0","method":"shutdown","id":1}'
    for _ in range(5):
        with running.stopped(sidecar):
            stranger(sidecar, 65534 if os.geteuid() == 0 else 0, shutdown, "leave")
        time.sleep(0.1)
        assert sidecar.alive()
        assert sidecar.healthy()


def test_with_a_token_the_user_does_not_matter(shared: Sidecar) -> None:
    assert "401" in stranger(shared, 65534 if os.geteuid() == 0 else 0)
