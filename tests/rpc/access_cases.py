"""The cases of the access rules, as data: who is let in and who is not. Run over the functions of `rpc/access.py`,
over weakened copies of them, and (a selection) over sockets.

`P` in a text stands for the server's port, `TOKEN` for its token.
"""

from __future__ import annotations

from dataclasses import dataclass

P = 43210
TOKEN = "s3cret-token-abcdefghijklmnop"


@dataclass(frozen=True)
class Case:
    guard: str  # host, origin, site, token, content, length
    values: tuple[str, ...]
    status: int  # 0 = let in

    def filled(self, port: int, token: str) -> tuple[str, ...]:
        return tuple(
            v.replace("{P}", str(port)).replace("{Q}", str(port - 1)).replace("{T}", token) for v in self.values
        )


def _cases(guard: str, status: int, *values: str | tuple[str, ...]) -> list[Case]:
    return [Case(guard, v if isinstance(v, tuple) else (v,), status) for v in values]


HOST = [
    *_cases("host", 0, "127.0.0.1:{P}", "localhost:{P}", "[::1]:{P}", "LOCALHOST:{P}", "LocalHost:{P}"),
    *_cases(
        "host",
        421,
        (),
        "",
        " ",
        ("127.0.0.1:{P}", "127.0.0.1:{P}"),
        ("127.0.0.1:{P}", "evil.example"),
        ("evil.example", "127.0.0.1:{P}"),
        # the page's own name, resolved to loopback
        "evil.example",
        "evil.example:{P}",
        "127.0.0.1.evil.example:{P}",
        "localhost.evil.example:{P}",
        "evil-localhost:{P}",
        "evil.localhost:{P}",
        "xlocalhost:{P}",
        "7f000001.rbndr.us:{P}",
        "host.local:{P}",
        "host.internal:{P}",
        # the right name, the wrong port or none
        "127.0.0.1",
        "localhost",
        "[::1]",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:{Q}",
        "127.0.0.1:80",
        "127.0.0.1:0{P}",
        "127.0.0.1:+{P}",
        "127.0.0.1:-{P}",
        "127.0.0.1:{P} ",
        "127.0.0.1:{P}0",
        "127.0.0.1:{P}:{P}",
        "127.0.0.1:{P}@evil.example",
        "127.0.0.1:{P}/",
        "127.0.0.1:{P}?",
        "127.0.0.1:{P}#",
        "127.0.0.1:{P},evil.example",
        "127.0.0.1:{P}\x00.evil.example",
        "127.0.0.1:٤٣٢١٠",
        "127.0.0.1:99999999999999999999",
        # other spellings of loopback that a resolver would accept
        "127.1:{P}",
        "127.0.0.2:{P}",
        "127.000.000.001:{P}",
        "2130706433:{P}",
        "0x7f000001:{P}",
        "017700000001:{P}",
        "0.0.0.0:{P}",
        "0:{P}",
        "[::]:{P}",
        "[::ffff:127.0.0.1]:{P}",
        "[0:0:0:0:0:0:0:1]:{P}",
        "[::1%25lo]:{P}",
        "::1:{P}",
        "[::1:{P}",
        "::1]:{P}",
        "[[::1]]:{P}",
        "[127.0.0.1]:{P}",
        "[localhost]:{P}",
        "localhost.:{P}",
        "127.0.0.1.:{P}",
        ".localhost:{P}",
        "user@127.0.0.1:{P}",
        "user:{P}@127.0.0.1:{P}",
        "http://127.0.0.1:{P}",
        "//127.0.0.1:{P}",
        "127.0.0.1\t:{P}",
        "\t127.0.0.1:{P}",
        "ⓛocalhost:{P}",
        "localhoſt:{P}",
        "１２７.0.0.1:{P}",
    ),
]

