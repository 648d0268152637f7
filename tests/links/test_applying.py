"""`links/applying.py`: links are made once, foreign things stay, and what is in the way is kept."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pumas.errors import Cancelled, InvalidInput, PlanOutdated
from pumas.links import applying
from pumas.links.applying import KEPT_FOLDER
from pumas.links.work import resolutions_of

from .setup import APP, TAG, Setup, write

A, B = "diffusion/sdxl/a", "diffusion/sdxl/b"


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path / "root")


@pytest.fixture
def taken(setup: Setup) -> Setup:
    """A link of ours is wanted where the user has a file, and another where the user has a link."""
    setup.model(A, "a.safetensors")
    setup.model(B, "b.safetensors")
    write(setup.models / "checkpoints/a.safetensors", b"theirs")
    (setup.models / "checkpoints/b.safetensors").symlink_to("/elsewhere")
    return setup


def test_applying_twice_does_nothing_the_second_time(setup: Setup) -> None:
    setup.model(A, "a.safetensors", "b.ckpt", "c.txt")
    setup.model("diffusion/sdxl/l", "l.pt", subtype="loras")
    first, second = setup.apply(), setup.apply()
    assert (first.created, first.total, second.created, second.skipped, second.total) == (3, 3, 0, 3, 3)
    assert (
        setup.links().keys()
        == setup.tree().keys()
        == {
            "checkpoints/a.safetensors",
            "checkpoints/b.ckpt",
            "loras/l.pt",
        }
    )
    assert not setup.plan().changes
    assert (setup.layout.mapping_rules / "comfyui_*_default.json").exists()


def test_foreign_things_are_not_touched(taken: Setup) -> None:
    before = taken.tree()
    done = taken.apply()
    assert (done.created, done.conflicts, done.errors) == (0, 2, [])
    assert (taken.tree(), taken.links()) == (before, {})


@pytest.mark.parametrize("word", ["overwrite", "rename"])
def test_a_resolved_conflict_keeps_what_was_there(taken: Setup, word: str) -> None:
    write(taken.models / "checkpoints/a.safetensors.old", b"older")
    done = taken.apply({A: word, B: word})
    assert (done.created, done.conflicts) == (2, 0)
    assert (done.overwritten, done.renamed) == ((2, 0) if word == "overwrite" else (0, 2))
    assert set(taken.links()) == {"checkpoints/a.safetensors", "checkpoints/b.safetensors"}
    kept = {os.path.basename(one["target_path"]): Path(one["backup_path"]) for one in done.kept}
    assert kept["a.safetensors"].read_bytes() == b"theirs"
    assert os.readlink(kept["b.safetensors"]) == "/elsewhere"
    if word == "overwrite":
        assert kept["a.safetensors"].is_relative_to(taken.models / KEPT_FOLDER)
    else:
        assert kept["a.safetensors"].name == "a.safetensors.old.1"
    assert [r.kept_path for r in taken.store.replaced()]
    assert taken.apply().created == 0
    assert len(taken.work.health(APP, TAG).replaced) == 2


def test_a_folder_in_the_way_is_kept_whole(setup: Setup) -> None:
    setup.model(A, "a.safetensors")
    write(setup.models / "checkpoints/a.safetensors/inside/x", b"theirs")
    (kept,) = setup.apply({A: "overwrite"}).kept
    assert Path(kept["backup_path"], "inside/x").read_bytes() == b"theirs"


def test_one_resolution_is_for_one_model(taken: Setup) -> None:
    done = taken.apply({A: "rename", B: "skip"})
    assert (done.created, done.renamed, done.conflicts) == (1, 1, 1)
    assert os.readlink(taken.models / "checkpoints/b.safetensors") == "/elsewhere"


def test_words_that_are_no_resolution() -> None:
    with pytest.raises(InvalidInput, match="must be skip"):
        resolutions_of({"m": "delete"})


def test_what_changed_after_the_plan_is_not_moved_aside(taken: Setup) -> None:
    plan = taken.plan()
    write(taken.models / "checkpoints/a.safetensors", b"theirs, and changed")
    done = taken.work.apply(plan, resolutions_of({A: "overwrite"}), allow_copy=False)
    assert (done.created, done.overwritten, len(done.errors)) == (0, 0, 1)
    assert (taken.models / "checkpoints/a.safetensors").read_bytes() == b"theirs, and changed"
    assert (taken.links(), taken.store.replaced()) == ({}, [])


def test_a_name_that_was_taken_after_the_plan_stays(setup: Setup) -> None:
    setup.model(A, "a.safetensors")
    plan = setup.plan()
    target = write(setup.models / "checkpoints/a.safetensors", b"theirs")
    done = setup.work.apply(plan, {}, allow_copy=False)
    assert (done.created, done.conflicts, len(done.errors)) == (0, 1, 1)
    assert (target.read_bytes(), setup.links()) == (b"theirs", {})


def test_a_plan_that_somebody_else_has_just_applied(setup: Setup) -> None:
    setup.model(A, "a.safetensors")
    plan = setup.plan()
    assert setup.apply().created == 1
    done = setup.work.apply(plan, {}, allow_copy=False)
    assert (done.created, done.skipped, done.errors) == (0, 1, [])
    assert set(setup.links()) == {"checkpoints/a.safetensors"}


def test_a_version_that_is_gone_after_the_plan_is_not_made_again(setup: Setup) -> None:
    setup.model("diffusion/sdxl/x", "x.safetensors")
    plan = setup.plan()
    os.rename(setup.models.parent, setup.models.parent.with_name(".removed"))
    done = setup.work.apply(plan, {}, allow_copy=False)
    assert (done.created, len(done.errors)) == (0, len(plan.links))
    assert not setup.models.parent.exists()
    assert setup.links() == {}


def test_a_file_that_is_gone_after_the_plan_gets_no_link(setup: Setup) -> None:
    folder = setup.model(A, "a.safetensors")
    plan = setup.plan()
    (folder / "a.safetensors").unlink()
    done = setup.work.apply(plan, {}, allow_copy=False)
    assert (done.created, len(done.errors), setup.tree(), setup.links()) == (0, 1, {}, {})


def test_a_plan_id_is_refused_when_it_is_not_the_plan(setup: Setup) -> None:
    setup.model(A, "a.safetensors")
    plan_id = setup.plan().id
    assert setup.work.plan_for_apply(APP, TAG, plan_id).id == plan_id
    setup.model(B, "b.safetensors")
    with pytest.raises(PlanOutdated):
        setup.work.plan_for_apply(APP, TAG, plan_id)
    assert setup.tree() == {}


def test_our_own_link_follows_its_file(setup: Setup) -> None:
    folder = setup.model(A, "a.safetensors")
    setup.apply()
    target = setup.models / "checkpoints/a.safetensors"
    (row,) = setup.store.below(str(setup.models))
    target.unlink()
    os.symlink("/old/place/a.safetensors", target)
    setup.store.begin([row._replace(link_text="/old/place/a.safetensors")])
    setup.store.finish()
    done = setup.apply()
    assert (done.created, done.updated) == (1, 1)
    assert target.resolve() == folder / "a.safetensors"
    assert len(setup.links()) == 1


def test_broken_links_of_ours_go_and_others_stay(setup: Setup) -> None:
    folder = setup.model(A, "a.safetensors", "b.safetensors")
    setup.apply()
    (folder / "a.safetensors").unlink()
    (setup.models / "checkpoints/theirs").symlink_to("nowhere")
    (setup.models / "checkpoints/b.safetensors").unlink()
    done = setup.apply()
    assert (done.removed, done.created) == (1, 1)
    assert set(setup.tree()) == {"checkpoints/b.safetensors", "checkpoints/theirs"}
    assert set(setup.links()) == {"checkpoints/b.safetensors"}


def test_a_link_that_the_user_replaced_is_no_longer_ours(setup: Setup) -> None:
    folder = setup.model(A, "a.safetensors")
    setup.apply()
    target = setup.models / "checkpoints/a.safetensors"
    target.unlink()
    target.write_bytes(b"theirs")
    assert setup.apply().conflicts == 1
    (folder / "a.safetensors").unlink()
    setup.apply()
    assert (target.read_bytes(), setup.links()) == (b"theirs", {})


def test_a_models_folder_that_is_a_link_into_the_library_is_made_a_real_one(setup: Setup) -> None:
    folder = setup.model(A, "a.safetensors")
    setup.models.symlink_to("../../shared-resources/models")
    assert setup.plan().models_link
    done = setup.apply()
    assert done.created == 1 and not setup.models.is_symlink()
    assert (setup.models / "checkpoints/a.safetensors").resolve() == folder / "a.safetensors"
    (kept,) = done.kept
    assert os.readlink(kept["backup_path"]) == "../../shared-resources/models"
    assert not (setup.library / "checkpoints").exists()
    assert not setup.plan().changes


def test_unwanted_links_stay_until_they_are_removed(setup: Setup) -> None:
    setup.model(A, "a.safetensors")
    setup.apply()
    write(setup.layout.mapping_rules / "comfyui_*_default.json", b'{"mappings": [{"target_subdir": "new"}]}')
    done = setup.apply()
    assert (done.created, done.removed) == (1, 0)
    assert set(setup.links()) == {"checkpoints/a.safetensors", "new/a.safetensors"}
    assert setup.work.remove_orphans(APP, TAG, []).removed == 1
    assert set(setup.tree()) == {"new/a.safetensors"}


def test_work_that_is_stopped_leaves_what_it_did(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "BATCH", 2)
    for n in range(5):
        setup.model(f"diffusion/sdxl/m{n}", f"m{n}.safetensors")
    seen: list[tuple[int, int]] = []

    def check() -> None:
        if len(seen) == 2:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        setup.work.apply(
            setup.plan(), {}, allow_copy=False, check=check, report=lambda done, total: seen.append((done, total))
        )
    assert (seen, len(setup.links()), len(setup.tree())) == ([(2, 5), (4, 5)], 4, 4)
    assert setup.apply().created == 1


# -- volumes ---------------------------------------------------------------------------------------------------------


def refuse(*_args: object, **_more: object) -> None:
    raise OSError(errno.EPERM, "not here")


def test_where_symlinks_fail_there_are_hard_links(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = setup.model(A, "a.safetensors")
    monkeypatch.setattr(os, "symlink", refuse)
    assert setup.apply().created == 1
    target = setup.models / "checkpoints/a.safetensors"
    assert target.samefile(folder / "a.safetensors")
    (row,) = setup.store.below(str(setup.models))
    assert row.link_type == "hardlink"
    assert setup.apply().created == 0
    entry = setup.trash.delete(A)
    assert not target.exists()
    assert setup.trash.restore(entry.trash_id).companions == 1
    assert target.samefile(folder / "a.safetensors")
    assert setup.work.health(APP, TAG).status == "healthy"


def test_never_a_silent_copy(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = setup.model(A, "a.safetensors")
    monkeypatch.setattr(os, "symlink", refuse)
    monkeypatch.setattr(os, "link", refuse)
    done = setup.apply()
    assert (done.created, setup.tree(), setup.links()) == (0, {}, {})
    size = (folder / "a.safetensors").stat().st_size
    assert f"{size} bytes" in done.errors[0]
    done = setup.apply(allow_copy=True)
    assert (done.created, done.copied_bytes) == (1, size)
    target = setup.models / "checkpoints/a.safetensors"
    assert target.read_bytes() == (folder / "a.safetensors").read_bytes() and not target.is_symlink()
    assert setup.apply().created == 0 and setup.apply(allow_copy=True).created == 0
    setup.trash.delete(A)
    assert setup.tree() == {}, "our own copy goes with the model"


@pytest.fixture
def across(tmp_path: Path) -> Iterator[Setup]:
    """The library on another volume than the apps."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        root = tmp_path / "root"
        (root / "shared-resources").mkdir(parents=True)
        (root / "shared-resources/models").symlink_to(other)
        assert os.stat(other).st_dev != os.stat(root).st_dev
        yield Setup(root)


