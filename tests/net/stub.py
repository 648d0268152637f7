"""A host on loopback that answers exactly as a test says, byte by byte if it wants, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent / "tls" / "root.pem"
_CERTIFICATE = Path(__file__).parent / "tls" / "server.pem"
"""A certificate for localhost and 127.0.0.1, and its key, signed by `ROOT`. They protect nothing."""


@dataclass(frozen=True)
class Asked:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


class Line:
    """The connection under a request. What a handler writes goes out as it is."""

    def __init__(self, sock: socket.socket, stopping: threading.Event) -> None:
        self.sock, self._stopping = sock, stopping
        self.gone = threading.Event()

    def write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def hold(self) -> None:
        """Say nothing until the client hangs up or the test ends."""
        self.sock.settimeout(0.05)
        while not self._stopping.is_set():
            try:
                if not self.sock.recv(4096):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        self.gone.set()
        raise ConnectionAbortedError

    def reset(self) -> None:
        """End it with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionAbortedError

    def hang_up(self) -> None:
        raise ConnectionAbortedError


Handler = Callable[[Asked, Line], None]


def reply(status: int = 200, body: bytes = b"", /, length: int | None = None, **headers: str) -> Handler:
    """A whole answer; `length` is what it claims. Header names have `_` for `-`."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    whole = head + body

    def handle(asked: Asked, line: Line) -> None:
        line.write(head if asked.method == "HEAD" else whole)

    return handle


def json_reply(value: Any, status: int = 200, /, **headers: str) -> Handler:
    return reply(status, json.dumps(value).encode(), Content_Type="application/json", **headers)


def redirect(location: str, status: int = 302) -> Handler:
    return reply(status, b"moved", Location=location)


def raw(data: bytes, *, end: bool = True) -> Handler:
    """Bytes as they are, and then the end of the connection."""

    def handle(_asked: Asked, line: Line) -> None:
        line.write(data)
        if end:
            line.hang_up()

    return handle


def silence(_asked: Asked, line: Line) -> None:
    line.hold()


def reset(_asked: Asked, line: Line) -> None:
    line.reset()


def hang_up(_asked: Asked, line: Line) -> None:
    line.hang_up()


@dataclass
class Stub:
    """`answer[path]` is one handler for ever, or a list that is used up; the last one stays."""

    url: str
    port: int
    answer: dict[str, Handler | list[Handler]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    tunnels: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def handler(self, asked: Asked) -> Handler:
        path = asked.target.partition("?")[0]
        with self.lock:
            self.asked.append(asked)
            found = self.answer.get(path, self.answer.get("*", reply(404)))
            if isinstance(found, list):
                return found.pop(0) if len(found) > 1 else found[0]
            return found

    @property
    def targets(self) -> list[str]:
        with self.lock:
            return [one.target for one in self.asked]


@contextlib.contextmanager
def serve(*, tls: bool = False, tunnel_to: int | None = None, host: str = "127.0.0.1") -> Iterator[Stub]:
    """Run a stub. `tunnel_to` makes it a proxy that answers CONNECT by joining to that port."""
    listener = socket.create_server((host, 0), backlog=256)
    port = listener.getsockname()[1]
    stub = Stub(f"{'https' if tls else 'http'}://{host}:{port}", port)
    stopping = threading.Event()
    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_CERTIFICATE)

    def connection(sock: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: what came is no HTTP
            if tls:
                sock = context.wrap_socket(sock, server_side=True)
                sockets.append(sock)
            with contextlib.closing(sock), sock.makefile("rb") as file:
                while (asked := _read(file, number)) is not None:
                    if asked.method == "CONNECT":
                        stub.tunnels.append(asked.target)
                        with stub.lock:
                            stub.asked.append(asked)
                        _join(sock, tunnel_to, stub, asked)
                        return
                    stub.handler(asked)(asked, Line(sock, stopping))

    def accept() -> None:
        for number in range(1_000_000):
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sockets.append(sock)
            threads.append(threading.Thread(target=connection, args=(sock, number), daemon=True))
            threads[-1].start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield stub
    finally:
        stopping.set()
        # A thread in accept keeps the port open until it returns.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(30)
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()


def _read(file: Any, number: int) -> Asked | None:
    line = file.readline()
    if not line:
        return None
    method, target, _version = line.decode("latin-1").split()
    headers: dict[str, str] = {}
    while (line := file.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return Asked(method, target, headers, file.read(int(headers.get("content-length", "0"))), number)


def _join(sock: socket.socket, port: int | None, stub: Stub, asked: Asked) -> None:
    handler = stub.answer.get("CONNECT")
    if handler is not None or port is None:
        (handler if callable(handler) else reply(502))(asked, Line(sock, threading.Event()))
        return
    with socket.create_connection(("127.0.0.1", port)) as other:
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

        def pump(source: socket.socket, target: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    target.sendall(data)
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_WR)

        back = threading.Thread(target=pump, args=(other, sock), daemon=True)
        back.start()
        pump(sock, other)
        back.join(30)


def closed_port() -> int:
    """A port of loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


class Time:
    """Clock, calendar and sleep of a client in one hand: sleeping moves the clock and takes no time."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def clock(self) -> float:
        with self._lock:
            return self.seconds

    def now(self) -> float:
        return self.clock() + 1_700_000_000.0

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
            self.seconds += seconds

    def options(self) -> dict[str, Any]:
        return {"clock": self.clock, "now": self.now, "sleep": self.sleep}
