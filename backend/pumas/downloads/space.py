"""Room on the disk for all downloads together: what one was promised is not promised to another.

A promise shrinks as bytes arrive. The rest of the machine may still fill the disk, so writing can fail all the same; a
download then waits here until there is room again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from pumas.errors import NotEnoughSpace
from pumas.storage.files import free_space

# Left for everything else that lives on the volume.
MARGIN = 256 * 1024 * 1024

Remaining = Callable[[], int]


class Space:
    def __init__(self, folder: Path, free: Callable[[Path], int] = free_space) -> None:
        self._folder = folder
        self._free = free
        self._lock = threading.Lock()
        self._promised: dict[str, Remaining] = {}

    def unpromised(self, apart_from: str = "") -> int:
        """Bytes that nobody was promised, with what is left for everything else; never negative.

        Raises the disk's failures.
        """
        with self._lock:
            others = sum(remaining() for owner, remaining in self._promised.items() if owner != apart_from)
        return max(0, self._free(self._folder) - others)

    def room(self) -> int:
        """What may be promised to a new owner. Raises the disk's failures."""
        return max(0, self.unpromised() - MARGIN)

    def require(self, needed: int, apart_from: str = "") -> None:
        """Raises NotEnoughSpace, with what is left for everything else in both numbers, and the disk's failures."""
        free = self.unpromised(apart_from)
        if needed > max(0, free - MARGIN):
            raise NotEnoughSpace(needed + MARGIN, free)

    def promise(self, owner: str, remaining: Remaining) -> None:
        """Keep room for what `remaining` says is still to be written, now and later.

        Raises:
            NotEnoughSpace: there is no room for all of it; nothing was promised.
        """
        self.require(remaining(), owner)
        self.keep(owner, remaining)

    def keep(self, owner: str, remaining: Remaining) -> None:
        """As `promise` for one who has looked at the disk just now; does not touch it."""
        with self._lock:
            self._promised[owner] = remaining

    def release(self, owner: str) -> None:
        with self._lock:
            self._promised.pop(owner, None)
