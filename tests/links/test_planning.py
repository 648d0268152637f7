"""`links/planning.py`: what would be done, and that looking changes nothing."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from library.model_disk import tree
from pumas.errors import InvalidInput, UnknownApp, VersionNotFound
from pumas.library.reconcile import LibraryOffline
from pumas.links.files import excluded
from pumas.links.values import Action, Plan
from pumas.links.volumes import Ability, Volumes

from .setup import APP, TAG, Setup, write

A = "diffusion/sdxl/a"


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path / "root")


def rules(setup: Setup, *mappings: dict[str, Any]) -> None:
    write(setup.layout.mapping_rules / "comfyui_*_default.json", json.dumps({"mappings": mappings}).encode())


def shown(plan: Plan) -> dict[str, str]:
    """Path below the models folder -> action and reason."""
    return {os.path.relpath(link.target, plan.place.models): f"{link.action}: {link.reason}" for link in plan.links}


def test_a_plan_changes_nothing(setup: Setup) -> None:
    setup.model(A, "a.safetensors")
    setup.index.close()
    before = tree(setup.layout.root)
    plan = setup.plan()
    setup.index.close()
    assert shown(plan) == {"checkpoints/a.safetensors": "create: New"}
    after = tree(setup.layout.root)
    assert {k: v for k, v in after.items() if "models.db" not in k} == {
        k: v for k, v in before.items() if "models.db" not in k
    }
    assert not setup.store.database.path.exists()


def test_links_are_relative_on_one_volume(setup: Setup) -> None:
    setup.model(A, "a.safetensors")
    (link,) = setup.plan().links
    assert link.text == "../../../../shared-resources/models/diffusion/sdxl/a/a.safetensors"
    assert not link.external


def test_what_is_there(setup: Setup) -> None:
    folder = setup.model(A, "right.safetensors", "wrong.safetensors", "file.safetensors", "dir.safetensors")
    place = setup.models / "checkpoints"
    place.mkdir(parents=True)
    (place / "right.safetensors").symlink_to(folder / "right.safetensors")
    (place / "wrong.safetensors").symlink_to("/elsewhere")
    write(place / "file.safetensors", b"theirs")
    (place / "dir.safetensors").mkdir()
    before = setup.tree()
    plan = setup.plan()
    assert shown(plan) == {
        "checkpoints/right.safetensors": "skip: Already linked, though not by us",
        "checkpoints/wrong.safetensors": "conflict: Symlink to a different source",
        "checkpoints/file.safetensors": "conflict: Non-symlink file exists",
        "checkpoints/dir.safetensors": "conflict: Non-symlink folder",
    }
    assert (plan.changes, setup.tree()) == (False, before)
    assert {link.existing for link in plan.conflicts} == {
        "/elsewhere",
        str(place / "file.safetensors"),
        str(place / "dir.safetensors"),
    }


def test_files_of_one_name_all_find_a_place_and_keep_it(setup: Setup) -> None:
    for name in ("one", "two", "three"):
        setup.model(f"diffusion/sdxl/{name}", "model.safetensors")
    setup.model("diffusion/flux/one", "MODEL.safetensors")
    setup.apply()
    names = set(setup.links())
    assert len({name.casefold() for name in names}) == 4
    assert "checkpoints/model-two.safetensors" in names
    setup.trash.delete("diffusion/flux/one")
    setup.model("diffusion/aaa/first", "model.safetensors")
    done = setup.apply()
    assert done.created == 1
    assert len(names & set(setup.links())) == 3, "names once given stay"


def test_subfolders_and_nested_models(setup: Setup) -> None:
    folder = setup.model(A, "top.bin", "unet/a.bin", "unet/deep/b.bin", ".hidden/c.bin")
    setup.model(f"{A}/inner", "own.bin")
    rules(setup, {"target_subdir": "all", "patterns": ["**/*.bin"]})
    plan = setup.plan()
    of_outer = {os.path.relpath(link.source, folder) for link in plan.links if link.model_id == A}
    assert of_outer == {"top.bin", "unet/a.bin", "unet/deep/b.bin"}
    rules(setup, {"target_subdir": "all", "patterns": ["*.bin"]})
    assert {link.source for link in setup.plan().links if link.model_id == A} == {str(folder / "top.bin")}


def test_a_file_wanted_twice_in_one_folder_gets_one_link(setup: Setup) -> None:
    setup.model(A, "a.safetensors")
    same = {"target_subdir": "x", "patterns": ["*"]}
    rules(setup, same, same, {"target_subdir": "y"})
    assert set(shown(setup.plan())) == {"x/a.safetensors", "y/a.safetensors"}


def test_only_some_models(setup: Setup) -> None:
    setup.model(A, "a.safetensors")
    setup.model("diffusion/sdxl/b", "b.safetensors")
    assert set(shown(setup.plan(model_ids=[A, "no/such/model"]))) == {"checkpoints/a.safetensors"}


@pytest.mark.parametrize(
    ("tag", "app", "error"),
    [
        *(("v9", "comfyui", VersionNotFound), ("../x", "comfyui", InvalidInput), ("", "comfyui", InvalidInput)),
        *((TAG, "paint", UnknownApp), (f"{TAG}/models", "comfyui", InvalidInput), ("a" * 200, "comfyui", InvalidInput)),
    ],
)
def test_places_that_do_not_exist(setup: Setup, tag: str, app: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        setup.work.plan(app, tag)


def test_apps_that_take_no_models(setup: Setup) -> None:
    write(setup.layout.root / "ollama-versions/v1/ollama", b"")
    plan = setup.work.plan("Ollama", "v1")
    assert (plan.links, len(plan.errors)) == ([], 1)


def test_each_app_has_its_own_folder(setup: Setup) -> None:
    write(setup.layout.root / "llamacpp-versions/b100/llama-server", b"")
    setup.model("llm/llama/x", "x.gguf", model_type="llm")
    (link,) = setup.work.plan("llamacpp", "b100").links
    assert link.target == f"{setup.layout.root}/llamacpp-versions/b100/models/x.gguf"
    assert setup.plan().links == []


# -- overrides -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "allowed"),
    [
        ({}, True),
        ({"version_ranges": None}, True),
        ({"version_ranges": {}}, True),
        ({"version_ranges": {"ollama": "<0.1"}}, True),
        ({"version_ranges": {"ComfyUI": ">=0.3,<0.4"}}, True),
        ({"version_ranges": {"comfyui": ">=0.4"}}, False),
        ({"version_ranges": {"comfyui": None}}, True),
        ({"version_ranges": {"comfyui": "*"}}, True),
        ({"version_ranges": {"comfyui": "newest"}}, False),
        ({"version_ranges": {"comfyui": 3}}, False),
        ({"version_ranges": [">=0.3"]}, False),
        ({"version_ranges": "x"}, False),
    ],
)
def test_overrides(overrides: dict[str, Any], allowed: bool) -> None:
    assert (excluded(overrides, "comfyui", "0.3.10") is None) is allowed


def test_a_version_that_is_no_number_has_no_restricted_models() -> None:
    assert excluded({"version_ranges": {"comfyui": ">=0.1"}}, "comfyui", "nightly")
    assert excluded({}, "comfyui", "nightly") is None
    assert excluded({"version_ranges": {"comfyui": ">=0.3"}}, "comfyui", "0.4rc1") is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"null"])
def test_damaged_overrides_fail_closed_and_say_so(setup: Setup, data: bytes) -> None:
    folder = setup.model(A, "a.safetensors")
    setup.model("diffusion/sdxl/b", "b.safetensors")
    setup.apply()
    write(folder / "overrides.json", data)
    plan = setup.plan()
    assert [link.model_id for link in plan.links] == ["diffusion/sdxl/b"]
    assert any("its overrides cannot be read" in text for text in plan.warnings)
    assert [one.link.model_id for one in plan.unwanted] == [A]
    assert setup.apply().removed == 0 and len(setup.tree()) == 2, "a damaged file takes no link away"


# -- models that cannot be read ----------------------------------------------------------------------------------------


def behind_itself(_setup: Setup, folder: Path, _patch: pytest.MonkeyPatch) -> None:
    """Nobody can look behind a link that leads to itself, root neither."""
    folder.rename(folder.with_name(".aside"))
    folder.symlink_to(folder.name)


def not_listed(_setup: Setup, folder: Path, patch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(path: Any = ".") -> Any:
        if str(path) == str(folder):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    patch.setattr(os, "scandir", scandir)


def without_metadata(_setup: Setup, folder: Path, _patch: pytest.MonkeyPatch) -> None:
    """The list of the files that it has in another program's store."""
    write(folder / "metadata.json", b"{")
    (folder / "metadata.json.bak").unlink(missing_ok=True)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("spoil", [behind_itself, not_listed, without_metadata])
