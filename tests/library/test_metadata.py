"""`library/metadata.py`: other people's keys stay, damaged files stay, ids stay inside."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from library.model_disk import DiskIndex, make_model, tree, write
from pumas.errors import CorruptState, InvalidInput, ModelNotFound, PumasError, UnsafePath
from pumas.library.metadata import ModelMetadata
from pumas.storage.json_file import StateLock

ID = "llm/llama/one"


class Setup:
    def __init__(self, root: Path) -> None:
        self.library = root / "models"
        self.folder = make_model(self.library, ID)
        self.index = DiskIndex(self.library)
        self.models = ModelMetadata(self.library, StateLock(root / "state.lock"), self.index)

    def stored(self, name: str = "metadata.json") -> Any:
        return json.loads((self.folder / name).read_bytes())


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def test_manual_protects_and_keeps_everything_else(setup: Setup) -> None:
    before = setup.stored()
    setup.models.mark_manual(ID)
    after = setup.stored()
    assert after.pop("match_source") == "manual"
    assert after.pop("pending_online_lookup") is False
    assert after.pop("updated_date").endswith("Z")
    assert after == before
    assert setup.stored("metadata.json.bak") == before
    assert setup.index.refreshed == [ID]


@pytest.mark.parametrize(
    ("model_id", "error"),
    [
        ("llm/llama/none", ModelNotFound),
        ("llm/llama", ModelNotFound),
        ("llm", ModelNotFound),
        ("", UnsafePath),
        ("..", UnsafePath),
        ("../models/llm/llama/one", UnsafePath),
        ("/etc", UnsafePath),
        ("llm//one", UnsafePath),
        ("llm\\llama\\one", UnsafePath),
        ("llm/llama/one/", UnsafePath),
        ("llm/llama/out", UnsafePath),
        ("llm/llama/one\0", UnsafePath),
        (".trash/x/model", ModelNotFound),
        (".staging/x/model", ModelNotFound),
        ("llm/.hidden/one", ModelNotFound),
    ],
)
def test_ids_that_name_no_model(setup: Setup, tmp_path: Path, model_id: str, error: type[PumasError]) -> None:
    for hidden in (".trash/x/model", ".staging/x/model", "llm/.hidden/one"):
        make_model(setup.library, hidden)
    outside = make_model(tmp_path / "outside", "a/b/c")
    (setup.library / "llm/llama/out").symlink_to(outside)
    before = tree(tmp_path)
    for call in (
        lambda: setup.models.load(model_id),
        lambda: setup.models.mark_manual(model_id),
        lambda: setup.models.overrides(model_id),
        lambda: setup.models.update_overrides(model_id, {}),
    ):
        with pytest.raises(error):
            call()
    assert tree(tmp_path) == before


DAMAGE = [b"", b"{", b"\0" * 300, b"[]", b"null", b"123", b'"text"', b"\xff\xfe{}", b'{"a":1', b"nan"]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["metadata.json", "overrides.json"])
def test_damaged_files_are_an_error_and_stay_as_they_are(setup: Setup, name: str, damage: bytes) -> None:
    write(setup.folder / name, damage)
    before = tree(setup.library)
    with pytest.raises(CorruptState):
        if name == "metadata.json":
            setup.models.mark_manual(ID)
        else:
            setup.models.update_overrides(ID, {"version_ranges": {}})
    assert tree(setup.library) == before
    assert setup.index.refreshed == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_good_backup_is_used_and_not_overwritten_by_the_damage(setup: Setup, damage: bytes) -> None:
    setup.models.mark_manual(ID)
    good = (setup.folder / "metadata.json").read_bytes()
    write(setup.folder / "metadata.json.bak", good)
    write(setup.folder / "metadata.json", damage)
    assert setup.models.load(ID)["match_source"] == "manual"
    setup.models.update(ID, lambda m: m.update(notes="again"))
    assert setup.stored()["notes"] == "again" and setup.stored()["x_unknown"] == {"kept": [1, 2, 3]}
    assert (setup.folder / "metadata.json.bak").read_bytes() == good


@pytest.mark.parametrize("odd", ["folder", "fifo", "link_loop"])
def test_something_that_is_no_file_in_the_place_of_overrides(setup: Setup, odd: str) -> None:
    import os

    path = setup.folder / "overrides.json"
    path.unlink()
    {"folder": path.mkdir, "fifo": lambda: os.mkfifo(path), "link_loop": lambda: path.symlink_to(path)}[odd]()
    with pytest.raises(CorruptState):
        setup.models.overrides(ID)
    with pytest.raises(CorruptState):
        setup.models.update_overrides(ID, {})


@pytest.mark.parametrize(
    ("stored", "given_", "expected"),
    [
        ({}, {"version_ranges": {"comfyui": ">=0.4,<0.9"}}, {"version_ranges": {"comfyui": ">=0.4,<0.9"}}),
        ({"version_ranges": {"a": ">1"}, "x": 1}, {"version_ranges": {"b": ""}}, {"x": 1, "version_ranges": {"b": ""}}),
        ({"version_ranges": {"a": ">1"}, "x": 1}, {}, {"x": 1}),
        ({"x": 1}, {"x": 2, "y": None}, {"x": 2, "y": None}),
        ({}, {"version_ranges": {"a": None}}, {"version_ranges": {"a": None}}),
        ({}, {"version_ranges": None}, {"version_ranges": None}),
    ],
)
def test_overrides_are_replaced_but_unknown_keys_stay(
    setup: Setup, stored: dict[str, Any], given_: dict[str, Any], expected: dict[str, Any]
) -> None:
    write(setup.folder / "overrides.json", json.dumps(stored).encode())
    setup.models.update_overrides(ID, given_)
    assert setup.models.overrides(ID) == expected


@pytest.mark.parametrize("ranges", [[], "x", 1, {"a": 1}, {"a": "*"}, {"a": "newest"}, {"a": ">=one"}, {"a": ["=1"]}])
def test_version_ranges_that_mean_nothing_are_refused(setup: Setup, ranges: object) -> None:
    before = tree(setup.library)
    with pytest.raises(InvalidInput, match="version_ranges"):
        setup.models.update_overrides(ID, {"version_ranges": ranges})
    assert tree(setup.library) == before


def test_missing_overrides_are_none(setup: Setup) -> None:
    (setup.folder / "overrides.json").unlink()
    assert setup.models.overrides(ID) == {}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(extra=st.dictionaries(st.text(string.printable, min_size=1).map("x_".__add__), json_values, max_size=6))
def test_any_keys_survive_a_round_trip(setup: Setup, extra: dict[str, Any]) -> None:
    write(setup.folder / "metadata.json", json.dumps({"official_name": "One", **extra}).encode())
    setup.models.mark_manual(ID)
    setup.models.update(ID, lambda m: m.update(notes="n"))
    after = setup.stored()
    assert {k: after[k] for k in extra} == extra and after["official_name"] == "One"


def test_what_a_killed_writer_left_is_removed_and_what_others_left_is_not(setup: Setup) -> None:
    dead = write(setup.folder / "metadata.json.999999999.0123abcd.pumas-tmp", b"{")
    other = write(setup.folder / "metadata.json.12.345.tmp", b"{")
    setup.models.mark_manual(ID)
    assert not dead.exists() and other.exists()


def test_an_edit_changes_what_is_given_and_protects_it(setup: Setup) -> None:
    before = setup.stored()
    setup.models.edit(ID, {"tags": ["quiet"], "notes": "mine"})
    after = setup.stored()
    assert (after["tags"], after["notes"], after["match_source"]) == (["quiet"], "mine", "manual")
    changed = {"tags", "notes", "match_source", "pending_online_lookup", "updated_date"}
    assert {k: v for k, v in after.items() if k not in changed} == {k: v for k, v in before.items() if k not in changed}
    assert setup.index.refreshed == [ID]
