"""How a body is read, and every way in which it can end."""

from __future__ import annotations

import gzip
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from net.stub import Handler, Stub, json_reply, raw, reply, serve
from pumas.errors import ConnectionFailed, HttpStatus, InvalidReply, RateLimited
from pumas.net import response as module
from pumas.net.client import NetworkClient, Timeouts
from pumas.net.response import MIB, Response

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
QUICK = Timeouts(connect_s=2.0, read_s=0.2)


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def host(request: pytest.FixtureRequest, client: NetworkClient) -> Iterator[Stub]:
    """The same answers over plain TCP and over TLS."""
    from net.stub import ROOT
    from pumas.net.settings import NetworkSettings

    client.configure(NetworkSettings(ca_bundle=str(ROOT)))
    with serve(tls=request.param) as one:
        yield one


def ask(client: NetworkClient, host: Stub, handler: Handler, **options: Any) -> Response:
    host.answer["/x"] = handler
    return client.send("GET", f"{host.url}/x", retry=False, timeouts=QUICK, **options)


def drained(response: Response, size: int = 7) -> bytes:
    buffer, got = memoryview(bytearray(size)), bytearray()
    while count := response.read_into(buffer):
        got += buffer[:count]
    return bytes(got)


def half(data: bytes) -> Handler:
    """The data, and then silence."""

    def handle(_asked: Any, line: Any) -> None:
        line.write(data)
        line.hold()

    return handle


@pytest.mark.parametrize(
    ("handler", "body"),
    [
        (reply(200, b"0123456789"), b"0123456789"),
        (reply(200, b""), b""),
        (reply(206, b"abc", Content_Range="bytes 0-2/9"), b"abc"),
        (raw(b"HTTP/1.1 200 OK\r\n\r\nuntil the end"), b"until the end"),
        (raw(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nokrest"), b"ok"),
        (raw(CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), b"abcde"),
        (raw(b"HTTP/1.1 204 No\r\n\r\n"), b""),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc"), b"abc"),
        (raw(b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"0123456789"), b"0123456789"),
    ],
)
def test_a_whole_body(client: NetworkClient, host: Stub, handler: Handler, body: bytes) -> None:
    with ask(client, host, handler) as response:
        assert drained(response) == body
        assert response.read_into(memoryview(bytearray(5))) == 0, "the end stays the end"
    with ask(client, host, handler) as response:
        assert response.read(100) == body
    assert client.hosts.tally.now.received == 2 * len(body)
    assert client.hosts.tally.now.interrupted == 0


@pytest.mark.parametrize(
    ("handler", "cause"),
    [
        (raw(HEAD + b"01234"), "cut"),
        (raw(HEAD), "cut"),
        (raw(CHUNKED + b"5\r\nab"), "cut"),
        (raw(CHUNKED + b"2\r\nab\r\n"), "cut"),
        (raw(CHUNKED + b"zz\r\nab\r\n"), "cut"),
        (half(HEAD + b"01234"), "timeout"),
        (half(CHUNKED + b"2\r\nab\r\n"), "timeout"),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_a_body_that_breaks_off(client: NetworkClient, host: Stub, handler: Handler, cause: str, whole: bool) -> None:
    with ask(client, host, handler) as response, pytest.raises(ConnectionFailed) as caught:
        response.read(100) if whole else drained(response)
    assert (caught.value.cause, caught.value.host) == (cause, f"127.0.0.1:{host.port}")
    now = client.hosts.tally.now
    assert (now.succeeded, now.failed, now.interrupted) == (1, 0, 1)
    with pytest.raises(ConnectionFailed):
        response.read_into(memoryview(bytearray(5)))


def test_bytes_come_as_they_arrive(client: NetworkClient, stub: Stub) -> None:
    go = threading.Event()

    def slow(_asked: Any, line: Any) -> None:
        line.write(HEAD + b"012")
        assert go.wait(30)
        line.write(b"3456789")

    buffer = memoryview(bytearray(MIB))
    with ask(client, stub, slow) as response:
        assert buffer[: response.read_into(buffer)] == b"012"
        go.set()
        assert drained(response) == b"3456789"


def test_the_encoding_is_left_to_who_asked_for_it(client: NetworkClient, stub: Stub) -> None:
    packed = gzip.compress(b"text" * 100)
    with ask(client, stub, reply(200, packed, Content_Encoding="gzip")) as response:
        assert drained(response) == packed
    with ask(client, stub, reply(200, packed, Content_Encoding="gzip")) as response:
        assert response.read(400) == b"text" * 100
    assert client.hosts.tally.now.received == 2 * len(packed)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(b"[1]", mtime=0)),
        ("x-gzip", gzip.compress(b"[1]")),
        ("deflate", zlib.compress(b"[1]")),
        ("deflate", raw_deflate(b"[1]")),
        ("gzip, deflate", zlib.compress(gzip.compress(b"[1]"))),
        ("identity", b"[1]"),
    ],
    ids=["gzip", "x-gzip", "zlib", "raw deflate", "two", "none"],
)
def test_encodings(client: NetworkClient, stub: Stub, encoding: str, packed: bytes) -> None:
    with ask(client, stub, reply(200, packed, Content_Encoding=encoding)) as response:
        assert response.json() == [1]


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(bytes(MIB)) for _ in range(size // MIB)), packer.flush()])


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", bomb), ("gzip, gzip", lambda size: gzip.compress(bomb(size))), ("identity", bytes)],
    ids=["packed", "packed twice", "plain"],
)
def test_a_bomb_is_given_up_at_the_limit(
    client: NetworkClient, stub: Stub, encoding: str, pack: Callable[[int], bytes]
) -> None:
    with ask(client, stub, reply(200, pack(64 * MIB), Content_Encoding=encoding)) as response:
        tracemalloc.start()
        try:
            with pytest.raises(InvalidReply, match="longer than 1,048,576 bytes"):
                response.read(MIB)
            assert tracemalloc.get_traced_memory()[1] < 12 * MIB
        finally:
            tracemalloc.stop()


def test_a_body_of_just_the_limit_is_read(client: NetworkClient, stub: Stub) -> None:
    for body in (b"x" * 1000, b"x" * 1001):
        with ask(client, stub, reply(200, body)) as response:
            if len(body) == 1000:
                assert response.read(1000) == body
            else:
                with pytest.raises(InvalidReply):
                    response.read(1000)


def test_what_is_packed_badly(client: NetworkClient, stub: Stub) -> None:
    with (
        ask(client, stub, reply(200, b"\x1f\x8b\x08nonsense", Content_Encoding="gzip")) as response,
        pytest.raises(InvalidReply),
    ):
        response.read(100)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<!DOCTYPE html><html>Please log in", "web page"),
        (b"  \n<HTML>", "web page"),
        (b"", "empty"),
        (b"{", "no JSON"),
        (b"NaN", "no JSON"),
        (b"[1] [2]", "no JSON"),
        (b'"\xff"', "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"a": 1e999}', "no JSON"),
    ],
)
def test_what_is_no_json(client: NetworkClient, stub: Stub, body: bytes, words: str) -> None:
    with ask(client, stub, reply(200, body)) as response, pytest.raises(InvalidReply, match=words) as caught:
        response.json()
    assert "log in" not in str(caught.value), "what a stranger wrote is not repeated"


