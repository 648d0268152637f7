"""Partial files: what was recorded is given back, byte for byte, and nothing that was not; whatever was cut off."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import resource
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pumas.downloads import part as module
from pumas.downloads.part import MIB, PartFile, Span, block_size_for
from pumas.errors import DiskError, NotEnoughSpace

DIGEST = "a" * 64
BLOCK = 64


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    """The rules are the same for blocks of 64 bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "block_size_for", lambda _size: BLOCK)
        yield


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def block_of(data: bytes, block: int) -> memoryview:
    return memoryview(data)[block * BLOCK : (block + 1) * BLOCK]


def check(part: PartFile, data: bytes, blocks: set[int]) -> None:
    """Exactly these blocks are there, with these bytes, by every way of asking."""
    assert {block for block in range(part.count) if part.is_whole(block)} == blocks
    assert part.arrived() == sum(len(block_of(data, block)) for block in blocks)
    missing = {block for first, stop in part.missing() for block in range(first, stop)}
    assert missing == set(range(part.count)) - blocks
    assert part.complete == (not missing)
    for block in blocks:
        view = memoryview(bytearray(part.span(block).size))
        part.read(block, view)
        assert view == block_of(data, block)
        assert part.matches(block, view)
    assert part.path.stat().st_size == len(data)


def test_blocks_are_given_back_after_opening_again(tmp_path: Path) -> None:
    data = content(5 * BLOCK + 7)
    part = PartFile(tmp_path, "x", len(data), DIGEST)
    check(part, data, set())
    for block in (4, 0, 5, 2):
        part.write(block, block_of(data, block))
    part.name_content('"etag"')
    check(part, data, {0, 2, 4, 5})
    assert list(part.missing()) == [(1, 2), (3, 4)]
    assert list(part.missing(start=2)) == [(3, 4)]
    part.close()
    part = PartFile(tmp_path, "x", len(data), DIGEST)
    assert part.etag == '"etag"'
    check(part, data, {0, 2, 4, 5})
    part.forget(4)
    check(part, data, {0, 2, 5})
    part.forget_all()
    assert part.etag == ""
    check(part, data, set())
    part.close()


@pytest.mark.parametrize(("name", "size", "digest"), [("x", 200, "b" * 64), ("x", 201, DIGEST), ("x", 136, DIGEST)])
def test_the_records_of_another_content_are_not_believed(tmp_path: Path, name: str, size: int, digest: str) -> None:
    data = content(200)
    part = PartFile(tmp_path, "x", len(data), DIGEST)
    for block in range(part.count):
        part.write(block, block_of(data, block))
    part.close()
    part = PartFile(tmp_path, name, size, digest)
    assert part.arrived() == 0 and not part.complete
    part.close()


@pytest.mark.parametrize("refused", ["nothing", "opening", "writing", "half"])
def test_writes_past_the_page_cache_where_that_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    monkeypatch.setattr(module, "block_size_for", lambda _size: 4096)
    data = content(3 * 4096 + 5)
    part = PartFile(tmp_path, "x", len(data), DIGEST)
    past = [0]
    real_open, real_write = os.open, os.pwrite

    def opened(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT and refused == "opening":
            raise OSError(errno.EINVAL, "no such thing here")
        return real_open(path, flags, mode)

    def written(fd: int, view: memoryview, at: int) -> int:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
            if refused == "writing":
                raise OSError(errno.EINVAL, "larger units here")
            past[0] += 1
            view = view[: len(view) // 2] if refused == "half" else view
        return real_write(fd, view, at)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "pwrite", written)
    for block in range(part.count):
        buffer = part.buffer()
        view = memoryview(buffer)[: part.span(block).size]
        view[:] = data[part.span(block).start : part.span(block).stop]
        part.write(block, view, direct=True)
    part.close()
    assert past == [3 if refused in ("nothing", "half") else 0]
    part = PartFile(tmp_path, "x", len(data), DIGEST)
    assert part.complete and not part.damaged(lambda: None)
    assert part.path.read_bytes() == data
    part.close()


def test_many_threads_write(tmp_path: Path) -> None:
    data = content(400 * BLOCK + 1)
    part = PartFile(tmp_path, "x", len(data), DIGEST)

    def work(first: int) -> None:
        for block in range(first, part.count, 8):
            part.write(block, block_of(data, block))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(part, data, set(range(401)))
    part.close()
    part = PartFile(tmp_path, "x", len(data), DIGEST)
    check(part, data, set(range(401)))
    part.close()
    assert part.path.read_bytes() == data


def test_damage_is_found_in_the_block_where_it_is(tmp_path: Path) -> None:
    data = content(4 * BLOCK)
    part = PartFile(tmp_path, "x", len(data), DIGEST)
    for block in (0, 1, 3):
        part.write(block, block_of(data, block))
    with part.path.open("r+b") as file:
        file.seek(BLOCK + 5)
        file.write(bytes([data[BLOCK + 5] ^ 1]))
    assert part.damaged(lambda: None) == [1, 2], "the third was never written"
    part.close()


def test_a_file_that_becomes_shorter_is_an_error_and_not_zeros(tmp_path: Path) -> None:
    data = content(4 * BLOCK)
    part = PartFile(tmp_path, "x", len(data), DIGEST)
    part.write(3, block_of(data, 3))
    os.truncate(part.path, 3 * BLOCK + 1)
    with pytest.raises(DiskError):
        part.read(3, memoryview(bytearray(BLOCK)))
    part.close()


@pytest.mark.parametrize("name", ["x.part", "x.blocks"])
def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path, name: str) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes(b"precious")
    (tmp_path / name).symlink_to(target)
    with pytest.raises(DiskError):
        PartFile(tmp_path, "x", 100, DIGEST)
    assert target.read_bytes() == b"precious"


