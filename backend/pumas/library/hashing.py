"""SHA-256 and BLAKE3 of a file in one read, each on a thread of its own.

The caller's thread reads (and, in `copying.py`, writes); blocks travel reader -> SHA-256 -> BLAKE3 -> reader, so that
the slowest of the three sets the pace and memory stays at a few blocks. Files are read with pread, never mapped: a file
that shrinks under us is an error for that file, not a SIGBUS. What digests are compared with is not known here.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import queue
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from pumas import footprint
from pumas.errors import DiskError, FileUnavailable
from pumas.library.formats.reader import OpenedFile, open_regular

BLOCK = 1024 * 1024
_BLOCKS_UNDER_WAY = 6

# Called with the bytes done since the last call; raises to stop the work (JobContext.check does).
Advance = Callable[[int], None]
# Called with a block and its offset in the file.
Sink = Callable[[memoryview, int], None]


def no_advance(_count: int) -> None:
    """For work that nobody follows."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Which file it is and whether it was written since: what `fstat` says about identity, size and time."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Digests:
    """Lower-case hex of all bytes that were read, and how many there were."""

    sha256: str
    blake3: str
    size: int


class _Hash(Protocol):
    def update(self, data: memoryview, /) -> object: ...
    def hexdigest(self) -> str: ...


_Item = tuple[mmap.mmap, int] | None


class DigestPair:
    """A ring of buffers with a hashing thread at two of its stations. Leaving the `with` block ends the threads."""

    def __init__(self, buffers: int = _BLOCKS_UNDER_WAY, size: int = BLOCK) -> None:
        """`buffers` of `size` bytes each go round, at least 2."""
        from blake3 import blake3

        self._sha256, self._blake3 = hashlib.sha256(), blake3()
        self._free: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._to_sha256: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._to_blake3: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._buffers, self._buffer_size = buffers, size
        self._made = 0
        self._size = 0
        self._failure: BaseException | None = None
        self._threads = [
            self._station("sha256", self._sha256, self._to_sha256, self._to_blake3),
            self._station("blake3", self._blake3, self._to_blake3, self._free),
        ]

    def _station(
        self, name: str, digest: _Hash, inbox: queue.SimpleQueue[_Item], outbox: queue.SimpleQueue[_Item]
    ) -> threading.Thread:
        def work() -> None:
            footprint.give_way()
            while (item := inbox.get()) is not None:
                try:
                    digest.update(memoryview(item[0])[: item[1]])
                except BaseException as error:
                    # The block goes on round the ring, or the reader would wait for it for ever.
                    self._failure = error
                outbox.put(item)
            outbox.put(None)

        return threading.Thread(target=work, name=f"hash-{name}", daemon=True)

    def __enter__(self) -> DigestPair:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._to_sha256.put(None)
        for thread in self._threads:
            thread.join()

    def buffer(self) -> mmap.mmap:
        """A buffer that no thread reads any more, and that begins with a page; waits when all are under way."""
        if self._made < self._buffers:
            self._made += 1
            return mmap.mmap(-1, self._buffer_size)
        item = self._free.get()
        assert item is not None
        return item[0]

    def put(self, buffer: mmap.mmap, length: int) -> None:
        self._size += length
        self._to_sha256.put((buffer, length))

    def digests(self) -> Digests:
        self._end()
        if self._failure is not None:
            raise self._failure
        return Digests(self._sha256.hexdigest(), self._blake3.hexdigest(), self._size)


def digest_open(source: OpenedFile, advance: Advance, sink: Sink | None = None) -> Digests:
    """Read an open file once, from start to end, for both digests and for `sink`.

    Raises:
        FileUnavailable: it became shorter or was written while it was read.
        DiskError: the disk failed; the message names the file and the offset.
    """
    stamp = Stamp.of(os.fstat(source.fd))
    offset = 0
    with DigestPair() as pair:
        while offset < stamp.size:
            buffer = pair.buffer()
            count = _read_into(source, memoryview(buffer)[: min(BLOCK, stamp.size - offset)], offset)
            if count == 0:
                raise FileUnavailable(source.name, f"became shorter while it was read (at byte {offset})")
            if sink is not None:
                sink(memoryview(buffer)[:count], offset)
            pair.put(buffer, count)
            offset += count
            advance(count)
        digests = pair.digests()
    if Stamp.of(os.fstat(source.fd)) != stamp:
        raise FileUnavailable(source.name, "was changed while it was read; try again when nothing writes to it")
    return digests


def digest_file(path: Path, advance: Advance = no_advance) -> Digests:
    """Both digests of a regular file. Raises as `digest_open`, and FileUnavailable for anything but a regular file."""
    with open_regular(path) as source:
        return digest_open(source, advance)


def _read_into(source: OpenedFile, view: memoryview, offset: int) -> int:
    try:
        if sys.platform == "win32":
            os.lseek(source.fd, offset, os.SEEK_SET)
            data = os.read(source.fd, len(view))
            view[: len(data)] = data
            return len(data)
        return os.preadv(source.fd, [view], offset)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise DiskError(f"Reading {source.name} failed at byte {offset}: {reason}.") from error
