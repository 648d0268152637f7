"""`pumas adopt` over real stores and a real sidecar: see, take in without a copy, list, give back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import sidecar as running
from adoption.adopting_setup import snapshot
from adoption.stores import environment, gguf, hf_file, ollama_model, write
from pumas.cli import exits
from sidecar import Sidecar

from .conftest import Run

ROCKET = "registry.ollama.ai/library/rocket/latest"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sidecar]:
    home = tmp_path / "home"
    ollama_model(home / ".ollama" / "models", ROCKET, gguf(1))
    hf_file(home / ".cache" / "huggingface" / "hub", "acme/Rocket", "rocket.gguf", gguf(1))
    (tmp_path / "root").mkdir()
    one = running.start(tmp_path / "root", env=environment(home))
    yield one
    one.close()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar on a machine without any store."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "root").mkdir()
    one = running.start(folder / "root", env=environment(folder / "home"))
    yield one
    one.close()


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_see_take_list_and_give_back(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    before = snapshot(tmp_path / "home")
    shown = pumas("adopt", root=server.root)
    assert shown.status == exits.OK
    hub, ollama = rows(shown.out)
    assert (hub[1:5], ollama[1:5]) == (
        ["huggingface", "acme/Rocket", "gguf", "4.0 KiB"],
        ["ollama", "rocket:latest", "gguf", "4.0 KiB"],
    )
    assert "Sharing the duplicates would free 4.0 KiB." in shown.err
    tried = pumas("adopt", ollama[0], "--dry-run", root=server.root)
    assert rows(tried.out) == [["would be adopted", "rocket:latest", "hardlink", "llm/llama/rocket", ""]]
    taken = pumas("adopt", ollama[0], root=server.root)
    assert (taken.status, rows(taken.out)) == (
        exits.OK,
        [["adopted", "rocket:latest", "hardlink", "llm/llama/rocket", ""]],
    )
    assert "4.0 KiB need no space of their own." in taken.err
    twice = pumas("adopt", hub[0], root=server.root)
    assert (twice.status, rows(twice.out)[0][:4]) == (
        exits.FAILED,
        ["duplicate", "acme/Rocket", "", "llm/llama/rocket"],
    )
    (listed,) = rows(pumas("adopt", "--list", root=server.root).out)
    assert listed[1:5] == ["llm/llama/rocket", "hardlink", "ok", "4.0 KiB"]
    assert rows(pumas("adopt", "--undo", listed[0], "--dry-run", root=server.root).out) == [
        ["would be taken back", "llm/llama/rocket"]
    ]
    assert rows(pumas("adopt", "--undo", listed[0], root=server.root).out) == [["taken back", "llm/llama/rocket"]]
    assert "Nothing was adopted yet." in pumas("adopt", "--list", root=server.root).err
    assert snapshot(tmp_path / "home") == before


def test_a_name_in_the_store_will_do(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    tried = pumas("adopt", "rocket:latest", "--dry-run", root=server.root)
    assert rows(tried.out) == [["would be adopted", "rocket:latest", "hardlink", "llm/llama/rocket", ""]]
    hf_file(tmp_path / "home/.cache/huggingface/hub", "acme/Rocket", "rocket.gguf", gguf(2), commit="b" * 40)
    unclear = pumas("adopt", "acme/Rocket", "--dry-run", root=server.root)
    ids = [row[0] for row in rows(pumas("adopt", root=server.root).out) if row[2] == "acme/Rocket"]
    assert (unclear.status, len(ids)) == (exits.USAGE, 2)
    assert all(one in unclear.err for one in ids)
    unknown = pumas("adopt", "rocket:8b", root=server.root)
    assert (unknown.status, "No store holds 'rocket:8b'" in unknown.err) == (exits.FAILED, True)


def test_folders_that_the_user_names(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    write(tmp_path / "more" / "acme" / "X" / "x.Q4_K_M.gguf", gguf(7))
    os.mkfifo(tmp_path / "more" / "pipe.gguf")
    shown = pumas("adopt", "--in", str(tmp_path / "more"), "--only", root=server.root)
    ((stored, kind, name, quantization, _size, here),) = rows(shown.out)
    assert (kind, name, quantization, here) == ("folder", "acme/X/x.Q4_K_M", "q4_k_m", "")
    assert "pipe.gguf: It is no regular file" in shown.err
    words = ("adopt", stored, "--in", str(tmp_path / "more"), "--only", "--mode", "reference", "--json")
    done = pumas(*words, root=server.root)
    assert (done.json["adopted"], done.json["results"][0]["mode"]) == (1, "reference")
    found = pumas("adopt", "--undo", done.json["results"][0]["model_id"], "--json", root=server.root)
    assert found.json["kept_in_store"] == [str(tmp_path / "more" / "acme" / "X" / "x.Q4_K_M.gguf")]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("x", "--undo", "y"), exits.USAGE, "choose one"),
        (("--list", "--undo", "y"), exits.USAGE, "choose one"),
        (("--only",), exits.USAGE, "--in DIR"),
        (("--mode", "copy", "x"), exits.USAGE, "copy"),
        (("ollama-0000",), exits.FAILED, "No store holds"),
        (("--undo", "adoption-0"), exits.FAILED, "was not adopted"),
        (("--undo", "llm/x/y"), exits.FAILED, "No model"),
        (("--in", "/no/such/folder"), exits.FAILED, "is no folder"),
    ],
)
def test_what_cannot_be_done(pumas: Run, empty: Sidecar, words: tuple[str, ...], status: int, said: str) -> None:
    done = pumas("adopt", *words, root=empty.root)
    assert (done.status, done.out) == (status, "")
    assert said in done.err


def test_a_machine_without_stores(pumas: Run, empty: Sidecar) -> None:
    done = pumas("adopt", root=empty.root)
    assert (done.status, done.out) == (exits.OK, "")
    assert "pumas adopt --in DIR" in done.err
