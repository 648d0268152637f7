"""Builds the Rust sidecar, with a line that says how far it is. `./launcher build-rust` is the command for people.

Exit status: 0 it is built, 1 the build failed (cargo has said why), 2 this machine has no cargo.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORKSPACE = ROOT / "rust"
TARGET = WORKSPACE / "target"
PROGRAM = "pumas-rpc.exe" if os.name == "nt" else "pumas-rpc"
LINE_S = 10.0
"""How often a build that nobody watches says a line."""


def cargo() -> str | None:
    """The program; rustup puts it where not every shell looks."""
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo") / "bin"
    return shutil.which("cargo") or shutil.which("cargo", path=str(home))


def missing() -> str | None:
    """What this machine lacks to build it, None when it has everything."""
    return None if cargo() else "cargo, which builds the Rust sidecar (https://rustup.rs)"


def crates() -> int:
    """About so many crates are compiled; 0 when cargo does not say."""
    command = [
        cargo() or "cargo",
        "tree",
        "--locked",
        "-q",
        "-p",
        "pumas-rpc",
        "-e",
        "normal,build",
        "--prefix",
        "none",
    ]
    listed = subprocess.run(command, cwd=WORKSPACE, capture_output=True, text=True)
    return len({line.removesuffix(" (*)") for line in listed.stdout.splitlines()})


class ProgressLine:
    """One line that is written over where somebody watches, now and then a new one elsewhere."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._said = total, 0, time.monotonic()
        self._watched = sys.stderr.isatty()

    def compiled(self, *, fresh: bool) -> None:
        self._done += 1
        if fresh or not (self._watched or time.monotonic() - self._said > LINE_S):
            return
        self._said = time.monotonic()
        of = f" of about {self._total}" if self._total >= self._done else ""
        text = f"launcher: building the Rust sidecar: {self._done}{of} crates"
        sys.stderr.write(f"\r{text}\x1b[K" if self._watched else f"{text}\n")
        sys.stderr.flush()

    def end(self) -> None:
        if self._watched:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def build(*, release: bool = True) -> bool:
    """Build what changed; for tests also what only they run. False when that failed; cargo has said why."""
    command = [cargo() or "cargo", "build", "--locked", "-q", "-p", "pumas-rpc", "--target-dir", str(TARGET)]
    command += ["--release"] if release else ["-p", "pumas-core", "--bins", "--examples"]
    command += ["--message-format=json-render-diagnostics"]
    line = ProgressLine(crates())
    with subprocess.Popen(command, cwd=WORKSPACE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for message in process.stdout:
            facts: dict[str, object] = json.loads(message) if message.startswith("{") else {}
            if facts.get("reason") == "compiler-artifact":
                line.compiled(fresh=bool(facts.get("fresh")))
        status = process.wait()
    line.end()
    return status == 0


def main() -> int:
    lacking = missing()
    if lacking is not None:
        sys.stderr.write(f"launcher: the Rust sidecar cannot be built: this machine has no {lacking}\n")
        return 2
    if not build():
        sys.stderr.write("launcher: the Rust sidecar could not be built; cargo says why above\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
