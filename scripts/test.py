"""Run every suite whose toolchain is there, in two lanes beside each other, and name loudly what could not run.

With CI=true a suite that cannot run is a failure. Arguments go to pytest alone, for a quick look at one part.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import rust_backend

import page

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
CI = os.environ.get("CI", "").lower() == "true"
MIN_COVERAGE = 85
FAILED_TESTS = (1, 101)
"""Exit codes of pytest and of cargo that say that tests ran and some failed; cargo's also that one does not compile."""

# Debian packages that suites need, with the program that each gives.
DEBIAN = {
    "strace": "strace",
    "git": "git",
    "curl": "curl",
    "desktop-file-validate": "desktop-file-utils",
    "gio": "libglib2.0-bin",
    "mkfs.ext4": "e2fsprogs",
    "setpriv": "util-linux",
    "chromium": "chromium",
}


@dataclass
class Suite:
    """`missing` names what the suite lacks on this machine, None when it can run; `again` runs what failed."""

    name: str
    command: list[str]
    missing: str | None = None
    variables: dict[str, str] = field(default_factory=dict[str, str])
    again: list[str] | None = None


@dataclass
class Outcome:
    suite: Suite
    status: int
    seconds: float
    output: str


def suites() -> list[Suite]:
    python = str(BIN / "python")
    return [
        Suite("ruff", [str(BIN / "ruff"), "check", "."]),
        Suite("format", [str(BIN / "ruff"), "format", "--check", "."]),
        Suite("types", [str(BIN / "pyright")], missing=None if shutil.which("node") else "node, which pyright runs on"),
        Suite("contracts", [python, "scripts/contracts.py", "--check"]),
        pytest_suite(
            "python", coverage_options(), None if shutil.which("strace") else "strace, which the fault tests use"
        ),
        *rust_suites(),
        *page_suites(),
        *both_suites(),
    ]


def page_suites() -> list[Suite]:
    """Of the page and the desktop shell, which `prepare_page` has installed and built."""
    npm = shutil.which("npm") or "npm"
    no_node = page.missing()
    no_browser = None if shutil.which("chromium") else "chromium, in which the page is tested"
    at_electron = [npm, "--prefix", "electron", "run", "--silent"]
    return [
        Suite("page: lint", [*at_electron, "lint"], no_node),
        Suite("page: types", [*at_electron, "typecheck"], no_node),
        Suite("page: vitest", [*at_electron, "test", "--", "--retry=1"], no_node),
        Suite("page: browser", [*at_electron, "test:browser", "--", "--retries=1"], no_node or no_browser),
    ]


# What the page does with either backend.
OF_BOTH = [
    f"e2e/{name}.spec.ts"
    for name in ("session", "library", "import", "downloads", "apps", "states", "keyboard", "quiet")
]


def both_suites() -> list[Suite]:
    """The page in front of the Rust backend."""
    npm = shutil.which("npm") or "npm"
    missing = page.missing() or rust_backend.missing() or (None if shutil.which("chromium") else "chromium")
    command = [npm, "--prefix", "electron", "run", "--silent", "test:browser", "--", "--retries=1", *OF_BOTH]
    return [Suite("page: browser, Rust", command, missing, RUST_SIDECAR)]


def prepare_page() -> bool:
    """`npm ci` and the build, where Node.js is there. False when one of them failed; npm has said why."""
    return page.missing() is not None or (page.install() and page.build())


RUST_SIDECAR = {
    "PUMAS_RUST_BACKEND": "1",
    "PUMAS_RUST_BINARY": str(rust_backend.TARGET / "debug" / rust_backend.PROGRAM),
}

# Tests that start a sidecar and need no Python of it: what they ask of one backend they ask of the other.
FROM_OUTSIDE = [
    "tests/adoption/test_service.py",
    "tests/rpc/test_http.py",
    "tests/rpc/test_uploads.py",
    "tests/events",
    "tests/client",
    "tests/cli/test_adopt.py",
    "tests/cli/test_apps.py",
    "tests/cli/test_commands.py",
    "tests/cli/test_library.py",
    "tests/cli/test_serve.py",
    "tests/cli/test_page.py",
    "tests/cli/test_links.py",
    "tests/cli/test_nodes.py",
    "tests/cli/test_processes.py",
    "tests/desktop/test_starter.py",
    "tests/downloads/test_kills.py",
    "tests/faults/test_adoption_kills.py",
    "tests/faults/test_downloads.py",
    "tests/faults/test_limits.py",
    "tests/faults/test_odd_files.py",
    "tests/faults/test_power_cut.py",
    "tests/faults/test_process.py",
    "tests/faults/test_requests.py",
    "tests/faults/test_sidecar_faults.py",
    "tests/faults/test_state_files.py",
    "tests/faults/test_version_faults.py",
    "tests/hub/test_sidecar.py",
    "tests/links/test_sidecar.py",
    "tests/links/test_sidecar_kill.py",
    "tests/nodes/test_kill.py",
    "tests/processes/test_sidecar.py",
    "tests/updates/test_kill.py",
    "tests/updates/test_service.py::test_the_launcher_is_started_once_the_sidecar_is_gone",
    "tests/versions/test_sidecar.py",
]


