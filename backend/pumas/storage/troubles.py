"""What is wrong with the files we keep, as a list that a user can read.

Reported by whoever meets the trouble (a damaged file, a quarantined database, a folder that cannot be written),
cleared when it is gone, and shown by `get_library_status`. Bounded: after `MAX_TROUBLES` only the count goes on.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

MAX_TROUBLES = 1000


@dataclass(frozen=True)
class Trouble:
    """`subject` is a root-relative path or a domain name; `kind` is machine-readable; `message` says what to do."""

    subject: str
    kind: str
    message: str


class Troubles:
    """Thread-safe. One trouble per subject: the newest report replaces an older one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_subject: dict[str, Trouble] = {}
        self._dropped = 0

    def report(self, subject: str, kind: str, message: str) -> None:
        with self._lock:
            if subject not in self._by_subject and len(self._by_subject) >= MAX_TROUBLES:
                self._dropped += 1
                return
            self._by_subject[subject] = Trouble(subject, kind, message)

    def clear(self, subject: str) -> None:
        with self._lock:
            self._by_subject.pop(subject, None)

    def clear_kind(self, kind: str) -> None:
        with self._lock:
            for subject in [s for s, t in self._by_subject.items() if t.kind == kind]:
                del self._by_subject[subject]

    def list(self) -> list[Trouble]:
        with self._lock:
            return list(self._by_subject.values())

    @property
    def count(self) -> int:
        with self._lock:
            return len(self._by_subject) + self._dropped
