"""One request from start to end over real sockets; only the waiting is not real."""

from __future__ import annotations

import threading
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from net.stub import (
    ROOT,
    Handler,
    Stub,
    Time,
    closed_port,
    hang_up,
    json_reply,
    raw,
    redirect,
    reply,
    reset,
    serve,
    silence,
)
from pumas import __version__
from pumas.errors import (
    Cancelled,
    CircuitOpen,
    ConnectionFailed,
    HttpStatus,
    Interrupted,
    InvalidInput,
    InvalidReply,
    NetworkError,
    Offline,
    RateLimited,
)
from pumas.net.client import NetworkClient, Timeouts
from pumas.net.settings import NetworkSettings

TOKEN = "Bearer hf_secretsecretsecret"
QUICK = Timeouts(connect_s=2.0, read_s=0.3)


def fetch(client: NetworkClient, url: str, **options: Any) -> Any:
    with client.send("GET", url, **options) as response:
        return response.json()


def numbers(client: NetworkClient) -> tuple[int, int, int, int]:
    now = client.hosts.tally.now
    return now.succeeded, now.failed, now.retries, now.rejected


# -- what is sent ------------------------------------------------------------------------------------------------------


def test_a_request_says_who_asks_and_wants_bytes_as_they_are(client: NetworkClient, stub: Stub) -> None:
    stub.answer["/x"] = json_reply({"a": 1})
    with client.send("GET", f"{stub.url}/x?q=1#part", headers={"Range": "bytes=0-"}) as response:
        assert (response.status, response.url, response.json()) == (200, f"{stub.url}/x?q=1", {"a": 1})
        assert response.headers["content-TYPE"] == "application/json"
    asked = stub.asked[0]
    assert (asked.method, asked.target) == ("GET", "/x?q=1")
    sent = {name: asked.headers.get(name) for name in ("user-agent", "accept-encoding", "range", "authorization")}
    assert sent == {
        "user-agent": f"pumas/{__version__}",
        "accept-encoding": "identity",
        "range": "bytes=0-",
        "authorization": None,
    }


def test_a_body_is_sent_and_our_headers_can_be_replaced(client: NetworkClient, stub: Stub) -> None:
    stub.answer["/x"] = reply(201)
    with client.send(
        "post", f"{stub.url}/x", body=b"abc", headers={"USER-agent": "me", "Accept-Encoding": "gzip"}
    ) as r:
        assert r.status == 201
    asked = stub.asked[0]
    assert (asked.method, asked.body) == ("POST", b"abc")
    assert (asked.headers["user-agent"], asked.headers["accept-encoding"]) == ("me", "gzip")


def test_a_connection_is_used_again(client: NetworkClient, stub: Stub) -> None:
    stub.answer["/x"] = json_reply([])
    stub.answer["/gone"] = reply(404, b"nothing here")
    fetch(client, f"{stub.url}/x")
    with pytest.raises(HttpStatus):
        fetch(client, f"{stub.url}/gone")
    fetch(client, f"{stub.url}/x")
    assert {asked.connection for asked in stub.asked} == {0}


@pytest.mark.parametrize(
    "headers",
    [{"A": "b\r\nX: y"}, {"A": "b\nc"}, {"A": "\0"}, {"A\r\nB": "c"}, {"": "x"}, {"A": "é"}, {"A B": "c"}],
)
def test_headers_that_would_break_the_request_are_refused(client: NetworkClient, headers: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        client.send("GET", "http://127.0.0.1:1/", headers=headers)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["", "GET /", "G\r\nET", "GÉT"])
def test_methods_that_are_none_are_refused(client: NetworkClient, method: str) -> None:
    with pytest.raises(InvalidInput):
        client.send(method, "http://127.0.0.1:1/")


