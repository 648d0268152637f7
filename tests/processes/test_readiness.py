"""Ready is who listens with our process and answers as described; nobody else."""

from __future__ import annotations

import http.server
import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from pumas.apps.description import Ready
from pumas.processes import readiness
from pumas.processes.readiness import Answer, pauses, probe

ME = [os.getpid()]


class Server(http.server.ThreadingHTTPServer):
    """Answers by `status`, `headers` and `body`, after `pause` seconds."""

    daemon_threads = True
    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012
    body = b"{}"
    pause = 0.0


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        time.sleep(self.server.pause)
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body if self.path == "/ok" else b"")

    def log_message(self, format: str, *_: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as one:
        threading.Thread(target=one.serve_forever, args=(0.05,), daemon=True).start()
        yield one
        one.shutdown()


PLAIN, FIELD = Ready(path="/ok"), Ready(path="/ok", field="system.os", equals="x")


@pytest.mark.parametrize(
    ("ready", "status", "headers", "body", "answer"),
    [
        (PLAIN, 200, {}, b"", Answer.READY),
        (PLAIN, 200, {}, b"not json", Answer.READY),
        (PLAIN, 404, {}, b"", Answer.NOT_YET),
        (PLAIN, 500, {}, b"", Answer.NOT_YET),
        (PLAIN, 302, {"Location": "/ok"}, b"", Answer.NOT_YET),
        (FIELD, 200, {}, b'{"system": {"os": "x"}}', Answer.READY),
        (FIELD, 200, {}, b'{"system": {"os": "y"}}', Answer.NOT_YET),
        (FIELD, 200, {}, b'{"system": "x"}', Answer.NOT_YET),
        (FIELD, 200, {}, b"[]", Answer.NOT_YET),
        (FIELD, 200, {}, b"", Answer.NOT_YET),
        (FIELD, 200, {}, b"[" * 100_000, Answer.NOT_YET),
        (FIELD, 200, {}, b"\xff", Answer.NOT_YET),
        (Ready(path="/ok", header="X-App"), 200, {"x-app": "1"}, b"", Answer.READY),
        (Ready(path="/ok", header="X-App"), 200, {}, b"", Answer.NOT_YET),
    ],
)
def test_answers(
    server: Server, ready: Ready, status: int, headers: dict[str, str], body: bytes, answer: Answer
) -> None:
    server.status, server.headers, server.body = status, headers, body
    assert probe(ready, server.server_port, ME) is answer
    assert probe(ready, server.server_port, []) is Answer.FOREIGN


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    assert probe(PLAIN, port, ME) is Answer.NOT_YET


def test_one_that_accepts_and_says_nothing_costs_little(server: Server) -> None:
    server.pause = 3.0
    begun = time.monotonic()
    assert probe(PLAIN, server.server_port, ME, timeout_s=0.2) is Answer.NOT_YET
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("reply", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200\r\nContent-Length: x\r\n\r\n", b"\0" * 99])
def test_what_is_not_http(reply: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:

        def answer() -> None:
            connection, _ = one.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        assert probe(FIELD, one.getsockname()[1], ME, timeout_s=2.0) is Answer.NOT_YET
        thread.join()


def test_a_port_that_changes_hands_meanwhile_is_nobodys_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    owners = itertools.chain([readiness.Holder.OURS], itertools.repeat(readiness.Holder.OTHERS))
    monkeypatch.setattr(readiness.ports, "holder", lambda *_: next(owners))
    assert probe(PLAIN, server.server_port, ME) is Answer.FOREIGN


def test_pauses_grow_up_to_a_second() -> None:
    first = list(itertools.islice(pauses(), 200))
    assert first[0] == 0.05 and first == sorted(first) and first[-1] == 1.0
    assert sum(first[:8]) < 3
