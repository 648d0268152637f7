"""Times as others wrote them; `moments.rs` is asked the same."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumas.library.entry import timestamp
from pumas.library.moments import parsed, utc_moment, utc_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2030-02-03T04:05:06.000001Z", "2030-02-03T04:05:06.000001Z"),
        ("2030-02-03T04:05:06Z", "2030-02-03T04:05:06.000000Z"),
        ("2030-02-03T04:05:06+02:00", "2030-02-03T02:05:06.000000Z"),
        ("2030-02-03 04:05:06.5-0130", "2030-02-03T05:35:06.500000Z"),
        ("20300203T040506,123456789Z", "2030-02-03T04:05:06.123456Z"),
        ("2030-W05-7T04Z", "2030-02-03T04:00:00.000000Z"),
        ("2030W057T04:05Z", "2030-02-03T04:05:00.000000Z"),
    ],
)
def test_the_forms_of_older_sidecars(text: str, expected: str) -> None:
    found = utc_moment(text)
    assert found is not None and utc_text(found) == expected == timestamp(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2030-02-03T04:05:06", "2030-02-03T04:05:06.000000Z"),
        ("2030-02-03", "2030-02-03T00:00:00.000000Z"),
        ("2030-02-03T04:05:06.5Z", "2030-02-03T04:05:06.500000Z"),
        ("2030-02-03T04:05:06+02:00", "2030-02-03T02:05:06.000000Z"),
        ("2030-02-03 04:05:06,5-0130", "2030-02-03T05:35:06.500000Z"),
    ],
)
def test_without_an_offset_it_is_utc(text: str, expected: str) -> None:
    found = utc_moment(text)
    assert found is not None and utc_text(found) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "2030", "2030-13-01", "2030-02-30", "2030-02-03T25:00Z", "2030-02-03T", "2030-02-03T04:0",
        "2030-02-03T04:05:06+1", "2030-02-03T04:05:06+24:00", "0000-01-01", "2030-02-03T04.5Z",
        "0001-01-01T00:00+01:00", "2030-02-03T04:05:06.Zx", "2030-02-03T04:05:06.", "2030-02-03T04:05:06 Z",
        "2030-02-03T04:05:06 +01:00", "2030-02-03T04:05:06.123456 Z", "2030-02-03T04xZ", "2030-02-03T04:05:06.Z",
        "2030-02-03T04050678Z", "2030-02-03T04:05:06:7Z", "2030-02-03T04:05:06Z00:50", "2030-02-03T04:05:06+01:60",
        "2030-02-03T04:05:06+01:00:00.5", "2030-02-03T24:00Z", "2030-02-03T04:05:60Z", " 2030-02-03T04:05:06Z",
        "2030-02-03T04:05:06z", "9999-12-31T23:59:59-01:00",
    ],
)  # fmt: skip
def test_what_is_no_moment(text: str) -> None:
    assert utc_moment(text) is None
    assert text.startswith(" ") or timestamp(text) is None


@given(st.one_of(st.from_regex(r"\A[0-9TWZ:.,+ -]{0,30}\Z"), st.text(max_size=20), st.integers(), st.none()))
def test_anything_is_a_moment_or_none(value: object) -> None:
    found = utc_moment(value)
    assert found is None or len(utc_text(found)) == 27
    assert timestamp(value) is None or len(timestamp(value) or "") == 27


@given(st.datetimes(timezones=st.one_of(st.none(), st.just(datetime.UTC), st.timezones())))
def test_what_python_writes_is_read(moment: datetime.datetime) -> None:
    offset = moment.utcoffset()
    if offset is None or not offset.microseconds:
        assert parsed(moment.isoformat()) == moment.replace(
            tzinfo=None if offset is None else datetime.timezone(offset), fold=0
        )
