"""One file that arrives in blocks: connections take segments of it, a hashing thread follows, and the digest decides.

Blocks lie in a `PartFile`. Should the digest be wrong, the blocks that the disk changed are fetched again. Where every
block is as it was written, some bytes were wrong when they came: they are fetched again and compared until the digest
is right, once. How many connections work on a file
and when is decided in `fetching.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pumas.downloads.content import Changed, Content, Reply, invalid
from pumas.downloads.filling import fill
from pumas.downloads.part import MIB, PartFile, Span
from pumas.downloads.shared import LOOK_S, Shared
from pumas.errors import DigestMismatch, DiskError, PumasError
from pumas.library.hashing import BLOCK, DigestPair, Digests

# Connections per file by what one brings, in bytes per second: many over slow ones, few where one fills the line.
MOST_CONNECTIONS = 6
_CONNECTIONS = ((40e6, MOST_CONNECTIONS), (150e6, 4), (float("inf"), 2))
_FIRST_CONNECTIONS = 4
MOST_RESTARTS = 5
_GUARDED_RESTARTS = 2
_ANY = "*"  # no server's name of anything: those are quoted
MOST_LOSSES = 3
_SMALLEST_SEGMENT = 8 * MIB
_LAST_SEGMENT = 2 * MIB
_LARGEST_SEGMENT = 64 * MIB
_SEGMENT_S = 3.0
# After so many blocks of a segment, the kernel is asked to write them to the disk.
_WRITE_BLOCKS = 8
_HASH_BUFFERS = 4


@dataclass(frozen=True, slots=True)
class Segment:
    """Blocks `first` up to, not including, `stop`; `ranged` is False for a server that only gives the whole file."""

    first: int
    stop: int
    generation: int
    ranged: bool


class LargeFile:
    """`fetch` is called by connections, `verify` by one thread of its own."""

    def __init__(self, content: Content, part: PartFile, shared: Shared) -> None:
        self.content = content
        self.part = part
        self._path = content.wanted.path
        self._shared = shared
        self._lock = threading.Lock()
        self._taken = bytearray(part.count)
        # What came of blocks before their connections broke: on a line that breaks often, no block might ever come by
        # one connection alone. Of this generation, and counted as pending.
        self._begun: dict[int, bytes] = {}
        self._busy = 0
        self._generation: int = 0
        self._resetting = False
        self._ranged = True
        self._restarts = 0
        self._losses = 0
        self._segment = _SMALLEST_SEGMENT
        self._connections = _FIRST_CONNECTIONS
        shared.meter.arrived(self._path, part.arrived())

    # -- fetching ----------------------------------------------------------------------------------------------------

    def take(self) -> Segment | None:
        """The next segment that nobody fetches, or None when there is none at the moment."""
        with self._lock:
            if self._resetting:
                if self._busy:
                    return None
                self.part.forget_all()
                if self._restarts >= _GUARDED_RESTARTS:
                    self.part.name_content(_ANY)
                self._taken = bytearray(self.part.count)
                self._resetting = False
            if self._busy >= (self._connections if self._ranged else 1):
                return None
            if not self._ranged and self._shared.patience.waits:
                return None  # or each worker would fetch all of it once more while another one waits
            blocks = self._free_blocks() if self._ranged else (0, 0 if self.part.complete else self.part.count)
            if blocks is None or blocks[0] == blocks[1]:
                return None
            self._busy += 1
            self._taken[blocks[0] : blocks[1]] = b"\1" * (blocks[1] - blocks[0])
            return Segment(blocks[0], blocks[1], self._generation, self._ranged)

    def _free_blocks(self) -> tuple[int, int] | None:
        for first, stop in self.part.missing():
            at = self._taken.find(0, first, stop)
            if at >= 0:
                end = self._taken.find(1, at, stop)
                end = min(stop if end < 0 else end, at + max(1, self._size_now() // self.part.block_size))
                # What was begun is gone on with where a segment begins.
                return at, min((block for block in self._begun if at < block < end), default=end)
        return None

    def _size_now(self) -> int:
        """Towards the end segments get smaller, so that all connections end at about the same time."""
        share = (self.part.size - self.part.arrived()) // (2 * self._connections)
        return min(self._segment, max(_LAST_SEGMENT, share))

    def fetch(self, segment: Segment) -> None:
        """Bring a segment, or as much of it as comes. Raises as `Content.open`, and the disk's failures."""
        began = time.monotonic()
        try:
            brought = self._bring(segment)
            self._adapt(brought, time.monotonic() - began)
        except Changed as changed:
            self._begin_anew(segment.generation, str(changed), ranged=changed.ranges)
        finally:
            with self._lock:
                self._busy -= 1
                self._taken[segment.first : segment.stop] = bytes(segment.stop - segment.first)

    def _bring(self, segment: Segment) -> int:
        span = Span(self.part.span(segment.first).start, self.part.span(segment.stop - 1).stop)
        begun = self._begun.get(segment.first, b"") if segment.ranged else b""
        wanted = Span(span.start + len(begun), span.stop) if segment.ranged else None
        reply = self.content.open(wanted, self._guard)
        with self._shared.connections.reading(reply, self):
            self._name_content(reply)
            buffer = memoryview(bytearray(min(self.part.block_size, span.size)))
            for block in range(segment.first, segment.stop):
                view = buffer[: self.part.span(block).size]
                self._fill(segment, block, view, reply, begun if block == segment.first else b"")
                if segment.generation != self._generation:
                    return 0
                if (block + 1 - segment.first) % _WRITE_BLOCKS == 0:
                    self.part.start_writing(block + 1 - _WRITE_BLOCKS, block + 1)
                if not self._shared.gate.is_open():
                    return 0
            if not segment.ranged and reply.read_into(memoryview(bytearray(1))):
                raise invalid(reply, f"more than the {self.part.size:,} bytes of {self._path}")
        return span.size

    def _fill(self, segment: Segment, block: int, view: memoryview, reply: Reply, begun: bytes) -> None:
        """Bring a block whose first bytes, `begun`, an earlier connection brought, and keep it."""
        have = len(begun)
        view[:have] = begun

        def rescue(new: memoryview) -> bool:
            return self._rescue(segment, block, view[: have + len(new)])

        fill(self._shared, reply, self._path, view[have:], rescue)
        if segment.generation != self._generation:
            # What was begun is not counted any more since then.
            self._shared.meter.dropped(self._path, len(view) - have)
            return
        self._keep(block, view)
        with self._lock:
            self._begun.pop(block, None)

    def _rescue(self, segment: Segment, block: int, data: memoryview) -> bool:
        """Keep the first bytes of a block whose connection broke, for the next that is asked for it."""
        with self._lock:
            if not segment.ranged or segment.generation != self._generation:
                return False
            self._begun[block] = bytes(data)
        return True

    @property
    def _guard(self) -> str:
        """The content that a span must be of. Servers of one address may each have a name of their own for the same
        bytes: once it seemed to change again, only the digest decides."""
        return "" if self.part.etag == _ANY else self.part.etag

    def _name_content(self, reply: Reply) -> None:
        if reply.headers.get("Content-Encoding", "identity") != "identity":
            raise invalid(reply, f"{self._path} in a compressed form, although it was asked not to")
        etag = reply.headers.get("ETag", "")
        with self._lock:
            if etag and not self.part.etag:
                self.part.name_content(etag)
        if etag and self._guard not in ("", etag):
            raise Changed("it has changed on the server")

    def _keep(self, block: int, view: memoryview) -> None:
        self.part.write(block, view)
        self._shared.meter.dropped(self._path, len(view))
        self._shared.meter.arrived(self._path, self.part.arrived())

    def _adapt(self, brought: int, seconds: float) -> None:
        """Ask for as much at a time as takes some seconds: few requests on a fast line, little lost on a slow one."""
        if brought and seconds > 0:
            rate = brought / seconds
            self._segment = int(min(_LARGEST_SEGMENT, max(_SMALLEST_SEGMENT, rate * _SEGMENT_S)))
            self._connections = next(count for limit, count in _CONNECTIONS if rate < limit)

    def _begin_anew(self, generation: int, why: str, *, ranged: bool) -> None:
        with self._lock:
            if generation != self._generation:
                return
            self._restarts += 1
            if self._restarts > MOST_RESTARTS:
                raise DigestMismatch(self._path, f"it was begun {MOST_RESTARTS} times because {why}")
            self._generation += 1
            self._resetting = True
            self._ranged = ranged
            begun = sum(map(len, self._begun.values()))
            self._begun.clear()
        self._shared.meter.dropped(self._path, begun)
        self._shared.meter.restarted(self._path, why)
        self._shared.connections.end(self)
        with self._shared.changed:
            self._shared.changed.notify_all()

    # -- verifying ---------------------------------------------------------------------------------------------------

    def verify(self) -> Digests:
        """Follow the blocks as they arrive; returns the digests once they are those expected.

        Raises:
            DigestMismatch: the bytes are wrong, also those of a second try.
            DiskError, and what the second try raises.
        """
        repaired = False
        while True:
            generation = self._begun_generation()
            digests = self._follow(generation)
            if digests is None:
                continue
            found = self._digest(digests)
            if found == self.content.wanted.expected:
                self.part.sync()
                return digests
            if repaired:
                self.part.forget_all()
                self._shared.meter.restarted(self._path, "what arrived was wrong twice")
                raise DigestMismatch(self._path, f"expected {self.content.wanted.expected}, got {found}, twice")
            if damaged := self.part.damaged(self._shared.stop):
                self._forget(damaged)
                continue
            repaired = True
            if not self._ranged:
                self._begin_anew(generation, "its digest was wrong", ranged=False)
            elif (mended := self._repair(generation)) is not None:
                self.part.sync()
                return mended

    def _begun_generation(self) -> int:
        """The generation of the blocks that are there; waits until those of an earlier one are gone."""
        with self._shared.changed:
            while self._resetting:
                self._shared.stop()
                self._shared.changed.wait(LOOK_S)
            return self._generation

    def _forget(self, damaged: list[int]) -> None:
        """The disk changed these blocks since they were written; they alone are fetched again."""
        self._losses += 1
        if self._losses > MOST_LOSSES:
            raise DiskError(f"The disk does not keep {self._path} as it was written; check the drive.")
        for block in damaged:
            self.part.forget(block)

    def _digest(self, digests: Digests) -> str:
        return self.content.wanted.digest(digests.sha256, self._pieces())

    def _pieces(self) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(self.part.block_size))
        for block in range(self.part.count):
            self._shared.stop()
            view = buffer[: self.part.span(block).size]
            self.part.read(block, view)
            yield view

    def _follow(self, generation: int) -> Digests | None:
        """The digests of all blocks, waiting for those to come; None when the file was begun anew meanwhile."""
        with DigestPair(_HASH_BUFFERS) as pair:
            for block in range(self.part.count):
                self._shared.stop()
                while not self.part.wait_for(block, LOOK_S):
                    self._shared.stop()
                    if generation != self._generation:
                        return None
                self._hash(block, pair)
            digests = pair.digests()
        return digests if generation == self._generation else None

    def _hash(self, block: int, pair: DigestPair) -> None:
        left = self.part.span(block).size
        buffers: list[tuple[bytearray, int]] = []
        while left:
            buffers.append((pair.buffer(), min(left, BLOCK)))
            left -= buffers[-1][1]
        self.part.read(block, *(memoryview(buffer)[:size] for buffer, size in buffers))
        for buffer, size in buffers:
            pair.put(buffer, size)

    def _repair(self, generation: int) -> Digests | None:
        """Fetch the file again, segment by segment, until the digest is right. None: there was nothing to mend, or the
        file was begun anew.

        The hub gives one digest per file, so which of the blocks is wrong is only seen by comparing.
        """
        meter = self._shared.meter
        meter.retries(0.0, f"The digest of {self._path} is wrong; looking for the bytes that arrived damaged.")
        step = max(1, _SMALLEST_SEGMENT // self.part.block_size)
        for first in range(0, self.part.count, step):
            mended: set[int] = set()
            while not self._compare(first, min(first + step, self.part.count), mended):
                if generation != self._generation:
                    return None
            self._shared.patience.progressed()
            if mended:
                digests = self._follow(generation)
                if digests is None or self._digest(digests) == self.content.wanted.expected:
                    return digests
        return None

    def _compare(self, first: int, stop: int, mended: set[int]) -> bool:
        """Bring these blocks again and keep those that differ, which are added to `mended`; False: not all came."""
        span = Span(self.part.span(first).start, self.part.span(stop - 1).stop)
        self._shared.hold()
        try:
            reply = self.content.open(span, self._guard)
            with self._shared.connections.reading(reply, self):
                buffer = memoryview(bytearray(self.part.block_size))
                for block in range(first, stop):
                    view = buffer[: self.part.span(block).size]
                    fill(self._shared, reply, self._path, view)
                    self._shared.meter.dropped(self._path, len(view))
                    if not self.part.matches(block, view):
                        self.part.write(block, view)
                        mended.add(block)
        except Changed as changed:
            self._begin_anew(self._generation, str(changed), ranged=changed.ranges)
            return False
        except PumasError as error:
            self._shared.stop()
            self._shared.wait_after(error)
            return False
        return True
