from __future__ import annotations

from typing import Any

import pytest

from pumas.hub.drift import Drift, HeldModel, compare
from pumas.hub.model import HubFile, HubModel

OLD, NEW = "1" * 40, "2" * 40


def digest(letter: str) -> str:
    return letter * 64


def upstream(commit: str = NEW, **files: str) -> HubModel:
    """`a_gguf="a"`: the file a.gguf with the digest aaa…; an empty digest is a small file without one, `+` a larger."""
    listed = (
        HubFile(name.replace("_", "."), 6 if value == "+" else 5, "0" * 40, digest(value) if value.isalnum() else None)
        for name, value in files.items()
    )
    return HubModel("acme/Lumen", commit, tuple(listed), last_modified="2026-01-01T00:00:00.000000Z")


def held(revision: str = OLD, **files: str) -> HeldModel:
    entries = [{"name": name.replace("_", "."), "size": 5, "sha256": digest(value)} for name, value in files.items()]
    return HeldModel.of("llm/x/y", "acme/Lumen", {"revision": revision, "files": entries})


CASES: list[tuple[str, HeldModel, HubModel, Drift, tuple[str, ...], tuple[str, ...]]] = [
    ("same commit", held(a_gguf="a"), upstream(OLD, a_gguf="a"), Drift.CURRENT, (), ()),
    ("same commit, other bytes here", held(a_gguf="b"), upstream(OLD, a_gguf="a"), Drift.CURRENT, (), ()),
    ("only the card changed", held(a_gguf="a"), upstream(a_gguf="a", README_md=""), Drift.SAME_FILES, (), ()),
    ("a file changed", held(a_gguf="a"), upstream(a_gguf="b"), Drift.NEWER, ("a.gguf",), ()),
    ("one of two", held(a_gguf="a", b_gguf="b"), upstream(a_gguf="a", b_gguf="c"), Drift.NEWER, ("b.gguf",), ()),
    ("a file was renamed", held(a_gguf="a"), upstream(new_gguf="a"), Drift.SAME_FILES, (), ()),
    ("a file was removed", held(a_gguf="a"), upstream(b_gguf="b"), Drift.NEWER, (), ("a.gguf",)),
    ("a new file came", held(a_gguf="a"), upstream(a_gguf="a", b_gguf="b"), Drift.SAME_FILES, (), ()),
    ("no commit recorded, same bytes", held("", a_gguf="a"), upstream(a_gguf="a"), Drift.SAME_FILES, (), ()),
    ("no commit recorded, other bytes", held("main", a_gguf="a"), upstream(a_gguf="b"), Drift.NEWER, ("a.gguf",), ()),
    ("nothing to compare", held(""), upstream(a_gguf="a"), Drift.UNKNOWN, (), ()),
    ("no digest here, other commit", held(), upstream(a_gguf="a"), Drift.NEWER, (), ()),
    ("a small file has another size", held(a_gguf="a", c_json="c"), upstream(a_gguf="a", c_json="+"), Drift.NEWER,
     ("c.json",), ()),
    ("a small file of a model without a commit", held("", c_json="c"), upstream(c_json="+"), Drift.UNKNOWN, (), ()),
    ("small files prove nothing", held("", c_json="c"), upstream(c_json=""), Drift.UNKNOWN, (), ()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "ours", "theirs", "state", "changed", "removed"), CASES, ids=[case[0] for case in CASES]
)
def test_what_became_of_what_we_hold(
    what: str, ours: HeldModel, theirs: HubModel, state: Drift, changed: tuple[str, ...], removed: tuple[str, ...]
) -> None:
    report = compare(ours, theirs)
    assert (report.state, report.changed, report.removed) == (state, changed, removed)
    assert (report.upstream, report.upstream_date) == (theirs.commit, "2026-01-01T00:00:00.000000Z")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"hashes": {"sha256": "A" * 64}, "files": [{"name": "small", "size": 1}, {"name": "big.gguf", "size": 9}]},
         [("big.gguf", "a" * 64)]),
        ({"hashes": {"sha256": "a" * 64}, "primary_file": "p.gguf", "files": []}, [("p.gguf", "a" * 64)]),
        ({"hashes": {"sha256": ""}, "files": [{"name": "x.gguf"}]}, []),
        ({"hashes": None, "files": None}, []),
        ({"hashes": {"sha256": 5}, "files": [{"name": "x.gguf", "sha256": "no"}], "revision": 7}, []),
    ],
)  # fmt: skip
def test_older_metadata_has_one_digest_or_none(metadata: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    found = HeldModel.of("m", "a/b", metadata)
    assert [(file.name, file.sha256) for file in found.files] == expected
    assert found.revision == ""


def test_an_adopted_model_is_compared_by_what_its_store_says() -> None:
    entries = [{"name": "a.gguf", "size": 5, "claimed_sha256": digest("a")}]
    adopted = HeldModel.of("llm/x/y", "acme/Lumen", {"adoption": {"revision": OLD}, "files": entries})
    assert compare(adopted, upstream(OLD, a_gguf="a")).state is Drift.CURRENT
    assert compare(adopted, upstream(a_gguf="a", README_md="")).state is Drift.SAME_FILES
    assert compare(adopted, upstream(a_gguf="b")).changed == ("a.gguf",)
