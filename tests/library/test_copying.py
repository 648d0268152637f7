"""`library/copying.py`: what arrives, by which way, and that a source that changes leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from library.model_disk import sha256, write
from pumas.errors import AlreadyExists, Cancelled, FileUnavailable, InvalidInput, NotEnoughSpace
from pumas.library import copying
from pumas.library.copying import Method, Mode, Staged, share_file, stage_file
from pumas.library.hashing import BLOCK, Stamp, no_advance


def bring(source: Path, target: Path, mode: Mode = Mode.COPY, advance: object = no_advance) -> Staged:
    return stage_file(source, target, mode, expected=Stamp.of(source.stat()), advance=advance)  # type: ignore[arg-type]


@pytest.fixture
def other_volume() -> Generator[Path]:
    """A folder on another file system than `tmp_path`."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    ("mode", "across", "links", "expected"),
    [
        (Mode.COPY, False, 1, Method.COPY),
        (Mode.COPY, True, 1, Method.COPY),
        (Mode.MOVE, False, 1, Method.HARDLINK),
        (Mode.MOVE, False, 2, Method.COPY),
        (Mode.MOVE, True, 1, Method.COPY),
        (Mode.HARDLINK, False, 1, Method.HARDLINK),
        (Mode.HARDLINK, False, 2, Method.HARDLINK),
    ],
)
def test_each_mode_on_each_pair_of_volumes(
    tmp_path: Path, other_volume: Path, mode: Mode, across: bool, links: int, expected: Method
) -> None:
    assert other_volume.stat().st_dev != tmp_path.stat().st_dev
    data = os.urandom(3 * BLOCK + 5)
    source = write((other_volume if across else tmp_path) / "source.gguf", data)
    if links == 2:
        os.link(source, source.with_name("second"))
    staged = bring(source, tmp_path / "target.gguf", mode)
    # A file system that can share blocks may do so where a copy is expected.
    assert staged.method in ({expected, Method.REFLINK} if expected is Method.COPY else {expected})
    assert (tmp_path / "target.gguf").read_bytes() == data == source.read_bytes()
    assert staged.digests.sha256 == sha256(data)
    same_file = os.path.samefile(source, tmp_path / "target.gguf")
    assert same_file == (expected is Method.HARDLINK)


@pytest.mark.parametrize("parts", [{0: b"head"}, {BLOCK: b"x", 9 * BLOCK: b"y"}, {8 * BLOCK - 1: b"end"}, {}])
def test_holes_stay_holes(tmp_path: Path, other_volume: Path, parts: dict[int, bytes]) -> None:
    source, target = other_volume / "source.gguf", tmp_path / "target.gguf"
    with source.open("wb") as file:
        file.truncate(12 * BLOCK + 5)
        for offset, data in parts.items():
            os.pwrite(file.fileno(), data, offset)
    staged = bring(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert staged.digests.sha256 == sha256(source.read_bytes())
    assert target.stat().st_blocks * 512 <= (len(parts) + 1) * BLOCK


def test_zeros_that_take_room_are_copied_as_they_are(tmp_path: Path, other_volume: Path) -> None:
    source, target = write(other_volume / "source", bytes(3 * BLOCK)), tmp_path / "target"
    bring(source, target)
    assert target.read_bytes() == bytes(3 * BLOCK)
    assert target.stat().st_blocks * 512 >= 3 * BLOCK


def test_a_hard_link_across_volumes_is_refused_not_copied(tmp_path: Path, other_volume: Path) -> None:
    source = write(other_volume / "source.gguf", b"data")
    with pytest.raises(InvalidInput, match="copy"):
        bring(source, tmp_path / "target", Mode.HARDLINK)
    assert not (tmp_path / "target").exists()


def test_shared_blocks_are_hashed_from_the_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's file systems may not clone, so the ioctl is replaced by what it does."""
    source = write(tmp_path / "source", b"0123456789" * 1000)

    def clone(source_fd: int, target_fd: int) -> bool:
        os.write(target_fd, os.pread(source_fd, 1 << 20, 0))
        return True

    monkeypatch.setattr(copying, "_clone", clone)
    staged = bring(source, tmp_path / "target")
    assert staged.method is Method.REFLINK
    assert staged.digests.sha256 == sha256((tmp_path / "target").read_bytes()) == sha256(source.read_bytes())


def test_a_source_written_while_its_clone_is_hashed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "source", bytes(3 * BLOCK))
    monkeypatch.setattr(copying, "_clone", lambda _source, target: os.write(target, bytes(3 * BLOCK)) > 0)
    with pytest.raises(FileUnavailable, match="changed"):
        bring(source, tmp_path / "target", advance=lambda _count: os.utime(source, ns=(5, 5)))
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("mode", list(Mode))
def test_a_source_that_was_replaced_or_written_is_refused(tmp_path: Path, mode: Mode) -> None:
    source, target = write(tmp_path / "source", b"a" * 100), tmp_path / "target"
    before = Stamp.of(source.stat())
    write(tmp_path / "other", b"b" * 100)
    os.replace(tmp_path / "other", source)
    with pytest.raises(FileUnavailable, match="replaced"):
        stage_file(source, target, mode, expected=before, advance=no_advance)
    assert not target.exists() and source.read_bytes() == b"b" * 100


