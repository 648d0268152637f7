"""Answers in which nothing can be trusted, read by the official library and then by us."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from huggingface_hub.hf_api import ModelInfo
from hypothesis import given
from hypothesis import strategies as st

from pumas.hub.model import HubModel
from pumas.hub.reading import Unreadable, read_listing, read_model, tolerant

Info = tolerant(ModelInfo)
GOOD: dict[str, Any] = {"id": "acme/Lumen", "sha": "c" * 40, "siblings": []}
FILE = {"rfilename": "a.json", "size": 3, "blobId": "b" * 40}
LARGE = {**FILE, "rfilename": "a.gguf", "lfs": {"sha256": "d" * 64, "size": 3, "pointerSize": 134}}


def read(**changes: Any) -> HubModel:
    return read_model(Info(**{**GOOD, **changes}))


def test_a_plain_answer() -> None:
    model = read(
        siblings=[FILE, LARGE],
        author="acme",
        tags=["gguf", "license:mit", "base_model:acme/Base", "base_model:quantized:acme/Base"],
        gated="manual",
        downloads=5,
        lastModified="2025-06-01T12:00:00.000Z",
        safetensors={"parameters": {"BF16": 10, "F32": 2}, "total": 12},
    )
    assert [(file.path, file.sha256) for file in model.files] == [("a.json", None), ("a.gguf", "d" * 64)]
    assert (model.license, model.base_model, model.gated) == ("mit", ("acme/Base",), "manual")
    assert model.last_modified == "2025-06-01T12:00:00.000000Z"
    assert model.parameters == {"BF16": 10, "F32": 2}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("2025-06-01T12:00:00Z", "2025-06-01T12:00:00.000000Z"),
        ("2025-06-01T12:00:00+02:00", "2025-06-01T10:00:00.000000Z"),
        ("2025-06-01T12:00:00.1234567-00:30", "2025-06-01T12:30:00.123456Z"),
        ("2025-06-01T12:00:00", "2025-06-01T12:00:00.000000Z"),
        ("2025-06-01T12:00:00 Z", ""),
        ("lately", ""),
        (1748779200, ""),
        (None, ""),
    ],
)
def test_the_time_of_the_last_change(said: object, shown: str) -> None:
    assert read(lastModified=said, likes=3).last_modified == shown
    assert read(lastModified=said, likes=3).likes == 3


@pytest.mark.parametrize(
    ("said", "counted"),
    [
        ({"parameters": {"BF16": 10}, "total": 10}, {"BF16": 10}),
        ({"parameters": {"BF16": 10}}, {"BF16": 10}),
        ({"parameters": {"BF16": "10", "F32": 2, "": 3, "I8": 0}, "total": None}, {"F32": 2}),
        ({"total": 10}, {}),
        ({"parameters": [10]}, {}),
        ([10], {}),
        ("10", {}),
        (None, {}),
    ],
)
def test_the_parameters_of_safetensors_files(said: object, counted: dict[str, int]) -> None:
    assert read(safetensors=said, likes=3).parameters == counted
    assert read(safetensors=said, likes=3).likes == 3


@pytest.mark.parametrize(
    ("card", "tags", "license_"),
    [
        ({"license": "mit"}, ["license:apache-2.0"], "mit"),
        ({"license": "other", "license_name": "lumen-community"}, [], "lumen-community"),
        ({"license": "other"}, [], "other"),
        ({"license": ["mit", "apache-2.0"]}, [], "mit, apache-2.0"),
        ({"license": {"odd": 1}}, ["license:mit"], "mit"),
        ({}, [], ""),
    ],
)
def test_the_licence_is_the_cards_else_the_tags(card: dict[str, Any], tags: list[str], license_: str) -> None:
    assert read(cardData=card, tags=tags).license == license_


@pytest.mark.parametrize(
    "odd",
    [
        {"tags": 3}, {"self": 1}, {"ignore_metadata_errors": 1}, {"to_dict": 1}, {"_to_dict": 1}, {"eval_results": 3},
        {"eval_results": [1]}, {"eval_results": "x"},
    ],
)  # fmt: skip
def test_one_odd_field_of_a_card_costs_nothing_else(odd: dict[str, Any]) -> None:
    model = read(cardData={"license": "mit", "base_model": "acme/Base", **odd})
    assert (model.license, model.base_model) == ("mit", ("acme/Base",))
    assert model.card == {"license": "mit", "base_model": "acme/Base", **odd}


def test_a_card_is_kept_as_it_was_written_but_for_evaluations_and_nulls() -> None:
    model = read(cardData={"tags": ["a", "a"], "model-index": [{"name": "x"}], "license": None, "base_model": "a/b"})
    assert list(model.card.items()) == [("tags", ["a", "a"]), ("base_model", "a/b")]


@pytest.mark.parametrize(
    ("card", "tags", "base"),
    [
        ({"base_model": "a/b"}, ["base_model:x/y"], ("a/b",)),
        ({"base_model": ["a/b", "c/d", "a/b"]}, [], ("a/b", "c/d")),
        ({"base_model": [1, None, ""]}, ["base_model:x/y", "base_model:finetune:x/y"], ("x/y",)),
        ({"base_model": {"x": 1}}, [], ()),
    ],
)
def test_base_models(card: dict[str, Any], tags: list[str], base: tuple[str, ...]) -> None:
    assert read(cardData=card, tags=tags).base_model == base


@pytest.mark.parametrize(
    "bad",
    [
        {"id": None}, {"id": 7}, {"id": "lumen"}, {"id": "../x"}, {"id": "a/b\nc"}, {"sha": None}, {"sha": "main"},
        {"sha": "../../x"}, {"sha": 5},
    ],
)  # fmt: skip
def test_an_answer_without_a_name_or_a_commit_is_none(bad: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        read(**bad)


ODD_FILES = [
    {**FILE, "size": None}, {**FILE, "size": -1}, {**FILE, "size": "3"}, {**FILE, "size": 2**63},
    {**FILE, "size": True}, {**FILE, "size": 1.5}, {**FILE, "blobId": None}, {**FILE, "blobId": "x" * 40},
    {**FILE, "blobId": "../" * 13 + "x"},
    {**LARGE, "lfs": {"sha256": "D" * 64, "size": 3, "pointerSize": 1}},
    {**LARGE, "lfs": {"sha256": "../etc", "size": 3, "pointerSize": 1}},
    {**LARGE, "lfs": {"sha256": None, "size": 3, "pointerSize": 1}},
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD_FILES)
def test_a_file_whose_entry_makes_no_sense_is_only_named(odd: dict[str, Any]) -> None:
    model = read(siblings=[odd, LARGE])
    assert model.unusable == (odd["rfilename"],)
    assert len(model.files) == 1


def test_odd_values_count_as_missing() -> None:
    model = read(
        author=7, tags="gguf", pipeline_tag=["x"], library_name={}, downloads="many", likes=-1, gated=1, private="yes",
        cardData={"license": 5}, config=[1], gguf="x", lastModified=None,
    )  # fmt: skip
    assert (model.author, model.tags, model.pipeline_tag, model.library_name) == ("acme", (), "", "")
    assert (model.downloads, model.likes, model.gated, model.private) == (None, None, True, False)
    assert (model.license, model.config, model.gguf, model.last_modified) == ("", {}, {}, "")


def test_texts_are_one_clean_line_of_bounded_length() -> None:
    model = read(tags=["a\nb", "x" * 10_000, "\u202eevil", "\ud800", "", *map(str, range(2000))], pipeline_tag="a\x00b")
    assert model.tags[0] == "a b"
    assert all(len(tag) <= 200 and tag.isprintable() for tag in model.tags)
    assert len(model.tags) <= 500
    assert model.pipeline_tag == "a b"


def test_what_is_copied_whole_is_bounded() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = {"d": deep}
    card = {"nan": float("nan"), "number": 2**80, "deep": deep, "wide": list(range(100_000)), "long": "x" * 100_000}
    model = read(cardData=card, config={"a": {"b": [1, "x", None, True]}})
    text = orjson.dumps(model.to_json())
    assert len(text) < 200_000
    assert model.config == {"a": {"b": [1, "x", None, True]}}
    assert "nan" not in model.card


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = (
    "id", "sha", "author", "tags", "pipeline_tag", "library_name", "gated", "private", "downloads", "likes", "gguf",
    "config", "cardData",
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.lists(JSON, max_size=4), JSON)
def test_no_answer_is_too_odd(changes: dict[str, Any], siblings: list[Any], card: Any) -> None:
    files = [{"rfilename": one, "size": one, "blobId": one, "lfs": None} for one in siblings]
    try:
        info = Info(**{**GOOD, "siblings": files, "cardData": card, **changes})
    except Exception:  # the library itself refuses; `client.py` turns that into a failure of the hub
        return
    for reader in (read_model, read_listing):
        try:
            value = reader(info)
        except Unreadable as error:
            assert str(error).isprintable()
            continue
        orjson.dumps(value.to_json() if not isinstance(value, HubModel) else {**value.to_json(), "files": []})
        assert isinstance(value.tags, tuple)
