from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pumas.errors import FileUnavailable, UnsafePath
from pumas.hub.lookup import CANDIDATES, Candidate, LocalFile, described, match, ranked, read_local, to_look_into
from pumas.hub.model import HubFile, HubListing, HubModel
from pumas.library.hashing import Stamp

NAME = "Lumen-7B-Q4_K_M.gguf"
OURS, THEIRS = "a" * 64, "b" * 64


def candidate(repo_id: str, *files: HubFile, likeness: float = 0.8, listed: tuple[str, ...] = ()) -> Candidate:
    listing = HubListing(
        repo_id, "c" * 40, listed or tuple(file.path for file in files), tags=("gguf",), base_model=("x/y",)
    )
    return Candidate(listing, likeness, HubModel(repo_id, "c" * 40, files) if files else None)


def large(path: str, size: int, sha256: str = THEIRS) -> HubFile:
    return HubFile(path, size, "0" * 40, sha256)


LOCAL = LocalFile(Path("/x") / NAME, Stamp(1, 2, 100, 3), "f" * 64)


def test_equal_digests_prove_it_whatever_the_names() -> None:
    candidates = [candidate("q/Lumen-7B-GGUF", large(NAME, 100)), candidate("z/Odd", large("odd.gguf", 100, OURS))]
    found = match(NAME, candidates, LOCAL, OURS)
    assert found is not None
    assert (found.method, found.confidence, found.matched) == ("hash", 1.0, "odd.gguf")
    assert found.candidate.listing.repo_id == "z/Odd"
    assert (found.expected, found.requires_confirmation, found.pending) == (OURS, False, False)


def test_an_equal_digest_of_another_size_proves_nothing() -> None:
    found = match(NAME, [candidate("q/x", large(NAME, 99, OURS))], LOCAL, OURS)
    assert found is not None
    assert found.method != "hash"


def test_the_same_name_with_other_bytes_is_said_to_be_another() -> None:
    for local_digest, file in ((OURS, large(NAME, 100)), ("", large(NAME, 99))):
        found = match(NAME, [candidate("q/x", file, likeness=0.95)], LOCAL, local_digest)
        assert found is not None
        assert found.hash_mismatch
        assert found.requires_confirmation
        assert found.method == "filename_fuzzy"
        assert found.confidence <= 0.5
        assert not found.pending


def test_as_long_as_the_file_is_hashed_the_name_counts() -> None:
    found = match(NAME, [candidate("q/x", large(NAME, 100), likeness=0.95)], LOCAL, "", job_id="hash_file-1")
    assert found is not None
    assert (found.method, found.confidence, found.pending, found.job_id) == (
        "filename_exact",
        0.95,
        True,
        "hash_file-1",
    )
    assert not found.hash_mismatch
    assert found.expected == THEIRS


@pytest.mark.parametrize(
    ("likeness", "method", "confirm"),
    [
        (0.95, "filename_exact", False),
        (0.9, "filename_fuzzy", False),
        (0.6, "filename_fuzzy", False),
        (0.59, "filename_fuzzy", True),
    ],
)
def test_by_name_alone(likeness: float, method: str, confirm: bool) -> None:
    found = match(NAME, [candidate("q/x", listed=("other.gguf",), likeness=likeness)], None, "")
    assert found is not None
    assert (found.method, found.confidence, found.requires_confirmation) == (method, likeness, confirm)
    assert not found.pending
    assert (found.matched, found.expected) == ("", "")


def test_nobody_is_no_match() -> None:
    assert match(NAME, [], LOCAL, OURS) is None


def test_candidates_are_ranked_by_likeness_then_downloads() -> None:
    listings = [
        HubListing("acme/Lumen-7B", "c" * 40, ("model.safetensors",), downloads=10**6),
        HubListing("q/Lumen-7B-GGUF", "c" * 40, (NAME,), downloads=1),
        HubListing("p/Lumen-7B-GGUF", "c" * 40, (NAME,), downloads=9),
        HubListing("z/nothing-alike-at-all", "c" * 40, ("x.gguf",)),
    ]
    assert [one.listing.repo_id for one in ranked(NAME, listings)] == [
        "p/Lumen-7B-GGUF",
        "q/Lumen-7B-GGUF",
        "acme/Lumen-7B",
    ]


def test_only_what_can_hold_the_file_is_looked_into() -> None:
    fitting = [candidate(f"q/{number}", listed=("a.gguf",)) for number in range(9)]
    others = [candidate("acme/Lumen-7B", listed=("model.safetensors",)), candidate("x/y", listed=())]
    assert to_look_into(NAME, [*others, *fitting]) == fitting[:CANDIDATES]


def test_what_clients_read() -> None:
    found = match(NAME, [candidate("q/Lumen-7B-GGUF", large(NAME, 100, OURS))], LOCAL, OURS)
    assert found is not None
    said = described(found, NAME, LOCAL)
    assert said["repo_id"] == "q/Lumen-7B-GGUF"
    assert (said["model_type"], said["precision"], said["variant"]) == ("llm", "q4_k_m", "standard")
    assert said["base_model"] == "x/y"
    assert said["download_url"] == "https://huggingface.co/q/Lumen-7B-GGUF"
    assert said["fast_hash"] == LOCAL.fast_hash
    by_name = match("b.safetensors", [candidate("q/sdxl-base", listed=("b.safetensors",))], None, "")
    assert by_name is not None
    assert described(by_name, "b.safetensors", None)["fast_hash"] == ""


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 8 << 20, (8 << 20) + 1, (16 << 20) + 5, 20 << 20])
def test_the_fast_hash_is_of_size_start_and_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "m.gguf"
    data = os.urandom(min(size, 1000)).ljust(size, b"\x07")
    path.write_bytes(data)
    piece = 8 << 20
    expected = hashlib.sha256(
        size.to_bytes(8) + data[:piece] + (data[max(piece, size - piece) :] if size > piece else b"")
    )
    local = read_local(str(path))
    assert local.fast_hash == expected.hexdigest()
    assert local.stamp.size == size


@pytest.mark.parametrize("bad", ["relative.gguf", "", "\0"])
def test_a_path_must_be_absolute(bad: str) -> None:
    with pytest.raises(UnsafePath):
        read_local(bad)


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "none", tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(FileUnavailable):
            read_local(str(path))