def test_a_body_that_trickles_is_given_up(client: NetworkClient, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WHOLE_BODY_S", 0.0)

    def trickle(_asked: Any, line: Any) -> None:
        line.write(HEAD + b"0")
        line.write(b"1")
        line.hold()

    with ask(client, stub, trickle) as response, pytest.raises(ConnectionFailed, match="too slowly"):
        response.read(100)


def test_closing_from_another_thread_ends_a_read(client: NetworkClient, host: Stub) -> None:
    host.answer["/x"] = half(HEAD + b"012")
    response = client.send("GET", f"{host.url}/x")
    begun, outcome = threading.Event(), list[object]()

    def read() -> None:
        buffer = memoryview(bytearray(100))
        try:
            response.read_into(buffer)
            begun.set()
            outcome.append(response.read_into(buffer))
        except ConnectionFailed as error:
            outcome.append(error.cause)

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(30)
    response.close()
    reader.join(30)
    assert not reader.is_alive() and outcome == ["cut"]
    assert client.hosts.tally.now.interrupted == 0, "we ended it, not the host"
    response.close()
    with pytest.raises(ConnectionFailed, match="closed here"):
        response.read(10)


def test_a_short_rest_is_read_so_that_the_connection_lives(client: NetworkClient, stub: Stub) -> None:
    stub.answer["/x"] = json_reply("x" * 1000)
    stub.answer["/long"] = json_reply("x" * 1_000_000)
    for path in ("/x", "/x", "/long", "/x"):
        client.send("GET", f"{stub.url}{path}").drain()
    first, second, third, fourth = (asked.connection for asked in stub.asked)
    assert first == second == third != fourth


def test_closing_in_the_middle_ends_the_connection(client: NetworkClient, stub: Stub) -> None:
    stub.answer["/x"] = json_reply("x" * 1000)
    with client.send("GET", f"{stub.url}/x") as response:
        response.read_into(memoryview(bytearray(10)))
    with client.send("GET", f"{stub.url}/x") as response:
        assert response.json() == "x" * 1000
    assert stub.asked[0].connection != stub.asked[1].connection


def test_what_a_status_means(client: NetworkClient, stub: Stub, time: Any) -> None:
    def failure(handler: Handler) -> object:
        with ask(client, stub, handler, check=False) as response:
            time.sleep(400)  # until the gate opens again
            return type(response.failure()), response.failed

    assert failure(reply(404)) == (HttpStatus, False)
    assert failure(reply(500)) == (HttpStatus, True)
    assert failure(reply(429)) == (RateLimited, True)
    assert failure(reply(503, Retry_After="3")) == (RateLimited, True)
    assert failure(reply(403, Retry_After="3")) == (RateLimited, True)
    assert failure(reply(403)) == (HttpStatus, False)


def test_a_head_has_no_body(client: NetworkClient, stub: Stub) -> None:
    stub.answer["/x"] = reply(200, b"0123456789")
    with client.send("HEAD", f"{stub.url}/x") as response:
        assert (response.headers["content-length"], response.read(100)) == ("10", b"")


def test_headers_ignore_case_and_keep_repeated_values(client: NetworkClient, stub: Stub) -> None:
    head = b'HTTP/1.1 200 OK\r\nLink: <a>\r\nlink: <b>\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n'
    with ask(client, stub, raw(head)) as response:
        assert (response.headers["LINK"], response.headers.get("etag"), "x" in response.headers) == (
            "<a>, <b>",
            '"x"',
            False,
        )
