"""`links/keeping.py`: links go into the trash and back with their model, and a start settles what a kill left."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pumas.errors import AlreadyExists, DiskError
from pumas.library import trash as trash_module
from pumas.links.store import new_link

from .setup import APP, TAG, Setup, version, write

A, B = "diffusion/sdxl/a", "diffusion/sdxl/b"
LINK = "checkpoints/a.safetensors"


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    one = Setup(tmp_path / "root")
    one.model(A, "a.safetensors")
    one.model(B, "b.safetensors")
    one.apply()
    return one


def test_links_go_and_come_back(setup: Setup) -> None:
    before, links = setup.tree(), setup.links()
    assert setup.trash.delete(A, dry_run=True).companions == 1
    assert setup.tree() == before
    entry = setup.trash.delete(A)
    assert (entry.companions, set(setup.tree()), set(setup.links())) == (
        1,
        before.keys() - {LINK},
        links.keys() - {LINK},
    )
    assert setup.apply().created == 0
    assert setup.trash.restore(entry.trash_id).companions == 1
    assert (setup.tree(), setup.links(), setup.store.parked()) == (before, links, [])


def test_links_of_all_versions_go(setup: Setup) -> None:
    version(setup.layout.root, "v0.4")
    setup.states.clear()  # without a list of versions the disk was asked once
    setup.apply(tag="v0.4")
    other = setup.layout.root / "comfyui-versions/v0.4/models" / LINK
    assert other.exists()
    entry = setup.trash.delete(A)
    assert entry.companions == 2 and not os.path.lexists(other)
    assert setup.trash.restore(entry.trash_id).companions == 2 and other.exists()


def test_models_that_lie_in_a_deleted_one_take_their_links_along(setup: Setup) -> None:
    setup.model(f"{A}/inner", "inner.safetensors")
    setup.apply()
    before = setup.tree()
    entry = setup.trash.delete(A)
    assert entry.companions == 2
    setup.trash.restore(entry.trash_id)
    assert setup.tree() == before


def test_the_users_own_link_to_a_deleted_model_stays(setup: Setup) -> None:
    (setup.models / "mine").symlink_to(setup.library / A / "a.safetensors")
    setup.trash.delete(A)
    assert os.path.lexists(setup.models / "mine")


def test_a_place_that_was_taken_meanwhile_stays_taken(setup: Setup) -> None:
    entry = setup.trash.delete(A)
    write(setup.models / LINK, b"theirs")
    assert setup.trash.restore(entry.trash_id).companions == 0
    assert (setup.models / LINK).read_bytes() == b"theirs"
    assert LINK not in setup.links() and setup.store.parked() == []


def test_a_version_that_was_removed_meanwhile_gets_no_links(setup: Setup) -> None:
    entry = setup.trash.delete(A)
    os.rename(setup.models.parent, setup.models.parent.with_name(".removed"))
    assert setup.trash.restore(entry.trash_id).companions == 0
    assert not setup.models.parent.exists()


class Versions:
    """Moves a version into the trash of versions and back, and says that it is there."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.folder = setup, setup.models.parent
        self.away = self.folder.with_name(".removed")
        setup.keeper.ask_removed(lambda app_id, tag: (app_id, tag) == (APP, TAG) and self.away.exists())

    def remove(self) -> None:
        os.rename(self.folder, self.away)

    def restore(self) -> None:
        os.rename(self.away, self.folder)
        self.setup.keeper.recover()


def agree(setup: Setup) -> None:
    assert setup.links().keys() == setup.tree().keys()
    assert all((setup.models / name).exists() for name in setup.links())


def test_a_model_that_comes_back_before_its_version_gets_its_links_with_that(setup: Setup) -> None:
    before, versions = setup.tree(), Versions(setup)
    entry = setup.trash.delete(A)
    versions.remove()
    assert setup.trash.restore(entry.trash_id).companions == 0
    again = start_again(setup, versions)
    versions.restore()
    assert again.tree() == before
    assert again.store.parked() == []
    agree(again)


def start_again(setup: Setup, versions: Versions) -> Setup:
    """What a start meanwhile finds must not be forgotten."""
    setup.close()
    again = versions.setup = Setup(setup.layout.root)
    again.keeper.ask_removed(lambda app_id, tag: (app_id, tag) == (APP, TAG) and versions.away.exists())
    again.keeper.recover()
    return again


def test_a_model_deleted_while_its_version_is_away_takes_its_links_along_later(tmp_path: Path) -> None:
    root = tmp_path / "root"
    version(root)
    setup = Setup(root)
    setup.model(A, "a.safetensors")
    setup.model(B, "b.safetensors")
    setup.apply()
    before, versions = setup.tree(), Versions(setup)
    versions.remove()
    entry = setup.trash.delete(A)
    again = start_again(setup, versions)
    versions.restore()
    assert again.tree().keys() == before.keys() - {LINK}
    agree(again)
    assert again.trash.restore(entry.trash_id).companions == 1
    assert again.tree() == before
    agree(again)


def test_a_model_deleted_and_restored_while_its_version_is_away(setup: Setup) -> None:
    before, versions = setup.tree(), Versions(setup)
    versions.remove()
    setup.trash.restore(setup.trash.delete(A).trash_id)
    versions.restore()
    assert (setup.tree(), setup.store.parked()) == (before, [])
    agree(setup)


