"""Runs the programs of an installation (uv, pip, the app itself): no shell, a process group of their own, a log.

A program that outlives a killed sidecar is ended at the next start, by pid and start time from a note on disk and by
the mark in its environment, which what it started in sessions of their own has too; no other process is ever touched.
Blocks; called from the thread of an installation.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import orjson

from pumas.errors import InstallFailed
from pumas.storage.files import disk_errors
from pumas.versions.places import write_lightly

if TYPE_CHECKING:
    from pumas.processes.kernel import Seen

LOOK_S = 0.1
TERM_S = 0.5
_MARKED_S = 5.0
"""How long those that are known by the mark alone are waited for, once each was told to end."""
_LAST_WORDS_S = 1.0
_TAIL_LINES = 40
_LONGEST_LINE = 4096
_MARK = "PUMAS_INSTALLS"
"""The environment variable that holds the mark, in a program and in all that it starts."""

OnLine = Callable[[str], None]


class InstallLog:
    """One text file per attempt, with the time of each step. Writing never fails the installation."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file: IO[str] | None = None
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8", errors="replace", buffering=1)

    def say(self, text: str) -> None:
        self.line(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}] {text}")

    def line(self, text: str) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):
            if self._file is not None:
                self._file.write(text[:_LONGEST_LINE].rstrip("\r\n") + "\n")

    def close(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
                self._file = None


class Running:
    """A started program whose output goes to the log, line by line."""

    def __init__(self, process: subprocess.Popen[bytes], log: InstallLog) -> None:
        self.process = process
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._log = log
        self._reader = threading.Thread(target=self._read, name="install-output", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def exited(self) -> int | None:
        """The exit status once it has ended and its output is read."""
        status = self.process.poll()
        if status is None and not self._reader.is_alive():
            self.wait(LOOK_S)  # it has said its last word
            status = self.process.poll()
        if status is not None:
            self._reader.join(_LAST_WORDS_S)  # a grandchild may keep the pipe open for ever
        return status

    def lines(self) -> list[str]:
        """What was said since the last call."""
        found: list[str] = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._lines.get_nowait())
        return found

    def wait(self, seconds: float) -> None:
        """Return when it has ended, or after `seconds`. The end of its output is noticed at once."""
        if self._reader.is_alive():
            self._reader.join(seconds)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)

    def end(self, term_s: float = TERM_S) -> None:
        """Stop the whole group: ask, wait, force."""
        end_group(self.process.pid, lambda: self.process.poll() is not None, term_s)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5.0)
        self._reader.join(_LAST_WORDS_S)
        if self.process.stdout is not None and not self._reader.is_alive():
            # Else something that it started, in a session of its own, has the pipe; closing it would wait for that.
            self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            while data := self.process.stdout.readline(_LONGEST_LINE):
                text = data.decode("utf-8", "replace").rstrip("\r\n")
                self.tail.append(text)
                self._log.line(text)
                self._lines.put(text)
        if sys.platform == "linux":
            # Its end is then noticed at once, too; the status is left to those who wait.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)