def test_links_across_volumes_are_absolute(across: Setup) -> None:
    across.model(A, "a.safetensors")
    plan = across.plan()
    (link,) = plan.links
    assert link.external and link.text == f"{across.library}/{A}/a.safetensors"
    assert any("different volumes" in text for text in plan.warnings)
    assert (across.apply().created, across.apply().created) == (1, 0)
    (row,) = across.store.below(str(across.models))
    assert row.is_external == 1 and not os.path.isabs(row.source_path)
    assert across.work.health(APP, None).status == "warnings"
    assert across.work.across(APP, TAG) == (str(across.library), str(across.models))
    entry = across.trash.delete(A)
    assert across.tree() == {}
    across.trash.restore(entry.trash_id)
    assert across.tree() == {"checkpoints/a.safetensors": f"-> {link.text}"}


def test_no_hard_link_across_volumes(across: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    across.model(A, "a.safetensors")
    monkeypatch.setattr(os, "symlink", refuse)
    done = across.apply()
    assert (done.created, across.tree()) == (0, {}) and "bytes" in done.errors[0]


def test_a_root_that_is_moved_keeps_its_links(setup: Setup, tmp_path: Path) -> None:
    setup.model(A, "a.safetensors")
    setup.apply()
    setup.close()
    os.rename(setup.layout.root, tmp_path / "moved")
    again = Setup(tmp_path / "moved")
    again.index.reconcile()
    assert (again.apply().created, again.work.health(APP, TAG).status) == (0, "healthy")
    assert (again.models / "checkpoints/a.safetensors").read_bytes()


def test_a_full_disk_is_told_and_nothing_is_half_done(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.model(A, "a.safetensors")
    setup.model(B, "b.safetensors")
    real = os.symlink

    def full(text: str, target: str) -> None:
        if target.endswith("b.safetensors"):
            raise OSError(errno.ENOSPC, "full")
        real(text, target)

    monkeypatch.setattr(os, "symlink", full)
    done = setup.apply()
    assert (done.created, len(done.errors)) == (1, 1) and "full" in done.errors[0]
    assert set(setup.links()) == set(setup.tree()) == {"checkpoints/a.safetensors"}
    monkeypatch.undo()
    assert setup.apply().created == 1
