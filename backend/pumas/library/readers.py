"""Processes that read many folders ahead of the one that fills the index.

Parsing a hundred thousand metadata files costs the interpreter seconds in which its other threads, and so all callers,
would wait for each other. A reader is asked for a group of folders, answers with their readings (`reading.py`) and ends
when its standard input does, so it outlives nobody. Without readers, or when one dies, folders are read in the process
that wanted them: nothing depends on them but time.
"""

from __future__ import annotations

import contextlib
import gc
import marshal
import os
import signal
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from pumas import utf8
from pumas.library.entry import IndexEntry
from pumas.library.reading import Reading, read_folder

_GROUP = 64
# A reader has more questions waiting, so that it never waits for us. All fit into a pipe whatever the paths are:
# writing them never blocks, so neither side can wait for the other to empty one.
_AHEAD: Final = 4
_QUESTION_BYTES: Final = 12 * 1024
_PIPE_BYTES: Final = 1 << 20
_OBJECTS_BETWEEN_COLLECTIONS: Final = 50_000
_LENGTH: Final = struct.Struct("<Q")
_ENTRY: Final = Reading._fields.index("entry")
# What a reader needs of the environment: where programs and libraries lie, the language, the time zone. No secrets.
_NEEDED: Final = frozenset(("PATH", "HOME", "LANG", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LD_LIBRARY_PATH"))
_NEEDED_PREFIXES: Final = ("LC_", "PYTHON", "COVERAGE_")


def reader_count() -> int:
    """One for every two processors: the index is written meanwhile. None where there is but one."""
    affinity = getattr(os, "sched_getaffinity", None)
    return min((len(affinity(0)) if affinity else os.cpu_count() or 1) // 2, 2)


@dataclass(slots=True, eq=False)
class _Group:
    """Folders that one question names; `answers` are in the same order, once they are there."""

    inside: int
    paths: list[str] = field(default_factory=list[str])
    cost: int = 0
    answers: list[Any] | None = None


class _Reader:
    """One process and the questions that it has not answered, in order."""

    def __init__(self) -> None:
        self.process = _start()
        self.asked: deque[_Group] = deque()

    def ask(self, group: _Group) -> None:
        with contextlib.suppress(OSError, ValueError):  # a dead one is met again at its answer
            _send(self.process.stdin, (group.inside, group.paths))
        self.asked.append(group)

    def receive(self) -> None:
        """Wait for the answer to its oldest question. Raises as `_receive`."""
        self.asked.popleft().answers = _receive(self.process.stdout)


class Readers:
    """The readers of one library for one run. Not thread-safe. Raises OSError when none can be started.

    What is asked for is read in about that order, so that it should be wanted in about that order too: what comes
    early is kept.
    """

    def __init__(self, root: str, count: int) -> None:
        self._readers: list[_Reader] = []
        self._places: dict[str, tuple[_Group, int]] = {}
        self._unasked: deque[_Group] = deque()
        try:
            for _ in range(count):
                self._readers.append(_Reader())
            for reader in self._readers:
                _send(reader.process.stdin, root)
        except BaseException:
            self.close()
            raise

    def ask(self, paths: Iterable[str], inside: int) -> None:
        """Have these folders read, each once. `take` gets each."""
        if not self._readers:
            return
        for path in paths:
            # What `marshal` adds to a text, and what UTF-8 takes at most for a character.
            cost = 5 + 4 * len(path)
            group = self._unasked[-1] if self._unasked else None
            if group is None or not _has_room(group, cost, inside):
                self._unasked.append(group := _Group(inside))
            self._places[path] = group, len(group.paths)
            group.paths.append(path)
            group.cost += cost
        self._keep_busy()

    def take(self, path: str) -> Reading | OSError | None:
        """What this folder holds; None where the caller must look by itself."""
        place = self._places.pop(path, None)
        if place is None:
            return None
        group, position = place
        while group.answers is None and self._readers:
            self._wait_for(group)
        if group.answers is None:
            return None
        answer, group.answers[position] = group.answers[position], None
        return _decoded(answer)

    def _wait_for(self, group: _Group) -> None:
        self._keep_busy(all_of_it=True)
        reader = next((one for one in self._readers if group in one.asked), None)
        reader = reader or max(self._readers, key=lambda one: len(one.asked))
        try:
            reader.receive()
        except (OSError, EOFError, ValueError, TypeError):
            self.close()
        else:
            self._keep_busy()

    def _keep_busy(self, *, all_of_it: bool = False) -> None:
        """Ask as much as may be asked at once; a group that more may come to only with `all_of_it`."""
        while self._unasked and (all_of_it or len(self._unasked) > 1 or len(self._unasked[0].paths) >= _GROUP):
            reader = min(self._readers, key=lambda one: len(one.asked))
            if len(reader.asked) >= _AHEAD:
                return
            reader.ask(self._unasked.popleft())

    def close(self) -> None:
        for reader in self._readers:
            reader.process.kill()
            reader.process.wait()
            for pipe in (reader.process.stdin, reader.process.stdout):
                with contextlib.suppress(OSError):
                    assert pipe is not None
                    pipe.close()
        self._readers.clear()
        self._unasked.clear()
        self._places.clear()


def _has_room(group: _Group, cost: int, inside: int) -> bool:
    return group.inside == inside and len(group.paths) < _GROUP and group.cost + cost <= _QUESTION_BYTES


def _start() -> subprocess.Popen[bytes]:
    package = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, *utf8.OPTION, "-c", "from pumas.library.readers import serve; serve()"],
        cwd=package,
        env={name: value for name, value in os.environ.items() if name in _NEEDED or name.startswith(_NEEDED_PREFIXES)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    if sys.platform == "linux" and process.stdout is not None:
        import fcntl

        with contextlib.suppress(OSError):  # it only waits more without
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return process


def serve() -> None:
    """A reader's life: the library's root, then groups of folders, until there is nobody to ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the one who asks
    # Each folder makes hundreds of objects that none refers back to: looking for circles costs a tenth of the work.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    with contextlib.suppress(OSError, EOFError):
        root: str = _receive(questions)
        while True:
            inside, paths = _receive(questions)
            _send(answers, [_encoded(root, path, inside) for path in paths])


def _encoded(root: str, path: str, inside: int) -> tuple[Any, ...] | int:
    """A reading as plain tuples, or the number of the error that the system gave."""
    try:
        reading = read_folder(root, path, inside)
    except OSError as error:
        return error.errno or 5
    return (*reading[:_ENTRY], reading.entry and tuple(reading.entry), *reading[_ENTRY + 1 :])


def _decoded(answer: Any) -> Reading | OSError:
    if isinstance(answer, int):
        return OSError(answer, os.strerror(answer))
    entry = answer[_ENTRY]
    return Reading._make((*answer[:_ENTRY], entry and IndexEntry._make(entry), *answer[_ENTRY + 1 :]))


def _send(pipe: IO[bytes] | None, value: Any) -> None:
    assert pipe is not None
    data = marshal.dumps(value)
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def _receive(pipe: IO[bytes] | None) -> Any:
    """Raises EOFError when the other side is gone."""
    assert pipe is not None
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    return marshal.loads(pipe.read(_LENGTH.unpack(head)[0]))  # noqa: S302 - from our own process, through our own pipe