def rust_suites() -> list[Suite]:
    """Of the Rust backend, which `prepare_rust` has built for the suites that start it."""
    cargo, no_cargo = rust_backend.cargo() or "cargo", rust_backend.missing()
    place = ["--manifest-path", "rust/Cargo.toml"]
    locked = [*place, "--locked", "--target-dir", str(rust_backend.TARGET)]
    jobs = {"CARGO_BUILD_JOBS": str(max(1, (os.cpu_count() or 2) // 2))}
    warnings = jobs | {"RUSTDOCFLAGS": "-D warnings"}
    tests = [cargo, "test", "-q", *locked, "--workspace"]
    return [
        Suite("rust: format", [cargo, "fmt", "--all", *place, "--check"], no_cargo),
        Suite(
            "rust: clippy", [cargo, "clippy", "-q", *locked, "--all-targets", "--", "-D", "warnings"], no_cargo, jobs
        ),
        Suite("rust: tests", tests, no_cargo, jobs, again=tests),
        Suite("rust: docs", [cargo, "doc", "-q", *locked, "--no-deps"], no_cargo, warnings),
        Suite("rust: licences", [str(BIN / "python"), "scripts/rust_licences.py"], no_cargo),
        pytest_suite("rust: from outside", ["-n", "2", *FROM_OUTSIDE], no_cargo, RUST_SIDECAR),
        Suite(
            "rust: the same answers and files as Python",
            [str(BIN / "python"), "scripts/compare.py", "--count", "100", "--examples", "12", "--jobs", "2"],
            no_cargo,
            RUST_SIDECAR,
        ),
    ]


def prepare_rust() -> bool:
    """The sidecar itself, where cargo is there. False when that failed; cargo has said why."""
    return rust_backend.missing() is not None or rust_backend.build(release=False)


def pytest_suite(
    name: str, options: list[str], missing: str | None, variables: Mapping[str, str] = MappingProxyType({})
) -> Suite:
    """Remembers by its own what failed: suites run beside each other."""
    python = [str(BIN / "python"), "-m", "pytest", "-q", "-o", f"cache_dir=.pytest_cache/{name.replace(' ', '-')}"]
    last_failed = ["--last-failed", "--last-failed-no-failures=none", "--exitfirst", "-rp"]
    return Suite(name, [*python, "--dist=worksteal", *options], missing, dict(variables), [*python, *last_failed])


def coverage_options() -> list[str]:
    workers = str(max(2, min(8, os.cpu_count() or 2)))
    return ["-n", workers, "--cov", "--cov-report=term", f"--cov-fail-under={MIN_COVERAGE}"]


def install_debian() -> None:
    """Install what is missing where this user may do so; whoever may not is told by the suite's own line."""
    wanted = [package for program, package in DEBIAN.items() if shutil.which(program) is None]
    if not wanted or shutil.which("apt-get") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    print(f"installing from Debian: {', '.join(wanted)}", flush=True)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update"], env=environment, **quiet)
    subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *wanted], env=environment, **quiet)


def run(suite: Suite) -> Outcome:
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.run(
            suite.command,
            cwd=ROOT,
            env=os.environ | suite.variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
    return Outcome(suite, process.returncode, time.monotonic() - started, text)


def lanes(runnable: list[Suite]) -> list[list[Suite]]:
    """Suites that run beside each other, lane by lane: pytest has workers of its own, so all others share one.

    More at once would only make each of them slower, and those that wait for real processes fail by their bounds.
    """
    return [
        [suite for suite in runnable if suite.name == "python"],
        [suite for suite in runnable if suite.name != "python"],
    ]


def run_all(lane: list[Suite], done: Callable[[Outcome], None]) -> None:
    for suite in lane:
        done(run(suite))


def run_failed_again(outcomes: list[Outcome], report: Callable[[Outcome], None]) -> list[Outcome]:
    """What failed beside other suites is tried once more with the machine to itself, and is named in either case.

    What passes then is no failure, but unsteady: it hides a race, or a bound that a busy machine does not keep.
    """
    settled: list[Outcome] = []
    for outcome in outcomes:
        suite = outcome.suite
        if outcome.status in FAILED_TESTS and suite.again is not None:
            outcome = run(replace(suite, name=f"{suite.name}: what failed, alone", command=suite.again))
            report(outcome)
            if outcome.status == 0:
                print(f"UNSTEADY: {suite.name}: what is named above failed beside other suites and passed alone")
        settled.append(outcome)
    return settled


def report(outcome: Outcome, lock: threading.Lock) -> None:
    with lock:
        mark = "ok" if outcome.status == 0 else f"FAILED ({outcome.status})"
        print(f"\n=== {outcome.suite.name}: {mark} in {outcome.seconds:.0f} s", flush=True)
        print(outcome.output.rstrip(), flush=True)


def main() -> int:
    if len(sys.argv) > 1:
        return subprocess.run([sys.executable, "-m", "pytest", *sys.argv[1:]], cwd=ROOT).returncode
    install_debian()
    prepared = {"page: build": prepare_page(), "rust: build": prepare_rust()}
    everything = suites()
    runnable = [suite for suite in everything if suite.missing is None]
    outcomes: list[Outcome] = []
    lock = threading.Lock()

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        report(outcome, lock)

    threads = [threading.Thread(target=run_all, args=(lane, done)) for lane in lanes(runnable)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcomes = run_failed_again(outcomes, lambda outcome: report(outcome, lock))
    failed = [o.suite.name for o in outcomes if o.status != 0] + [name for name, done in prepared.items() if not done]
    left_out = [suite for suite in everything if suite.missing is not None]
    print()
    for suite in left_out:
        print(f"NOT RUN: {suite.name}: this machine has no {suite.missing}")
    if failed:
        print(f"failed suites: {', '.join(failed)}")
    passed = sum(o.status == 0 for o in outcomes)
    print(f"{passed} of {len(everything)} suites passed")
    return 1 if failed or (CI and left_out) else 0


if __name__ == "__main__":
    sys.exit(main())
