"""Lists of check sums, in the forms in which projects publish them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumas.versions.checksums import digest_in, list_for

GOOD, OTHER = "0a" * 32, "1B" * 32


@pytest.mark.parametrize(
    ("published", "name", "chosen"),
    [
        (["a.tgz", "SHA256SUMS", "a.tgz.sha256", "b.tgz.sha256"], "a.tgz", "a.tgz.sha256"),
        (["a.tgz", "SHA256SUMS", "a.tgz.sha256"], "c.tgz", "SHA256SUMS"),
        (["Checksums.txt", "A.tgz"], "A.tgz", "Checksums.txt"),
        (["a.tgz", "b.tgz.sha256", "a.tgz.asc", "sha512sum.txt"], "a.tgz", None),
    ],
)
def test_which_list(published: list[str], name: str, chosen: str | None) -> None:
    assert list_for(name, published) == chosen


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{GOOD}  a.tgz\n{OTHER}  b.tgz\n", GOOD),
        (f"{OTHER}  b.tgz\r\n{GOOD.upper()} *./a.tgz\r\n", GOOD),
        (f"SHA256 (./a.tgz) = {GOOD}\n", GOOD),
        (f"\ufeff\n{GOOD}\n\n", GOOD),
        (f"{GOOD}\n{OTHER}\n", None),
        (f"{GOOD}  aa.tgz\n{GOOD}a.tgz\n{GOOD}0  a.tgz\n", None),
        (f"{GOOD[1:]}  a.tgz\n", None),
        ("<html>", None),
        ("", None),
    ],
)
def test_what_a_list_says(text: str, found: str | None) -> None:
    assert digest_in(text.encode(), "a.tgz") == found


@pytest.mark.parametrize("options", [[], ["--tag"], ["--binary"]])
def test_what_sha256sum_writes(tmp_path: Path, options: list[str]) -> None:
    for name in ("a.tgz", "with space.zip"):
        (tmp_path / name).write_bytes(name.encode())
    said = subprocess.run(["sha256sum", *options, "a.tgz", "./with space.zip"], cwd=tmp_path, capture_output=True)
    plain = subprocess.run(["sha256sum", "with space.zip"], cwd=tmp_path, capture_output=True, text=True).stdout
    assert digest_in(said.stdout, "with space.zip") == plain[:64] != digest_in(said.stdout, "a.tgz")


@given(st.binary(max_size=300), st.text(min_size=1, max_size=20))
def test_nothing_makes_it_fail(text: bytes, name: str) -> None:
    assert digest_in(text, name) is None or len(text) >= 64
