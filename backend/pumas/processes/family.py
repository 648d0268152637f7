"""Which processes belong to an app. The only place that decides it; what is not named here is never signalled.

A process belongs when it descends from the app's keeper (`keeper.py`, an ancestor of everything the app leaves behind)
and either is still in the app's session or group, or left that but runs the app's own program. A browser that
the app opened and that made itself a session of its own is the user's. Without a keeper (it was killed) the session
counts as long as its first process lives, and after that only those that carry the run's mark. Names, titles, command
lines and pid files say nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pumas.processes import kernel
from pumas.processes.kernel import Seen

MARK = "PUMAS_RUN"
"""The environment variable that holds the run's id, in the keeper and in all that it starts."""


class Marks(NamedTuple):
    """By what an app is known: number and start of its first process, the programs it was started as, its folder."""

    leader: int
    leader_start: int
    programs: tuple[str, ...]
    folder: str


def members(marks: Marks, keeper: int, everyone: Mapping[int, Seen]) -> list[Seen]:
    """The app's processes below its living keeper, parents before children."""
    found = kernel.descendants(keeper, everyone)
    return [seen for seen in found if not seen.ended and (_together(marks, seen) or _same_program(marks, seen))]


def orphans(marks: Marks, run_id: str, everyone: Mapping[int, Seen]) -> list[Seen]:
    """The app's processes when its keeper is gone."""
    leader = everyone.get(marks.leader)
    if leader is not None and leader.start != marks.leader_start:
        return []  # the number is another's now, and so is the session of that name
    if leader is None or leader.ended:
        return list(_marked(marks, run_id, everyone))
    return [seen for seen in everyone.values() if not seen.ended and _together(marks, seen)]


def _together(marks: Marks, seen: Seen) -> bool:
    return marks.leader in (seen.session, seen.group, seen.pid) and seen.start >= marks.leader_start


def _same_program(marks: Marks, seen: Seen) -> bool:
    program = kernel.program(seen.pid)
    if program is None or not program.startswith(os.sep):
        return False
    return program in marks.programs or (marks.folder not in ("", os.sep) and _below(program, marks.folder))


def _below(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder


def _marked(marks: Marks, run_id: str, everyone: Mapping[int, Seen]) -> Iterator[Seen]:
    for seen in everyone.values():
        if seen.ended or seen.start < marks.leader_start or not kernel.has_variable(seen.pid, MARK, run_id):
            continue
        if seen.pid != os.getpid() and (_together(marks, seen) or _same_program(marks, seen)):
            yield seen
