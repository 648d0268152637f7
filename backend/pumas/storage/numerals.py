"""Numbers as they were written: rewriting a file of JSON loses no digit of a number that nobody changed.

Both backends read integers beyond 64 bits and long fractions as doubles, and RFC 8259 §6 lets them. A user's own keys
may hold such numbers, and these have to come out of a rewrite as they went in.
"""

from __future__ import annotations

import json
import re
from typing import Any, cast

import orjson

_LONG = re.compile(rb"\d[\d.]{16}")
"""Every shorter number of decimal digits comes back out of a double, or an integer of 64 bits, as it was."""


class _Numeral(str):
    """The digits of a number."""

    __slots__ = ()


def kept(value: Any, before: bytes) -> Any:
    """`value` for orjson, with each number written as in `before`, good JSON, where the same place holds the same."""
    if not _LONG.search(before):
        return value
    return _kept(value, json.loads(before, parse_int=_Numeral, parse_float=_Numeral))


def _kept(now: Any, was: object) -> Any:
    if isinstance(was, _Numeral):
        digits = was.encode()
        return orjson.Fragment(digits) if type(now) in (int, float) and now == orjson.loads(digits) else now
    if isinstance(now, dict) and isinstance(was, dict):
        old = cast(dict[str, object], was)
        return {key: _kept(item, old.get(key)) for key, item in cast(dict[str, Any], now).items()}
    if isinstance(now, list) and isinstance(was, list):
        items, olds = cast(list[Any], now), cast(list[object], was)
        return [_kept(item, olds[i] if i < len(olds) else None) for i, item in enumerate(items)]
    return cast(Any, now)
