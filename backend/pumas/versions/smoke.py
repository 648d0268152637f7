"""Starts a freshly built version once, to see that it answers, and ends it.

On a port of its own, and ready by the same proof as any start of an app: `pumas.processes.readiness`. Blocks.
"""

from __future__ import annotations

import time
from pathlib import Path

from pumas.apps.command import command_of
from pumas.apps.description import AppDescription, Ready
from pumas.errors import InstallFailed, LaunchFailed, SmokeLaunchFailed
from pumas.processes import kernel
from pumas.processes.ports import Holder, free_port, holder
from pumas.processes.readiness import Answer, probe
from pumas.versions.running import Programs, Running

_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _PAUSE_GROWTH = 0.01, 0.5, 1.02


def smoke_launch(app: AppDescription, folder: Path, root: Path, programs: Programs) -> float:
    """Seconds until it was ready.

    Raises:
        SmokeLaunchFailed: it ended, or did not answer in time; with the last words it said.
    """
    began = time.monotonic()
    try:
        port = free_port()
        command = command_of(app, folder, root, port, smoke=True)
        with programs.running(command.argv, command.folder, command.environment, wholly=True) as running:
            _wait_ready(app, running, port, programs)
    except SmokeLaunchFailed:
        raise
    except (InstallFailed, LaunchFailed) as error:
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
        if _is_ready(app.launch.ready, port, running.pid):
            return
        if time.monotonic() > ends:
            raise SmokeLaunchFailed(
                "setup",
                f"{app.name} was built but did not answer within {app.launch.ready.timeout_s:.0f} s: {_said(running)}",
            )
        running.wait(pause)
        pause = min(_LONGEST_PAUSE_S, pause * _PAUSE_GROWTH)


def _is_ready(ready: Ready, port: int, pid: int) -> bool:
    """Whether this process or its children, and nobody else, listen on the port, and answer as a ready app does."""
    whose = holder(port, (pid,))
    if whose is Holder.NOBODY:
        return False
    pids = [pid]
    if whose is Holder.OTHERS:  # to know its children every process of the machine has to be looked at
        pids += (child.pid for child in kernel.descendants(pid, kernel.table()))
    return probe(ready, port, pids) is Answer.READY


def _said(running: Running) -> str:
    return " ".join(line.strip() for line in list(running.tail)[-5:] if line.strip())[:600] or "it said nothing"
