"""Downloads: against curl and the official client, over slow connections, under a limit, and what they cost others.

The hub is a process of its own on loopback, so all share one machine: what counts are the ratios.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil

import sidecar as running
from bench.table import Row, Run, interleave, percentile, seconds
from fixtures.hub import HubContent
from fixtures.hub.remote import RemoteHub
from fixtures.hub.repositories import BIG, BIG_FILE, MANY, big_repository

MIB = 1 << 20
MB = 1_000_000
# Prints the seconds of the download alone: starting Python and loading the client are not counted.
_OFFICIAL = """
import sys, time
from huggingface_hub import hf_hub_download, snapshot_download
repo, name, folder = sys.argv[1:4]
begun = time.perf_counter()
hf_hub_download(repo, name, local_dir=folder) if name else snapshot_download(repo, local_dir=folder)
print(time.perf_counter() - begun)
"""


SEVERAL = [f"heavy/big-file-{number}" for number in range(4)]


def several_big(size: int) -> HubContent:
    """Repositories of one file each, with different contents: the same file is downloaded once, whoever asks again."""
    return HubContent.of(*(big_repository(size, repo, seed) for seed, repo in enumerate(SEVERAL)))


class Bench:
    """A hub, a sidecar that uses it, and the two programs to compare with."""

    def __init__(self, run: Run, *hub_options: str, env: Mapping[str, str] | None = None) -> None:
        self.folder = run.folder
        self.hub = RemoteHub(*hub_options).__enter__()
        (self.folder / "root").mkdir()
        self.env = self.hub.env(home=self.folder / "home") | dict(env or {})
        self.sidecar = running.start(self.folder / "root", env=self.env)
        self.process = psutil.Process(self.sidecar.pid)
        self._number = 0

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.sidecar.close()
        self.hub.__exit__(None, None, None)

    def start(self, repo: str, **wishes: Any) -> str:
        self._number += 1
        name = f"model-{self._number}"
        asked = {"repo_id": repo, "family": "bench", "official_name": name, "security_acknowledged": True, **wishes}
        return str(self.sidecar.result("start_model_download_from_hf", asked)["download_id"])

    def status(self, download: str) -> dict[str, Any]:
        return self.sidecar.result("get_model_download_status", {"download_id": download})

    def finish(self, download: str) -> dict[str, Any]:
        while (now := self.status(download))["status"] not in ("completed", "error", "cancelled"):
            time.sleep(0.01)
        if now["status"] != "completed":
            raise AssertionError(now["error"])
        return now

    def ours(self, repo: str) -> float:
        """Seconds from the call to the model in the library; it is removed again afterwards."""
        done: dict[str, Any] = {}
        took = seconds(lambda: done.update(self.finish(self.start(repo))))
        self.remove(done)
        return took

    def remove(self, done: dict[str, Any]) -> None:
        self.sidecar.result("delete_model_with_cascade", {"model_id": done["model_id"]})
        self.sidecar.result("empty_trash", {})

    def curl(self, repo: str, name: str) -> float:
        target = self.folder / "curl"
        url = f"{self.hub.url}/{repo}/resolve/main/{name}"
        took = seconds(lambda: subprocess.run(["curl", "-sLfo", target, url], check=True))
        target.unlink()
        return took

    def curl_verified(self, repo: str, name: str) -> float:
        """As `curl`, with a digest of what came made at the same time by another process."""
        target = self.folder / "curl"
        url = f"{self.hub.url}/{repo}/resolve/main/{name}"
        pipe = f'curl -sLf "{url}" | tee "{target}" | sha256sum'
        took = seconds(lambda: subprocess.run(["sh", "-c", pipe], check=True, stdout=subprocess.DEVNULL))
        target.unlink()
        return took

    def official(self, repo: str, name: str = "") -> float:
        self._number += 1
        folder = self.folder / f"official-{self._number}"
        words = [sys.executable, "-c", _OFFICIAL, repo, name, str(folder)]
        printed = subprocess.run(
            words, check=True, env=running.environment(None, self.env), capture_output=True, text=True
        )
        subprocess.run(["rm", "-r", folder], check=True)
        return float(printed.stdout)


def bench_download_big(run: Run) -> list[Row]:
    """One large file, verified, against curl and the official client, which do not verify."""
    size = run.pick(full=1024, quick=256, tiny=8) * MIB
    with Bench(run, "--big", str(size)) as bench:
        bench.ours(BIG)
        rounds = run.pick(full=7, quick=3, tiny=1)
        ours, curl, verified, official = interleave(
            rounds,
            lambda: bench.ours(BIG),
            lambda: bench.curl(BIG, BIG_FILE),
            lambda: bench.curl_verified(BIG, BIG_FILE),
            lambda: bench.official(BIG, BIG_FILE),
        )
    rates = [size / took / MB for took in (ours, curl, verified, official)]
    name = f"download of {size // MIB:,} MiB"
    return [
        Row(f"{name}, against curl", rates[0], "MB/s", rates[1], ratio_at_least=0.8),
        Row(f"{name}, against curl | tee | sha256sum", rates[0], "MB/s", rates[2]),
        Row(f"{name}, against huggingface-hub", rates[0], "MB/s", rates[3], ratio_at_least=1.0),
    ]


def bench_download_small(run: Run) -> list[Row]:
    """A repository of 200 small files, against the official client."""
    with Bench(run) as bench:
        bench.ours(MANY)
        rounds = run.pick(full=9, quick=3, tiny=1)
        ours, official = interleave(rounds, lambda: bench.ours(MANY), lambda: bench.official(MANY))
    return [Row("200 small files, against huggingface-hub", 200 / ours, "/s", 200 / official, ratio_at_least=1.5)]


def bench_download_connections(run: Run) -> list[Row]:
    """A server that gives each connection 20 MB/s."""
    size = run.pick(full=200, quick=100, tiny=4) * MIB
    with Bench(run, "--big", str(size), "--rate", str(20 * MB)) as bench:
        rounds = run.pick(full=3, quick=1, tiny=1)
        ours, curl = interleave(rounds, lambda: bench.ours(BIG), lambda: bench.curl(BIG, BIG_FILE))
    return [Row("20 MB/s per connection", size / ours / MB, "MB/s", size / curl / MB, ratio_at_least=3.0)]


def bench_download_limit(run: Run) -> list[Row]:
    """A limit of 10 MB/s over four downloads, and how soon a change of it acts."""
    window = run.pick(full=10.0, quick=5.0, tiny=0.5)
    with Bench(run, "--big", str(2048 * MIB), "--content", f"{__name__}:several_big") as bench:
        bench.sidecar.result("set_download_limits", {"bytes_per_second": 10 * MB, "at_once": 4})
        downloads = [bench.start(repo) for repo in SEVERAL]
        bench.hub.wait_until(lambda: bench.hub.bytes_sent() > MIB)

        def arrived() -> int:
            return sum(bench.status(download)["downloaded_bytes"] for download in downloads)

        def rate(for_s: float) -> float:
            before, begun = arrived(), time.perf_counter()
            time.sleep(for_s)
            return (arrived() - before) / (time.perf_counter() - begun) / MB

        time.sleep(min(1.0, window))
        steady = rate(window)
        bench.sidecar.result("set_download_limits", {"bytes_per_second": 40 * MB})
        time.sleep(min(1.0, window))
        changed = rate(min(2.0, window))
        for download in downloads:
            bench.sidecar.result("cancel_model_download", {"download_id": download})
    return [
        Row("limit of 10 MB/s over four downloads", steady, "MB/s", 10.0, ratio_at_least=0.9, ratio_at_most=1.1),
        Row("1 s after a change to 40 MB/s", changed, "MB/s", 40.0, ratio_at_least=0.9, ratio_at_most=1.1),
    ]


def bench_download_costs(run: Run) -> list[Row]:
    """Memory above idle, and what others notice, while large files arrive as fast as they can."""
    sizes = run.pick(full=(1024, 4096), quick=(512,), tiny=(8,))
    rows: list[Row] = []
    for number, size in enumerate(sizes):
        inner = Run(run.size, run.folder / str(number))
        inner.folder.mkdir()
        with Bench(inner, "--big", str(size * MIB)) as bench:
            before = bench.process.memory_info().rss
            bench.sidecar.result("get_hf_model", {"repo_id": BIG})
            asked = bench.process.memory_info().rss
            latencies, peak = _beside(bench, lambda: bench.ours(BIG))
        rows += [
            Row(f"{size:,} MiB: memory above idle", (peak - before) / MB, "MB", at_most=40),
            Row(f"{size:,} MiB: of it the hub's client library", (asked - before) / MB, "MB"),
            Row(f"{size:,} MiB: health_check p99 meanwhile", percentile(latencies, 99) * 1000, "ms", at_most=10),
        ]
    return rows


def _beside(bench: Bench, work: Callable[[], object]) -> tuple[list[float], int]:
    """Seconds of each health check, and the largest memory in bytes, while `work` runs."""
    done = threading.Event()
    worker = threading.Thread(target=lambda: (work(), done.set()))
    latencies, peak = [], 0
    worker.start()
    while not done.wait(0.01):
        latencies.append(seconds_quick(lambda: bench.sidecar.result("health_check", {})))
        peak = max(peak, bench.process.memory_info().rss)
    worker.join()
    return latencies or [0.0], peak


def seconds_quick(work: Callable[[], object]) -> float:
    """Without a collection before it, which would take longer than the work."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
