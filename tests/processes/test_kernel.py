"""Processes as the kernel knows them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pumas.processes import kernel
from pumas.processes.kernel import Identity, Seen
from sidecar import eventually

ME = os.getpid()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_it_agrees_with_psutil() -> None:
    seen = kernel.look(ME)
    process = psutil.Process()
    assert seen is not None
    assert (seen.pid, seen.parent, seen.group, seen.session) == (ME, process.ppid(), os.getpgid(0), os.getsid(0))
    assert abs(psutil.boot_time() + seen.start / os.sysconf("SC_CLK_TCK") - process.create_time()) < 1
    assert not seen.ended
    assert kernel.program(ME) == process.exe()
    assert {ME, 1} <= kernel.table().keys() <= set(range(2**22 + 1))


def test_an_identity_is_more_than_a_number(sleeper: subprocess.Popen[bytes]) -> None:
    who = kernel.identity(sleeper.pid)
    assert who is not None and kernel.alive(who) and who.boot == kernel.boot()
    assert not kernel.alive(who._replace(start=who.start + 1))
    assert not kernel.alive(who._replace(boot="another"))
    assert not kernel.alive(who._replace(pid=2**22 + 7))
    sleeper.kill()
    eventually(lambda: not kernel.alive(who), what="a zombie that does not count as alive")
    seen = kernel.look(sleeper.pid)
    assert seen is not None and seen.ended, "nobody has waited for it yet"
    sleeper.wait()
    assert kernel.look(sleeper.pid) is None
    assert kernel.identity(sleeper.pid) is None


@pytest.mark.parametrize(
    ("change", "reached"),
    [({}, True), ({"start": 1}, False), ({"pid": 1}, False), ({"pid": 0}, False), ({"pid": -1}, False)],
    ids=str,
)
def test_a_signal_reaches_only_the_one_meant(
    sleeper: subprocess.Popen[bytes], change: dict[str, int], reached: bool
) -> None:
    seen = kernel.look(sleeper.pid)
    assert seen is not None
    meant = {"pid": seen.pid, "start": seen.start} | change
    assert kernel.tell(meant["pid"], meant["start"], signal.SIGTERM) is reached
    if reached:
        assert sleeper.wait(30) == -signal.SIGTERM
        assert not kernel.tell(seen.pid, seen.start, signal.SIGTERM)
    else:
        assert sleeper.poll() is None


def test_a_number_that_comes_to_belong_to_another_between_looking_and_telling_is_spared(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look happens while the process is held by a descriptor: the signal goes there, or nowhere."""
    seen = kernel.look(sleeper.pid)
    assert seen is not None
    look: Callable[[int], Seen | None] = kernel.look

    def slow(pid: int) -> Seen | None:
        found = look(pid)
        sleeper.kill()
        sleeper.wait()  # the number is free from here on
        return found

    monkeypatch.setattr(kernel, "look", slow)
    assert not kernel.tell(seen.pid, seen.start, signal.SIGTERM)


@pytest.mark.parametrize("name", ["a b", "x) R 1 2 3 (y", ") ) )", "a\nb", "(("])
def test_names_do_not_confuse(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "600"], executable=str(program)) as process:
        try:
            seen = kernel.look(process.pid)
            assert seen is not None and (seen.parent, seen.ended) == (ME, False)
        finally:
            process.kill()


def test_descendants_come_after_their_parents_and_loops_end() -> None:
    def one(pid: int, parent: int) -> Seen:
        return Seen(pid, parent, pid, pid, 0, False)

    everyone = {
        seen.pid: seen for seen in (one(2, 1), one(3, 2), one(4, 3), one(5, 2), one(9, 8), one(8, 9), one(1, 1))
    }
    assert {seen.pid for seen in kernel.descendants(2, everyone)} == {3, 4, 5}
    order = [seen.pid for seen in kernel.descendants(1, everyone)]
    assert set(order) == {2, 3, 4, 5} and order.index(3) < order.index(4)
    assert {seen.pid for seen in kernel.descendants(8, everyone)} == {9}
    assert kernel.descendants(77, everyone) == []


def test_variables_are_those_of_the_start() -> None:
    code = "import os, sys, time; os.environ['LATER'] = '1'; print(flush=True); time.sleep(600)"
    with subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "WORD": "a=b"}, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            for name, value, there in (
                ("WORD", "a=b", True),
                ("WORD", "a", False),
                ("LATER", "1", False),
                ("X", "", False),
            ):
                assert kernel.has_variable(process.pid, name, value) is there
        finally:
            process.kill()
    assert not kernel.has_variable(process.pid, "WORD", "a=b")


def test_without_proc_the_same_is_told(monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]) -> None:
    """The way that macOS goes, tried here."""
    here = kernel.look(sleeper.pid)
    monkeypatch.setattr(kernel, "LINUX", False)
    there = kernel.look(sleeper.pid)
    assert here is not None and there is not None
    assert here._replace(start=0) == there._replace(start=0)
    assert kernel.program(sleeper.pid) == psutil.Process(sleeper.pid).exe()
    assert kernel.has_variable(sleeper.pid, "PATH", os.environ["PATH"])
    who = kernel.identity(sleeper.pid)
    assert isinstance(who, Identity) and kernel.alive(who) and sleeper.pid in kernel.table()
    assert not kernel.tell(sleeper.pid, there.start + 1, signal.SIGTERM)
    assert kernel.tell(sleeper.pid, there.start, signal.SIGTERM)
    assert sleeper.wait(30) == -signal.SIGTERM
    time.sleep(0)
    with contextlib.suppress(ProcessLookupError):
        assert not kernel.tell(sleeper.pid, there.start, signal.SIGTERM)
