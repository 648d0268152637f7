"""`library/hashing.py`: right digests, bounded memory, errors that name the file and the place."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest
from blake3 import blake3

from pumas.errors import Cancelled, DiskError, FileUnavailable
from pumas.library import hashing
from pumas.library.hashing import BLOCK, digest_file


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 9 * BLOCK + 17])
def test_both_digests_are_those_of_the_bytes(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    path = tmp_path / "model.bin"
    path.write_bytes(data)
    seen: list[int] = []
    digests = digest_file(path, seen.append)
    assert digests.sha256 == hashlib.sha256(data).hexdigest()
    assert digests.blake3 == blake3(data).hexdigest()
    assert digests.size == size == sum(seen)


def test_a_stop_ends_the_work_and_its_threads(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(8 * BLOCK))
    before = threading.active_count()

    def stop(_count: int) -> None:
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        digest_file(path, stop)
    assert threading.active_count() == before


def test_a_failing_digest_neither_hangs_nor_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(20 * BLOCK))

    class Failing:
        def update(self, _data: memoryview) -> None:
            raise MemoryError

    monkeypatch.setattr(hashlib, "sha256", Failing)
    with pytest.raises(MemoryError):
        digest_file(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: os.truncate(p, BLOCK), "became shorter"),
        (lambda p: p.open("ab").write(b"x"), "changed"),
        (lambda p: os.utime(p, ns=(1, 1)), "changed"),
    ],
)
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, change: object, words: str) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(4 * BLOCK))
    changes = [change]

    def at_first_block(_count: int) -> None:
        while changes:
            changes.pop()(path)  # type: ignore[operator]

    with pytest.raises(FileUnavailable, match=words):
        digest_file(path, at_first_block)


def test_a_read_error_names_file_and_offset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(3 * BLOCK))
    real = os.preadv

    def failing(fd: int, buffers: list[memoryview], offset: int) -> int:
        if offset >= 2 * BLOCK:
            raise OSError(5, "Input/output error")
        return real(fd, buffers, offset)

    monkeypatch.setattr(hashing.os, "preadv", failing)
    with pytest.raises(DiskError, match=rf"model\.bin failed at byte {2 * BLOCK}: Input/output error"):
        digest_file(path)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "folder.gguf").mkdir()
    for path in (tmp_path / "pipe.gguf", tmp_path / "folder.gguf", tmp_path / "missing", Path("/dev/zero")):
        with pytest.raises(FileUnavailable):
            digest_file(path)
