"""The HTTP door over real sockets: who is answered, in which order the checks come, what a refusal looks like."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pumas.events.stream import EventStream
from pumas.rpc import http as door
from pumas.rpc.http import HttpServer
from rpc.access_cases import HOST, ORIGIN, SITE, TOKENS, Case
from sidecar import Reply, Sidecar, closed_by_server, read_reply, request_bytes

CALL = b'{"jsonrpc":"2.0","method":"health_check","id":1}'
ENDPOINTS = [
    ("POST", "/rpc"),
    ("GET", "/health"),
    ("GET", "/events"),
    ("GET", "/nothing"),
    ("POST", "/"),
    ("POST", "/session/code"),
    ("GET", "/session"),
]


def headers_for(sidecar: Sidecar, **changes: tuple[str | bytes, ...]) -> list[tuple[str, str | bytes]]:
    """The headers of a good call, with some replaced by none, one or several others."""
    good: dict[str, tuple[str | bytes, ...]] = {
        "Host": (sidecar.host,),
        "Origin": (),
        "Sec-Fetch-Site": (),
        "Authorization": (f"Bearer {sidecar.token}",) if sidecar.token else (),
        "Content-Type": ("application/json",),
        "Content-Encoding": (),
        "Content-Length": (str(len(CALL)),),
        "Connection": ("close",),
    }
    good |= {name.replace("_", "-"): values for name, values in changes.items()}
    return [(name, value) for name, values in good.items() for value in values]


def ask(sidecar: Sidecar, method: str = "POST", path: str = "/rpc", **changes: tuple[str | bytes, ...]) -> Reply:
    body = CALL if method == "POST" else b""
    if method != "POST":
        changes = {"Content_Length": (), "Content_Type": (), **changes}
    return sidecar.raw(request_bytes(method, path, headers_for(sidecar, **changes), body))


def wire_form(case: Case, sidecar: Sidecar) -> tuple[str | bytes, ...]:
    values = case.filled(sidecar.port, sidecar.token or "x")
    return tuple(v.encode("utf-8", "surrogateescape") for v in values)


def sendable(case: Case) -> bool:
    """Cases that mean the same on the wire: the parser itself strips white space and refuses control characters."""
    return not any(c in v for v in case.values for c in "\t\n\x00\ud800") and all(v == v.strip() for v in case.values)


HEADER_OF = {"host": "Host", "origin": "Origin", "site": "Sec_Fetch_Site", "token": "Authorization"}
REFUSED = [c for c in (*HOST, *ORIGIN, *SITE, *TOKENS) if c.status and sendable(c)]


def test_refused_on_every_path_with_a_token(shared: Sidecar) -> None:
    for case in REFUSED:
        for method, path in ENDPOINTS[:: 1 if case in REFUSED[:12] else 3]:
            reply = ask(shared, method, path, **{HEADER_OF[case.guard]: wire_form(case, shared)})
            assert reply.status == case.status, (case, method, path, reply)
            assert not any(name.startswith("access-control") for name in reply.headers)


def test_refused_on_every_path_without_a_token(open_sidecar: Sidecar) -> None:
    for case in REFUSED:
        if case.guard == "token":
            continue
        for method, path in ENDPOINTS[::3]:
            reply = ask(open_sidecar, method, path, **{HEADER_OF[case.guard]: wire_form(case, open_sidecar)})
            assert reply.status == case.status, (case, method, path, reply)


def test_good_callers_are_answered(shared: Sidecar, open_sidecar: Sidecar) -> None:
    for sidecar in (shared, open_sidecar):
        for case in (*HOST, *ORIGIN, *SITE, *(TOKENS if sidecar.token else ())):
            if case.status == 0:
                reply = ask(sidecar, **{HEADER_OF[case.guard]: wire_form(case, sidecar)})
                assert (reply.status, reply.json["result"]) == (200, {"status": "ok"}), case
        assert ask(sidecar, "GET", "/health").json == {"status": "ok"}


def test_forwarding_headers_are_ignored(shared: Sidecar) -> None:
    headers = [
        *headers_for(shared, Host=("evil.example",)),
        ("X-Forwarded-Host", shared.host),
        ("X-Forwarded-For", "127.0.0.1"),
        ("Forwarded", f"host={shared.host}"),
    ]
    assert shared.raw(request_bytes("POST", "/rpc", headers, CALL)).status == 421


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/rpc", 200),
        ("/rpc/", 404),
        ("/rpc?", 404),
        ("/rpc?x=1", 404),
        ("/rpc#x", 404),
        ("//rpc", 404),
        ("/./rpc", 404),
        ("/x/../rpc", 404),
        ("/%72pc", 404),
        ("/RPC", 404),
        ("/rpc%00", 404),
        ("/rpc;x", 404),
        ("/", 405),
    ],
)
def test_the_path_is_matched_exactly(shared: Sidecar, target: str, status: int) -> None:
    assert ask(shared, path=target).status in ((status,) if status == 200 else (status, 400))


def test_absolute_targets_name_another_host(shared: Sidecar) -> None:
    for target in ("http://evil.example/rpc", f"http://{shared.host}/rpc", "evil.example:80", "*"):
        assert ask(shared, path=target).status in (400, 404, 421), target


def test_order_of_checks(shared: Sidecar) -> None:
    """Each step is refused before the next is looked at: with everything wrong the first speaks, and so on."""
    wrong: list[tuple[int, dict[str, tuple[str | bytes, ...]]]] = [
        (421, {"Host": ("evil.example",)}),
        (403, {"Origin": ("http://evil.example",)}),
        (401, {"Authorization": ("Bearer wrong",)}),
        (404, {}),
        (415, {"Content_Type": ("text/plain",)}),
        (413, {"Content_Length": ("999999999",)}),
    ]
    for first in range(len(wrong)):
        changes = {k: v for _, part in wrong[first:] for k, v in part.items()}
        path = "/nothing" if first <= 3 else "/rpc"
        assert ask(shared, path=path, **changes).status == wrong[first][0], wrong[first]
    assert ask(shared, Content_Encoding=("gzip",), Content_Length=("999999999",)).status == 415


def test_the_order_without_a_token(open_sidecar: Sidecar) -> None:
    assert ask(open_sidecar, Host=("evil.example",), Origin=("null",)).status == 421
    assert ask(open_sidecar, Origin=("null",), Content_Type=("text/plain",)).status == 403
    assert ask(open_sidecar, path="/no", Content_Type=("text/plain",)).status == 404
    assert ask(open_sidecar, Content_Type=("text/plain",)).status == 415


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_form_can_send_is_refused(shared: Sidecar, content_type: str) -> None:
    assert ask(shared, Content_Type=(content_type,)).status == 415


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"])
def test_no_method_by_anything_but_post(shared: Sidecar, method: str) -> None:
    reply = ask(shared, method, "/rpc")
    assert reply.status == 405
    assert reply.headers["allow"] == "POST, OPTIONS"


def test_other_methods_elsewhere(shared: Sidecar) -> None:
    assert ask(shared, "POST", "/health").status == 405
    assert ask(shared, "POST", "/events").status == 405
    assert ask(shared, "DELETE", "/nothing").status == 404


def test_options_says_what_is_allowed_and_nothing_to_other_origins(shared: Sidecar) -> None:
    reply = ask(shared, "OPTIONS", "/rpc")
    assert (reply.status, reply.headers["allow"], reply.body) == (200, "POST, OPTIONS", b"")
    assert not any(name.startswith("access-control") for name in reply.headers)
    preflight = ask(
        shared,
        "OPTIONS",
        "/rpc",
        Origin=("http://evil.example",),
        Access_Control_Request_Method=("POST",),
        Access_Control_Request_Private_Network=("true",),
    )
    assert preflight.status == 403
    assert not any(name.startswith("access-control") for name in preflight.headers)


def test_the_token_in_the_query_is_no_token(shared: Sidecar) -> None:
    assert ask(shared, "GET", f"/events?token={shared.token}", Authorization=()).status == 401
    assert ask(shared, "GET", f"/events?token={shared.token}").status == 400
    assert ask(shared, path=f"/rpc?token={shared.token}", Authorization=()).status == 401


def test_every_reply_says_how_to_treat_it(shared: Sidecar) -> None:
    replies = {
        200: ask(shared),
        404: ask(shared, path="/nothing"),
        405: ask(shared, "PUT"),
        421: ask(shared, Host=("evil.example",)),
        403: ask(shared, Origin=("null",)),
        401: ask(shared, Authorization=()),
        415: ask(shared, Content_Type=("text/plain",)),
        413: ask(shared, Content_Length=("999999999",)),
        400: shared.raw(b"NONSENSE\r\n\r\n"),
    }
    for status, reply in replies.items():
        assert reply.status == status
        assert reply.headers["x-content-type-options"] == "nosniff", status
        assert reply.headers["cache-control"] == "no-store", status
        assert reply.headers["server"] == "pumas", status
        assert b"Traceback" not in reply.body
        assert b"aiohttp" not in reply.body
    assert replies[401].headers["www-authenticate"] == "Bearer"
    assert replies[200].headers["content-type"] == "application/json"


def test_refusals_do_not_wait_for_the_body(shared: Sidecar) -> None:
    """The length is promised, nothing of it is sent, and the answer is there all the same."""
    for changes in (
        {"Host": ("evil.example",)},
        {"Origin": ("null",)},
        {"Authorization": ()},
        {"Content_Type": ("text/plain",)},
        {"Content_Length": ("33554433",)},
    ):
        data = request_bytes("POST", "/rpc", headers_for(shared, **{"Content_Length": ("1000",), **changes}))
        assert shared.raw(data, timeout_s=20).status in (421, 403, 401, 415, 413)


def test_a_refused_connection_ends(shared: Sidecar) -> None:
    """Its body may follow, and nobody reads it."""
    for changes in ({"Host": ("evil.example",)}, {"Authorization": ()}, {"Content_Type": ("text/plain",)}):
        data = request_bytes("POST", "/rpc", headers_for(shared, Connection=("keep-alive",), **changes), CALL)
        with shared.connect() as sock:
            sock.sendall(data)
            assert read_reply(sock).headers["connection"] == "close"
            assert closed_by_server(sock, 5)


def test_keep_alive_and_pipelining(shared: Sidecar) -> None:
    one = request_bytes("POST", "/rpc", headers_for(shared, Connection=()), CALL)
    with shared.connect() as sock:
        sock.sendall(one * 5)
        data = b""
        while data.count(b'"result"') < 5:
            chunk = sock.recv(65536)
            assert chunk, data
            data += chunk
    assert data.count(b"HTTP/1.1 200") == 5


def test_expect_100_continue(shared: Sidecar) -> None:
    head = request_bytes("POST", "/rpc", headers_for(shared, Expect=("100-continue",)))
    with shared.connect() as sock:
        sock.sendall(head)
        assert sock.recv(100).startswith(b"HTTP/1.1 100")
        sock.sendall(CALL)
        data = sock.recv(4096)
    assert b"200 OK" in data
    refused = request_bytes("POST", "/rpc", headers_for(shared, Expect=("100-continue",), Authorization=()))
    assert shared.raw(refused).status == 401


def test_old_http_is_answered(shared: Sidecar) -> None:
    data = request_bytes("POST", "/rpc", headers_for(shared, Connection=()), CALL, version="1.0")
    assert shared.raw(data).json["result"] == {"status": "ok"}


def test_chunked_body(shared: Sidecar) -> None:
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(CALL), CALL)
    headers = headers_for(shared, Content_Length=(), Transfer_Encoding=("chunked",))
    assert shared.raw(request_bytes("POST", "/rpc", headers, body)).json["result"] == {"status": "ok"}


def test_a_body_byte_by_byte(shared: Sidecar) -> None:
    with shared.connect() as sock:
        for byte in request_bytes("POST", "/rpc", headers_for(shared), CALL):
            sock.sendall(bytes([byte]))
        assert b'"ok"' in sock.recv(4096)


def test_a_notification_has_no_body(shared: Sidecar) -> None:
    reply = shared.post(b'{"jsonrpc":"2.0","method":"health_check"}')
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers.get("content-length", "0") == "0"


def test_jsonrpc_failures_are_http_200(shared: Sidecar) -> None:
    for body in (b"", b"nonsense", b"[]", b'{"method":"nope","id":1}', b"\xff"):
        reply = shared.post(body)
        assert reply.status == 200
        assert reply.headers["content-type"] == "application/json"
        assert reply.error["code"] < -32000
        assert json.loads(reply.body)["jsonrpc"] == "2.0"


# -- addresses -------------------------------------------------------------------------------------------------------


def second_address() -> tuple[int, tuple[Any, ...]]:
    """Of IPv6, where that is not switched off."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return socket.AF_INET6, ("::1", 0, 0, 0)
    except OSError:
        return socket.AF_INET, ("127.0.0.2", 0)


