"""Ends the processes of one app: TERM to each, a grace, KILL to what is left. Signals exactly what it is given.

Used by the sidecar (`runs.py`) and, for what the sidecar leaves behind when it stops, by `keeper.py`; both ask
`family.py` who belongs. Standard library alone, see `kernel.py`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from pumas.processes import kernel
from pumas.processes.kernel import Seen

KILL: int = getattr(signal, "SIGKILL", signal.SIGTERM)
# One that is stopped could not even see the first signal.
POLITE: tuple[int, ...] = (signal.SIGTERM, *((signal.SIGCONT,) if hasattr(signal, "SIGCONT") else ()))


class Ending:
    """One attempt. Call `step` again and again until it says True, or until patience is over."""

    def __init__(
        self, family: Callable[[], list[Seen]], grace_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`family` looks who is there now; what comes up on the way is met at the next step."""
        self._family = family
        self._clock = clock
        self._kill_at = clock() + grace_s
        self._told: set[tuple[int, int]] = set()
        self._killed: set[tuple[int, int]] = set()
        self._refused: set[tuple[int, int]] = set()

    @property
    def met(self) -> int:
        """How many there were that could be signalled."""
        return len((self._told | self._killed) - self._refused)

    @property
    def killed(self) -> int:
        """How many did not end by themselves."""
        return len(self._killed - self._refused)

    @property
    def killing(self) -> bool:
        return self._clock() >= self._kill_at

    def step(self) -> bool:
        """Whether nobody is left."""
        here = self._family()
        known, numbers = (self._killed, (KILL,)) if self.killing else (self._told, POLITE)
        for seen in here:
            if self.killing or (seen.pid, seen.start) not in known:
                known.add((seen.pid, seen.start))
                self._tell(seen, numbers)
        return not here

    def _tell(self, seen: Seen, numbers: tuple[int, ...]) -> None:
        try:
            for number in numbers:
                kernel.tell(seen.pid, seen.start, number)
        except OSError:  # another user's
            self._refused.add((seen.pid, seen.start))
