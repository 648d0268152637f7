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
from pumas.processes import kernel
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


def test_what_an_app_leaves_behind_is_ended_with_it(tmp_path: Path) -> None:
    programs = Programs(tmp_path / "note", InstallLog(tmp_path / "log"), lambda: None)
    words = ["/bin/sh", "-c", "setsid sh -c 'trap : TERM; echo $$; while :; do sleep 1; done' & wait"]
    with programs.running(words, tmp_path, os.environ, wholly=True) as running:
        eventually(lambda: bool(running.tail), 20, "the start")
        left = int(running.tail[0])
    eventually(lambda: _ended(left), 20, "the end")


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


@pytest.mark.parametrize(
    "script",
    [
        "echo $$; exec sleep 600",
        "sleep 600 & echo $!",  # the leader of its group has gone
        "env -u PUMAS_INSTALLS sleep 600 & echo $!; wait",  # one that has no mark, with the leader of its group
    ],
)
def test_what_a_killed_installation_left_is_ended_although_its_program_has_gone(tmp_path: Path, script: str) -> None:
    note = tmp_path / "note"
    other = subprocess.Popen(["sleep", "600"], start_new_session=True, env={**os.environ, "PUMAS_INSTALLS": ""})
    ours = subprocess.Popen(
        ["/bin/sh", "-c", script],
        start_new_session=True,
        env={**os.environ, "PUMAS_INSTALLS": "a1"},
        stdout=subprocess.PIPE,
    )
    try:
        assert ours.stdout is not None
        left = int(ours.stdout.readline())
        for text in ('{"pid": %d, "started": 1.5}', '{"pid": %d, "started": 1.5, "mark": ""}', '["pid", %d]'):
            note.write_text(text % other.pid)
            end_noted(note)
        note.write_text(json.dumps({"pid": other.pid, "started": 1.5, "mark": "a1"}))
        end_noted(note)
        assert ours.wait(20) in (0, -signal.SIGTERM)
        eventually(lambda: _ended(left), 20, "the end of what was left")
        assert other.poll() is None
        assert not note.exists()
    finally:
        for process in (ours, other):
            process.kill()
            process.wait()


def _ended(pid: int) -> bool:
    """Whether it is none, or a zombie that nobody collects."""
    seen = kernel.look(pid)
    return seen is None or seen.ended


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
