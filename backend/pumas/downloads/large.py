"""One file that arrives in blocks: connections take segments of it, a hashing thread follows, and the digest decides.

Blocks lie in a `PartFile`; those that come in order are hashed without being read back (`relay.py`). Should the digest
be wrong, the blocks that the disk changed are fetched again. Where every block is as it was written, some bytes were
wrong when they came: they are fetched again and compared until the digest is right, once. How many connections work on
a file and when is decided in `fetching.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

from pumas.downloads.content import Changed, Content, Reply, invalid
from pumas.downloads.filling import fill
from pumas.downloads.part import MIB, PartFile, Span
from pumas.downloads.relay import Given, Relay
from pumas.downloads.shared import LOOK_S, Shared
from pumas.errors import DigestMismatch, DiskError, PumasError
from pumas.library.hashing import DigestPair, Digests

# Connections per file by what one brings, in bytes per second: many over slow ones, few where one fills the line, one
# where it brings blocks in order as fast as they are hashed.
MOST_CONNECTIONS = 6
_CONNECTIONS = ((40e6, MOST_CONNECTIONS), (150e6, 4), (600e6, 2), (float("inf"), 1))
_FIRST_CONNECTIONS = 4
# For so long, or until it has brought its segment, the first connection shows by itself how fast the line is.
_ALONE_S = 0.1
MOST_RESTARTS = 5
_GUARDED_RESTARTS = 2
_ANY = "*"  # no server's name of anything: those are quoted
MOST_LOSSES = 3
_SMALLEST_SEGMENT = 8 * MIB
_LAST_SEGMENT = 2 * MIB
_LARGEST_SEGMENT = 256 * MIB
_SEGMENT_S = 3.0
# After so many blocks of a segment, the kernel is asked to write them to the disk.
_WRITE_BLOCKS = 8
# Bytes that are on their way through the digests, and how many blocks of them connections have.
_HASHED_AT_ONCE = 6 * MIB
_LENT = 2


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
        self._first_at: float | None = None
        self._is_known = False  # how fast the line is
        self._relay = Relay()
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
            if self._busy >= (self._connections if self._ranged else 1) or (self._busy and self._is_first_alone()):
                return None
            if not self._ranged and self._shared.patience.waits:
                return None  # or each worker would fetch all of it once more while another one waits
            blocks = self._free_blocks() if self._ranged else (0, 0 if self.part.complete else self.part.count)
            if blocks is None or blocks[0] == blocks[1]:
                return None
            self._busy += 1
            self._first_at = self._first_at or time.monotonic()
            self._taken[blocks[0] : blocks[1]] = b"\1" * (blocks[1] - blocks[0])
            return Segment(blocks[0], blocks[1], self._generation, self._ranged)

    def is_handed_out(self) -> bool:
        """Whether another file may be begun: no more connections can help here, and not because one fills the line."""
        with self._lock:
            if self._resetting:
                return False
            if not self._ranged:
                return self._busy > 0 or self.part.complete
            if self._connections == 1:
                return self.part.complete
            return self._busy >= self._connections or self._free_blocks() is None

    def _free_blocks(self) -> tuple[int, int] | None:
        for first, stop in self.part.missing():
            at = self._taken.find(0, first, stop)
            if at >= 0:
                end = self._taken.find(1, at, stop)
                end = min(stop if end < 0 else end, at + max(1, self._size_now() // self.part.block_size))
                # What was begun is gone on with where a segment begins.
                return at, min((block for block in self._begun if at < block < end), default=end)
        return None

    def _is_first_alone(self) -> bool:
        return not self._is_known and self._first_at is not None and time.monotonic() < self._first_at + _ALONE_S

    def _size_now(self) -> int:
        """Towards the end segments get smaller, so that all connections end at about the same time."""
        if self._connections == 1:
            return self._segment
        share = (self.part.size - self.part.arrived()) // (2 * self._connections)
        return min(self._segment, max(_LAST_SEGMENT, share))

    def fetch(self, segment: Segment) -> None:
        """Bring a segment, or as much of it as comes. Raises as `Content.open`, and the disk's failures."""
        try:
            self._bring(segment)
        except Changed as changed:
            self._begin_anew(segment.generation, str(changed), ranged=changed.ranges)
        finally:
            # What is not written yet is not to be fetched by another.
            self._relay.settle(self._goes_on)
            with self._lock:
                self._busy -= 1
                self._taken[segment.first : segment.stop] = bytes(segment.stop - segment.first)

    def _goes_on(self) -> bool:
        return self._shared.failure is None

    def _bring(self, segment: Segment) -> None:
        span = Span(self.part.span(segment.first).start, self.part.span(segment.stop - 1).stop)
        begun = self._begun.get(segment.first, b"") if segment.ranged else b""
        wanted = Span(span.start + len(begun), span.stop) if segment.ranged else None
        reply = self.content.open(wanted, self._guard)
        brought, reading_s = 0, 0.0
        with self._shared.connections.reading(reply, self):
            self._name_content(reply)
            buffer = self.part.buffer()
            for block in range(segment.first, segment.stop):
                began = time.monotonic()
                self._fill(segment, block, buffer, reply, begun if block == segment.first else b"")
                if segment.generation != self._generation:
                    return
                reading_s += time.monotonic() - began
                buffer = self._pass_on(segment.generation, block, buffer)
                if (block + 1 - segment.first) % _WRITE_BLOCKS == 0:
                    self.part.start_writing(block + 1 - _WRITE_BLOCKS, block + 1)
                if not self._shared.gate.is_open():
                    return
                brought = self.part.span(block).stop - span.start - len(begun)
                if segment.ranged and self._connections == 1 and reading_s > 2 * _SEGMENT_S:
                    break  # it has become slow, and others may help
            if not segment.ranged and reply.read_into(memoryview(bytearray(1))):
                raise invalid(reply, f"more than the {self.part.size:,} bytes of {self._path}")
        self._adapt(brought, reading_s)

    def _fill(self, segment: Segment, block: int, buffer: mmap, reply: Reply, begun: bytes) -> None:
        """Bring a block whose first bytes, `begun`, an earlier connection brought."""
        view, have = self._view(block, buffer), len(begun)
        view[:have] = begun

        def rescue(new: memoryview) -> bool:
            return self._rescue(segment, block, view[: have + len(new)])

        fill(self._shared, reply, self._path, view[have:], rescue)
        if segment.generation != self._generation:
            # What was begun is not counted any more since then.
            self._shared.meter.dropped(self._path, len(view) - have)

    def _view(self, block: int, buffer: mmap) -> memoryview:
        return memoryview(buffer)[: self.part.span(block).size]

    def _pass_on(self, generation: int, block: int, buffer: mmap) -> mmap:
        """Keep a block; the buffer for the next."""
        given = Given(generation, block, buffer, self.part.crc(self._view(block, buffer)))
        empty = self._relay.give(given, self._goes_on)
        if empty is None:
            self._keep(given)
            self._relay.tell()
        with self._lock:
            self._begun.pop(block, None)
        return empty or buffer

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

    def _keep(self, given: Given, *, direct: bool = False) -> None:
        view = self._view(given.block, given.buffer)
        self.part.write(given.block, view, given.crc, direct=direct)
        self._shared.meter.dropped(self._path, len(view))
        self._shared.meter.arrived(self._path, self.part.arrived())

    def _adapt(self, brought: int, seconds: float) -> None:
        """Ask for as much at a time as takes some seconds: few requests on a fast line, little lost on a slow one."""
        if brought and seconds > 0:
            rate = brought / seconds
            self._segment = int(min(_LARGEST_SEGMENT, max(_SMALLEST_SEGMENT, rate * _SEGMENT_S)))
            self._connections = next(count for limit, count in _CONNECTIONS if rate < limit)
            self._is_known = True

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
        buffers = max(_LENT + 1, _HASHED_AT_ONCE // self.part.block_size)
        with DigestPair(buffers, self.part.block_size) as pair:
            self._relay.open(generation, [pair.buffer() for _ in range(_LENT)])
            try:
                for block in range(self.part.count):
                    if not self._hash(block, generation, pair):
                        return None
            finally:
                self._keep_given(generation)
            digests = pair.digests()
        return digests if generation == self._generation else None

    def _hash(self, block: int, generation: int, pair: DigestPair) -> bool:
        """Once it is there; False when the file was begun anew meanwhile."""
        while generation == self._generation:
            self._shared.stop()
            given = self._relay.take(block, self.part.is_whole)
            if given is not None:
                pair.put(given.buffer, self.part.span(block).size)
                self._keep(given, direct=True)
                self._relay.done(pair.buffer())
                return True
            if self.part.is_whole(block):
                buffer = pair.buffer()
                view = self._view(block, buffer)
                self.part.read(block, view)
                pair.put(buffer, len(view))
                return True
        return False

    def _keep_given(self, generation: int) -> None:
        for given in self._relay.close():
            if generation != self._generation or not self._is_kept(given):
                self._shared.meter.dropped(self._path, self.part.span(given.block).size)

    def _is_kept(self, given: Given) -> bool:
        try:
            self._keep(given)
        except PumasError:
            return False  # an earlier failure is told
        return True

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
