"""Durable file operations: their order, what they leave when they fail, and what they never touch."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults.volumes import broken_disk, tmpfs
from pumas.errors import AlreadyExists, NotEnoughSpace, PumasError, ReadOnly
from pumas.storage import files


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EFBIG, "disk_full"),
        (errno.EROFS, "read_only"),
        (errno.EACCES, "disk_error"),
        (errno.EPERM, "disk_error"),
        (errno.EIO, "disk_error"),
        (None, "disk_error"),
    ],
)
def test_what_the_disk_said(code: int | None, kind: str) -> None:
    error = OSError() if code is None else OSError(code, "words of the system", "/secret/path")
    with pytest.raises(PumasError) as caught, files.disk_errors("Writing x"):
        raise error
    assert caught.value.kind == kind
    assert str(caught.value).startswith("Writing x:")
    assert "/secret" not in str(caught.value)
    assert caught.value.__cause__ is error


# -- writing ---------------------------------------------------------------------------------------------------------


class Calls:
    """The calls that change a disk or promise durability, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.fail_at = ""
        for name in ("fsync", "replace", "rename", "mkdir"):
            monkeypatch.setattr(os, name, self._watching(name, getattr(os, name)))

    def _watching(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            what = name
            if name == "fsync":
                what = "fsync folder" if stat.S_ISDIR(os.fstat(arguments[0]).st_mode) else "fsync"
            self.made.append(what)
            if what == self.fail_at:
                raise OSError(errno.EIO, "Input/output error")
            return real(*arguments, **options)

        return call


def test_data_first_then_the_name_then_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    files.write_durably(tmp_path / "x", b"new", mode=0o600)
    assert calls.made == ["fsync", "replace", "fsync folder"]
    assert (tmp_path / "x").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600


@pytest.mark.parametrize(("fail_at", "content"), [("fsync", b"old"), ("replace", b"old"), ("fsync folder", b"new")])
def test_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_at: str, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    Calls(monkeypatch).fail_at = fail_at
    with pytest.raises(OSError):
        files.write_durably(path, b"new")
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["x"]


def test_folders_are_made_durably(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    made = files.make_folders(tmp_path / "a/b/c", mode=0o700)
    assert made == [tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/c"]
    assert calls.made == ["mkdir", "fsync folder"] * 3
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700
    assert files.make_folders(tmp_path / "a/b") == []
    (tmp_path / "a/b/c/file").touch()
    files.remove_if_empty(made)
    assert (tmp_path / "a/b/c").is_dir()
    (tmp_path / "a/b/c/file").unlink()
    files.remove_if_empty(made)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_another_made_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.mkdir

    def too_late(self: Path, *arguments: Any, **options: Any) -> None:
        real(self)
        real(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", too_late)
    assert files.make_folders(tmp_path / "a") == []
    assert (tmp_path / "a").is_dir()


# -- renaming --------------------------------------------------------------------------------------------------------


def put(path: Path, kind: str) -> None:
    match kind:
        case "file":
            path.write_bytes(b"there before")
        case "folder":
            path.mkdir()
        case "full folder":
            path.mkdir()
            (path / "inside").touch()
        case "link to nothing":
            path.symlink_to("nowhere")
        case "fifo":
            os.mkfifo(path)


@pytest.fixture(params=["renameat2", "without"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the system call of Linux, and as on systems and file systems that lack it."""
    if request.param == "without":
        monkeypatch.setattr(ctypes, "CDLL", lambda *_a, **_o: object())


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("source", ["file", "folder", "full folder"])
@pytest.mark.parametrize("taken", ["file", "folder", "full folder", "link to nothing", "fifo"])
def test_a_name_that_is_taken_is_left_alone(tmp_path: Path, source: str, taken: str) -> None:
    put(tmp_path / "source", source)
    (tmp_path / "place").mkdir()
    put(tmp_path / "place/target", taken)
    before = (tmp_path / "place/target").lstat()
    with pytest.raises(AlreadyExists) as caught:
        files.rename_new(tmp_path / "source", tmp_path / "place/target")
    assert str(caught.value) == "target already exists in place."
    assert (tmp_path / "source").exists()
    assert (tmp_path / "place/target").lstat() == before


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("source", ["file", "folder", "full folder", "link to nothing"])
def test_a_free_name_is_taken_durably_on_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    put(tmp_path / "source", source)
    (tmp_path / "place").mkdir()
    before = (tmp_path / "source").lstat()
    calls = Calls(monkeypatch)
    files.rename_new(tmp_path / "source", tmp_path / "place/target")
    assert calls.made[-2:] == ["fsync folder"] * 2
    assert (tmp_path / "place/target").lstat().st_ino == before.st_ino
    assert os.listdir(tmp_path) == ["place"]


@pytest.mark.usefixtures("system")
def test_a_rename_that_cannot_be_made_durable_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "source", "full folder")
    (tmp_path / "place").mkdir()
    Calls(monkeypatch).fail_at = "fsync folder"
    with pytest.raises(OSError):
        files.rename_new(tmp_path / "source", tmp_path / "place/target")
    assert (tmp_path / "source/inside").exists()
    assert os.listdir(tmp_path / "place") == []


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_rename_that_the_system_refuses_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "place").mkdir()
    if kind == "file":
        with pytest.raises(OSError):
            files.rename_new(tmp_path / "missing", tmp_path / "place/target")
    else:
        (tmp_path / "a").mkdir()
        with pytest.raises(OSError):  # a folder into itself
            files.rename_new(tmp_path / "a", tmp_path / "a/b")
    assert sorted(os.listdir(tmp_path)) == (["place"] if kind == "file" else ["a", "place"])
    assert os.listdir(tmp_path / "place") == []


def test_a_file_system_without_exclusive_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EINVAL: the system knows the call, this file system does not know its flag."""

    class Library:
        @staticmethod
        def renameat2(*_: object) -> int:
            ctypes.set_errno(errno.EINVAL)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_a, **_o: Library)
    put(tmp_path / "source", "full folder")
    files.rename_new(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target/inside").exists()


# -- odd things ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "full folder", "link to nothing", "fifo"])
def test_odd_things_are_moved_aside(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "state.json"
    put(path, kind)
    before = path.lstat()
    assert files.is_odd(path)
    kept = files.put_aside(path)
    assert kept.name.startswith("state.json.damaged-")
    assert not os.path.lexists(path)
    assert (kept.lstat().st_ino, kept.lstat().st_mode) == (before.st_ino, before.st_mode)


def test_a_file_put_aside_keeps_its_name_until_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    assert not files.is_odd(path)
    path.write_bytes(b"damaged")
    assert not files.is_odd(path)
    first = files.put_aside(path)
    assert path.read_bytes() == first.read_bytes() == b"damaged"

    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refused)
    second = files.put_aside(path)
    assert second != first
    assert second.read_bytes() == b"damaged"
    assert not path.exists()


# -- temporaries -----------------------------------------------------------------------------------------------------


def dead_pid() -> int:
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    return int(done.stdout)


def test_only_what_nobody_writes_any_more_is_removed(tmp_path: Path) -> None:
    own, gone, parent, letters = os.getpid(), dead_pid(), os.getppid(), "0123abcd"
    day_ago = time.time() - 25 * 3600
    stale = {
        f"x.json.{gone}.{letters}.pumas-tmp": None,
        f"old.{parent}.{letters}.pumas-tmp": day_ago,
        f"mine.{own}.{letters}.pumas-tmp": day_ago,
    }
    kept = {
        f"x.json.{parent}.{letters}.pumas-tmp": None,
        f"x.json.{own}.{letters}.pumas-tmp": None,
        f"x.json.{gone}.pumas-tmp": day_ago,
        f"x.json.{gone}.{letters}.pumas-tmp.gguf": day_ago,
        f"x.json.{gone}.0123ABCD.pumas-tmp": day_ago,
        f"{gone}.{letters}.tmp": day_ago,
        ".pumas-tmp": day_ago,
    }
    for name, moment in (stale | kept).items():
        (tmp_path / name).touch()
        if moment is not None:
            os.utime(tmp_path / name, (moment, moment))
    (tmp_path / f"folder.{gone}.{letters}.pumas-tmp").mkdir()
    files.remove_stale_temporaries(tmp_path)
    assert set(os.listdir(tmp_path)) == {*kept, f"folder.{gone}.{letters}.pumas-tmp"}


# -- space -----------------------------------------------------------------------------------------------------------


def test_space_is_asked_of_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    assert 0 < files.free_space(tmp_path / "not/there/yet") <= shutil.disk_usage(tmp_path).total


def test_a_margin_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "free_space", lambda _folder: 1000)
    files.require_space(tmp_path, 900, margin=100)
    for needed, margin in ((901, 100), (900, 101), (1001, 0)):
        with pytest.raises(NotEnoughSpace) as caught:
            files.require_space(tmp_path, needed, margin=margin)
        assert (caught.value.needed, caught.value.free) == (needed + margin, 1000)


@pytest.mark.parametrize(("code", "no_room"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False)])
def test_room_is_found_out_by_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, no_room: bool
) -> None:
    assert not files.has_no_room(tmp_path)
    assert not files.has_no_room(tmp_path / "missing")
    assert os.listdir(tmp_path) == []

    def refused(**_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    assert files.has_no_room(tmp_path) is no_room


def test_a_file_system_that_became_read_only_says_so_when_it_is_written() -> None:
    with broken_disk() as disk:
        if disk is None:
            return
        assert files.why_not_written(disk.path) is None
        disk.make_read_only()
        assert isinstance(files.why_not_written(disk.path), ReadOnly)
        assert not files.has_no_room(disk.path)
        for act in (lambda: files.make_folders(disk.path / "x"), lambda: files.write_durably(disk.path / "x", b"x")):
            with pytest.raises(ReadOnly), files.disk_errors("Writing"):
                act()


def test_a_file_system_without_room() -> None:
    with tmpfs(1024 * 1024) as place:
        folder = Path("/dev/full") if place is None else place
        if place is not None:
            with (place / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            assert files.has_no_room(folder)
            with pytest.raises(OSError):
                files.write_durably(folder / "x", bytes(100_000))
            assert os.listdir(folder) == ["ballast"]
