"""Programs of an installation: what they say, how they end, and what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pumas.errors import InstallFailed
from pumas.versions.running import InstallLog, Programs, end_noted
from sidecar import eventually


def test_what_a_program_leaves_behind_is_not_waited_for(tmp_path: Path) -> None:
    """As servers do that make themselves independent: they keep what they were given to write to."""
    programs = Programs(tmp_path / "note", InstallLog(tmp_path / "log"), lambda: None)
    began = time.monotonic()
    words = ["/bin/sh", "-c", "setsid sleep 60 & echo $!"]
    status, said = programs.run(words, tmp_path, os.environ, timeout_s=20.0)
    took = time.monotonic() - began
    os.kill(int(said[0]), signal.SIGKILL)  # it was left alone
    assert status == 0
    assert took < 10.0
    assert not (tmp_path / "note").exists()


_KILLED_AFTER_THE_START = """
import os, signal, sys
from pathlib import Path
from pumas.versions import running

def kill(pid):
    os.kill(os.getpid(), signal.SIGKILL)

running._identity = kill
programs = running.Programs(Path(sys.argv[1]), running.InstallLog(Path(sys.argv[1] + ".log")), lambda: None)
programs.run(["/bin/sh", "-c", "echo $$ > pid; exec sleep 600"], Path.cwd(), os.environ, timeout_s=60.0)
"""


def test_a_program_is_ended_also_when_a_kill_came_before_its_number_was_written_down(tmp_path: Path) -> None:
    note = tmp_path / "note"
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_AFTER_THE_START, str(note)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "backend")},
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    assert set(json.loads(note.read_bytes())) == {"mark"}
    eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"), 20, "the start")
    pid = int((tmp_path / "pid").read_text())
    other = subprocess.Popen(["sleep", "600"], start_new_session=True, env={**os.environ, "PUMAS_INSTALLS": "other"})
    try:
        end_noted(note)
        eventually(lambda: not Path(f"/proc/{pid}").exists(), 20, "the end")
        assert other.poll() is None
        assert not note.exists()
    finally:
        other.kill()
        other.wait()


def test_the_note_of_a_program_that_cannot_be_started_is_gone(tmp_path: Path) -> None:
    programs = Programs(tmp_path / "note", InstallLog(tmp_path / "log"), lambda: None)
    with pytest.raises(InstallFailed, match="cannot be started"):
        programs.run([str(tmp_path / "none")], tmp_path, os.environ, timeout_s=5.0)
    assert not (tmp_path / "note").exists()


def test_the_note_of_a_program_that_was_never_started_names_nobody(tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.write_text('{"mark": "0123456789abcdef"}')
    end_noted(note)
    assert not note.exists()
