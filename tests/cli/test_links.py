"""`pumas links` over a real sidecar: plan, apply, health, list."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import sidecar as running
from library.model_disk import make_model, safetensors, write
from links.setup import version
from pumas.cli import exits
from sidecar import Sidecar

from .conftest import Run

ID = "diffusion/sdxl/Lantern"
TAG = "v0.3.10"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sidecar]:
    root = tmp_path / "root"
    make_model(root / "shared-resources/models", ID, {"lantern.safetensors": safetensors()}, subtype="checkpoints")
    version(root, TAG)
    one = running.start(root)
    yield one
    one.close()


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def place(server: Sidecar) -> Path:
    return server.root / "comfyui-versions" / TAG / "models/checkpoints/lantern.safetensors"


def test_a_models_folder_that_is_a_link_is_kept_aside_when_that_is_said(
    pumas: Run, server: Sidecar, tmp_path: Path
) -> None:
    models, theirs = place(server).parent.parent, tmp_path / "theirs"
    theirs.mkdir()
    models.symlink_to(theirs)
    shown = pumas("links", "plan", TAG, root=server.root)
    assert (shown.status, shown.out) == (exits.FAILED, "")
    assert f"is a link to {theirs}" in shown.err and f"pumas links apply {TAG} --replace-link" in shown.err
    assert pumas("links", "apply", TAG, root=server.root).status == exits.FAILED
    shown = pumas("links", "plan", TAG, "--replace-link", root=server.root)
    words = shown.err.rsplit("pumas ", 1)[1].split()
    assert words[:4] == ["links", "apply", TAG, "--replace-link"]
    assert pumas(*words, root=server.root).status == exits.OK
    assert place(server).is_symlink() and not models.is_symlink()


def test_plan_apply_and_look_after(pumas: Run, server: Sidecar) -> None:
    link = place(server)
    shown = pumas("links", "plan", TAG, root=server.root)
    assert (shown.status, rows(shown.out)) == (exits.OK, [["make", ID, str(link), "New"]])
    plan = shown.err.rsplit("--plan ", 1)[1].strip()
    assert not os.path.lexists(link)
    stale = pumas("links", "apply", TAG, "--plan", "plan-0", root=server.root)
    assert (stale.status, os.path.lexists(link)) == (exits.FAILED, False) and "has changed" in stale.err
    done = pumas("links", "apply", TAG, "--plan", plan, root=server.root)
    assert (done.status, dict(rows(done.out))) == (
        exits.OK,
        {"made": "1", "removed": "0", "in place": "1", "in conflict": "0"},
    )
    assert link.is_symlink() and link.exists()
    again = pumas("links", "apply", "--all", root=server.root)
    assert rows(again.out) == [[TAG, "1"]]
    ((model, app, version, kind, target, _since),) = rows(pumas("links", "list", root=server.root).out)
    assert (model, app, version, kind, target) == (ID, "comfyui", "0.3.10", "symlink", str(link))
    assert len(pumas("links", "list", ID, "--json", root=server.root).json["links"]) == 1
    assert pumas("links", "list", "--app", "ollama", root=server.root).out == ""
    well = pumas("links", "health", TAG, root=server.root)
    assert (well.status, rows(well.out)[0]) == (exits.OK, ["status", "healthy"])
    link.unlink()
    broken = pumas("links", "health", root=server.root)
    assert (broken.status, rows(broken.out)[-1]) == (exits.FAILED, ["broken", str(link), "The link is gone"])
    cleaned = pumas("links", "health", TAG, "--clean", "--remove-orphans", root=server.root)
    assert cleaned.status == exits.OK and "1 broken link removed." in cleaned.err


@pytest.mark.parametrize("word", ["--overwrite", "--rename"])
def test_what_is_in_the_way_is_kept(pumas: Run, server: Sidecar, word: str) -> None:
    link = write(place(server), b"theirs")
    shown = pumas("links", "plan", TAG, root=server.root)
    assert rows(shown.out) == [["conflict", ID, str(link), "Non-symlink file exists"]] and "--rename" in shown.err
    assert dict(rows(pumas("links", "apply", TAG, root=server.root).out))["in conflict"] == "1"
    assert link.read_bytes() == b"theirs"
    assert f"pumas links apply {TAG} --rename MODEL" in shown.err
    other = pumas("links", "apply", TAG, word, "a/b/c", root=server.root)
    assert (other.err, link.read_bytes()) == ("Nothing is in the way of a/b/c.\n", b"theirs")
    done = pumas("links", "apply", TAG, word, ID, root=server.root)
    kept = dict(rows(done.out))["kept"]
    assert (done.status, link.is_symlink(), Path(kept).read_bytes()) == (exits.OK, True, b"theirs")
    assert ["kept aside", kept, ""] in rows(pumas("links", "health", root=server.root).out)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("plan", "v9"), exits.FAILED, "not installed"),
        (("plan", TAG, "--app", "paint"), exits.FAILED, "no app"),
        (("apply", "--all", TAG), exits.USAGE, "--all"),
        (("apply", TAG, "--rename", "x", "--overwrite", "x"), exits.USAGE, "choose one"),
        (("health", "--remove-orphans"), exits.USAGE, "TAG"),
        (("health", "../x"), exits.FAILED, "version_tag"),
    ],
)
def test_what_cannot_be_done(pumas: Run, server: Sidecar, words: tuple[str, ...], status: int, said: str) -> None:
    done = pumas("links", *words, root=server.root)
    assert (done.status, done.out) == (status, "")
    assert said in done.err


@pytest.mark.parametrize("words", [("links", "plan"), ("links", "apply"), ("nodes", "list"), ("nodes", "trash")])
def test_without_an_app_it_says_what_installs_one(pumas: Run, shared: Sidecar, words: tuple[str, ...]) -> None:
    done = pumas(*words, root=shared.root)
    assert (done.status, done.out) == (exits.USAGE, "")
    assert done.err == "pumas: no version of comfyui is installed: pumas install comfyui installs one.\n"
