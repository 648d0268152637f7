"""What apps print: the end of a log without reading all of it, and what is new in it.

`keeper.py` writes the logs and puts full ones aside as `NAME.1`, `NAME.2`. Lines are made fit for people and terminals:
without escape sequences and control characters, of bounded length. Blocking; call from a thread.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pumas.errors import DiskError, FileUnavailable

MAX_LINE = 2000
MAX_LINES = 2000
MAX_TAIL_BYTES = 1024 * 1024
MAX_NEWS_BYTES = 64 * 1024
_BLOCK = 64 * 1024
# ECMA-48 control sequences, and operating-system commands up to their end.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def clean(raw: bytes) -> str:
    """One line as text. Of a line that was written over again and again (a progress bar), the last state is shown."""
    text = _ESCAPES.sub("", raw[-4 * MAX_LINE :].decode("utf-8", "replace"))
    text = text.rstrip("\r").rpartition("\r")[2]
    text = _CONTROLS.sub("", text)
    return text if len(text) <= MAX_LINE else f"{text[:MAX_LINE]}…"


@dataclass(frozen=True, slots=True)
class Tail:
    """The last lines, oldest first; `cut` says that there are more before them."""

    lines: tuple[str, ...]
    cut: bool


def tail(path: Path, count: int) -> Tail:
    """The last `count` lines of a log and of what was put aside before it, read from the end.

    Raises:
        FileUnavailable: there is no such log.
        DiskError: it cannot be read.
    """
    count = min(count, MAX_LINES)
    data = b""
    for piece in _backwards(path):
        data = piece + data
        if data.count(b"\n", 0, -1) >= count or len(data) >= MAX_TAIL_BYTES:
            lines = data.split(b"\n")
            lines = lines[:-1] if not lines[-1] else lines
            return Tail(tuple(clean(line) for line in lines[-count:]), True)
    lines = data.split(b"\n")
    lines = lines[:-1] if not lines[-1] else lines
    return Tail(tuple(clean(line) for line in lines[-count:]), len(lines) > count)


def _backwards(path: Path) -> Iterator[bytes]:
    """The log's bytes, the last block first, then those of the older files."""
    number = 0
    read: set[tuple[int, int]] = set()
    while True:
        one = path if number == 0 else path.with_name(f"{path.name}.{number}")
        try:
            fd = open_log(one)
        except FileNotFoundError:
            if number == 0:
                raise FileUnavailable(path.name, "there is no such log") from None
            return
        except OSError as error:
            raise DiskError(f"Reading {path.name}: {os.strerror(error.errno or 0)}.") from None
        try:
            facts = os.fstat(fd)
            # A file that is put aside while this goes on comes up a second time, under its next name.
            end = 0 if (facts.st_dev, facts.st_ino) in read else facts.st_size
            read.add((facts.st_dev, facts.st_ino))
            while end > 0:
                start = max(0, end - _BLOCK)
                yield os.pread(fd, end - start, start)
                end = start
        except OSError as error:
            raise DiskError(f"Reading {path.name}: {os.strerror(error.errno or 0)}.") from None
        finally:
            os.close(fd)
        number += 1


def open_log(path: Path) -> int:
    """Raises OSError, FileNotFoundError when it is no regular file."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(path)
    return fd


@dataclass(frozen=True, slots=True)
class News:
    """Lines that were not given out before; at least `skipped` bytes before them were too many."""

    lines: tuple[str, ...]
    skipped: int


class Follower:
    """What is new in one log since the last look. Not for more than one thread at a time."""

    def __init__(self, path: Path, *, from_start: bool) -> None:
        self._path = path
        self._fd = -1
        self._at = 0
        self._rest = b""
        self._skipped = 0
        self._open()
        if not from_start and self._fd >= 0:
            self._at = os.fstat(self._fd).st_size

    def news(self) -> News:
        """Whole lines only; an unfinished one waits, unless it is too long. A log that is gone has no news."""
        data = self._rest + self._read()
        lines = data.split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > 4 * MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        skipped, self._skipped = self._skipped, 0
        return News(tuple(clean(line) for line in lines), skipped)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> bytes:
        data = self._new_bytes()
        if self._moved():
            data += self._new_bytes()  # what came between the look and the moving
            self.close()
            self._open()
            data += self._new_bytes()
        if len(data) > MAX_NEWS_BYTES:
            self._skip(len(data) - MAX_NEWS_BYTES)
            data = data[-MAX_NEWS_BYTES:].partition(b"\n")[2]
        return data

    def _new_bytes(self) -> bytes:
        if self._fd < 0:
            self._open()
        if self._fd < 0:
            return b""
        try:
            size = os.fstat(self._fd).st_size
            if size < self._at:  # it was cut
                self._at = 0
            if size - self._at > MAX_NEWS_BYTES:
                self._skip(size - self._at - MAX_NEWS_BYTES)
                self._at = size - MAX_NEWS_BYTES
            data = os.pread(self._fd, size - self._at, self._at)
        except OSError:
            return b""
        self._at += len(data)
        return data

    def _skip(self, size: int) -> None:
        self._rest = b""
        self._skipped += size

    def _moved(self) -> bool:
        try:
            there = os.stat(self._path)
        except OSError:
            return False
        here = os.fstat(self._fd) if self._fd >= 0 else there
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)

    def _open(self) -> None:
        try:
            self._fd = open_log(self._path)
        except OSError:
            self._fd = -1
        self._at = 0