@pytest.mark.parametrize(
    "url", ["ftp://h/", "file:///etc/passwd", "http://", "http://u:p@127.0.0.1/", "//h/x", "http://h/\r\n"]
)
def test_addresses_that_are_none_are_refused_without_repeating_them(client: NetworkClient, url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        client.send("GET", url)
    assert "passwd" not in str(caught.value) and "u:p" not in str(caught.value)


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "cause", "words"),
    [
        (reset, "reset", "reset the connection"),
        (hang_up, "cut", "ended the connection without an answer"),
        (silence, "timeout", "stopped sending"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Le"), "cut", "ended the connection"),
        (raw(b"HTTP/1.1 200 OK\r\nX: ", end=False), "timeout", "stopped sending"),
    ],
)
def test_a_connection_that_breaks_before_the_answer(
    client: NetworkClient, stub: Stub, handler: Handler, cause: str, words: str
) -> None:
    stub.answer["/x"] = [_then_hold(handler)]
    with pytest.raises(ConnectionFailed, match=words) as caught:
        client.send("GET", f"{stub.url}/x?token=secret", retry=False, timeouts=QUICK)
    assert caught.value.cause == cause
    assert caught.value.host == f"127.0.0.1:{stub.port}"
    assert "secret" not in str(caught.value)


def _then_hold(handler: Handler) -> Handler:
    def handle(asked: Any, line: Any) -> None:
        handler(asked, line)
        line.hold()

    return handle


def test_nobody_listens(client: NetworkClient) -> None:
    with pytest.raises(ConnectionFailed, match="refused the connection") as caught:
        client.send("GET", f"http://127.0.0.1:{closed_port()}/", retry=False)
    assert caught.value.cause == "refused"


def test_a_name_that_nobody_knows(client: NetworkClient) -> None:
    with pytest.raises(ConnectionFailed, match="could not be looked up") as caught:
        client.send("GET", "http://no-such-host.invalid/", retry=False)
    assert (caught.value.cause, caught.value.host) == ("dns", "no-such-host.invalid")


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\0\1\2\3\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_something_that_is_not_http(client: NetworkClient, stub: Stub, data: bytes) -> None:
    stub.answer["/x"] = raw(data)
    with pytest.raises(InvalidReply, match="not well-formed HTTP"):
        client.send("GET", f"{stub.url}/x", retry=False)


def test_two_lengths_are_no_answer(client: NetworkClient, stub: Stub) -> None:
    stub.answer["/x"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde")
    with pytest.raises(InvalidReply):
        client.send("GET", f"{stub.url}/x", retry=False)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416, 451, 500, 502, 503, 504])
def test_a_status_that_means_failure(client: NetworkClient, stub: Stub, status: int) -> None:
    stub.answer["/x"] = reply(status, b"<html>secret of the page</html>")
    with pytest.raises(HttpStatus) as caught:
        client.send("GET", f"{stub.url}/x", retry=False)
    assert (caught.value.status, caught.value.host) == (status, f"127.0.0.1:{stub.port}")
    assert str(status) in str(caught.value) and "secret" not in str(caught.value)
    with client.send("GET", f"{stub.url}/x", retry=False, accept=(status,)) as response:
        assert response.read(100) == b"<html>secret of the page</html>"
    with client.send("GET", f"{stub.url}/x", retry=False, check=False) as response:
        assert response.status == status


# -- trying again ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [reset, hang_up, reply(500), reply(502), reply(503), reply(504), reply(408), reply(429)],
)
def test_what_may_pass_is_tried_again(client: NetworkClient, stub: Stub, time: Time, first: Handler) -> None:
    stub.answer["/x"] = [first, first, json_reply("done")]
    waits: list[tuple[float, str]] = []
    assert fetch(client, f"{stub.url}/x", on_wait=lambda *told: waits.append(told)) == "done"
    assert len(stub.asked) == 3 and len(waits) == 2
    assert all(0 <= seconds <= 0.5 * 2**n for n, (seconds, _reason) in enumerate(waits))
    assert all(f"127.0.0.1:{stub.port}" in reason for _seconds, reason in waits)
    assert sum(time.slept) == pytest.approx(sum(seconds for seconds, _reason in waits))
    assert numbers(client) == (1, 0, 2, 0)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 501, 505])
