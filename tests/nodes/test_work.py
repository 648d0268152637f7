"""Custom nodes on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.git import GitServer
from pumas.errors import (
    AlreadyExists,
    DependencyFailed,
    GitFailed,
    InvalidInput,
    LocalChanges,
    NodeNotFound,
    NotOurCheckout,
    UnsafePath,
)
from pumas.nodes.work import RECORD, STAGING, TRASH, Nodes, check_name, name_of


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
    trash = nodes.remove("sunny")
    assert (trash / "a.py").read_text() == "2"
    assert trash.parent == folder / TRASH
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
    assert nodes.remove("linked").is_symlink()
    assert (tmp_path / "outside/kept").exists()
    for name in ("nothing", "file.py"):
        with pytest.raises(NodeNotFound):
            nodes.remove(name)


def test_a_folder_of_nodes_that_leads_out_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "custom_nodes").symlink_to(tmp_path)
    with pytest.raises(UnsafePath):
        Nodes(folder, "v0.3.10", "custom_nodes")


def test_keys_of_others_stay_in_the_record(server: GitServer, nodes: Nodes, folder: Path) -> None:
    (folder / RECORD).write_text('{"note": 1, "nodes": {"gone": {"url": "x"}}}')
    server.commit("sunny", {"a.py": "1"})
    nodes.install(f"{server.url}/sunny.git", "sunny", None, None)
    nodes.remove("sunny")
    assert (folder / RECORD).read_text().replace(" ", "").replace("\n", "") == '{"note":1,"nodes":{"gone":{"url":"x"}}}'
