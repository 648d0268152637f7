"""Ends the sidecar when the process that started it dies, however it dies.

Linux tells by a file descriptor of the parent (pidfd_open(2)), without any polling; elsewhere the parent's id is
looked at once a second. A parent that is process 1 from the start is no parent to watch.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

POLL_S = 1.0


class ParentWatch:
    """Calls `on_death` once, from the event loop."""

    def __init__(self, parent: int, on_death: Callable[[], None]) -> None:
        """`parent` is the parent's id as it was when this process began: by now it may be gone."""
        self._loop = asyncio.get_running_loop()
        self._on_death = on_death
        self._parent = parent
        self._fd: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        if parent <= 1:
            return
        if os.getppid() != parent:
            self._loop.call_soon(self._died)
            return
        try:
            self._fd = os.pidfd_open(parent)
        except (AttributeError, OSError):
            self._poll()
            return
        self._loop.add_reader(self._fd, self._died)
        # The parent may have died, and its number been reused, before the descriptor was opened.
        if os.getppid() != self._parent:
            self._loop.call_soon(self._died)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def _poll(self) -> None:
        if os.getppid() != self._parent:
            self._died()
        else:
            self._timer = self._loop.call_later(POLL_S, self._poll)

    def _died(self) -> None:
        self.close()
        self._on_death()
