"""`pumas nodes` over a real sidecar and a git server: install, update, remove, and the way back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import sidecar as running
from fixtures.git import GitServer
from library.model_disk import write
from pumas.cli import exits
from pumas.nodes.git import HTTP_VARIABLE
from sidecar import Sidecar

from .conftest import Run
from .terminal import Terminal

TAG, OTHER = "v0.3.10", "v0.4.0"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "server") as one:
        yield one


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    root = tmp_path / "root"
    for tag in (TAG, OTHER):
        for name in ("main.py", "venv/bin/python"):
            write(root / "comfyui-versions" / tag / name, b"")
    listed = {"installed": {tag: {"path": f"comfyui-versions/{tag}"} for tag in (TAG, OTHER)}, "defaultVersion": TAG}
    write(root / "launcher-data/metadata/versions.json", json.dumps(listed).encode())
    one = running.start(root, env={HTTP_VARIABLE: "loopback"})
    yield one
    one.close()


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_installed_updated_removed_and_back(pumas: Run, server: GitServer, sidecar: Sidecar) -> None:
    root, url = sidecar.root, f"{server.url}/sunny.git"
    first = server.commit("sunny", {"a.py": "1"})
    assert "pumas nodes install" in pumas("nodes", "list", root=root).err
    done = pumas("nodes", "install", url, root=root)
    assert (done.status, done.out) == (exits.OK, f"sunny is installed at {first[:12]}.\n")
    assert pumas("nodes", "update", "sunny", root=root).out == f"sunny is at its newest commit {first[:12]}.\n"
    second = server.commit("sunny", {"a.py": "2"})
    assert pumas("nodes", "update", "sunny", root=root).out == f"sunny is at {second[:12]} now.\n"
    ((name, commit, _since, origin),) = rows(pumas("nodes", "list", root=root).out)
    assert (name, commit, origin) == ("sunny", second[:12], url)
    pinned = pumas("nodes", "install", url, "--ref", first, "--name", "old", "--tag", OTHER, "--json", root=root)
    assert (pinned.json["name"], pinned.json["commit"], pinned.json["pending"]) == ("old", first, False)
    server.publish("sunny", "refs/tags/v1.0", first)
    done = pumas("nodes", "install", url, "--ref", "v1.0", "--name", "tagged", "--tag", OTHER, root=root)
    assert (done.status, done.out) == (exits.OK, f"tagged is installed at {first[:12]}.\n")
    assert pumas("nodes", "list", "--tag", OTHER, "--json", root=root).json["nodes"] == ["old", "tagged"]
    removed = pumas("nodes", "remove", "sunny", root=root)
    trash_id = removed.out.split("restore ")[1].split()[0]
    assert rows(pumas("nodes", "trash", "list", root=root).out)[0][:3] == [trash_id, "sunny", second[:12]]
    assert pumas("nodes", "trash", "restore", trash_id, root=root).out == "sunny is back.\n"
    assert pumas("nodes", "list", "--json", root=root).json["details"][0]["commit"] == second
    trash_id = pumas("nodes", "remove", "sunny", "--json", root=root).json["trash_id"]
    assert pumas("nodes", "trash", "purge", trash_id, root=root).status == exits.OK
    assert "empty" in pumas("nodes", "trash", "list", root=root).err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("install", "ext::sh -c id"), "must be https"),
        (("install", "https://host/a/b", "--ref", "a..b"), "a branch, a tag or a commit id"),
        (("install", "https://host/a/b", "--tag", "v9"), "not installed"),
        (("update", "nothing"), "no custom node"),
        (("remove", "../x"), "must be the name of one folder"),
        (("trash", "restore", "x-01234567"), "No entry"),
        (("trash", "purge", "../x"), "No entry"),
    ],
)
def test_what_cannot_be_done_is_one_line(sidecar: Sidecar, pumas: Run, words: tuple[str, ...], says: str) -> None:
    done = pumas("nodes", *words, root=sidecar.root)
    assert (done.status, done.out) == (exits.FAILED, "")
    assert says in done.err
    assert len(done.err.splitlines()) == 1


def test_a_slow_clone_can_be_cancelled_at_the_terminal(server: GitServer, sidecar: Sidecar) -> None:
    server.commit("sunny", {"a.py": "1"})
    server.stalled.set()
    terminal = Terminal("nodes", "install", f"{server.url}/sunny.git", "--root", str(sidecar.root))
    terminal.expect("git sunny")
    terminal.ctrl_c()
    terminal.expect("[c]ancel")
    terminal.type("c\n")
    terminal.expect("Cancelled")
    assert terminal.end() == exits.INTERRUPTED
    assert sidecar.result("get_custom_nodes", {"version_tag": TAG})["nodes"] == []
