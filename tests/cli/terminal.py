"""A command at a pseudo-terminal, as a person has it: reads what is shown, types, presses Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

PATIENCE_S = 20.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def piped(*words: str) -> subprocess.Popen[str]:
    """A command without a terminal, which Ctrl-C can end."""
    return subprocess.Popen(
        [sys.executable, "-m", "pumas", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=default_sigint,
    )


def default_sigint() -> None:
    """Undo what a test run in the background of a shell inherits: there SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    def __init__(self, *words: str) -> None:
        self._master, child = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pumas", *words],
            stdin=child,
            stdout=child,
            stderr=child,
            start_new_session=True,
            preexec_fn=default_sigint,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "150", "PYTHONFAULTHANDLER": "1"},
        )
        os.close(child)

    def expect(self, text: str) -> str:
        """Read until `text` has been shown; all that was shown so far, without colours and cursor movements."""
        end = time.monotonic() + PATIENCE_S
        while text not in self.shown:
            assert time.monotonic() < end, f"{text!r} was not shown but: {self.shown[-2000:]}"
            if not self._read():
                break
        assert text in self.shown, f"{text!r} was not shown but: {self.shown[-2000:]}"
        return self.shown

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def ctrl_c(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Read to the end; the exit status."""
        while self._read():
            pass
        status = self.process.wait(PATIENCE_S)
        os.close(self._master)
        return status

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self._master)

    def _read(self) -> bool:
        if not select.select([self._master], [], [], PATIENCE_S)[0]:
            shown = self.shown[-2000:]
            raise AssertionError(f"nothing more was shown after: {shown}\n{self._stacks()}")
        return self._take()

    def _stacks(self) -> str:
        """What the command's threads wait for: faulthandler says it at the terminal as the process is ended."""
        before = len(self.shown)
        self.process.send_signal(signal.SIGABRT)
        while select.select([self._master], [], [], PATIENCE_S)[0] and self._take():
            pass
        return self.shown[before:]

    def _take(self) -> bool:
        try:
            data = os.read(self._master, 65536)
        except OSError:
            # The other end is closed.
            return False
        self.shown += _ESCAPES.sub("", data.decode("utf-8", "replace"))
        return bool(data)
