"""Every fault as a plain client sees it on the wire."""

from __future__ import annotations

import gzip
import http.client
import json
from collections.abc import Callable, Mapping
from threading import Thread
from typing import Any

import pytest

from fixtures.hub import (
    Action,
    Cut,
    Drop,
    Endless,
    Flip,
    Gzip,
    Header,
    Hub,
    IgnoreRange,
    Length,
    Listing,
    OtherETag,
    OtherRange,
    Page,
    Raw,
    Redirect,
    Slow,
    Stall,
    Status,
    Truncate,
)

from .client import Answer, ask, fetch
from .conftest import DATA, TEXT

FILE = "/a/b/resolve/main/w.bin"
SMALL = "/a/b/resolve/main/text.txt"
SIZE = len(DATA)
RANGE = {"Range": "bytes=100000-199999"}


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def cut_short(answer: Answer) -> bool:
    return isinstance(answer.error, http.client.IncompleteRead)


Case = tuple[Action, dict[str, str], int, bytes, Callable[[Answer], Any]]
ANSWERED: dict[str, Case] = {
    "cut": (Cut(1_000), {}, 200, DATA[:1_000], cut_short),
    "cut before anything": (Cut(), {}, 200, b"", cut_short),
    "cut at a byte": (Cut(at=150_000), {}, 200, DATA[:150_000], cut_short),
    "cut inside a range": (Cut(at=150_000), RANGE, 206, DATA[100_000:150_000], cut_short),
    "cut by reset": (Cut(70_000, reset=True), {}, 200, DATA[:70_000], lambda a: isinstance(a.error, ConnectionError)),
    "truncated": (Truncate(1_000), {}, 200, DATA[:1_000], cut_short),
    "truncated and admitted": (Truncate(1_000, admit=True), {}, 200, DATA[:1_000], lambda a: a.error is None),
    "a flipped bit": (Flip(123_456), {}, 200, flipped(DATA, 123_456), lambda a: a.error is None),
    "a flipped bit inside a range": (Flip(123_456), RANGE, 206, flipped(DATA, 123_456)[100_000:200_000], bool),
    "another etag": (OtherETag("new"), {}, 200, DATA, lambda a: a.headers["ETag"] == '"new"'),
    "range ignored": (IgnoreRange(), RANGE, 200, DATA, lambda a: "Content-Range" not in a.headers),
    "another range": (
        OtherRange(10),
        RANGE,
        206,
        DATA[100_010:200_010],
        lambda a: a.headers["Content-Range"] == f"bytes 100010-200009/{SIZE}",
    ),
    "another range, denied": (
        OtherRange(10, admit=False),
        RANGE,
        206,
        DATA[100_010:200_010],
        lambda a: a.headers["Content-Range"] == f"bytes 100000-199999/{SIZE}",
    ),
    "length too small": (Length(5), {}, 200, DATA[:5], lambda a: a.headers["Connection"] == "close"),
    "length too great": (Length(SIZE + 1), {}, 200, DATA, cut_short),
    "chunked": (Length(None), {}, 200, DATA, lambda a: a.headers["Transfer-Encoding"] == "chunked"),
    "up to the close": (Length(None, close=True), {}, 200, DATA, lambda a: "Content-Length" not in a.headers),
    "a header set": (Header("etag", "odd"), {}, 200, DATA, lambda a: a.headers["ETag"] == "odd"),
    "a header missing": (Header("ETag", None), {}, 200, DATA, lambda a: "ETag" not in a.headers),
    "a page": (Page(), {}, 200, Page().text.encode(), lambda a: a.headers["Content-Type"].startswith("text/html")),
    "a pause": (Stall(50_000, 0.01), {}, 200, DATA, lambda a: a.error is None),
    "a pause before the head": (Stall(None, 0.01), {}, 200, DATA, lambda a: a.error is None),
    "slow": (Slow(30_000_000), {}, 200, DATA, lambda a: a.error is None),
    "compressed": (Gzip(), {}, 200, gzip.compress(DATA), lambda a: a.headers["Content-Encoding"] == "gzip"),
    "refused": (
        Status(429, retry_after=7, reset_s=30, error_code="Slow"),
        {},
        429,
        b'{"error": "The hub refuses for a test."}',
        lambda a: (
            (a.headers["Retry-After"], a.headers["RateLimit"], a.headers["X-Error-Code"])
            == ("7", '"api";r=0;t=30', "Slow")
        ),
    ),
}
NO_ANSWER: dict[str, tuple[Action, type[Exception]]] = {
    "dropped": (Drop(), http.client.RemoteDisconnected),
    "dropped by reset": (Drop(reset=True), ConnectionResetError),
    "not HTTP": (Raw(b"\x15\x03\x01\x00\x02\x02\x28"), http.client.BadStatusLine),
    "silent": (Stall(None), TimeoutError),
}
# Tested in words below.
OTHERS = {Endless, Redirect, Listing}