def test_links_of_a_model_that_cannot_be_read_stay(
    setup: Setup,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Setup, Path, pytest.MonkeyPatch], None],
    deep: bool,
) -> None:
    blob = write(tmp_path / "hub/blob", b"bytes")
    facts = {"size": 5, "mtime_ns": 1, "store": str(tmp_path / "hub"), "mount": "/"}
    references = [{"name": "r.safetensors", "path": str(blob), **facts}]
    folder = setup.model(A, "a.safetensors", storage="reference", references=references)
    setup.model("diffusion/sdxl/b", "b.safetensors")
    if deep:
        rules(setup, {"target_subdir": "checkpoints", "patterns": ["**/*.safetensors"]})
    setup.apply()
    before = setup.tree()
    assert len(before) == 3
    with monkeypatch.context() as patch:
        spoil(setup, folder, patch)
        plan = setup.plan()
        assert (plan.broken, plan.unwanted, plan.changes) == ([], [], False)
        assert f"Left out: {A}: it cannot be read." in plan.warnings
        assert any("links are of models that cannot be read; they stay" in text for text in plan.warnings)
        health = setup.work.health(APP, TAG)
        assert (health.broken, health.orphaned) == ([], [])
        assert setup.work.remove_orphans(APP, TAG, []).removed == 0
        assert setup.apply().removed == 0
        assert set(setup.tree()) == set(before)
    assert len(setup.links()) == 3


