"""One sidecar per root, and how others find it: the lock and `rpc.json`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pumas.config import Layout
from pumas.errors import DiskError, RootInUse
from pumas.storage import owner
from pumas.storage.owner import OwnerLock, RpcFile, live_owner, own_rpc_file, parse_rpc_file, write_rpc_file

HOLD = """
import sys
from pathlib import Path
from pumas.config import Layout
from pumas.storage.owner import OwnerLock, own_rpc_file, write_rpc_file
layout = Layout(Path(sys.argv[1]))
lock = OwnerLock(layout)
lock.acquire()
lock.tell(4711)
write_rpc_file(layout, own_rpc_file(4711, "secret-token", "python"))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "launcher-data").mkdir()
    return Layout(tmp_path)


def holder(layout: Layout) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(owner.__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(layout.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_who_and_nothing_secret(layout: Layout) -> None:
    with holder(layout) as process:
        with pytest.raises(RootInUse) as caught:
            OwnerLock(layout).acquire()
        assert str(process.pid) in str(caught.value)
        assert "4711" in str(caught.value)
        assert "secret-token" not in str(caught.value)
        found = live_owner(layout)
        assert found is not None
        assert (found.pid, found.port, found.token) == (process.pid, 4711, "secret-token")
        process.kill()
    assert live_owner(layout) is None
    for _ in range(3):  # a dead owner's lock is free at once
        with holder(layout) as process:
            process.kill()
    OwnerLock(layout).acquire()


def test_a_stale_file_names_nobody(layout: Layout) -> None:
    """The lock is held, but `rpc.json` is of somebody who died: better no name than a wrong one."""
    with holder(layout) as process:
        layout.owner_lock.write_text("")
        write_rpc_file(layout, RpcFile(process.pid, 999, None, "python", "2001-01-01T00:00:00.000000Z"))
        with pytest.raises(RootInUse) as caught:
            OwnerLock(layout).acquire()
        assert "999" not in str(caught.value)
        process.kill()


ODD: dict[str, Callable[[Path], object]] = {
    "folder": Path.mkdir,
    "full folder": lambda path: (path / "inside").mkdir(parents=True),
    "fifo": os.mkfifo,
    "link": lambda path: path.symlink_to(path.parent / "elsewhere"),
    "garbage": lambda path: path.write_bytes(b"\xff\x00garbage"),
    "empty": Path.touch,
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_things_under_our_names(layout: Layout, kind: str) -> None:
    for path in (layout.owner_lock, layout.rpc_file):
        ODD[kind](path)
    assert live_owner(layout) is None
    lock = OwnerLock(layout)
    lock.acquire()
    facts = own_rpc_file(1234, "t", "python")
    write_rpc_file(layout, facts)
    assert live_owner(layout) == facts
    assert layout.rpc_file.stat().st_mode & 0o777 == 0o600
    assert not (layout.data / "elsewhere").exists()
    with pytest.raises(RootInUse):
        OwnerLock(layout).acquire()
    if kind == "full folder":
        assert len(list(layout.data.glob("*.damaged-*/inside"))) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"pid": 0},
        {"pid": -1},
        {"pid": 2**40},
        {"pid": "x"},
        {"pid": None},
        {"pid": 1},
        {"pid": 10**400},
        {"started_at": "yesterday"},
        {"started_at": ""},
        {"started_at": 5},
        {"started_at": "2001-01-01T00:00:00"},
        {"started_at": "2001-01-01T00:00:00Z"},
        {"started_at": "9999-12-31T23:59:59+00:00"},
    ],
)
def test_forged_or_recycled_owners_are_not_live(layout: Layout, change: dict[str, object]) -> None:
    good = {"pid": os.getpid(), "port": 1, "token": "t", "backend": "python"}
    good["started_at"] = own_rpc_file(1, None, "python").started_at
    layout.rpc_file.write_text(json.dumps(good))
    assert live_owner(layout) is not None
    layout.rpc_file.write_text(json.dumps(good | change))
    assert live_owner(layout) is None


def told(layout: Layout, port: int = 1) -> tuple[OwnerLock, dict[str, object]]:
    """A root that this process owns, and what the lock's file says of it."""
    lock = OwnerLock(layout)
    lock.acquire()
    lock.tell(port)
    write_rpc_file(layout, own_rpc_file(port, "t", "python"))
    return lock, json.loads(layout.owner_lock.read_text())


def test_the_locks_file_is_believed_whatever_the_clock_says(layout: Layout) -> None:
    _lock, record = told(layout)
    assert record.keys() == {"pid", "port", "start", "boot"}
    good = live_owner(layout)
    assert good is not None
    for started_at in ("2001-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z", "yesterday"):
        write_rpc_file(layout, replace(good, started_at=started_at))
        assert live_owner(layout) == replace(good, started_at=started_at)
    for nothing in ("", "null", "[]", "{", json.dumps({"pid": os.getpid()}), json.dumps(record | {"pid": "x"})):
        layout.owner_lock.write_text(nothing)
        assert live_owner(layout) is None, nothing
    write_rpc_file(layout, good)
    assert live_owner(layout) == good, "without a record the start time decides, as ever"


@pytest.mark.parametrize(
    "change",
    [{"pid": os.getppid()}, {"pid": 1}, {"pid": 2**40}, {"port": 2}, {"start": 1}, {"boot": "another"}, {"boot": ""}],
)
def test_a_file_that_the_lock_does_not_fit_names_nobody(layout: Layout, change: dict[str, object]) -> None:
    """Of an earlier sidecar, whose number may belong to somebody else by now; the start time may fit by chance."""
    _lock, record = told(layout)
    assert live_owner(layout) is not None
    layout.owner_lock.write_text(json.dumps(record | change))
    assert live_owner(layout) is None
    layout.owner_lock.write_text(json.dumps(record))
    if "pid" in change or "port" in change:
        forged = json.loads(layout.rpc_file.read_text()) | change
        layout.rpc_file.write_text(json.dumps(forged))
        assert live_owner(layout) is None


def test_what_is_left_of_a_process_owns_nothing(layout: Layout) -> None:
    process = holder(layout)
    assert live_owner(layout) is not None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert live_owner(layout) is None, "nobody has collected it yet"
    process.communicate()


def test_a_lock_that_cannot_be_told_about_is_still_one(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = OwnerLock(layout)
    lock.tell(1)
    assert not layout.owner_lock.exists(), "nothing is said before it is held"
    lock.acquire()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        lock.tell(1)
    layout.owner_lock.write_text("of somebody else")
    lock.tell(1)
    assert layout.owner_lock.read_text() == "of somebody else"
    write_rpc_file(layout, own_rpc_file(1, "t", "python"))
    assert live_owner(layout) is not None
    with pytest.raises(RootInUse):
        OwnerLock(layout).acquire()


def test_the_file_of_a_later_sidecar_is_left_alone(layout: Layout) -> None:
    with holder(layout) as process:
        owner.remove_rpc_file(layout)
        assert parse_rpc_file(layout.rpc_file).pid == process.pid
        process.kill()
    write_rpc_file(layout, own_rpc_file(1, None, "python"))
    owner.remove_rpc_file(layout)
    assert not layout.rpc_file.exists()
    owner.remove_rpc_file(layout)


def test_a_path_that_is_no_text_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    layout = Layout(tmp_path / os.fsdecode(b"mod\xe8les"))
    with pytest.raises(DiskError, match=r"mod\\xe8les has bytes in its path that are not UTF-8: rename the folder\.$"):
        OwnerLock(layout).acquire()
    assert not layout.data.exists()
