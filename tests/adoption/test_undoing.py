"""Undo: our names go, the owner's bytes stay, and nothing that exists only here is ever removed for good."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from library.model_disk import make_model
from pumas.adoption.store import AdoptionState
from pumas.errors import AdoptionNotFound, CorruptState, LastCopy, ModelNotFound, PumasError, UnsafePath
from pumas.library import copying

from .adopting_setup import Setup, snapshot
from .stores import gguf, hf_file, sha256, write

MODES = ["hardlink", "reflink", "reference"]


@pytest.fixture(autouse=True)
def cloning(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's file systems do not clone, so the ioctl is replaced by what it does."""

    def clone(source: int, target: int) -> bool:
        os.write(target, os.pread(source, 1 << 24, 0))
        return True

    monkeypatch.setattr(copying, "_clone", clone)


def adopted(root: Path, mode: str) -> tuple[Setup, str, Path]:
    """The setup, the model's id, and the owner's file."""
    setup = Setup(root)
    blob = hf_file(setup.cache, "acme/Rocket", "rocket.gguf", gguf(1))
    return setup, setup.adopted(mode=mode), blob


@pytest.mark.parametrize("mode", MODES)
def test_everything_is_as_it_was(tmp_path: Path, mode: str) -> None:
    setup, model_id, blob = adopted(tmp_path, mode)
    before = snapshot(setup.home)
    expected = setup.undo(model_id, dry_run=True)
    assert expected.dry_run
    assert setup.index.model_ids() == [model_id]
    undone = setup.undo(model_id)
    assert (undone.removed, undone.trash_id, undone.reasons) == (("rocket.gguf",), None, ())
    assert undone.kept_in_store == (str(blob),)
    assert replace(expected, dry_run=False) == undone
    assert setup.index.model_ids() == []
    assert setup.trash.list() == []
    assert list(setup.library.rglob("*.gguf")) == []
    assert snapshot(setup.home) == before
    assert blob.stat().st_nlink == 1
    (row,), _total = setup.journal.list(undone=True, limit=9, offset=0)
    assert (row.state, row.trash_id) == (AdoptionState.UNDONE, None)


@pytest.mark.parametrize("mode", MODES)
def test_by_the_id_of_the_adoption(tmp_path: Path, mode: str) -> None:
    setup, model_id, _blob = adopted(tmp_path, mode)
    row = setup.journal.of_model(model_id)
    assert row is not None
    setup.undoer.undo(adoption_id=row.id, model_id=None, dry_run=False)
    with pytest.raises(AdoptionNotFound):
        setup.undoer.undo(adoption_id=row.id, model_id=None, dry_run=False)


def test_without_a_journal_the_metadata_is_enough(tmp_path: Path) -> None:
    setup, model_id, _blob = adopted(tmp_path, "hardlink")
    row = setup.journal.of_model(model_id)
    assert row is not None
    setup.journal.forget(row.id)
    assert setup.undo(model_id).adoption_id == row.id
    assert setup.index.model_ids() == []


def remove(blob: Path) -> None:
    blob.unlink()


def put_another_there(blob: Path) -> None:
    blob.unlink()
    write(blob, gguf(2))


@pytest.mark.parametrize("change", [remove, put_another_there])
@pytest.mark.parametrize("mode", ["hardlink", "reflink"])
def test_the_last_copy_is_not_removed(tmp_path: Path, mode: str, change: Callable[[Path], None]) -> None:
    setup, model_id, blob = adopted(tmp_path, mode)
    change(blob)
    before = snapshot(setup.library)
    for dry_run in (True, False):
        with pytest.raises(LastCopy, match=r"rocket\.gguf"):
            setup.undo(model_id, dry_run=dry_run)
    assert snapshot(setup.library) == before
    row = setup.journal.of_model(model_id)
    assert row is not None
    assert row.state is AdoptionState.ADOPTED