def test_what_stays_is_not_tried_again(client: NetworkClient, stub: Stub, status: int) -> None:
    stub.answer["/x"] = reply(status)
    with pytest.raises(HttpStatus):
        client.send("GET", f"{stub.url}/x")
    assert len(stub.asked) == 1


def test_after_five_attempts_the_last_failure_counts(client: NetworkClient, stub: Stub) -> None:
    stub.answer["/x"] = [reply(500), reply(500), reply(500), reply(500), reply(502), json_reply("too late")]
    with pytest.raises(HttpStatus) as caught:
        client.send("GET", f"{stub.url}/x")
    assert (caught.value.status, len(stub.asked)) == (502, 5)
    assert numbers(client) == (0, 1, 4, 0)


def test_unchecked_the_last_answer_comes_back(client: NetworkClient, stub: Stub) -> None:
    stub.answer["/x"] = reply(503, b"tired")
    with client.send("GET", f"{stub.url}/x", check=False) as response:
        assert (response.status, response.read(10), len(stub.asked)) == (503, b"tired", 5)


@pytest.mark.parametrize("options", [{"method": "POST"}, {"method": "PATCH"}, {"method": "GET", "retry": False}])
def test_what_could_be_done_twice_is_sent_once(client: NetworkClient, stub: Stub, options: dict[str, Any]) -> None:
    stub.answer["/x"] = [reply(500), json_reply("again")]
    with pytest.raises(HttpStatus):
        client.send(options.pop("method"), f"{stub.url}/x", body=b"x", **options)
    assert len(stub.asked) == 1


def test_an_idle_connection_that_the_host_closed_is_no_failure(client: NetworkClient, stub: Stub) -> None:
    stub.answer["/x"] = [json_reply(1), hang_up, json_reply(2)]
    assert fetch(client, f"{stub.url}/x") == 1
    assert fetch(client, f"{stub.url}/x", retry=False) == 2
    assert numbers(client) == (2, 0, 0, 0)


def test_a_new_connection_that_is_closed_is_a_failure(client: NetworkClient, stub: Stub) -> None:
    stub.answer["/x"] = [json_reply(1), hang_up]
    assert fetch(client, f"{stub.url}/x") == 1
    with pytest.raises(ConnectionFailed):
        client.send("GET", f"{stub.url}/x", retry=False)
    assert len(stub.asked) == 3, "once on the idle connection, once on a new one"


def test_but_it_is_never_sent_twice_when_that_could_do_something_twice(client: NetworkClient, stub: Stub) -> None:
    stub.answer["/x"] = [json_reply(1), hang_up, json_reply(2)]
    assert fetch(client, f"{stub.url}/x") == 1
    with pytest.raises(ConnectionFailed):
        client.send("POST", f"{stub.url}/x", body=b"x", retry=False)


def test_a_body_that_is_wanted_at_once_is_fetched_again_when_it_breaks_off(client: NetworkClient, stub: Stub) -> None:
    cut = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n[1,")
    stub.answer["/x"] = [cut, json_reply([1, 2])]
    assert fetch(client, f"{stub.url}/x", preload=1000) == [1, 2]
    stub.answer["/y"] = json_reply("x" * 1000)
    with pytest.raises(InvalidReply, match="longer than 100 bytes"):
        fetch(client, f"{stub.url}/y", preload=100)
    assert len(stub.asked) == 3, "what is too long stays too long"


# -- waiting as the host asks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (429, {"Retry-After": "7"}, 7),
        (503, {"Retry-After": "7"}, 7),
        (429, {"Retry-After": "100000"}, 300),
        (429, {"RateLimit": '"api";r=0;t=55'}, 55),
        (429, {"RateLimit": '"api";r=3;t=55', "Retry-After": "2"}, 2),
    ],
)
def test_the_wait_is_the_one_that_was_asked_for(
    client: NetworkClient, stub: Stub, time: Time, status: int, headers: dict[str, str], wait: float
) -> None:
    stub.answer["/x"] = [reply(status, b"", **headers), json_reply("done")]
    began = time.clock()
    assert fetch(client, f"{stub.url}/x") == "done"
    assert wait <= time.clock() - began <= wait + 1