def test_every_action_has_a_case() -> None:
    shown = {type(case[0]) for case in (*ANSWERED.values(), *NO_ANSWER.values())}
    assert set(Action.__subclasses__()) == shown | OTHERS


@pytest.mark.parametrize("name", ANSWERED)
def test_answers_go_wrong_once(small: Hub, name: str) -> None:
    action, headers, status, body, holds = ANSWERED[name]
    small.fault(action, kind="file")
    spoilt = fetch(small.url + FILE, headers)
    if name == "compressed":  # a gzip head holds the time of making
        spoilt.body, body = gzip.decompress(spoilt.body), DATA
    assert (spoilt.status, spoilt.body) == (status, body)
    assert holds(spoilt), spoilt
    good = fetch(small.url + FILE, headers)
    whole = (206, DATA[100_000:200_000]) if headers else (200, DATA)
    assert (good.status, good.body, good.error) == (*whole, None)


@pytest.mark.parametrize("name", NO_ANSWER)
def test_nothing_comes_back(small: Hub, name: str) -> None:
    action, expected = NO_ANSWER[name]
    rule = small.fault(action, kind="file")
    location = ask(small.url + FILE).headers["Location"]
    with pytest.raises(expected):
        ask(location, timeout_s=0.5)
    small.wait_until(lambda: rule.seen == 1)
    assert fetch(small.url + FILE).body == DATA


def test_a_stall_gives_what_came_before_and_ends_when_the_client_leaves(small: Hub) -> None:
    small.fault(Stall(1_000), kind="file")
    answer = ask(ask(small.url + FILE).headers["Location"], timeout_s=0.5)
    assert (answer.body, type(answer.error)) == (DATA[:1_000], TimeoutError)
    small.wait_until(lambda: all(record.ended for record in small.requests))
    assert small.requests[-1].bytes_sent == 1_000


def test_closing_the_hub_ends_a_stall() -> None:
    with Hub() as hub:
        hub.fault(Stall(None), kind="whoami")
        outcome: list[Exception] = []

        def wait() -> None:
            try:
                ask(f"{hub.url}/api/whoami-v2", timeout_s=60)
            except OSError as error:
                outcome.append(error)

        waiting = Thread(target=wait)
        waiting.start()
        hub.wait_until(lambda: len(hub.requests) == 1)
    waiting.join(20)
    assert len(outcome) == 1


def test_endless_content_ends_with_the_client(small: Hub) -> None:
    small.fault(Endless(), kind="file")
    location = ask(small.url + FILE).headers["Location"]
    answer = ask(location, at_most=3 * SIZE)
    assert answer.body[: 3 * SIZE] == DATA * 3
    small.wait_until(lambda: all(record.ended for record in small.requests))


def test_a_redirect_to_itself_and_elsewhere(small: Hub) -> None:
    small.fault(Redirect("http://localhost:9/elsewhere", 307), kind="resolve")
    answer = ask(small.url + FILE)
    assert (answer.status, answer.headers["Location"]) == (307, "http://localhost:9/elsewhere")
    small.fault(Redirect(), kind="resolve", times=None)
    assert ask(small.url + FILE).headers["Location"] == FILE
    with pytest.raises(AssertionError, match="redirects"):
        fetch(small.url + FILE)


