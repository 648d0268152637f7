"""The command, run inside the test process against a real sidecar, or as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pumas.cli.main import main

from .terminal import Terminal


@dataclass
class Done:
    """What a run of the command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout; anything beside it fails the test."""
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def pumas(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process: `pumas("models", "--json", root=...)`. No terminal is attached."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("PUMAS_DEBUG", raising=False)

    def run(*words: str, root: Path | None = None) -> Done:
        capsys.readouterr()
        status = main([*words, *(["--root", str(root)] if root else [])])
        seen = capsys.readouterr()
        assert "Traceback" not in seen.out + seen.err
        return Done(status, seen.out, seen.err)

    return run


def process(*words: str, stdin: str = "", env: dict[str, str] | None = None) -> Done:
    """Run the command as a process, the way a shell does."""
    done = subprocess.run(
        [sys.executable, "-m", "pumas", *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(env or {})},
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def spawn() -> Run:
    return process


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def go(*words: str) -> Terminal:
        opened.append(Terminal(*words))
        return opened[-1]

    yield go
    for one in opened:
        one.kill()
