"""`GET /events`: the event stream as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

`?topics=job,model` chooses topics, `Last-Event-ID` replays what was missed. The first event is `ready`, with the
cursor from which this reader follows; `resync` says that events were missed and the state must be loaded anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Mapping, Sequence

from aiohttp import web

from pumas import tables
from pumas.events.stream import Event, EventStream

KEEPALIVE_S = 20.0
# A reader that takes nothing for this long is gone.
WRITE_DEADLINE_S = 20.0
MAX_TOPICS = 32
MAX_ECHO = 40


async def serve_events(
    request: web.BaseRequest, events: EventStream, stopping: asyncio.Event, headers: Mapping[str, str]
) -> web.StreamResponse:
    topics = [t for given in request.query.getall("topics", ()) for t in given.split(",") if t]
    known = await asyncio.to_thread(_known) if topics else ()
    problem = "topics is the only parameter." if set(request.query) - {"topics"} else _problem(topics, known)
    if problem is not None:
        return web.Response(status=400, text=problem, headers=headers)
    response = web.StreamResponse(headers={**headers, "Content-Type": "text/event-stream; charset=utf-8"})
    with events.subscribe(topics, after=_cursor(request.headers.get("Last-Event-ID"))) as reader:
        following = stop = None
        try:
            await response.prepare(request)
            # With an id, so that a reader whose connection drops before the first event misses nothing either.
            await _write(
                response, b'retry: 2000\nid: %d\nevent: ready\ndata: {"cursor":%d}\n\n' % ((reader.start,) * 2)
            )
            stop = asyncio.ensure_future(stopping.wait())
            while not stopping.is_set():
                following = asyncio.ensure_future(reader.next())
                await asyncio.wait((following, stop), timeout=KEEPALIVE_S, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    await _write(response, b"".join(map(_wire, [following.result(), *reader.pending()])))
                    continue
                following.cancel()
                if not stop.done():
                    await _write(response, b": still here\n\n")
        except (ConnectionError, TimeoutError):
            _abort(request)
        finally:
            for task in (following, stop):
                if task is not None:
                    task.cancel()
    return response


@functools.cache
def _known() -> tuple[str, ...]:
    return tuple(tables.table("topics")["topics"])


def _problem(topics: Sequence[str], known: Sequence[str]) -> str | None:
    """Why nothing of that can be followed. Who misspelt a topic would else wait for ever."""
    if len(topics) > MAX_TOPICS:
        return f"At most {MAX_TOPICS} topics can be named."
    groups = sorted({topic.partition(".")[0] for topic in known})
    wrong = next((topic for topic in topics if topic not in known and topic not in groups), None)
    if wrong is None:
        return None
    group = wrong.partition(".")[0]
    there = [topic for topic in known if "." in wrong and topic.startswith(f"{group}.")] or groups
    # Nothing is said again that is not a plain word.
    plain = len(wrong) <= MAX_ECHO and wrong.isascii() and wrong.replace(".", "").replace("_", "").isalnum()
    return f"There is no topic{f' {wrong}' if plain else ' of that name'}, only: {', '.join(there)}."


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_DEADLINE_S):
        await response.write(data)


def _abort(request: web.BaseRequest) -> None:
    with contextlib.suppress(AttributeError):
        if request.transport is not None:
            request.transport.abort()


def _wire(event: Event) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.cursor, event.topic.encode(), event.data)


def _cursor(text: str | None) -> int | None:
    """A cursor that cannot be one is a fresh start, not an error."""
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) <= 19 else None
