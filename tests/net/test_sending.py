"""Where redirects may lead, and who is blamed for what; `test_client.py` sees whole requests."""

from __future__ import annotations

import pytest

from net.stub import Stub, Time, redirect, reply
from pumas.errors import CircuitOpen, HttpStatus, InvalidReply, RateLimited
from pumas.net.address import parse
from pumas.net.breaker import Circuit
from pumas.net.client import NetworkClient
from pumas.net.sending import check_redirect


@pytest.mark.parametrize(
    ("asked", "location", "target"),
    [
        ("https://h/a", "/b", "https://h/b"),
        ("https://h/a", "https://g/b", "https://g/b"),
        ("http://h/a", "https://h/b", "https://h/b"),
        ("http://h/a", "http://g/b", "http://g/b"),
        ("http://127.0.0.1:1/a", "http://localhost:2/b", "http://localhost:2/b"),
        ("https://h/a", " https://g/b ", "https://g/b"),
        ("https://h/a", "http://h/b", None),
        ("https://localhost/a", "http://localhost/b", None),
        ("http://h/a", "http://127.0.0.1/b", None),
        ("https://h/a", "https://localhost/b", None),
        ("https://h/a", "https://[::1]/b", None),
        ("https://h/a", "ftp://h/b", None),
        ("https://h/a", "https://me:secret@h/b", None),
        ("https://h/a", "https://h/a b", None),
        ("https://h/a", "https://[::g]/", None),
    ],
)
def test_where_a_redirect_may_lead(asked: str, location: str, target: str | None) -> None:
    if target is not None:
        assert check_redirect(parse(asked), location) == parse(target)
        return
    with pytest.raises(InvalidReply) as caught:
        check_redirect(parse(asked), location)
    assert "secret" not in str(caught.value)


def test_the_host_that_failed_is_blamed_and_not_the_one_that_sent_us_there(
    client: NetworkClient, stub: Stub, other: Stub
) -> None:
    stub.answer["/x"] = redirect(f"{other.url}/y")
    other.answer["/y"] = reply(500)
    for _ in range(3):
        with pytest.raises(HttpStatus):
            client.send("GET", f"{stub.url}/x", retry=False)
    states = {state.host: state for state in client.hosts.states()}
    assert (states[stub.url].circuit, states[other.url].circuit) == (Circuit.CLOSED, Circuit.OPEN)
    assert states[stub.url].last_error is None and "HTTP 500" in (states[other.url].last_error or "")
    assert states[stub.url].counted.failed == 3, "the request was one to the first host"
    with pytest.raises(CircuitOpen) as caught:
        client.send("GET", f"{stub.url}/x", retry=False)
    assert caught.value.host == f"127.0.0.1:{other.port}"


def test_who_asks_to_wait_is_named_but_not_left_alone(client: NetworkClient, stub: Stub, time: Time) -> None:
    stub.answer["/x"] = [reply(500), reply(429, Retry_After="100")] * 3
    for _ in range(3):
        with pytest.raises(RateLimited):
            client.send("GET", f"{stub.url}/x", patience_s=20)
        time.sleep(100)
    state = client.hosts.states()[0]
    assert state.circuit is Circuit.CLOSED and "allows no more requests" in (state.last_error or "")
    assert state.counted.failed == 3
