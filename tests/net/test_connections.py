"""Giving up: names that nobody answers, heads that never end."""

from __future__ import annotations

import socket
import threading
import time as clock
from typing import Any

import pytest

from net.stub import Stub, json_reply, reply
from pumas.errors import Cancelled, ConnectionFailed
from pumas.net.client import NetworkClient, Timeouts


def resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A black hole for names; the event lets the look-ups end."""
    release = threading.Event()

    def hang(*_args: Any, **_options: Any) -> Any:
        release.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    return release


def test_a_look_up_that_hangs_ends_in_time(client: NetworkClient, monkeypatch: pytest.MonkeyPatch) -> None:
    release = resolver_that_hangs(monkeypatch)
    began = clock.monotonic()
    with pytest.raises(ConnectionFailed) as caught:
        client.send("GET", "http://h.example/", retry=False, timeouts=Timeouts(connect_s=0.1))
    assert caught.value.cause == "timeout" and clock.monotonic() - began < 10
    release.set()


def test_a_look_up_that_hangs_can_be_stopped(client: NetworkClient, monkeypatch: pytest.MonkeyPatch) -> None:
    release = resolver_that_hangs(monkeypatch)
    asked: list[int] = []

    def stop() -> None:
        asked.append(1)
        if len(asked) > 3:
            raise Cancelled("no more")

    with pytest.raises(Cancelled):
        client.send("GET", "http://h.example/", stop=stop)
    release.set()


def test_a_connection_that_comes_too_late_is_closed(
    client: NetworkClient, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, made = threading.Event(), list[socket.socket]()
    real = socket.socket.connect

    def slow(self: socket.socket, address: Any) -> None:
        made.append(self)
        assert release.wait(30)
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", slow)
    with pytest.raises(ConnectionFailed):
        client.send("GET", f"{stub.url}/x", retry=False, timeouts=Timeouts(connect_s=0.05))
    release.set()
    for _ in range(500):
        if made and made[0].fileno() == -1:
            break
        clock.sleep(0.01)
    assert made[0].fileno() == -1 and not stub.asked


@pytest.mark.parametrize("endless", [b"X", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "])
def test_a_head_that_trickles_is_given_up(client: NetworkClient, stub: Stub, endless: bytes) -> None:
    def trickle(_asked: Any, line: Any) -> None:
        line.write(endless)
        try:
            while True:
                line.write(endless if b"100" in endless else b"x")
                clock.sleep(0.02)
        except OSError:
            line.hang_up()

    stub.answer["/x"] = trickle
    with pytest.raises(ConnectionFailed) as caught:
        client.send("GET", f"{stub.url}/x", retry=False, timeouts=Timeouts(read_s=0.3))
    assert caught.value.cause == "timeout"


def test_a_slow_body_after_a_quick_head_has_all_the_time(client: NetworkClient, stub: Stub) -> None:
    def steady(_asked: Any, line: Any) -> None:
        line.write(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n")
        for _ in range(12):
            clock.sleep(0.05)
            line.write(b"x")

    stub.answer["/x"] = steady
    with client.send("GET", f"{stub.url}/x", timeouts=Timeouts(read_s=0.4)) as response:
        assert response.read(100) == b"x" * 12, "only silence counts, not the sum"


def test_the_time_for_a_head_begins_anew_on_a_used_connection(client: NetworkClient, stub: Stub) -> None:
    def late(asked: Any, line: Any) -> None:
        clock.sleep(0.3)
        json_reply("late")(asked, line)

    stub.answer["/x"] = [reply(200, b"x"), late]
    client.send("GET", f"{stub.url}/x", timeouts=Timeouts(read_s=0.1)).drain()
    with client.send("GET", f"{stub.url}/x", timeouts=Timeouts(read_s=5)) as response:
        assert response.json() == "late"
    assert stub.asked[0].connection == stub.asked[1].connection
