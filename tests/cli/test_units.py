"""Amounts as people write and read them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pumas.cli import units
from pumas.cli.arguments import BadArgument


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((0, "file"), "0 files"),
        ((1, "file"), "1 file"),
        ((2, "file"), "2 files"),
        ((3, "process", "processes"), "3 processes"),
    ],
)
def test_counts(given: tuple[Any, ...], said: str) -> None:
    assert units.count(*given) == said


UNITS = {
    "": 1,
    "B": 1,
    "b": 1,
    "K": 1024,
    "k": 1024,
    "KB": 1000,
    "kB": 1000,
    "kb": 1000,
    "KiB": 1024,
    "kib": 1024,
    "KIB": 1024,
    "M": 1024**2,
    "MB": 1000**2,
    "mb": 1000**2,
    "MiB": 1024**2,
    "G": 1024**3,
    "GB": 1000**3,
    "GiB": 1024**3,
    "T": 1024**4,
    "TB": 1000**4,
    "TiB": 1024**4,
}


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [
        ("20MB/s", 20_000_000),
        ("500K", 512_000),
        ("1.5 MiB/s", 1_572_864),
        (" 1.5MiB/S ", 1_572_864),
        ("12345", 12_345),
        ("0.5k", 512),
        ("2.0000009 B", 2),
        ("off", units.NO_LIMIT),
        ("OFF", units.NO_LIMIT),
    ],
)
def test_rates(text: str, bytes_per_s: int) -> None:
    assert units.rate(text) == bytes_per_s


@pytest.mark.parametrize(
    "text",
    [
        *("", "fast", "MB/s", "-1", "+5", "1e6", "1,5MB", "1.MB", ".5MB", "5 MB / s", "5 M B", "5PB", "5MB/h"),
        # Bits.
        *("20Mb/s", "20Mbps", "20Mbit/s", "20mbps", "20Mib/s", "20Kb"),
        # Nothing at all is no speed.
        *("0", "0MB/s", "0.1", "0.0000001K"),
        # Digits of other scripts, and what surrounds a number.
        *("٥MB/s", "5MB/s\0", "5ib", "5 i", "20MB/s;", "0x10", "9" * 16, "off/s"),
    ],
)
def test_no_rates(text: str) -> None:
    with pytest.raises(BadArgument, match=r"such as 20MB/s|would never end"):
        units.rate(text)


@given(st.integers(1, 10**12), st.sampled_from(sorted(UNITS)), st.sampled_from(["", "/s"]), st.sampled_from(["", " "]))
def test_whole_numbers_are_exact(number: int, unit: str, per_second: str, gap: str) -> None:
    assert units.rate(f"{number}{gap}{unit}{per_second}") == number * UNITS[unit]


@given(st.decimals(min_value=1, max_value=10**6, places=6), st.sampled_from(sorted(UNITS)))
def test_fractions_are_cut(number: Decimal, unit: str) -> None:
    assert units.rate(f"{number:f}{unit}") == int(number * UNITS[unit])


@given(st.one_of(st.text(max_size=30), st.from_regex(r"[0-9.]{1,20} ?[kKmMgGtT]?i?[bB]?(/s)?", fullmatch=True)))
@example("9" * 400)
def test_any_text_is_a_rate_or_refused(text: str) -> None:
    with suppress(BadArgument):
        assert 0 <= units.rate(text) < 10**30
    with suppress(BadArgument):
        assert set(units.weekdays(text)) <= set(units.WEEKDAYS)
    with suppress(BadArgument):
        units.hours(text)


@pytest.mark.parametrize(
    ("between", "days", "schedule"),
    [
        ("22:00-07:00", None, {"start": "22:00", "end": "07:00", "days": []}),
        ("22-7", "mon,tue", {"start": "22:00", "end": "07:00", "days": ["mon", "tue"]}),
        (" 9:30 – 18 ", "sat-mon", {"start": "09:30", "end": "18:00", "days": ["mon", "sat", "sun"]}),
        # Whether such an hour exists is not decided here.
        ("25-26", "Fri, MON", {"start": "25:00", "end": "26:00", "days": ["mon", "fri"]}),
        ("0-1", "mon-sun", {"start": "00:00", "end": "01:00", "days": list(units.WEEKDAYS)}),
    ],
)
def test_hours(between: str, days: str | None, schedule: dict[str, Any]) -> None:
    assert units.hours(between, days) == schedule


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        (units.hours, "22:00", "no hours"),
        (units.hours, "-7", "no time of day"),
        (units.hours, "22-7-9", "no time of day"),
        (units.hours, "22:5-7", "no time of day"),
        (units.weekdays, "", "no day"),
        (units.weekdays, "monday", "mon-fri"),
        (units.weekdays, "mon,", "no day"),
        (units.weekdays, "mon-tue-wed", "no day"),
    ],
)
def test_no_hours(parse: Callable[[str], Any], text: str, said: str) -> None:
    with pytest.raises(BadArgument, match=said):
        parse(text)


@pytest.mark.parametrize(
    ("done", "total", "shown"),
    [
        (0, 0, "0/0 B"),
        (5, 1023, "5/1023 B"),
        (512, 1024, "0.5/1.0 KiB"),
        (1288490189, 2791728742, "1.2/2.6 GiB"),
        (1, 5 * 1024**5, "0.0/5120.0 TiB"),
    ],
)
def test_of_total(done: int, total: int, shown: str) -> None:
    assert units.of_total(done, total) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00"),
        (7.4, "0:07"),
        (59.6, "1:00"),
        (192, "3:12"),
        (3599.5, "1:00:00"),
        (7392, "2:03:12"),
        (2 * 86400, "2 d 0 h"),
        (76 * 3600, "3 d 4 h"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert units.duration(seconds) == shown