FIRST, SECOND = (socket.AF_INET, ("127.0.0.1", 0)), second_address()
ELSEWHERE = (socket.AF_INET, ("192.0.2.1", 0))  # an address that no machine has (RFC 5737)


def stands_for(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[int, Sequence[Any]]) -> None:
    """The name `localhost` has these addresses."""

    def look_up(host: str | None, port: int, **options: Any) -> list[Any]:
        if options["flags"] & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not numeric")
        assert host == "localhost"
        found = [(family, socket.SOCK_STREAM, 6, "", (address[0], port, *address[2:])) for family, address in addresses]
        return found + found  # /etc/hosts may name one twice

    monkeypatch.setattr(door.socket, "getaddrinfo", look_up)


async def ask_at(address: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer t\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(200), 30)
    writer.close()
    return answer


async def test_one_port_for_all_addresses_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    real, refused = door._bind_one, 0

    def taken_twice(sockets: list[socket.socket], family: int, address: Any, port: int) -> None:
        nonlocal refused
        if address == SECOND[1] and refused < 2:
            refused += 1
            raise OSError(errno.EADDRINUSE, "taken there")
        real(sockets, family, address, port)

    monkeypatch.setattr(door, "_bind_one", taken_twice)
    with monkeypatch.context() as patch:
        stands_for(patch, FIRST, ELSEWHERE, SECOND)
        server = HttpServer(token="t", events=EventStream())
        port = await server.listen("localhost", 0)
    assert refused == 2
    for _, (address, *_rest) in (FIRST, SECOND):
        assert b"200 OK" in await ask_at(address, port)
    await server.close()
    for _, (address, *_rest) in (FIRST, SECOND):
        with pytest.raises(OSError):
            await ask_at(address, port)


async def test_a_port_that_is_taken_at_one_address_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    family, address = SECOND
    with socket.create_server(address[:2], family=family) as other:
        port = other.getsockname()[1]
        stands_for(monkeypatch, FIRST, SECOND)
        with pytest.raises(OSError) as caught:
            await HttpServer(token="t", events=EventStream()).listen("localhost", port)
        assert caught.value.errno == errno.EADDRINUSE
        monkeypatch.undo()
        with socket.create_server(("127.0.0.1", port)):
            pass  # nothing of the attempt is left


async def test_a_name_without_an_address_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    stands_for(monkeypatch, ELSEWHERE)
    with pytest.raises(OSError) as caught:
        await HttpServer(token="t", events=EventStream()).listen("localhost", 0)
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_localhost_is_one_port(launch: Callable[..., Sidecar]) -> None:
    sidecar = launch("--host", "localhost", "--port", "0")
    assert sidecar.healthy()
    assert sidecar.result("health_check") == {"status": "ok"}
