"""The sockets: keep-alive, heads without bodies, paces, clients that leave, and what the log says."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread, active_count
from urllib.parse import urlsplit

import pytest

from fixtures.hub import Cut, Generated, Hub, HubContent, Options, Record, Repo, Slow, Stall
from fixtures.hub.repositories import BIG, BIG_FILE, big_repository

from .client import ask, fetch
from .conftest import DATA, TEXT

FILE = "/a/b/resolve/main/w.bin"


def seconds(hub: Hub, first: Record, last: Record) -> float:
    """From the beginning of one request to the end of another."""
    hub.wait_until(lambda: last.ended is not None)
    assert last.ended
    return last.ended - first.began


def connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)


def test_one_connection_carries_many_requests(small: Hub) -> None:
    connection = connect(small.url)
    for _ in range(3):
        connection.request("GET", "/a/b/resolve/main/text.txt")
        assert connection.getresponse().read() == b""
        connection.request("HEAD", "/api/models/a/b")
        assert connection.getresponse().read() == b""
        connection.request("GET", "/nowhere")
        assert b"find the page" in connection.getresponse().read()
    connection.close()
    assert {record.connection for record in small.requests} == {1}
    assert len(small.requests) == 9


def test_a_head_is_that_of_the_get(small: Hub) -> None:
    location = ask(small.url + FILE).headers["Location"]
    head, get = ask(location, "HEAD"), ask(location)
    assert head.body == b""
    assert {**dict(head.headers), "Date": ""} | {"X-Request-Id": get.headers["X-Request-Id"]} == {
        **dict(get.headers),
        "Date": "",
    }


def test_a_client_may_ask_for_the_close(small: Hub) -> None:
    assert ask(f"{small.url}/api/models", headers={"Connection": "close"}).headers["Connection"] == "close"


def test_a_request_body_in_pieces_is_read_whole(small: Hub) -> None:
    body = b'{"paths": ["w.bin"]}'
    parts = urlsplit(small.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as sock:
        head = (
            b"POST /api/models/a/b/paths-info/main HTTP/1.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
        )
        for piece in (head[:20], head[20:], b"Content-Length: %d\r\n\r\n" % len(body), body[:3], body[3:]):
            sock.sendall(piece)
        assert b'"path": "w.bin"' in b"".join(iter(lambda: sock.recv(1 << 16), b""))
    assert small.requests[0].body == body


def test_the_two_hosts_are_two_origins(small: Hub) -> None:
    assert urlsplit(small.url).hostname != urlsplit(small.cdn_url).hostname
    assert urlsplit(small.url).port != urlsplit(small.cdn_url).port
    assert ask(f"{small.cdn_url}/api/models").status == 404
    fetch(small.url + FILE)
    assert [(record.host, record.kind, record.status) for record in small.requests[-2:]] == [
        ("hub", "resolve", 302),
        ("cdn", "cdn", 200),
    ]


def test_the_log_tells_spans_and_bytes(small: Hub) -> None:
    fetch(small.url + FILE, {"Range": "bytes=10-19", "Authorization-Like": "x"})
    fetch(f"{small.url}/a/b/resolve/main/text.txt")
    first, second = (record for record in small.requests if record.span)
    assert (first.label, first.span, first.bytes_sent, first.headers["authorization-like"]) == (
        "a/b/w.bin",
        (10, 20),
        10,
        "x",
    )
    assert (second.label, second.span, second.status) == ("a/b/text.txt", (0, len(TEXT)), 200)
    assert small.bytes_sent() == 10 + len(TEXT)
    assert small.bytes_sent("*.bin") == small.bytes_sent("a/b/w.bin") == 10
    assert small.bytes_sent("*.gguf") == 0


def test_a_paced_reply_takes_its_time(small: Hub) -> None:
    small.fault(Slow(1_000_000), kind="file")
    assert fetch(small.url + FILE).body == DATA
    record = small.requests[-1]
    # 0.3 s less the piece that is sent ahead.
    assert seconds(small, record, record) >= 0.25


def test_the_rate_of_a_connection_holds_over_its_requests(small: Hub) -> None:
    small.options = replace(small.options, connection_rate=2_000_000.0)
    location = ask(small.url + FILE).headers["Location"]
    connection = connect(small.cdn_url)
    for _ in range(10):
        # Each alone would go out at once.
        connection.request("GET", location.removeprefix(small.cdn_url), headers={"Range": "bytes=0-39999"})
        assert connection.getresponse().read() == DATA[:40_000]
    connection.close()
    paced = [record for record in small.requests if record.kind == "cdn"]
    assert seconds(small, paced[0], paced[-1]) >= 9 * 40_000 / 2_000_000 - 0.01
    assert len({record.connection for record in paced}) == 1


def test_a_rate_changes_while_content_is_on_its_way() -> None:
    content = HubContent.of(big_repository(5_000_000))
    with Hub(content, Options(connection_rate=100_000)) as hub, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(fetch, f"{hub.url}/{BIG}/resolve/main/{BIG_FILE}")
        hub.wait_until(lambda: hub.bytes_sent() > 0)
        hub.options = replace(hub.options, connection_rate=None)
        # At the first rate it would take 50 s.
        assert len(answer.result(20).body) == 5_000_000


def test_all_that_was_sent_arrives_before_a_reset() -> None:
    content = HubContent.of(big_repository(40_000_000))
    with Hub(content) as hub:
        hub.fault(Cut(at=30_000_000, reset=True), kind="file")
        answer = fetch(f"{hub.url}/{BIG}/resolve/main/{BIG_FILE}")
    assert isinstance(answer.error, ConnectionResetError)
    assert len(answer.body) == 30_000_000


def test_latency_comes_before_each_reply(small: Hub) -> None:
    small.options = replace(small.options, latency_s=0.05)
    ask(f"{small.url}/api/models")
    record = small.requests[0]
    assert seconds(small, record, record) >= 0.05


def test_clients_that_leave_disturb_nobody(small: Hub) -> None:
    before = active_count()
    small.fault(Slow(100_000), path="*.bin", host="cdn", times=None)
    location = ask(small.url + FILE).headers["Location"]
    for _ in range(20):
        connection = connect(small.cdn_url)
        connection.request("GET", location.removeprefix(small.cdn_url))
        connection.close()
    small.wait_until(lambda: len(small.requests) == 21 and all(record.ended for record in small.requests))
    small.reset()
    assert fetch(small.url + FILE).body == DATA
    gone = Event()
    for _ in range(100):
        if active_count() <= before:
            break
        gone.wait(0.05)
    assert active_count() <= before


def test_many_connections_at_once(small: Hub) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(fetch, [small.url + FILE] * 64))
    assert all(answer.body == DATA for answer in answers)
    assert small.bytes_sent() == 64 * len(DATA)


def test_generated_content_arrives_as_it_is_defined() -> None:
    content = HubContent.of(big_repository(9_000_001))
    with Hub(content) as hub:
        body = fetch(f"{hub.url}/{BIG}/resolve/main/{BIG_FILE}").body
        part = fetch(f"{hub.url}/{BIG}/resolve/main/{BIG_FILE}", {"Range": "bytes=1048570-5242890"}).body
    assert hashlib.sha256(body).hexdigest() == content.repos[BIG].file(BIG_FILE).sha256
    assert part == body[1048570:5242891]


def test_leaving_the_block_ends_what_is_under_way() -> None:
    repo = Repo("a/b")
    repo.commit({"w.bin": Generated(50_000_000)})
    failures: list[BaseException | None] = []
    with Hub(HubContent.of(repo), Options(connection_rate=100_000)) as hub:
        thread = Thread(target=lambda: failures.append(fetch(f"{hub.url}/a/b/resolve/main/w.bin").error))
        thread.start()
        hub.wait_until(lambda: hub.bytes_sent() > 0)
    thread.join(30)
    assert failures
    assert failures[0] is not None
    with pytest.raises(ConnectionRefusedError):
        ask(hub.url)


def test_a_taken_port_is_said(small: Hub) -> None:
    with pytest.raises(OSError, match="in use"):
        Hub(HubContent(), port=urlsplit(small.url).port or 0)


def test_what_the_hub_does_wrong_fails_the_test() -> None:
    with pytest.raises(ExceptionGroup, match="itself failed"), Hub(HubContent()) as hub:
        assert ask(f"{hub.url}/api/models?limit=none").status == 500


def test_a_wait_has_its_bound(small: Hub) -> None:
    with pytest.raises(TimeoutError):
        small.wait_until(lambda: False, 0.01)
    small.fault(Stall(5, 0.01), kind="file")
    assert fetch(small.url + FILE).body == DATA


def test_curl_downloads_and_resumes(small: Hub, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    assert curl, "curl is part of every supported system"
    target = tmp_path / "w.bin"
    target.write_bytes(DATA[:100_000])
    subprocess.run([curl, "-sSfL", "-C", "-", "-o", target, small.url + FILE], check=True, timeout=30)
    assert target.read_bytes() == DATA
    assert small.requests[-1].span == (100_000, len(DATA))