def test_the_wait_until_a_time_of_day(client: NetworkClient, stub: Stub, time: Time) -> None:
    stub.answer["/x"] = [reply(429, Retry_After=formatdate(time.now() + 90, usegmt=True)), json_reply("done")]
    began = time.clock()
    assert fetch(client, f"{stub.url}/x") == "done"
    assert 89 <= time.clock() - began <= 91


def test_everybody_waits_for_that_host_and_nobody_for_another(
    client: NetworkClient, stub: Stub, other: Stub, time: Time
) -> None:
    stub.answer["*"] = [reply(429, Retry_After="30"), json_reply("done")]
    other.answer["*"] = json_reply("other")
    with pytest.raises(RateLimited) as caught:
        client.send("GET", f"{stub.url}/x", retry=False)
    assert caught.value.retry_after_s == 30
    assert client.wait_for(f"{stub.url}/y") == 30 and client.wait_for(other.url) == 0
    with pytest.raises(RateLimited) as caught:
        client.send("GET", f"{stub.url}/y", retry=False)
    assert (caught.value.retry_after_s, len(stub.asked)) == (30, 1), "not even asked"
    assert fetch(client, other.url) == "other" and not time.slept
    assert fetch(client, f"{stub.url}/y") == "done"
    assert 30 <= sum(time.slept) <= 31 and client.wait_for(f"{stub.url}/y") == 0


def test_an_answer_can_ask_for_a_pause_before_the_next(client: NetworkClient, stub: Stub, time: Time) -> None:
    stub.answer["*"] = [json_reply("last", 200, RateLimit='"api";r=0;t=20'), json_reply("next")]
    assert fetch(client, f"{stub.url}/api/x") == "last"
    assert client.wait_for(f"{stub.url}/api/y") == 20
    assert client.wait_for(f"{stub.url}/a/b/resolve/main/f") == 0, "files have a quota of their own"
    assert fetch(client, f"{stub.url}/api/y") == "next"
    assert 20 <= sum(time.slept) <= 21


def test_patience_ends_before_the_wait(client: NetworkClient, stub: Stub, time: Time) -> None:
    stub.answer["*"] = reply(429, Retry_After="30")
    with pytest.raises(RateLimited) as caught:
        client.send("GET", f"{stub.url}/x", patience_s=10)
    assert caught.value.retry_after_s == 30 and not time.slept and len(stub.asked) == 1
    with pytest.raises(RateLimited):
        client.send("GET", f"{stub.url}/x", patience_s=10)
    assert not time.slept and len(stub.asked) == 1


def test_a_refusal_that_says_when_is_a_rate_limit(client: NetworkClient, stub: Stub, time: Time) -> None:
    stub.answer["/x"] = reply(403, X_RateLimit_Remaining="0", X_RateLimit_Reset=str(int(time.now()) + 40))
    with pytest.raises(RateLimited) as caught:
        client.send("GET", f"{stub.url}/x")
    assert 39 <= caught.value.retry_after_s <= 40


def test_stop_ends_a_wait_within_a_fifth_of_a_second(client: NetworkClient, stub: Stub, time: Time) -> None:
    stub.answer["/x"] = reply(429, Retry_After="100")

    def stop() -> None:
        if time.clock() > 1010:
            raise Cancelled("no more")

    with pytest.raises(Cancelled):
        client.send("GET", f"{stub.url}/x", stop=stop)
    assert 1010 < time.clock() <= 1010.5
    assert max(time.slept) <= 0.2


