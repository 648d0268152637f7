"""Brings the archive of a release: resumable, and compared with the published digest where there is one.

A digest is published with the asset, or in a list of check sums beside it. Assets with one come by the engine of model
downloads (several connections, blocks that survive a kill). The archive of a repository has neither digest nor length,
so it comes in one stream; what can be resumed is. Blocks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from pumas.downloads.bandwidth import Bandwidth
from pumas.downloads.content import Content, Reply
from pumas.downloads.fetching import Fetch
from pumas.downloads.meter import Meter
from pumas.downloads.patience import Patience
from pumas.downloads.schedule import Gate
from pumas.downloads.shared import LOOK_S, Shared
from pumas.downloads.wanted import WantedFile
from pumas.errors import InvalidInput, InvalidReply, NotEnoughSpace, PumasError
from pumas.jobs.store import Json
from pumas.net.client import NetworkClient
from pumas.net.options import Timeouts
from pumas.net.response import Response
from pumas.storage.files import MARGIN, disk_errors, free_space, require_space
from pumas.versions.checksums import LARGEST, digest_in

T = TypeVar("T")

NAME = "archive"
PATIENCE_S = 120.0
_SILENCE_S = 20.0
_TIMEOUTS = Timeouts(read_s=_SILENCE_S)
_CHUNK = 256 * 1024
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Archive:
    """`size` and `sha256` are None when they are not published; `checksums` is where a list lies that may have it."""

    url: str
    name: str
    size: int | None = None
    sha256: str | None = None
    checksums: str | None = None

    def to_json(self) -> Json:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Json) -> Archive:
        return cls(value["url"], value["name"], value["size"], value["sha256"], value.get("checksums"))


def published_digest(text: object) -> str | None:
    """The SHA-256 of an asset as GitHub gives it (`sha256:…`), None for anything else."""
    found = _DIGEST.fullmatch(text) if isinstance(text, str) else None
    return found[1] if found else None


class ArchiveFetch:
    """One archive into one folder. `report` is told (bytes, total or None, bytes per second, seconds left)."""

    def __init__(
        self,
        archive: Archive,
        folder: Path,
        network: NetworkClient,
        bandwidth: Bandwidth,
        check: Callable[[], None],
        report: Callable[[int, int | None, float | None, float | None], None],
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`folder` exists and is ours alone."""
        self._archive = archive
        self._folder = folder
        self._network = network
        self._check = check
        self._report = report
        self._meter = Meter([(NAME, archive.size or 0)])
        self._shared = Shared(self._meter, bandwidth, Gate(), self._look, Patience(patience_s))
        self._told = 0.0
        self._streamed = self._furthest = 0

    @property
    def compared(self) -> bool:
        """Whether what came by `run` has the digest that is published; it fails when it has another."""
        return self._archive.sha256 is not None

    def run(self) -> tuple[Path, str]:
        """The archive's place and its SHA-256; at once when it is there already.

        Raises:
            DigestMismatch, NetworkError, NotEnoughSpace, DiskError; and what `check` raises.
        """
        place = self._folder / NAME
        digest_file = self._folder / f"{NAME}.sha256"
        with contextlib.suppress(OSError):
            # A power cut may have taken its content.
            digest = digest_file.read_text(encoding="ascii")
            digest = digest if _SHA256.fullmatch(digest) else _sha256(place)
            if place.is_file() and self._archive.sha256 in (None, digest):
                return place, digest
        self._archive = self._with_listed_digest()
        if self._archive.size is not None:
            require_space(self._folder, self._archive.size)
        digest = self._by_engine(place) if self._archive.sha256 else self._in_one_stream(place)
        with disk_errors("Keeping the archive"):
            digest_file.write_text(digest, encoding="ascii")
        self._report(place.stat().st_size, place.stat().st_size, None, None)
        return place, digest

    def _with_listed_digest(self) -> Archive:
        """A list that is published and cannot be had is a failure: what it would have told is not known."""
        archive = self._archive
        checksums = archive.checksums
        if archive.sha256 is not None or checksums is None:
            return archive
        text = self._beside(lambda: self._listed(checksums))
        return dataclasses.replace(archive, sha256=digest_in(text, archive.name))

    def _listed(self, url: str) -> bytes:
        with (
            self._network.send("GET", url, timeouts=_TIMEOUTS, stop=self._shared.stop) as reply,
            self._shared.connections.reading(reply, self),
        ):
            return reply.read(LARGEST)

    def _beside(self, work: Callable[[], T]) -> T:
        """Read on a thread of its own: who cancels must not wait for a server that says nothing."""
        with ThreadPoolExecutor(1, thread_name_prefix="archive") as thread:
            reading = thread.submit(work)
            try:
                while not futures.wait([reading], LOOK_S).done:
                    self._shared.stop()
            except BaseException:
                self._shared.connections.end()
                raise
        return reading.result()

    # -- assets with a digest ----------------------------------------------------------------------------------------

    def _by_engine(self, place: Path) -> str:
        archive = self._archive
        assert archive.sha256 is not None
        if archive.size is None:
            raise InvalidInput("release", "its asset has a digest but no size")
        wanted = WantedFile(NAME, archive.size, archive.sha256, "")
        content = Content(wanted, archive.name, archive.url, archive.url, self._send)
        parts = self._folder / "parts"
        with disk_errors("Preparing the download"):
            parts.mkdir(exist_ok=True)
        Fetch([content], parts, self._folder, self._shared, lambda _digests: None).run()
        assert place.is_file()
        return archive.sha256

    def _send(self, url: str, headers: Mapping[str, str]) -> Response:
        return self._network.send(
            "GET",
            url,
            headers=headers,
            timeouts=_TIMEOUTS,
            retry=False,
            check=False,
            stop=self._shared.stop,
        )

    def _look(self) -> None:
        """Called several times a second, whatever goes on."""
        self._check()
        if time.monotonic() - self._told > 0.2:
            self._told = time.monotonic()
            now, size = self._meter.snapshot(), self._archive.size
            # Of a size that nobody says, nobody knows what is left; the meter counts no more than there is to come.
            done = max(now.downloaded, self._streamed)
            self._report(done, size, now.speed, None if size is None else now.eta_s)

    # -- archives without ----------------------------------------------------------------------------------------------

    def _in_one_stream(self, place: Path) -> str:
        part = self._folder / f"{NAME}.part"
        while True:
            try:
                self._beside(lambda: self._stream(part))
                break
            except NotEnoughSpace:
                raise
            except PumasError as error:
                self._shared.stop()
                self._shared.wait_after(error)
        with disk_errors("Keeping the archive"):
            digest = _sha256(part)
            os.replace(part, place)
            (self._folder / f"{NAME}.etag").unlink(missing_ok=True)
        return digest

    def _stream(self, part: Path) -> None:
        etag_file = self._folder / f"{NAME}.etag"
        have, etag = _kept(part, etag_file)
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": etag}
        with self._send(self._archive.url, headers) as reply, self._shared.connections.reading(reply, self):
            if reply.status == 416:
                part.unlink(missing_ok=True)
            if reply.status >= 400:
                raise reply.failure()
            start, total = _extent(reply, have)
            self._streamed = start
            if total is not None:
                require_space(self._folder, total - start)
            with disk_errors("Writing the archive"), open(part, "ab" if start else "wb") as file:
                file.truncate(start)
                strong = reply.headers.get("ETag", "")
                etag_file.write_text("" if strong.startswith("W/") else strong, encoding="utf-8")
                done = self._copy(reply, file, start)
            if total is not None and done != total:
                raise InvalidReply(reply.url, f"{done:,} bytes came instead of {total:,}")
        if self._archive.size is not None and done != self._archive.size:
            part.unlink(missing_ok=True)
            raise InvalidReply("the release server", f"{self._archive.name} has another size than it lists")

    def _copy(self, reply: Reply, file: BinaryIO, done: int) -> int:
        buffer = memoryview(bytearray(_CHUNK))
        room = free_space(self._folder) - MARGIN
        while count := reply.read_into(buffer[: self._shared.bandwidth.bite()]):
            file.write(buffer[:count])
            done += count
            room -= count
            if room < 0:
                raise NotEnoughSpace(MARGIN, free_space(self._folder))
            self._meter.received(NAME, count)
            self._meter.dropped(NAME, count)
            self._streamed = done
            if done > self._furthest:
                self._furthest = done
                self._shared.patience.progressed()
            self._shared.bandwidth.take(count, self._shared.stop)
            self._shared.stop()
        file.flush()
        os.fsync(file.fileno())
        return done


def _kept(part: Path, etag_file: Path) -> tuple[int, str]:
    """Bytes of an earlier try that can be gone on from, and what names their content."""
    try:
        etag = etag_file.read_text(encoding="utf-8")
        return (part.stat().st_size, etag) if etag else (0, "")
    except (OSError, ValueError):
        return 0, ""


def _extent(reply: Reply, have: int) -> tuple[int, int | None]:
    """(where the body begins, the whole size when it is told)."""
    if reply.status == 206:
        found = _RANGE.fullmatch(reply.headers.get("Content-Range", "").strip())
        if found is None or int(found[1]) != have:
            raise InvalidReply("the release server", "a part that was not asked for")
        return have, None if found[2] == "*" else int(found[2])
    length = reply.headers.get("Content-Length", "")
    return 0, int(length) if length.isascii() and length.isdigit() else None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
