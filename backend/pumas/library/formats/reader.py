"""Opening and reading files that nobody has vouched for.

`open_regular` refuses whatever could block or is not a plain file; `BoundedReader` hands out bytes until a budget of
bytes, elements or processor time is spent. Both raise `FileUnavailable` or `MalformedModelFile` with the file's own
name only. Nothing here knows a file format.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from struct import Struct

from pumas.errors import FileUnavailable, MalformedModelFile

WINDOW = 256 * 1024  # bytes asked for at a time
# The budgets of bytes and steps keep every header below half a second; this is for machines that are much slower. It is
# processor time of the calling thread, so that a busy machine does not refuse good files.
MAX_SECONDS = 2.0


def display_name(path: str | os.PathLike[str]) -> str:
    """The last part of a path, fit for messages: bytes that are not UTF-8 and control characters are escaped."""
    name = os.fsencode(path).rstrip(b"/").rpartition(b"/")[2].decode("utf-8", "backslashreplace") or "/"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name)[:255]


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A regular file that is open for reading. `name` is for messages, `size` in bytes as it was when opened."""

    fd: int
    name: str
    size: int
    device: int
    inode: int

    def pread(self, count: int, offset: int) -> bytes:
        """Up to `count` bytes; fewer only at the end of the file, also when it shrank since it was opened.

        Raises:
            FileUnavailable: the disk refuses.
        """
        parts: list[bytes] = []
        while count > 0:
            try:
                part = _pread(self.fd, count, offset)
            except OSError as error:
                raise FileUnavailable(self.name, f"cannot be read at byte {offset} ({error.strerror})") from error
            if not part:
                break
            parts.append(part)
            count -= len(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


if sys.platform == "win32":

    def _pread(fd: int, count: int, offset: int) -> bytes:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, count)
else:
    _pread = os.pread

_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO blocks in open, not in read
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


@contextmanager
def open_regular(path: str | os.PathLike[str]) -> Generator[OpenedFile]:
    """Open `path` (links are followed) if it is a regular file; raise `FileUnavailable` at once for anything else.

    It is looked at before it is opened, because opening some devices has effects, and again through the descriptor,
    because another file may stand there by then.
    """
    name = display_name(path)
    try:
        _require_regular(name, os.stat(path))
        fd = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        raise FileUnavailable(name, _reason(error)) from error
    except ValueError as error:
        raise FileUnavailable(name[:100], "is not a usable path") from error
    try:
        facts = os.fstat(fd)
        _require_regular(name, facts)
        yield OpenedFile(fd, name, facts.st_size, facts.st_dev, facts.st_ino)
    finally:
        os.close(fd)


def _require_regular(name: str, facts: os.stat_result) -> None:
    if stat.S_ISDIR(facts.st_mode):
        raise FileUnavailable(name, "is a folder, not a file")
    if not stat.S_ISREG(facts.st_mode):
        raise FileUnavailable(name, "is not a regular file")


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    return f"cannot be opened ({error.strerror})"


class BoundedReader:
    """Reads `file` forwards from `pos`, with skips, until one of its budgets is spent.

    `max_bytes` counts bytes really read, `max_steps` elements walked one by one, `seconds` processor time of the
    calling thread. Every violation is a `MalformedModelFile`: real headers stay far below all three.
    """

    def __init__(
        self,
        file: OpenedFile,
        *,
        max_bytes: int,
        max_steps: int = 2_000_000,
        seconds: float = MAX_SECONDS,
        pos: int = 0,
        end: int | None = None,
    ) -> None:
        self.file, self.pos = file, pos
        self.end = file.size if end is None else min(end, file.size)
        self._bytes_left, self._steps_left = max_bytes, max_steps
        self._deadline = time.thread_time() + seconds
        self._window, self._window_start = b"", pos

    @property
    def remaining(self) -> int:
        return self.end - self.pos

    def fail(self, reason: str) -> MalformedModelFile:
        return MalformedModelFile(f"{self.file.name}: {reason}")

    def spend(self, steps: int) -> None:
        """Announce work of `steps` elements before doing it."""
        self._steps_left -= steps
        if self._steps_left < 0:
            raise self.fail("its header holds more elements than any real model's")
        self.check_time()

    def check_time(self) -> None:
        if time.thread_time() > self._deadline:
            raise self.fail("its header takes too long to read")

    def check_count(self, what: str, count: int, smallest: int, limit: int | None = None) -> int:
        """`count` elements of at least `smallest` bytes must fit into what is left of the file."""
        if count < 0 or count > self.remaining // smallest:
            raise self.fail(f"its header claims {count} {what}, more than the file has room for")
        if limit is not None and count > limit:
            raise self.fail(f"its header claims {count} {what}, more than any real model ({limit})")
        return count

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        start = self.pos - self._window_start
        if start < 0 or start + count > len(self._window):
            self._fill(count)
            start = 0
        self.pos += count
        return self._window[start : start + count]

    def skip(self, count: int) -> None:
        if count < 0 or count > self.remaining:
            raise self.fail("is cut short: an element of its header reaches beyond the end of the file")
        self.pos += count

    def skip_strings(self, count: int, length: Struct) -> None:
        """Pass over `count` strings, each a length followed by that many bytes, without keeping any."""
        self.spend(count)
        width = length.size
        unpack = length.unpack_from
        while count:
            self.check_time()
            start = self.pos - self._window_start
            if start < 0 or start + width > len(self._window):
                self._fill(width)
                start = 0
            window, last = self._window, len(self._window) - width
            while count and start <= last:
                start += width + unpack(window, start)[0]
                count -= 1
            self.pos = self._window_start + start
            if self.pos > self.end:
                raise self.fail("is cut short: a string of its header reaches beyond the end of the file")

    def _fill(self, count: int) -> None:
        """Read a window that starts at `pos` and holds at least `count` bytes."""
        if count > self.remaining:
            raise self.fail("is cut short: its header ends in the middle")
        self.check_time()
        want = min(max(count, WINDOW), self.remaining)
        self._bytes_left -= want
        if self._bytes_left < 0:
            raise self.fail("its header is larger than any real model's")
        self._window, self._window_start = self.file.pread(want, self.pos), self.pos
        if len(self._window) < count:
            raise self.fail("became shorter while it was being read")
        if len(self._window) < want:
            self.end = self.pos + len(self._window)
