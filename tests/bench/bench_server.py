"""The server: how fast it starts, what it weighs, how many calls it answers, and how it behaves under load."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections.abc import Callable, Iterator

from bench.programs import Client, Program, baseline, callers, request_bytes, requests_per_second, sidecar
from bench.table import Row, Run, interleave, percentile

SETTLE_S = 1.5
"""After the first reply the sidecar may still be warming up; its memory is read when that is over."""


def bench_start(run: Run) -> list[Row]:
    """Start to RPC_PORT= and to the first reply, against the smallest program on the same libraries."""
    roots = (run.folder / str(n) for n in itertools.count())
    ours: list[float] = []
    smallest: list[float] = []

    def start(program: Program, first_replies: list[float]) -> float:
        with program:
            first_replies.append(program.first_reply_s())
            return program.start_s

    rounds = run.pick(full=15, quick=5, tiny=1)
    measured, base = interleave(
        rounds, lambda: start(sidecar(next(roots)), ours), lambda: start(baseline("smallest_server"), smallest)
    )
    return [
        Row("start to RPC_PORT=", measured * 1e3, "ms", base * 1e3, ratio_at_most=1.1),
        Row("start to first reply", percentile(ours, 50) * 1e3, "ms", percentile(smallest, 50) * 1e3),
    ]


def bench_memory(run: Run) -> list[Row]:
    """Resident memory of an empty sidecar after its first reply and when it has settled."""
    with sidecar(run.folder / "root") as ours, baseline("smallest_server") as smallest:
        ours.call("health_check")
        smallest.call("health_check")
        first = ours.rss_mb()
        time.sleep(run.pick(full=SETTLE_S, quick=SETTLE_S, tiny=0.1))
        return [
            Row("memory at the first reply", first, "MB", smallest.rss_mb(), at_most=60),
            Row("memory after start", ours.rss_mb(), "MB", smallest.rss_mb(), at_most=60),
        ]


def bench_health(run: Run) -> list[Row]:
    """health_check per second at 8 connections, against a bare handler that parses and writes JSON."""
    with sidecar(run.folder / "root") as ours, baseline("bare_json_server") as bare:

        def speed(program: Program) -> float:
            length = run.pick(full=2.0, quick=1.0, tiny=0.1)
            return requests_per_second(program.port, "health_check", connections=8, seconds=length)

        measured, base = interleave(run.pick(full=9, quick=3, tiny=1), lambda: speed(ours), lambda: speed(bare))
    return [Row("health_check at 8 connections", measured, "/s", base, ratio_at_least=0.6)]


def bench_busy(run: Run) -> list[Row]:
    """Latency of health_check while four clients ask for get_system_resources in a loop."""
    with sidecar(run.folder / "root") as ours, Client(ours.port, "health_check") as client:
        ours.call("get_system_resources")
        length = run.pick(full=20.0, quick=4.0, tiny=0.2)
        with callers(ours.port, "get_system_resources", run.pick(full=4, quick=4, tiny=1)):
            latencies = latencies_ms(client, lambda since: since < length)
    return latency_rows("health_check beside four resource callers", latencies)


def latencies_ms(client: Client, go_on: Callable[[float], bool]) -> list[float]:
    """Ask every 5 ms while `go_on(seconds since the first)` holds."""
    found: list[float] = []
    started = time.perf_counter()
    while go_on(time.perf_counter() - started) or not found:
        found.append(client.ask()[0] * 1e3)
        time.sleep(0.005)
    return found


def latency_rows(name: str, latencies: list[float]) -> list[Row]:
    return [
        Row(f"{name}: p99", percentile(latencies, 99), "ms", at_most=10),
        Row(f"{name}: p50", percentile(latencies, 50), "ms"),
        Row(f"{name}: slowest", max(latencies), "ms"),
    ]


def bench_idle(run: Run) -> list[Row]:
    """Processor time of an idle sidecar with one reader of /events."""
    length = run.pick(full=60.0, quick=10.0, tiny=0.3)
    with sidecar(run.folder / "root") as ours, _event_reader(ours.port):
        ours.call("health_check")
        time.sleep(run.pick(full=SETTLE_S, quick=SETTLE_S, tiny=0.1))
        cpu, wakes = ours.cpu_s(), ours.wakes()
        time.sleep(length)
        cpu, wakes = ours.cpu_s() - cpu, ours.wakes() - wakes
    return [
        Row("idle with a subscriber: share of one core", 100 * cpu / length, "%", at_most=0.5),
        Row("idle with a subscriber: wakes", wakes / length, "/s"),
    ]


@contextlib.contextmanager
def _event_reader(port: int) -> Iterator[None]:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        head = request_bytes(port, "").partition(b"\r\nContent-Type")[0].replace(b"POST /rpc", b"GET /events")
        connection.sendall(head + b"\r\n\r\n")
        received = b""
        while b"event: ready" not in received:
            received += (more := connection.recv(4096))
            if not more:
                raise ConnectionError("/events ended")
        yield


def bench_flood(run: Run) -> list[Row]:
    """10,000 calls, 1,000 at once: every one answered, memory flat."""
    calls, width = run.pick(full=(10_000, 1000), quick=(2000, 1000), tiny=(40, 20))
    with sidecar(run.folder / "root") as ours, contextlib.ExitStack() as stack:
        ours.call("health_check")
        time.sleep(run.pick(full=SETTLE_S, quick=SETTLE_S, tiny=0.0))
        before = ours.rss_mb()
        started = time.perf_counter()
        clients = [stack.enter_context(Client(ours.port, "list_jobs")) for _ in range(width)]
        answered = slowest = 0.0
        for _ in range(calls // width):
            sent = time.perf_counter()
            for client in clients:
                client.send()
            answered += sum(client.receive().startswith(b'{"jsonrpc":"2.0"') for client in clients)
            slowest = max(slowest, time.perf_counter() - sent)
        took = time.perf_counter() - started
        growth = ours.rss_mb() - before
    return [
        Row(f"{calls:,} calls, {width:,} at once: answered", 100 * answered / calls, "%", at_least=100),
        Row(f"{calls:,} calls, {width:,} at once: memory growth", growth, "MB", at_most=40),
        Row(f"{calls:,} calls, {width:,} at once: calls per second", calls / took, "/s"),
        Row(f"{width:,} at once: until the last is answered", slowest * 1e3, "ms", at_most=2000),
    ]


def bench_stuck(run: Run) -> list[Row]:
    """1,000 idle, slow and half-open connections: what others notice, and how soon each is cut."""
    count, patience = run.pick(full=(1000, 40.0), quick=(1000, 12.0), tiny=(12, 0.5))
    with sidecar(run.folder / "root") as ours, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(ours.port, "health_check")) for _ in range(count)]
        request = request_bytes(ours.port, "health_check")
        # Silent; half a header; a header whose body trickles in; answered once, then silent.
        sent = (b"", request[:40], request[:-20], request)
        opened = time.perf_counter()
        for client, data in zip(clients, itertools.cycle(sent), strict=False):
            client.socket.sendall(data)
        cuts = _Cuts([client.socket for client in clients], slow=[c.socket for c in clients[2::4]])
        latencies = []
        with Client(ours.port, "health_check") as caller:
            while time.perf_counter() < opened + patience and cuts.left:
                latencies.append(caller.ask()[0])
                cuts.look()
                time.sleep(0.005)
    rows = [
        Row(f"health_check beside {count:,} stuck connections: p99", percentile(latencies, 99) * 1e3, "ms", at_most=50)
    ]
    if patience >= 40:
        last = max(cuts.after_s, default=0.0) if not cuts.left else float("inf")
        rows.append(Row(f"{count:,} stuck connections: the last is cut after", last, "s", at_most=30))
    return rows


class _Cuts:
    """When the server closed each of the connections. The slow ones send a byte of a body now and then."""

    def __init__(self, sockets: list[socket.socket], slow: list[socket.socket]) -> None:
        self.left = set(sockets)
        self.after_s: list[float] = []
        self._slow = slow
        self._opened = self._trickled = time.perf_counter()
        for one in sockets:
            one.setblocking(False)

    def look(self) -> None:
        now = time.perf_counter()
        if now > self._trickled + 2:
            self._trickled = now
            for one in self._slow:
                with contextlib.suppress(OSError):
                    one.send(b" ")
        for one in list(self.left):
            with contextlib.suppress(BlockingIOError):
                try:
                    closed = not one.recv(65536)
                except ConnectionError:
                    closed = True
                if closed:
                    self.left.discard(one)
                    self.after_s.append(now - self._opened)