def test_stop_ends_the_waiting_for_an_answer(stub: Stub) -> None:
    stub.answer["/x"] = silence
    asked = 0

    def stop() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise Cancelled("no more")

    client = NetworkClient()
    with pytest.raises(Cancelled):
        client.send("GET", f"{stub.url}/x", stop=stop)
    client.close()


# -- the breaker -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [reply(500), reset, raw(b"nonsense\r\n\r\n")])
def test_a_host_that_fails_three_times_is_left_alone_and_then_tried_once(
    client: NetworkClient, stub: Stub, other: Stub, time: Time, failure: Handler
) -> None:
    stub.answer["/x"] = [failure, failure, failure, failure, json_reply("well")]
    other.answer["*"] = json_reply("other")
    for _ in range(3):
        with pytest.raises((HttpStatus, ConnectionFailed, InvalidReply)):
            client.send("GET", f"{stub.url}/x", retry=False)
    assert client.wait_for(stub.url) == 60
    for retry in (True, False):
        with pytest.raises(CircuitOpen) as caught:
            client.send("GET", f"{stub.url}/x", retry=retry)
        assert caught.value.retry_after_s == 60
    assert len(stub.asked) == 3 and fetch(client, other.url) == "other"
    time.sleep(60)
    with pytest.raises((HttpStatus, ConnectionFailed, InvalidReply)):
        client.send("GET", f"{stub.url}/x")
    assert len(stub.asked) == 4, "a trial is a single attempt"
    assert client.wait_for(stub.url) == 60
    time.sleep(60)
    assert fetch(client, f"{stub.url}/x") == "well"
    assert client.wait_for(stub.url) == 0
    assert numbers(client) == (2, 4, 0, 2)


def test_a_request_counts_once_however_often_it_was_tried(client: NetworkClient, stub: Stub) -> None:
    stub.answer["/x"] = [*[reply(500)] * 4, json_reply("well"), reply(500)]
    assert fetch(client, f"{stub.url}/x") == "well"
    for _ in range(2):
        with pytest.raises(HttpStatus):
            client.send("GET", f"{stub.url}/x")
    assert client.wait_for(stub.url) == 0 and len(stub.asked) == 15


@pytest.mark.parametrize("answer", [reply(404), reply(429, Retry_After="1"), reply(503, Retry_After="1"), reply(401)])
def test_a_host_that_refuses_or_asks_to_wait_is_well(
    client: NetworkClient, stub: Stub, time: Time, answer: Handler
) -> None:
    stub.answer["/x"] = answer
    for _ in range(5):
        with pytest.raises((HttpStatus, RateLimited)):
            client.send("GET", f"{stub.url}/x", retry=False)
        time.sleep(1)
    assert len(stub.asked) == 5


def test_a_trial_that_is_stopped_lets_the_next_one_try(client: NetworkClient, stub: Stub, time: Time) -> None:
    def stop() -> None:
        raise Cancelled("no more")

    stub.answer["/x"] = [reply(500), reply(500), reply(500), silence, json_reply("well")]
    for _ in range(3):
        with pytest.raises(HttpStatus):
            client.send("GET", f"{stub.url}/x", retry=False)
    time.sleep(60)
    began = threading.Event()

    def later() -> None:
        if len(stub.asked) == 4:
            stop()
        began.set()

    with pytest.raises(Cancelled):
        client.send("GET", f"{stub.url}/x", stop=later)
    assert fetch(client, f"{stub.url}/x") == "well"


# -- redirects ---------------------------------------------------------------------------------------------------------


def test_a_redirect_is_followed_and_the_final_address_told(client: NetworkClient, stub: Stub) -> None:
    stub.answer |= {"/a": redirect("/b?x=1"), "/b": redirect("c"), "/c": json_reply("here")}
    with client.send("GET", f"{stub.url}/a", headers={"Authorization": TOKEN}) as response:
        assert (response.json(), response.url) == ("here", f"{stub.url}/c")
    assert [asked.headers.get("authorization") for asked in stub.asked] == [TOKEN] * 3, "the same host gets it"
    assert {asked.connection for asked in stub.asked} == {0}


