"""A sidecar with a job that tests steer, and servers that misbehave on purpose."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sidecar as running
from sidecar import Sidecar

JOB_SERVER = Path(__file__).with_name("job_server.py")


@pytest.fixture(scope="module")
def jobs_sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """One sidecar with `start_test_job` for a module."""
    one = running.start(tmp_path_factory.mktemp("jobs") / "root", script=JOB_SERVER)
    yield one
    one.close()


class Trap:
    """A loopback server that answers each connection as it was told to, and keeps what it was sent.

    `script` gives the reply to the n-th request; the connection is closed after it.
    """

    def __init__(self, script: Callable[[int], bytes], port: int = 0) -> None:
        self.requests: list[bytes] = []
        self._script = script
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(30)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                self.requests.append(_read_request(connection))
                connection.sendall(self._script(len(self.requests) - 1))


def _read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data and (chunk := connection.recv(65536)):
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length and (chunk := connection.recv(65536)):
        body += chunk
    return head + b"\r\n\r\n" + body


@pytest.fixture
def trap() -> Iterator[Callable[..., Trap]]:
    made: list[Trap] = []

    def make(script: Callable[[int], bytes], port: int = 0) -> Trap:
        made.append(Trap(script, port))
        return made[-1]

    yield make
    for one in made:
        one.close()
