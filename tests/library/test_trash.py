"""`library/trash.py`: a model is whole in the library or whole in the trash, and comes back as it was."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from library.model_disk import DiskIndex, gguf, make_model, tree, write
from pumas.errors import AlreadyExists, DiskError, ModelNotFound, PumasError, TrashEntryNotFound, UnsafePath
from pumas.library.trash import Trash
from pumas.storage import files
from pumas.storage.json_file import StateLock

ID = "llm/llama/one"


class Setup:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.library = root / "models"
        self.folder = make_model(self.library, ID, {"a.gguf": gguf(1), "sub/b.txt": b"text"})
        make_model(self.library, "llm/qwen/two")
        self.index = DiskIndex(self.library)
        self.trash = Trash(self.library, self.library / ".trash", StateLock(root / "state.lock"), self.index)

    def tree(self) -> dict[str, str]:
        return {name: digest for name, digest in tree(self.root).items() if name != "state.lock"}

    def entry_file(self, trash_id: str) -> Path:
        return self.library / ".trash" / trash_id / "entry.json"


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def test_delete_and_restore_give_back_the_same_tree(setup: Setup) -> None:
    before = setup.tree()
    entry = setup.trash.delete(ID)
    assert not setup.folder.exists() and not setup.folder.parent.exists(), "an empty family goes"
    assert (setup.library / "llm").is_dir()
    assert setup.index.removed == [ID]
    assert [e.model_id for e in setup.trash.list()] == [ID]
    assert setup.trash.list()[0] == entry
    assert (entry.files, entry.official_name) == (2, "one")
    assert setup.trash.restore(entry.trash_id) == entry
    assert setup.tree() == before
    assert setup.index.refreshed == [ID]
    assert setup.trash.list() == []


def test_dry_runs_change_nothing(setup: Setup) -> None:
    before = setup.tree()
    assert setup.trash.delete(ID, dry_run=True).model_id == ID
    assert setup.tree() == before
    entry = setup.trash.delete(ID)
    before = setup.tree()
    assert setup.trash.restore(entry.trash_id, dry_run=True) == entry
    assert setup.trash.empty(dry_run=True) == (entry,)
    assert setup.tree() == before
    make_model(setup.library, ID)
    with pytest.raises(AlreadyExists):
        setup.trash.restore(entry.trash_id, dry_run=True)


def test_a_taken_id_is_not_replaced(setup: Setup) -> None:
    entry = setup.trash.delete(ID)
    make_model(setup.library, ID, {"new.gguf": gguf(9)})
    before = setup.tree()
    with pytest.raises(AlreadyExists):
        setup.trash.restore(entry.trash_id)
    assert setup.tree() == before
    (setup.library / "llm/llama/one2").mkdir()
    empty = setup.trash.delete("llm/qwen/two")
    (setup.library / "llm/qwen/two").mkdir(parents=True)
    with pytest.raises(AlreadyExists):
        setup.trash.restore(empty.trash_id)  # an empty folder is taken, too


@pytest.mark.parametrize("model_id", ["llm/llama", "llm", "llm/none/x"])
def test_what_is_no_model_is_not_deleted(setup: Setup, model_id: str) -> None:
    before = setup.tree()
    with pytest.raises(ModelNotFound):
        setup.trash.delete(model_id)
    assert setup.tree() == before


@pytest.mark.parametrize("model_id", ["", ".", "..", "../x", "/", str(Path.home()), "llm/../llm/llama/one", "a\0b"])
def test_hostile_ids_are_refused(setup: Setup, model_id: str) -> None:
    before = setup.tree()
    with pytest.raises(UnsafePath):
        setup.trash.delete(model_id)
    assert setup.tree() == before


@pytest.mark.parametrize("trash_id", ["", "..", "../models", "a/b", "x\0", "none", ".trash", "/etc", "é" * 300])
def test_unknown_and_hostile_trash_ids(setup: Setup, trash_id: str) -> None:
    setup.trash.delete(ID)
    before = setup.tree()
    for call in (setup.trash.restore, lambda i: setup.trash.empty([i])):
        with pytest.raises(TrashEntryNotFound):
            call(trash_id)
    assert setup.tree() == before


def test_a_damaged_model_can_be_deleted_and_restored(setup: Setup) -> None:
    write(setup.folder / "metadata.json", b"{broken")
    before = setup.tree()
    entry = setup.trash.delete(ID)
    setup.trash.restore(entry.trash_id)
    assert setup.tree() == before


def test_nested_models_go_and_come_back_with_their_folder(setup: Setup) -> None:
    make_model(setup.library, f"{ID}/inner/deep")
    before = setup.tree()
    entry = setup.trash.delete(ID)
    assert entry.model_ids == (ID, f"{ID}/inner/deep") and setup.index.removed == list(entry.model_ids)
    setup.trash.restore(entry.trash_id)
    assert setup.tree() == before and setup.index.refreshed == list(entry.model_ids)


def test_links_are_moved_and_removed_as_links(setup: Setup) -> None:
    keep = write(setup.root / "user" / "keep.gguf", gguf(5))
    (setup.folder / "file.gguf").symlink_to(keep)
    (setup.folder / "folder").symlink_to(keep.parent)
    os.symlink("one", setup.library / "llm/llama/alias")
    entry = setup.trash.delete("llm/llama/alias")
    assert setup.folder.is_dir(), "the model that the link leads to stays"
    setup.trash.restore(entry.trash_id)
    assert os.readlink(setup.library / "llm/llama/alias") == "one"
    setup.trash.delete("llm/llama/alias")
    setup.trash.delete(ID)
    setup.trash.empty()
    assert keep.read_bytes() == gguf(5)
    assert setup.trash.list() == [] and os.listdir(setup.library / ".trash") == []


def test_emptying_takes_what_was_named_and_old_enough(setup: Setup) -> None:
    first, second = setup.trash.delete(ID), setup.trash.delete("llm/qwen/two")
    value = json.loads(setup.entry_file(first.trash_id).read_bytes())
    write(setup.entry_file(first.trash_id), json.dumps({**value, "deleted_at": "2020-01-01T00:00:00Z"}).encode())
    value = json.loads(setup.entry_file(second.trash_id).read_bytes())
    write(setup.entry_file(second.trash_id), json.dumps({**value, "deleted_at": "2999-01-01T00:00:00Z"}).encode())
    assert [e.model_id for e in setup.trash.empty(older_than_days=30)] == [ID]
    assert [e.model_id for e in setup.trash.list()] == ["llm/qwen/two"], "a date in the future is not old"
    with pytest.raises(TrashEntryNotFound):
        setup.trash.empty([second.trash_id, "none"])
    assert len(setup.trash.list()) == 1, "nothing goes when one of the names is wrong"
    setup.trash.empty([second.trash_id])
    assert setup.trash.list() == []


DAMAGE = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"{}",
    b'{"model_id": "../../out", "model_ids": ["../../out"], "official_name": "x"}',
    b'{"model_id": ".trash/x", "model_ids": [".trash/x"], "official_name": "x"}',
    b'{"model_id": "a/b", "model_ids": [], "official_name": "x"}',
    b'{"model_id": 5, "model_ids": [5], "official_name": 7}',
    b'{"model_id": "a/b", "model_ids": ["a/b", "/etc"], "official_name": "x"}',
]


@pytest.mark.parametrize("damage", [*DAMAGE, None])
def test_a_model_whose_entry_is_damaged_is_listed_never_emptied_unasked_and_restored(
    setup: Setup, damage: bytes | None
) -> None:
    before = setup.tree()
    entry = setup.trash.delete(ID)
    path = setup.entry_file(entry.trash_id)
    path.unlink() if damage is None else path.write_bytes(damage)
    setup.trash.recover()
    assert setup.trash.empty() == () and setup.trash.empty(older_than_days=0) == ()
    (found,) = setup.trash.list()
    assert (found.model_id, found.deleted_at) == (ID, "")
    setup.trash.restore(found.trash_id)
    assert setup.tree() == before


def test_hostile_metadata_does_not_lead_a_restore_out(setup: Setup) -> None:
    entry = setup.trash.delete(ID)
    setup.entry_file(entry.trash_id).unlink()
    metadata = {"model_type": "../../..", "family": "/etc", "cleaned_name": 5}
    write(setup.library / ".trash" / entry.trash_id / "model/metadata.json", json.dumps(metadata).encode())
    restored = setup.trash.restore(entry.trash_id)
    assert restored.model_id == f"unknown/etc/{entry.trash_id}"
    assert (setup.library / restored.model_id / "a.gguf").is_file()


def test_recovery_finishes_what_was_begun_and_touches_nothing_else(setup: Setup) -> None:
    entry = setup.trash.delete(ID)
    trash = setup.library / ".trash"
    write(trash / "intent" / "entry.json", b"{}")
    write(trash / "half.emptying" / "model" / "a.gguf", gguf())
    write(trash / "strange" / "note.txt", b"not ours")
    write(trash / "note.txt", b"not ours")
    write(trash / "strange.thing" / "entry.json", b"{}")
    setup.index.removed.clear()
    setup.trash.recover()
    assert sorted(os.listdir(trash)) == sorted([entry.trash_id, "strange", "strange.thing", "note.txt"])
    assert setup.index.removed == [ID], "the index learns what the killed process could not tell it"
    setup.trash.restore(entry.trash_id)
    setup.index.removed.clear()
    setup.trash.recover()
    assert setup.index.removed == [] and setup.folder.is_dir()


@pytest.mark.parametrize("action", ["delete", "restore"])
def test_a_move_that_cannot_be_made_durable_is_taken_back(
    setup: Setup, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = setup.trash.delete("llm/qwen/two")
    before = setup.tree()
    fsync, renamed = os.fsync, list[str]()
    rename = files._rename_exclusively  # pyright: ignore[reportPrivateUsage]

    def failing(fd: int) -> None:
        if renamed:
            raise OSError(5, "Input/output error")
        fsync(fd)

    def noting(source: Path, target: Path) -> None:
        rename(source, target)
        renamed.append(target.name)

    monkeypatch.setattr(files, "_rename_exclusively", noting)
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(PumasError) as caught:
        setup.trash.delete(ID) if action == "delete" else setup.trash.restore(entry.trash_id)
    assert isinstance(caught.value, DiskError)
    monkeypatch.undo()
    setup.trash.recover()
    assert setup.tree() == before
