"""The list of what was started: kept whole, and believed only where it can be proved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pumas.processes import kernel
from pumas.processes.ledger import KEPT_LOGS, Ledger, OnExit, Record, exit_file, is_log, read_record, recognised
from pumas.storage.json_file import StateLock, backup_path
from sidecar import eventually

NUMBERS = st.integers(0, 2**63 - 1)
RECORDS = st.builds(
    Record,
    run_id=st.text("0123456789abcdef", min_size=32, max_size=32),
    app_id=st.text(max_size=20),
    tag=st.text(max_size=20),
    boot=st.text(max_size=20),
    keeper=NUMBERS,
    keeper_start=NUMBERS,
    leader=NUMBERS,
    leader_start=NUMBERS,
    port=NUMBERS,
    command=st.lists(st.text(max_size=9), max_size=4).map(tuple),
    programs=st.lists(st.text(max_size=9), max_size=4).map(tuple),
    folder=st.text(max_size=20),
    log=st.text(max_size=20),
    started_at=st.text(max_size=20),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


def record(**changes: Any) -> Record:
    facts: dict[str, Any] = {
        "run_id": "0" * 32,
        "app_id": "web",
        "tag": "v1",
        "boot": kernel.boot(),
        "keeper": 0,
        "keeper_start": 0,
        "leader": 0,
        "leader_start": 0,
        "port": 1,
        "command": ("/bin/web",),
        "programs": ("/bin/web",),
        "folder": "/f",
        "log": "/l",
        "started_at": "now",
    }
    return Record(**(facts | changes))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "metadata" / "processes.json", StateLock(tmp_path / "lock"))


@given(RECORDS)
def test_a_record_comes_back_as_it_was(one: Record) -> None:
    assert read_record(json.loads(json.dumps(asdict(one)))) == one


@settings(max_examples=300)
@given(RECORDS, st.sampled_from([*asdict(record()), "new"]), JSON | st.just("missing"))
def test_whatever_is_in_it_is_a_record_or_refused(one: Record, name: str, value: object) -> None:
    raw = asdict(one) | {name: value}
    if value == "missing":
        del raw[name]
    try:
        found = read_record(json.loads(json.dumps(raw)))
    except ValueError:
        return
    for key, kept in asdict(found).items():
        assert type(kept) is type(getattr(one, key)) and (not isinstance(kept, int) or 0 <= kept < 2**63)
    assert len(found.run_id) == 32, "it becomes the name of a file"


@given(JSON)
def test_anything_else_is_no_record(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_record(value)


def test_put_remove_and_logs(ledger: Ledger) -> None:
    one, two = record(), record(run_id="1" * 32, leader=7)
    ledger.put(one)
    ledger.put(two)
    assert set(ledger.load().runs) == {one, two}
    ledger.put(two.led_by(kernel.Identity(9, 99, "")))
    assert {run.leader for run in ledger.load().runs} == {0, 9}
    ledger.remove([one.run_id, "unknown"])
    assert [run.run_id for run in ledger.load().runs] == [two.run_id]
    assert [ledger.add_log("web", f"/{n}") for n in range(KEPT_LOGS)] == [[]] * KEPT_LOGS
    assert ledger.add_log("web", "/new") == ["/0"]
    assert ledger.add_log("other", "/o") == []
    assert (ledger.last_log("web"), ledger.last_log("other"), ledger.last_log("none")) == ("/new", "/o", None)


def test_keys_of_others_stay(ledger: Ledger) -> None:
    ledger.path.parent.mkdir()
    ledger.path.write_text('{"future": [1], "runs": {"x": {"odd": true}}, "logs": "odd"}')
    ledger.put(record())
    ledger.add_log("web", "/l")
    ledger.set_on_exit(OnExit.KEEP)
    value = json.loads(ledger.path.read_text())
    assert value["future"] == [1] and value["runs"]["x"] == {"odd": True} and value["when_sidecar_ends"] == "keep"
    contents = ledger.load()
    assert contents.runs == (record(),) and contents.on_exit is OnExit.KEEP
    assert contents.wrong and "makes no sense" in contents.wrong


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b"\0" * 100, b'{"runs": {}', b"\xff"])
def test_a_damaged_file_is_kept_aside_and_its_backup_used(ledger: Ledger, damage: bytes) -> None:
    ledger.put(record())
    ledger.put(record(leader=5))
    ledger.path.write_bytes(damage)
    assert [run.leader for run in ledger.load().runs] == [0], "the backup is one step behind"
    backup_path(ledger.path).write_bytes(damage)
    contents = ledger.load()
    assert contents.runs == () and contents.wrong and contents.on_exit is OnExit.STOP
    kept = [path.name for path in ledger.path.parent.iterdir()]
    assert any(name.startswith("processes.json.damaged-") for name in kept)
    assert any(name.startswith("processes.json.bak.damaged-") for name in kept)
    ledger.put(record())
    assert ledger.load().runs == (record(),)


def test_a_file_that_is_damaged_while_apps_run_is_written_anew_with_them(ledger: Ledger) -> None:
    ledger.put(record())
    for path in (ledger.path, backup_path(ledger.path)):
        path.write_bytes(b"{")
    ledger.put(record(run_id="1" * 32))
    assert {run.run_id for run in ledger.load().runs} == {"0" * 32, "1" * 32}


@pytest.mark.parametrize("runs", ["[]", "7", '{"a": 1, "b": null, "c": []}', '{"a": {}}'])
def test_runs_of_the_wrong_kind_are_no_runs(ledger: Ledger, runs: str) -> None:
    ledger.path.parent.mkdir()
    ledger.path.write_text(f'{{"runs": {runs}}}')
    assert ledger.load().runs == ()
    ledger.put(record())
    assert ledger.load().runs == (record(),)


def test_two_at_once_lose_nothing(ledger: Ledger) -> None:
    code = (
        "import sys; from pathlib import Path; from pumas.processes.ledger import *\n"
        "from pumas.storage.json_file import *\n"
        "ledger = Ledger(Path(sys.argv[1]), StateLock(Path(sys.argv[2])))\n"
        "for n in range(20): ledger.add_log(sys.argv[3] + str(n), '/l')\n"
    )
    arguments = [sys.executable, "-c", code, str(ledger.path), str(ledger.path.parent.parent / "lock")]
    env = {**os.environ, "PYTHONPATH": str(Path(kernel.__file__).resolve().parents[2])}
    both = [subprocess.Popen([*arguments, name], env=env) for name in "ab"]
    assert [one.wait(60) for one in both] == [0, 0]
    assert len(json.loads(ledger.path.read_text())["logs"]) == 40


def test_only_a_process_that_carries_the_mark_is_recognised() -> None:
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(sleeping, env={**os.environ, "PUMAS_RUN": "0" * 32}) as process:
        try:
            seen = kernel.look(process.pid)
            assert seen is not None
            true = record(keeper=seen.pid, keeper_start=seen.start)
            # The kernel shows a new program's environment a moment after its start is told.
            eventually(lambda: recognised(true) == "keeper")
            assert recognised(record(leader=seen.pid, leader_start=seen.start)) == "leader"
            assert recognised(record(keeper=seen.pid, keeper_start=seen.start, run_id="1" * 32)) is None
            assert recognised(record(keeper=seen.pid, keeper_start=seen.start + 1)) is None
            assert recognised(record(keeper=seen.pid, keeper_start=seen.start, boot="another")) is None
        finally:
            process.kill()
            process.wait()
    assert recognised(true) is None


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("/logs/launch-x.log", True),
        ("/logs/launcher.log", False),
        ("/logs/sub/launch-x.log", False),
        ("/logs/../launch-x.log", False),
        ("/etc/launch-x.log", False),
        ("launch-x.log", False),
    ],
)
def test_what_is_a_log_of_ours(path: str, ours: bool) -> None:
    assert is_log(Path("/logs"), Path(path)) is ours


def test_exit_files_lie_in_the_cache() -> None:
    assert exit_file(Path("/d/cache"), "0" * 32) == Path(f"/d/cache/run-{'0' * 32}.json")
