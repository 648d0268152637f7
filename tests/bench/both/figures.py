"""What the Rust backend is held to: each figure measured in turns with the Python backend, which is the baseline.

In every `Row` the measured value is the first backend's, the baseline the second one's.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

from bench import bench_downloads
from bench.library_maker import models, queries, write
from bench.programs import Client, Program, request_bytes, requests_per_second, sidecar
from bench.table import Row, Run, interleave, percentile
from pumas.config import Layout
from sidecar import RUST_SWITCH, rust_binary

SEED = 20
MIB = 1024 * 1024
PATIENCE_S = 300.0
LOADERS = 2
"""Processes that ask at once, so that the asking is not what is measured."""


@dataclass(frozen=True)
class Contest:
    """`served` are the methods that both backends know."""

    run: Run
    served: frozenset[str]
    backends: tuple[str, str] = ("rust", "python")

    def folder(self, name: str) -> Path:
        place = self.run.folder / name
        place.mkdir(parents=True)
        return place

    @contextlib.contextmanager
    def both(self, folder: Path) -> Iterator[list[Program]]:
        """A sidecar of each, on the roots `0` and `1` of the folder."""
        with contextlib.ExitStack() as stack:
            yield [
                stack.enter_context(sidecar(folder / str(number), backend=backend))
                for number, backend in enumerate(self.backends)
            ]


def quiet(program: Program, at_most_s: float = 60.0) -> None:
    """Wait until a sidecar has ended what it does by itself after a start or a call."""
    end = time.monotonic() + at_most_s
    before = program.cpu_s()
    while time.monotonic() < end:
        time.sleep(0.5)
        now = program.cpu_s()
        if now - before < 0.02:
            return
        before = now


# -- an empty library ------------------------------------------------------------------------------------------------


def start(contest: Contest) -> list[Row]:
    numbers = itertools.count()
    folder = contest.folder("start")
    replies: tuple[list[float], list[float]] = ([], [])

    def one(side: int) -> float:
        with sidecar(folder / str(next(numbers)), backend=contest.backends[side]) as program:
            replies[side].append(program.first_reply_s() * 1e3)
            return program.start_s * 1e3

    rounds = contest.run.pick(full=21, quick=5, tiny=1)
    ours, theirs = interleave(rounds, lambda: one(0), lambda: one(1))
    return [
        Row("start to `RPC_PORT=`", ours, "ms", theirs, at_most=30),
        Row("start to the first reply", percentile(replies[0], 50), "ms", percentile(replies[1], 50)),
    ]


def memory(contest: Contest) -> list[Row]:
    with contest.both(contest.folder("memory")) as programs:
        for program in programs:
            program.call("health_check")
        time.sleep(contest.run.pick(full=1.5, quick=1.5, tiny=0.0))
        ours, theirs = (program.rss_mb() for program in programs)
    return [Row("memory after start", ours, "MB", theirs, at_most=15)]


def binary(contest: Contest) -> list[Row]:
    if "rust" not in contest.backends:
        return []
    return [Row("size of the program", rust_binary().stat().st_size / 1e6, "MB", at_most=25)]


def health(contest: Contest) -> list[Row]:
    spawn = multiprocessing.get_context("spawn")
    length = contest.run.pick(full=2.0, quick=1.0, tiny=0.1)
    with contest.both(contest.folder("health")) as programs, spawn.Pool(LOADERS) as loaders:
        rounds = contest.run.pick(full=7, quick=3, tiny=1)
        ours, theirs = interleave(
            rounds,
            lambda: _load(loaders, programs[0].port, length),
            lambda: _load(loaders, programs[1].port, length),
        )
    return [Row("`health_check` at 8 connections", ours, "/s", theirs, ratio_at_least=5)]


def _load(loaders: Pool, port: int, length: float) -> float:
    return sum(loaders.starmap(_asked, [(port, 8 // LOADERS, length)] * LOADERS, chunksize=1))


def _asked(port: int, connections: int, length: float) -> float:
    return requests_per_second(port, "health_check", connections=connections, seconds=length)


# -- a large library -------------------------------------------------------------------------------------------------


@dataclass
class Weights:
    """Resident memory of one backend, by what was done before; MB."""

    by_moment: dict[str, float] = field(default_factory=dict[str, float])

    def weigh(self, moment: str, program: Program) -> None:
        quiet(program)
        self.by_moment[moment] = program.rss_mb()


def large_library(contest: Contest) -> list[Row]:
    """Everything about a library of 100,000 models; each backend has its own index over the same files."""
    count = contest.run.pick(full=100_000, quick=10_000, tiny=20)
    folder = contest.folder("library")
    libraries = [Layout(folder / str(number)).library for number in range(2)]
    for model in models(count, SEED):
        write(libraries[0], model)
    shutil.copytree(libraries[0], libraries[1], copy_function=os.link)
    weights = (Weights(), Weights())

    def first_look(side: int) -> float:
        for file in libraries[side].glob("models.db*"):
            file.unlink()
        with sidecar(folder / str(side), backend=contest.backends[side]) as program:
            took = indexed(program, count)
            weights[side].weigh("after the first look", program)
        return count / took

    rounds = contest.run.pick(full=2, quick=1, tiny=1)
    ours, theirs = interleave(rounds, lambda: first_look(0), lambda: first_look(1))
    rows = [Row(f"first look at {count:,} models", ours, "models/s", theirs, ratio_at_least=2)]
    with contest.both(folder) as programs:
        for weight, program in zip(weights, programs, strict=True):
            indexed(program, count)
            weight.weigh("after a start", program)
        rows += _searches(contest.run, programs, count)
        for weight, program in zip(weights, programs, strict=True):
            weight.weigh("after the searches", program)
        rows += _listings(contest.run, programs, count)
        for weight, program in zip(weights, programs, strict=True):
            weight.weigh("after `get_models`", program)
    for moment, weight in weights[0].by_moment.items():
        rows.append(
            Row(f"memory with {count:,} models, {moment}", weight, "MB", weights[1].by_moment[moment], at_most=60)
        )
    return rows


def indexed(program: Program, count: int) -> float:
    """Seconds from now until the index holds `count` models."""
    began = time.perf_counter()
    while time.perf_counter() < began + PATIENCE_S:
        status = program.call("get_library_status")
        if not status["indexing"] and status["model_count"] >= count:
            return time.perf_counter() - began
        time.sleep(0.05)
    raise TimeoutError(f"{count} models were not indexed within {PATIENCE_S:.0f} s")


def _searches(run: Run, programs: list[Program], count: int) -> list[Row]:
    """One to three words cut to beginnings, 50 results, each asked of both in turn."""
    method = "search_models_fts"
    times: tuple[list[float], list[float]] = ([], [])
    with Asker(programs, method) as asker:
        asker.ask({"query": "warm"})
        for text in queries(run.pick(full=600, quick=300, tiny=5), SEED):
            for values, took in zip(times, asker.ask({"query": text, "limit": 50}), strict=True):
                values.append(took * 1e3)
    name = f"search of {count:,} models"
    half, most = ([percentile(values, percent) for values in times] for percent in (50, 95))
    return [
        Row(f"{name}, p50", half[0], "ms", half[1]),
        Row(f"{name}, p95", most[0], "ms", most[1], at_most=8, ratio_at_most=1.0),
    ]


def _listings(run: Run, programs: list[Program], count: int) -> list[Row]:
    with Asker(programs, "get_models") as asker:
        first = asker.ask({})
        found = [asker.ask({}) for _ in range(run.pick(full=15, quick=5, tiny=1))]
    ours, theirs = (1 / percentile([times[side] for times in found], 50) for side in range(2))
    return [
        Row(f"`get_models` of {count:,}", ours, "/s", theirs, ratio_at_least=3),
        Row(f"`get_models` of {count:,}, the first", 1 / first[0], "/s", 1 / first[1]),
    ]


class Asker:
    """One connection to each of two sidecars that are asked the same in turns, now the one first and now the other."""

    def __init__(self, programs: list[Program], method: str) -> None:
        self._method = method
        self._ports = [program.port for program in programs]
        self._clients = [Client(port, method) for port in self._ports]
        self._turns = itertools.cycle(([0, 1], [1, 0]))

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.socket.close()

    def ask(self, params: dict[str, Any]) -> list[float]:
        """Seconds until the whole reply was there, of each."""
        took = [0.0, 0.0]
        for side in next(self._turns):
            client = self._clients[side]
            client.request = request_bytes(self._ports[side], self._method, params)
            took[side], _ = client.ask()
        return took


# -- files -----------------------------------------------------------------------------------------------------------


def hashing(contest: Contest) -> list[Row]:
    """`verify_library` of one large file, which lies in the page cache: SHA-256 and BLAKE3 of every byte."""
    size = contest.run.pick(full=1024, quick=256, tiny=1) * MIB
    folder = contest.folder("hashing")
    for number in range(2):
        place = Layout(folder / str(number)).library / "llm" / "bench" / "Large"
        place.mkdir(parents=True)
        (place / "metadata.json").write_text(json.dumps({"official_name": "Large"}), encoding="utf-8")
        with (place / "large.gguf").open("wb") as file:
            for _ in range(size // MIB):
                file.write(os.urandom(MIB))
    with contest.both(folder) as programs:

        def rate(program: Program) -> float:
            began = time.perf_counter()
            job = {"job_id": program.call("verify_library", model_ids=["llm/bench/Large"])["job_id"]}
            _ended(program, job)
            return size / (time.perf_counter() - began) / 1e6

        rounds = contest.run.pick(full=7, quick=3, tiny=1)
        for program in programs:
            rate(program)
        ours, theirs = interleave(rounds, lambda: rate(programs[0]), lambda: rate(programs[1]))
    return [Row("hashing (SHA-256 and BLAKE3)", ours, "MB/s", theirs, ratio_at_least=1.0)]


def _ended(program: Program, job: dict[str, str]) -> None:
    end = time.monotonic() + PATIENCE_S
    while (state := program.call("get_job", **job)["job"]["state"]) in ("queued", "running"):
        if time.monotonic() > end:
            raise TimeoutError(f"a job did not end within {PATIENCE_S:.0f} s")
        time.sleep(0.005)
    if state != "completed":
        raise RuntimeError(f"a job ended as {state}")


def downloads(contest: Contest) -> list[Row]:
    """One large file from a hub on loopback, verified, against the other backend, against curl, which verifies nothing,
    and against curl with a digest made of what comes: a SHA-256 is made by one processor, however many there are."""
    if "start_model_download_from_hf" not in contest.served:
        return []
    size = contest.run.pick(full=1024, quick=256, tiny=8) * MIB
    folder = contest.folder("downloads")
    with contextlib.ExitStack() as stack:
        benches = [
            stack.enter_context(
                bench_downloads.Bench(
                    Run(contest.run.size, contest.folder(f"downloads/{number}")),
                    "--big",
                    str(size),
                    env={RUST_SWITCH: "1" if backend == "rust" else "0"},
                )
            )
            for number, backend in enumerate(contest.backends)
        ]
        for bench in benches:
            bench.ours(bench_downloads.BIG)
        rounds = contest.run.pick(full=7, quick=3, tiny=1)
        took = interleave(
            rounds,
            *(lambda bench=bench: bench.ours(bench_downloads.BIG) for bench in benches),
            lambda: benches[0].curl(bench_downloads.BIG, bench_downloads.BIG_FILE),
            lambda: benches[0].curl_verified(bench_downloads.BIG, bench_downloads.BIG_FILE),
        )
    shutil.rmtree(folder)
    ours, theirs, curl, verified = (size / seconds / 1e6 for seconds in took)
    name = f"download of {size // MIB:,} MiB"
    return [
        Row(name, ours, "MB/s", theirs, ratio_at_least=1.0),
        Row(f"{name}, against curl", ours, "MB/s", curl, ratio_at_least=0.9),
        Row(f"{name}, against curl and sha256sum", ours, "MB/s", verified),
    ]


FIGURES: list[Callable[[Contest], list[Row]]] = [start, memory, binary, health, large_library, hashing, downloads]