@pytest.mark.parametrize("mode", list(Mode))
def test_a_source_written_during_the_work_leaves_no_target(tmp_path: Path, mode: Mode) -> None:
    source, target = write(tmp_path / "source", bytes(3 * BLOCK)), tmp_path / "target"

    def touch(_count: int) -> None:
        os.utime(source, ns=(5, 5))

    with pytest.raises(FileUnavailable, match="changed"):
        bring(source, target, mode, touch)
    assert not target.exists() and source.stat().st_size == 3 * BLOCK


def test_a_stop_leaves_no_target(tmp_path: Path) -> None:
    def stop(_count: int) -> None:
        raise Cancelled("stop")

    source, target = write(tmp_path / "source", bytes(3 * BLOCK)), tmp_path / "target"
    with pytest.raises(Cancelled):
        bring(source, target, advance=stop)
    assert not target.exists()


def test_an_existing_target_is_not_touched(tmp_path: Path) -> None:
    source, target = write(tmp_path / "source", b"new"), write(tmp_path / "target", b"old")
    for mode in Mode:
        with pytest.raises(AlreadyExists):
            bring(source, target, mode)
        assert target.read_bytes() == b"old"


def test_a_full_disk_is_said_and_leaves_no_target(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    source, target = write(tmp_path / "source", bytes(3 * BLOCK)), tmp_path / "target"
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if os.fstat(fd).st_size >= BLOCK:
            raise OSError(28, "No space left on device")
        return real(fd, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copying.os, "write", full)
        with pytest.raises(NotEnoughSpace):
            bring(source, target)
    assert not target.exists()


def test_execute_bits_are_dropped_and_privacy_is_kept(tmp_path: Path) -> None:
    source = write(tmp_path / "source", b"x")
    source.chmod(0o700)
    bring(source, tmp_path / "target")
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o600
    shutil.rmtree(tmp_path)


# -- sharing without reading -------------------------------------------------------------------------------------------


def share(source: Path, target: Path, method: Method) -> bool:
    return share_file(source, target, method, expected=Stamp.of(source.stat()))


def test_a_shared_file_is_the_same_file_and_was_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "source", b"data")
    monkeypatch.setattr(copying, "digest_open", None)  # a call would fail
    assert share(source, tmp_path / "target", Method.HARDLINK)
    assert os.path.samefile(source, tmp_path / "target")


@pytest.mark.parametrize("method", [Method.HARDLINK, Method.REFLINK])
def test_what_cannot_be_shared_is_never_copied(tmp_path: Path, other_volume: Path, method: Method) -> None:
    source = write(other_volume / "source", b"data")
    assert share(source, tmp_path / "target", method) is False
    assert list(tmp_path.iterdir()) == []


def test_a_clone_shares_by_the_ioctl_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "source", b"data")
    monkeypatch.setattr(copying, "_clone", lambda source, target: os.write(target, os.pread(source, 99, 0)) > 0)
    assert share(source, tmp_path / "target", Method.REFLINK)
    assert (tmp_path / "target").read_bytes() == b"data"
    assert not os.path.samefile(source, tmp_path / "target")


@pytest.mark.parametrize("method", [Method.HARDLINK, Method.REFLINK])
def test_sharing_refuses_what_changed_or_is_taken(tmp_path: Path, method: Method) -> None:
    source = write(tmp_path / "source", b"data")
    stamp = Stamp.of(source.stat())
    source.write_bytes(b"other")
    with pytest.raises(FileUnavailable):
        share_file(source, tmp_path / "target", method, expected=stamp)
    assert not (tmp_path / "target").exists()
    taken = write(tmp_path / "taken", b"kept")
    with pytest.raises(AlreadyExists):
        share(source, taken, method)
    assert taken.read_bytes() == b"kept"
