"""Reads and writes amounts as people do: `20MB/s`, `22:00-07:00`, `mon-fri`, `3:12`. Plain functions; no client.

Whether a value makes sense (a limit that is too low, an hour that does not exist) is the sidecar's to say.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from pumas.cli.arguments import BadArgument

if TYPE_CHECKING:
    from pumas.client.types import WireSchedule

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
NO_LIMIT = 0
# `Mb` and `Mbps` are how bits are written.
_RATE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*((?:[kmgt](?:i?b)?|[kKMGT](?:[iI]?B)?|[bB])?)(?:/[sS])?", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{2}))?", re.ASCII)
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


def rate(text: str) -> int:
    """Bytes per second; `NO_LIMIT` for `off`.

    `KB` and `MB` are powers of 1000, `KiB` and `MiB` powers of 1024, and so are the bare letters, as for curl and wget.
    """
    word = text.strip()
    if word.lower() == "off":
        return NO_LIMIT
    found = _RATE.fullmatch(word)
    if found is None:
        raise BadArgument(f"{text[:40]!r} is no speed; give bytes, such as 20MB/s, 500K or 1.5MiB/s, or off")
    number, unit = found[1], found[2].lower()
    step = 1000 if len(unit) == 2 else 1024
    bytes_per_s = int(Decimal(number) * step ** " kmgt".index(unit.rstrip("ib") or " "))
    if bytes_per_s == NO_LIMIT:
        raise BadArgument(f"{text[:40]!r} would never end; pause downloads to stop them, or say off for no limit")
    return bytes_per_s


def hours(text: str, days: str | None = None) -> WireSchedule:
    """`22:00-07:00` (also `22-7`), with `days` as for `weekdays`."""
    start, dash, end = text.replace("–", "-").partition("-")
    if not dash:
        raise BadArgument(f"{text[:40]!r} names no hours; give them as 22:00-07:00")
    return {"start": _clock(start), "end": _clock(end), "days": weekdays(days) if days else []}


def _clock(text: str) -> str:
    found = _CLOCK.fullmatch(text.strip())
    if found is None:
        raise BadArgument(f"{text.strip()[:20]!r} is no time of day; give the hours as 22:00-07:00")
    return f"{int(found[1]):02}:{found[2] or '00'}"


def weekdays(text: str) -> list[Weekday]:
    """`mon,tue` or `mon-fri` (`sat-mon` goes over Sunday), in the order of the week."""
    found: set[str] = set()
    for part in text.replace("–", "-").split(","):
        first, dash, last = part.partition("-")
        start = _weekday(first)
        length = (_weekday(last) - start) % 7 if dash else 0
        found |= {WEEKDAYS[(start + number) % 7] for number in range(length + 1)}
    return [day for day in WEEKDAYS if day in found]


def _weekday(text: str) -> int:
    word = text.strip().lower()
    if word not in WEEKDAYS:
        raise BadArgument(f"{text.strip()[:20]!r} is no day; give {', '.join(WEEKDAYS)}, or a range such as mon-fri")
    return WEEKDAYS.index(word)


# -- written ---------------------------------------------------------------------------------------------------------


def of_total(done: int, total: int) -> str:
    """Two sizes in one unit: `1.2/2.6 GiB`."""
    power = 0
    while power < len(_SIZES) - 1 and total >= 1024 ** (power + 1):
        power += 1
    digits = 1 if power else 0
    return f"{done / 1024**power:.{digits}f}/{total / 1024**power:.{digits}f} {_SIZES[power]}"


def count(number: int, noun: str, several: str = "") -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun if number == 1 else several or f'{noun}s'}"


def duration(seconds: float) -> str:
    """`0:07`, `3:12`, `2:03:12`, `3 d 4 h`."""
    minutes, second = divmod(int(seconds + 0.5), 60)
    hour, minute = divmod(minutes, 60)
    if hour >= 48:
        return f"{hour // 24} d {hour % 24} h"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"
