"""Blocks in order, on their way from a connection to the digests and the disk without being read back.

The thread that verifies a file says which block it wants next. The connection that has just filled that one gives its
buffer away, gets an empty one for it and reads on, while the other thread hashes and writes the block. All other blocks
are written by their connections and read back when it is their turn.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from mmap import mmap
from typing import NamedTuple

from pumas.downloads.shared import LOOK_S


class Given(NamedTuple):
    """A filled block of a generation of the content.

    Its CRC-32 is made by the connection, which has more time than the thread that takes the block.
    """

    generation: int
    block: int
    buffer: mmap
    crc: int


class Relay:
    """For one verifying thread (`open`, `take`, `done`, `close`) and any number of connections (`give`, `settle`)."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._wanted: tuple[int, int] | None = None  # generation and block; None: nobody takes any
        self._generation = 0
        self._given: deque[Given] = deque()
        self._empty: list[mmap] = []
        self._under_way = 0

    # -- connections -------------------------------------------------------------------------------------------------

    def give(self, given: Given, goes_on: Callable[[], bool]) -> mmap | None:
        """An empty buffer for a filled one; None when the block is not the one that is wanted.

        Waits while hashing is behind, and not longer than `goes_on`.
        """
        with self._changed:
            while (given.generation, given.block) == self._wanted:
                if self._empty:
                    self._given.append(given)
                    self._under_way += 1
                    self._wanted = given.generation, given.block + 1
                    self._changed.notify_all()
                    return self._empty.pop()
                if not goes_on():
                    break
                self._changed.wait(LOOK_S)
        return None

    def settle(self, goes_on: Callable[[], bool]) -> None:
        """Wait until all that was given is written, but not longer than `goes_on`."""
        with self._changed:
            while self._under_way and goes_on():
                self._changed.wait(LOOK_S)

    def tell(self) -> None:
        """A connection wrote a block itself."""
        with self._changed:
            self._changed.notify_all()

    # -- the verifying thread ----------------------------------------------------------------------------------------

    def open(self, generation: int, empty: Iterable[mmap]) -> None:
        """Blocks of this generation are to be taken; `empty` buffers, of a block each, go round among connections."""
        with self._changed:
            self._generation = generation
            self._empty = list(empty)

    def take(self, block: int, is_whole: Callable[[int], bool]) -> Given | None:
        """The next block in order, if a connection gave it; None when it is on the disk, or was not there for a while.

        Blocks are asked for in order, and each that was given is `done` before the next.
        """
        with self._changed:
            if not self._given:
                self._wanted = self._generation, block
                self._changed.wait_for(lambda: self._given or is_whole(block), LOOK_S)
            if not self._given:
                # While it is read back, the next may come.
                self._wanted = self._generation, block + is_whole(block)
                return None
            given = self._given.popleft()
            assert given.block == block
            return given

    def done(self, empty: mmap | None = None) -> None:
        """What was taken last is written; `empty` goes round in its stead."""
        with self._changed:
            self._under_way -= 1
            if empty is not None:
                self._empty.append(empty)
            self._changed.notify_all()

    def close(self) -> Iterator[Given]:
        """Take no more; yields what was given and not taken, each `done` when the next is asked for."""
        with self._changed:
            self._wanted = None
            left = [*self._given]
            self._given.clear()
            self._empty.clear()
            # What was taken when its writing failed will not be done any more.
            self._under_way = len(left)
            self._changed.notify_all()
        for given in left:
            yield given
            self.done()