def test_a_model_gone_for_good_while_its_version_is_away(setup: Setup) -> None:
    versions = Versions(setup)
    versions.remove()
    setup.trash.empty([setup.trash.delete(A).trash_id])
    versions.restore()
    setup.apply()
    assert LINK not in setup.tree()
    agree(setup)


def test_a_version_gone_for_good_is_forgotten_with_its_links(setup: Setup) -> None:
    version(setup.layout.root, "v0.3.1")  # not this one, although its name begins so
    setup.states.clear()
    setup.apply(tag="v0.3.1")
    write(setup.models / "checkpoints/b.safetensors.mine", b"")
    entry = setup.trash.delete(A)
    setup.keeper.version_lost(str(setup.models.parent))
    assert setup.links(), "one that is there is not"
    shutil.rmtree(setup.models.parent)
    setup.keeper.version_lost(str(setup.models.parent))
    assert {row.app_version for row in setup.store.all()} == {"0.3.1"}
    assert {one.app_version for one in setup.store.parked()} == {"0.3.1"}
    assert setup.trash.restore(entry.trash_id).companions == 1
    assert not setup.models.parent.exists()


def test_what_comes_and_goes_is_told(setup: Setup) -> None:
    told: list[tuple[dict[tuple[str, str], int], dict[tuple[str, str], int]]] = []
    setup.keeper.tell(lambda made, removed: told.append((dict(made), dict(removed))))
    setup.trash.restore(setup.trash.delete(A).trash_id)
    one = {(APP, TAG[1:]): 1}
    assert [news for news in told if any(news)] == [({}, one), (one, {})]


def test_what_is_emptied_is_forgotten(setup: Setup) -> None:
    entry = setup.trash.delete(A)
    assert len(setup.store.parked()) == 1
    setup.trash.empty([entry.trash_id])
    assert setup.store.parked() == []
    setup.model(A, "a.safetensors")
    assert setup.apply().created == 1


def test_a_model_that_cannot_be_moved_keeps_its_links(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    before, links = setup.tree(), setup.links()

    def fail(*_paths: Path) -> None:
        raise OSError(5, "no")

    monkeypatch.setattr(trash_module, "rename_new", fail)
    with pytest.raises(DiskError):
        setup.trash.delete(A)
    assert (setup.tree(), setup.links(), setup.store.parked()) == (before, links, [])


def test_a_taken_id_leaves_the_links_in_the_trash(setup: Setup) -> None:
    entry = setup.trash.delete(A)
    setup.model(A, "new.safetensors")
    with pytest.raises(AlreadyExists):
        setup.trash.restore(entry.trash_id)
    assert len(setup.store.parked()) == 1


def test_without_a_registry_deleting_makes_none(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "root")
    setup.model(A, "a.safetensors")
    assert setup.trash.restore(setup.trash.delete(A).trash_id).companions == 0
    assert not setup.store.database.path.exists()
    setup.keeper.recover()
    assert not setup.store.database.path.exists()


# -- after a kill ----------------------------------------------------------------------------------------------------


def begun(setup: Setup, name: str, kind: str = "symlink", text: str = "", inode: int = 0) -> str:
    """A row whose link may or may not be there; returns the link's place."""
    target = f"{setup.models}/checkpoints/{name}"
    source = setup.store.kept(f"{setup.library}/{A}/a.safetensors")
    row = new_link(A, source, setup.store.kept(target), kind, APP, TAG[1:], external=False)
    setup.store.begin([row._replace(link_text=text, inode=inode)])
    return target


def test_a_link_that_was_made_is_registered(setup: Setup) -> None:
    os.symlink("text", begun(setup, "x", text="text"))
    setup.keeper.recover()
    assert "checkpoints/x" in setup.links() and setup.store.making() == []


def test_a_link_that_was_not_made_is_not(setup: Setup) -> None:
    begun(setup, "x", text="text")
    setup.keeper.recover()
    assert "checkpoints/x" not in setup.links()


@pytest.mark.parametrize("kind", ["symlink", "hardlink", "copy"])
def test_what_somebody_else_put_there_is_not_registered(setup: Setup, kind: str) -> None:
    target = begun(setup, "x", kind, text="text", inode=1)
    write(Path(target), b"theirs")
    setup.keeper.recover()
    assert "checkpoints/x" not in setup.links() and Path(target).read_bytes() == b"theirs"


def test_a_half_copy_is_swept(setup: Setup) -> None:
    target = begun(setup, "x", "copy", inode=1)
    left = write(Path(f"{target}.999999999.0123abcd.pumas-tmp"), b"half")
    setup.keeper.recover()
    assert not left.exists()


def test_a_row_that_a_failed_run_left_is_not_taken_for_made(setup: Setup) -> None:
    setup.model("diffusion/sdxl/c", "c.safetensors")
    plan = setup.plan()
    begun(setup, "x", text="text")
    setup.work.apply(plan, {}, allow_copy=False)
    assert set(setup.links()) == set(setup.tree())


def test_links_that_the_disk_refused_come_back_at_the_next_start(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = setup.trash.delete(A)

    def refuse(*_args: object, **_more: object) -> None:
        raise OSError(5, "no")

    monkeypatch.setattr(os, "symlink", refuse)
    assert setup.trash.restore(entry.trash_id).companions == 0
    assert LINK not in setup.links()
    monkeypatch.undo()
    setup.keeper.recover()
    assert LINK in setup.links() and (setup.models / LINK).exists() and setup.store.parked() == []
