"""Programs of an installation: what they say, how they end, and what they leave behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from pumas.versions.running import InstallLog, Programs


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
