"""When a cut event stream is opened again, and when to give up. Decided once for both clients."""

from __future__ import annotations

import time

from pumas.client.errors import NotReachable
from pumas.client.sse import READY, Event

GIVE_UP_S = 30.0
_FIRST_PAUSE_S = 0.05


class Reconnect:
    """The cursor to go on from, and the growing pauses between attempts that reach nothing."""

    def __init__(self, after: int | None) -> None:
        self.cursor = after
        self._pause = 0.0
        self._lost_at: float | None = None

    def saw(self, event: Event) -> None:
        """The stream lives; remember where it is."""
        self._pause, self._lost_at = 0.0, None
        if event.topic == READY:
            # Where this reader begins, unless it continues an earlier stream: what was missed follows then.
            start = event.data.get("cursor")
            if self.cursor is None and isinstance(start, int):
                self.cursor = start
        elif event.cursor is not None:
            self.cursor = event.cursor

    def next_pause(self, limit_s: float) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            NotReachable: nothing was reached for `GIVE_UP_S`.
        """
        moment = time.monotonic()
        self._lost_at = self._lost_at or moment
        if moment - self._lost_at > GIVE_UP_S:
            raise NotReachable("The event stream was cut and the sidecar did not come back. Start one: pumas serve")
        pause = self._pause
        self._pause = min(max(pause * 2, _FIRST_PAUSE_S), limit_s)
        return pause
