"""Runs one library operation per child process, so that a test can kill it or make its system calls fail.

Started once with everything imported; each line on stdin is a command. It forks a child that waits, prints the child's
pid (for strace to attach to), and on the line `go` lets it run; then it prints how the child ended and what it said.
System calls are thereby counted from the operation's first one, and a run costs milliseconds.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock  # noqa: F401 - imported here once instead of in every child
import packaging.specifiers  # noqa: F401
import picklescan.scanner  # noqa: F401
import psutil  # noqa: F401
from blake3 import blake3  # noqa: F401

import pumas.library.formats.identify
import pumas.library.formats.pickle_files  # noqa: F401
from library.model_disk import DiskIndex
from pumas.config import Layout
from pumas.errors import PumasError
from pumas.library import hashing, importing
from pumas.library.importing import ImportService
from pumas.library.metadata import ModelMetadata
from pumas.library.staging import Staging
from pumas.library.trash import Trash
from pumas.storage.files import disk_errors, write_durably
from pumas.storage.json_file import StateLock

PR_SET_PTRACER = 0x59616D61


class FileJob:
    """A job whose checkpoint is a file: what the jobs database is to the sidecar."""

    job_id = "import-1"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}

    def check(self) -> None: ...

    def report(self, **facts: object) -> None: ...

    def save_checkpoint_sync(self, state: dict[str, Any]) -> None:
        with disk_errors("Saving the job"):
            write_durably(self.path, json.dumps(state).encode())


class Parts:
    """The services over one launcher root."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        lock, index = StateLock(self.layout.state_lock), DiskIndex(self.layout.library)
        self.staging = Staging(self.layout.library, self.layout.staging)
        self.imports = ImportService(self.layout, lock, self.staging, index)
        self.trash = Trash(self.layout.library, self.layout.trash, lock, index)
        self.models = ModelMetadata(self.layout.library, lock, index)

    def run_import(self, command: dict[str, Any]) -> object:
        return self.imports.run_sync(FileJob(Path(command["job"])), command)

    def recover(self, *, job_open: bool) -> None:
        """What a start does."""
        self.trash.recover()
        self.staging.sweep(lambda _job: job_open)


OPERATIONS: dict[str, Callable[[Parts, dict[str, Any]], object]] = {
    "import": Parts.run_import,
    "delete": lambda parts, command: parts.trash.delete(command["model_id"]).trash_id,
    "restore": lambda parts, command: parts.trash.restore(command["trash_id"]).trash_id,
    "empty": lambda parts, command: len(parts.trash.empty([command["trash_id"]])),
    "metadata": lambda parts, command: parts.models.mark_manual(command["model_id"]),
    "overrides": lambda parts, command: parts.models.update_overrides(command["model_id"], {"new": [1, 2, 3]}),
}


def small_blocks() -> None:
    """Many reads and writes from small files."""
    hashing.BLOCK = 16 * 1024
    importing._KEEP_STAGED_FROM = 32 * 1024  # pyright: ignore[reportPrivateUsage]


def child(command: dict[str, Any], go: int, out: int) -> None:
    # Where Yama restricts ptrace to descendants, strace is a sibling.
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
    os.readv(go, [bytearray(1)])  # not read(2), which faults are injected into
    try:
        said: object = {"result": OPERATIONS[command["op"]](Parts(Path(command["root"])), command)}
    except PumasError as error:
        said = {"error_code": error.kind, "error": str(error)}
    except BaseException:
        said = {"bug": traceback.format_exc()}
    os.writev(out, [json.dumps(said).encode()])
    os._exit(0)


def main() -> None:
    small_blocks()
    for line in sys.stdin:
        (go_read, go_write), (out_read, out_write) = os.pipe(), os.pipe()
        command = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.close(go_write)
            os.close(out_read)
            child(command, go_read, out_write)
        os.close(go_read)
        os.close(out_write)
        print(pid, flush=True)
        assert sys.stdin.readline().strip() == "go"
        os.write(go_write, b"g")
        os.close(go_write)
        if "kill_after" in command:
            time.sleep(command["kill_after"])
            os.kill(pid, signal.SIGKILL)
        with os.fdopen(out_read, "rb") as said:
            data = said.read()
        _pid, status = os.waitpid(pid, 0)
        print(json.dumps({"status": status, "said": json.loads(data) if data else None}), flush=True)


if __name__ == "__main__":
    main()
