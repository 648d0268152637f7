"""What counts as the same bytes, how sure that is, and what sharing them would free."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumas.adoption.duplicates import LIBRARY, Certainty, Piece, find

A, B = "a" * 64, "b" * 64


def piece(path: str, inode: int, *, size: int = 100, sha256: str = "", name: str = "", store: str = "/s") -> Piece:
    return Piece(store, "m", name or path.rpartition("/")[2], path, size, (1, inode), sha256, False)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([piece("/1.gguf", 1), piece("/2.gguf", 2)], []),
        ([piece("/1", 1, sha256=A), piece("/2", 2, sha256=A)], [("duplicate", 100)]),
        ([piece("/1", 1, sha256=A), piece("/2", 2, sha256=A), piece("/3", 3, sha256=A)], [("duplicate", 200)]),
        ([piece("/1", 1, sha256=A), piece("/2", 2, sha256=B)], []),
        ([piece("/1", 1, sha256=A, size=1), piece("/2", 2, sha256=A, size=2)], []),
        ([piece("/1", 1), piece("/2", 1)], [("shared", 0)]),
        ([piece("/1", 1), piece("/1", 1)], []),
        ([piece("/1", 1, sha256=A), piece("/2", 1)], [("shared", 0)]),
        ([piece("/1", 1, sha256=A), piece("/2", 1), piece("/3", 2, sha256=A)], [("duplicate", 100), ("shared", 0)]),
        ([piece("/a/x.gguf", 1), piece("/b/X.gguf", 2)], [("possible", 100)]),
        ([piece("/a/x.json", 1), piece("/b/x.json", 2)], []),
        ([piece("/a/x.gguf", 1, sha256=A), piece("/b/x.gguf", 2)], [("possible", 100)]),
        ([piece("/a/x.gguf", 1, sha256=A), piece("/b/x.gguf", 2, sha256=B)], []),
        ([piece("/a/blob", 1, name="x.gguf"), piece("/b/x.gguf", 2)], [("possible", 100)]),
        (
            [piece("/a/x.gguf", 1, sha256=A), piece("/b/x.gguf", 2, sha256=A), piece("/c/x.gguf", 3)],
            [("duplicate", 100), ("possible", 100)],
        ),
        ([piece("/a/x.gguf", 1, size=1), piece("/b/x.gguf", 2, size=2)], []),
        ([piece("/1", 1, size=0, sha256=A), piece("/2", 2, size=0, sha256=A)], []),
        ([piece("/1", 1, sha256=A, store=LIBRARY), piece("/1", 1, sha256=A)], []),
    ],
)
def test_certainty(pieces: list[Piece], expected: list[tuple[str, int]]) -> None:
    assert [(one.certainty.value, one.freed) for one in find(pieces).repeated] == expected


def test_the_sums_are_kept_apart() -> None:
    found = find(
        [
            *(piece(f"/dup{n}", n, sha256=A) for n in range(3)),
            *(piece(f"/{n}/maybe.gguf", 10 + n, size=7) for n in range(2)),
            *(piece(f"/shared{n}", 20, size=5) for n in range(2)),
        ]
    )
    assert (found.freed_bytes, found.possible_bytes, found.shared_bytes) == (200, 7, 5)


def test_our_own_copy_is_shown_first_and_the_largest_gain_too() -> None:
    found = find(
        [
            piece("/small1", 1, sha256=A, size=1),
            piece("/small2", 2, sha256=A, size=1),
            piece("/big1", 3, sha256=B),
            piece("/z", 4, sha256=B, store=LIBRARY),
        ]
    )
    assert [one.size for one in found.repeated] == [100, 1]
    assert [p.path for p in found.repeated[0].pieces] == ["/z", "/big1"]


@given(
    st.lists(
        st.builds(
            lambda path, inode, sha, size: piece(f"/{path}/x.gguf", inode, sha256=sha, size=size),
            st.integers(0, 9), st.integers(0, 4), st.sampled_from(["", A, B]), st.integers(1, 2),
        ),
        max_size=12,
    )
)  # fmt: skip
def test_nothing_is_freed_twice(pieces: list[Piece]) -> None:
    found = find(pieces)
    different = {p.bytes_id: p.size for p in pieces}
    assert found.freed_bytes <= 2 * sum(different.values())
    for one in found.repeated:
        inodes = {p.bytes_id for p in one.pieces}
        assert len(inodes) == 1 if one.certainty is Certainty.SHARED else len(inodes) > 1
        most = one.size * (len(inodes) - 1)
        assert one.freed <= most if one.certainty is Certainty.POSSIBLE else one.freed == most
