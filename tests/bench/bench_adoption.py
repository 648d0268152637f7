"""Adoption: one look at a large Hugging Face cache, asked of a real sidecar."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import sidecar as running
from bench.table import Row, Run, interleave, seconds

GIB = 1024**3


def bench_adoption(run: Run) -> list[Row]:
    """Scan a cache of 2,000 blobs and 1 TB of sparse files; what is read of them is counted by the kernel."""
    blobs = run.pick(full=2000, quick=2000, tiny=20)
    cache = run.folder / "hub"
    size = make_cache(cache, blobs)
    root = run.folder / "root"
    root.mkdir()
    sidecar = running.start(root)
    try:
        ask = {"folders": [str(cache)], "known": False}
        (store,) = sidecar.result("scan_model_stores", ask)["stores"]
        if store["size"] != size or not store["models"]:
            raise AssertionError(f"the scan saw {store['size']:,} of {size:,} bytes")
        before = _bytes_read(sidecar.pid)
        rounds = run.pick(full=7, quick=3, tiny=1)
        (took,) = interleave(rounds, lambda: seconds(lambda: sidecar.result("scan_model_stores", ask)))
        read = (_bytes_read(sidecar.pid) - before) / rounds
    finally:
        sidecar.close()
    limit = run.pick(full=64, quick=64, tiny=4096)
    return [
        Row(f"adoption scan: {blobs:,} blobs, {size / 1e12:.2f} TB", took, "s", at_most=2.0),
        Row("adoption scan: bytes read per blob (manifests, databases, the request)", read / blobs, "B", at_most=limit),
    ]


def make_cache(cache: Path, blobs: int, *, per_repo: int = 20) -> int:
    """Repositories of shards with a configuration, as huggingface-hub lays them out; returns the bytes of all blobs."""
    total = 0
    for number in range(blobs // per_repo):
        repo = cache / f"models--acme--Model-{number:03}"
        commit = hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()
        snapshot = repo / "snapshots" / commit
        for folder in (snapshot, repo / "blobs", repo / "refs"):
            folder.mkdir(parents=True)
        (repo / "refs" / "main").write_text(commit)
        names = [f"model-{i + 1:05}-of-{per_repo - 1:05}.safetensors" for i in range(per_repo - 1)]
        for name in ["config.json", *names]:
            blob = hashlib.sha256(f"{number}/{name}".encode()).hexdigest()
            length = GIB // 2 + number if name != "config.json" else 700
            with (repo / "blobs" / blob).open("wb") as file:
                file.truncate(length)
            total += length
            (snapshot / name).symlink_to(os.path.join("..", "..", "blobs", blob))
    return total


def _bytes_read(pid: int) -> int:
    """All that the process asked the kernel to read, from sockets too: https://docs.kernel.org/filesystems/proc.html."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["rchar"])
