"""How often an action may be asked for: a sliding window per action, for all apps and tags together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

from pumas.errors import TooManyCalls

WINDOW_S = 60.0
LIMITS = {"install_version": 3, "remove_version": 5, "cancel_installation": 10}


class Rates:
    """Called on the event loop alone."""

    def __init__(self, limits: Mapping[str, int] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = LIMITS if limits is None else limits
        self._clock = clock
        self._calls = {action: deque[float](maxlen=limit) for action, limit in self._limits.items()}

    def count(self, action: str) -> None:
        """Raises TooManyCalls; such a call does not count."""
        calls = self._calls[action]
        moment = self._clock()
        if len(calls) == self._limits[action] and moment - calls[0] < WINDOW_S:
            raise TooManyCalls(action, WINDOW_S - (moment - calls[0]))
        calls.append(moment)
