"""The journal: what was saved is there, in order, whatever state it is in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pumas.adoption import store
from pumas.adoption.store import Adoption, AdoptionState, Journal
from pumas.storage.database import Database, Schema


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    database = Database(tmp_path / "adoptions.db", Schema.load("adoptions"), disposable=False)
    yield Journal(database)
    database.close_sync()


def row(number: int, state: AdoptionState = AdoptionState.ADOPTED) -> Adoption:
    return Adoption(
        id=f"adoption-{number}",
        state=state,
        model_id=f"llm/a/m{number}",
        mode="hardlink",
        kind="ollama",
        store="/s",
        name=f"m{number}:latest",
        revision=None,
        size=number,
        job_id="adopt-1",
        item=number,
        result_json='{"success": true}',
        trash_id=None,
        created_at=f"2030-01-01T00:00:{number:02}.000000Z",
        updated_at="",
    )


def test_nothing_is_made_before_something_is_saved(journal: Journal) -> None:
    assert not journal.exists
    journal.save(row(1))
    assert journal.exists


def test_a_row_is_read_as_it_was_saved(journal: Journal) -> None:
    saved = journal.save(row(1))
    assert saved.updated_at
    assert journal.get("adoption-1") == saved == journal.of_model("llm/a/m1") == journal.of_item("adopt-1", 1)
    assert saved.result == {"success": True}
    assert journal.get("adoption-2") is journal.of_model("llm/a/m2") is journal.of_item("adopt-1", 2) is None


@pytest.mark.parametrize(
    ("state", "open_", "in_force", "shown", "shown_with_undone"),
    [
        (AdoptionState.BEGUN, True, False, False, False),
        (AdoptionState.ADOPTED, False, True, True, True),
        (AdoptionState.UNDOING, True, False, True, True),
        (AdoptionState.UNDONE, False, False, False, True),
    ],
)
def test_what_each_state_means(
    journal: Journal, state: AdoptionState, open_: bool, in_force: bool, shown: bool, shown_with_undone: bool
) -> None:
    journal.save(row(1, state))
    assert bool(journal.unfinished()) is open_
    assert (journal.of_model("llm/a/m1") is not None) is in_force
    assert journal.list(undone=False, limit=9, offset=0)[1] == shown
    assert journal.list(undone=True, limit=9, offset=0)[1] == shown_with_undone


def test_pages_newest_first(journal: Journal) -> None:
    for number in range(5):
        journal.save(row(number))
    page, total = journal.list(undone=False, limit=2, offset=1)
    assert ([one.id for one in page], total) == (["adoption-3", "adoption-2"], 5)


def test_a_later_state_replaces_and_a_forgotten_row_is_gone(journal: Journal) -> None:
    saved = journal.save(row(1))
    journal.save(replace(saved, state=AdoptionState.UNDONE, trash_id="t"))
    assert [(one.state, one.trash_id) for one in journal.list(undone=True, limit=9, offset=0)[0]] == [
        (AdoptionState.UNDONE, "t")
    ]
    journal.forget("adoption-1")
    assert journal.list(undone=True, limit=9, offset=0) == ([], 0)


def test_undone_rows_are_pruned_and_others_never(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "KEEP_UNDONE", 2)
    for number in range(10):
        journal.save(row(number, AdoptionState.UNDONE if number % 2 else AdoptionState.ADOPTED))
    rows, _total = journal.list(undone=True, limit=99, offset=0)
    assert [int(one.id[9:]) for one in rows] == [9, 8, 7, 6, 4, 2, 0]
