"""The order in which downloads run, and how many at once. Lives on the event loop; `settings.py` keeps it on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from pumas.errors import InvalidInput

MOST_AT_ONCE = 16


def check_at_once(at_once: int) -> None:
    """Raises InvalidInput when so many cannot run at once."""
    if not 1 <= at_once <= MOST_AT_ONCE:
        raise InvalidInput("at_once", f"must be 1 to {MOST_AT_ONCE}")


class Queue:
    """A `jobs.service.Turns`. A job keeps its place while it is paused, and loses it with `forget`."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._order: list[str] = []
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._running: set[str] = set()

    @property
    def order(self) -> Sequence[str]:
        return self._order

    @property
    def at_once(self) -> int:
        return self._at_once

    def limit(self, at_once: int) -> None:
        """Running jobs stay when the new number is smaller. Raises InvalidInput as `check_at_once`."""
        check_at_once(at_once)
        self._at_once = at_once
        self._grant()

    def add(self, job_ids: Iterable[str]) -> None:
        """Give new jobs their places at the end."""
        self._order += [job_id for job_id in job_ids if job_id not in self._order]

    def forget(self, job_id: str) -> None:
        if job_id in self._order:
            self._order.remove(job_id)

    def move_first(self, job_ids: Sequence[str]) -> None:
        """These come first, in this order; the others follow as they were. One without a place gets none."""
        first = [job_id for job_id in dict.fromkeys(job_ids) if job_id in self._order]
        self._order = first + [job_id for job_id in self._order if job_id not in first]

    def place_of(self, job_id: str) -> int | None:
        """How many wait before this one, None when it does not wait."""
        if job_id not in self._waiting or job_id not in self._order:
            return None
        before = self._order[: self._order.index(job_id)]
        return sum(other in self._waiting for other in before)

    async def take(self, job_id: str) -> None:
        self.add([job_id])
        turn = asyncio.get_running_loop().create_future()
        self._waiting[job_id] = turn
        self._grant()
        try:
            await turn
        except asyncio.CancelledError:
            if self._waiting.pop(job_id, None) is None:
                self.give_back(job_id)
            raise

    def give_back(self, job_id: str) -> None:
        self._running.discard(job_id)
        self._grant()

    def _grant(self) -> None:
        for job_id in list(self._order):
            if len(self._running) >= self._at_once:
                return
            turn = self._waiting.pop(job_id, None)
            if turn is not None and not turn.done():
                self._running.add(job_id)
                turn.set_result(None)
