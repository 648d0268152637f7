from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumas.cli.arguments import BadArgument, document, parameters


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("a=5", 5),
        ("a=-1.5", -1.5),
        ("a=true", True),
        ("a=null", None),
        ('a="5"', "5"),
        ("a=[1, 2]", [1, 2]),
        ('a={"b": 1}', {"b": 1}),
        ("a=text", "text"),
        ("a=two words", "two words"),
        ("a=x=y", "x=y"),
        ("a=", ""),
        ("a=NaN", "NaN"),
        ("a=Infinity", "Infinity"),
        ("a=[", "["),
        ("a=" + "[" * 100_000, "[" * 100_000),
        ("a=" + "9" * 5000, "9" * 5000),
    ],
)
def test_values(word: str, value: Any) -> None:
    assert parameters([word]) == {"a": value}


TEXT, TEXT_OR_NOTHING = {"type": "string"}, {"anyOf": [{"type": "string", "minLength": 1}, {"type": "null"}]}
TEXT_OR_NUMBER = {"anyOf": [{"type": "string"}, {"type": "integer"}]}


@pytest.mark.parametrize(
    ("schema", "word", "value"),
    [
        (TEXT, "a=5", "5"),
        (TEXT, 'a="5"', "5"),
        (TEXT, "a=1e3", "1e3"),
        (TEXT, "a=true", "true"),
        (TEXT, "a=null", "null"),
        (TEXT, "a=[1]", "[1]"),
        (TEXT_OR_NOTHING, "a=5", "5"),
        (TEXT_OR_NOTHING, "a=null", None),
        (TEXT_OR_NUMBER, "a=5", 5),
        ({"type": "integer"}, "a=5", 5),
        ({"type": "integer"}, "a=five", "five"),
        ({}, "a=5", 5),
        ({"$ref": "#/x"}, "a=5", 5),
    ],
)
def test_what_can_only_be_text_is_text(schema: dict[str, Any], word: str, value: Any) -> None:
    assert parameters([word], {"a": schema}) == {"a": value}


@pytest.mark.parametrize("words", [["a"], ["=5"], ["5=a"], ["a b=1"], ["-"], ["--x=1"], ["a=1", "a=2"], ["ä=1"]])
def test_what_is_no_key_value(words: list[str]) -> None:
    with pytest.raises(BadArgument):
        parameters(words)


KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, JSON, max_size=5))
def test_json_comes_through(given_values: dict[str, Any]) -> None:
    assert parameters(f"{key}={json.dumps(value)}" for key, value in given_values.items()) == given_values
    assert document(json.dumps(given_values)) == given_values


@given(KEYS, st.text(max_size=30))
def test_any_text_is_a_value(key: str, text: str) -> None:
    found = parameters([f"{key}={text}"])[key]
    if isinstance(found, str) and found == text:
        return
    # Otherwise it was JSON, and says the same as JSON.
    assert json.loads(text) == found
    assert not (isinstance(found, float) and math.isnan(found))


@given(st.text(max_size=40))
def test_no_word_breaks_it(word: str) -> None:
    try:
        assert len(parameters([word])) == 1
    except BadArgument as error:
        assert len(str(error)) < 500


@pytest.mark.parametrize("text", ["", "[]", "5", "null", "{", '{"a": NaN}', "[" * 100_000])
def test_stdin_must_hold_an_object(text: str) -> None:
    with pytest.raises(BadArgument, match="stdin"):
        document(text)
