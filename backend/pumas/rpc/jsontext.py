"""JSON in and out, strict both ways (RFC 8259 without the extensions that Python allows).

In: UTF-8 only, no NaN or Infinity, no lone surrogates, numbers of at most 64 bits, bounded nesting.
Out: an encoder with a place for values that are JSON already.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

import orjson

MAX_DEPTH = 64
INT_MIN, INT_MAX = -(2**63), 2**64 - 1
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# 2^64 has 20 digits; longer runs never fit and would cost quadratic time to convert.
_MAX_INT_CHARS = 21


class JsonRefused(ValueError):
    """The text is not JSON as this server reads it; the message says why without quoting it."""


class NumberTooLarge(JsonRefused):
    """Well-formed JSON with a number that no 64 bits hold: refused as a parameter, not as a parse error.

    `without_numbers` is the message with null for each such number, to find the id of the call in it.
    """

    without_numbers: Any = None


def _refuse_constant(_name: str) -> NoReturn:
    raise JsonRefused("NaN and Infinity are not JSON")


def _bounded_int(digits: str) -> int:
    if len(digits) > _MAX_INT_CHARS or not INT_MIN <= (value := int(digits)) <= INT_MAX:
        raise NumberTooLarge("an integer does not fit into 64 bits")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise NumberTooLarge("a number does not fit into 64 bits")
    return value


def _or_null(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def tolerant(text: str) -> Any:
        try:
            return parse(text)
        except NumberTooLarge:
            return None

    return tolerant


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_bounded_int, parse_float=_finite)
_tolerant_decoder = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_int=_or_null(_bounded_int), parse_float=_or_null(_finite)
)


def decode(body: bytes) -> Any:
    """Parse one JSON text.

    Raises:
        NumberTooLarge: a number does not fit into 64 bits.
        JsonRefused: anything else that is not strict JSON, or nested deeper than `MAX_DEPTH`.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise JsonRefused("the text is not UTF-8") from None
    if text.startswith("\ufeff"):
        raise JsonRefused("the text starts with a byte order mark")
    try:
        value = _parse(text)
    except json.JSONDecodeError as error:
        raise JsonRefused(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise JsonRefused(f"nested deeper than {MAX_DEPTH}") from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _check_depth(body)
    # Only an escape can smuggle half of a surrogate pair past the UTF-8 check.
    if b"\\u" in body:
        _refuse_surrogates(text, value)
    return value


def _parse(text: str) -> Any:
    try:
        return _decoder.decode(text)
    except NumberTooLarge as error:
        error.without_numbers = _tolerant_decoder.decode(text)
        raise


def _check_depth(body: bytes) -> None:
    """Count the brackets outside strings. `body` is well-formed JSON, so an unescaped quote begins or ends a string."""
    outside = b"".join(body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    depth = 0
    for bracket in outside.translate(None, delete=_NOT_BRACKETS):
        if bracket in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise JsonRefused(f"nested deeper than {MAX_DEPTH}")
        else:
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
