"""The event stream in memory: order, replay, resync, topics, bounds."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pumas.events.stream import QUEUE_EVENTS, REPLAY_BYTES, REPLAY_EVENTS, RESYNC, Event, EventStream, Subscription


def topics(events: list[Event]) -> list[str]:
    return [event.topic for event in events]


def fill(stream: EventStream, count: int, topic: str = "job.state") -> list[int]:
    cursors = []
    for n in range(count):
        stream.publish(topic, {"n": n})
        cursors.append(stream.cursor)
    return cursors


def test_cursors_grow_by_one_over_all_topics() -> None:
    stream = EventStream()
    with stream.subscribe() as reader:
        stream.publish("job.state", {"a": 1})
        stream.publish("model.added", {"b": 2})
        first, second = reader.pending()
    assert second.cursor == first.cursor + 1 == stream.cursor
    assert (json.loads(first.data), json.loads(second.data)) == ({"a": 1}, {"b": 2})
    assert reader.start == first.cursor - 1


@pytest.mark.parametrize(
    ("chosen", "topic", "wanted"),
    [
        ((), "job.state", True),
        (("job",), "job.state", True),
        (("job",), "job", True),
        (("job.state",), "job.state", True),
        (("job.state",), "job.progress", False),
        (("job",), "jobs.state", False),
        (("jo",), "job.state", False),
        (("model", "job"), "job.progress", True),
        (("",), "job.state", False),
    ],
)
def test_topics(chosen: tuple[str, ...], topic: str, wanted: bool) -> None:
    assert Subscription(chosen, start=0).wants(topic) is wanted
    stream = EventStream()
    with stream.subscribe(chosen) as reader:
        stream.publish(topic, {})
        assert bool(reader.pending()) is wanted


def test_replay_from_every_known_cursor() -> None:
    stream = EventStream()
    before = stream.cursor
    cursors = fill(stream, 20)
    for index, after in enumerate([before, *cursors]):
        with stream.subscribe(after=after) as reader:
            assert reader.start == after
            assert [e.cursor for e in reader.pending()] == cursors[index:]


@pytest.mark.parametrize("off", [-(10**6), 1, 10**12])
def test_a_cursor_of_another_run_is_told_to_load_anew(off: int) -> None:
    stream = EventStream()
    fill(stream, 3)
    with stream.subscribe(["nothing"], after=stream.cursor + off) as reader:
        (told,) = reader.pending()
    assert (told.topic, told.cursor, reader.start) == (RESYNC, stream.cursor, stream.cursor)


def test_a_later_run_never_repeats_cursors_and_a_clock_set_back_is_noticed() -> None:
    early, late = EventStream(clock=lambda: 1000.0), EventStream(clock=lambda: 1001.0)
    fill(early, 1000)
    assert late.cursor > early.cursor
    with early.subscribe(after=late.cursor) as reader:
        assert topics(reader.pending()) == [RESYNC]
    with late.subscribe(after=early.cursor) as reader:
        assert topics(reader.pending()) == [RESYNC]


def test_what_fell_out_of_the_buffer_is_a_resync() -> None:
    stream = EventStream()
    cursors = fill(stream, REPLAY_EVENTS + 10)
    with stream.subscribe(["none"], after=cursors[8]) as reader:
        assert topics(reader.pending()) == [RESYNC]
    with stream.subscribe(["none"], after=cursors[9]) as reader:
        assert reader.pending() == []


def test_the_buffer_is_bounded_in_bytes() -> None:
    stream = EventStream()
    big = {"text": "x" * (REPLAY_BYTES // 4)}
    first = stream.cursor
    for _ in range(10):
        stream.publish("job.state", big)
    with stream.subscribe(after=first) as reader:
        assert topics(reader.pending()) == [RESYNC]
    with stream.subscribe(after=stream.cursor - 3) as reader:
        assert len(reader.pending()) == 3
    for _ in range(3):
        stream.publish("job.state", {"text": "x" * (REPLAY_BYTES * 2)})  # larger than everything: nothing is kept
    assert sum(len(e.data) for e in stream._buffer) <= REPLAY_BYTES  # pyright: ignore[reportPrivateUsage]


def test_a_slow_reader_gets_one_resync_and_goes_on() -> None:
    stream = EventStream()
    with stream.subscribe() as reader, stream.subscribe() as quick:
        fill(stream, QUEUE_EVENTS)
        assert len(quick.pending()) == QUEUE_EVENTS
        overflow = fill(stream, 5)
        waiting = reader.pending()
        assert topics(waiting) == [RESYNC, *["job.state"] * 4]
        assert waiting[0].cursor == overflow[0]
        assert len(quick.pending()) == 5
        fill(stream, QUEUE_EVENTS * 3)
        assert len(reader.pending()) <= QUEUE_EVENTS


def test_a_reader_that_left_costs_nothing() -> None:
    stream = EventStream()
    with stream.subscribe() as reader:
        pass
    fill(stream, 3)
    assert reader.pending() == []


async def test_next_waits_and_iterates() -> None:
    stream = EventStream()
    with stream.subscribe() as reader:
        waiting = asyncio.ensure_future(reader.next())
        await asyncio.sleep(0)
        assert not waiting.done()
        stream.publish("a", {})
        assert (await waiting).topic == "a"
        fill(stream, 3, "b")
        seen = []
        async for event in reader:
            seen.append(event.topic)
            if len(seen) == 3:
                break
        assert seen == ["b"] * 3


async def test_publish_from_a_thread() -> None:
    stream = EventStream()
    stream.publish_threadsafe("lost", {})  # no loop yet: nobody can listen either
    stream.bind(asyncio.get_running_loop())
    with stream.subscribe() as reader:
        await asyncio.to_thread(lambda: [stream.publish_threadsafe("t", {"n": n}) for n in range(100)])
        await asyncio.sleep(0)
        assert [json.loads(e.data)["n"] for e in reader.pending()] == list(range(100))


def test_publish_from_a_thread_after_the_loop_has_closed() -> None:
    stream = EventStream()
    loop = asyncio.new_event_loop()
    stream.bind(loop)
    loop.close()
    stream.publish_threadsafe("t", {})


STEPS = st.one_of(st.integers(1, 400).map(lambda n: ("publish", n)), st.sampled_from([("read", 0), ("leave", 0)]))


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_a_reader_that_comes_back_misses_nothing_unknowingly(steps: list[tuple[str, int]]) -> None:
    """Whatever the order of publishing, reading and reconnecting: each event is seen once, or a resync covers it."""
    stream = EventStream()
    seen = stream.cursor
    context = stream.subscribe(after=seen)
    reader = context.__enter__()
    for step, count in [*steps, ("read", 0)]:
        match step:
            case "publish":
                fill(stream, count)
            case "read":
                for event in reader.pending():
                    assert event.topic == RESYNC or event.cursor == seen + 1
                    assert event.cursor >= seen
                    seen = event.cursor
                assert seen == stream.cursor
            case _:
                context.__exit__(None, None, None)
                context = stream.subscribe(after=seen)
                reader = context.__enter__()
                assert reader.start in (seen, stream.cursor)
    context.__exit__(None, None, None)


async def test_passing_events_go_to_readers_by_name_and_are_not_kept() -> None:
    stream = EventStream()
    waiting = asyncio.create_task(stream.until_wanted("system.resources"))
    with stream.subscribe() as everything, stream.subscribe(["job"]) as other:
        await asyncio.sleep(0)
        assert not waiting.done()
        with stream.subscribe(["system"]) as named:
            await asyncio.wait_for(waiting, 30)
            before = stream.cursor
            stream.publish_passing("system.resources", {"n": 1})
            assert [(e.cursor, e.topic) for e in named.pending()] == [(before, "system.resources")]
        assert everything.pending() == other.pending() == []
    with stream.subscribe(["system"], after=before) as late:
        assert late.pending() == []
