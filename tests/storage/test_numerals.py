"""Numbers in files that are rewritten: unchanged ones keep every digit, changed ones are the new ones."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumas.storage import json_file

HUGE = 123456789012345678901234567890
numbers = st.integers(-(10**60), 10**60) | st.decimals(-(10**20), 10**20, places=25).map(str)
documents = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.recursive(
        numbers | st.booleans() | st.none() | st.just("12345678901234567890"),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abcé"), inner),
    ),
)


def written(value: Any) -> str:
    """JSON in which decimal texts stand as numbers."""
    if isinstance(value, dict):
        fields = ",".join(f"{json.dumps(key)}: {written(item)}" for key, item in value.items())
        return f"{{{fields}}}"
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    return value if isinstance(value, str) and "." in value else json.dumps(value)


def exactly(data: bytes) -> Any:
    return json.loads(data, parse_float=Decimal)


@given(documents, st.integers())
def test_every_digit_stays(tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any], new: int) -> None:
    path = tmp_path_factory.mktemp("state") / "state.json"
    path.write_text(written(document))
    before = exactly(path.read_bytes())
    value = json_file.load(path).value
    assert value is not None
    json_file.save(path, {**value, "new": new % 2**63})
    assert exactly(path.read_bytes()) == {**before, "new": new % 2**63}


def test_what_was_changed_is_the_new_value(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(f'{{"a": {HUGE}, "b": [{HUGE}, {HUGE}], "c": {{"d": {HUGE}}}, "e": {HUGE}}}')
    json_file.save(path, {"a": 1, "b": [2, 3, 4], "c": [1.5], "e": str(HUGE)})
    assert exactly(path.read_bytes()) == {"a": 1, "b": [2, 3, 4], "c": [Decimal("1.5")], "e": str(HUGE)}


def test_the_form_on_disk_is_the_usual_one(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(f'{{"a": {{"b": [{HUGE}]}}}}')
    json_file.save(path, json_file.parse_object(path))
    assert path.read_text() == f'{{\n  "a": {{\n    "b": [\n      {HUGE}\n    ]\n  }}\n}}'


def test_the_backup_of_a_damaged_file_knows_them_too(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    json_file.backup_path(path).write_text(f'{{"a": {HUGE}}}')
    path.write_text("{")
    json_file.update(path, json_file.StateLock(tmp_path / "lock"), lambda value: value.update(b=1))
    assert exactly(path.read_bytes()) == {"a": HUGE, "b": 1}
