"""Custom nodes on disk."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from fixtures.git import GitServer, run_git
from pumas.errors import (
    AlreadyExists,
    DependencyFailed,
    DiskError,
    GitFailed,
    InvalidInput,
    LocalChanges,
    NodeNotFound,
    NotOurCheckout,
    TrashEntryNotFound,
    UnsafePath,
)
from pumas.nodes import work
from pumas.nodes.git import Git
from pumas.nodes.record import NAME as RECORD
from pumas.nodes.record import Record
from pumas.nodes.work import STAGING, TRASH, Nodes, check_name, name_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "v0.3.10"
    folder.mkdir()
    return folder


@pytest.fixture
def nodes(folder: Path) -> Nodes:
    return Nodes(folder, "v0.3.10", "custom_nodes")


def names(nodes: Nodes) -> list[str]:
    return [node.name for node in nodes.list()]


@pytest.mark.parametrize("name", ["a", "ComfyUI-Manager", "x_1.2"])
def test_names(name: str) -> None:
    assert check_name(name) == name
    assert name_of(f"https://host/owner/{name}.git") == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".x", "-x", "_x", "a/b", "a\\b", "a b", "a\n", "con", "a.", "ä", "a" * 101]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        check_name(name)


def test_folders_that_cannot_be_read_are_not_empty(nodes: Nodes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert nodes.list() == [] and nodes.removed() == [], "there are none yet"
    (folder / "custom_nodes/mine").mkdir(parents=True)

    def refuses(_path: object) -> list[str]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(work.os, "scandir", refuses)
    monkeypatch.setattr(work.os, "listdir", refuses)
    for look in (nodes.list, nodes.removed):
        with pytest.raises(DiskError):
            look()


def test_installed_updated_removed(server: GitServer, nodes: Nodes, folder: Path) -> None:
    first = server.commit("sunny", {"a.py": "1"})
    url = f"{server.url}/sunny.git"
    node = nodes.install(url, "sunny", None, None)
    assert (node.url, node.commit, node.is_checkout, node.has_requirements) == (url, first, True, False)
    assert nodes.update("sunny", None) == (first, first)
    second = server.commit("sunny", {"a.py": "2", "requirements.txt": ""})
    assert nodes.update("sunny", None) == (first, second)
    (node,) = nodes.list()
    assert (node.commit, node.has_requirements) == (second, True)
    trash_id = nodes.remove("sunny")
    assert (folder / TRASH / trash_id / "a.py").read_text() == "2"
    assert names(nodes) == []
    assert not (folder / STAGING).exists()


def test_a_node_that_exists_stays(server: GitServer, nodes: Nodes, folder: Path) -> None:
    (folder / "custom_nodes/sunny").mkdir(parents=True)
    (folder / "custom_nodes/sunny/mine").touch()
    server.commit("sunny", {"a.py": "1"})
    with pytest.raises(AlreadyExists):
        nodes.install(f"{server.url}/sunny.git", "sunny", None, None)
    assert (folder / "custom_nodes/sunny/mine").exists()


def test_a_failed_install_leaves_nothing(server: GitServer, nodes: Nodes, folder: Path) -> None:
    server.commit("sunny", {"requirements.txt": "x"})

    def fail(_requirements: Path) -> None:
        raise DependencyFailed("dependencies", "no")

    with pytest.raises(DependencyFailed):
        nodes.install(f"{server.url}/sunny.git", "sunny", None, fail)
    with pytest.raises(GitFailed):
        nodes.install(f"{server.url}/nothing.git", "sunny", None, None)
    assert list(folder.iterdir()) == []


def test_the_branch_that_was_chosen_is_followed(server: GitServer, nodes: Nodes) -> None:
    first = server.commit("sunny", {"a.py": "1"})
    server.publish("sunny", "refs/heads/dev")
    assert nodes.install(f"{server.url}/sunny.git", "sunny", "dev", None).commit == first
    second = server.commit("sunny", {"a.py": "2"})
    assert nodes.update("sunny", None) == (first, first), "not the main branch"
    server.publish("sunny", "refs/heads/dev")
    assert nodes.update("sunny", None) == (first, second)


def test_what_was_installed_by_a_tag_goes_forward_with_the_main_branch(server: GitServer, nodes: Nodes) -> None:
    first = server.commit("sunny", {"a.py": "1"})
    server.publish("sunny", "refs/tags/v1.0")
    second = server.commit("sunny", {"a.py": "2"})
    assert nodes.install(f"{server.url}/sunny.git", "sunny", "v1.0", None).commit == first
    assert nodes.update("sunny", None) == (first, second)


def test_requirements_only_on_request(server: GitServer, nodes: Nodes) -> None:
    server.commit("sunny", {"requirements.txt": "x"})
    seen: list[str] = []

    def install(requirements: Path) -> None:
        seen.append(requirements.read_text())

    nodes.install(f"{server.url}/sunny.git", "one", None, None)
    assert seen == []
    nodes.install(f"{server.url}/sunny.git", "two", None, install)
    nodes.update("one", install)
    assert seen == ["x", "x"]


def test_own_changes_are_never_lost(server: GitServer, nodes: Nodes, folder: Path) -> None:
    server.commit("sunny", {"a.py": "1"})
    nodes.install(f"{server.url}/sunny.git", "sunny", None, None)
    mine = folder / "custom_nodes/sunny/a.py"
    mine.write_text("mine")
    server.commit("sunny", {"a.py": "2"})
    with pytest.raises(LocalChanges):
        nodes.update("sunny", None)
    assert mine.read_text() == "mine"


def test_what_is_no_checkout(nodes: Nodes, folder: Path, tmp_path: Path) -> None:
    place = folder / "custom_nodes"
    (place / "plain").mkdir(parents=True)
    (place / "elsewhere").mkdir()
    (place / "elsewhere/.git").write_text("gitdir: /etc")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").touch()
    (place / "linked").symlink_to(tmp_path / "outside")
    (place / ".hidden").mkdir()
    (place / "__pycache__").mkdir()
    (place / "file.py").touch()
    assert names(nodes) == ["elsewhere", "linked", "plain"]
    for name in ("plain", "elsewhere", "linked"):
        with pytest.raises(NotOurCheckout):
            nodes.update(name, None)
    assert (folder / TRASH / nodes.remove("linked")).is_symlink()
    assert (tmp_path / "outside/kept").exists()
    for name in ("nothing", "file.py"):
        with pytest.raises(NodeNotFound):
            nodes.remove(name)


def test_a_folder_of_nodes_that_leads_out_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "custom_nodes").symlink_to(tmp_path)
    with pytest.raises(UnsafePath):
        Nodes(folder, "v0.3.10", "custom_nodes")


def test_keys_of_others_stay_in_the_record(server: GitServer, nodes: Nodes, folder: Path) -> None:
    theirs = {"note": 1, "nodes": {"gone": {"url": "x"}}}
    (folder / RECORD).write_text(json.dumps(theirs))
    server.commit("sunny", {"a.py": "1"})
    nodes.install(f"{server.url}/sunny.git", "sunny", None, None)
    nodes.purge(nodes.remove("sunny"))
    nodes.tidy()
    assert json.loads((folder / RECORD).read_text()) == theirs | {"trash": {}}


@pytest.mark.parametrize("name", ["my nodes", "Knoten (alt)", "節点", "_mine", "a" * 150])
def test_what_others_named_as_they_like_is_updated_removed_and_restored(
    server: GitServer, nodes: Nodes, folder: Path, name: str
) -> None:
    server.commit("sunny", {"a.py": "1"})
    (folder / "custom_nodes").mkdir()
    run_git(folder / "custom_nodes", "clone", "-q", f"{server.url}/sunny.git", name)
    assert names(nodes) == [name]
    second = server.commit("sunny", {"a.py": "2"})
    assert nodes.update(name, None)[1] == second
    trash_id = nodes.remove(name)
    (removed,) = nodes.removed()
    assert (removed.name, removed.commit) == (name, second)
    assert nodes.restore(trash_id) == name
    assert (folder / "custom_nodes" / name / "a.py").read_text() == "2"
    assert nodes.list()[0].commit == second


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "__pycache__", "a/b", "../outside", "a\nb", "/etc", " a"])
def test_no_name_leads_out_of_the_folder_of_nodes(nodes: Nodes, folder: Path, name: str) -> None:
    (folder / "custom_nodes/mine").mkdir(parents=True)
    (folder / "custom_nodes/.hidden").mkdir()
    (folder / "custom_nodes/__pycache__").mkdir()
    (folder / "outside").mkdir()
    for act in (lambda: nodes.update(name, None), lambda: nodes.remove(name)):
        with pytest.raises(InvalidInput):
            act()
    assert names(nodes) == ["mine"] and (folder / "outside").is_dir()


# -- the trash -------------------------------------------------------------------------------------------------------


def test_a_removed_node_comes_back_as_it_was(server: GitServer, nodes: Nodes, folder: Path) -> None:
    commit = server.commit("sunny", {"a.py": "1"})
    before = nodes.install(f"{server.url}/sunny.git", "sunny", None, None)
    first = nodes.remove("sunny")
    (one,) = nodes.removed()
    assert (one.trash_id, one.name, one.url, one.commit) == (first, "sunny", before.url, commit)
    assert one.removed_at
    nodes.install(f"{server.url}/sunny.git", "sunny", None, None)
    with pytest.raises(AlreadyExists):
        nodes.restore(first)
    second = nodes.remove("sunny")
    assert {one.trash_id for one in nodes.removed()} == {first, second}
    assert nodes.restore(first) == "sunny"
    assert nodes.list() == [before]
    nodes.purge(second)
    assert nodes.removed() == []
    assert not (folder / STAGING).exists()


def test_what_nobody_recorded_can_be_restored_and_purged(nodes: Nodes, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").touch()
    (folder / TRASH / "old-01234567").mkdir(parents=True)
    (folder / TRASH / "linked-01234567").symlink_to(tmp_path / "outside")
    for name in ("odd", "..", "x-zz234567"):
        (folder / TRASH / name).mkdir(exist_ok=True)
    assert [one.name for one in nodes.removed()] == ["old", "linked"]
    assert nodes.restore("old-01234567") == "old"
    nodes.purge("linked-01234567")
    assert (tmp_path / "outside/kept").exists()
    assert nodes.removed() == []


@pytest.mark.parametrize("trash_id", ["", ".", "..", "../custom_nodes", "a/b-01234567", "odd", "no-01234567"])
def test_only_what_lies_in_the_trash_is_restored_or_purged(nodes: Nodes, folder: Path, trash_id: str) -> None:
    (folder / TRASH / "odd").mkdir(parents=True)
    for act in (nodes.restore, nodes.purge):
        with pytest.raises(TrashEntryNotFound):
            act(trash_id)
    assert (folder / TRASH / "odd").exists()


# -- failures and kills ----------------------------------------------------------------------------------------------


def test_an_update_whose_requirements_fail_is_taken_back(server: GitServer, nodes: Nodes, folder: Path) -> None:
    first = server.commit("sunny", {"a.py": "1", "old.py": ""})
    nodes.install(f"{server.url}/sunny.git", "sunny", None, None)
    before = nodes.list()
    server.commit("sunny", {"a.py": "2", "old.py": None, "new.py": "", "requirements.txt": "x"})

    def fail(_requirements: Path) -> None:
        raise DependencyFailed("dependencies", "no")

    with pytest.raises(DependencyFailed):
        nodes.update("sunny", fail)
    place = folder / "custom_nodes/sunny"
    assert nodes.list() == before
    assert {path.name for path in place.iterdir()} == {".git", "a.py", "old.py"}
    assert (place / "a.py").read_text() == "1"
    assert nodes.update("sunny", None)[0] == first


def test_the_same_job_goes_on_and_another_does_not(server: GitServer, nodes: Nodes) -> None:
    server.commit("sunny", {"a.py": "1"})
    url = f"{server.url}/sunny.git"
    node = nodes.install(url, "sunny", None, None, "job-1")
    assert nodes.install(url, "sunny", None, None, "job-1") == node
    with pytest.raises(AlreadyExists):
        nodes.install(url, "sunny", None, None, "job-2")


def forward(server: GitServer, nodes: Nodes, folder: Path) -> Path:
    """A node that is to go forward, as it was recorded before its files change."""
    before = server.commit("sunny", {"a.py": "1", "b.py": "1", "gone.py": "1"})
    nodes.install(f"{server.url}/sunny.git", "sunny", None, None)
    after = server.commit("sunny", {"a.py": "2", "b.py": "2", "gone.py": None, "deep/new.py": "2"})
    place = folder / "custom_nodes/sunny"
    Git().fetch(place, f"{server.url}/sunny.git", "main")
    record = Record(folder)
    record.note("sunny", record.read().nodes["sunny"] | {"updating": {"before": before, "after": after}})
    return place


FIRST = {"a.py": "1", "b.py": "1", "gone.py": "1"}


def files(place: Path) -> dict[str, str]:
    found = (path for path in place.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(place)): path.read_text() for path in found}


def test_a_step_forward_that_was_cut_off_is_taken_back(server: GitServer, nodes: Nodes, folder: Path) -> None:
    place = forward(server, nodes, folder)
    # git writes the files, then its index, then its branch.
    (place / "a.py").write_text("2")
    (place / "b.py").write_text("")  # and was at this one
    (place / "gone.py").unlink()
    (place / "deep").mkdir()
    (place / "deep/new.py").write_text("2")
    for lock in ("index.lock", "HEAD.lock", "refs/heads/main.lock"):
        (place / ".git" / lock).touch()
    (place / "made by the app").write_text("x")
    nodes.tidy()
    assert files(place) == FIRST | {"made by the app": "x"}
    assert nodes.update("sunny", None)[1] == Git().head(place)
    assert files(place)["deep/new.py"] == "2"
    assert "updating" not in Record(folder).read().nodes["sunny"]


def test_a_step_forward_that_was_finished_is_taken_back_too(server: GitServer, nodes: Nodes, folder: Path) -> None:
    place = forward(server, nodes, folder)
    Git().forward(place, Record(folder).read().nodes["sunny"]["updating"]["after"])
    nodes.tidy()
    assert files(place) == FIRST
    assert Git().head(place) == nodes.list()[0].commit


def test_what_somebody_changed_meanwhile_is_kept(server: GitServer, nodes: Nodes, folder: Path) -> None:
    place = forward(server, nodes, folder)
    (place / "a.py").write_text("mine")
    nodes.tidy()
    assert files(place) == FIRST
    kept = Record(folder).read().nodes["sunny"]["kept_changes"]
    assert run_git(place, "show", f"{kept}:a.py") == "mine"


def test_a_record_that_was_written_before_a_kill_is_set_right(server: GitServer, nodes: Nodes, folder: Path) -> None:
    server.commit("sunny", {"a.py": "1"})
    nodes.install(f"{server.url}/sunny.git", "sunny", None, None)
    before, record = nodes.list(), Record(folder)
    known = record.read()
    # Removing was noted, and nothing was moved; installing too; and somebody's clone was not thrown away.
    known.trash["sunny-01234567"] = {"name": "sunny", "removed_at": "x", "node": known.nodes.pop("sunny")}
    known.trash["../../x-01234567"] = {"name": "../x", "node": {"url": "x"}}
    known.nodes["half"] = {"url": "x", "commit": "x", "installed_at": "x", "job_id": "x"}
    known.nodes["../half"] = {"url": "x", "installed_at": "x", "updating": {}}
    record.save(known)
    (folder / STAGING / "0123").mkdir(parents=True)
    nodes.tidy()
    assert (nodes.list(), nodes.removed(), record.read().trash.keys()) == (before, [], {"../../x-01234567"})
    assert record.read().nodes.keys() == {"sunny"}
    assert not (folder / STAGING).exists()


def test_a_place_that_is_taken_at_the_last_moment_stays_taken(
    server: GitServer, nodes: Nodes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.commit("sunny", {"a.py": "1"})
    real = work.rename_new

    def taken(source: Path, target: Path) -> None:
        target.mkdir()
        real(source, target)

    monkeypatch.setattr(work, "rename_new", taken)
    with pytest.raises(AlreadyExists):
        nodes.install(f"{server.url}/sunny.git", "sunny", None, None)
    (node,) = nodes.list()
    assert (node.url, node.is_checkout) == (None, False)


def test_a_removal_that_the_disk_refuses_leaves_all_as_it_was(
    server: GitServer, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.commit("sunny", {"a.py": "1"})
    nodes.install(f"{server.url}/sunny.git", "sunny", None, None)
    before = nodes.list()

    def refuse(_source: Path, _target: Path) -> None:
        raise OSError(5, "no")

    monkeypatch.setattr(work, "rename_new", refuse)
    with pytest.raises(DiskError):
        nodes.remove("sunny")
    assert (nodes.list(), nodes.removed()) == (before, [])
