"""Servers as processes of their own, and clients that load them without being the bottleneck.

Replies are counted by their length: all replies to one request are equally long, which the first one shows.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import multiprocessing
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any

from sidecar import command, environment

BASELINES = Path(__file__).resolve().parent / "baselines"
TOKEN = "benchmark-token-of-no-importance"
START_LIMIT_S = 60.0
REPLY_LIMIT_S = 30.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Program:
    """A running server that has printed `RPC_PORT=`; `start_s` is how long that took, in seconds."""

    def __init__(self, *command: str | Path, errors: Path | None = None) -> None:
        words = [*map(str, command)]
        started = time.perf_counter()
        with errors.open("wb") if errors else contextlib.nullcontext(subprocess.DEVNULL) as stderr:
            self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=stderr, env=environment(TOKEN))
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        self.start_s = time.perf_counter() - started
        if not line.startswith("RPC_PORT="):
            self.close()
            raise RuntimeError(f"{' '.join(words)} printed {line!r} instead of its port")
        self._started = started
        self.port = int(line.partition("=")[2])
        self.pid = self._process.pid

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def call(self, method: str, **params: Any) -> Any:
        """The result of one JSON-RPC call on a connection of its own. Raises RuntimeError when it ends in an error."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        with contextlib.closing(connection):
            connection.request("POST", "/rpc", body, headers)
            reply = json.loads(connection.getresponse().read())
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']}")
        return reply["result"]

    def first_reply_s(self) -> float:
        """Seconds from the start of the process to the end of this, its first, reply."""
        self.call("health_check")
        return time.perf_counter() - self._started

    # -- what the kernel says (proc(5)) ------------------------------------------------------------------------------

    def rss_mb(self) -> float:
        return rss_mb(self.pid)

    def cpu_s(self) -> float:
        """Processor time of all threads so far, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def wakes(self) -> int:
        """How often any thread has gone to sleep of its own accord so far."""
        return sum(_voluntary_switches(task / "status") for task in Path(f"/proc/{self.pid}/task").iterdir())


def rss_mb(pid: int) -> float:
    """Resident memory of a process in MB (10^6 bytes)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1e6


def _voluntary_switches(status: Path) -> int:
    for line in status.read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    raise ValueError(f"{status} has no voluntary_ctxt_switches")


def sidecar(root: Path, errors: Path | None = None, backend: str | None = None) -> Program:
    """The sidecar on the launcher root `root`, started as a desktop shell starts it; `backend` is the one that the
    environment names unless given."""
    root.mkdir(parents=True, exist_ok=True)
    return Program(*command(root, backend=backend), errors=errors)


def baseline(name: str) -> Program:
    return Program(sys.executable, BASELINES / f"{name}.py")


# -- clients ---------------------------------------------------------------------------------------------------------


def request_bytes(port: int, method: str, params: Mapping[str, Any] | None = None, token: str = TOKEN) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}).encode()
    head = (
        f"POST /rpc HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Client:
    """One kept connection that asks again and again what `request` says, over a plain socket."""

    def __init__(self, port: int, method: str, params: Mapping[str, Any] | None = None, token: str = TOKEN) -> None:
        self.request = request_bytes(port, method, params, token)
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=REPLY_LIMIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self) -> None:
        self.socket.sendall(self.request)

    def ask(self) -> tuple[float, bytes | bytearray]:
        """Ask once: seconds until the whole reply was there, and the reply's body. Raises like `receive`."""
        started = time.perf_counter()
        self.send()
        body = self.receive()
        return time.perf_counter() - started, body

    def receive(self) -> bytes | bytearray:
        """The body of the next reply.

        Raises:
            ConnectionError: the server closed the connection or did not answer with 200.
        """
        head, _, start = self.receive_some().partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(head.decode(errors="replace"))
        length = _content_length(head)
        if len(start) == length:
            return start
        body = bytearray(length)
        body[: len(start)] = start
        rest = memoryview(body)[len(start) :]
        while rest:
            arrived = self.socket.recv_into(rest)
            if not arrived:
                raise ConnectionError("the server closed the connection")
            rest = rest[arrived:]
        return body

    def receive_some(self) -> bytes:
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data


@contextlib.contextmanager
def callers(port: int, method: str, count: int) -> Iterator[None]:
    """`count` processes that each ask `method` again as soon as they are answered, while the block runs."""
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Semaphore(0)
    processes = [spawn.Process(target=_ask_forever, args=(port, method, ready), daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        for _ in processes:
            if not ready.acquire(timeout=START_LIMIT_S):
                raise TimeoutError("a calling process gave no sign")
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _ask_forever(port: int, method: str, ready: Semaphore) -> None:
    with Client(port, method) as client:
        client.ask()
        ready.release()
        while True:
            client.ask()


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ConnectionError("a reply without a length")


def requests_per_second(port: int, method: str, *, connections: int, seconds: float) -> float:
    """Replies per second when each of `connections` asks again as soon as it is answered.

    It lasts `seconds`, and until there was a reply.
    """
    clients = [Client(port, method) for _ in range(connections)]
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for client in clients:
            stack.enter_context(client)
            client.ask()
        length = _reply_length(clients[0])
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, [client, length])
        return _drive(selector, clients, length, seconds)


def _reply_length(client: Client) -> int:
    client.send()
    data = client.receive_some()
    while b"\r\n\r\n" not in data:
        data += client.receive_some()
    head, separator, body = data.partition(b"\r\n\r\n")
    length = _content_length(head)
    missing = length - len(body)
    while missing > 0:
        missing -= len(client.receive_some())
    return len(head) + len(separator) + length


def _drive(selector: selectors.BaseSelector, clients: list[Client], length: int, seconds: float) -> float:
    answered = 0
    for client in clients:
        client.send()
    started = time.perf_counter()
    while (now := time.perf_counter()) < started + seconds or not answered:
        ready = selector.select(REPLY_LIMIT_S)
        if not ready:
            raise ConnectionError("the server does not answer")
        for key, _ in ready:
            client, missing = key.data
            missing -= len(client.receive_some())
            if missing == 0:
                answered += 1
                missing = length
                client.send()
            key.data[1] = missing
    return answered / (now - started)
