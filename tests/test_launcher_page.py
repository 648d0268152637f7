"""`./launcher` and the page: built when its sources changed and Node.js is there; said aloud when it cannot be."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Checkout:
    """A checkout with a launcher, an installed `pumas` that only says how it was called, and the page's sources."""

    root: Path
    tools: Path

    def tool(self, name: str, body: str) -> None:
        program = self.tools / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)

    def node(self, version: str = "v20.19.0") -> None:
        self.tool("node", f"echo {version}")

    def npm(self, build: str = "mkdir -p dist/renderer && echo page > dist/renderer/index.html") -> None:
        calls = self.root / "calls"
        self.tool(
            "npm",
            f'echo "$@" >> {calls}\ncase "$1" in ci) mkdir -p node_modules;; run) {build};; esac',
        )

    def calls(self) -> list[str]:
        """What npm was asked since the last time."""
        log = self.root / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line.partition(" --")[0] for line in lines]

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self.tools}:/usr/bin:/bin", "HOME": str(self.root)} | variables
        return subprocess.run(
            [sys.executable, str(self.root / "launcher"), *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
        )


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root, tools = tmp_path / "checkout", tmp_path / "tools"
    electron = root / "electron"
    for folder in (root / "scripts", root / ".venv" / "bin", electron / "src", root / "contracts", tools):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / "launcher", root)
    shutil.copy(ROOT / "scripts" / "page.py", root / "scripts")
    names = ("pyproject.toml", "constraints.txt", "contracts/api.d.ts", "contracts/page.json", "electron/.npmrc")
    for name in (*names, "electron/package.json", "electron/package-lock.json", "electron/src/main.ts"):
        (root / name).write_text("1")
    (root / ".venv" / "bin" / "python").symlink_to(sys.executable)
    pumas = root / ".venv" / "bin" / "pumas"
    pumas.write_text('#!/bin/sh\necho "pumas $@"\n')
    pumas.chmod(0o755)
    fingerprint = runpy.run_path(str(root / "launcher"))["fingerprint"]
    (root / ".venv" / "installed").write_text(fingerprint(""))
    # The tools of this machine that the launcher needs, and no Node.js.
    for name in ("sh", "mkdir"):
        (tools / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    return Checkout(root, tools)


def without_node(checkout: Checkout) -> dict[str, str]:
    return {"PATH": str(checkout.tools)}


def test_the_page_is_built_once_and_opened(checkout: Checkout) -> None:
    checkout.node()
    checkout.npm()
    first = checkout.run()
    assert first.stdout == "pumas serve --open\n", first.stderr
    assert "building the page" in first.stderr
    assert checkout.calls() == ["ci", "run build"]
    again = checkout.run()
    assert again.stdout == "pumas serve --open\n"
    assert checkout.calls() == []
    assert "building" not in again.stderr


@pytest.mark.parametrize(
    ("changed", "calls"),
    [
        ("electron/src/main.ts", ["run build"]),
        ("electron/src/new.css", ["run build"]),
        ("contracts/api.d.ts", ["run build"]),
        ("contracts/page.json", ["run build"]),
        ("electron/package-lock.json", ["ci", "run build"]),
        ("electron/src/main.test.ts", []),
        ("electron/dist/renderer/other.js", []),
        ("README.md", []),
    ],
)
def test_it_is_built_again_when_its_sources_change(checkout: Checkout, changed: str, calls: list[str]) -> None:
    checkout.node()
    checkout.npm()
    assert checkout.run("page").returncode == 0
    checkout.calls()
    (checkout.root / changed).write_text("2")
    assert checkout.run("page").returncode == 0
    assert checkout.calls() == calls


def test_a_build_that_went_missing_is_made_again(checkout: Checkout) -> None:
    checkout.node()
    checkout.npm()
    checkout.run("page")
    checkout.calls()
    shutil.rmtree(checkout.root / "electron" / "dist")
    assert checkout.run("page").returncode == 0
    assert checkout.calls() == ["run build"]


@pytest.mark.parametrize("version", ["", "v18.20.1", "v20.18.3", "nonsense"])
def test_without_a_new_enough_node_the_headless_start_says_so(checkout: Checkout, version: str) -> None:
    checkout.npm()
    if version:
        checkout.node(version)
    done = checkout.run(**without_node(checkout))
    assert done.stdout == "pumas serve\n"
    assert "Node.js 20.19" in done.stderr
    assert "pumas --help" in done.stderr
    assert checkout.calls() == []
    assert checkout.run("page", **without_node(checkout)).returncode == 2


def test_a_build_that_fails_is_said_and_does_not_stop_the_sidecar(checkout: Checkout) -> None:
    checkout.node()
    checkout.npm(build="echo the types are wrong >&2; exit 1")
    done = checkout.run()
    assert done.stdout == "pumas serve\n"
    assert "the types are wrong" in done.stderr
    assert checkout.run("page").returncode == 1
    checkout.npm()
    assert checkout.run().stdout == "pumas serve --open\n", "and it is tried again"


def test_an_older_page_is_better_than_none(checkout: Checkout) -> None:
    checkout.node()
    checkout.npm()
    checkout.run("page")
    (checkout.root / "electron/src/main.ts").write_text("2")
    checkout.npm(build="exit 1")
    done = checkout.run()
    assert done.stdout == "pumas serve --open\n"
    assert "failed" in done.stderr


def test_electron_is_used_where_it_is_installed_and_there_is_a_screen(checkout: Checkout) -> None:
    checkout.node()
    checkout.npm()
    program = checkout.root / "electron" / "node_modules" / "electron" / "dist" / "electron"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "electron $@"\n')
    program.chmod(0o755)
    assert checkout.run(DISPLAY=":0").stdout == f"electron {checkout.root / 'electron'}\n"
    assert checkout.run().stdout == "pumas serve --open\n"


def test_the_lock_file_names_no_registry() -> None:
    lock = (ROOT / "electron" / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in lock and ".tgz" not in lock
    assert os.path.getsize(ROOT / "electron" / "package-lock.json") > 10_000
