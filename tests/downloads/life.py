"""The test's end of `driver.py`: lives of a sidecar on one launcher root, each begun quickly and killed at will.

A sidecar in Rust begins quickly by itself; it is a process of its own here, with the same calls.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sidecar
from sidecar import Sidecar

TESTS = Path(__file__).resolve().parents[1]
ANSWER_S = 30.0


class Failure(Exception):
    """The call ended in a JSON-RPC error."""


class Driver:
    """A context manager: the process from which lives are forked."""

    def __enter__(self) -> Self:
        # A socket's path has room for 107 bytes, which is less than pytest's folders need.
        self._folder = tempfile.TemporaryDirectory(prefix="lives-")
        self._path = f"{self._folder.name}/s"
        paths = os.pathsep.join([str(TESTS.parent / "backend"), str(TESTS)])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "downloads.driver", self._path],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths, "NO_PROXY": "*", "no_proxy": "*"},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def begin(self, root: Path, env: Mapping[str, str]) -> Life:
        conn = socket.socket(socket.AF_UNIX)
        conn.settimeout(ANSWER_S)
        conn.connect(self._path)
        return Life(conn, root, env)


class Life:
    def __init__(self, conn: socket.socket, root: Path, env: Mapping[str, str]) -> None:
        self._conn = conn
        self._lines = conn.makefile("rb")
        self._number = 0
        self._say({"root": str(root), "env": dict(env)})
        self.pid: int = self._hear()["pid"]

    def call(self, method: str, **params: Any) -> Any:
        """The method's result as on the wire. Raises Failure."""
        self._number += 1
        self._say({"number": self._number, "method": method, "params": params})
        answer = self._hear()
        assert answer["number"] == self._number
        if "failure" in answer:
            raise Failure(answer["failure"]["message"])
        return answer["result"]

    def kill(self) -> None:
        """As `kill -9` does; returns when nothing of it runs any more."""
        os.kill(self.pid, signal.SIGKILL)
        while self._lines.readline():
            continue
        self._close()

    def stop(self) -> None:
        """As SIGTERM does."""
        self.call("stop")
        while self._lines.readline():
            continue
        self._close()

    def _close(self) -> None:
        self._lines.close()
        self._conn.close()

    def _say(self, value: Any) -> None:
        self._conn.sendall(json.dumps(value).encode() + b"\n")

    def _hear(self) -> Any:
        line = self._lines.readline()
        if not line:
            raise AssertionError("the sidecar ended by itself")
        return json.loads(line)


class RustLife:
    """As `Life`, of the Rust backend."""

    def __init__(self, root: Path, env: Mapping[str, str]) -> None:
        self._sidecar: Sidecar = sidecar.start(root, env={**env, sidecar.RUST_SWITCH: "1"})

    def call(self, method: str, **params: Any) -> Any:
        answer = self._sidecar.rpc(method, params)
        if "error" in answer:
            raise Failure(answer["error"]["message"])
        return answer["result"]

    def kill(self) -> None:
        self._sidecar.kill()
        self._sidecar.close()

    def stop(self) -> None:
        self._sidecar.close()