@pytest.mark.parametrize("where", ["port", "name", "back"])
def test_the_token_stays_with_its_host(client: NetworkClient, stub: Stub, other: Stub, where: str) -> None:
    target = f"{other.url}/b" if where != "name" else f"http://localhost:{stub.port}/b"
    stub.answer["/a"] = redirect(target)
    other.answer["/b"] = redirect(f"{stub.url}/c") if where == "back" else json_reply("here")
    stub.answer |= {"/b": json_reply("here"), "/c": json_reply("here")}
    assert (
        fetch(client, f"{stub.url}/a", headers={"authorization": TOKEN, "COOKIE": "a=b", "Range": "bytes=0-"}) == "here"
    )
    first, *later = stub.asked[:1] + other.asked + stub.asked[1:]
    assert first.headers["authorization"] == TOKEN and first.headers["cookie"] == "a=b"
    assert later
    for asked in later:
        assert "authorization" not in asked.headers and "cookie" not in asked.headers
        assert asked.headers["range"] == "bytes=0-"


def test_plain_to_safe_takes_no_token_along(time: Time, stub: Stub) -> None:
    with serve(tls=True) as safe:
        stub.answer["/a"] = redirect(f"{safe.url}/b")
        safe.answer["/b"] = json_reply("safe")
        client = NetworkClient(NetworkSettings(ca_bundle=str(ROOT)), **time.options())
        assert fetch(client, f"{stub.url}/a", headers={"Authorization": TOKEN}) == "safe"
        assert "authorization" not in safe.asked[0].headers
        client.close()


@pytest.mark.parametrize("hops", [5, 6])
def test_five_redirects_and_no_more(client: NetworkClient, stub: Stub, hops: int) -> None:
    stub.answer |= {f"/{n}": redirect(f"/{n + 1}") for n in range(hops)} | {f"/{hops}": json_reply("end")}
    if hops == 5:
        assert fetch(client, f"{stub.url}/0") == "end"
    else:
        with pytest.raises(InvalidReply, match="redirects too often"):
            client.send("GET", f"{stub.url}/0")


def test_a_circle_ends(client: NetworkClient, stub: Stub) -> None:
    stub.answer["/x"] = redirect("/x")
    with pytest.raises(InvalidReply):
        client.send("GET", f"{stub.url}/x")
    assert len(stub.asked) == 6


@pytest.mark.parametrize(
    "location",
    [
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "http://a:b@127.0.0.1/",
        "//a:b@c/",
        "http://[::g]/",
        "javascript:1",
        "data:,x",
    ],
)
def test_places_where_we_do_not_go(client: NetworkClient, stub: Stub, location: str) -> None:
    stub.answer["/x"] = redirect(location)
    with pytest.raises(InvalidReply, match="redirects"):
        client.send("GET", f"{stub.url}/x")
    assert len(stub.asked) == 1


def test_never_from_safe_to_plain(time: Time, stub: Stub) -> None:
    with serve(tls=True) as safe:
        safe.answer["/a"] = redirect(f"{stub.url}/b")
        client = NetworkClient(NetworkSettings(ca_bundle=str(ROOT)), **time.options())
        with pytest.raises(InvalidReply, match="without encryption"):
            client.send("GET", f"{safe.url}/a")
        assert not stub.asked
        client.close()


def test_redirects_are_left_alone_when_asked(client: NetworkClient, stub: Stub) -> None:
    stub.answer["/x"] = redirect("/y", 307)
    with client.send("GET", f"{stub.url}/x", follow_redirects=False) as response:
        assert (response.status, response.headers["location"]) == (307, "/y")
    stub.answer["/z"] = reply(302, b"no location")
    with client.send("GET", f"{stub.url}/z") as response:
        assert response.status == 302


