"""Reads server-sent events from bytes as they arrive, in pieces of any size. No input or output here.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

RESYNC = "resync"
READY = "ready"
_LINE_END = re.compile("\r\n|\n|\r")


@dataclass(frozen=True)
class Event:
    """One event of the stream.

    `topic` is dotted (`job.progress`); `resync` means that events were missed and what you know should be loaded anew.
    `cursor` is what `events(after=…)` takes to go on from here; None when the event carried none.
    """

    topic: str
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    cursor: int | None = None


class EventParser:
    """Feed it bytes, get whole events. `retry_ms` is the pause before a reconnect that the server asked for."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._started = False
        self._topic = ""
        self._data: list[str] = []
        self._cursor: str | None = None
        self.retry_ms = 2000

    def feed(self, data: bytes) -> list[Event]:
        self._text += self._decode.decode(data)
        if not self._started and self._text:
            self._started = True
            self._text = self._text.removeprefix("\ufeff")
        # A carriage return at the very end may be the first half of CRLF.
        usable = len(self._text) - self._text.endswith("\r")
        events: list[Event] = []
        start = 0
        for end in _LINE_END.finditer(self._text, 0, usable):
            event = self._line(self._text[start : end.start()])
            start = end.end()
            if event is not None:
                events.append(event)
        self._text = self._text[start:]
        return events

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._topic = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._cursor = value
            case "retry" if value.isascii() and value.isdecimal():
                self.retry_ms = int(value[:6])
            case _:
                pass
        return None

    def _dispatch(self) -> Event | None:
        topic, data = self._topic, self._data
        self._topic, self._data = "", []
        if not data:
            return None
        return Event(topic or "message", _object("\n".join(data)), _number(self._cursor))


def _object(text: str) -> dict[str, Any]:
    """Our server sends one JSON object per event; anything else is kept as text under `text`."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return cast(dict[str, Any], value) if isinstance(value, dict) else {"text": text}


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) <= 19 else None


def chosen(topics: str | Iterable[str]) -> tuple[str, ...]:
    """Topics as they are asked for; a text is one topic, not one for each of its letters."""
    return ((topics,) if topics else ()) if isinstance(topics, str) else tuple(topics)