def test_an_owner_who_removes_it_meanwhile_leaves_ours_in_the_trash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, model_id, blob = adopted(tmp_path, "hardlink")
    delete = setup.trash.delete

    def delete_late(*args: object, **options: object) -> object:
        blob.unlink()
        return delete(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(setup.trash, "delete", delete_late)
    undone = setup.undo(model_id)
    assert undone.trash_id is not None
    setup.trash.restore(undone.trash_id)
    assert sha256((setup.library / model_id / "rocket.gguf").read_bytes()) == sha256(gguf(1))


def test_a_reference_whose_file_is_gone_can_go(tmp_path: Path) -> None:
    setup, model_id, blob = adopted(tmp_path, "reference")
    blob.unlink()
    undone = setup.undo(model_id)
    assert (undone.kept_in_store, setup.index.model_ids()) == ((), [])


def add_preview(setup: Setup, model_id: str) -> None:
    write(setup.library / model_id / "preview.png", b"png")


def add_override(setup: Setup, model_id: str) -> None:
    setup.models.update_overrides(model_id, {"version_ranges": {"comfyui": ">=1"}})


def change_metadata(setup: Setup, model_id: str) -> None:
    setup.models.mark_manual(model_id)


def nest_another(setup: Setup, model_id: str) -> None:
    make_model(setup.library / model_id, "inner/model/deep")


def damage_overrides(setup: Setup, model_id: str) -> None:
    (setup.library / model_id / "overrides.json").write_bytes(b"{")


@pytest.mark.parametrize("change", [add_preview, add_override, change_metadata, nest_another, damage_overrides])
@pytest.mark.parametrize("mode", MODES)
def test_what_was_added_by_hand_goes_into_the_trash(
    tmp_path: Path, mode: str, change: Callable[[Setup, str], None]
) -> None:
    setup, model_id, _blob = adopted(tmp_path, mode)
    change(setup, model_id)
    before = snapshot(setup.library / model_id)
    undone = setup.undo(model_id)
    assert undone.trash_id is not None
    assert undone.reasons
    assert model_id not in setup.index.model_ids()
    setup.trash.restore(undone.trash_id)
    assert snapshot(setup.library / model_id) == before


def test_verifying_is_no_change_by_hand(tmp_path: Path) -> None:
    setup, model_id, _blob = adopted(tmp_path, "hardlink")
    setup.verify(model_id)
    assert setup.undo(model_id).trash_id is None


@pytest.mark.parametrize("mode", MODES)
def test_deleting_and_emptying_never_touches_the_owner(tmp_path: Path, mode: str) -> None:
    setup, model_id, blob = adopted(tmp_path, mode)
    before = snapshot(setup.home)
    entry = setup.trash.delete(model_id)
    setup.trash.restore(entry.trash_id)
    entry = setup.trash.delete(model_id)
    setup.trash.empty([entry.trash_id])
    assert snapshot(setup.home) == before
    assert blob.read_bytes() == gguf(1)


@pytest.mark.parametrize(
    ("model_id", "error"),
    [
        ("llm/none/none", ModelNotFound),
        ("../x", UnsafePath),
        ("llm/own/own", AdoptionNotFound),
        ("llm/own/damaged", CorruptState),
        ("llm/own/odd", AdoptionNotFound),
    ],
)
def test_what_was_not_adopted_is_not_undone(tmp_path: Path, model_id: str, error: type[PumasError]) -> None:
    setup = Setup(tmp_path)
    make_model(setup.library, "llm/own/own")
    make_model(setup.library, "llm/own/odd", storage="elsewhere", adoption={"id": 5, "files": "x"})
    write(setup.library / "llm" / "own" / "damaged" / "metadata.json", b"{")
    before = snapshot(setup.library)
    with pytest.raises(error):
        setup.undo(model_id)
    assert snapshot(setup.library) == before


@pytest.mark.parametrize(
    "adoption",
    [
        {"id": "adoption-1"},
        {"id": "adoption-1", "files": [{"name": "../../../outside.gguf", "path": "/x", "size": 1, "mtime_ns": 1}]},
        {"id": "adoption-1", "files": [5, {"name": "model.gguf", "path": "\0", "size": 1, "mtime_ns": 1}]},
    ],
)
@pytest.mark.parametrize("storage", MODES)
def test_forged_metadata_loses_nothing(tmp_path: Path, adoption: dict[str, object], storage: str) -> None:
    setup = Setup(tmp_path)
    outside = write(tmp_path / "outside.gguf", gguf(5))
    make_model(setup.library, "llm/x/forged", storage=storage, adoption=adoption)
    try:
        undone = setup.undo("llm/x/forged")
    except LastCopy:
        assert setup.index.model_ids() == ["llm/x/forged"]
    else:
        assert undone.trash_id is not None
        assert list((setup.layout.trash / undone.trash_id).rglob("model.gguf"))
    assert outside.read_bytes() == gguf(5)
