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
from collections.abc import Iterator, Sequence
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


class Readers:
    """The readers of one library for one run. Not thread-safe. Raises OSError when none can be started."""

    def __init__(self, root: str, count: int) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            for _ in range(count):
                self._processes.append(_start())
            for process in self._processes:
                _send(process.stdin, root)
        except BaseException:
            self.close()
            raise

    def read(self, paths: Sequence[str], inside: int) -> Iterator[Reading | OSError | None]:
        """What each of these folders holds, in order; None where the caller must look by itself."""
        groups = list(_groups(paths))
        ahead = _AHEAD * len(self._processes)
        for number, group in enumerate(groups[:ahead]):
            self._ask(number, group, inside)
        for number, group in enumerate(groups):
            answer = self._answer(number)
            following = number + ahead
            if following < len(groups):
                self._ask(following, groups[following], inside)
            if answer is None:
                yield from [None] * len(group)
            else:
                yield from map(_decoded, answer)

    def _ask(self, number: int, group: Sequence[str], inside: int) -> None:
        if self._processes:
            with contextlib.suppress(OSError, ValueError):  # a dead reader is met again at its answer
                _send(self._processes[number % len(self._processes)].stdin, (inside, list(group)))

    def _answer(self, number: int) -> list[Any] | None:
        if not self._processes:
            return None
        try:
            return _receive(self._processes[number % len(self._processes)].stdout)
        except (OSError, EOFError, ValueError, TypeError):
            self.close()
            return None

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    assert pipe is not None
                    pipe.close()
        self._processes.clear()


def _groups(paths: Sequence[str]) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for path in paths:
        # What `marshal` adds to a text, and what UTF-8 takes at most for a character.
        cost = 5 + 4 * len(path)
        size += cost
        if group and (size > _QUESTION_BYTES or len(group) >= _GROUP):
            yield group
            group, size = [], cost
        group.append(path)
    if group:
        yield group


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