@pytest.mark.parametrize("path", ["/api/models/a/b/tree/main", "/api/models/a/b?blobs=true"])
def test_listings_can_hold_what_is_not_there(small: Hub, path: str) -> None:
    small.fault(Listing(["../out.bin", "lone-\udcff"]))
    answer: Any = json.loads(ask(small.url + path).body)
    rows, key = (answer["siblings"], "rfilename") if "siblings" in answer else (answer, "path")
    assert [row[key] for row in rows[-2:]] == ["../out.bin", "lone-\udcff"]


def test_several_faults_act_on_one_reply(small: Hub) -> None:
    small.fault(Flip(10), Length(None), Cut(100), kind="file")
    answer = fetch(small.url + FILE)
    assert answer.body == flipped(DATA, 10)[:100]
    assert isinstance(answer.error, http.client.IncompleteRead)
    small.fault(Page(status=503), Truncate(5, admit=True), kind="file")
    page = fetch(small.url + FILE)
    assert (page.status, page.body) == (503, b"<!doc")


def test_another_etag_makes_if_range_fail(small: Hub) -> None:
    location = ask(small.url + FILE).headers["Location"]
    etag = ask(location).headers["ETag"]
    asked = {**RANGE, "If-Range": etag}
    assert ask(location, headers=asked).status == 206
    small.fault(OtherETag(), kind="file")
    changed = ask(location, headers=asked)
    assert (changed.status, changed.body) == (200, DATA)
    assert changed.headers["ETag"] != etag
    small.fault(OtherETag("other"), kind="resolve")
    assert ask(small.url + FILE, "HEAD").headers["X-Linked-ETag"] == '"other"'


Asked = tuple[str, str, Mapping[str, str]]
HIT: list[tuple[dict[str, Any], Asked, Asked]] = [
    ({"kind": "file"}, ("GET", SMALL, {}), ("HEAD", SMALL, {})),
    ({"kind": "file"}, ("GET", FILE, {}), ("GET", "/api/models/a/b", {})),
    ({"kind": "tree"}, ("GET", "/api/models/a/b/tree/main", {}), ("GET", "/api/models/a/b", {})),
    ({"host": "cdn"}, ("GET", FILE, {}), ("GET", SMALL, {})),
    ({"method": "HEAD"}, ("HEAD", SMALL, {}), ("GET", SMALL, {})),
    ({"path": "a/b/*.bin"}, ("GET", FILE, {}), ("GET", SMALL, {})),
    ({"path": "/api/models/*"}, ("GET", "/api/models/a/b", {}), ("GET", SMALL, {})),
    ({"ranged": True}, ("GET", FILE, RANGE), ("GET", FILE, {})),
    ({"ranged": False}, ("GET", FILE, {}), ("GET", FILE, RANGE)),
    ({"covers": 150_000}, ("GET", FILE, RANGE), ("GET", FILE, {"Range": "bytes=0-149999"})),
]


@pytest.mark.parametrize(("conditions", "meant", "other"), HIT, ids=str)
def test_a_rule_hits_what_it_describes(small: Hub, conditions: dict[str, Any], meant: Asked, other: Asked) -> None:
    small.fault(Status(418), **conditions)

    def status(asked: Asked) -> int:
        method, path, headers = asked
        answer = ask(small.url + path, method, headers)
        place = answer.headers.get("Location", "")
        return ask(place if "://" in place else small.url + place, method, headers).status if place else answer.status

    assert status(other) in (200, 206)
    assert status(meant) == 418
    assert status(meant) in (200, 206)


def test_some_pass_and_some_are_hit(small: Hub) -> None:
    rule = small.fault(Status(500), kind="whoami", skip=2, times=2)
    seen = [ask(f"{small.url}/api/whoami-v2").status for _ in range(6)]
    assert seen == [401, 401, 500, 500, 401, 401]
    assert rule.seen == 6
    small.fault(Status(502), times=None)
    assert [fetch(small.url + SMALL).status for _ in range(3)] == [502] * 3
    small.reset()
    assert (fetch(small.url + SMALL).body, len(small.requests)) == (TEXT, 2)
