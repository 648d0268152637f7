from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumas.client.sse import Event, EventParser


def parse(*chunks: bytes) -> list[Event]:
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("", []),
        (": comment\n\n", []),
        ("data: {}\n", []),
        ('id: 7\nevent: job.state\ndata: {"a":1}\n\n', [Event("job.state", {"a": 1}, 7)]),
        ('data: {"a":1}\n\n', [Event("message", {"a": 1}, None)]),
        ('data:{"a":1}\n\n', [Event("message", {"a": 1})]),
        ('data: {"a":\ndata: 1}\n\n', [Event("message", {"a": 1})]),
        ("data: no json\n\n", [Event("message", {"text": "no json"})]),
        ("data: [1]\n\n", [Event("message", {"text": "[1]"})]),
        ("data\n\n", [Event("message", {"text": ""})]),
        ("event: x\n\ndata: {}\n\n", [Event("message")]),
        # The last id holds for events without one; one with a NUL is no id.
        ("id: 3\ndata: {}\n\ndata: {}\n\n", [Event("message", {}, 3)] * 2),
        ("id: 3\nid: 4\0\ndata: {}\n\n", [Event("message", {}, 3)]),
        ("id: -3\ndata: {}\n\n", [Event("message", {}, None)]),
        ("id: " + "9" * 30 + "\ndata: {}\n\n", [Event("message", {}, None)]),
        ("unknown: x\nnocolon\ndata: {}\n\n", [Event("message")]),
        ("\ufeffdata: {}\n\n", [Event("message")]),
        ("id: 7\r\nevent: x\r\ndata: {\r\ndata: }\r\n\r\n", [Event("x", {}, 7)]),
        ("data: {}\r\n\r\ndata: {}\r\r:\n", [Event("message")] * 2),
        # These end a line of text elsewhere, but not here.
        ('data: {"a":"\u2028\x85"}\n\n', [Event("message", {"a": "\u2028\x85"})]),
    ],
)
def test_events(text: str, events: list[Event]) -> None:
    assert parse(text.encode()) == events
    # One byte at a time must make no difference.
    assert parse(*(bytes([byte]) for byte in text.encode())) == events


@pytest.mark.parametrize(
    ("line", "ms"), [("retry: 50", 50), ("retry: x", 2000), ("retry: -1", 2000), ("retry: ٣", 2000)]
)
def test_retry(line: str, ms: int) -> None:
    parser = EventParser()
    parser.feed(f"{line}\n".encode())
    assert parser.retry_ms == ms


def test_bytes_that_are_no_utf8_harm_only_their_event() -> None:
    assert parse(b"data: \xff\n\ndata: {}\n\n") == [Event("message", {"text": "\ufffd"}), Event("message")]


JSON_OBJECTS = st.dictionaries(st.text(max_size=5), st.text(max_size=8) | st.integers() | st.none(), max_size=4)
TOPICS = st.from_regex(r"[a-z_]{1,8}(\.[a-z_]{1,8})?", fullmatch=True)
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])


@given(
    wanted=st.lists(st.tuples(TOPICS, JSON_OBJECTS, st.integers(0, 10**15)), max_size=6),
    end=LINE_ENDS,
    indent=st.booleans(),
    step=st.integers(1, 40),
)
def test_any_pieces_give_the_same_events(
    wanted: list[tuple[str, dict[str, Any], int]], end: str, indent: bool, step: int
) -> None:
    text = ""
    for topic, data, cursor in wanted:
        lines = json.dumps(data, ensure_ascii=False, indent=1 if indent else None).split("\n")
        text += f": hello{end}id: {cursor}{end}event: {topic}{end}"
        text += "".join(f"data: {line}{end}" for line in lines) + end
    # A stream that ends its lines with a bare CR shows an event's end only by what follows.
    wire = (text + ":\n").encode()
    pieces = [wire[start : start + step] for start in range(0, len(wire), step)]
    assert parse(*pieces) == [Event(topic, data, cursor) for topic, data, cursor in wanted]


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_no_bytes_break_it(pieces: list[bytes]) -> None:
    assert all(event.topic for event in parse(*pieces))
