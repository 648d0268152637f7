"""State files: never torn, recovered from the backup, and never mistaken for empty when they are damaged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from pumas.errors import CorruptState, PumasError
from pumas.storage import json_file

GOOD = {"name": "good", "unknown": [1, {"kept": True}]}
OLD = {"name": "old"}
DAMAGE: dict[str, bytes | None] = {
    "empty": b"",
    "cut": orjson.dumps(GOOD)[:-5],
    "zeros": bytes(64),
    "random": bytes(range(256)),
    "text": b"not json",
    "list": b"[]",
    "null": b"null",
    "number": b"123",
    "deep": b'{"notes": %s%s}' % (b"[" * 500, b"]" * 500),
    "folder": None,
    "fifo": None,
}


def damage(path: Path, kind: str) -> None:
    content = DAMAGE[kind]
    if content is not None:
        path.write_bytes(content)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_recovered_from_its_backup(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "state.json"
    damage(path, kind)
    json_file.backup_path(path).write_bytes(orjson.dumps(OLD))
    loaded = json_file.load(path)
    assert loaded.value == OLD
    assert loaded.recovered


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("backup", ["missing", "cut"])
def test_damaged_is_not_empty(tmp_path: Path, kind: str, backup: str) -> None:
    path = tmp_path / "state.json"
    damage(path, kind)
    if backup != "missing":
        damage(json_file.backup_path(path), backup)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(CorruptState):
        json_file.load(path)
    with pytest.raises(CorruptState):
        json_file.update(path, json_file.StateLock(tmp_path / "lock"), lambda value: value.update(new=1))
    assert [name for name in sorted(os.listdir(tmp_path)) if name != "lock"] == before
    content = DAMAGE[kind]
    assert content is None or path.read_bytes() == content


def test_missing_is_not_damaged(tmp_path: Path) -> None:
    assert json_file.load(tmp_path / "state.json") == json_file.Loaded(None)


def test_a_save_keeps_the_last_good_content(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    json_file.save(path, OLD)
    json_file.save(path, GOOD)
    assert json_file.load(path).value == GOOD
    assert json_file.parse_object(json_file.backup_path(path)) == OLD


def test_a_damaged_file_never_replaces_a_good_backup(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    json_file.save(path, OLD)
    json_file.save(path, GOOD)
    path.write_bytes(b"{")
    json_file.save(path, {"name": "new"})
    assert json_file.parse_object(json_file.backup_path(path)) == OLD
    assert json_file.load(path).value == {"name": "new"}
    assert [kept.read_bytes() for kept in tmp_path.glob("state.json.damaged-*")] == [b"{"]


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    json_file.save(path, GOOD)
    monkeypatch.setattr(json_file, "MAX_STATE_BYTES", path.stat().st_size)
    assert json_file.load(path).value == GOOD
    monkeypatch.setattr(json_file, "MAX_STATE_BYTES", path.stat().st_size - 1)
    with pytest.raises(CorruptState, match="too large"):
        json_file.load(path)


def test_unknown_keys_stay(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    json_file.save(path, GOOD)
    json_file.update(path, json_file.StateLock(tmp_path / "lock"), lambda value: value.update(name="changed"))
    assert json_file.load(path).value == {**GOOD, "name": "changed"}


def test_a_failed_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    json_file.save(path, OLD)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(PumasError) as caught:
        json_file.save(path, GOOD)
    monkeypatch.undo()
    assert caught.value.kind == "disk_full"
    assert json_file.load(path).value == OLD
    assert sorted(os.listdir(tmp_path)) == ["state.json"]


COUNT = """
import sys
from pathlib import Path
from pumas.storage import json_file
folder = Path(sys.argv[1])
lock = json_file.StateLock(folder / "lock")
def add(value): value["count"] = value.get("count", 0) + 1
for _ in range(int(sys.argv[2])):
    json_file.update(folder / "state.json", lock, add)
"""


def program(tmp_path: Path, times: int) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(Path(json_file.__file__).parents[2])}
    return subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path), str(times)], env=environment)


def test_two_processes_lose_no_update(tmp_path: Path) -> None:
    running = [program(tmp_path, 40) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0]
    assert json_file.load(tmp_path / "state.json").value == {"count": 80}


@pytest.mark.parametrize("reached", [1, 3, 7, 20])
def test_a_killed_writer_leaves_old_or_new(tmp_path: Path, reached: int) -> None:
    path = tmp_path / "state.json"
    process = program(tmp_path, 100_000)
    seen = 0
    try:
        while seen < reached:
            assert process.poll() is None
            seen = (json_file.load(path).value or {}).get("count", 0)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    after = json_file.load(path)
    assert after.recovered is None
    assert after.value is not None
    assert after.value["count"] >= seen
    json_file.update(path, json_file.StateLock(tmp_path / "lock"), lambda value: value.update(done=True))
    assert json_file.load(path).value == {"count": after.value["count"], "done": True}
