"""A real sidecar process for tests: start it, speak to it over plain sockets, wait with a bound, end it.

Nothing here uses the project's own client, so that a test sees exactly the bytes that a stranger would see.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

PROJECT = Path(__file__).resolve().parents[1]
SERVER = PROJECT / "backend" / "rpc_server.py"
BACKENDS = ("python", "rust")
RUST_SWITCH = "PUMAS_RUST_BACKEND"
"""`1` in the environment of the tests, or of one sidecar: the Rust server is started."""
RUST_BINARY = "PUMAS_RUST_BINARY"
TOKEN = "test-token-0123456789abcdef0123456789abcdef"
START_S = 30.0


def eventually(check: Callable[[], T], timeout_s: float = 30.0, what: str = "the condition") -> T:
    """Call `check` until its answer is truthy and return that; fail the test when the time is over."""
    end = time.monotonic() + timeout_s
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true within {timeout_s} s")
        time.sleep(0.01)


def kills(
    count: int, sidecar: Callable[[], Sidecar], prepare: Callable[[], T], act: Callable[[T], object]
) -> Iterator[tuple[T, str]]:
    """Kill the sidecar so often in the middle of `act`, at moments spread over the time that this takes.

    `act` is given what `prepare` makes for each run. Yields that after each kill, and a note of when it was. A run that
    was over before its kill tells how quick they are by now, and is made up for by another.
    """
    given, began = prepare(), time.monotonic()
    act(given)
    took = time.monotonic() - began
    done = runs = 0
    while done < count:
        assert runs < 4 * count, f"{done} kills in {runs} runs"
        given, moment, began = prepare(), took * (done + 0.5) / count, time.monotonic()
        runs += 1
        if killed_after(sidecar(), moment, partial(act, given)):
            done += 1
            yield given, f"killed after {moment * 1000:.1f} of {took * 1000:.1f} ms"
        else:
            took = min(0.95 * took, time.monotonic() - began)
    print(f"{done} kills in {runs} runs")


def killed_after(sidecar: Sidecar, seconds: float, act: Callable[[], object]) -> bool:
    """Whether it was killed before `act` was over; it may have answered just before."""
    killed = threading.Event()

    def kill() -> None:
        killed.set()
        sidecar.process.kill()

    timer = threading.Timer(seconds, kill)
    timer.start()
    try:
        act()
    except (OSError, http.client.HTTPException):
        assert killed.is_set()
    finally:
        timer.cancel()
        timer.join()
    return killed.is_set()


@dataclass
class Reply:
    """One HTTP response; `status` 0 means that the connection was closed without one."""

    status: int
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]


def parse_reply(data: bytes) -> Reply:
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if not lines[0].startswith("HTTP/"):
        return Reply(0, {}, data)
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return Reply(int(lines[0].split(" ", 2)[1]), headers, body)


def request_bytes(
    method: str, path: str, headers: Sequence[tuple[str, str | bytes]], body: bytes = b"", version: str = "1.1"
) -> bytes:
    """A request exactly as given: nothing is added, nothing is checked."""
    out = [f"{method} {path} HTTP/{version}\r\n".encode("latin-1")]
    for name, value in headers:
        out.append(name.encode("latin-1") + b": " + (value if isinstance(value, bytes) else value.encode()) + b"\r\n")
    return b"".join(out) + b"\r\n" + body


class Sidecar:
    """A running server process."""

    def __init__(self, process: subprocess.Popen[str], root: Path, port: int, token: str | None, stderr: Path) -> None:
        self.process, self.root, self.port, self.token = process, root, port, token
        self._stderr = stderr

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        return self.root / "launcher-data"

    def stderr(self) -> str:
        return self._stderr.read_text(encoding="utf-8", errors="replace")

    def log(self) -> str:
        """The log file's text; empty as long as nothing was logged."""
        path = self.data / "logs" / "launcher.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def alive(self) -> bool:
        return self.process.poll() is None

    # -- speaking ----------------------------------------------------------------------------------------------------

    def auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def connect(self, timeout_s: float = 10.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)

    def raw(self, data: bytes, timeout_s: float = 10.0) -> Reply:
        """Send bytes, read until one whole reply is there or the server closes."""
        with self.connect(timeout_s) as sock:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(data)
            return read_reply(sock)

    def http(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout_s: float = 20.0,
    ) -> Reply:
        """A well-behaved request with the token."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(method, path, body=body, headers={**self.auth(), **(headers or {})})
            response = connection.getresponse()
            return Reply(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )
        finally:
            connection.close()

    def post(self, body: bytes, timeout_s: float = 20.0) -> Reply:
        return self.http("POST", "/rpc", {"Content-Type": "application/json"}, body, timeout_s)

    def rpc(self, method: str, params: Any = None, timeout_s: float = 20.0) -> Any:
        """The whole JSON-RPC reply object."""
        message = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
        reply = self.post(json.dumps(message).encode(), timeout_s)
        assert reply.status == 200, (reply.status, reply.body)
        return reply.json

    def result(self, method: str, params: Any = None) -> Any:
        answer = self.rpc(method, params)
        assert "result" in answer, answer
        return answer["result"]

    def healthy(self) -> bool:
        return self.http("GET", "/health").json == {"status": "ok"}

    # -- ending ------------------------------------------------------------------------------------------------------

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 10.0) -> int:
        """The exit status."""
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def rest_of_stdout(self) -> str:
        """What it printed after the port line; call once it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.read()