@pytest.mark.parametrize(
    ("method", "status", "then", "body"),
    [
        ("POST", 301, "GET", b""),
        ("POST", 302, "GET", b""),
        ("POST", 303, "GET", b""),
        ("POST", 307, "POST", b"abc"),
        ("POST", 308, "POST", b"abc"),
        ("PUT", 302, "PUT", b"abc"),
        ("PUT", 303, "GET", b""),
        ("HEAD", 303, "HEAD", b""),
        ("GET", 302, "GET", b""),
    ],
)
def test_the_method_after_a_redirect(
    client: NetworkClient, stub: Stub, method: str, status: int, then: str, body: bytes
) -> None:
    stub.answer |= {"/x": redirect("/y", status), "/y": reply(200)}
    sent = b"abc" if method in ("POST", "PUT") else None
    client.send(method, f"{stub.url}/x", body=sent, headers={"Content-Type": "text/plain"}).close()
    asked = stub.asked[1]
    assert (asked.method, asked.body) == (then, body)
    assert ("content-type" in asked.headers) == (then == method)


# -- settings ----------------------------------------------------------------------------------------------------------


def test_offline_nothing_is_sent(stub: Stub, time: Time) -> None:
    told: list[bool] = []
    client = NetworkClient(changed=lambda: told.append(client.offline()), **time.options())
    client.configure(NetworkSettings(offline=True))
    with pytest.raises(Offline, match=f"127.0.0.1:{stub.port}"):
        client.send("GET", stub.url)
    assert client.offline() and not stub.asked and numbers(client) == (0, 0, 0, 0)
    assert client.hosts.tally.now.withheld == 1
    client.configure(NetworkSettings())
    stub.answer["/"] = json_reply(1)
    assert fetch(client, stub.url) == 1 and told == [True, False]
    client.close()


def test_a_mirror_stands_in_and_gets_no_token(client: NetworkClient, stub: Stub, other: Stub) -> None:
    client.configure(NetworkSettings(mirrors={f"http://127.0.0.1:{stub.port}": f"{other.url}/mirror/"}))
    other.answer["/mirror/a"] = json_reply("mirrored")
    with client.send("GET", f"{stub.url}/a?b=c", headers={"Authorization": TOKEN}) as response:
        assert (response.json(), response.url) == ("mirrored", f"{other.url}/mirror/a?b=c")
    assert not stub.asked and "authorization" not in other.asked[0].headers
    assert client.wait_for(f"{stub.url}/a") == 0


def test_a_redirect_within_a_mirror_gets_no_token(client: NetworkClient, stub: Stub, other: Stub) -> None:
    client.configure(NetworkSettings(mirrors={stub.url: other.url}))
    other.answer |= {"/a": redirect("/b"), "/b": json_reply("mirrored")}
    assert fetch(client, f"{stub.url}/a", headers={"Authorization": TOKEN}) == "mirrored"
    assert [asked.target for asked in other.asked if "authorization" not in asked.headers] == ["/a", "/b"]


def test_a_redirect_is_mirrored_too(client: NetworkClient, stub: Stub, other: Stub) -> None:
    client.configure(NetworkSettings(mirrors={"files.example": other.url}))
    stub.answer["/a"] = redirect("http://files.example/b")
    other.answer["/b"] = json_reply("mirrored")
    assert fetch(client, f"{stub.url}/a") == "mirrored"


def test_mirrors_that_are_none_change_nothing(client: NetworkClient) -> None:
    with pytest.raises(InvalidInput):
        client.configure(NetworkSettings(offline=True, mirrors={"x": "no url"}))
    assert not client.offline()


# -- many at once ------------------------------------------------------------------------------------------------------


def together(count: int, work: Callable[[int], None]) -> list[BaseException]:
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return failures


