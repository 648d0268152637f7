"""The server and the library at work together: latency beside heavy work, memory with a large library."""

from __future__ import annotations

import json
import os
import random
import struct
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.programs import Client, Program, callers, sidecar
from bench.table import Row, Run, percentile
from pumas.config import Layout

MIB = 1024 * 1024
PATIENCE_S = 300.0
SETTLE_S = 1.5


def bench_all_at_once(run: Run) -> list[Row]:
    """Latency of health_check beside four resource callers, a 2 GiB import and the first reconcile of 20,000 models."""
    models, size, clients = run.pick(full=(20_000, 2048, 4), quick=(4000, 512, 4), tiny=(5, 1, 1))
    root, source = run.folder / "root", run.folder / "big.safetensors"
    write_models(Layout(root).library, models)
    write_safetensors(source, size * MIB)
    during: list[float] = []
    overall: list[float] = []
    with sidecar(root) as ours, Client(ours.port, "health_check") as client, ThreadPoolExecutor(2) as threads:
        ours.call("get_system_resources")
        client.ask()
        with callers(ours.port, "get_system_resources", clients):
            started = time.perf_counter()
            work = (threads.submit(_reconcile, ours, models, started), threads.submit(_import, ours, source, started))
            while not all(map(Future.done, work)):
                latency = client.ask()[0] * 1e3
                overall.append(latency)
                if not any(map(Future.done, work)):
                    during.append(latency)
                time.sleep(0.002)
        reconcile_s, import_s = (one.result() for one in work)
    return [
        Row("health_check while all at once: p99", percentile(during or overall, 99), "ms", at_most=10),
        Row("health_check while all at once: p50", percentile(during or overall, 50), "ms"),
        Row("health_check while all at once: slowest", max(during or overall), "ms"),
        Row("health_check until the last has ended: p99", percentile(overall, 99), "ms", at_most=10),
        Row(f"all at once: reconcile of {models:,} models", reconcile_s, "s"),
        Row(f"all at once: import of {size:,} MiB", import_s, "s"),
    ]


def bench_memory_models(run: Run) -> list[Row]:
    """Resident memory with 100,000 models: after the first reconcile, after a start, after searches and get_models."""
    models, searches = run.pick(full=(100_000, 300), quick=(10_000, 300), tiny=(5, 3))
    root = run.folder / "root"
    words = write_models(Layout(root).library, models)
    rng = random.Random(7)
    found: list[Row] = []

    def weigh(program: Program, when: str) -> None:
        time.sleep(run.pick(full=SETTLE_S, quick=SETTLE_S, tiny=0.0))
        found.append(Row(f"memory with {models:,} models: {when}", program.rss_mb(), "MB", at_most=90))

    with sidecar(root) as ours:
        _reconcile(ours, models, time.perf_counter())
        weigh(ours, "after the first reconcile")
    with sidecar(root) as ours:
        _reconcile(ours, models, time.perf_counter())
        weigh(ours, "after a start")
        for _ in range(searches):
            texts = [word[: rng.randint(2, 8)] for word in rng.choices(words, k=rng.randint(1, 3))]
            ours.call("search_models_fts", query=" ".join(texts), limit=50)
        weigh(ours, f"after {searches} searches")
        ours.call("get_models")
        weigh(ours, "after get_models")
    return found


# -- the work --------------------------------------------------------------------------------------------------------


def _reconcile(program: Program, models: int, started: float) -> float:
    """Wait until the index holds at least `models`: seconds since `started`."""
    while time.perf_counter() < started + PATIENCE_S:
        status = program.call("get_library_status")
        if not status["indexing"] and status["model_count"] >= models:
            return time.perf_counter() - started
        time.sleep(0.05)
    raise TimeoutError(f"{models} models were not indexed within {PATIENCE_S:.0f} s: {status}")


def _import(program: Program, source: Path, started: float) -> float:
    outcome = program.call("import_model", local_path=str(source), family="benchmark", official_name="Big one")
    while outcome["success"] and outcome.get("pending"):
        time.sleep(0.05)
        job = program.call("get_job", job_id=outcome["job_id"])["job"]
        if job["state"] not in ("queued", "running"):
            outcome = {"success": job["state"] == "completed", "error": job["error"]}
    if not outcome["success"]:
        raise RuntimeError(f"the import failed: {outcome}")
    return time.perf_counter() - started


# -- what it works on ------------------------------------------------------------------------------------------------


def write_models(library: Path, count: int) -> list[str]:
    """`count` folders with metadata.json and a tiny GGUF file; the words in their names, tags and descriptions."""
    rng = random.Random(11)
    words = ["".join(rng.choices("bcdfgklmnprstvz", k=2)) + "".join(rng.choices("aeiou", k=2)) for _ in range(400)]
    words = [a + b for a in words[:60] for b in words[60:120]]
    gguf = (b"GGUF" + struct.pack("<IQQ", 3, 0, 0)).ljust(64, b"\0")
    for index in range(count):
        name = f"{rng.choice(words)}-{rng.choice(words)}-{rng.choice((1, 3, 7, 13, 70))}B-Q4_K_M-{index:x}"
        folder = library / "llm" / rng.choice(("llama", "qwen", "mistral", "gemma", "phi")) / name
        folder.mkdir(parents=True)
        (folder / f"{name}.gguf").write_bytes(gguf)
        (folder / "metadata.json").write_text(json.dumps(_metadata(folder, name, rng, words)), encoding="utf-8")
    return words


def _metadata(folder: Path, name: str, rng: random.Random, words: list[str]) -> dict[str, Any]:
    return {
        "model_id": name,
        "family": folder.parent.name,
        "model_type": "llm",
        "subtype": "",
        "official_name": name.replace("-", " "),
        "cleaned_name": name,
        "tags": rng.choices(words, k=rng.randint(0, 12)),
        "description": " ".join(rng.choices(words, k=rng.randint(5, 80))) if rng.random() < 0.5 else "",
        "added_date": "2026-05-12T01:00:00.000001Z",
        "updated_date": "2026-10-01T00:00:00.000001Z",
        "size_bytes": 64,
        "files": [{"name": f"{name}.gguf", "original_name": f"{name}.gguf", "size": 64}],
    }


def write_safetensors(path: Path, size: int) -> None:
    """A sound file (https://huggingface.co/docs/safetensors) with one tensor of `size` random bytes."""
    header = json.dumps({"model.weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    block = os.urandom(MIB)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for _ in range(size // MIB):
            file.write(block)
