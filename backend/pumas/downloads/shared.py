"""What all connections of one running download share: how to stop, how fast to go, how long to try, what to report."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator

from pumas.downloads.bandwidth import Bandwidth
from pumas.downloads.content import Reply
from pumas.downloads.meter import Meter
from pumas.downloads.patience import Patience
from pumas.downloads.schedule import Gate
from pumas.errors import CircuitOpen, Interrupted, NetworkError, Offline, PumasError, RateLimited

# How often a thread that waits looks whether it should stop.
LOOK_S = 0.2
_OFFLINE_S = 2.0
# HTTP answers that may be another one next time (RFC 9110 §15; 408, 425, 429 and the 5xx family).
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})


class Connections:
    """The answers being read now: a stop closes them, so that no read blocks on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Reply, object] = {}
        self._ended = False

    @contextlib.contextmanager
    def reading(self, reply: Reply, owner: object) -> Generator[None]:
        with self._lock:
            self._open[reply] = owner
        try:
            if self._ended:
                reply.close()  # what is read of it now fails
            yield
        finally:
            with self._lock:
                self._open.pop(reply, None)
            reply.close()

    def end(self, owner: object | None = None) -> None:
        """Close those of `owner`, or all for good."""
        with self._lock:
            self._ended = self._ended or owner is None
            closing = [reply for reply, its in self._open.items() if owner is None or its is owner]
        for reply in closing:
            reply.close()

    def cut(self) -> None:
        """Close those that are open now; others may follow."""
        with self._lock:
            closing = list(self._open)
        for reply in closing:
            reply.close()


class Shared:
    """One run of one download. Ends for all of its threads with the first call of `fail`."""

    def __init__(
        self,
        meter: Meter,
        bandwidth: Bandwidth,
        gate: Gate,
        check: Callable[[], None],
        patience: Patience,
        offline: Callable[[], bool] = lambda: False,
    ) -> None:
        """`check` raises when the job was told to stop; `offline` says whether the user wants no traffic."""
        self.meter = meter
        self.bandwidth = bandwidth
        self.gate = gate
        self.patience = patience
        self.connections = Connections()
        self.changed = threading.Condition()
        self.failure: BaseException | None = None
        self._check = check
        self._offline = offline

    def stop(self) -> None:
        """Raise when the run has ended or the job was told to stop. Called at least every LOOK_S."""
        if self.failure is not None:
            raise Interrupted("The download has ended.")
        self._check()

    def mind_offline(self) -> None:
        """Hang up in offline mode: an answer that is still coming would be traffic, too. Called every LOOK_S."""
        if self._offline():
            self.connections.cut()

    def hold(self) -> None:
        """Return while downloads may run; wait when the schedule says otherwise."""
        if not self.gate.is_open():
            self.meter.phase("waiting", "Outside the hours in which downloads run.")
            self.gate.wait(self.stop)
            self.meter.phase("")

    def fail(self, error: BaseException) -> None:
        with self.changed:
            self.failure = self.failure or error
            self.changed.notify_all()
        self.connections.end()

    def wait_after(self, error: PumasError) -> None:
        """Wait as long as this failure asks for; raises it when another try would be of no use."""
        if not is_passing(error):
            raise error
        wait = self.patience.after(error, told_s=told_wait(error), asked_s=asked_wait(error))
        until = time.monotonic() + wait
        self.meter.retries(wait, str(error))
        while (left := until - time.monotonic()) > 0:
            self.stop()
            with self.changed:
                if self.failure is None:
                    self.changed.wait(min(left, LOOK_S))


def is_passing(error: PumasError) -> bool:
    """Whether the same request may succeed later."""
    status = getattr(error, "status", None)
    if isinstance(status, int) and not isinstance(error, RateLimited):
        return status in _PASSING
    return isinstance(error, NetworkError)


def asked_wait(error: PumasError) -> float | None:
    """Seconds that the server or the offline switch makes us wait; None when they do not."""
    if isinstance(error, RateLimited):
        return max(0.1, error.retry_after_s)
    return _OFFLINE_S if isinstance(error, Offline) else None


def told_wait(error: PumasError) -> float | None:
    """Seconds that the circuit breaker makes us wait; None when it does not."""
    return max(0.1, error.retry_after_s) if isinstance(error, CircuitOpen) else None
