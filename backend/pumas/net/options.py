"""What a caller can say about a request, and waits that can be ended.

Loaded with the sidecar, so it imports nothing that is not there already.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from pumas import __version__
from pumas.errors import Interrupted

USER_AGENT = f"pumas/{__version__}"
SLICE_S = 0.2
"""How often who waits is asked whether to go on."""

OnWait = Callable[[float, str], None]
"""Told the seconds and the reason of a wait before it begins."""
Stop = Callable[[], None]
"""Raises to end a wait."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `connect_s`: for one address of a host. `read_s`: the longest silence, and for the whole head."""

    connect_s: float = 10.0
    read_s: float = 60.0


class Sleeper:
    """Waits that end when the client is closed or the caller wants it. `sleep` stands in for the clock in tests."""

    def __init__(self, sleep: Callable[[float], None] | None = None) -> None:
        self._closed = threading.Event()
        self._sleep: Callable[[float], object] = sleep or self._closed.wait

    def close(self) -> None:
        self._closed.set()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def check(self, stop: Stop | None) -> None:
        """Raises Interrupted after `close`, and whatever `stop` raises."""
        if self._closed.is_set():
            raise Interrupted("The sidecar is stopping.")
        if stop is not None:
            stop()

    def wait(self, seconds: float, stop: Stop | None) -> None:
        left = seconds
        while left > 0:
            self.check(stop)
            self._sleep(min(left, SLICE_S))
            left -= SLICE_S
        self.check(stop)
