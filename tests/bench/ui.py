"""The page's own figures: runs `electron/e2e/bench` in Chromium and gives its rows. Not among the other benchmarks,
since it needs Node.js, a browser and a built page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from bench.table import Row, Run

ELECTRON = Path(__file__).resolve().parents[2] / "electron"


def measure(run: Run) -> list[Row]:
    """Raises RuntimeError with what the browser's run said when it failed."""
    npx = shutil.which("npx")
    if npx is None:
        raise RuntimeError("Node.js is needed, which has npx")
    out = run.folder / "rows.jsonl"
    models, seconds = run.pick(full=(100_000, 180), quick=(5000, 30), tiny=(10, 5))
    done = subprocess.run(
        [npx, "playwright", "test", "-c", "playwright.bench.config.ts"],
        cwd=ELECTRON,
        env=os.environ
        | {"PUMAS_BENCH_MODELS": str(models), "PUMAS_BENCH_SECONDS": str(seconds), "PUMAS_BENCH_OUT": str(out)},
        capture_output=True,
        text=True,
    )
    rows = [Row(**json.loads(line)) for line in out.read_text().splitlines()] if out.exists() else []
    if done.returncode != 0:
        raise RuntimeError(f"{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return rows
