"""What lives elsewhere and only makes sense while a model is in the library, such as links into it.

The trash tells of models that go and come back; who listens is not known here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol


class Companions(Protocol):
    """All calls block. Those that name an entry of the trash come while the library is locked."""

    def count(self, model_ids: Sequence[str]) -> int:
        """How many would go with these models."""
        ...

    def used_by(self) -> Mapping[str, Sequence[str]]:
        """The ids of the models that each app uses, by the app's id."""
        ...

    def leaving(self, trash_id: str, model_ids: Sequence[str]) -> AbstractContextManager[int]:
        """Entered before the models are moved into the trash, left when they are; by an exception when they stay.

        Yields how many companions went. Raises the disk's failures: the models are then not moved.
        """
        ...

    def returned(self, trash_id: str) -> int:
        """The models of this entry are back in their place. Answers how many companions are, too."""
        ...

    def forgotten(self, trash_id: str) -> None:
        """The entry was removed for good."""
        ...


class NoCompanions:
    def count(self, model_ids: Sequence[str]) -> int:  # noqa: ARG002
        return 0

    def used_by(self) -> Mapping[str, Sequence[str]]:
        return {}

    @contextlib.contextmanager
    def leaving(self, trash_id: str, model_ids: Sequence[str]) -> Generator[int]:  # noqa: ARG002
        yield 0

    def returned(self, trash_id: str) -> int:  # noqa: ARG002
        return 0

    def forgotten(self, trash_id: str) -> None: ...
