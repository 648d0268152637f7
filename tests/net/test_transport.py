"""Ways out: proxies, certificates; and what errors are called."""

from __future__ import annotations

import base64
import errno
import http.client
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from net.stub import ROOT, Stub, closed_port, json_reply, reply, serve
from pumas.errors import ConnectionFailed, InvalidReply
from pumas.net.address import parse
from pumas.net.client import NetworkClient
from pumas.net.settings import DIRECT, NetworkSettings
from pumas.net.transport import Transport, bare_proxy, tls_context, translate

PROXY = "http://proxy.example:3128"


# -- which proxy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "environment", "url", "expected"),
    [
        (None, {}, "https://h/", None),
        (PROXY, {}, "https://h/", PROXY),
        (PROXY, {"HTTPS_PROXY": "http://other:1"}, "https://h/", PROXY),
        (DIRECT, {"HTTPS_PROXY": "http://other:1"}, "https://h/", None),
        (None, {"HTTPS_PROXY": "http://other:1"}, "https://h/", "http://other:1"),
        (None, {"https_proxy": "http://lower:1", "HTTPS_PROXY": "http://upper:1"}, "https://h/", "http://lower:1"),
        (None, {"HTTPS_PROXY": "http://other:1"}, "http://h/", None),
        (None, {"HTTP_PROXY": "other:1"}, "http://h/", "http://other:1"),
        (None, {"ALL_PROXY": "http://all:1"}, "http://h/", "http://all:1"),
        (None, {"HTTP_PROXY": "http://evil:1", "REQUEST_METHOD": "GET"}, "http://h/", None),
        (None, {"HTTPS_PROXY": ""}, "https://h/", None),
        *((PROXY, {}, f"http://{host}/", None) for host in ("127.0.0.1", "localhost", "[::1]", "127.1.2.3:80")),
        *((None, {"ALL_PROXY": PROXY}, f"http://{host}/", None) for host in ("127.0.0.1", "LOCALHOST:9", "[::1]:9")),
    ],
)
def test_which_proxy(setting: str | None, environment: dict[str, str], url: str, expected: str | None) -> None:
    assert Transport(setting, None, environment).proxy_for(parse(url)) == expected


@pytest.mark.parametrize(
    ("no_proxy", "url", "proxied"),
    [
        ("h.example", "https://h.example/", False),
        ("example", "https://h.example/", False),
        ("other", "https://h.example/", True),
        ("*", "https://h.example/", False),
        ("10.0.0.0/8", "https://10.1.2.3/", False),
        ("10.0.0.0/8", "https://11.1.2.3/", True),
    ],
)
@pytest.mark.parametrize("setting", [PROXY, None])
def test_hosts_that_need_no_proxy(
    monkeypatch: pytest.MonkeyPatch, setting: str | None, no_proxy: str, url: str, proxied: bool
) -> None:
    monkeypatch.setenv("NO_PROXY", no_proxy)
    transport = Transport(setting, None, {"HTTPS_PROXY": PROXY})
    assert transport.proxy_for(parse(url)) == (PROXY if proxied else None)


