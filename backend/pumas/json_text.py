"""JSON that others wrote, wherever it comes from: what both backends read, and what can be written again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import orjson

MAX_DEPTH = 127
"""Deeper values are no JSON to us: Rust's parser ends here, and what orjson reads of more levels it cannot write."""


def loads(data: bytes) -> Any:
    """One JSON value that can also be written again.

    Raises:
        ValueError: it is not UTF-8, not JSON, or nested deeper than `MAX_DEPTH`.
    """
    value: object = orjson.loads(data)
    # The count is a bound of the depth: most files are known to be shallow without a walk through them.
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _too_deep(value):
        raise ValueError("not valid JSON")
    return value


def _too_deep(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        level = [item for holder in level for item in _items(holder) if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _items(holder: object) -> Iterable[object]:
    return cast(dict[str, Any], holder).values() if isinstance(holder, dict) else cast(list[object], holder)
