"""What a sidecar tells on `/events`, held to the table of `docs/events.md`."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import sidecar as running
from pumas.client.sse import READY, Event, EventParser

PAGE = Path(__file__).resolve().parents[2] / "docs" / "events.md"
_ROW = re.compile(r"\| `([a-z.]+)` \| ([^|]*) \| [^|]+ \|")
_FIELD = re.compile(r"`([a-z_]+)(\??)`")


@functools.cache
def listed() -> dict[str, dict[str, bool]]:
    """Topic → field → whether it is always there."""
    rows = map(_ROW.fullmatch, PAGE.read_text(encoding="utf-8").splitlines())
    return {row[1]: {name: not mark for name, mark in _FIELD.findall(row[2])} for row in rows if row}


def wrong(events: list[Event]) -> list[str]:
    """In what they are not as the page says."""
    found: list[str] = []
    for event in events:
        fields = listed().get(event.topic)
        if event.topic == READY:
            continue
        if fields is None:
            found.append(f"{event.topic} is not in {PAGE.name}")
        elif not {name for name, always in fields.items() if always} <= event.data.keys() <= fields.keys():
            found.append(f"{event.topic} has {sorted(event.data)}")
    return found


@contextlib.contextmanager
def listening(sidecar: running.Sidecar) -> Iterator[list[Event]]:
    """All that is told meanwhile; filled when the block is left."""
    events: list[Event] = []
    auth = "".join(f"{name}: {value}\r\n" for name, value in sidecar.auth().items())
    with sidecar.connect() as sock:
        sock.sendall(f"GET /events HTTP/1.1\r\nHost: {sidecar.host}\r\nConnection: close\r\n{auth}\r\n".encode())
        yield events
        sidecar.close()
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := sock.recv(65536):
                data += piece
    parser = EventParser()
    events += parser.feed(_unchunked(data.partition(b"\r\n\r\n")[2]))


def _unchunked(data: bytes) -> bytes:
    """https://www.rfc-editor.org/rfc/rfc9112#section-7.1"""
    body = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size or b"0", 16)
        body, data = body + rest[:length], rest[length + 2 :]
    return body
