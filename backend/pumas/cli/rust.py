"""`pumas serve --rust`: the Rust sidecar takes this process over, so that its id, its signals and its end are our own.

What is said to people, and the page that opens, come from a process aside that ends as soon as that is done.
`serve.py` parses the arguments. A Rust sidecar that is not there is an error, never a silent Python.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pumas.config import Layout
from pumas.errors import Unsupported
from pumas.storage.owner import parse_rpc_file

SWITCH = "PUMAS_RUST_BACKEND"
PROGRAM_VARIABLE = "PUMAS_RUST_BINARY"
CODE_VARIABLE = "PUMAS_SESSION_CODE"
PYTHON_VARIABLE = "PUMAS_PYTHON"
"""What the Rust sidecar, which has no interpreter of its own, makes the environments of apps with."""
_BUILD_IT = "Build it with ./launcher build-rust"
_BRING_IT = f"It does not come with this package: put one there that was built for it, or name it by {PROGRAM_VARIABLE}"
START_S = 30.0
POLL_S = 0.02

Listening = Callable[[int], None]
"""Told the port."""


@dataclass(frozen=True)
class Run:
    """How the Rust sidecar is started; `environment` holds its secrets."""

    arguments: list[str]
    environment: Mapping[str, str]


def program() -> Path:
    """The Rust sidecar: what PUMAS_RUST_BINARY names, what `./launcher build-rust` built, or what is installed beside
    this interpreter.

    Raises:
        Unsupported: there is none.
    """
    name = "pumas-rpc.exe" if os.name == "nt" else "pumas-rpc"
    checkout = Path(__file__).resolve().parents[3]
    can_build = (checkout / "launcher").is_file()
    built = [checkout / "rust/target/release" / name] if can_build else []
    given = os.environ.get(PROGRAM_VARIABLE)
    places = [Path(given)] if given else [*built, Path(sys.executable).parent / name]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise Unsupported(
            f"The Rust sidecar is not at {places[0]}. {_BUILD_IT if can_build else _BRING_IT}, "
            f"or go on without --rust and {SWITCH}."
        )
    return found


@dataclass(frozen=True)
class Aside:
    """What happens aside once the sidecar listens: `listening`, and `afterwards` when it has ended, at the latest after
    `stays_s` seconds."""

    listening: Listening
    afterwards: Callable[[], None]
    stays_s: float


def take_over(run: Run, layout: Layout, aside: Aside) -> int:
    """Become the Rust sidecar. Returns only where a process cannot be replaced, with the exit status.

    Raises:
        Unsupported: there is none, or it cannot be started.
    """
    path = str(program())
    command, environment = [path, *run.arguments], {PYTHON_VARIABLE: sys.executable, **run.environment}
    try:
        if os.name == "nt":
            return subprocess.call(command, env=environment)
        _go_aside(layout, aside)
        os.execve(path, command, environment)  # noqa: S606 - a fixed program, no shell
    except OSError as error:
        raise Unsupported(f"The Rust sidecar cannot be started: {error.strerror or error}.") from None


def _go_aside(layout: Layout, aside: Aside) -> None:
    """Fork twice, so that the sidecar need not collect a child that it does not know."""
    pid = os.getpid()
    alive, held = os.pipe()
    # Open as long as the sidecar lives, and its end is seen at once.
    os.set_inheritable(held, True)
    middle = os.fork()
    if middle:
        os.close(alive)
        os.waitpid(middle, 0)
        return
    status = 1
    try:
        if os.fork() == 0:
            os.close(held)
            _forget(0, 1)
            port = _port_of(layout, pid, alive)
            if port is not None:
                aside.listening(port)
                _forget(2)
                select.select([alive], [], [], aside.stays_s)
                aside.afterwards()
        status = 0
    finally:
        os._exit(status)


def _port_of(layout: Layout, pid: int, alive: int) -> int | None:
    """Where the sidecar listens; None when it ended or took too long."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            facts = parse_rpc_file(layout.rpc_file)
            if facts.pid == pid:
                return facts.port
        if select.select([alive], [], [], POLL_S)[0]:
            return None
    return None


def _forget(*descriptors: int) -> None:
    """Who reads the other end should see the sidecar's end, not ours."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(nothing, descriptor)
    os.close(nothing)
