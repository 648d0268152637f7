"""Starts a sidecar as a child process, waits for the port it tells, and stops it again.

The child gets its token by the environment, tells its port by its own pipe, and ends with its parent. When another
process was faster in starting one for the same root, that one is used.
"""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import re
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from pumas.client import discovery
from pumas.client.discovery import Endpoint
from pumas.client.errors import NotReachable

TOKEN_VARIABLE = "PUMAS_RPC_TOKEN"  # noqa: S105 - the variable's name
PORT_PREFIX = "RPC_PORT="
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
ENDING_S = 1.0
OWNER_POLL_S = 0.02
# The exit status by which `pumas serve` says that another sidecar owns the root.
EXIT_IN_USE = 3
_TAIL_LINES = 30
# Time, level and logger of a log line, which say nothing to the reader of an error.
_NO_REASON = re.compile(r"^\d{4}-\S+ (?:DEBUG|INFO) ")
_LOG_PREFIX = re.compile(r"^\d{4}-\S+ [A-Z]+ [\w.]+: ")


class Sidecar:
    """A running child. `endpoint` is where to call it."""

    def __init__(self, child: _Child, endpoint: Endpoint) -> None:
        self._child = child
        self._process = child.process
        self._stopped = False
        self.endpoint = endpoint

    def ended(self) -> str | None:
        """How it ended, in its own last words where it did so by itself; None while it runs."""
        if self._stopped:
            return "This client is closed, and the sidecar that it started has ended with it. Make a new client."
        with contextlib.suppress(subprocess.TimeoutExpired):
            # A connection breaks a moment before the process is gone.
            return f"The sidecar ended with status {self._process.wait(ENDING_S)}: {self._child.last_words()}"
        return None

    def stop(self) -> None:
        """Ask it to end and wait until it has; twice is harmless."""
        self._stopped = True
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


class _Child:
    """Reads both pipes of a starting child to their ends, so that it never blocks on a full one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        # A port, or None at the end of stdout: which comes first decides.
        self.port: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
        assert process.stdout is not None and process.stderr is not None
        threading.Thread(target=self._read_stdout, args=(process.stdout,), daemon=True).start()
        self._stderr = threading.Thread(target=self._read_stderr, args=(process.stderr,), daemon=True)
        self._stderr.start()

    def _read_stdout(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                number = line.removeprefix(PORT_PREFIX).strip()
                if line.startswith(PORT_PREFIX) and number.isdecimal():
                    self.port.put(int(number))
        self.port.put(None)

    def _read_stderr(self, stream: IO[str]) -> None:
        with stream:
            self.tail.extend(stream)

    def last_words(self) -> str:
        self._stderr.join(1.0)
        lines = [_LOG_PREFIX.sub("", line).strip() for line in self.tail if line.strip() and not _NO_REASON.match(line)]
        return lines[-1][:500] if lines else "it said nothing"

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()


def start(root: Path, timeout_s: float = START_TIMEOUT_S) -> Sidecar | Endpoint:
    """Start a sidecar for `root`, or return the endpoint of the one that another process has just started.

    Raises:
        NotReachable: it ended, or told no port in time; the message has the last thing it said.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        token = secrets.token_urlsafe(32)
        child = _Child(_spawn(root, token))
        try:
            port = child.port.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            child.kill()
            raise NotReachable(
                f"The sidecar told no port within {timeout_s:.0f} s: {child.last_words()} (log: launcher-data/logs)"
            ) from None
        except BaseException:
            child.kill()
            raise
        if port is not None:
            return Sidecar(child, _own_endpoint(child.process.pid, port, token))
        status = child.process.wait()
        winner = _await_owner(root, deadline) if status == EXIT_IN_USE else None
        if winner is not None:
            return winner
        if status != EXIT_IN_USE or time.monotonic() > deadline:
            raise NotReachable(f"The sidecar ended with status {status} while starting: {child.last_words()}")


def _spawn(root: Path, token: str) -> subprocess.Popen[str]:
    # By path, not by -m: the child must run this very package, wherever it was imported from.
    program = Path(__file__).resolve().parents[1] / "__main__.py"
    command = [sys.executable, str(program), "serve", "--root", str(root), "--port", "0", "--parent", str(os.getpid())]
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, TOKEN_VARIABLE: token, "PYTHONUNBUFFERED": "1"},
            # Ctrl-C in a terminal reaches the whole group; the parent decides when its sidecar ends.
            start_new_session=True,
        )
    except OSError as error:
        raise NotReachable(f"The sidecar could not be started: {error.strerror or error}.") from None


def _own_endpoint(pid: int, port: int, token: str) -> Endpoint:
    import psutil

    with contextlib.suppress(psutil.Error):
        return Endpoint(f"http://127.0.0.1:{port}", token, psutil.Process(pid))
    raise NotReachable("The sidecar ended right after it had started; its log is in launcher-data/logs.")


def _await_owner(root: Path, deadline: float) -> Endpoint | None:
    """The owner holds the lock a moment before it writes where it listens. None when it is gone again."""
    patience = min(deadline, time.monotonic() + 5.0)
    while time.monotonic() < patience:
        owner = discovery.find(root)
        if owner is not None:
            return owner
        time.sleep(OWNER_POLL_S)
    return None
