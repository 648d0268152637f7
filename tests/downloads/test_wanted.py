"""What a hub may say about one file, and which digest decides."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumas.downloads.wanted import LARGEST_FILE, WantedFile, git_blob_id
from pumas.errors import InvalidInput, UnsafePath

SHA, GIT = "a" * 64, "b" * 40


def check(error: type[Exception] | None, **changes: Any) -> None:
    facts: dict[str, Any] = {"path": "weights.gguf", "size": 5, "sha256": SHA, "git_oid": GIT, **changes}
    if error is None:
        WantedFile(**facts)
        return
    with pytest.raises(error):
        WantedFile(**facts)


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "../a", "a/../b", "/abs", "a//b", "C:\\a", "a\\b", "con", "sub/NUL.txt", "a\0b", "a\nb", "a.", "a ",
     "x" * 256, "\udcff", "a:b", "/".join(["d"] * 600)],
)  # fmt: skip
def test_a_path_that_cannot_be_one(path: str) -> None:
    check(UnsafePath, path=path)


@pytest.mark.parametrize("path", ["a", "a/b/c.bin", "Ä/ö.gguf", ".gitattributes", "~", "-rf", "$HOME", "%2e%2e/x"])
def test_a_path_that_is_only_odd(path: str) -> None:
    check(None, path=path)


@pytest.mark.parametrize("size", [-1, LARGEST_FILE + 1, 10**15, 10**30])
def test_a_size_that_cannot_be_one(size: int) -> None:
    check(InvalidInput, size=size)


@pytest.mark.parametrize("sha256", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "../" + "a" * 61, "a" * 64 + "\n"])
def test_a_digest_that_is_none(sha256: str) -> None:
    check(InvalidInput, sha256=sha256)


@pytest.mark.parametrize("oid", ["", "b" * 39, "b" * 41, "B" * 40, "/" * 40, "b" * 40 + "\n"])
def test_without_any_digest_nothing_could_be_verified(oid: str) -> None:
    check(InvalidInput, sha256=None, git_oid=oid)
    check(None, sha256=SHA, git_oid=oid)  # then git's name is of no use, and is not looked at


@pytest.mark.parametrize(
    ("data", "oid"),
    [
        (b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),  # as `git hash-object` says
        (b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"),
    ],
)
def test_git_names(data: bytes, oid: str) -> None:
    assert git_blob_id(len(data), [data[:2], memoryview(data)[2:]]) == oid


def test_only_the_digest_that_the_hub_gives_decides() -> None:
    data = b"some bytes"
    large = WantedFile("a", len(data), hashlib.sha256(data).hexdigest(), GIT)
    assert large.expected == large.sha256
    assert large.digest("said", iter(())) == "said", "the bytes are not read again"
    small = WantedFile("a", len(data), None, git_blob_id(len(data), [data]))
    assert small.digest("whatever", [data]) == small.expected
    assert small.digest("whatever", [b"other byte"]) != small.expected


@given(
    st.sampled_from(["a", "b/c.gguf"]),
    st.integers(0, LARGEST_FILE),
    st.none() | st.text("0123456789abcdef", min_size=64, max_size=64),
    st.text("0123456789abcdef", min_size=40, max_size=40),
)
def test_it_survives_the_checkpoint(path: str, size: int, sha256: str | None, oid: str) -> None:
    wanted = WantedFile(path, size, sha256, oid)
    assert WantedFile.from_json(json.loads(json.dumps(wanted.to_json()))) == wanted


def test_a_checkpoint_that_somebody_changed_is_checked_as_the_hub_is() -> None:
    good = WantedFile("a", 1, SHA, GIT).to_json()
    for change in ({"path": "../a"}, {"size": -1}, {"sha256": "x"}):
        with pytest.raises(InvalidInput):
            WantedFile.from_json({**good, **change})
