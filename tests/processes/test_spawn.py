"""The keeper: what it starts, what it writes, when it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pumas.errors import LaunchFailed
from pumas.processes import family, kernel
from pumas.processes.family import Marks
from pumas.processes.kernel import Identity
from pumas.processes.spawn import Orders, WaitingKeeper
from sidecar import eventually

from .programs import runs

RUN_ID = "c" * 32
Keep = Callable[..., tuple[WaitingKeeper, Identity]]


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Keep]:
    """Start a Python program below a keeper; both are gone after the test."""
    started: list[WaitingKeeper] = []

    def go(code: str, log: Path | None = None, **options: int | float) -> tuple[WaitingKeeper, Identity]:
        keeper = WaitingKeeper(RUN_ID, os.environ)
        started.append(keeper)
        orders = Orders(
            command=(sys.executable, "-u", "-c", code),
            folder=tmp_path,
            environment=dict(os.environ),
            programs=(sys.executable, os.path.realpath(sys.executable)),
            log=log or tmp_path / "log",
            exit_file=tmp_path / "exit",
            **options,  # type: ignore[arg-type]
        )
        return keeper, keeper.go(orders)

    yield go
    for keeper in started:
        for seen in kernel.descendants(keeper.process.pid, kernel.table()):
            kernel.tell(seen.pid, seen.start, signal.SIGKILL)
        keeper.abandon()


def ended(keeper: WaitingKeeper) -> bool:
    return keeper.process.poll() is not None


def marks(leader: Identity, folder: Path) -> Marks:
    return Marks(leader.pid, leader.start, (os.path.realpath(sys.executable),), str(folder))


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("pass", 0), ("raise SystemExit(7)", 7), ("import os; os.abort()", -6), ("import os; os._exit(255)", 255)],
)
def test_the_exit_code_is_left_behind(keep: Keep, tmp_path: Path, code: str, exit_code: int) -> None:
    keeper, _ = keep(code)
    eventually(lambda: ended(keeper), what="the keeper ended with its child")
    assert json.loads((tmp_path / "exit").read_text()) == {"exit_code": exit_code}
    assert keeper.process.returncode == 0


def test_output_of_all_kinds_is_in_the_log_to_the_last_byte(keep: Keep, tmp_path: Path) -> None:
    keeper, _ = keep(
        "import os; os.write(1, b'out'); os.write(2, b'err\\xff'); os.system('echo child'); os.write(1, b'end')"
    )
    eventually(lambda: ended(keeper), what="the end")
    assert (tmp_path / "log").read_bytes() == b"outerr\xffchild\nend"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_defaults_are_restored_for_the_app(keep: Keep, tmp_path: Path) -> None:
    code = (
        "import signal, os, sys;"
        "print([n for n in (2, 1, 13, 3, 15, 17, 10) if signal.getsignal(n) is signal.SIG_IGN]);"
        "print(sorted(int(n) for n in os.listdir('/proc/self/fd'))[:4], os.getcwd(), sys.stdin.read() == '')"
    )
    keeper, _ = keep(code)
    eventually(lambda: ended(keeper), what="the end")
    # Python itself ignores SIGPIPE and SIGXFSZ; 3 is the folder that is being listed.
    assert (tmp_path / "log").read_text() == f"[13]\n[0, 1, 2, 3] {tmp_path} True\n"


def test_old_logs_are_put_aside_and_the_oldest_goes(keep: Keep, tmp_path: Path) -> None:
    keeper, _ = keep("for n in range(200): print(f'{n:0999}')", log_bytes=20_000, log_files=2)
    eventually(lambda: ended(keeper), what="the end")
    names = sorted(path.name for path in tmp_path.glob("log*"))
    assert names == ["log", "log.1", "log.2"]
    text = b"".join((tmp_path / name).read_bytes() for name in reversed(names))
    assert text.endswith(b"%0999d\n" % 199)
    assert len(text) <= 3 * (20_000 + 65536), "a read may be this much over"
    numbers = [int(line) for line in text.split(b"\n")[1:-1]]
    assert numbers == list(range(numbers[0], 200)), "nothing is lost in between"


def test_a_log_that_cannot_be_put_aside_is_cut_and_stops_nobody(keep: Keep, tmp_path: Path) -> None:
    (tmp_path / "log.1").mkdir()
    (tmp_path / "log.1" / "in the way").touch()
    keeper, _ = keep("for n in range(5000): print('x' * 99)\nopen('done', 'w').close()", log_bytes=1000, log_files=1)
    eventually(lambda: ended(keeper), what="the end")
    assert (tmp_path / "done").exists()
    assert (tmp_path / "log").stat().st_size <= 70_000


def test_a_full_disk_stops_nobody(keep: Keep, tmp_path: Path) -> None:
    keeper, _ = keep("for n in range(5000): print('x' * 99)\nopen('done', 'w').close()", log=Path("/dev/full"))
    eventually(lambda: ended(keeper), what="the end")
    assert (tmp_path / "done").exists()


def test_what_forks_away_stays_below_the_keeper_and_is_ended_with_it(keep: Keep, tmp_path: Path) -> None:
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
time.sleep(0.1)
"""
    keeper, leader = keep(code, grace_s=0.5)
    eventually(lambda: not runs(leader.pid), what="the first process ended")
    (daemon,) = eventually(lambda: family.members(marks(leader, tmp_path), keeper.process.pid, kernel.table()))
    assert daemon.parent == keeper.process.pid and daemon.session not in (leader.pid, keeper.process.pid)
    assert not ended(keeper)
    keeper.process.send_signal(signal.SIGUSR1)
    eventually(lambda: ended(keeper) and not runs(daemon.pid), what="all of it ended")


