from __future__ import annotations

import pytest

from pumas.client import reconnect
from pumas.client.errors import NotReachable
from pumas.client.reconnect import Reconnect
from pumas.client.sse import Event


def test_a_fresh_reader_begins_where_ready_says() -> None:
    one = Reconnect(None)
    one.saw(Event("ready", {"cursor": 10}))
    assert one.cursor == 10
    one.saw(Event("job.state", {}, 12))
    assert one.cursor == 12


def test_a_reader_that_goes_on_keeps_its_place_until_events_move_it() -> None:
    one = Reconnect(5)
    one.saw(Event("ready", {"cursor": 10}))
    assert one.cursor == 5
    one.saw(Event("job.state", {}, 6))
    assert one.cursor == 6


def test_pauses_grow_to_the_limit_and_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "GIVE_UP_S", 1e9)
    one = Reconnect(None)
    pauses = [one.next_pause(0.3) for _ in range(6)]
    assert pauses == [0.0, 0.05, 0.1, 0.2, 0.3, 0.3]
    one.saw(Event("job.state", {}, 6))
    assert one.next_pause(0.3) == 0.0


def test_it_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [100.0]
    monkeypatch.setattr(reconnect.time, "monotonic", lambda: moment[0])
    one = Reconnect(None)
    one.next_pause(1)
    moment[0] += reconnect.GIVE_UP_S
    one.next_pause(1)
    moment[0] += 0.1
    with pytest.raises(NotReachable, match="pumas serve"):
        one.next_pause(1)
