"""What is known about each host: its breaker, its gates, and what went to and fro.

`sending.py` keeps them up to date, `service.py` shows them. Bounded: the host that was used longest ago is forgotten
first, unless it is being left alone.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from pumas.errors import NetworkError
from pumas.net.address import Origin
from pumas.net.breaker import Breaker, Circuit
from pumas.net.ratelimit import Gates

MAX_HOSTS = 256


@dataclass(frozen=True, slots=True)
class Counted:
    """Since the start. A request counts once, however often it was tried; `total` = `succeeded` + `failed`.

    `failed`: no answer, one that is no HTTP, 5xx, or a request to come back later. Not sent, and not in `total`:
    `rejected`, because the host is left alone, and `withheld`, because it asked to wait or offline mode is on.
    `interrupted`: bodies that broke off after a good beginning. `received`: bytes of bodies.
    """

    succeeded: int = 0
    failed: int = 0
    rejected: int = 0
    withheld: int = 0
    retries: int = 0
    interrupted: int = 0
    received: int = 0

    @property
    def total(self) -> int:
        return self.succeeded + self.failed

    @property
    def success_rate(self) -> float:
        """Percent, 0.0 when nothing was asked yet."""
        return round(100.0 * self.succeeded / self.total, 1) if self.total else 0.0


class Tally:
    """Counts, for one host or for all. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = Counted()
        self._received = 0

    def add(self, **more: int) -> None:
        with self._lock:
            self._now = replace(self._now, **{name: getattr(self._now, name) + by for name, by in more.items()})

    def receive(self, size: int) -> None:
        with self._lock:
            self._received += size

    @property
    def now(self) -> Counted:
        with self._lock:
            return replace(self._now, received=self._received)


@dataclass(frozen=True, slots=True)
class HostState:
    """One host as it is now. The two waits are in seconds, 0.0 when there is none; `last_error` is one sentence."""

    host: str
    circuit: Circuit
    circuit_wait_s: float
    rate_limit_wait_s: float
    counted: Counted
    last_error: str | None


@dataclass(frozen=True, slots=True)
class NetworkStatus:
    """`offline` is the setting; `proxy` what requests to most hosts go through, without its password."""

    offline: bool
    proxy: str | None
    counted: Counted
    hosts: list[HostState]

    @property
    def is_offline(self) -> bool:
        """Whether something is out of reach now: by choice, or because a host failed repeatedly."""
        return self.offline or any(host.circuit is Circuit.OPEN for host in self.hosts)

    @property
    def circuits(self) -> dict[str, str]:
        return {host.host: host.circuit.value for host in self.hosts}


class Host:
    def __init__(self, origin: Origin, clock: Callable[[], float], changed: Callable[[], None], all_: Tally) -> None:
        self.origin = origin
        self.breaker = Breaker(origin.netloc, clock, lambda _state: changed())
        self.gates = Gates()
        self._clock = clock
        self._tallies = (Tally(), all_)
        self._last_error: str | None = None

    def count(self, **more: int) -> None:
        for tally in self._tallies:
            tally.add(**more)

    def receive(self, size: int) -> None:
        for tally in self._tallies:
            tally.receive(size)

    def blame(self, error: NetworkError) -> None:
        """Remember what went wrong last; errors hold neither addresses nor tokens."""
        self._last_error = str(error)

    @property
    def idle(self) -> bool:
        """Nothing would be lost but numbers if this host were forgotten."""
        return self.breaker.state is Circuit.CLOSED and self.gates.longest(self._clock()) == 0.0

    def state(self) -> HostState:
        return HostState(
            host=self.origin.label,
            circuit=self.breaker.state,
            circuit_wait_s=self.breaker.wait(),
            rate_limit_wait_s=self.gates.longest(self._clock()),
            counted=self._tallies[0].now,
            last_error=self._last_error,
        )


class Hosts:
    """Thread-safe. `changed` is called when a host begins or ends to be left alone."""

    def __init__(self, clock: Callable[[], float], changed: Callable[[], None]) -> None:
        self._clock, self._changed = clock, changed
        self._lock = threading.Lock()
        self._known: OrderedDict[Origin, Host] = OrderedDict()
        self.tally = Tally()

    def __getitem__(self, origin: Origin) -> Host:
        with self._lock:
            host = self._known.get(origin)
            if host is None:
                host = self._known[origin] = Host(origin, self._clock, self._changed, self.tally)
                self._forget()
            self._known.move_to_end(origin)
            return host

    def states(self) -> list[HostState]:
        with self._lock:
            hosts = list(self._known.values())
        return [host.state() for host in hosts]

    def _forget(self) -> None:
        if len(self._known) > MAX_HOSTS:
            origin = next((one for one, host in self._known.items() if host.idle), next(iter(self._known)))
            del self._known[origin]
