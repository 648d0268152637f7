"""A file that has not arrived yet: `<name>.part` holds its bytes, `<name>.blocks` says which blocks are there.

Blocks are written in any order by several threads, each with its CRC-32, recorded after the bytes. A killed process
loses at most the blocks that were under way; after a power cut a record may be there without its bytes, and then the
CRC says so. The CRC only finds what the disk did to a block: whether the bytes are the right ones is decided by the
whole file's digest (`large.py`). Nothing here knows the network.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import struct
import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pumas.errors import DiskError
from pumas.storage.files import disk_errors

MIB = 1024 * 1024
SMALLEST_BLOCK = MIB
LARGEST_BLOCK = 2 * MIB
# From this size on, a file's blocks are of two MiB.
_LARGE = 256 * MIB
_MAGIC = b"PUMASBK1"
_HEADER = struct.Struct("<8sQI64s512s")  # magic, size, block size, digest (hex), ETag
_RECORD = struct.Struct("<II")  # state, CRC-32
_MISSING, _WHOLE = 0, 1
# Of this many bytes are writes past the page cache on all usual disks (open(2), O_DIRECT).
_DIRECT_UNIT = 4096


def block_size_for(size: int) -> int:
    """Bytes per block: small enough that a kill costs little (each connection loses at most one), large enough that
    passing blocks from thread to thread does not take longer than a fast line."""
    return SMALLEST_BLOCK if size < _LARGE else LARGEST_BLOCK


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from `start` up to, not including, `stop`."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


class PartFile:
    """The blocks of one file. All methods may be called from any thread, and all that touch the disk block.

    `size` is in bytes, `digest` the expected digest in hex: another digest means another file, begun anew.
    """

    def __init__(self, folder: Path, name: str, size: int, digest: str) -> None:
        """Open what is there, or create it.

        Raises:
            DiskError, NotEnoughSpace, ReadOnly.
        """
        # Many times as fast as the crc32 of most zlibs, which would take a sixth of the work of a download. Imported
        # where a file is downloaded: a start has no use for it.
        from zlib_ng.zlib_ng import crc32  # pyright: ignore[reportUnknownVariableType] - its data has no type

        self._crc32: Callable[[memoryview], int] = crc32
        self.path = folder / f"{name}.part"
        self._records_path = folder / f"{name}.blocks"
        self.size = size
        self.block_size = block_size_for(size)
        self.count = -(-size // self.block_size)
        self._digest = digest
        self._lock = threading.Lock()
        self._etag = ""
        self._arrived = 0
        self._whole = bytearray(self.count)
        self._crcs = array("I", bytes(4 * self.count))
        self._data = self._records = -1
        # Opened at the first write that asks for it; below zero where the disk takes no such writes.
        self._direct: int | None = None
        try:
            with disk_errors("Opening a partial download"):
                self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._data = os.open(self.path, flags, 0o644)
        self._records = os.open(self._records_path, flags, 0o600)
        if not self._load():
            self._reset()
        try:
            os.ftruncate(self._data, self.size)
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            # Waiting for room would be of no use.
            raise DiskError(f"The disk cannot hold a file of {self.size:,} bytes (as FAT, from 4 GiB on).") from None

    # -- what is there -----------------------------------------------------------------------------------------------

    @property
    def etag(self) -> str:
        """The server's name for the content of which the blocks are parts; "" before the first."""
        return self._etag

    def arrived(self) -> int:
        """Bytes of whole blocks."""
        return self._arrived

    def span(self, block: int) -> Span:
        return Span(block * self.block_size, min((block + 1) * self.block_size, self.size))

    def missing(self, *, start: int = 0) -> Iterator[tuple[int, int]]:
        """Runs of missing blocks (first, one past the last) from block `start` on."""
        with self._lock:
            whole = bytes(self._whole)
        at = whole.find(_MISSING, start)
        while at >= 0:
            end = whole.find(_WHOLE, at)
            end = self.count if end < 0 else end
            yield at, end
            at = whole.find(_MISSING, end)

    def is_whole(self, block: int) -> bool:
        return bool(self._whole[block])

    @property
    def complete(self) -> bool:
        """Whether no block is missing."""
        return self._whole.find(_MISSING) < 0

    def buffer(self) -> mmap.mmap:
        """Room for a block."""
        return mmap.mmap(-1, self.block_size)

    # -- changes -----------------------------------------------------------------------------------------------------

    def name_content(self, etag: str) -> None:
        """Remember the ETag of the content under way."""
        with self._lock, disk_errors("Writing a partial download"):
            self._etag = etag if len(etag.encode()) <= 512 else ""
            os.pwrite(self._records, self._header(), 0)

    def crc(self, data: memoryview) -> int:
        """By which a block is known to be as it was written."""
        return self._crc32(data)

    def write(self, block: int, data: memoryview, crc: int | None = None, *, direct: bool = False) -> None:
        """Keep a whole block: first its bytes, then the record of it, with its `crc` where that is known.

        `direct`: past the page cache, where that can be. `data` begins at a page's start then. The kernel has less than
        half the work, and the block is on the disk afterwards; to be read soon, it should not be written so.
        """
        crc = self.crc(data) if crc is None else crc
        with disk_errors("Writing a download"):
            if not (direct and self._write_direct(block, data)):
                _pwrite_all(self._data, data, block * self.block_size)
            self._record(block, _WHOLE, crc)
        with self._lock:
            if not self._whole[block]:
                self._arrived += len(data)
            self._whole[block], self._crcs[block] = _WHOLE, crc

    def _write_direct(self, block: int, data: memoryview) -> bool:
        """False: it is to be written as others are."""
        if self._direct is None:
            self._direct = _open_direct(self.path)
        if self._direct < 0 or len(data) % _DIRECT_UNIT:
            return False
        try:
            return os.pwrite(self._direct, data, block * self.block_size) == len(data)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            os.close(self._direct)
            self._direct = -1
            return False

    def read(self, block: int, buffer: memoryview) -> None:
        """Fill `buffer`, of the block's length, from the disk.

        Raises:
            DiskError: the disk fails, or the file became shorter.
        """
        at = block * self.block_size
        done = 0
        while done < len(buffer):
            with disk_errors("Reading a partial download"):
                got = os.preadv(self._data, [buffer[done:]], at + done)
            if not got:
                raise DiskError(f"{self.path.name} became shorter while it was read; try again.")
            done += got

    def damaged(self, check: Callable[[], None]) -> list[int]:
        """The blocks whose bytes are not those that were written. Reads the whole file; `check` may raise to stop."""
        buffer = memoryview(bytearray(self.block_size))
        found: list[int] = []
        for block in range(self.count):
            check()
            view = buffer[: self.span(block).size]
            self.read(block, view)
            if not self.matches(block, view):
                found.append(block)
        return found

    def matches(self, block: int, data: memoryview) -> bool:
        """Whether these bytes are those of the block that was written."""
        return self.is_whole(block) and self.crc(data) == self._crcs[block]

    def forget(self, block: int) -> None:
        """Count a block as missing."""
        with self._lock:
            if self._whole[block]:
                self._arrived -= self.span(block).size
            self._whole[block] = _MISSING
        with disk_errors("Writing a partial download"):
            self._record(block, _MISSING, 0)

    def forget_all(self) -> None:
        """Begin anew: the content is another one."""
        with self._lock, disk_errors("Writing a partial download"):
            self._reset()

    def start_writing(self, first: int, stop: int) -> None:
        """Ask the kernel to begin writing these blocks to the disk, so that `sync` has little left to wait for."""
        if sys.platform == "linux":
            span = self.span(first).start, self.span(stop - 1).stop
            with contextlib.suppress(OSError):
                # Dirty pages are queued for writing, not dropped (mm/fadvise.c); sync_file_range is not in Python.
                os.posix_fadvise(self._data, span[0], span[1] - span[0], os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        """Make all bytes durable."""
        with disk_errors("Writing a download"):
            os.fsync(self._data)

    def close(self) -> None:
        for fd in (self._data, self._records, self._direct):
            if fd is not None and fd >= 0:
                os.close(fd)
        self._data = self._records = -1
        self._direct = None

    # -- the records' form -------------------------------------------------------------------------------------------

    def _header(self) -> bytes:
        return _HEADER.pack(_MAGIC, self.size, self.block_size, self._digest.encode(), self._etag.encode())

    def _record(self, block: int, state: int, crc: int) -> None:
        os.pwrite(self._records, _RECORD.pack(state, crc), _HEADER.size + block * _RECORD.size)

    def _reset(self) -> None:
        self._etag = ""
        self._arrived = 0
        self._whole = bytearray(self.count)
        self._crcs = array("I", bytes(4 * self.count))
        os.ftruncate(self._records, 0)
        os.pwrite(self._records, self._header(), 0)

    def _load(self) -> bool:
        """False when there are no records, or those of another file."""
        data = os.pread(self._records, _HEADER.size + self.count * _RECORD.size, 0)
        if len(data) < _HEADER.size:
            return False
        magic, size, block_size, digest, etag = _HEADER.unpack_from(data)
        known = (magic, size, block_size, digest.rstrip(b"\0"))
        if known != (_MAGIC, self.size, self.block_size, self._digest.encode()):
            return False
        self._etag = etag.rstrip(b"\0").decode("utf-8", "replace")
        on_disk = os.fstat(self._data).st_size
        for block in range(min(self.count, (len(data) - _HEADER.size) // _RECORD.size)):
            state, crc = _RECORD.unpack_from(data, _HEADER.size + block * _RECORD.size)
            if state != _WHOLE:
                continue
            if self.span(block).stop <= on_disk:
                self._whole[block], self._crcs[block] = _WHOLE, crc
                self._arrived += self.span(block).size
            else:
                self._record(block, _MISSING, 0)  # the file gets its length back, and would seem to have it
        return True


def _open_direct(path: Path) -> int:
    """A descriptor for writing past the page cache; -1 where there is no such thing."""
    try:
        return os.open(path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (AttributeError, OSError):
        return -1


def _pwrite_all(fd: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)
