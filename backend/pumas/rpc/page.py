"""The page for people, served from `/` as it was built: files of one folder, with headers that allow no foreign code.

Headers and content types stand in `contracts/page.json`, for every program that serves the page. Neighbours: `http.py`
lets requests in without a token (nothing here is a secret), `session.py` hands the token to the page. Knows nothing of
what the page shows.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import hdrs, web

from pumas.config import contracts_folder

INDEX = "/index.html"
# A name, or `assets/` and a name, as the build writes them: no other path is looked up, so none can leave the folder.
_FILE = re.compile(r"/(?:assets/)?[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*(?P<type>\.[a-z0-9]+)", re.ASCII)
# The build gives each file below assets/ a name with a hash of its content: under that name it never changes.
_HASHED = re.compile(r"/assets/.+-[A-Za-z0-9_-]{8}\.[a-z0-9]+", re.ASCII)
_FOREVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"

NOT_BUILT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Pumas: the page is not built</title>
<h1>The page is not built yet</h1>
<p>The sidecar works; only its page is missing. In the checkout, with Node.js 20 or newer installed:</p>
<pre>./launcher page</pre>
<p>Then load this address again; where Pumas was installed as a package, install it from the checkout once more before:
<code>pip install .</code></p>
<p>Without Node.js the command does all that the page does:</p>
<pre>pumas --help</pre>
</html>
"""


@dataclass(frozen=True)
class Rules:
    """`contracts/page.json`."""

    headers: Mapping[str, str]
    types: Mapping[str, str]


@functools.cache
def rules() -> Rules:
    raw: dict[str, Any] = json.loads((contracts_folder() / "page.json").read_bytes())
    return Rules(raw["headers"], raw["types"])


class Page:
    """The files below `folder`. They may be built again, or for the first time, while the server runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def has(path: str) -> bool:
        """Whether the path, as it was sent, can be a file of the page. The folder is not looked at."""
        return path == "/" or _FILE.fullmatch(path) is not None

    async def serve(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Answer GET and HEAD for a path that `has` lets through."""
        return await asyncio.to_thread(self._answer, path, request.headers.getall(hdrs.IF_NONE_MATCH, ()))

    def _answer(self, path: str, known: tuple[str, ...] | list[str]) -> web.StreamResponse:
        name = INDEX if path == "/" else path
        kind = _kind(name)
        content = self._read(name) if kind else None
        if kind is None or content is None:
            return _not_built() if name == INDEX else _not_found()
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        caching = _FOREVER if _HASHED.fullmatch(name) else _ASK_AGAIN
        headers = {**_headers(), "Cache-Control": caching, "ETag": tag}
        if _matches(tag, known):
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, headers={**headers, "Content-Type": kind})

    def _read(self, name: str) -> bytes | None:
        try:
            return (self._folder / name[1:]).read_bytes()
        except OSError:
            return None


def _kind(name: str) -> str | None:
    found = _FILE.fullmatch(name)
    return rules().types.get(found["type"]) if found else None


def _matches(tag: str, known: tuple[str, ...] | list[str]) -> bool:
    """https://www.rfc-editor.org/rfc/rfc9110#name-if-none-match"""
    given = {one.strip().removeprefix("W/") for header in known for one in header.split(",")}
    return bool(given & {tag, "*"})


def _headers() -> dict[str, str]:
    return {"Server": "pumas", **rules().headers}


def _not_built() -> web.Response:
    return web.Response(
        status=503,
        body=NOT_BUILT.encode(),
        headers={**_headers(), "Cache-Control": "no-store", "Content-Type": rules().types[".html"]},
    )


def _not_found() -> web.Response:
    return web.Response(status=404, text="Not found.", headers={**_headers(), "Cache-Control": "no-store"})
