"""System calls that kill, or that fail, by strace (https://man7.org/linux/man-pages/man1/strace.1.html, `--inject`).

strace counts calls per thread and per name: one `when` may be met by several threads of a process.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Calls that change files or promise durability. openat is one when it may create, ioctl when it clones.
CHANGING = [
    *("write", "pwrite64", "openat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "unlink"),
    *("unlinkat", "rmdir", "symlink", "symlinkat", "fsync", "fdatasync", "ftruncate", "fallocate", "chmod", "fchmod"),
    *("utimensat", "ioctl", "copy_file_range", "sendfile"),
]
CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")


@dataclass(frozen=True)
class Point:
    """The `when`-th call named `name` of a thread."""

    name: str
    when: int

    def inject(self, what: str) -> list[str]:
        return ["-o", "/dev/null", "-e", f"trace={self.name}", "-e", f"inject={self.name}:{what}:when={self.when}"]


def changes(name: str, arguments: str) -> bool:
    creates = name != "openat" or "O_CREAT" in arguments
    return name in CHANGING and creates and (name != "ioctl" or "FICLONE" in arguments)


def attach(pid: int, arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Returns when all threads of the process are traced."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-p", str(pid), *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert tracer.stderr is not None
    line = tracer.stderr.readline()
    assert "attached" in line, line
    return tracer


@contextlib.contextmanager
def traced(pid: int, arguments: Sequence[str]) -> Generator[None]:
    tracer = attach(pid, arguments)
    try:
        yield
    finally:
        tracer.terminate()
        try:
            tracer.communicate(timeout=1)
        except subprocess.TimeoutExpired:  # it waits for threads of a killed process that nobody has collected
            tracer.kill()
            tracer.communicate()


def forked(work: Callable[[], int], arguments: Sequence[str]) -> int:
    """Do `work` in a forked child, traced from its first call on; its wait status. `work` returns the exit status."""
    go_read, go_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(go_write)
            os.readv(go_read, [bytearray(1)])  # not read(2), which is traced
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(go_read)
    tracer = attach(pid, arguments)
    os.write(go_write, b"g")
    os.close(go_write)
    _pid, status = os.waitpid(pid, 0)
    tracer.communicate()
    return status


def points(log: Path, apart_from: str | None = None) -> list[Point]:
    """Every place in a trace of all threads where a changing call was made, in order, each once, but for calls that
    name `apart_from`."""
    seen: Counter[tuple[str, str]] = Counter()
    found: dict[Point, None] = {}
    for line in log.read_text(errors="replace").splitlines():
        match = CALL.match(line)
        if match and match[2] in CHANGING:
            # openat counts for all files, as strace does, but only those that create are worth a fault.
            seen[match[1], match[2]] += 1
            if changes(match[2], match[3]) and (apart_from is None or apart_from not in match[3]):
                found[Point(match[2], seen[match[1], match[2]])] = None
    return list(found)
