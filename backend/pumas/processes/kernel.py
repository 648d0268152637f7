"""Processes as the kernel knows them: who is there, whose child, since when; and signals that reach only the one meant.

A number alone names nobody, because numbers are used again: an `Identity` is the number, the start time and the boot.
`keeper.py` runs this file's code in a process of its own, so nothing but the standard library is imported here, and
little of that. It does not know what an app is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Mapping
from typing import NamedTuple

LINUX = sys.platform == "linux"
POSIX = os.name == "posix"
MAX_ENVIRON = 1024 * 1024
ENDED = "ZX"


class Identity(NamedTuple):
    """A process that once was. `start` counts ticks since the boot (proc_pid_stat(5)), so that no clock moves it;
    where there is no /proc it is the start time in microseconds of the epoch. `boot` names boot and pid namespace."""

    pid: int
    start: int
    boot: str


class Seen(NamedTuple):
    """One row of the process table. `group` is its process group, `session` its session; `ended` is a zombie."""

    pid: int
    parent: int
    group: int
    session: int
    start: int
    ended: bool


def boot() -> str:
    """This boot of the machine, and the pid namespace that numbers here belong to."""
    if not LINUX:
        import psutil

        return f"{round(psutil.boot_time())}"
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"


def look(pid: int) -> Seen | None:
    """The process with this number, None when there is none."""
    if not LINUX:
        return _look_elsewhere(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            line = file.read(4096)
    except (OSError, ValueError):
        return None
    # The name stands in brackets and may hold brackets, spaces and line ends.
    fields = line[line.rfind(b")") + 2 :].split()
    try:
        return Seen(
            pid, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]), fields[0].decode("ascii") in ENDED
        )
    except (IndexError, ValueError):
        return None


def table() -> dict[int, Seen]:
    """All processes that can be seen, by number."""
    if LINUX:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    else:
        import psutil

        pids = psutil.pids()
    return {pid: seen for pid in pids if (seen := look(pid)) is not None}


def identity(pid: int) -> Identity | None:
    """Who has this number now."""
    seen = look(pid)
    return None if seen is None else Identity(pid, seen.start, boot())


def alive(who: Identity) -> bool:
    """Whether this very process still runs; a zombie does not."""
    seen = look(who.pid)
    return seen is not None and not seen.ended and seen.start == who.start and who.boot == boot()


def tell(pid: int, start: int, number: int) -> bool:
    """Send a signal to the process that has this number since `start`; False when that one is gone.

    Between looking and sending, the number cannot come to belong to another process (pidfd_open(2)).

    Raises:
        PermissionError: it belongs to another user.
    """
    if pid <= 1:
        return False
    if not LINUX:
        return _tell_elsewhere(pid, start, number)
    try:
        fd = os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.EINVAL):
            return False
        raise
    try:
        seen = look(pid)
        if seen is None or seen.ended or seen.start != start:
            return False
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def descendants(of: int, everyone: Mapping[int, Seen]) -> list[Seen]:
    """Children, children of children and so on, each after its parent."""
    children: dict[int, list[Seen]] = {}
    for seen in everyone.values():
        children.setdefault(seen.parent, []).append(seen)
    found: list[Seen] = []
    waiting = [of]
    known = {of}
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child.pid not in known:
                known.add(child.pid)
                found.append(child)
                waiting.append(child.pid)
    return found


def program(pid: int) -> str | None:
    """The file that the process runs; None when that cannot be seen."""
    if LINUX:
        try:
            return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
        except OSError:
            return None
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        return psutil.Process(pid).exe()
    return None


def has_variable(pid: int, name: str, value: str) -> bool:
    """Whether the process was started with this environment variable. One that wrote over it has it no more."""
    if LINUX:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                variables = file.read(MAX_ENVIRON).split(b"\0")
        except OSError:
            return False
        return os.fsencode(f"{name}={value}") in variables
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        return psutil.Process(pid).environ().get(name) == value
    return False


def _look_elsewhere(pid: int) -> Seen | None:
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            start = round(process.create_time() * 1e6)
            ended = process.status() == psutil.STATUS_ZOMBIE
            group, session = (os.getpgid(pid), os.getsid(pid)) if POSIX else (pid, pid)
            return Seen(pid, process.ppid(), group, session, start, ended)
    except (psutil.Error, OSError, ValueError):
        return None


def _tell_elsewhere(pid: int, start: int, number: int) -> bool:
    import psutil

    try:
        process = psutil.Process(pid)
        if round(process.create_time() * 1e6) != start:
            return False
        process.send_signal(number)  # looks at the start time once more
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied as error:
        raise PermissionError(errno.EPERM, "not permitted") from error
    return True