@pytest.mark.parametrize(
    ("setting", "environment", "shown"),
    [
        (None, {}, None),
        (DIRECT, {"HTTPS_PROXY": PROXY}, None),
        ("http://me:secret@p:1", {}, "http://me:***@p:1"),
        (None, {"HTTPS_PROXY": "http://me:secret@p:1"}, "http://me:***@p:1"),
        (None, {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
    ],
)
def test_the_password_of_a_proxy_is_not_shown(
    setting: str | None, environment: dict[str, str], shown: str | None
) -> None:
    assert Transport(setting, None, environment).usual_proxy == shown


@pytest.mark.parametrize("url", ["http://u:p@h:1", "http://u@h:1", "http://h:1", "http://u:p%40@h:1"])
def test_a_proxy_without_who_uses_it(url: str) -> None:
    assert bare_proxy(url) == "http://h:1"


# -- through a proxy ---------------------------------------------------------------------------------------------------


def through(proxy: Stub, user: str = "") -> NetworkSettings:
    return NetworkSettings(proxy=f"http://{user}127.0.0.1:{proxy.port}", ca_bundle=str(ROOT))


def test_plain_requests_go_through_with_the_password(client: NetworkClient, stub: Stub) -> None:
    client.configure(through(stub, "me:pass%40word@"))
    stub.answer["*"] = json_reply("proxied")
    with client.send("GET", "http://h.example/a?b=c", headers={"Authorization": "Bearer t"}) as response:
        assert response.json() == "proxied"
    asked = stub.asked[0]
    assert asked.target == "http://h.example/a?b=c" and asked.headers["host"] == "h.example"
    assert asked.headers["proxy-authorization"] == "Basic " + base64.b64encode(b"me:pass@word").decode()
    assert asked.headers["authorization"] == "Bearer t"


def test_safe_requests_go_through_a_tunnel(client: NetworkClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(tls=True) as safe, serve(tunnel_to=safe.port) as proxy:
        safe.answer["/x"] = json_reply("tunnelled")
        client.configure(through(proxy, "me:secret@"))
        # A certificate for localhost: the proxy is asked for that name although this machine has it.
        monkeypatch.setattr("pumas.net.address.Origin.loopback", False)
        with client.send("GET", f"https://localhost:{safe.port}/x", headers={"Authorization": "Bearer t"}) as response:
            assert response.json() == "tunnelled"
        assert proxy.tunnels == [f"localhost:{safe.port}"]
        assert "proxy-authorization" in proxy.asked[0].headers and "authorization" not in proxy.asked[0].headers
        assert "proxy-authorization" not in safe.asked[0].headers


def test_loopback_is_never_proxied(client: NetworkClient, stub: Stub, other: Stub) -> None:
    client.configure(through(stub))
    other.answer["/x"] = json_reply("straight")
    with client.send("GET", f"{other.url}/x") as response:
        assert response.json() == "straight"
    assert not stub.asked


@pytest.mark.parametrize(("status", "words"), [(407, "wants a password"), (502, "did not let the request through")])
def test_a_proxy_that_refuses(client: NetworkClient, stub: Stub, status: int, words: str) -> None:
    client.configure(through(stub, "me:secret@"))
    stub.answer["CONNECT"] = reply(status)
    with pytest.raises(ConnectionFailed, match=words) as caught:
        client.send("GET", "https://h.example/x", retry=False)
    assert (caught.value.cause, caught.value.host) == ("proxy", "h.example") and "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://h.example/", "https://h.example/"])
def test_a_proxy_that_is_not_there(client: NetworkClient, url: str) -> None:
    client.configure(NetworkSettings(proxy=f"http://me:secret@127.0.0.1:{closed_port()}"))
    with pytest.raises(ConnectionFailed, match="the proxy") as caught:
        client.send("GET", url, retry=False)
    assert caught.value.cause == "proxy" and "secret" not in str(caught.value)


def test_a_proxy_of_a_kind_that_we_cannot_use(client: NetworkClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(ConnectionFailed, match="proxy"):
        NetworkClient().send("GET", "http://h.example/", retry=False)


# -- certificates ------------------------------------------------------------------------------------------------------


def test_a_certificate_that_nobody_signed_is_not_trusted(client: NetworkClient) -> None:
    with serve(tls=True) as safe, pytest.raises(ConnectionFailed, match="not trusted") as caught:
        client.send("GET", f"{safe.url}/x")
    assert caught.value.cause == "tls" and client.hosts.tally.now.retries == 0


def test_a_root_of_the_user_is_trusted_beside_the_others(client: NetworkClient) -> None:
    client.configure(NetworkSettings(ca_bundle=str(ROOT)))
    with serve(tls=True) as safe:
        safe.answer["/x"] = json_reply("safe")
        with client.send("GET", f"{safe.url}/x") as response:
            assert response.json() == "safe"
    before, after = tls_context(None), tls_context(str(ROOT))
    assert after.cert_store_stats()["x509_ca"] == before.cert_store_stats()["x509_ca"] + 1
    assert after.verify_mode == ssl.CERT_REQUIRED and after.check_hostname


def test_a_certificate_for_another_name_is_not_trusted(client: NetworkClient, monkeypatch: pytest.MonkeyPatch) -> None:
    client.configure(NetworkSettings(ca_bundle=str(ROOT)))
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, *rest, **more: real("127.0.0.1", *rest, **more))
    with serve(tls=True) as safe, pytest.raises(ConnectionFailed, match="not trusted"):
        client.send("GET", f"https://other.example:{safe.port}/")


def test_a_host_that_speaks_no_tls(client: NetworkClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                sock.recv(4096)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ConnectionFailed, match="could not agree on a safe connection") as caught:
            client.send("GET", f"https://127.0.0.1:{listener.getsockname()[1]}/", retry=False)
        thread.join(30)
    assert caught.value.cause == "tls"


def test_a_machine_without_roots_uses_those_of_mozilla(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = ssl.DefaultVerifyPaths(None, None, "", "", "", "")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nothing)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert tls_context(None).cert_store_stats()["x509_ca"] > 50


# -- names of errors ---------------------------------------------------------------------------------------------------


def caused(outer: BaseException, inner: BaseException) -> BaseException:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ConnectionResetError(errno.ECONNRESET, "x"), "reset"),
        (BrokenPipeError(errno.EPIPE, "x"), "reset"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "refused"),
        (OSError(errno.ENETUNREACH, "x"), "unreachable"),
        (OSError(errno.EHOSTUNREACH, "x"), "unreachable"),
        (OSError(errno.ETIMEDOUT, "x"), "timeout"),
        (TimeoutError("x"), "timeout"),
        (ssl.SSLCertVerificationError("x"), "tls"),
        (ssl.SSLError("x"), "tls"),
        (ssl.SSLEOFError(8, "x"), "cut"),
        (http.client.IncompleteRead(b"x", 3), "cut"),
        (http.client.RemoteDisconnected("x"), "cut"),
        (caused(OSError("outer"), ConnectionResetError(errno.ECONNRESET, "x")), "reset"),
        (OSError("something new"), "cut"),
    ],
)
def test_what_errors_are_called(error: BaseException, cause: str) -> None:
    ours = translate(error, "h")
    assert isinstance(ours, ConnectionFailed) and ours.cause == cause


@pytest.mark.parametrize("error", [http.client.BadStatusLine("x"), http.client.LineTooLong("x")])
def test_what_is_no_http(error: Any) -> None:
    assert isinstance(translate(error, "h"), InvalidReply)


def test_errors_in_a_circle_end() -> None:
    one, two = OSError("a"), OSError("b")
    one.__cause__, two.__cause__ = two, one
    assert translate(one, "h").host == "h"
