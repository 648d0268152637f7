"""Files outside the library: `missing` when their owner removed them, `offline` when their drive or store is away."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.model_disk import write
from pumas.library.references import Reference, State, file_path, mount_of, references, state_of


def reference(path: Path, store: Path, mount: str | None = None) -> Reference:
    return Reference("x.gguf", str(path), 4, 1, str(store), mount_of(store) if mount is None else mount)


def nothing(_file: Path) -> None: ...


def remove_file(file: Path) -> None:
    file.unlink()


def remove_folder(file: Path) -> None:
    shutil.rmtree(file.parent)


def remove_store(file: Path) -> None:
    shutil.rmtree(file.parents[1])


def put_a_pipe_there(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def put_a_file_in_the_way(file: Path) -> None:
    shutil.rmtree(file.parent)
    file.parent.touch()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (nothing, State.OK),
        (remove_file, State.MISSING),
        (remove_folder, State.MISSING),
        (remove_store, State.OFFLINE),
        (put_a_pipe_there, State.MISSING),
        (put_a_file_in_the_way, State.MISSING),
    ],
)
def test_what_is_there_now(tmp_path: Path, change: Callable[[Path], None], expected: State) -> None:
    store = tmp_path / "store"
    file = write(store / "blobs" / "x", b"data")
    change(file)
    assert reference(file, store).state() is expected


def test_a_mount_point_without_its_volume_is_offline(tmp_path: Path) -> None:
    """After `umount` the folder stays: only that nothing is mounted there tells it from a store that was emptied."""
    drive = tmp_path / "drive"
    (drive / "store").mkdir(parents=True)
    assert reference(drive / "store" / "x", drive / "store", mount=str(drive)).state() is State.OFFLINE
    assert reference(drive / "store" / "x", drive / "store", mount="/").state() is State.MISSING


def test_a_folder_that_does_not_answer_is_offline(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    assert reference(loop / "x", tmp_path).state() is State.OFFLINE


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], State.OK),
        (["ok", "ok"], State.OK),
        (["ok", "away"], State.OFFLINE),
        (["away", "gone", "ok"], State.MISSING),
    ],
)
def test_the_worst_file_decides(tmp_path: Path, states: list[str], expected: State) -> None:
    files = {"ok": write(tmp_path / "ok", b"data"), "gone": tmp_path / "gone", "away": tmp_path / "none" / "x"}
    stores = {"ok": tmp_path, "gone": tmp_path, "away": tmp_path / "none"}
    assert state_of(reference(files[state], stores[state]) for state in states) is expected


def test_the_mount_of_another_volume() -> None:
    assert mount_of(Path("/dev/shm/models/x")) == "/dev/shm"
    assert mount_of(Path("/")) == "/"


GOOD: dict[str, Any] = {"name": "a/x.gguf", "path": "/s/x", "size": 1, "mtime_ns": 2, "store": "/s", "mount": "/"}


@pytest.mark.parametrize(
    "spoiled",
    [
        {"name": "../x"},
        {"name": "/x"},
        {"name": ""},
        {"name": 5},
        {"path": "relative"},
        {"path": "/s/\0"},
        {"path": "~/x"},
        {"path": "/s/\ud800"},
        {"path": "/" + "x" * 5000},
        {"size": -1},
        {"size": True},
        {"size": "1"},
        {"mtime_ns": 1.5},
        {"store": None},
        {"mount": "x"},
    ],
)
def test_what_is_not_of_the_form_is_left_out(spoiled: dict[str, Any]) -> None:
    assert [one.name for one in references([{**GOOD, **spoiled}, GOOD])] == ["a/x.gguf"]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD]), inner, max_size=6),
    )
)
def test_nothing_makes_it_fail(value: object) -> None:
    assert all(isinstance(one, Reference) for one in references(value))


def test_what_was_written_is_read_again() -> None:
    one = Reference(**GOOD)
    assert references([one.to_json()]) == [one]


def test_a_file_of_the_model_is_found_inside_or_outside(tmp_path: Path) -> None:
    outside = {"x.gguf": reference(Path("/s/x"), tmp_path)}
    assert file_path(tmp_path, outside, "x.gguf") == Path("/s/x")
    assert file_path(tmp_path, outside, "y.gguf") == tmp_path / "y.gguf"