@pytest.mark.parametrize(("deaf", "code"), [(False, -15), (True, -9)])
def test_it_ends_the_app_when_told_and_kills_what_does_not_listen(
    keep: Keep, tmp_path: Path, deaf: bool, code: int
) -> None:
    ignore = "import signal; signal.signal(15, signal.SIG_IGN); " if deaf else ""
    keeper, leader = keep(f"{ignore}print('up'); import time; time.sleep(600)", grace_s=0.3)
    eventually(lambda: (tmp_path / "log").read_text() == "up\n", what="the app up")
    keeper.process.send_signal(signal.SIGUSR1)
    eventually(lambda: ended(keeper), what="the end")
    assert not runs(leader.pid)
    assert json.loads((tmp_path / "exit").read_text()) == {"exit_code": code}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE, signal.SIGQUIT])
def test_other_signals_do_not_end_it(keep: Keep, number: int) -> None:
    keeper, leader = keep("import time; time.sleep(600)")
    keeper.process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        keeper.process.wait(0.2)
    assert runs(leader.pid)


def test_let_go_it_leaves_what_is_the_users(keep: Keep, tmp_path: Path) -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)"
    keeper, leader = keep(code)
    eventually(lambda: not runs(leader.pid), what="the first process ended")
    browser = int((tmp_path / "log").read_text())
    assert not ended(keeper)
    keeper.process.send_signal(signal.SIGTERM)
    eventually(lambda: ended(keeper), what="the keeper gone")
    assert runs(browser)
    os.kill(browser, signal.SIGKILL)


def test_a_keeper_without_orders_ends(tmp_path: Path) -> None:
    keeper = WaitingKeeper(RUN_ID, os.environ)
    # Right after the start the kernel has not yet put the variables in their place.
    eventually(lambda: kernel.has_variable(keeper.identity.pid, family.MARK, RUN_ID), what="the mark")
    assert kernel.alive(keeper.identity)
    assert keeper.process.stdin is not None
    keeper.process.stdin.close()
    assert keeper.process.wait(30) == 1
    keeper.abandon()


@pytest.mark.parametrize(
    ("command", "folder", "words"),
    [
        ("/nowhere/program", "", "program cannot be started: No such file or directory."),
        ("text", "", "text cannot be started: Permission denied."),
        ("script", "", "script cannot be started: Exec format error."),
        ("/bin/true", "missing", "true cannot be started: No such file or directory."),
    ],
)
def test_what_cannot_be_started_is_told(tmp_path: Path, command: str, folder: str, words: str) -> None:
    for name, mode in (("text", 0o644), ("script", 0o755)):
        (tmp_path / name).write_text("echo no interpreter is named")
        (tmp_path / name).chmod(mode)
    keeper = WaitingKeeper(RUN_ID, os.environ)
    orders = Orders(
        (str(tmp_path / command),), tmp_path / folder, dict(os.environ), (), tmp_path / "log", tmp_path / "exit"
    )
    with pytest.raises(LaunchFailed) as caught:
        keeper.go(orders)
    assert str(caught.value) == words
    assert ended(keeper)