def test_no_file_descriptor_is_left_open_when_opening_fails(tmp_path: Path) -> None:
    (tmp_path / "x.blocks").symlink_to(tmp_path / "elsewhere")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(DiskError):
            PartFile(tmp_path, "x", 100, DIGEST)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_disk_that_cannot_hold_so_large_a_file_is_not_a_full_one(tmp_path: Path) -> None:
    """Room would never come, so nobody should wait for it (EFBIG, as FAT gives it from 4 GiB on)."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, limits[1]))
    try:
        with pytest.raises(DiskError) as raised:
            PartFile(tmp_path, "x", MIB + 1, DIGEST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not isinstance(raised.value, NotEnoughSpace)


@pytest.mark.parametrize("size", [1, MIB, MIB + 1, 1 << 30, 1 << 40, 1 << 47])
def test_blocks_are_small_and_their_records_too(size: int) -> None:
    block = block_size_for(size)
    assert MIB <= block <= 2 * MIB
    assert -(-size // block) * 8 <= 1 << 30


def test_a_span_is_half_open() -> None:
    assert Span(10, 25).size == 15


class Interleaved(RuleBasedStateMachine):
    """Any order of writing, opening again, and losing the end of either file, as power cuts and other programs do it.

    The model: which blocks were written whole, with which content. A block may get lost by damage, but what is given
    back is what was written, unless its bytes were overwritten behind our back: then its checksum says so.
    """

    @initialize(size=st.integers(1, 12 * BLOCK))
    def begin(self, size: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.size = size
        self.written: dict[int, bytes] = {}
        self.etag = ""
        self.part = self.opened()

    def opened(self) -> PartFile:
        return PartFile(Path(self.folder.name), "x", self.size, DIGEST)

    @rule(block=st.integers(0, 11), seed=st.integers(0, 3))
    def write(self, block: int, seed: int) -> None:
        block %= self.part.count
        data = content(self.part.span(block).size, seed)
        self.part.write(block, memoryview(data))
        self.written[block] = data

    @rule(block=st.integers(0, 11))
    def forget(self, block: int) -> None:
        self.part.forget(block % self.part.count)
        self.written.pop(block % self.part.count, None)

    @rule(etag=st.sampled_from(['"a"', 'W/"b"', "", "x" * 513, "ä" * 257]))
    def name(self, etag: str) -> None:
        self.part.name_content(etag)
        self.etag = etag if len(etag.encode()) <= 512 else ""

    @rule()
    def begin_anew(self) -> None:
        self.part.forget_all()
        self.written, self.etag = {}, ""

    @rule()
    def open_again(self) -> None:
        self.part.close()
        self.part = self.opened()

    @rule()
    def die_and_open_again(self) -> None:
        """A killed process closes nothing."""
        old, self.part = self.part, self.opened()
        old.close()

    @rule(left=st.integers(0, 12 * BLOCK))
    def lose_the_end_of_the_bytes(self, left: int) -> None:
        left = min(left, self.size)
        self.part.close()
        os.truncate(self.part.path, left)
        self.part = self.opened()
        self.written = {b: data for b, data in self.written.items() if self.part.span(b).stop <= left}

    @rule(left=st.integers(0, 700))
    def lose_the_end_of_the_records(self, left: int) -> None:
        self.part.close()
        records = self.part.path.with_suffix(".blocks")
        before = records.stat().st_size
        os.truncate(records, min(left, before))
        self.part = self.opened()
        kept = {block for block in range(self.part.count) if self.part.is_whole(block)}
        assert kept <= self.written.keys()
        # A record takes eight bytes: no more blocks get lost than records did, unless the head is gone.
        lost = -(-(before - min(left, before)) // 8)
        assert len(self.written) - len(kept) <= lost or not kept
        self.written = {block: data for block, data in self.written.items() if block in kept}
        self.etag = self.part.etag

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def overwritten_by_another(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from(sorted(self.written)))
        with self.part.path.open("r+b") as file:
            file.seek(self.part.span(block).start)
            file.write(bytes([self.written[block][0] ^ 0xFF]))
        assert block in self.part.damaged(lambda: None)
        self.forget(block)

    @invariant()
    def what_was_written_is_there(self) -> None:
        if not hasattr(self, "part"):
            return
        assert {block for block in range(self.part.count) if self.part.is_whole(block)} == self.written.keys()
        assert self.part.arrived() == sum(map(len, self.written.values()))
        assert set(self.part.damaged(lambda: None)) == set(range(self.part.count)) - self.written.keys()
        for block, expected in self.written.items():
            view = memoryview(bytearray(len(expected)))
            self.part.read(block, view)
            assert view == expected
        assert self.part.etag == self.etag
        assert self.part.path.stat().st_size == self.size

    def teardown(self) -> None:
        if hasattr(self, "part"):
            self.part.close()
            self.folder.cleanup()


TestInterleaved = Interleaved.TestCase
TestInterleaved.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
