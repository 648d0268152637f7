"""`pumas hf` over a real sidecar and a hub on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import sidecar as running
from fixtures.hub import Hub, Status
from fixtures.hub import repositories as R
from pumas.cli import exits
from sidecar import Sidecar

from .conftest import Run


@pytest.fixture(scope="module")
def one_hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def one_server(one_hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    folder = tmp_path_factory.mktemp("hf")
    (folder / "root").mkdir()
    sidecar = running.start(folder / "root", env=one_hub.env(home=folder / "home"))
    yield sidecar
    sidecar.close()


@pytest.fixture
def hub(one_hub: Hub) -> Hub:
    one_hub.reset()
    return one_hub


@pytest.fixture
def root(one_server: Sidecar, hub: Hub) -> Path:
    return one_server.root


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_a_search(pumas: Run, root: Path) -> None:
    done = pumas("hf", "search", "lumen", "gguf", root=root)
    assert done.status == exits.OK
    ((name, task, formats, quants, downloads, changed),) = rows(done.out)
    assert (name, task, formats, downloads) == (R.GGUF, "text-generation", "gguf", "250000")
    assert quants == "iq4_xs iq4_nl q2_k q3_k_m q4_k_s q4_k_m +8"
    assert changed == "2025-06-01"


def test_a_search_by_task_with_a_limit(pumas: Run, root: Path) -> None:
    found = pumas("hf", "search", "--task", "text-to-image", "--limit", "1", "--json", root=root).json
    assert [model["kind"] for model in found["models"]] == ["text-to-image"]
    assert "(gated)" in pumas("hf", "search", "Guarded", root=root).out


def test_a_search_without_a_result(pumas: Run, root: Path) -> None:
    done = pumas("hf", "search", "nothing-has-this-name", root=root)
    assert (done.status, done.out) == (exits.OK, "")
    assert "Nothing on Hugging Face matches." in done.err


def test_what_a_repository_holds(pumas: Run, root: Path) -> None:
    done = pumas("hf", "show", f"https://huggingface.co/{R.GGUF}", root=root)
    assert done.status == exits.OK
    shown = {row[0]: row[1:] for row in rows(done.out)}
    assert shown["repository"] == [R.GGUF]
    assert shown["type"] == ["llm / llama"]
    assert shown["license"] == ["apache-2.0"]
    assert shown["parameters"] == ["196,864"]
    assert shown["--quant q4_k_m"][0] == "1"
    assert shown["--quant ud_q8_k_xl"][0] == "2"
    assert shown["--file mmproj-F16.gguf"][2] == "yes"
    assert "without --quant" in shown


def test_what_a_choice_would_fetch(pumas: Run, root: Path) -> None:
    done = pumas("hf", "show", R.GGUF, "--quant", "Q4_K_M", root=root)
    files = [row[0] for row in rows(done.out)][-2:]
    assert files == ["Lumen-7B-Instruct-Q4_K_M.gguf", "config.json"]
    assert "2 files, " in done.err
    assert "add: --file mmproj-F16.gguf" in done.err
    done = pumas("hf", "show", R.OLD, "--file", "relic-v1-pruned.ckpt", root=root)
    assert "relic-v1-pruned.ckpt can run code" in done.err


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("https://huggingface.co/{repo}/blob/main/Lumen-7B-Instruct-Q4_K_M.gguf", ["Lumen-7B-Instruct-Q4_K_M.gguf"]),
        ("{repo}:Q4_K_M", ["Lumen-7B-Instruct-Q4_K_M.gguf", "config.json"]),
    ],
)
def test_what_an_address_would_fetch(pumas: Run, root: Path, address: str, wanted: list[str]) -> None:
    done = pumas("hf", "show", address.format(repo=R.GGUF), root=root)
    assert [row[0] for row in rows(done.out)][-len(wanted) :] == wanted
    assert f"{len(wanted)} file" in done.err


def test_what_stands_in_the_way(pumas: Run, root: Path) -> None:
    assert "It is gated: accept its terms at http" in pumas("hf", "show", R.GATED, root=root).err
    assert "It holds no model file." in pumas("hf", "show", R.EMPTY, root=root).err
    assert "files cannot be taken: " in pumas("hf", "show", R.HOSTILE, root=root).err


def test_json_is_the_whole_answer(pumas: Run, root: Path) -> None:
    found = pumas("hf", "show", R.LORA, "--json", root=root).json
    assert found["repo_id"] == R.LORA
    assert found["card"].startswith("#")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "acme/nothing"), "acme/nothing"),
        (("show", "lumen"), "owner/name"),
        (("show", R.GGUF, "--quant", "q9"), "there is iq4_xs"),
        (("show", R.LLM, "--revision", "v9"), "no branch, tag or commit 'v9'"),
        (("search", "x", "--task", "a/b"), "must be a task"),
    ],
)
def test_a_failure_is_one_line(pumas: Run, root: Path, words: tuple[str, ...], said: str) -> None:
    done = pumas("hf", *words, root=root)
    assert done.status == exits.FAILED
    assert said in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("words", [("hf",), ("hf", "show"), ("hf", "search", "--limit", "0"), ("hf", "nothing")])
def test_wrong_words(pumas: Run, words: tuple[str, ...]) -> None:
    assert pumas(*words).status == exits.USAGE


def test_an_answer_from_before_says_so(pumas: Run, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    env = hub.env(home=tmp_path / "home")
    sidecar = running.start(tmp_path / "root", env=env)
    try:
        pumas("hf", "search", "dawn", root=sidecar.root)
    finally:
        sidecar.close()
    import sqlite3

    with sqlite3.connect(sidecar.data / "cache" / "hub.db") as kept:
        kept.execute("UPDATE answers SET fetched_at = 1700000000")
    hub.fault(Status(403), times=None)
    sidecar = running.start(tmp_path / "root", env=env)
    try:
        done = pumas("hf", "search", "dawn", root=sidecar.root)
    finally:
        sidecar.close()
    assert R.DIFFUSERS in done.out
    assert "cannot be reached; this is what it said on 2023-11-14 22:13 UTC" in done.err
