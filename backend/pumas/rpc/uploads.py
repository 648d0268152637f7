"""`POST /uploads?batch=…&name=…`: files that a page in a browser hands over because it cannot say where they lie.

The body is the file's bytes; the answer, `{"path": …}`, is where they are now, for an import that moves them. Files of
one batch lie in one folder, as shards of a model must; a name may have folders in it, for a folder that is handed over
file by file. What nobody imported is removed a day later. Access was checked
by `http.py`; what the files hold is the import's business.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import cast

from aiohttp import hdrs, web

from pumas.errors import UnsafePath
from pumas.rpc import access
from pumas.rpc.connections import COMMON_HEADERS, Connection
from pumas.storage.paths import relative_path

CONTENT_TYPE = "application/octet-stream"
AT_ONCE = 4
KEPT_S = 24 * 3600
# A page that sends nothing for this long is gone.
READ_DEADLINE_S = 30.0
MOST_PARTS = 8
_WRITE_BYTES = 4 * 1024 * 1024
_BATCH = re.compile(r"[0-9a-f]{32}")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Uploads:
    """Receives into `folder`, which only this user can read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._under_way = 0
        self._swept = False

    async def receive(self, request: web.BaseRequest) -> access.Refusal | web.StreamResponse:
        """Store one file. Nothing half received stays."""
        batch, name = request.query.get("batch", ""), request.query.get("name", "")
        if refusal := _check(request, batch, name):
            return refusal
        if self._under_way >= AT_ONCE:
            return access.Refusal(503, f"At most {AT_ONCE} files are received at once; try again in a moment.")
        self._under_way += 1
        try:
            path = await self._store(request, self._folder / batch, name)
        except OSError as error:
            if isinstance(error, ConnectionError):
                raise
            status = 507 if error.errno in _NO_SPACE else 409 if isinstance(error, FileExistsError) else 500
            return access.Refusal(status, f"The file could not be stored: {os.strerror(error.errno or 0).lower()}.")
        finally:
            self._under_way -= 1
        if path is None:
            return access.MALFORMED
        headers = {**COMMON_HEADERS, "Content-Type": "application/json"}
        return web.Response(status=201, body=json.dumps({"path": str(path)}).encode(), headers=headers)

    async def _store(self, request: web.BaseRequest, folder: Path, name: str) -> Path | None:
        """None when the body broke off. The name is told to nobody before all of it is there."""
        path = folder / name
        fd = await asyncio.to_thread(self._create, path)
        whole = False
        try:
            pending = bytearray()
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(READ_DEADLINE_S) as deadline:
                while chunk := await request.content.readany():
                    pending += chunk
                    if len(pending) >= _WRITE_BYTES:
                        await asyncio.to_thread(_write, fd, bytes(pending))
                        pending.clear()
                    deadline.reschedule(loop.time() + READ_DEADLINE_S)
            await asyncio.to_thread(_write, fd, bytes(pending))
            whole = not cast(Connection, request.protocol).malformed
        except TimeoutError:
            pass
        finally:
            await asyncio.to_thread(_close, fd, None if whole else path)
        return path if whole else None

    def _create(self, path: Path) -> int:
        if not self._swept:
            self._swept = True
            self._sweep()
        while True:
            self._make(path.parent)
            try:
                return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            except FileNotFoundError:
                # The end of another file of the batch removed the folder in between; nobody else does.
                if path.parent.is_dir():
                    raise

    def _make(self, folder: Path) -> None:
        """Each folder for this user only: `parents=True` would make those above as the umask has it."""
        if folder != self._folder:
            self._make(folder.parent)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _sweep(self) -> None:
        """Remove batches that nobody wanted for a day."""
        with suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                old = time.time() - entry.stat(follow_symlinks=False).st_mtime > KEPT_S
                if old and _BATCH.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)


def _check(request: web.BaseRequest, batch: str, name: str) -> access.Refusal | None:
    headers = request.headers
    if headers.getall(hdrs.CONTENT_TYPE, ()) != [CONTENT_TYPE] or headers.getall(hdrs.CONTENT_ENCODING, ()):
        return access.Refusal(415, f"Unsupported media type: send 'Content-Type: {CONTENT_TYPE}'.")
    if len(request.query) != 2 or not _BATCH.fullmatch(batch):
        return access.Refusal(400, "batch must be 32 hex digits, and name the file's name.")
    try:
        parts = relative_path(name, "name").split("/")
        if len(parts) > MOST_PARTS or any(part.startswith(".") for part in parts):
            return access.Refusal(400, "name must be the name of a file, with few folders before it and no hidden one.")
    except UnsafePath as error:
        return access.Refusal(400, str(error))
    return None


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _close(fd: int, unwanted: Path | None) -> None:
    os.close(fd)
    if unwanted is not None:
        unwanted.unlink(missing_ok=True)
        with suppress(OSError):
            unwanted.parent.rmdir()  # only when nothing else is in it