def test_twenty_threads_at_once(client: NetworkClient, stub: Stub) -> None:
    meet = threading.Barrier(20)
    stub.answer["/x"] = json_reply("x" * 10_000)

    def work(_number: int) -> None:
        meet.wait(30)
        for _ in range(10):
            assert fetch(client, f"{stub.url}/x") == "x" * 10_000

    assert together(20, work) == []
    assert numbers(client) == (200, 0, 0, 0)
    assert client.hosts.tally.now.received == 200 * 10_002
    assert len({asked.connection for asked in stub.asked}) <= 20, "connections are kept"


def test_a_host_that_hangs_delays_nobody_else(client: NetworkClient, stub: Stub, other: Stub) -> None:
    stub.answer["*"], other.answer["*"] = silence, json_reply("quick")
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise Cancelled("no more")

    def hang(_number: int) -> None:
        with pytest.raises(Cancelled):
            client.send("GET", stub.url, stop=check)

    failures: list[BaseException] = []
    stuck = threading.Thread(target=lambda: failures.extend(together(40, hang)))
    stuck.start()
    while len(stub.asked) < 40:
        assert stuck.is_alive()
    for _ in range(20):
        assert fetch(client, other.url) == "quick"
    stop.set()
    stuck.join(30)
    assert not stuck.is_alive() and not failures


def test_only_one_trial_at_a_time(client: NetworkClient, stub: Stub, time: Time) -> None:
    go = threading.Event()

    def slow(asked: Any, line: Any) -> None:
        assert go.wait(20)
        json_reply("well")(asked, line)

    stub.answer["/x"] = [reply(500), reply(500), reply(500), slow]
    for _ in range(3):
        with pytest.raises(HttpStatus):
            client.send("GET", f"{stub.url}/x", retry=False)
    time.sleep(60)
    refused: list[CircuitOpen] = []

    def work(_number: int) -> None:
        try:
            assert fetch(client, f"{stub.url}/x") == "well"
        except CircuitOpen as error:
            refused.append(error)
            if len(refused) == 9:
                go.set()

    assert together(10, work) == []
    assert len(refused) == 9 and len(stub.asked) == 4


def test_closing_ends_everything(stub: Stub, other: Stub) -> None:
    stub.answer["/silent"] = silence
    other.answer["/wait"] = reply(429, Retry_After="200")
    stub.answer["/half"] = _then_hold(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", end=False))
    client = NetworkClient()
    waiting, reading = threading.Event(), threading.Event()

    def work(number: int) -> None:
        if number == 0:
            with pytest.raises(Interrupted):
                client.send("GET", f"{other.url}/wait", on_wait=lambda _seconds, _reason: waiting.set())
        elif number == 1:
            with pytest.raises(Interrupted):
                client.send("GET", f"{stub.url}/silent")
        elif number == 2:
            with client.send("GET", f"{stub.url}/half") as response, pytest.raises(ConnectionFailed):
                buffer = memoryview(bytearray(100))
                while response.read_into(buffer):
                    reading.set()
        else:
            assert waiting.wait(30) and reading.wait(30)
            while len(stub.asked) < 2:
                assert stub.asked
            client.close()

    assert together(4, work) == []
    with pytest.raises(Interrupted):
        client.send("GET", stub.url)


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_nothing_that_is_shown_holds_the_token(
    client: NetworkClient, stub: Stub, other: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    shown: list[str] = []
    stub.answer |= {"/far": redirect(f"{other.url}/b?X-Signature=signed"), "/gone": reply(404), "/cut": hang_up}
    other.answer["*"] = raw(b"HTTP/1.1 200 OK\r\nBad\r\nContent-Length: 2\r\n\r\n[]")
    for path in ("/far", "/gone", "/cut"):
        try:
            with client.send("GET", f"{stub.url}{path}?sig=signed", headers={"Authorization": TOKEN}, retry=False) as r:
                shown.append(repr(r))
        except NetworkError as error:
            shown += [str(error), repr(error)]
    shown += [repr(state) for state in client.hosts.states()] + [record.getMessage() for record in caplog.records]
    assert len(shown) > 5
    assert not [text for text in shown if "secret" in text or "signed" in text]
