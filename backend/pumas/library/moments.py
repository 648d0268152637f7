"""Moments as others wrote them: ISO 8601 as `datetime.fromisoformat` is meant to read it.

What that lets through by mistake, such as `04:05:06 Z`, differs between versions of Python
(https://github.com/python/cpython/issues/152157, https://github.com/python/cpython/issues/155175).
"""

from __future__ import annotations

import datetime
import re

_DATE = r"\d{4}(?:-\d\d-\d\d|\d{4}|-W\d\d(?:-\d)?|W\d\d\d?)"
_FRACTION = r"(?:[.,]\d+)?"
_TIME = rf"(?:[01]\d|2[0-3])(?::\d\d(?::\d\d{_FRACTION})?|\d\d(?:\d\d{_FRACTION})?)?"
_OFFSET = r"Z|[-+](?:[01]\d|2[0-3])(?::[0-5]\d(?::[0-5]\d)?|[0-5]\d(?:[0-5]\d)?)?"
_FORM = re.compile(rf"{_DATE}(?:.{_TIME}(?:{_OFFSET})?)?", re.ASCII | re.DOTALL)


def parsed(value: object) -> datetime.datetime | None:
    """With an offset only when the text has one; None for anything that is none."""
    if not isinstance(value, str) or not _FORM.fullmatch(value):
        return None
    try:
        return datetime.datetime.fromisoformat(value)
    except ValueError:
        return None


def utc_moment(value: object) -> datetime.datetime | None:
    """The same in UTC; one without an offset is UTC. None for what that calendar does not hold."""
    found = parsed(value)
    if found is None or found.tzinfo is None:
        return found and found.replace(tzinfo=datetime.UTC)
    try:
        return found.astimezone(datetime.UTC)
    except OverflowError:
        return None


def utc_text(found: datetime.datetime) -> str:
    """The one form that the index knows: UTC with microseconds and `Z`. Raises OverflowError."""
    return found.astimezone(datetime.UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
