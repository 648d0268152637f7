"""What an earlier run left is counted as it is on the disk, and looked at without changing it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pumas.downloads.part import MIB, PartFile
from pumas.downloads.staged import arrived
from pumas.downloads.wanted import WantedFile

SIZE = 3 * MIB + 5


def wanted(name: str, size: int = SIZE) -> WantedFile:
    return WantedFile(name, size, name[0] * 64, "")


A, B, TWIN = wanted("a.gguf"), wanted("b.gguf"), WantedFile("twin.gguf", SIZE, "b" * 64, "")


def leave(parts: Path, file: WantedFile, *blocks: int) -> None:
    part = PartFile(parts, file.expected, file.size, file.expected)
    for block in blocks:
        part.write(block, memoryview(bytes(part.span(block).size)))
    part.close()


def check(parts: Path, done: set[str], expected: int, *files: WantedFile) -> None:
    before = sorted(path.name for path in parts.rglob("*")) if parts.exists() else None
    assert arrived(files or (A, B), done, parts) == expected
    assert (sorted(path.name for path in parts.rglob("*")) if parts.exists() else None) == before


def test_nothing_is_there(tmp_path: Path) -> None:
    check(tmp_path, set(), 0)
    check(tmp_path / "gone", set(), 0)


def test_whole_files_and_blocks_count(tmp_path: Path) -> None:
    leave(tmp_path, B, 0, 3)
    check(tmp_path, set(), MIB + 5)
    check(tmp_path, {"a.gguf"}, SIZE + MIB + 5)
    check(tmp_path, {"a.gguf", "b.gguf"}, 2 * SIZE)


def test_what_several_files_share_counts_once(tmp_path: Path) -> None:
    leave(tmp_path, B, 1)
    check(tmp_path, set(), MIB, B, TWIN)


@pytest.mark.parametrize("damage", [b"", b"garbage" * 500])
def test_damaged_records_count_nothing(tmp_path: Path, damage: bytes) -> None:
    leave(tmp_path, A, 0, 1, 2)
    (tmp_path / f"{A.expected}.blocks").write_bytes(damage)
    check(tmp_path, set(), 0)


def test_odd_things_in_the_place_of_records_count_nothing(tmp_path: Path) -> None:
    (tmp_path / f"{A.expected}.blocks").mkdir()
    (tmp_path / f"{B.expected}.blocks").symlink_to("/dev/zero")
    check(tmp_path, set(), 0)
