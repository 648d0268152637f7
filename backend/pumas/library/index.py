"""What import, trash, metadata and verify need of the rest of the library: an index to keep true.

The files are the truth and the index follows them, so it is told after the disk was made durable, and it is the index
that tells listeners (`model.added`, `model.changed`, `model.removed`). How models are stored in it is not known here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from pumas.errors import PumasError

log = logging.getLogger(__name__)


class Index(Protocol):
    """All calls block and come from worker threads. A model id is its folder relative to the library, with `/`."""

    def refresh(self, model_ids: Sequence[str]) -> None:
        """Read these models' files again; ids whose folder is gone are dropped."""
        ...

    def remove(self, model_ids: Sequence[str]) -> None: ...

    def find_by_sha256(self, digest: str) -> list[str]:
        """Models whose primary file has this digest (64 lower-case hex digits)."""
        ...

    def find_by_size(self, primary_size: int) -> list[str]:
        """Models whose primary file may have this size in bytes; a model of unknown size belongs to the answer."""
        ...

    def duplicated(self) -> list[str]:
        """Models whose primary file has the digest of another one's."""
        ...

    def contains(self, model_id: str) -> bool: ...

    def model_ids(self) -> list[str]: ...


def follow(change: Callable[[Sequence[str]], None], model_ids: Sequence[str]) -> None:
    """Tell the index about what is already on disk.

    The change itself has succeeded, so an index that cannot be written now (a full disk) is no failure of it: the next
    reconcile finds the difference.
    """
    try:
        change(model_ids)
    except PumasError as error:
        log.warning("the index does not know yet what happened to %s: %s", ", ".join(model_ids), error)
