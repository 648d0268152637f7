"""Strict JSON in and out, against what the standard library reads."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pumas.rpc.jsontext import MAX_DEPTH, Encoded, JsonRefused, NumberTooLarge, decode, encode

REFUSED = [
    b"",
    b" ",
    b"\n",
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b"{]",
    b"[1,]",
    b'{"a":1,}',
    b"{a:1}",
    b"{'a':1}",
    b"[1 2]",
    b'{"a" 1}',
    b"nul",
    b"True",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b'{"a":NaN}',
    b"[Infinity]",
    b"[-Infinity]",
    b"+1",
    b"01",
    b".5",
    b"1.",
    b"1e",
    b"0x10",
    b"- 1",
    b"--1",
    b'"\x00"',
    b'"\x1f"',
    b'"a\nb"',
    b'"\\x"',
    b'"\\u12"',
    b'"\\u{1}"',
    b"// x\n1",
    b"/**/1",
    b"1 2",
    b"[]x",
    b"\xef\xbb\xbf[]",
    b"\xff",
    b'"\xff"',
    b'"\xc3"',
    b'"\xed\xa0\x80"',
    b'"\xc0\x80"',
    b'"\xf5\x80\x80\x80"',
    b"\xff\xfe[\x00]\x00",
    b'"\\ud800"',
    b'"\\udc00"',
    b'"\\uD800x"',
    b'"\\ud800\\ud800"',
    b'"\\udc00\\ud800"',
    b'{"\\ud800":1}',
    b'[["a\\udfff"]]',
    b"[" * 65 + b"]" * 65,
    b'{"a":' * 65 + b"1" + b"}" * 65,
    b"[" * 100_000,
    b'{"":' * 100_000,
    b"[" * 2000 + b"]" * 2000,
    b"\x00",
    b"[\x00]",
]


@pytest.mark.parametrize("body", REFUSED, ids=lambda b: repr(b[:24]))
def test_refused(body: bytes) -> None:
    with pytest.raises(JsonRefused) as caught:
        decode(body)
    assert not isinstance(caught.value, NumberTooLarge)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize(
    "number",
    [
        "18446744073709551616",
        "-9223372036854775809",
        "9" * 25,
        "9" * 5000,
        "-" + "9" * 5000,
        "1e309",
        "-1e309",
        "9" * 400 + ".0",
    ],
    ids=lambda n: n[:25],
)
def test_numbers_that_no_64_bits_hold(number: str) -> None:
    with pytest.raises(NumberTooLarge) as caught:
        decode(b'{"id":7,"params":{"a":[1,%s]}}' % number.encode())
    assert caught.value.without_numbers == {"id": 7, "params": {"a": [1, None]}}
    with pytest.raises(JsonRefused):
        decode(b'{"id":7,"params":%s,}' % number.encode())


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"18446744073709551615", 2**64 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"-0", 0),
        (b"1e308", 1e308),
        (b"1e-999", 0.0),
        (b' \t\r\n{"a" : 1 }\n', {"a": 1}),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b'"\\ud83d\\ude00"', "😀"),
        ('"😀"'.encode(), "😀"),
        (b'"\\\\ud800"', "\\ud800"),
        (b'"\\u0000"', "\0"),
        (b'"[[[["', "[[[["),
        (b'"' + b"[" * 1000 + b'"', "[" * 1000),
        (b'["\\"' + b"[" * 100 + b'","\\\\"]', ['"' + "[" * 100, "\\"]),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)),
        (b'{"":' * MAX_DEPTH + b"0" + b"}" * MAX_DEPTH, json.loads('{"":' * MAX_DEPTH + "0" + "}" * MAX_DEPTH)),
        (b"[" + b"[]," * 500 + b"{}]", [[]] * 500 + [{}]),
        (b"[[]," + b"[" * 63 + b"]" * 64, [[], json.loads("[" * 63 + "]" * 63)]),
    ],
    ids=lambda b: repr(b[:24]) if isinstance(b, bytes) else "",
)
def test_accepted(body: bytes, value: Any) -> None:
    assert decode(body) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(JSON, st.booleans())
def test_what_is_written_is_read_again(value: Any, ascii_only: bool) -> None:
    assert decode(json.dumps(value, ensure_ascii=ascii_only).encode()) == value
    assert decode(encode(value)) == value


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='[]{}",:\\u0dc8123-eE.tfn ', max_size=60).map(str.encode))
def test_any_bytes_are_read_as_the_standard_says_or_refused(body: bytes) -> None:
    try:
        value = decode(body)
    except JsonRefused:
        return
    assert json.loads(body) == value


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='[]{}"\\a', max_size=300), st.integers(0, 80))
def test_depth_counts_brackets_outside_strings_only(text: str, depth: int) -> None:
    body = (b"[" * depth) + json.dumps([text, text] * 40).encode() + (b"]" * depth)
    if depth < MAX_DEPTH:
        decode(body)
    else:
        with pytest.raises(JsonRefused):
            decode(body)


def test_out() -> None:
    assert encode({"a": [math.nan, math.inf, -math.inf]}) == b'{"a":[null,null,null]}'
    assert encode({"raw": Encoded(b'{"x":1}'), "u": "ü\u2028"}) == '{"raw":{"x":1},"u":"ü\u2028"}'.encode()
    with pytest.raises(TypeError):
        encode({"a": object()})
