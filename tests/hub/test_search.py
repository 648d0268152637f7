from __future__ import annotations

from typing import Any

import pytest

from pumas.errors import InvalidInput
from pumas.hub.model import HubFile, HubListing, HubModel
from pumas.hub.search import (
    base_repo,
    family_token,
    own_repo,
    related,
    result,
    sizes_of,
    task_of,
    with_sizes,
    words_of,
)
from pumas.hub.selection import options


def listing(repo_id: str = "acme/Lumen-7B-GGUF", *paths: str, **fields: Any) -> HubListing:
    return HubListing(
        repo_id, "c" * 40, paths or ("a-Q4_K_M.gguf", "a-Q8_0.gguf", "mmproj-F16.gguf", "README.md"), **fields
    )


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("  Lumen   7B ", "Lumen 7B"),
        ("", ""),
        ("acme/Lumen", "acme/Lumen"),
        ("https://huggingface.co/acme/Lumen-7B/tree/main", "acme/Lumen-7B"),
        ("hf.co/acme/Lumen-7B", "acme/Lumen-7B"),
    ],
)
def test_what_is_searched_for(query: str, words: str) -> None:
    assert words_of(query) == words


@pytest.mark.parametrize("query", ["x" * 201, "https://example.org/acme/Lumen", "https://huggingface.co/datasets/a/b"])
def test_what_cannot_be_searched_for(query: str) -> None:
    with pytest.raises(InvalidInput):
        words_of(query)


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        (None, ""), ("", ""), (" ", ""), ("text-generation", "text-generation"), ("Text_Generation", "text-generation"),
        ("llm", "text-generation"), ("diffusion", "text-to-image"), ("audio", "automatic-speech-recognition"),
    ],
)  # fmt: skip
def test_a_task_has_the_hubs_name(kind: str | None, task: str) -> None:
    assert task_of(kind) == task


@pytest.mark.parametrize("kind", ["a b", "a/b", "a&filter=x", "x" * 65, "ü", "-", "a--b"])
def test_what_is_no_task(kind: str) -> None:
    with pytest.raises(InvalidInput):
        task_of(kind)


def test_a_result_has_what_shells_read() -> None:
    found = result(
        listing(author="acme", pipeline_tag="text-generation", downloads=7, last_modified="2025-01-01", likes=1)
    )
    assert found["repoId"] == "acme/Lumen-7B-GGUF"
    assert found["name"] == "Lumen-7B-GGUF"
    assert found["developer"] == "acme"
    assert found["kind"] == "text-generation"
    assert found["formats"] == ["gguf"]
    assert found["quants"] == ["q4_k_m", "q8_0"]
    assert found["url"] == "https://huggingface.co/acme/Lumen-7B-GGUF"
    assert (found["releaseDate"], found["downloads"]) == ("2025-01-01", 7)


def test_sizes_are_not_known_and_not_guessed() -> None:
    found = result(listing())
    assert (found["totalSizeBytes"], found["quantSizes"]) == (None, {})
    assert found["downloadOptions"] == [
        {"quant": "q4_k_m", "sizeBytes": None},
        {"quant": "q8_0", "sizeBytes": None},
    ]


def test_sizes_are_those_of_the_repository_in_the_same_state() -> None:
    files = [HubFile(path, 10 ** (place + 1), "0" * 40, None) for place, path in enumerate(listing().paths)]
    model = HubModel("acme/Lumen-7B-GGUF", "c" * 40, (*files, HubFile("config.json", 5, "0" * 40, None)))
    known = {(model.repo_id, model.commit): sizes_of(options(model))}
    found = with_sizes([result(listing())], known)[0]
    assert found["quantSizes"] == {"q4_k_m": 15, "q8_0": 105}
    assert found["totalSizeBytes"] == 115
    assert found["downloadOptions"] == [{"quant": "q4_k_m", "sizeBytes": 15}, {"quant": "q8_0", "sizeBytes": 105}]
    other = HubListing("acme/Lumen-7B-GGUF", "d" * 40, listing().paths)
    assert with_sizes([result(other)], known)[0]["totalSizeBytes"] is None


@pytest.mark.parametrize(
    ("paths", "tags", "formats"),
    [
        (("a.gguf", "b.safetensors", "onnx/m.onnx"), (), ["gguf", "onnx", "safetensors"]),
        (("a.ptx", "script.pt.txt", "gguf.md", "config.bin.json"), ("pt", "gguf"), []),
        (("pytorch_model.bin", "optimizer.pt"), (), ["bin"]),
    ],
)
def test_formats_are_those_of_real_model_files(
    paths: tuple[str, ...], tags: tuple[str, ...], formats: list[str]
) -> None:
    assert result(listing("a/b", *paths, tags=tags))["formats"] == formats


def test_where_the_hub_lists_no_files_its_tags_tell() -> None:
    found = result(HubListing("a/b", "c" * 40, (), tags=("gguf", "encrypted", "safetensors-like")))
    assert found["formats"] == ["gguf"]


@pytest.mark.parametrize(
    ("tags", "kind"),
    [
        (("text-to-image",), "text-to-image"),
        (("TTS",), "text-to-audio"),
        (("speech-recognition",), "audio-to-text"),
        (("asr", "x"), "audio-to-text"),
        (("laser",), "unknown"),
        (("vision", "image-classification"), "image-classification"),
        (("dataset:text-corpus", "license:image"), "unknown"),
        ((), "unknown"),
    ],
)
def test_the_kind_is_guessed_from_tags_where_the_hub_says_none(tags: tuple[str, ...], kind: str) -> None:
    assert result(listing(tags=tags))["kind"] == kind
    assert result(listing(tags=tags, pipeline_tag="robotics"))["kind"] == "robotics"


# -- related -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "token"),
    [("llama", "llama"), ("GPT-NeoX", "gptneox"), (" unknown ", ""), ("imported", ""), ("", ""), (None, ""), (5, "")],
)
def test_the_family_as_names_hold_it(family: Any, token: str) -> None:
    assert family_token({"family": family}) == token


@pytest.mark.parametrize(
    ("metadata", "base"),
    [
        ({"base_model": "meta/Llama", "repo_id": "q/x"}, "meta/Llama"),
        ({"base_model": ["meta/Llama", "x/y"]}, "meta/Llama"),
        ({"base_model": {"repo_id": "meta/Llama"}}, "meta/Llama"),
        ({"base_model": "", "model_card": {"base_model": "https://huggingface.co/meta/Llama"}}, "meta/Llama"),
        ({"repo_id": "q/x"}, "q/x"),
        ({"download_url": "https://huggingface.co/q/x"}, "q/x"),
        ({"base_model": "Llama 3", "model_card": None, "download_url": "https://example.org/q/x"}, ""),
        ({}, ""),
    ],
)
def test_the_base_repository(metadata: dict[str, Any], base: str) -> None:
    assert base_repo(metadata) == base


def test_related_are_the_owners_others_of_the_family() -> None:
    names = ["meta/Llama-3-8B", "Meta/LLAMA-3-70B", "meta/Code-Llama", "meta/Opt", "other/Llama-3", "metal/Llama"]
    found = related([listing(name) for name in names], "meta", "llama", own_repo({"repo_id": "meta/llama-3-8b"}))
    assert [one.repo_id for one in found] == ["Meta/LLAMA-3-70B", "meta/Code-Llama"]
