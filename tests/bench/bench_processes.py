"""Running apps: what a poll of the status costs with three of them, and how long a start and a stop take."""

from __future__ import annotations

import time
from pathlib import Path

from bench.programs import Client, baseline, sidecar
from bench.table import Row, Run, percentile
from processes.programs import Root

APPS = ("one", "two", "three")
POLL_S = 0.5


def bench_apps(run: Run) -> list[Row]:
    """get_status as a shell polls it, with three apps running, against a bare handler; and starting and stopping."""
    root = Root(run.folder / "root")
    for app in APPS:
        root.install(app, "web")
    with sidecar(root.path) as ours, baseline("bare_json_server") as bare:
        starts: list[float] = []
        for app in APPS:
            began = time.perf_counter()
            assert ours.call("launch_app", app_id=app)["ready"]
            starts.append(time.perf_counter() - began)
        weight = max(_private(pid) for pid in root.keepers())
        polls, floor = list[float](), list[float]()
        with Client(ours.port, "get_status") as status, Client(bare.port, "health_check") as smallest:
            for _ in range(run.pick(full=240, quick=40, tiny=3)):
                took, body = status.ask()
                assert body.count(b'"ram_memory"') == 2 * len(APPS)
                polls.append(took)
                floor.append(smallest.ask()[0])
                time.sleep(run.pick(full=POLL_S, quick=POLL_S, tiny=0.05))
        stops: list[float] = []
        for app in APPS:
            began = time.perf_counter()
            ours.call("stop_app", app_id=app)
            stops.append(time.perf_counter() - began)
    return [
        Row("get_status with 3 apps, p50", percentile(polls, 50) * 1e3, "ms", percentile(floor, 50) * 1e3),
        Row("get_status with 3 apps, p99", percentile(polls, 99) * 1e3, "ms", percentile(floor, 99) * 1e3, at_most=2),
        Row("launch_app until ready", percentile(starts, 50) * 1e3, "ms"),
        Row("stop_app", percentile(stops, 50) * 1e3, "ms"),
        Row("memory of an app's keeper", weight, "MB", at_most=10),
    ]


def _private(pid: int) -> float:
    """MB (10^6 bytes) that no other process shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_")) / 1e6