def test_a_fifo_for_overrides_does_not_hang(setup: Setup) -> None:
    folder = setup.model(A, "a.safetensors")
    (folder / "overrides.json").unlink()
    os.mkfifo(folder / "overrides.json")
    assert setup.plan().links == []


# -- odd places ------------------------------------------------------------------------------------------------------


def test_a_folder_that_leads_out_of_the_app_gets_no_links(setup: Setup, tmp_path: Path) -> None:
    setup.model(A, "a.safetensors")
    (tmp_path / "outside").mkdir()
    setup.models.mkdir()
    (setup.models / "checkpoints").symlink_to(tmp_path / "outside")
    plan = setup.plan()
    assert plan.links == [] and any("leads out" in text for text in plan.warnings)
    setup.apply()
    assert os.listdir(tmp_path / "outside") == []


def test_a_models_folder_that_is_somebodys_link_is_not_touched(setup: Setup, tmp_path: Path) -> None:
    setup.model(A, "a.safetensors")
    (tmp_path / "outside").mkdir()
    setup.models.symlink_to(tmp_path / "outside")
    plan = setup.plan()
    assert (plan.links, len(plan.errors)) == ([], 1)
    assert setup.apply().errors and setup.models.is_symlink() and os.listdir(tmp_path / "outside") == []


@pytest.mark.parametrize("leads_to", ["outside", "gone", "root/mine"])
def test_a_models_folder_that_is_somebodys_link_is_given_up_where_that_is_said(
    setup: Setup, tmp_path: Path, leads_to: str
) -> None:
    setup.model(A, "a.safetensors")
    for name in ("outside", "root/mine"):
        write(tmp_path / name / "checkpoints/own.safetensors", b"theirs")
    setup.models.symlink_to(tmp_path / leads_to)
    assert str(tmp_path / leads_to) in setup.plan().errors[0]
    plan = setup.plan(replace_models_link=True)
    assert (len(plan.links), plan.errors, plan.foreign_link) == (1, [], str(tmp_path / leads_to))
    assert plan.id != setup.plan().id and setup.models.is_symlink()
    done = setup.apply(replace_models_link=True)
    assert (done.created, done.errors) == (1, [])
    assert not setup.models.is_symlink() and os.listdir(setup.models) == ["checkpoints"]
    assert os.readlink(done.kept[0]["backup_path"]) == str(tmp_path / leads_to)
    assert (tmp_path / "outside/checkpoints/own.safetensors").read_bytes() == b"theirs"
    assert os.listdir(tmp_path / "root/mine/checkpoints") == ["own.safetensors"]
    assert not setup.apply().created


