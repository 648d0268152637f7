"""The page over real sockets: what is served, under which headers, to whom; how it gets the token; nothing else."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pumas.events.stream import EventStream
from pumas.rpc.http import HttpServer
from pumas.rpc.page import NOT_BUILT, Page, rules
from pumas.rpc.session import SessionCodes
from sidecar import Reply, Sidecar, parse_reply, request_bytes

TOKEN = "page-token-0123456789abcdefghijklmnop"
SECRET = "this stands beside the page"
INDEX = "<!doctype html><title>Pumas</title><div id=root></div>"
SCRIPT = "console.log('ö')"
HASHED = "/assets/index-BxY_2-q9.js"


@dataclass
class Site:
    """A listening server with a page folder of its own."""

    port: int
    folder: Path
    codes: SessionCodes

    async def ask(
        self, path: str, method: str = "GET", body: bytes = b"", token: bool = False, **changes: str | None
    ) -> Reply:
        headers: dict[str, str | None] = {"Host": f"127.0.0.1:{self.port}", "Connection": "close"}
        if token:
            headers["Authorization"] = f"Bearer {TOKEN}"
        if body:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        headers |= {name.replace("_", "-"): value for name, value in changes.items()}
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request_bytes(method, path, [(n, v) for n, v in headers.items() if v is not None], body))
        answer = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        return parse_reply(answer)

    async def exchange(self, code: object, **changes: str | None) -> Reply:
        return await self.ask("/session", "POST", json.dumps({"code": code}).encode(), **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    built = tmp_path / "dist" / "renderer"
    (built / "assets").mkdir(parents=True)
    (built / "index.html").write_text(INDEX, encoding="utf-8")
    (built / "icon.svg").write_text("<svg/>", encoding="utf-8")
    (built / "assets" / HASHED.rpartition("/")[2]).write_text(SCRIPT, encoding="utf-8")
    (built / "assets" / "plain.css").write_text("a{}", encoding="utf-8")
    (built / "assets" / "unknown.exe").write_text(SECRET, encoding="utf-8")
    (built / "assets" / ".hidden.js").write_text(SECRET, encoding="utf-8")
    (built / "assets" / "deep").mkdir()
    (built / "assets" / "deep" / "file.js").write_text(SECRET, encoding="utf-8")
    (tmp_path / "dist" / "beside.js").write_text(SECRET, encoding="utf-8")
    (tmp_path / "dist" / "index.html").write_text(SECRET, encoding="utf-8")
    return built


@pytest.fixture
async def serve(folder: Path) -> AsyncIterator[Callable[..., object]]:
    started: list[HttpServer] = []

    async def go(token: str | None = TOKEN, place: Path = folder) -> Site:
        codes = SessionCodes()
        server = HttpServer(token=token, events=EventStream(), page=Page(place), codes=codes)
        started.append(server)
        return Site(await server.listen("127.0.0.1", 0), place, codes)

    yield go
    for server in started:
        await server.close()


@pytest.fixture
async def site(serve: Callable[..., object]) -> Site:
    return await serve()  # type: ignore[misc]


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind", "content", "caching"),
    [
        ("/", "text/html; charset=utf-8", INDEX, "no-cache"),
        ("/index.html", "text/html; charset=utf-8", INDEX, "no-cache"),
        ("/icon.svg", "image/svg+xml", "<svg/>", "no-cache"),
        ("/assets/plain.css", "text/css; charset=utf-8", "a{}", "no-cache"),
        (HASHED, "text/javascript; charset=utf-8", SCRIPT, "public, max-age=31536000, immutable"),
    ],
)
async def test_a_file_of_the_page(site: Site, path: str, kind: str, content: str, caching: str) -> None:
    reply = await site.ask(path)
    assert (reply.status, reply.body.decode()) == (200, content)
    assert reply.headers["content-type"] == kind
    assert reply.headers["cache-control"] == caching
    head = await site.ask(path, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == reply.headers["content-length"]
    tag = reply.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await site.ask(path, If_None_Match=known)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag), known
    assert (await site.ask(path, If_None_Match='"other"')).status == 200


async def test_a_page_that_is_built_again_is_served_at_once(site: Site) -> None:
    tag = (await site.ask("/")).headers["etag"]
    (site.folder / "index.html").write_text("new", encoding="utf-8")
    reply = await site.ask("/", If_None_Match=tag)
    assert (reply.status, reply.body) == (200, b"new")


async def test_a_page_that_is_not_built_says_what_to_do(serve: Callable[..., object], tmp_path: Path) -> None:
    site: Site = await serve(place=tmp_path / "nowhere")  # type: ignore[misc]
    reply = await site.ask("/")
    assert (reply.status, reply.body.decode()) == (503, NOT_BUILT)
    assert "./launcher page" in NOT_BUILT
    assert reply.headers["cache-control"] == "no-store"
    assert "content-security-policy" in reply.headers
    assert (await site.ask(HASHED)).status == 404


TRAVERSAL = [
    "/../beside.js",
    "/assets/../../beside.js",
    "/assets/..%2f..%2fbeside.js",
    "/%2e%2e/beside.js",
    "/..%5cbeside.js",
    "/..\\beside.js",
    "/assets/....//....//beside.js",
    "//beside.js",
    "//etc/passwd",
    "/etc/passwd",
    "/./index.html",
    "/assets//plain.css",
    "/assets/./plain.css",
    "/assets/deep/file.js",
    "/assets/deep",
    "/assets/",
    "/assets",
    "/assets/.hidden.js",
    "/assets/unknown.exe",
    "/index.html/",
    "/index.html%00.js",
    "/index.html;x.js",
    "/INDEX.HTML",
    "/assets/plain.css%20",
    "/assets/..js",
    "/assets/\u00e9.js",
    "/index.html?x=1",
    "/?x=1",
    "/?",
    "file:///etc/passwd",
]


@pytest.mark.parametrize("path", TRAVERSAL)
async def test_no_other_path_is_a_file(site: Site, path: str) -> None:
    for token in (False, True):
        reply = await site.ask(path.encode().decode("latin-1"), token=token)
        named_like_one = path == "/assets/unknown.exe"
        assert reply.status in ((404, 400) if token or named_like_one else (401, 400)), reply
        assert SECRET.encode() not in reply.body
        assert b"root:" not in reply.body


async def test_a_folder_with_a_files_name_is_not_found(site: Site) -> None:
    (site.folder / "assets" / "folder.js").mkdir()
    assert (await site.ask("/assets/folder.js")).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"])
async def test_the_page_is_only_read(site: Site, method: str) -> None:
    assert (await site.ask("/", method)).status == 401
    reply = await site.ask("/", method, token=True)
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


# -- headers ---------------------------------------------------------------------------------------------------------


def policy() -> dict[str, list[str]]:
    text = rules().headers["Content-Security-Policy"]
    return {name: values for name, *values in (part.split() for part in text.split(";"))}


async def test_every_answer_carries_the_policy(site: Site) -> None:
    for path, known in (("/", None), (HASHED, None), ("/assets/none.js", None), ("/", "*")):
        reply = await site.ask(path, If_None_Match=known)
        for name, value in rules().headers.items():
            assert reply.headers[name.lower()] == value, (path, name)
        assert not any(name.startswith("access-control") for name in reply.headers)


def test_the_policy_allows_nothing_foreign_and_nothing_inline() -> None:
    found = policy()
    assert found["default-src"] == ["'none'"]
    assert found["frame-ancestors"] == ["'none'"]
    assert found["base-uri"] == ["'none'"]
    assert found["form-action"] == ["'none'"]
    assert {name: v for name, v in found.items() if name.endswith("-src") and v != ["'self'"]} == {
        "default-src": ["'none'"],
        "img-src": ["'self'", "data:", "blob:"],
    }
    text = json.dumps(found)
    for never in ("unsafe", "*", "http:", "https:", "ws:", "wasm", "strict-dynamic", "report-uri"):
        assert never not in text, never
    assert rules().headers["X-Content-Type-Options"] == "nosniff"
    assert rules().headers["X-Frame-Options"] == "DENY"


# -- who is answered -------------------------------------------------------------------------------------------------


async def test_host_and_origin_are_checked_as_everywhere(site: Site) -> None:
    for path in ("/", HASHED, "/icon.svg"):
        assert (await site.ask(path, Host="evil.example")).status == 421
        assert (await site.ask(path, Host=f"evil.example:{site.port}")).status == 421
        assert (await site.ask(path, Origin="http://evil.example")).status == 403
        assert (await site.ask(path, Origin="null")).status == 403
        assert (await site.ask(path, Sec_Fetch_Site="cross-site")).status == 403
        assert (await site.ask(path, Sec_Fetch_Site="same-origin")).status == 200
    assert (await site.exchange("x", Host="evil.example")).status == 421
    assert (await site.exchange("x", Origin="http://evil.example")).status == 403
    assert (await site.exchange("x", Sec_Fetch_Site="cross-site")).status == 403


NAVIGATION = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}


async def test_a_link_or_a_file_may_lead_to_the_page_and_to_nothing_else(site: Site) -> None:
    assert (await site.ask("/", **NAVIGATION)).status == 200
    for change in ({"Sec_Fetch_Dest": "iframe"}, {"Sec_Fetch_Dest": None}, {"Sec_Fetch_Mode": "no-cors"}):
        assert (await site.ask("/", **NAVIGATION | change)).status == 403, change
    assert (await site.ask("/", **NAVIGATION, Origin="http://evil.example")).status == 403
    assert (await site.ask("/", **NAVIGATION, Host="evil.example")).status == 421
    for path in (HASHED, "/index.html", "/health", "/events"):
        assert (await site.ask(path, token=True, **NAVIGATION)).status == 403, path
    assert (await site.exchange("x", **NAVIGATION)).status == 403
    assert (await site.ask("/", "POST", b"{}", token=True, **NAVIGATION)).status == 403


async def test_everything_else_still_needs_the_token(site: Site) -> None:
    for method, path in (("GET", "/health"), ("GET", "/events"), ("POST", "/rpc"), ("POST", "/session/code")):
        assert (await site.ask(path, method, b"{}" if method == "POST" else b"")).status == 401, path
    assert (await site.ask("/session")).status == 401
    assert (await site.ask("/session", token=True)).status == 405


# -- the token -------------------------------------------------------------------------------------------------------


async def test_a_code_becomes_the_token_once(site: Site) -> None:
    made = await site.ask("/session/code", "POST", b"{}", token=True)
    assert made.status == 200
    code = made.json["code"]
    own = {"Origin": f"http://127.0.0.1:{site.port}", "Sec_Fetch_Site": "same-origin"}
    reply = await site.exchange(code, **own)
    assert (reply.status, reply.json) == (200, {"token": TOKEN})
    assert reply.headers["cache-control"] == "no-store"
    again = await site.exchange(code, **own)
    assert again.status == 403
    assert TOKEN.encode() not in again.body


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"{",
        b'{"code":1}',
        b'{"code":null}',
        b'{"code":""}',
        b'{"code":"\\ud800"}',
        b'""',
    ],
)
async def test_no_code_no_token(site: Site, body: bytes) -> None:
    code = site.codes.issue()
    reply = await site.ask("/session", "POST", body)
    assert (reply.status, TOKEN.encode() in reply.body) == (403, False)
    assert (await site.exchange(code)).status == 200


async def test_a_form_cannot_send_a_code_and_a_large_body_is_not_read(site: Site) -> None:
    code = site.codes.issue()
    assert (await site.exchange(code, Content_Type="text/plain")).status == 415
    assert (await site.exchange(code, Content_Type="application/x-www-form-urlencoded")).status == 415
    assert (await site.exchange("x" * 2000)).status == 413
    assert (await site.exchange(code)).status == 200, "and none of them used it up"


async def test_without_a_token_there_is_none_to_hand_over(serve: Callable[..., object]) -> None:
    site: Site = await serve(token=None)  # type: ignore[misc]
    assert (await site.ask("/")).status == 200
    assert (await site.exchange("anything")).json == {"token": None}


# -- a real sidecar --------------------------------------------------------------------------------------------------


def test_the_sidecar_serves_its_page_and_hands_over_its_token(shared: Sidecar) -> None:
    page = shared.http("GET", "/", {"Authorization": ""})
    assert page.status in (200, 503), "built or not, there is something to read"
    assert page.headers["content-security-policy"] == rules().headers["Content-Security-Policy"]
    for asset in re.findall(rb'(?:src|href)="\.?(/[^"]+)"', page.body):
        assert shared.http("GET", asset.decode(), {"Authorization": ""}).status == 200, asset
    headers = {"Content-Type": "application/json"}
    code = shared.http("POST", "/session/code", headers, b"{}").json["code"]
    body = json.dumps({"code": code}).encode()
    assert shared.http("POST", "/session", headers | {"Authorization": ""}, body).json == {"token": shared.token}
    assert shared.http("POST", "/session", headers | {"Authorization": ""}, body).status == 403
