"""What the user set lasts; what somebody damaged is not mistaken for something else, and not thrown away."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pumas.downloads.bandwidth import SLOWEST
from pumas.downloads.queue import MOST_AT_ONCE
from pumas.downloads.schedule import Schedule
from pumas.downloads.settings import AT_ONCE, DownloadSettings, SettingsFile
from pumas.errors import DiskError, InvalidInput, PumasError
from pumas.storage.json_file import StateLock, backup_path
from pumas.storage.troubles import Troubles

DEFAULTS = DownloadSettings()
FULL = DownloadSettings(5_000_000, 7, Schedule("22:00", "06:00", ("sat", "sun")), ("b", "a"))


class Place:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "metadata" / "downloads.json"
        self.troubles = Troubles()
        self.lock = StateLock(folder / "state.lock")
        self.file = SettingsFile(self.path, self.lock, self.troubles)

    def write(self, text: str | bytes) -> None:
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_bytes(text.encode() if isinstance(text, str) else text)

    def reported(self) -> list[str]:
        return [trouble.kind for trouble in self.troubles.list()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def check(place: Place, written: dict[str, Any], *, told: bool = False, **expected: Any) -> None:
    place.write(json.dumps(written))
    found = place.file.load()
    names = ("bytes_per_second", "at_once", "schedule", "order")
    assert {name: getattr(found, name) for name in names} == {
        **{name: getattr(DEFAULTS, name) for name in names},
        **expected,
    }
    assert isinstance(found.at_once, int) and not isinstance(found.at_once, bool)
    assert place.reported() == (["damaged_settings"] if told else [])


def test_nothing_written_yet(place: Place) -> None:
    assert place.file.load() == DEFAULTS
    assert place.reported() == []


@pytest.mark.parametrize("settings", [DEFAULTS, FULL])
def test_what_is_saved_is_loaded(place: Place, settings: DownloadSettings) -> None:
    place.file.save(settings)
    assert place.file.load() == settings
    place.file.save(FULL)
    assert place.file.load() == FULL


def test_keys_of_others_stay(place: Place) -> None:
    place.write('{"x_mine": [1, {"a": null}], "at_once": 4}')
    place.file.save(FULL)
    assert json.loads(place.path.read_bytes())["x_mine"] == [1, {"a": None}]


@pytest.mark.parametrize("value", [None, "fast", -5, 0, SLOWEST - 1, 5.5, True, [], {}])
def test_a_rate_that_makes_no_sense_is_none(place: Place, value: Any) -> None:
    check(place, {"bytes_per_second": value, "at_once": 2}, at_once=2, told=value is not None)


@pytest.mark.parametrize("value", [None, "3", 0, -1, MOST_AT_ONCE + 1, 2.0, True, False, []])
def test_a_number_of_downloads_that_makes_no_sense_is_the_default(place: Place, value: Any) -> None:
    told = value is not None
    check(place, {"at_once": value, "bytes_per_second": 9999}, bytes_per_second=9999, at_once=AT_ONCE, told=told)


@pytest.mark.parametrize(
    "value",
    [None, [], "night", 5, {}, {"start": "22:00"}, {"start": "22:00", "end": "22:00"}, {"start": 22, "end": 6},
     {"start": "22:00", "end": "06:00", "days": ["someday"]}, {"start": "22:00", "end": "06:00", "days": [1]},
     {"start": "22:00", "end": "06:00", "days": [{}]}, {"start": None, "end": None}],
)  # fmt: skip
def test_a_schedule_that_makes_no_sense_is_none(place: Place, value: Any) -> None:
    check(place, {"schedule": value, "at_once": 2}, at_once=2, told=value is not None)


def test_days_may_be_missing(place: Place) -> None:
    schedule = Schedule("22:00", "06:00")
    for days in ({}, {"days": []}, {"days": None}, {"days": "mon"}):
        check(place, {"schedule": {"start": "22:00", "end": "06:00", **days}}, schedule=schedule)


@pytest.mark.parametrize(("value", "order"), [(None, ()), ("abc", ()), ({}, ()), (["a", 1, None, "b", []], ("a", "b"))])
def test_an_order_that_makes_no_sense(place: Place, value: Any, order: tuple[str, ...]) -> None:
    check(place, {"order": value}, order=order, told=isinstance(value, (str, dict)))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("bytes_per_second", "at_once", "schedule", "order"), _JSON)))
def test_no_content_breaks_the_start(tmp_path_factory: pytest.TempPathFactory, written: dict[str, Any]) -> None:
    place = Place(tmp_path_factory.mktemp("any"))
    place.write(json.dumps(written))
    found = place.file.load()
    assert 1 <= found.at_once <= MOST_AT_ONCE
    assert found.bytes_per_second is None or found.bytes_per_second >= SLOWEST
    place.file.save(found)
    assert place.file.load() == found


DAMAGED = [b"", b"{", b"[]", b"null", b"123", b"\0" * 100, b"\xff\xfe", b'{"at_once": 4', b"text", b'{"a": NaN}']


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_told_and_kept(place: Place, damage: bytes) -> None:
    place.write(damage)
    assert place.file.load() == DEFAULTS
    assert place.reported() == ["corrupt_state"]
    place.file.save(FULL)
    assert place.file.load() == FULL
    aside = [path.read_bytes() for path in place.path.parent.iterdir() if "damaged" in path.name]
    assert aside == [damage], "what could not be read was put aside, not lost"


@pytest.mark.parametrize("damage", DAMAGED)
def test_the_backup_is_used(place: Place, damage: bytes) -> None:
    place.file.save(FULL)
    place.file.save(DEFAULTS)
    assert backup_path(place.path).exists()
    place.write(damage)
    assert place.file.load() == FULL
    assert place.reported() == ["recovered_state"]


@pytest.mark.parametrize("odd", ["folder", "fifo"])
def test_something_else_in_the_place_of_the_file(place: Place, odd: str) -> None:
    import os

    place.path.parent.mkdir()
    place.path.mkdir() if odd == "folder" else os.mkfifo(place.path)
    assert place.file.load() == DEFAULTS
    assert place.reported() == ["corrupt_state"]
    place.file.save(FULL)
    assert place.file.load() == FULL


def test_a_disk_that_refuses_costs_the_order_not_the_download(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise DiskError("no")

    monkeypatch.setattr("pumas.downloads.settings.json_file.save", refuse)
    assert place.file.save_order(DEFAULTS, ["a"]).order == ("a",)
    with pytest.raises(PumasError):
        place.file.save(FULL)


def test_an_order_that_did_not_change_is_not_written(place: Place) -> None:
    place.file.save(FULL)
    place.path.unlink()
    assert place.file.save_order(FULL, ["b", "a"]) == FULL
    assert not place.path.exists()


@pytest.mark.parametrize("rate", [0, -1, SLOWEST - 1])
def test_a_rate_below_the_slowest_cannot_be_made(rate: int) -> None:
    with pytest.raises(InvalidInput):
        DownloadSettings(bytes_per_second=rate)


def test_many_writers_leave_a_whole_file(place: Place) -> None:
    def work(number: int) -> None:
        for _ in range(10):
            place.file.save(DownloadSettings(at_once=number))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert place.file.load().at_once in range(1, 5)
    assert [path.name for path in place.path.parent.iterdir() if "tmp" in path.name] == []