def test_a_file_where_a_folder_should_be(setup: Setup) -> None:
    setup.model(A, "a.safetensors")
    write(setup.models / "checkpoints", b"theirs")
    assert setup.plan().links == []
    shutil.rmtree(setup.models)
    write(setup.models, b"theirs")
    assert len(setup.plan().errors) == 1


def test_names_that_cannot_be_stored_are_said(setup: Setup) -> None:
    folder = setup.model(A, "a.safetensors")
    write(folder / os.fsdecode(b"bad-\xff.safetensors"), b"x")
    write(folder / "con.safetensors", b"x")
    plan = setup.plan()
    assert {os.path.basename(link.target) for link in plan.links} == {"a.safetensors", "con_.safetensors"}
    assert any("no usable name" in text for text in plan.warnings)


def test_files_that_lie_in_another_programs_store(setup: Setup, tmp_path: Path) -> None:
    blob = write(tmp_path / "hub" / "blobs" / "ab", b"bytes")
    facts = {"size": 5, "mtime_ns": 1, "store": str(tmp_path / "hub"), "mount": "/"}
    references = [
        {"name": "r.safetensors", "path": str(blob), **facts},
        {"name": "gone.safetensors", "path": f"{blob}2", **facts},
    ]
    folder = setup.model(A, "own.safetensors", storage="reference", references=references)
    (folder / "own.safetensors").unlink()
    setup.index.reconcile()
    (link,) = setup.plan().links
    assert (link.source, link.text, os.path.basename(link.target)) == (str(blob), str(blob), "r.safetensors")
    setup.apply()
    assert (setup.models / "checkpoints/r.safetensors").read_bytes() == b"bytes"
    shutil.rmtree(tmp_path / "hub")
    plan = setup.plan()
    assert (plan.links, plan.broken, plan.unwanted) == ([], [], [])
    assert any("away" in text for text in plan.warnings)


@pytest.mark.parametrize("mount_point_stays", [True, False])
def test_a_library_that_is_away_is_no_empty_library(setup: Setup, mount_point_stays: bool) -> None:
    setup.model(A, "a.safetensors")
    setup.apply()
    setup.index.reconcile()
    away = Path(f"{setup.library}.away")
    os.rename(setup.library, away)
    if mount_point_stays:
        setup.library.mkdir()
    with pytest.raises(LibraryOffline):
        setup.plan()
    health = setup.work.health(APP, None)
    assert (health.broken, health.status) == ([], "warnings")
    assert setup.work.clean_broken() == 0
    if setup.library.exists():
        shutil.rmtree(setup.library)
    os.rename(away, setup.library)
    assert (setup.apply().created, len(setup.links())) == (0, 1)


# -- the plan's id ---------------------------------------------------------------------------------------------------


def test_the_id_says_whether_the_world_has_moved_on(setup: Setup) -> None:
    folder = setup.model(A, "a.safetensors")
    conflict = write(setup.models / "checkpoints/b.safetensors", b"theirs")
    setup.model("diffusion/sdxl/b", "b.safetensors")
    first = setup.plan().id
    assert setup.plan().id == first
    seen = {first}

    def changed() -> bool:
        one = setup.plan().id
        return one not in seen and not seen.add(one)

    conflict.write_bytes(b"theirs, changed")
    assert changed()
    write(setup.models / "checkpoints/a.safetensors", b"theirs")
    assert changed()
    setup.model("diffusion/sdxl/c", "c.safetensors")
    assert changed()
    (folder / "a.safetensors").unlink()
    assert changed()


# -- volumes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ability", "kind", "action"),
    [
        (Ability(), "symlink", Action.CREATE),
        (Ability(symlinks=False), "hardlink", Action.CREATE),
        (Ability(symlinks=False, hardlinks=False), "copy", Action.COPY),
    ],
)
def test_what_a_volume_can_do(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, ability: Ability, kind: str, action: Action
) -> None:
    def known(_volumes: Volumes, _device: int) -> Ability:
        return ability

    monkeypatch.setattr(Volumes, "ability", known)
    setup.model(A, "a.safetensors")
    plan = setup.plan()
    (link,) = plan.links
    assert (link.kind, link.action) == (kind, action)
    if action is Action.COPY:
        assert link.size == os.stat(link.source).st_size
        assert any(f"({link.size} bytes)" in text for text in plan.warnings)
        assert [link.action for link in setup.plan(allow_copy=True).links] == [Action.CREATE]