def read_reply(sock: socket.socket) -> Reply:
    data = b""
    while True:
        head, gap, body = data.partition(b"\r\n\r\n")
        if gap:
            if head.startswith(b"HTTP/1.1 100"):
                data = body
                continue
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if (length and len(body) >= int(length[0].split(b":")[1])) or b" 204 " in head.split(b"\r\n")[0]:
                return parse_reply(data)
        try:
            chunk = sock.recv(65536)
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            return parse_reply(data)
        data += chunk


def closed_by_server(sock: socket.socket, timeout_s: float) -> bool:
    """Whether the server ends the connection within the time, whatever it sends before."""
    sock.settimeout(timeout_s)
    try:
        while sock.recv(65536):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


NOWHERE = "http://127.0.0.1:9"
"""Nobody answers there: no test reaches a real host, or opens a window, by mistake."""
HARMLESS = {
    "HF_ENDPOINT": NOWHERE,
    "PUMAS_GITHUB_API": NOWHERE,
    "PUMAS_OPENER": "true",
    # What the Rust sidecar makes environments with; Python's takes its own interpreter.
    "PUMAS_PYTHON": sys.executable,
}


def environment(token: str | None, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    env = HARMLESS | {name: value for name, value in os.environ.items() if name != "PUMAS_RPC_TOKEN"}
    if token is not None:
        env["PUMAS_RPC_TOKEN"] = token
    return env | dict(extra or {})


def chosen_backend(env: Mapping[str, str]) -> str:
    return "rust" if env.get(RUST_SWITCH) == "1" else "python"


def rust_binary() -> Path:
    """The server named by PUMAS_RUST_BINARY, else the one that was built last. Raises FileNotFoundError."""
    if chosen := os.environ.get(RUST_BINARY):
        return Path(chosen)
    built = [PROJECT / "rust" / "target" / kind / "pumas-rpc" for kind in ("release", "debug")]
    there = [path for path in built if path.is_file()]
    if not there:
        raise FileNotFoundError("the Rust server is not built; build it with: ./launcher build-rust")
    return max(there, key=lambda path: path.stat().st_mtime)


def command(root: Path | None, *arguments: str, script: Path = SERVER, backend: str | None = None) -> list[str]:
    """How a sidecar is started; `script` other than the server itself is Python's in any case."""
    place = [] if root is None else ["--launcher-root", str(root)]
    if script == SERVER and (backend or chosen_backend(os.environ)) == "rust":
        return [str(rust_binary()), *place, *arguments]
    return [sys.executable, str(script), *place, *arguments]


def start(
    root: Path,
    *arguments: str,
    token: str | None = TOKEN,
    script: Path = SERVER,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    prefix: Sequence[str] = (),
    ready: bool = True,
) -> Sidecar:
    """Start a sidecar on a port of its own choice and wait for its port line (and, if `ready`, for its methods)."""
    stderr = root.parent / f"{root.name}-stderr-{time.monotonic_ns()}.txt"
    own = environment(token, env)
    with stderr.open("wb") as sink:
        process = subprocess.Popen(
            [*prefix, *command(root, *arguments, script=script, backend=chosen_backend(own))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            env=own,
            cwd=cwd,
            text=True,
        )
    assert process.stdout is not None
    line = read_line(process, START_S)
    if not line.startswith("RPC_PORT="):
        process.kill()
        raise AssertionError(f"no port line but {line!r}; stderr: {stderr.read_text()}")
    sidecar = Sidecar(process, root, int(line.removeprefix("RPC_PORT=")), token, stderr)
    if ready:
        sidecar.rpc("health_check", timeout_s=START_S)
    return sidecar


def read_line(process: subprocess.Popen[str], timeout_s: float) -> str:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], timeout_s)
    return process.stdout.readline().strip() if readable else ""


def run_to_end(
    root: Path | None, *arguments: str, token: str | None = TOKEN, timeout_s: float = 30.0
) -> subprocess.CompletedProcess[str]:
    """Start a sidecar that is expected to end by itself."""
    return subprocess.run(
        command(root, *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(token),
        text=True,
        timeout=timeout_s,
    )


def process_gone(pid: int) -> bool:
    """Ended; a zombie that nobody has collected counts as ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


@contextlib.contextmanager
def stopped(sidecar: Sidecar) -> Iterator[None]:
    """The process is frozen inside the block."""
    sidecar.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        sidecar.signal(signal.SIGCONT)