ORIGIN = [
    *_cases("origin", 0, (), "http://127.0.0.1:{P}", "http://localhost:{P}", "http://[::1]:{P}"),
    *_cases(
        "origin",
        403,
        "",
        "null",
        "NULL",
        "*",
        "http://evil.example",
        "https://evil.example",
        "http://evil.example:{P}",
        "http://127.0.0.1.evil.example:{P}",
        "http://127.0.0.1:{P}.evil.example",
        "http://localhost.evil.example:{P}",
        "http://127.0.0.1",
        "http://localhost",
        "http://127.0.0.1:{Q}",
        "http://127.0.0.1:80",
        "http://127.0.0.1:",
        "http://127.0.0.1:0{P}",
        "https://127.0.0.1:{P}",
        "ws://127.0.0.1:{P}",
        "file://",
        "file:///",
        "chrome-extension://127.0.0.1:{P}",
        "app://localhost:{P}",
        "http://127.0.0.1:{P}/",
        "http://127.0.0.1:{P}/rpc",
        "http://127.0.0.1:{P}?x",
        "http://127.0.0.1:{P}#x",
        "http://user@127.0.0.1:{P}",
        "http://user:pw@127.0.0.1:{P}",
        "http://127.0.0.1:{P}@evil.example",
        "http://evil.example\\@127.0.0.1:{P}",
        "http://127.0.0.1.:{P}",
        "http://localhost.:{P}",
        "http://127.1:{P}",
        "http://2130706433:{P}",
        "http://0.0.0.0:{P}",
        "http://[::]:{P}",
        "http://[::ffff:127.0.0.1]:{P}",
        "http://[127.0.0.1]:{P}",
        "http://[localhost]:{P}",
        "http://[::1:{P}",
        "http:127.0.0.1:{P}",
        "http:/127.0.0.1:{P}",
        "http:///127.0.0.1:{P}",
        "//127.0.0.1:{P}",
        "127.0.0.1:{P}",
        " http://127.0.0.1:{P}",
        "http://127.0.0.1:{P} ",
        "http://127.0.0.1:{P} http://evil.example",
        "http://127.0.0.1:{P}, http://evil.example",
        "\thttp://127.0.0.1:{P}",
        "ht\ntp://127.0.0.1:{P}",
        "http://127.0.0.1:99999999",
        "http://127.0.0.1:٤٣٢١٠",
        "http://ⓛocalhost:{P}",
        "http://[",
        ("http://127.0.0.1:{P}", "http://127.0.0.1:{P}"),
        ("http://127.0.0.1:{P}", "http://evil.example"),
        ("null", "http://127.0.0.1:{P}"),
    ),
]

SITE = [
    *_cases("site", 0, (), "none", "same-origin", "None", "SAME-ORIGIN"),
    *_cases(
        "site",
        403,
        "cross-site",
        "same-site",
        "Cross-Site",
        "",
        "none, cross-site",
        "nonesuch",
        "same-origin-ish",
        ("none", "cross-site"),
        ("cross-site", "none"),
    ),
]

TOKENS = [
    *_cases("token", 0, "Bearer {T}", "bearer {T}", "BEARER {T}"),
    *_cases(
        "token",
        401,
        (),
        "",
        "Bearer",
        "Bearer ",
        "{T}",
        "Basic {T}",
        "Token {T}",
        "Bearer{T}",
        "Bearer {T}x",
        "Bearer x{T}",
        "Bearer {T} {T}",
        "Bearer {T},",
        'Bearer "{T}"',
        "Bearer token={T}",
        "Bearer wrong",
        "Bearer nonée",
        "Bearer \udcff\udcfe",
        "Bearer \ud800",
        "Bearer {T}\x00",
        "Bearer null",
        "Bearer None",
        "Bearer S3CRET-TOKEN-ABCDEFGHIJKLMNOP",
        "Bearer s3cret-token-abcdefghijklmno",
        ("Bearer {T}", "Bearer {T}"),
        ("Bearer wrong", "Bearer {T}"),
        ("Bearer {T}", "Bearer wrong"),
    ),
]

CONTENT = [
    *_cases(
        "content",
        0,
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"',
    ),
    *_cases(
        "content",
        415,
        (),
        "",
        "text/plain",
        "text/plain; application/json",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
        "application/json-patch+json",
        "application/jsonp",
        "xapplication/json",
        "application/json, text/plain",
        "text/plain, application/json",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
        "application /json",
        ("application/json", "application/json"),
        ("application/json", "text/plain"),
    ),
]

ENCODING = [
    *_cases("encoding", 0, ()),
    *_cases("encoding", 415, "gzip", "deflate", "br", "identity", "zstd", "", "gzip, gzip", ("gzip", "br")),
]

LENGTH = [
    *_cases("length", 0, (), "0", "1", "33554431", "33554432"),
    *_cases("length", 413, "33554433", "104857600", "1000000000000000"),
]

ALL = [*HOST, *ORIGIN, *SITE, *TOKENS, *CONTENT, *ENCODING, *LENGTH]
