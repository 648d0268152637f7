"""A small process of its own that keeps one app: its parent, the reader of its output, and the one that ends it late.

Started by `spawn.py` as `python -I -S -X utf8 keeper.py RUN_ID`, told what to do by one line of JSON on stdin. It
starts the app in a session of its own, writes what the app prints to a log of bounded size however much that is, and
collects every process that the app leaves behind: as their subreaper (prctl(2)) it is an ancestor of all of them, so
who belongs to the app can be told from the process tree alone. It lives on when the sidecar is killed, so that the app
neither stops nor loses its log, and ends with the last of its children.

Signals: SIGUSR1 ends the app (TERM, after the grace KILL); SIGTERM lets go once the app's first process has ended.
Nothing is imported beyond what that needs: one such process runs per app.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from pumas.processes import family, kernel
from pumas.processes.ending import Ending

PR_SET_CHILD_SUBREAPER = 36
CHUNK = 65536
LOOK_S = 0.1
REST_S = 5.0
"""How often the process table is looked at while the app is being ended, and otherwise how long a wait lasts."""


class Log:
    """A file that is put aside when it is full; the oldest of its kind goes. A full disk loses lines, nothing else."""

    def __init__(self, path: str, limit: int, older: int) -> None:
        self._path, self._limit, self._older = path, limit, older
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size if self._fd >= 0 else 0

    def write(self, data: bytes) -> None:
        if self._size + len(data) > self._limit:
            self._turn()
        try:
            while data and self._fd >= 0:
                written = os.write(self._fd, data)
                self._size += written
                data = data[written:]
        except OSError:
            return

    def _turn(self) -> None:
        names = [self._path, *(f"{self._path}.{number}" for number in range(1, self._older + 1))]
        try:
            for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
                if os.path.lexists(newer):
                    os.replace(newer, older)
            os.close(self._fd)
            self._fd = self._open()
            self._size = 0
        except OSError:  # what was opened stays in use; without room there it is cut instead
            try:
                os.ftruncate(self._fd, 0)
                self._size = 0
            except OSError:
                return

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._path, flags, 0o600)


class Keeper:
    """One app from its start to the end of its last process."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self._log = Log(orders["log"], orders["log_bytes"], orders["log_files"])
        self._grace = float(orders["grace_s"])
        self._exit_file: str = orders["exit_file"]
        self._asked: set[int] = set()
        self._ending: Ending | None = None
        self._leader_ended = self._finished = False
        self._wakes, wake = os.pipe()
        for end in (self._wakes, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._note)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        become_subreaper()
        self._output, inside = os.pipe()
        try:
            os.chdir(orders["folder"])
            pid = start(orders["command"], inside)
        finally:
            os.close(inside)
            os.chdir("/")
        seen = kernel.look(pid)
        self.leader = kernel.Identity(pid, seen.start if seen else 0, kernel.boot())
        self._marks = family.Marks(self.leader.pid, self.leader.start, tuple(orders["programs"]), orders["folder"])

    def run(self) -> None:
        os.set_blocking(self._output, False)
        while not self._over():
            self._wait()
        while self._output >= 0 and self._read():
            pass

    def _over(self) -> bool:
        self._reap()
        self._act()
        return self._finished or (self._leader_ended and signal.SIGTERM in self._asked)

    def _note(self, number: int, _frame: object) -> None:
        self._asked.add(number)

    def _wait(self) -> None:
        fds = [self._wakes] if self._output < 0 else [self._wakes, self._output]
        readable, _, _ = select.select(fds, [], [], LOOK_S if signal.SIGUSR1 in self._asked else REST_S)
        if self._wakes in readable:
            os.read(self._wakes, 4096)
        if self._output in readable:
            self._read()

    def _read(self) -> bool:
        """Whether there may be more."""
        try:
            data = os.read(self._output, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            os.close(self._output)
            self._output = -1
            return False
        self._log.write(data)
        return True

    def _reap(self) -> None:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.leader.pid:
                    self._leader_ended = True
                    self._tell_exit(os.waitstatus_to_exitcode(status))
        except ChildProcessError:
            self._finished = True

    def _tell_exit(self, code: int) -> None:
        """Written whole or not at all: read by a sidecar that may not be our parent."""
        try:
            temporary = f"{self._exit_file}.{os.getpid()}.tmp"
            with open(temporary, "w", encoding="ascii") as file:
                json.dump({"exit_code": code}, file)
            os.replace(temporary, self._exit_file)
        except OSError:
            return

    def _act(self) -> None:
        """End the app when asked to."""
        if signal.SIGUSR1 not in self._asked:
            return
        if self._ending is None:
            self._ending = Ending(lambda: family.members(self._marks, os.getpid(), kernel.table()), self._grace)
        # What is still below this process then is not the app's; see `family.py`.
        self._finished = self._ending.step() and self._leader_ended


def start(command: list[str], output: int) -> int:
    """Start the app in a session of its own, with nothing on stdin and `output` for all that it prints.

    Raises:
        OSError: it cannot be started.
    """
    nothing = os.open(os.devnull, os.O_RDONLY)
    actions = [
        (os.POSIX_SPAWN_DUP2, nothing, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
    ]
    defaults = [signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT, signal.SIGTERM]
    defaults += [signal.SIGCHLD, signal.SIGUSR1, signal.SIGXFSZ]
    try:
        return os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsid=True, setsigdef=defaults)
    finally:
        os.close(nothing)


def become_subreaper() -> None:
    """Linux alone has this; elsewhere what an app leaves behind is told by its session."""
    if not kernel.LINUX:
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def say(facts: dict[str, Any]) -> None:
    """The one line that the sidecar waits for; it may be gone by now."""
    try:
        os.write(1, json.dumps(facts).encode() + b"\n")
    except OSError:
        pass
    finally:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)


def main() -> int:
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):  # whoever should have told is gone; nothing was started
        return 1
    try:
        keeper = Keeper(json.loads(line))
    except OSError as error:
        say({"errno": error.errno or errno.EIO})
        return 1
    say({"pid": keeper.leader.pid, "start": keeper.leader.start})
    keeper.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
