"""Bring all files of a download: small ones in one piece each, large ones in segments over several connections.

A handful of threads take whatever is to be done next. A failure that may pass makes its thread wait; any other ends the
whole. What the files are, where they go in the end and who asked for them is known to `downloading.py`.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pumas import footprint
from pumas.downloads.content import Content, Reply, invalid
from pumas.downloads.filling import fill
from pumas.downloads.large import MOST_CONNECTIONS, LargeFile, Segment
from pumas.downloads.part import MIB, PartFile
from pumas.downloads.shared import LOOK_S, Shared
from pumas.downloads.wanted import WantedFile
from pumas.errors import DigestMismatch, Interrupted, PumasError
from pumas.library.hashing import Digests
from pumas.storage.files import disk_errors
from pumas.storage.paths import contained

SMALL = MIB
_WORKERS = 8
# A large file begins when connections have nothing to do at the one before: on a line that one of them fills, two would
# take twice the memory and, with two digests beside each other, longer than one after the other.
_LARGE_AT_ONCE = 2
_SEGMENTS_AT_ONCE = 6
# What small files are lost by a kill: so many bytes or seconds of them.
_UNKEPT_BYTES, _UNKEPT_S = 4 * MIB, 1.0

# Called with the digests of files that are durably there, by path.
Keep = Callable[[Mapping[str, Digests]], None]


class Fetch:
    """One run. `run` returns once all files are in `target`; what a stopped run brought is used by the next."""

    def __init__(self, contents: Sequence[Content], parts: Path, target: Path, shared: Shared, keep: Keep) -> None:
        """`parts` and `target` are folders of one volume, both there; partial files are named by their digests."""
        self._parts = parts
        self._target = target
        self._shared = shared
        self._keep = keep
        self._small = deque(content for content in contents if content.wanted.size <= SMALL)
        self._waiting = deque(content for content in contents if content.wanted.size > SMALL)
        self._large: list[LargeFile] = []
        self._verifiers: list[threading.Thread] = []
        self._segments = 0
        self._unfinished = len(contents)
        self._changed = shared.changed
        self._unkept: dict[str, tuple[Digests, int]] = {}
        self._kept_at = time.monotonic()
        self._keeping = threading.Lock()

    def run(self) -> None:
        """
        Raises:
            DigestMismatch: wrong bytes, twice.
            NetworkError, GatedRepo, DiskError, NotEnoughSpace, ReadOnly; and what `shared.stop` raises.
        """
        count = min(_WORKERS, len(self._small) + len(self._waiting) * MOST_CONNECTIONS)
        workers = [threading.Thread(target=self._work, name=f"download-{n}", daemon=True) for n in range(count)]
        for worker in workers:
            worker.start()
        try:
            self._wait()
        finally:
            self._shared.fail(Interrupted("The download has ended."))
            for thread in [*workers, *self._verifiers]:
                # None may touch a file whose descriptor is closed, and perhaps another's by then.
                thread.join()
            self._flush_quietly()
            for file in self._large:
                file.part.close()

    def _wait(self) -> None:
        while self._goes_on():
            self._shared.mind_offline()
        if self._shared.failure is not None:
            raise self._shared.failure
        self._flush()

    def _goes_on(self) -> bool:
        """Whether there is still something to wait for, after having waited a little."""
        with self._changed:
            if not self._unfinished or self._shared.failure is not None:
                return False
            self._changed.wait(LOOK_S)
            try:
                self._shared.stop()
            except BaseException as error:
                self._shared.failure = self._shared.failure or error
            return True

    # -- a worker's life ---------------------------------------------------------------------------------------------

    def _work(self) -> None:
        footprint.give_way()
        while (task := self._next()) is not None:
            try:
                self._shared.hold()
                task()
            except PumasError as error:
                if not self._may_go_on(error):
                    return
            except BaseException as error:
                self._shared.fail(error)
                return

    def _may_go_on(self, error: PumasError) -> bool:
        try:
            self._shared.stop()
            self._shared.wait_after(error)
        except BaseException as final:
            self._shared.fail(final)
            return False
        return True

    def _next(self) -> Callable[[], None] | None:
        """What to do now, waiting while others do all there is; None at the end."""
        with self._changed:
            while self._unfinished and self._shared.failure is None:
                try:
                    task = self._task()
                except BaseException as error:
                    self._shared.failure = error
                    break
                if task is not None:
                    return task
                self._changed.wait(LOOK_S)
            self._changed.notify_all()
        return None

    def _task(self) -> Callable[[], None] | None:
        if self._small:
            content = self._small.popleft()
            return lambda: self._bring_small(content)
        if self._segments >= _SEGMENTS_AT_ONCE:
            return None
        for file in self._large:
            if (segment := file.take()) is not None:
                self._segments += 1
                return lambda: self._bring_segment(file, segment)
        if self._waiting and len(self._large) < _LARGE_AT_ONCE and all(file.is_handed_out() for file in self._large):
            self._begin(self._waiting.popleft())
            return self._task()
        return None

    # -- small files -------------------------------------------------------------------------------------------------

    def _bring_small(self, content: Content) -> None:
        try:
            data = self._whole(content)
        except BaseException:
            with self._changed:
                self._small.append(content)
            raise
        wanted = content.wanted
        path = contained(self._target, wanted.path, "file")
        with disk_errors(f"Writing {wanted.path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self._shared.meter.arrived(wanted.path, len(data), "done")
        with self._changed:
            self._unkept[wanted.path] = (_digests(data), len(data))
            full = sum(size for _digests, size in self._unkept.values()) >= _UNKEPT_BYTES
            due = full or time.monotonic() - self._kept_at > _UNKEPT_S
        if due:
            self._flush()
        self._finished()

    def _whole(self, content: Content) -> bytes:
        """The file's bytes, right ones; asked for twice when the first were wrong. Raises as `Content.open`."""
        wanted = content.wanted
        if not wanted.size:
            return b""
        found = ""
        for _attempt in range(2):
            with self._shared.connections.reading(reply := content.open(None), self):
                data = self._read(reply, wanted)
            found = wanted.digest(hashlib.sha256(data).hexdigest(), [data])
            if len(data) == wanted.size and found == wanted.expected:
                return data
        raise DigestMismatch(wanted.path, f"expected {wanted.expected}, got {found}, twice")

    def _read(self, reply: Reply, wanted: WantedFile) -> bytes:
        shared, path = self._shared, wanted.path
        if reply.headers.get("Content-Encoding", "identity") != "identity":
            data = reply.read(wanted.size)
            if shared.meter.received(path, len(data)):
                shared.patience.progressed()
            shared.bandwidth.take(len(data), shared.stop)
        else:
            data = bytearray(wanted.size)
            fill(shared, reply, path, memoryview(data))
            if reply.read_into(memoryview(bytearray(1))):
                shared.meter.dropped(path, len(data))
                raise invalid(reply, f"more than the {wanted.size:,} bytes of {path}")
        shared.meter.dropped(path, len(data))
        return bytes(data)

    def _flush(self) -> None:
        """Make the small files durable and say so."""
        with self._keeping:
            with self._changed:
                unkept = dict(self._unkept)
                self._unkept.clear()
                self._kept_at = time.monotonic()
            if not unkept:
                return
            for path in unkept:
                with disk_errors(f"Writing {path}"):
                    _sync(self._target / path)
            self._keep({path: digests for path, (digests, _size) in unkept.items()})

    def _flush_quietly(self) -> None:
        """At an end for another reason, which is the one to tell."""
        try:
            self._flush()
        except PumasError:
            return

    # -- large files -------------------------------------------------------------------------------------------------

    def _begin(self, content: Content) -> None:
        wanted = content.wanted
        part = PartFile(self._parts, wanted.expected, wanted.size, wanted.expected)
        file = LargeFile(content, part, self._shared)
        self._large.append(file)
        verifier = threading.Thread(target=self._verify, args=(file,), name="download-verify", daemon=True)
        self._verifiers.append(verifier)
        verifier.start()

    def _bring_segment(self, file: LargeFile, segment: Segment) -> None:
        try:
            file.fetch(segment)
        finally:
            with self._changed:
                self._segments -= 1
                self._changed.notify_all()

    def _verify(self, file: LargeFile) -> None:
        footprint.give_way()
        try:
            digests = file.verify()
            wanted = file.content.wanted
            # First the word that it is whole, then its name: what a killed run had named so far is found either way.
            self._keep({wanted.path: digests})
            name_whole(self._parts, self._target, wanted.path, wanted.expected)
            file.part.close()
            self._shared.meter.arrived(wanted.path, wanted.size, "done")
        except BaseException as error:
            self._shared.fail(error)
            return
        with self._changed:
            self._large.remove(file)
        self._finished()

    def _finished(self) -> None:
        with self._changed:
            self._unfinished -= 1
            self._changed.notify_all()


def name_whole(parts: Path, target: Path, path: str, name: str) -> None:
    """Give a whole and verified partial file its place."""
    place = contained(target, path, "file")
    with disk_errors(f"Finishing {path}"):
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(parts / f"{name}.part", place)
        (parts / f"{name}.blocks").unlink(missing_ok=True)


def _digests(data: bytes) -> Digests:
    from blake3 import blake3

    return Digests(hashlib.sha256(data).hexdigest(), blake3(data).hexdigest(), len(data))


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
