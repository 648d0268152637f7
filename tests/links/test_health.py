"""`links/health.py`, and the clean-up that follows from it: only ours goes, and only what nobody needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pumas.errors import InvalidInput, UnknownApp
from pumas.links.applying import KEPT_FOLDER

from .setup import APP, TAG, Setup, write

A, B = "diffusion/sdxl/a", "diffusion/sdxl/b"


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    one = Setup(tmp_path / "root")
    one.model(A, "a.safetensors")
    one.model(B, "b.safetensors")
    one.apply()
    return one


def path(setup: Setup, name: str) -> Path:
    return setup.models / "checkpoints" / name


def test_all_is_well(setup: Setup) -> None:
    health = setup.work.health(APP, TAG)
    assert (health.status, health.total, health.healthy) == ("healthy", 2, 2)
    assert (health.broken, health.orphaned, health.warnings) == ([], [], [])


def test_broken_links_of_each_kind(setup: Setup) -> None:
    setup.model("diffusion/sdxl/c", "c.safetensors")
    setup.apply()
    path(setup, "a.safetensors").unlink()
    (setup.library / B / "b.safetensors").unlink()
    path(setup, "c.safetensors").unlink()
    write(path(setup, "c.safetensors"), b"theirs")
    health = setup.work.health(APP, None)
    reasons = {os.path.basename(one.target): one.reason for one in health.broken}
    assert reasons == {
        "a.safetensors": "The link is gone",
        "b.safetensors": "The model's file is gone",
        "c.safetensors": "Something else is there now; it stays",
    }
    assert (health.status, health.total, health.healthy) == ("errors", 3, 0)
    assert setup.work.clean_broken() == 3
    assert setup.links() == {}
    assert os.listdir(setup.models / "checkpoints") == ["c.safetensors"]
    assert setup.work.clean_broken() == 0


def test_links_nobody_needs_and_links_of_others(setup: Setup, tmp_path: Path) -> None:
    (setup.library / A / "overrides.json").write_text('{"version_ranges": {"comfyui": "<0.1"}}')
    inside, dangling, outside = path(setup, "mine"), path(setup, "gone"), path(setup, "outside")
    inside.symlink_to(setup.library / B / "b.safetensors")
    dangling.symlink_to("../../../../shared-resources/models/x/y/z")
    outside.symlink_to(tmp_path)
    (setup.models / "deep").mkdir()
    (setup.models / "deep" / "folder").symlink_to(setup.library / B)
    health = setup.work.health(APP, TAG)
    assert health.status == "warnings"
    assert {os.path.basename(one) for one in health.orphaned} == {"a.safetensors", "mine", "gone", "folder"}
    done = setup.work.remove_orphans(APP, TAG, [])
    assert (done.removed, len(done.kept)) == (1, 3)
    assert set(setup.links()) == {"checkpoints/b.safetensors"}
    assert all(map(os.path.lexists, (inside, dangling, outside, setup.models / "deep/folder")))


def test_a_named_link_of_somebody_else_is_moved_aside(setup: Setup) -> None:
    mine = path(setup, "mine")
    mine.symlink_to(setup.library / B / "b.safetensors")
    done = setup.work.remove_orphans(APP, TAG, [str(mine)])
    assert (done.removed, done.kept, os.path.lexists(mine)) == (1, [], False)
    (kept,) = (setup.models / KEPT_FOLDER).rglob("mine")
    assert os.readlink(kept) == str(setup.library / B / "b.safetensors")
    (replaced,) = setup.work.health(APP, TAG).replaced
    assert setup.store.absolute(replaced.kept_path) == str(kept)
    assert setup.work.health(APP, TAG).orphaned == []


@pytest.mark.parametrize("name", ["b.safetensors", "theirs", "outside", "none"])
def test_only_orphans_can_be_named(setup: Setup, tmp_path: Path, name: str) -> None:
    write(path(setup, "theirs"), b"x")
    path(setup, "outside").symlink_to(tmp_path)
    before = setup.tree()
    with pytest.raises(InvalidInput):
        setup.work.remove_orphans(APP, TAG, [str(path(setup, name))])
    assert setup.tree() == before


def test_versions_that_are_not_installed_have_no_orphans(setup: Setup) -> None:
    assert setup.work.health(APP, "v9").orphaned == []
    assert setup.work.remove_orphans(APP, "v9", []).removed == 0
    with pytest.raises(InvalidInput):
        setup.work.remove_orphans(APP, "v9", ["/etc/passwd"])
    for call in (lambda: setup.work.health("paint", None), lambda: setup.work.remove_orphans("paint", TAG, [])):
        with pytest.raises(UnknownApp):
            call()


def test_a_version_that_was_removed_and_comes_back_has_its_links(setup: Setup) -> None:
    removed = setup.models.parent.with_name(".removed")
    os.rename(setup.models.parent, removed)
    health = setup.work.health(APP, None)
    assert (health.status, health.total, setup.work.clean_broken()) == ("healthy", 0, 0)
    os.rename(removed, setup.models.parent)
    assert (setup.apply().created, setup.work.health(APP, TAG).healthy) == (0, 2)


# -- a registry that was lost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"garbage" * 1000, b"SQLite format 3\0" + b"\0" * 4000])
def test_a_damaged_registry_is_kept_and_made_again_from_the_links(setup: Setup, data: bytes) -> None:
    links = setup.links()
    mine = path(setup, "mine")
    mine.symlink_to(setup.library / B / "b.safetensors")
    setup.close()
    for suffix in ("-wal", "-shm"):
        Path(f"{setup.store.database.path}{suffix}").unlink(missing_ok=True)
    setup.store.database.path.write_bytes(data)
    before = setup.tree()
    again = Setup(setup.layout.root)
    again.index.reconcile()
    done = again.apply()
    assert (done.created, again.tree()) == (0, before)
    assert again.links() == links
    assert list(again.store.put_aside()) and [t.kind for t in again.troubles.list()] == ["damaged_database"]
    assert again.trash.delete(A).companions == 1
    assert os.path.lexists(mine)


def test_a_registry_of_a_newer_version_is_left_alone(setup: Setup) -> None:
    import sqlite3

    from pumas.errors import NewerSchema

    setup.close()
    c = sqlite3.connect(setup.store.database.path)
    c.execute("PRAGMA user_version = 99")
    c.close()
    before = setup.tree()
    again = Setup(setup.layout.root)
    for call in (again.plan, again.apply, lambda: again.trash.delete(A)):
        with pytest.raises(NewerSchema):
            call()
    assert again.tree() == before and (setup.library / A).is_dir()
