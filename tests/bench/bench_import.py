"""Import: both digests of a file against SHA-256 alone, each from one read."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from bench.table import Row, Run, interleave, seconds

MIB = 1024 * 1024


def bench_hashing(run: Run) -> list[Row]:
    """SHA-256 and BLAKE3 in one read, against SHA-256 alone (the file lies in the page cache)."""
    from pumas.library.hashing import digest_file

    size = run.pick(full=1024, quick=256, tiny=2) * MIB
    path = run.folder / "model.bin"
    _write_random(path, size)

    def sha256_alone() -> None:
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")

    both, alone = interleave(
        run.pick(full=7, quick=3, tiny=1),
        lambda: size / seconds(lambda: digest_file(path)) / 1e6,
        lambda: size / seconds(sha256_alone) / 1e6,
    )
    return [Row("import hashing: SHA-256 and BLAKE3", both, "MB/s", alone, ratio_at_least=0.9)]


def _write_random(path: Path, size: int) -> None:
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(block)