class Programs:
    """Starts the programs of one installation, one at a time."""

    def __init__(self, note: Path, log: InstallLog, check: Callable[[], None]) -> None:
        """`note` is where the running program is written down; `check` raises when the installation should stop."""
        self._note = note
        self._log = log
        self.check = check

    @contextlib.contextmanager
    def running(
        self, argv: Sequence[str], folder: Path, environment: Mapping[str, str], *, wholly: bool = False
    ) -> Generator[Running]:
        """A program that is ended, with its group, when the block is left.

        `wholly`: and with what it started in sessions of their own, as an app does that makes itself independent. What
        a tool leaves behind on purpose (a cache's server, git's upkeep) is left alone otherwise.

        Raises:
            InstallFailed: it cannot be started.
        """
        self._log.say(f"$ {' '.join(argv)}")
        mark = secrets.token_hex(8)
        self._write_note({"mark": mark})
        try:
            process = subprocess.Popen(
                list(argv),
                cwd=folder,
                env={**environment, _MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            self._forget()
            raise InstallFailed("start", f"{Path(argv[0]).name} cannot be started: {error.strerror}.") from None
        running = Running(process, self._log)
        try:
            self._write_note({**_identity(process.pid), "mark": mark})
            yield running
        finally:
            running.end()
            if wholly:
                _end_marked(mark)
            self._forget()

    def run(
        self,
        argv: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        *,
        timeout_s: float,
        on_line: OnLine = lambda _line: None,
        on_look: Callable[[], None] = lambda: None,
    ) -> tuple[int, list[str]]:
        """Run to the end; the exit status and the last lines of output. `on_look` is called while it runs.

        Raises:
            InstallFailed: it cannot be started, or takes longer than `timeout_s`.
        """
        ends = time.monotonic() + timeout_s
        with self.running(argv, folder, environment) as running:
            while True:
                running.wait(LOOK_S)
                status = running.exited()
                for line in running.lines():
                    on_line(line)
                if status is not None:
                    return status, list(running.tail)
                on_look()
                self.check()
                if time.monotonic() > ends:
                    raise InstallFailed("run", f"{Path(argv[0]).name} took longer than {timeout_s:.0f} s.")

    def end_leftover(self) -> None:
        """End what a killed sidecar left running for this installation."""
        end_noted(self._note)

    def _write_note(self, facts: dict[str, Any]) -> None:
        with disk_errors("Writing the state of the installation"):
            _write(self._note, facts)

    def _forget(self) -> None:
        with contextlib.suppress(OSError):
            self._note.unlink(missing_ok=True)


def note_running(note: Path, pid: int) -> None:
    """Write down which process runs, for `end_noted` after a kill of this one. Raises OSError."""
    _write(note, _identity(pid))


def _write(note: Path, facts: dict[str, Any]) -> None:
    write_lightly(note, orjson.dumps(facts), 0o600)


def _identity(pid: int) -> dict[str, Any]:
    return {"pid": pid, "started": _started(pid)}


def end_noted(note: Path) -> None:
    """End the group of the process that was written down, when it is still that process, and all that have its mark."""
    try:
        noted: dict[str, Any] = orjson.loads(note.read_bytes())
        pid, started, mark = noted.get("pid"), noted.get("started"), noted.get("mark")
    except (OSError, ValueError, AttributeError):
        return
    if isinstance(pid, int) and isinstance(started, float) and _started(pid) == started:
        end_group(pid, lambda: _started(pid) != started)
    if isinstance(mark, str) and mark:
        _end_marked(mark)
    with contextlib.suppress(OSError):
        note.unlink(missing_ok=True)


def _end_marked(mark: str) -> None:
    from pumas.processes.ending import Ending

    ending = Ending(lambda: _marked(mark), TERM_S)
    ends = time.monotonic() + TERM_S + _MARKED_S
    while not ending.step() and time.monotonic() < ends:
        time.sleep(0.01)


def _marked(mark: str) -> list[Seen]:
    """Those that were started with this mark, and who is in a group that one of them leads."""
    from pumas.processes import kernel

    everyone = [seen for seen in kernel.table().values() if not seen.ended]
    marked = {seen.pid for seen in everyone if kernel.has_variable(seen.pid, _MARK, mark)}
    return [seen for seen in everyone if seen.pid in marked or seen.group in marked]


def end_group(pid: int, gone: Callable[[], bool], term_s: float = TERM_S) -> None:
    """Ask the group led by `pid` to end; after `term_s` seconds end it. Also when its leader is gone already."""
    if sys.platform == "win32":
        _end_tree(pid)
        return
    _signal_group(pid, signal.SIGTERM)
    ends = time.monotonic() + term_s
    while not gone() and time.monotonic() < ends:
        time.sleep(0.005)
    _signal_group(pid, signal.SIGKILL)


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _end_tree(pid: int) -> None:
    import psutil

    with contextlib.suppress(psutil.Error):
        leader = psutil.Process(pid)
        for process in (*leader.children(recursive=True), leader):
            with contextlib.suppress(psutil.Error):
                process.kill()


def _started(pid: int) -> float | None:
    """Seconds since the epoch; None when there is no such process, or only its remains."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None
