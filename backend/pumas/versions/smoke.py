"""Starts a freshly built version once, to see that it answers, and ends it.

A port of its own, the app's own check of readiness, and the proof that the answer comes from a process that we started:
one of its group listens there. Blocks.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from pathlib import Path

import orjson

from pumas.apps.command import command_of
from pumas.apps.description import AppDescription, Ready
from pumas.errors import InstallFailed, SmokeLaunchFailed
from pumas.processes import kernel
from pumas.processes.ports import Holder, holder
from pumas.versions.running import Programs, Running

HOST = "127.0.0.1"
_PROBE_S = 2.0
_LARGEST_ANSWER = 1024 * 1024
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _PAUSE_GROWTH = 0.01, 0.5, 1.02


def smoke_launch(app: AppDescription, folder: Path, root: Path, programs: Programs) -> float:
    """Seconds until it was ready.

    Raises:
        SmokeLaunchFailed: it ended, or did not answer in time; with the last words it said.
    """
    port = free_port()
    began = time.monotonic()
    try:
        command = command_of(app, folder, root, port, smoke=True)
        with programs.running(command.argv, command.folder, command.environment) as running:
            _wait_ready(app, running, port, programs)
    except SmokeLaunchFailed:
        raise
    except InstallFailed as error:
        raise SmokeLaunchFailed("setup", str(error)) from None
    return time.monotonic() - began


def _wait_ready(app: AppDescription, running: Running, port: int, programs: Programs) -> None:
    ends = time.monotonic() + app.launch.ready.timeout_s
    pause = _FIRST_PAUSE_S
    while True:
        programs.check()
        status = running.exited()
        running.lines()
        if status is not None:
            raise SmokeLaunchFailed("setup", f"{app.name} was built but ended with status {status}: {_said(running)}")
        if answers(app.launch.ready, port) and listens(running.pid, port):
            return
        if time.monotonic() > ends:
            raise SmokeLaunchFailed(
                "setup",
                f"{app.name} was built but did not answer within {app.launch.ready.timeout_s:.0f} s: {_said(running)}",
            )
        running.wait(pause)
        pause = min(_LONGEST_PAUSE_S, pause * _PAUSE_GROWTH)


def _said(running: Running) -> str:
    return " ".join(line.strip() for line in list(running.tail)[-5:] if line.strip())[:600] or "it said nothing"


def free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


def answers(ready: Ready, port: int, host: str = HOST) -> bool:
    """Whether what listens there answers as a ready app does."""
    connection = http.client.HTTPConnection(host, port, timeout=_PROBE_S)
    try:
        connection.request("GET", ready.path)
        reply = connection.getresponse()
        data = reply.read(_LARGEST_ANSWER)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    body: object = None
    with contextlib.suppress(ValueError):
        body = orjson.loads(data)
    return ready.accepts(reply.status, dict(reply.getheaders()), body)


def listens(pid: int, port: int) -> bool:
    """Whether this process or its children listen on the port, and nobody else."""
    if holder(port, (pid,)) is Holder.OURS:
        return True
    # To know its children every process of the machine has to be looked at.
    children = kernel.descendants(pid, kernel.table())
    return holder(port, (pid, *(child.pid for child in children))) is Holder.OURS
