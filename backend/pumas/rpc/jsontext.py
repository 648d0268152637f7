"""JSON in and out, strict both ways (RFC 8259 without the extensions that Python allows).

In: UTF-8 only, no NaN or Infinity, no lone surrogates, integers of at most 64 bits, bounded nesting.
Out: an encoder with a place for values that are JSON already.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

import orjson

MAX_DEPTH = 64
INT_MIN, INT_MAX = -(2**63), 2**64 - 1
# 2^64 has 20 digits; longer runs never fit and would cost quadratic time to convert.
_MAX_INT_CHARS = 21


class JsonRefused(ValueError):
    """The text is not JSON as this server reads it; the message says why without quoting it."""


class IntegerTooLarge(JsonRefused):
    """Well-formed JSON with an integer beyond 64 bits: refused as a parameter, not as a parse error."""


def _refuse_constant(_name: str) -> NoReturn:
    raise JsonRefused("NaN and Infinity are not JSON")


def _bounded_int(digits: str) -> int:
    if len(digits) > _MAX_INT_CHARS or not INT_MIN <= (value := int(digits)) <= INT_MAX:
        raise IntegerTooLarge("an integer does not fit into 64 bits")
    return value


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_bounded_int)


def decode(body: bytes) -> Any:
    """Parse one JSON text.

    Raises:
        IntegerTooLarge: an integer does not fit into 64 bits.
        JsonRefused: anything else that is not strict JSON, or nested deeper than `MAX_DEPTH`.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise JsonRefused("the text is not UTF-8") from None
    if text.startswith("\ufeff"):
        raise JsonRefused("the text starts with a byte order mark")
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _check_depth(body)
    try:
        value = _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise JsonRefused(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise JsonRefused(f"nested deeper than {MAX_DEPTH}") from None
    # Only an escape can smuggle half of a surrogate pair past the UTF-8 check.
    if b"\\u" in body:
        _refuse_surrogates(text, value)
    return value


def _check_depth(body: bytes) -> None:
    depth = 0
    in_string = escaped = False
    for byte in body:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in (0x5B, 0x7B):
            depth += 1
            if depth > MAX_DEPTH:
                raise JsonRefused(f"nested deeper than {MAX_DEPTH}")
        elif byte in (0x5D, 0x7D):
            depth -= 1


def _refuse_surrogates(text: str, value: Any) -> None:
    lowered = text.lower()
    if "\\ud" not in lowered:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise JsonRefused("a string holds half of a surrogate pair") from None


class Encoded:
    """A value that is JSON text already, put into a reply as it is."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text


def _default(value: Any) -> Any:
    if isinstance(value, Encoded):
        return orjson.Fragment(value.text)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def encode(value: Any) -> bytes:
    """Serialise a reply. NaN and Infinity become null, as JSON has no word for them."""
    return orjson.dumps(value, default=_default)
