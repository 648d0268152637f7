"""The hub in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from fixtures.hub import Action, Cut, Flip, Listing, Raw, RemoteHub, Rule, Stall, Status
from fixtures.hub.remote import rule_from_json, rule_to_json
from fixtures.hub.repositories import BIG, BIG_FILE

from .client import ask, fetch

TESTS = Path(__file__).parents[1]
FILE = f"/{BIG}/resolve/main/{BIG_FILE}"
GIVEN = {
    "data": b"\0\xff",
    "bytes_per_s": 5.0,
    "keep": 3,
    "offset": 2,
    "shift": 1,
    "value": None,
    "code": 500,
    "paths": ["../x", "lone-\udcff"],
    "name": "ETag",
}


@pytest.fixture(scope="module")
def shared() -> Iterator[RemoteHub]:
    with RemoteHub("--big", "5M", "--page-size", "2") as hub:
        yield hub


@pytest.fixture
def remote(shared: RemoteHub) -> Iterator[RemoteHub]:
    yield shared
    shared.reset()


@pytest.mark.parametrize("kind", Action.__subclasses__(), ids=lambda kind: kind.__name__)
def test_rules_survive_the_way(kind: type[Action]) -> None:
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    action = kind(**{name: value for name, value in GIVEN.items() if name in known})
    rule = Rule((action, Status(503)), kind="file", path="*x", covers=4, ranged=True, skip=1, times=None)
    assert rule_from_json(json.loads(json.dumps(rule_to_json(rule)))) == rule


def test_it_answers_and_misbehaves_as_the_one_in_process(remote: RemoteHub) -> None:
    remote.fault(Cut(at=1_000_000), kind="file")
    remote.fault(Flip(7), kind="file", skip=1)
    remote.fault(Listing(["../x"]), Status(429), kind="model")
    cut, spoilt, whole = (fetch(remote.url + FILE) for _ in range(3))
    assert (len(cut.body), len(spoilt.body)) == (1_000_000, 5 << 20)
    assert spoilt.body[:7] + bytes([spoilt.body[7] ^ 1]) + spoilt.body[8:] == whole.body
    assert remote.bytes_sent() == remote.bytes_sent(f"{BIG}/*") == 1_000_000 + (10 << 20)
    assert [record.kind for record in remote.requests] == ["resolve", "cdn"] * 3
    assert remote.requests[-1].span == (0, 5 << 20)


def test_raw_bytes_travel(remote: RemoteHub) -> None:
    remote.fault(Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\x00"), kind="whoami")
    assert ask(f"{remote.url}/api/whoami-v2").body == b"\xff\x00"


def test_options_change_while_it_runs(remote: RemoteHub) -> None:
    assert len(json.loads(ask(f"{remote.url}/api/models").body)) == 2
    remote.set_options(page_size=3)
    assert len(json.loads(ask(f"{remote.url}/api/models").body)) == 3
    remote.set_options(page_size=2)
    remote.wait_until(lambda: len(remote.requests) == 2)
    with pytest.raises(TimeoutError):
        remote.wait_until(lambda: False, 0.01)


@pytest.mark.parametrize(
    ("order", "body", "status"),
    [("nothing", b"", 404), ("rules", b"{", 400), ("rules", b'{"actions": [{"action": "Boom"}]}', 400)],
)
def test_wrong_orders_are_refused(remote: RemoteHub, order: str, body: bytes, status: int) -> None:
    assert ask(f"{remote.url}/_test/{order}", "POST", body=body).status == status


def test_orders_by_hand(remote: RemoteHub) -> None:
    order = b'{"actions": [{"action": "Status", "code": 503}], "kind": "models", "times": 2}'
    assert ask(f"{remote.url}/_test/rules", "POST", body=order).status == 200
    assert [ask(f"{remote.url}/api/models").status for _ in range(3)] == [503, 503, 200]


def test_without_leave_there_are_no_orders(hub: object) -> None:
    from fixtures.hub import Hub

    assert isinstance(hub, Hub)
    assert ask(f"{hub.url}/_test/requests").status == 404


@pytest.mark.parametrize("way", ["signal", "stdin"])
def test_it_ends_at_once_even_with_a_client_waiting(way: str) -> None:
    if way == "stdin":
        with RemoteHub() as hub:
            hub.fault(Stall(None), kind="whoami")
            with pytest.raises(TimeoutError):
                ask(f"{hub.url}/api/whoami-v2", timeout_s=0.1)
        return
    command = [sys.executable, "-m", "fixtures.hub", "--big", "1K", "--rate", "1M", "--latency", "0"]
    with subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        addresses = json.loads(process.stdout.readline())
        assert ask(f"{addresses['HUB_URL']}/api/models").status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
