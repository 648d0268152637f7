"""Making text from foreign bytes fit to be stored, shown and sent.

Used by every parser here. Knows nothing about where the text stood.
"""

from __future__ import annotations

import math
import re

MAX_INT64 = 2**63 - 1
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]+")


def one_line(value: object, limit: int = 256) -> str:
    """`value` as a single clean line for the index; `""` if it is not text.

    Control and direction characters become spaces; lone surrogates, which no UTF-8 encoder accepts, question marks.
    """
    if not isinstance(value, str):
        return ""
    text = value[: 4 * limit].encode("utf-8", "replace").decode("utf-8")
    return _CONTROL.sub(" ", text).strip()[:limit]


def json_number(value: int | float) -> int | float | str | None:
    """A number that every JSON reader takes: integers beyond 64 bit as text, NaN and infinities as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if -MAX_INT64 - 1 <= value <= MAX_INT64 else str(value)
