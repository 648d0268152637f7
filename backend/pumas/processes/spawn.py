"""Starts an app below a keeper. The one place that starts programs which stay; nothing goes through a shell.

The order makes sure that no app runs that nobody knows: the keeper is started and waits, whoever starts it writes down
who the keeper is, and only then it is told to go on. A sidecar that dies in between leaves a keeper whose stdin ends,
and that ends with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pumas import utf8
from pumas.errors import LaunchFailed, Unsupported
from pumas.processes import family, kernel
from pumas.processes.kernel import Identity
from pumas.processes.values import GRACE_S

KEEPER = Path(__file__).with_name("keeper.py")
LOG_BYTES = 4 * 1024 * 1024
LOG_FILES = 2
"""A log grows to the first, and as many older ones as the second are kept beside it."""
ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class Orders:
    """What to start. `command` begins with an absolute path; `environment` is the whole one; `programs` are the files
    that the app runs as, links followed."""

    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str]
    programs: tuple[str, ...]
    log: Path
    exit_file: Path
    log_bytes: int = LOG_BYTES
    log_files: int = LOG_FILES
    grace_s: float = GRACE_S

    def to_line(self) -> bytes:
        facts = {
            "command": self.command,
            "folder": str(self.folder),
            "programs": self.programs,
            "log": str(self.log),
            "exit_file": str(self.exit_file),
            "log_bytes": self.log_bytes,
            "log_files": self.log_files,
            "grace_s": self.grace_s,
        }
        return json.dumps(facts).encode() + b"\n"


class WaitingKeeper:
    """A keeper that has not started anything yet. End with `go` or `abandon`."""

    def __init__(self, run_id: str, environment: Mapping[str, str]) -> None:
        """Blocks for some milliseconds.

        Raises:
            LaunchFailed: the machine has no room for another process.
            Unsupported: not on this system.
        """
        if not kernel.POSIX:
            raise Unsupported("Apps cannot be started on this system yet.")
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", *utf8.OPTION, str(KEEPER), run_id],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={**environment, family.MARK: run_id},
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchFailed(f"No process can be started: {os.strerror(error.errno or 0)}.") from None
        found = kernel.identity(self.process.pid)
        assert found is not None  # a child that nobody has waited for has its number
        self.identity: Identity = found

    def go(self, orders: Orders) -> Identity:
        """Start the app; who its first process is.

        Raises:
            LaunchFailed: it could not be started; nothing is left.
        """
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(orders.to_line())
            self.process.stdin.close()
            readable, _, _ = select.select([self.process.stdout], [], [], ANSWER_S)
            line = self.process.stdout.readline() if readable else b""
            answer: dict[str, int] = json.loads(line) if line else {}
        except (OSError, ValueError):
            answer = {}
        if "pid" in answer:
            self.process.stdout.close()
            return Identity(answer["pid"], answer["start"], self.identity.boot)
        self.abandon()
        reason = os.strerror(answer["errno"]) if "errno" in answer else "its keeper did not answer"
        raise LaunchFailed(f"{Path(orders.command[0]).name} cannot be started: {reason}.")

    def abandon(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self.process.kill()
        self.process.wait()
