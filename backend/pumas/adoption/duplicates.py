"""Which bytes exist more than once, over all stores and our own library, and what sharing them would free.

Three degrees of certainty, never mixed: `shared` is one file under several names already; `duplicate` is another file
for which the same SHA-256 was claimed or verified; `possible` has only size and name in common. Values in, values out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import TypeVar

from pumas.library.entry import is_model_file

K = TypeVar("K")
V = TypeVar("V")

MAX_SHOWN = 2000
LIBRARY = "library"


class Certainty(StrEnum):
    SHARED = "shared"
    DUPLICATE = "duplicate"
    POSSIBLE = "possible"


@dataclass(frozen=True, slots=True)
class Piece:
    """One file in one place. `store` is the store's path, or `LIBRARY`; `model` is what the model is called there.

    `name` is its name in the model. `bytes_id` is equal for two names of one file: device and inode, for a clone those
    of what it was cloned from.
    """

    store: str
    model: str
    name: str
    path: str
    size: int
    bytes_id: tuple[int, int]
    sha256: str = ""
    verified: bool = False


@dataclass(frozen=True, slots=True)
class Repeated:
    """Bytes in several places. `freed`: bytes that one shared copy would free; for `possible` ones, if they are equal.
    `verified`: none of its digests is only claimed."""

    certainty: Certainty
    size: int
    freed: int
    sha256: str
    verified: bool
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """`repeated` shows the largest gains first, at most MAX_SHOWN; the sums are over all of them, in bytes."""

    repeated: tuple[Repeated, ...]
    omitted: int
    shared_bytes: int
    freed_bytes: int
    possible_bytes: int


def find(pieces: Iterable[Piece]) -> Duplicates:
    """Group pieces; a path that occurs twice counts once."""
    distinct = list({(piece.path, piece.store == LIBRARY): piece for piece in pieces if piece.size}.values())
    found = sorted(_all(distinct), key=lambda one: (-one.freed, -one.size, one.pieces[0].path))
    sums = {certainty: [one for one in found if one.certainty is certainty] for certainty in Certainty}
    return Duplicates(
        tuple(found[:MAX_SHOWN]),
        max(0, len(found) - MAX_SHOWN),
        sum(one.size * (len({p.path for p in one.pieces}) - 1) for one in sums[Certainty.SHARED]),
        sum(one.freed for one in sums[Certainty.DUPLICATE]),
        sum(one.freed for one in sums[Certainty.POSSIBLE]),
    )


def _all(pieces: list[Piece]) -> Iterator[Repeated]:
    by_bytes = _grouped((piece.bytes_id, piece) for piece in pieces)
    digests = {key: next((p.sha256 for p in group if p.sha256), "") for key, group in by_bytes.items()}
    for key, group in by_bytes.items():
        if len({piece.path for piece in group}) > 1:
            yield _repeated(Certainty.SHARED, group, digests[key], 0)
    known = _grouped(((group[0].size, digests[key]), group) for key, group in by_bytes.items() if digests[key])
    for (_size, digest), groups in known.items():
        if len(groups) > 1:
            yield _repeated(Certainty.DUPLICATE, [p for group in groups for p in group], digest, len(groups) - 1)
    named = _grouped(
        ((group[0].size, name), key)
        for key, group in by_bytes.items()
        for name in {PurePath(piece.name).name.lower() for piece in group}
        if is_model_file(name)
    )
    told: set[frozenset[tuple[int, int]]] = set()
    for keys in named.values():
        one = frozenset(keys)
        # Two digests that differ are no duplicates, two that agree were told above.
        unsure = sum(not digests[key] for key in one)
        if len(one) > 1 and unsure and one not in told:
            told.add(one)
            pieces_here = [piece for key in keys for piece in by_bytes[key]]
            copies = unsure if unsure < len(one) else unsure - 1
            yield _repeated(Certainty.POSSIBLE, pieces_here, "", copies)


def _repeated(certainty: Certainty, pieces: list[Piece], digest: str, copies: int) -> Repeated:
    """`copies`: how many of them sharing would make unnecessary."""
    return Repeated(
        certainty,
        pieces[0].size,
        pieces[0].size * copies,
        digest,
        bool(digest) and all(piece.verified for piece in pieces if piece.sha256),
        tuple(sorted(pieces, key=lambda piece: (piece.store != LIBRARY, piece.path))),
    )


def _grouped(items: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    found: dict[K, list[V]] = defaultdict(list)
    for key, value in items:
        found[key].append(value)
    return found
