"""Measure, each figure as a ratio to a baseline measured in the same run, and print a table.

Benchmarks are the functions `bench_*` of `tests/bench/bench_*.py`. `--strict` fails when a target is missed.
`--compare` measures the Rust backend against the Python backend and writes docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "backend"), str(ROOT / "tests")]

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from bench.table import Benchmark, Row, Run, Size, number  # noqa: E402
from sidecar import RUST_BINARY, RUST_SWITCH  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks.md"
FAULT_RUNS = "PUMAS_FAULT_RUNS"
"""The environment variable by which the tests that kill and break things learn how many runs of each are wanted."""

PREFIX = "bench_"


def benchmarks() -> dict[str, Benchmark]:
    """Name -> function, in the order in which the modules have them."""
    found: dict[str, Benchmark] = {}
    for path in sorted((ROOT / "tests" / "bench").glob(f"{PREFIX}*.py")):
        module = importlib.import_module(f"bench.{path.stem}")
        own = {n: f for n, f in vars(module).items() if n.startswith(PREFIX) and f.__module__ == module.__name__}
        found |= {name.removeprefix(PREFIX): function for name, function in own.items()}
    return found


def measure(function: Benchmark, size: Size) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="pumas-bench-") as folder:
        return function(Run(size, Path(folder)))


def print_table(rows: list[Row], console: Console) -> None:
    table = Table()
    table.add_column("figure")
    for title in ("measured", "baseline", "ratio", "target"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("ok")
    for row in rows:
        table.add_row(
            row.name,
            f"{number(row.measured)} {row.unit}",
            "" if row.baseline is None else f"{number(row.baseline)} {row.unit}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.target,
            "" if not row.target else "yes" if row.ok else "NO",
        )
    console.print(table)


def machine() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def prepared_ui() -> Benchmark:
    """The page's benchmark, with the page built. Ends the program when this machine cannot build it."""
    import page
    from bench import ui

    lacking = page.missing()
    if lacking is not None or not page.install() or not page.build():
        sys.exit(f"bench: {lacking or 'the page could not be built'}")
    return ui.measure


def take_rust() -> None:
    """What is started from here on is the Rust backend. Ends the program when it cannot be built."""
    if not os.environ.get(RUST_BINARY):
        import rust_backend

        if rust_backend.main() != 0:
            sys.exit(1)
    os.environ[RUST_SWITCH] = "1"


def file_system(place: Path) -> str:
    """The kind of file system that holds `place`, such as ext4."""
    import psutil

    mounted = {Path(one.mountpoint): one.fstype for one in psutil.disk_partitions(all=True)}
    return next(mounted[folder] for folder in (place, *place.parents) if folder in mounted)


def compare(size: Size, names: list[str], console: Console, page: Path) -> tuple[list[Row], list[str]]:
    """Both backends in turns, every figure and every method that both serve: the rows, and what could not be measured.

    The page is only written when nothing was left out.
    """
    import rust_backend

    from bench.both import running

    if not os.environ.get(RUST_BINARY) and rust_backend.main() != 0:
        sys.exit(1)
    described = f"{os.cpu_count()} processors, {platform.system()}, Python {platform.python_version()}"
    described += f", files on {file_system(Path(tempfile.gettempdir()))}"
    if size is not Size.FULL:
        described += f", in a {size.value} run"
    with tempfile.TemporaryDirectory(prefix="pumas-bench-") as folder:
        outcome = running.run(
            Run(size, Path(folder)), lambda text: console.print(f"[dim]{text} …[/dim]"), names or running.PARTS
        )
    text = outcome.page(described)
    if names:
        console.print(text, markup=False)
    else:
        page.write_text(text, encoding="utf-8")
        console.print(f"{len(outcome.compared)} methods and {len(outcome.rows)} figures are in {page}", markup=False)
    return outcome.rows, outcome.failed


def run_faults(runs: int) -> int:
    found = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if FAULT_RUNS in path.read_text("utf-8"))
    command = [sys.executable, "-m", "pytest", "-q", "--timeout=0", "-n", str(os.cpu_count() or 2), *map(str, found)]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {FAULT_RUNS: str(runs)}).returncode


def parse(known: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./launcher bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"benchmarks to run (default: all): {', '.join(known)}"
    )
    parser.add_argument("--ui", action="store_true", help="measure the built page in Chromium instead")
    parser.add_argument("--rust", action="store_true", help="with --ui: with the Rust backend, built before")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="measure both backends in turns instead and write docs/benchmarks.md; with names only show these parts",
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", default=PAGE, help="with --compare: write another file than that"
    )
    parser.add_argument("--list", action="store_true", help="only list the benchmarks")
    parser.add_argument("--quick", action="store_true", help="smaller amounts: a look, not the figures that count")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout instead of the table")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when a target is missed")
    parser.add_argument(
        "--faults",
        type=int,
        metavar="N",
        help=f"run all tests of kills and other faults in their long form instead, N runs each ({FAULT_RUNS})",
    )
    options = parser.parse_args()
    if options.rust and not options.ui:
        parser.error("--rust goes with --ui; --compare measures both backends")
    if options.compare:
        from bench.both.running import PARTS

        known = PARTS
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; --list shows them")
    return options


def main() -> int:
    known = benchmarks()
    options = parse(list(known))
    if options.rust:
        take_rust()
    if options.ui:
        known = {"ui": prepared_ui()}
    if options.faults is not None:
        return run_faults(options.faults)
    if options.list:
        for name, function in known.items():
            print(f"{name:24} {(function.__doc__ or '').strip().partition(chr(10))[0]}")
        return 0
    console = Console(stderr=options.json, width=None if sys.stdout.isatty() else 140, highlight=False)
    facts = machine()
    rows: list[Row] = []
    failed: list[str] = []
    size = Size.QUICK if options.quick else Size.FULL
    if options.compare:
        rows, failed = compare(size, options.names, console, options.page)
        known = {}
    for name in (not options.ui and not options.compare and options.names) or known:
        console.print(f"[dim]{name} …[/dim]")
        try:
            rows += measure(known[name], size)
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}: {error}")
    print_table(rows, console)
    if options.json:
        report = {"size": size.value, "machine": facts, "failed": failed}
        print(json.dumps(report | {"rows": [row.as_json() for row in rows]}, indent=1))
    for line in failed:
        console.print(f"not measured: {line}", markup=False)
    missed = [row.name for row in rows if not row.ok]
    if missed:
        console.print(f"missed: {', '.join(missed)}", markup=False)
    return 1 if failed or (options.strict and missed) else 0


if __name__ == "__main__":
    sys.exit(main())
