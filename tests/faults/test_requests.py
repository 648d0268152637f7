"""Hostile and broken requests over real sockets: framing attacks, and thousands of generated requests.

Every one is answered or its connection ends; none is an internal error, none tells anything, and the server lives.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import socket
import threading
import time
from typing import Any

import pytest

import sidecar as running
from generated import schema_driven
from pumas.rpc.registry import Row
from sidecar import PROJECT, Reply, Sidecar

CALL = b'{"jsonrpc":"2.0","method":"health_check","id":1}'
LEAK = re.compile(rb'Traceback|File "|/tmp/|/usr/|site-packages|\.py\b|pydantic|jsonrpcserver|orjson|0x[0-9a-f]{6}')


def head(sidecar: Sidecar, *lines: bytes, target: bytes = b"POST /rpc HTTP/1.1") -> bytes:
    fixed = [
        target,
        b"Host: " + sidecar.host.encode(),
        b"Authorization: Bearer " + (sidecar.token or "").encode(),
        b"Content-Type: application/json",
    ]
    return b"\r\n".join([*fixed, *lines]) + b"\r\n\r\n"


FRAMING: list[tuple[str, list[bytes], bytes]] = [
    ("two lengths", [b"Content-Length: 48", b"Content-Length: 2"], CALL),
    ("the same length twice", [b"Content-Length: 48", b"Content-Length: 48"], CALL),
    ("a list of lengths", [b"Content-Length: 48, 48"], CALL),
    ("length and chunked", [b"Content-Length: 48", b"Transfer-Encoding: chunked"], b"30\r\n" + CALL + b"\r\n0\r\n\r\n"),
    ("plus sign", [b"Content-Length: +48"], CALL),
    ("minus sign", [b"Content-Length: -48"], CALL),
    ("hexadecimal length", [b"Content-Length: 0x30"], CALL),
    ("underscored length", [b"Content-Length: 4_8"], CALL),
    ("length with a point", [b"Content-Length: 48.0"], CALL),
    ("empty length", [b"Content-Length: "], CALL),
    ("length beyond 64 bits", [b"Content-Length: 99999999999999999999999999"], CALL),
    ("letters as length", [b"Content-Length: abc"], CALL),
    ("chunk size that is none", [b"Transfer-Encoding: chunked"], b"zz\r\n" + CALL + b"\r\n0\r\n\r\n"),
    ("negative chunk", [b"Transfer-Encoding: chunked"], b"-30\r\n" + CALL + b"\r\n0\r\n\r\n"),
    ("chunk with plus", [b"Transfer-Encoding: chunked"], b"+30\r\n" + CALL + b"\r\n0\r\n\r\n"),
    ("chunk with 0x", [b"Transfer-Encoding: chunked"], b"0x30\r\n" + CALL + b"\r\n0\r\n\r\n"),
    ("chunk longer than it says", [b"Transfer-Encoding: chunked"], b"5\r\n" + CALL + b"\r\n0\r\n\r\n"),
    ("huge chunk size", [b"Transfer-Encoding: chunked"], b"ffffffffffffffffff\r\n" + CALL),
    ("unknown transfer encoding", [b"Transfer-Encoding: gzip"], CALL),
    ("gzip and chunked", [b"Transfer-Encoding: gzip, chunked"], b"30\r\n" + CALL + b"\r\n0\r\n\r\n"),
    ("chunked not last", [b"Transfer-Encoding: chunked, identity"], b"30\r\n" + CALL + b"\r\n0\r\n\r\n"),
    (
        "chunked twice",
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        b"30\r\n" + CALL + b"\r\n0\r\n\r\n",
    ),
    ("misspelt chunked", [b"Transfer-Encoding: xchunked"], CALL),
    ("space before the colon", [b"Content-Length : 48"], CALL),
    ("folded header", [b"X-A: 1", b" Content-Length: 48"], CALL),
    ("NUL in a header", [b"X-A: a\x00b", b"Content-Length: 48"], CALL),
    ("bare CR in a header", [b"X-A: a\rb", b"Content-Length: 48"], CALL),
    ("empty header name", [b": x", b"Content-Length: 48"], CALL),
    ("header without colon", [b"NoColonHere", b"Content-Length: 48"], CALL),
    ("control characters in a name", [b"X\x01A: x", b"Content-Length: 48"], CALL),
    ("a very long header", [b"X-A: " + b"a" * 20_000, b"Content-Length: 48"], CALL),
    ("a very long name", [b"X" * 20_000 + b": a", b"Content-Length: 48"], CALL),
]


@pytest.mark.parametrize(("lines", "body"), [(c[1], c[2]) for c in FRAMING], ids=[c[0] for c in FRAMING])
def test_ambiguous_framing_is_refused_and_the_connection_ends(shared: Sidecar, lines: list[bytes], body: bytes) -> None:
    with shared.connect(5) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(head(shared, *lines) + body)
        reply = running.read_reply(sock)
        assert reply.status == 400, reply
        assert not LEAK.search(reply.body)
        assert running.closed_by_server(sock, 5)
    assert shared.healthy()


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"5\r\n" + CALL, b"30\r\n" + CALL + b"xx", b"-1\r\n"])
def test_a_body_that_goes_wrong_later(shared: Sidecar, chunks: bytes) -> None:
    """The header was good and its handler waits when the first bad byte comes."""
    with shared.connect(5) as sock:
        sock.sendall(head(shared, b"Transfer-Encoding: chunked") + b"1\r\n \r\n")
        time.sleep(0.05)
        sock.sendall(chunks)
        assert running.read_reply(sock).status == 400
        assert running.closed_by_server(sock, 5)
    assert "Traceback" not in shared.stderr()


@pytest.mark.parametrize(
    "start",
    [
        b"POST /rpc HTTP/1.1\nHost: x\n\n",
        b"POST /rpc\r\n\r\n",
        b"POST\r\n\r\n",
        b"POST /rpc HTTP/9.9\r\n\r\n",
        b"POST /rpc HTTP/1.1.1\r\n\r\n",
        b"POST /rpc XTTP/1.1\r\n\r\n",
        b"POST  /rpc HTTP/1.1\r\n\r\n",
        b"POST /a b HTTP/1.1\r\n\r\n",
        b"POST /rpc\x00 HTTP/1.1\r\n\r\n",
        b"post /rpc HTTP/1.1\r\n\r\n",
        b"POST /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"\x00" * 100,
        b"GET /health HTTP/1.1\r\n\r\n",
        b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n",
        b"{" * 1000 + b"\r\n\r\n",
    ],
    ids=lambda b: repr(b[:30]),
)
def test_what_is_no_request_of_ours(shared: Sidecar, start: bytes) -> None:
    reply = shared.raw(start, timeout_s=30)
    assert reply.status in (400, 421), reply
    assert reply.status != 400 or reply.body == b"Malformed HTTP request."
    assert not LEAK.search(reply.body)
    assert shared.healthy()


def test_too_many_headers(shared: Sidecar) -> None:
    lines = [b"X-%d: y" % i for i in range(20_000)]
    with shared.connect(5) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(head(shared, *lines, b"Content-Length: 48") + CALL)
        assert running.read_reply(sock).status in (0, 400)
    assert shared.healthy()


@pytest.mark.parametrize("header", [b"Upgrade: websocket", b"Upgrade: h2c"])
def test_an_upgrade_is_not_taken(shared: Sidecar, header: bytes) -> None:
    data = head(shared, b"Connection: Upgrade", header, b"Content-Length: 0", target=b"GET /health HTTP/1.1")
    assert shared.raw(data + b"garbage behind it", timeout_s=30).status in (200, 400)
    assert shared.healthy()


def test_the_names_in_a_table_are_checked_as_its_values_are(shared: Sidecar) -> None:
    params = {"version_tag": "v1", "resolutions": {"": "skip"}}
    assert shared.rpc("sync_with_resolutions", params)["error"]["data"]["errors"] == [
        {"param": "resolutions..[key]", "message": "must have at least 1 characters"}
    ]


def test_a_caller_that_leaves_in_the_middle(sidecar: Sidecar) -> None:
    """Bodies cut off, replies not waited for: nothing of it is a bug of ours."""
    for part in range(0, 48, 4):
        with sidecar.connect() as sock:
            sock.sendall(head(sidecar, b"Content-Length: 48") + CALL[:part])
    for _ in range(10):
        with sidecar.connect() as sock:
            sock.sendall(head(sidecar, b"Content-Length: 48") + CALL)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    for _ in range(5):
        with sidecar.connect() as sock:
            sock.sendall(head(sidecar, b"Transfer-Encoding: chunked") + b"30\r\n" + CALL[:10])
    assert sidecar.healthy()
    sidecar.close()
    assert "bug" not in sidecar.log()
    assert "Traceback" not in sidecar.log()


# -- generated -------------------------------------------------------------------------------------------------------

GENERATED = 5000
WORKERS = 8
ENDS = re.compile(rb"shutdown|restart_launcher|apply_launcher_update|install_|shortcut|toggle_")

PIECES = [
    *(bytes([c]) for c in b"{}[]\",:\\-'\x00\xff\xc3"),
    *(b"\\u0000", b"\\ud800", b"\\udc00\\ud800", b"NaN", b"Infinity", b"1e999", b"1e-999", b"9" * 25, b"9" * 5000),
    *(b"\xef\xbb\xbf", b"\r\n", b" " * 50, b"[" * 70, b'{"a":' * 70, b"null", b"true", b'"method":', b'"id":'),
    *(b"//x", b"/**/", b"+1", b"01", b".5"),
]


def byte_level(rng: random.Random, document: dict[str, Any]) -> bytes:
    """The bytes of a call, damaged."""
    data = bytearray(schema_driven(rng, document))
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                data[at:at] = rng.choice(PIECES)
            case 1:
                del data[at : at + rng.randrange(1, 20)]
            case 2 if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
            case 3:
                data = data[:at]
            case _:
                data[at:at] = data[: rng.randrange(0, 30)]
    return bytes(data)


def problems_of(body: bytes, reply: Reply) -> str | None:
    """What is wrong with a reply, None when nothing is."""
    if reply.status == 204:
        return None if not reply.body else "a body with 204"
    if reply.status != 200:
        return f"status {reply.status}"
    if LEAK.search(reply.body) and not LEAK.search(body):
        return "the reply tells about our insides"
    answers = reply.json if isinstance(reply.json, list) else [reply.json]
    if any(answer.get("error", {}).get("code") == -32603 for answer in answers):
        return "internal error"
    for answer in answers:
        if answer.get("jsonrpc") != "2.0" or "id" not in answer or ("result" in answer) == ("error" in answer):
            return "no JSON-RPC reply"
        if "error" in answer and not answer["error"]["data"]["kind"]:
            return "an error without a kind"
    return None


def test_generated_requests(shared: Sidecar) -> None:
    document = json.loads((PROJECT / "contracts" / "openrpc.json").read_text(encoding="utf-8"))
    wrong: list[tuple[bytes, str]] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=20)
        headers = {**shared.auth(), "Content-Type": "application/json"}
        for number in range(GENERATED // WORKERS):
            body = (byte_level if number % 2 else schema_driven)(rng, document)
            if ENDS.search(body):
                continue
            try:
                connection.request("POST", "/rpc", body=body, headers=headers)
                response = connection.getresponse()
                problem = problems_of(body, Reply(response.status, {}, response.read()))
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = f"dropped: {error!r}"
                connection.close()
            if problem:
                wrong.append((body[:300], problem))
        connection.close()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:5]
    assert shared.healthy()
    assert "Traceback" not in shared.stderr()


def test_rows_are_not_reachable_around_the_table(shared: Sidecar) -> None:
    """Names of Python's and of ours that are no methods."""
    names = [
        *dir(Row),
        *dir(dict),
        "__init__",
        "rpc",
        "rpc.",
        "rpc.methods",
        "health_check.__call__",
        "get_job\0",
        " get_job",
    ]
    for name in names:
        answer = shared.rpc(name, {})
        assert answer["error"]["code"] == -32601, (name, answer)
