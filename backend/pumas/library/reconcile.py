"""Makes the index agree with the files: what changed since the last look is read again, the rest only looked at.

A folder is read again when its own stamp (mtime, inode) changed, or that of its witness: `metadata.json`, or the
primary file of a folder without one. A stamp so young that a further change could hide behind it proves nothing. A
folder's row is settled only after those of everything below it, in batches of one transaction each, so that readers see
the old or the new state, and a run that was killed is finished by the next one, without a mark or a journal.

What could not be read is never taken for gone: rows stay, the trouble is listed, the parent is looked at again. When
the library itself is missing, unreadable or another volume than before, nothing is removed (`LibraryOffline`). Links
to folders are not followed (those that hide models are told), names that begin with a dot are not looked into, nothing
is written outside the index.
Everything here is for worker threads; when to run is decided in `catalog.py`.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import logging
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from pumas.errors import CorruptState, PumasError, UnsafePath
from pumas.library import store
from pumas.library.readers import Readers
from pumas.library.reading import (
    METADATA,
    OVERRIDES,
    Identify,
    Reading,
    identify_file,
    load_metadata,
    read_folder,
)
from pumas.library.references import REFERENCES, references, state_of
from pumas.library.store import Batch, Changes, FolderStamp
from pumas.storage.database import Database
from pumas.storage.paths import MAX_RELATIVE_BYTES, display_name, relative_path
from pumas.storage.troubles import Trouble, Troubles

log = logging.getLogger(__name__)

# More at once are hardly faster, and leave the process larger for good.
_BATCH = 250
_CHUNK = 1000
# So many folders must have been read, and so many be waiting, before processes are started to help.
_READERS_AFTER = 2000
_READERS_FOR = 100
# So many folders are planned ahead, of so many of the parents that come next.
_PLANNED = 1000
_PLANNED_FRAMES = 100
# Young stamps are not trusted: a change within one tick of the file system's clock leaves no trace in it.
_FINE_CLOCK_NS = 100_000_000
_COARSE_CLOCK_NS = 2_500_000_000

_IS_MODEL, _HAS_CHILDREN = (FolderStamp._fields.index(name) for name in ("is_model", "has_children"))
_GONE: Final = (FileNotFoundError, NotADirectoryError)

DAMAGED = "damaged_metadata"
DAMAGED_OVERRIDES = "damaged_overrides"
UNREADABLE = "unreadable"
ODD_NAME = "unusable_name"
LOOSE = "loose_files"
LINKED = "linked_folder"
BROKEN = "broken_link"
_LINKED = (
    "is a link to a folder outside of the library, which is not followed; take its models in where they are "
    "(adopt_models with that folder) or move it here, and remove the link"
)
_BROKEN = "is a link to nothing that can be read; connect the drive that it leads to, or remove it"


class LibraryOffline(PumasError):
    """The library's folder is missing, cannot be read, or is an empty one where its volume should be mounted."""

    kind = "offline"


class _Chunk(NamedTuple):
    """Names of a folder's children, and the rows that the index has in that part of the alphabet, by name."""

    names: list[str]
    known: dict[str, tuple[Any, ...]]


@dataclass(slots=True)
class _Frame:
    """A folder being read that has folders below it. `names` None: it is unchanged, the index knows its children.

    `chunks` are those that are planned and not looked at; `is_planned`: there will be no others.
    """

    path: str
    stamp: FolderStamp | None
    inside: int
    names: list[str] | None
    position: int = 0
    after: str = ""
    is_planned: bool = False
    chunks: deque[_Chunk] = field(default_factory=deque[_Chunk])


@dataclass
class Summary:
    """What one run did. `seen` counts folders looked at, `read` those listed again."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    seen: int = 0
    read: int = 0
    seconds: float = 0.0


class Reconciler:
    """One library root and its index. Runs do not overlap: `catalog.py` sees to that.

    Args:
        subject: what stands before a model's id when a trouble names it, such as `shared-resources/models`.
        readers: how many processes may help to read; they know `identify_file` alone.
        on_changes: told after each batch that changed something, from the writing thread.
    """

    def __init__(
        self,
        root: Path,
        database: Database,
        troubles: Troubles,
        *,
        subject: str = "models",
        identify: Identify = identify_file,
        readers: int = 0,
        on_changes: Callable[[Changes], None] = lambda _changes: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._root = os.fspath(root)
        self._db = database
        self._troubles = troubles
        self._subject = subject
        self._identify = identify
        self._readers = readers if identify is identify_file else 0
        self._on_changes = on_changes
        self._stop = stop

    def run(self) -> Summary:
        """Look at the whole library.

        Raises:
            LibraryOffline: see there; the index is as it was.
            PumasError: the index could not be written; what was written so far stays and is right.
        """
        started = time.perf_counter()
        identity = self._check_root(first=True)
        summary = self._walk([("", None)], identity)
        summary.changed += self._follow_references()
        if not self._stop():
            moment = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            self._db.write_sync(lambda c: store.finish_scan(c, *identity, moment))
        summary.seconds = time.perf_counter() - started
        return summary

    def tidy(self) -> bool:
        """What can wait until a run has told its results: a search index in few pieces is faster, not more right.

        Returns whether there was anything to do.
        """
        done = False
        with contextlib.suppress(PumasError):
            while not self._stop() and self._db.write_sync(store.merge_search_segments):
                done = True
        return done

    def refresh(self, model_ids: Iterable[str]) -> Summary:
        """Read these folders again, whatever their stamps say; those that are gone are removed."""
        ids = [i for i in dict.fromkeys(model_ids) if i and not i.startswith((".", "/")) and "/." not in i]
        return self._walk([(i, i) for i in ids], self._check_root(first=False))

    def remove(self, model_ids: Iterable[str]) -> Summary:
        """Forget these models and all below them, without a look at the disk."""
        run = _Run(self)
        run.batch.removed_trees += [i for i in model_ids if i]
        return run.finish()

    def _follow_references(self) -> int:
        """Files outside the library come and go without a trace in its folders: look at each. Returns the changes."""
        states: list[tuple[str, str]] = []
        for model_id, known, listed in self._db.read_sync(store.referencing):
            if self._stop():
                return 0
            with contextlib.suppress(CorruptState, OSError):
                outside: object = orjson.loads(listed) if listed else None
                if outside is None:
                    outside = load_metadata(f"{self._root}/{model_id}")[0].get(REFERENCES)
                state = state_of(references(outside))
                if state != known:
                    states.append((state.value, model_id))
        if not states:
            return 0
        changes = self._db.write_sync(lambda c: store.set_states(c, states))
        self.committed(Batch(), changes)
        return changes.count

    def _check_root(self, *, first: bool) -> tuple[int, int]:
        try:
            status = os.stat(self._root)
            with os.scandir(self._root) as entries:
                empty = first and not any(e.is_dir(follow_symlinks=False) and e.name[0] != "." for e in entries)
        except OSError as error:
            raise LibraryOffline(f"The model library cannot be read: {os.strerror(error.errno or 0)}.") from None
        identity = (status.st_dev, status.st_ino)
        if empty:
            known, count = self._db.read_sync(lambda c: (store.state(c), store.model_count(c)))
            if count and (known.root_device, known.root_inode) != identity:
                raise LibraryOffline("The model library's folder is empty and is not the one that was indexed.")
        return identity

    def load_troubles(self) -> None:
        """List again what earlier runs found: unchanged folders are not read after a restart."""
        for trouble in self._db.read_sync(store.troubles):
            self._troubles.report(trouble.subject, trouble.kind, trouble.message)

    # -- the walk ----------------------------------------------------------------------------------------------------

    def _walk(self, starts: Sequence[tuple[str, str | None]], identity: tuple[int, int]) -> Summary:
        run = _Run(self, identity)
        try:
            for path, forced in starts:
                known = self._db.read_sync(lambda c, p=path: store.folder(c, *store.split(p)))
                above = self._db.read_sync(lambda c, p=path: store.model_folders(c, _ancestors(p)))
                run.lead_to(path)
                run.look(path, known, int(bool(above)), forced=forced is not None)
                run.drain()
            run.look_again_at_owners()
        finally:
            summary = run.finish()
        return summary

    # -- used by a run -----------------------------------------------------------------------------------------------

    @property
    def root(self) -> str:
        return self._root

    @property
    def database(self) -> Database:
        return self._db

    def stopped(self) -> bool:
        return self._stop()

    def named(self, path: str) -> str:
        return f"{self._subject}/{display_name(path)}" if path else self._subject

    def same_root(self, identity: tuple[int, int]) -> bool:
        try:
            return self._check_root(first=False) == identity
        except LibraryOffline:
            return False

    def committed(self, batch: Batch, changes: Changes) -> None:
        for subject in changes.cleared:
            self._troubles.clear(subject)
        for troubles in batch.troubles.values():
            for trouble in troubles:
                self._troubles.report(trouble.subject, trouble.kind, trouble.message)
        if changes:
            self._on_changes(changes)

    def read(self, path: str, inside: int) -> Reading:
        return read_folder(self._root, path, inside, self._identify)

    def start_readers(self) -> Readers | None:
        """None when there are to be none, or none can be started: the work goes on without."""
        if not self._readers:
            return None
        try:
            return Readers(self._root, self._readers)
        except OSError as error:
            self._readers = 0
            log.warning("no process can be started to help with reading the library: %s", error)
            return None


class _Run:
    """One walk: a stack of folders being read, and the batch that is being filled."""

    def __init__(self, reconciler: Reconciler, identity: tuple[int, int] | None = None) -> None:
        self._r = reconciler
        self._root = reconciler.root
        self._identity = identity
        self._stack: list[_Frame] = []
        self._owners: dict[str, None] = {}
        self._writer = _BatchWriter(reconciler)
        self._readers: Readers | None = None
        # Names in frames of the stack: of those that are in no chunk yet, and of those that are.
        self._unplanned = self._planned = 0
        self._now_ns = time.time_ns()
        self.batch = Batch()
        self.summary = Summary()

    def lead_to(self, path: str) -> None:
        """Every folder that has a row is reached from the library's own row: make those above `path`."""
        for above in [*_ancestors(path), ""] if path else []:
            known = self._r.database.read_sync(lambda c, p=above: store.folder(c, *store.split(p)))
            if known is None:
                self.batch.folders.append(FolderStamp(*store.split(above), 0, 0, 0, 0, 0, 1, "", 0, 0, 0))
            elif not known.has_children:
                self.batch.folders.append(known._replace(settled=0, has_children=1))

    def drain(self) -> None:
        while self._stack and not self._r.stopped():
            self._plan_ahead()
            frame = self._stack[-1]
            if not self._next_chunk(frame):
                self._stack.pop()
                if frame.stamp is not None:
                    self._add_folder(frame.stamp)

    def _next_chunk(self, frame: _Frame) -> bool:
        """Look at the next children of a folder; False when there are no more."""
        if frame.names is None:
            rows = self._r.database.read_sync(lambda c: store.children(c, frame.path, frame.after, limit=_CHUNK))
            if not rows:
                return False
            frame.after = rows[-1][1]
            for row in rows:
                self._look_at_known(_below(frame.path, row[1]), row, frame.inside)
            return True
        if not frame.chunks:
            if frame.is_planned:
                return False
            self._plan_chunk(frame, frame.names)
        names, known = frame.chunks.popleft()
        self._planned -= len(names)
        for name in names:
            row = known.pop(name, None)
            if row:
                self._look_at_known(_below(frame.path, name), row, frame.inside)
            else:
                path = _below(frame.path, name)
                self.look(path, None, frame.inside, ahead=self._readers.take(path) if self._readers else None)
        for name in known:
            self.batch.removed_trees.append(_below(frame.path, name))
        return True

    def _plan_ahead(self) -> None:
        """Have folders read that will be looked at soon, in the order in which that will be."""
        if not self._unplanned or (self._readers is None and not self._start_readers()):
            return
        for frame in itertools.islice(reversed(self._stack), _PLANNED_FRAMES):
            while frame.names is not None and not frame.is_planned:
                if self._planned >= _PLANNED:
                    return
                self._plan_chunk(frame, frame.names)

    def _start_readers(self) -> bool:
        """Processes of their own are worth their start when many folders were read already and many follow."""
        if self.summary.read >= _READERS_AFTER and self._unplanned >= _READERS_FOR:
            self._readers = self._r.start_readers()
        return self._readers is not None

    def _plan_chunk(self, frame: _Frame, names: list[str]) -> None:
        part = names[frame.position : frame.position + _CHUNK]
        frame.position += _CHUNK
        frame.is_planned = frame.position >= len(names)
        until = None if frame.is_planned else part[-1]
        rows = self._r.database.read_sync(lambda c: store.children(c, frame.path, frame.after, until))
        known = {row[1]: row for row in rows}
        frame.after = part[-1] if part else ""
        frame.chunks.append(_Chunk(part, known))
        self._unplanned -= len(part)
        self._planned += len(part)
        if self._readers is not None:
            self._readers.ask((_below(frame.path, name) for name in part if name not in known), frame.inside)

    def _look_at_known(self, path: str, row: tuple[Any, ...], inside: int) -> None:
        """`row`: of the folder, in the order of FolderStamp; nearly all prove to be unchanged."""
        if _is_unchanged(f"{self._root}/{path}", os.lstat, row, inside):
            self.summary.seen += 1
            self._go_below(path, row, inside)
        else:
            self.look(path, FolderStamp._make(row), inside, forced=True)

    def _go_below(self, path: str, row: tuple[Any, ...], inside: int) -> None:
        if row[_HAS_CHILDREN]:
            self._stack.append(_Frame(path, None, inside or row[_IS_MODEL], None))

    def look(
        self,
        path: str,
        known: FolderStamp | None,
        inside: int,
        *,
        forced: bool = False,
        ahead: Reading | OSError | None = None,
    ) -> None:
        """Look at one folder, or at what was read of it `ahead`, and queue what is below it."""
        self.summary.seen += 1
        if len(path) > MAX_RELATIVE_BYTES // 4 and len(path.encode()) > MAX_RELATIVE_BYTES:
            self._note(path, [self._trouble(path, ODD_NAME, "its path is too long; nothing below it is listed")])
            return
        full = f"{self._root}/{path}" if path else self._root
        try:
            status = os.lstat if path else os.stat
            if known is not None and not forced and _is_unchanged(full, status, known, inside):
                self._go_below(path, known, inside)
                return
            if isinstance(ahead, OSError):
                raise ahead
            self._take(path, ahead or self._r.read(path, inside), known, inside)
        except _GONE:
            if not path:
                raise LibraryOffline("The model library went away while it was being read.") from None
            self.batch.removed_trees.append(path)
        except OSError as error:
            # Rows of models stay as they are. An unsettled row brings the next run here again.
            reason = f"cannot be read: {os.strerror(error.errno or 0)}"
            self._note(path, [self._trouble(path, UNREADABLE, reason)])
            row = known or FolderStamp(*store.split(path), 0, 0, 0, 0, inside, 0, "", 0, 0, 0)
            self._add_folder(row._replace(settled=0))

    def _take(self, path: str, reading: Reading, known: FolderStamp | None, inside: int) -> None:
        """Put what was read into the batch, and go on to the folders below."""
        self.summary.read += 1
        troubles = [self._odd_name(path, name) for name in reading.odd_names]
        if reading.damage:
            troubles.append(self._damaged(path, reading.damage))
        if reading.overrides_damage:
            subject = f"{path}/{OVERRIDES}"
            troubles.append(self._trouble(subject, DAMAGED_OVERRIDES, reading.overrides_damage))
        if reading.loose:
            what = "holds model files outside of a model's folder, which are not listed; import them to have them here"
            troubles.append(self._trouble(path, LOOSE, what))
        troubles += [self._trouble(_below(path, name), LINKED, _LINKED) for name in reading.linked]
        troubles += [self._trouble(_below(path, name), BROKEN, _BROKEN) for name in reading.broken]
        is_model = int(reading.entry is not None or (bool(path) and reading.has_metadata))
        if reading.entry is not None:
            self.batch.entries.append(reading.entry)
            troubles += self._not_for_calls(path)
        elif known is not None and known.is_model:
            self.batch.removed_models.append(path)
        if inside:
            self._owners.update(dict.fromkeys(_ancestors(path)))
        self._note(path, troubles, known)
        parent, name = store.split(path)
        # What is at the other end of a link comes and goes without a trace here.
        is_fixed = not (reading.linked or reading.broken)
        settled = is_fixed and self._settled(reading.mtime_ns) and self._settled(reading.stamp[0])
        row = FolderStamp(
            parent, name, reading.mtime_ns, reading.inode, int(settled), is_model, inside,
            int(bool(reading.folders)), reading.witness, *reading.stamp,
        )  # fmt: skip
        if reading.folders or (known is not None and known.has_children):
            if known is None or not known.has_children:
                # Unsettled, it promises nothing, but leads to the rows below it should this run be killed.
                self.batch.folders.append(row._replace(settled=0, has_children=1))
            self._stack.append(_Frame(path, row, inside or is_model, sorted(reading.folders)))
            self._unplanned += len(reading.folders)
        else:
            self._add_folder(row)

    def _settled(self, mtime_ns: int) -> bool:
        coarse = mtime_ns % 1_000_000_000 == 0
        return abs(self._now_ns - mtime_ns) > (_COARSE_CLOCK_NS if coarse else _FINE_CLOCK_NS)

    def look_again_at_owners(self) -> None:
        """A folder inside a model without metadata changed: that model's size and primary file are made again."""
        if not self._owners or self._r.stopped():
            return
        self._flush()
        self._writer.wait()
        owners = self._r.database.read_sync(lambda c: store.derived(c, self._owners))
        for path in owners:
            known = self._r.database.read_sync(lambda c, p=path: store.folder(c, *store.split(p)))
            self.look(path, known, known.inside if known else 0, forced=True)
            self.drain()

    # -- what goes into the batch ------------------------------------------------------------------------------------

    def _add_folder(self, row: FolderStamp) -> None:
        self.batch.folders.append(row)
        if self.batch.size >= _BATCH:
            self._flush()

    def _note(self, path: str, troubles: list[Trouble], known: FolderStamp | None = None) -> None:
        # A new folder has no troubles to clear, and nearly all folders have none to add.
        if troubles or known is not None:
            self.batch.troubles[path] = troubles

    def _trouble(self, path: str, kind: str, what: str) -> Trouble:
        return Trouble(self._r.named(path), kind, f"{display_name(path) or 'The library'}: {what}.")

    def _damaged(self, path: str, what: str) -> Trouble:
        subject = f"{path}/{METADATA}"
        return Trouble(self._r.named(subject), DAMAGED, f"{display_name(subject)}: {what}.")

    def _not_for_calls(self, path: str) -> list[Trouble]:
        """A folder that somebody made can have a name that no call takes for a model's."""
        try:
            relative_path(path)
        except UnsafePath as error:
            return [
                self._trouble(
                    path, ODD_NAME, f"its path {str(error).partition(': ')[2]}; rename it to change or delete it here"
                )
            ]
        return []

    def _odd_name(self, path: str, name: str) -> Trouble:
        child = f"{path}/{name}" if path else name
        return self._trouble(child, ODD_NAME, "its name is not UTF-8 or its path is too long; rename it")

    def _flush(self) -> None:
        if not self.batch.size and not self.batch.folders and not self.batch.troubles:
            return
        # The volume may have gone while we looked: then everything seemed removed, and nothing may be.
        removes = bool(self.batch.removed_trees or self.batch.removed_models)
        if removes and self._identity is not None and not self._r.same_root(self._identity):
            self.batch = Batch()
            raise LibraryOffline("The model library went away while it was being read.")
        batch, self.batch = self.batch, Batch()
        self._writer.put(batch)

    def finish(self) -> Summary:
        try:
            if self._readers is not None:
                self._readers.close()
            self._flush()
        finally:
            self._writer.close(self.summary)
            if self.summary.added + self.summary.changed >= store.BULK:
                self._r.database.settle_sync()
        return self.summary


class _BatchWriter:
    """Writes batches in order on a thread of its own while the next one is being read; at most one waits."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._r = reconciler
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: list[Future[None]] = []
        self._counts = [0, 0, 0]

    def put(self, batch: Batch) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="index-writer")
        self.wait()
        self._waiting.append(self._thread.submit(self._write, batch))

    def _write(self, batch: Batch) -> None:
        changes = self._r.database.write_sync(lambda c: store.apply(c, batch))
        for position, ids in enumerate((changes.added, changes.changed, changes.removed)):
            self._counts[position] += len(ids)
        self._r.committed(batch, changes)

    def wait(self) -> None:
        while self._waiting:
            self._waiting.pop(0).result()

    def close(self, summary: Summary) -> None:
        try:
            self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown(wait=True, cancel_futures=True)
            summary.added, summary.changed, summary.removed = self._counts


def _is_unchanged(full: str, status_of: Callable[[str], os.stat_result], known: tuple[Any, ...], inside: int) -> bool:
    """Whether a folder and its witness have the stamps that the index knows, in the order of FolderStamp."""
    _, _, mtime_ns, inode, settled, _, known_inside, _, witness, witness_mtime_ns, witness_size, witness_inode = known
    if not settled or known_inside != inside:
        return False
    try:
        status = status_of(full)
    except OSError:
        return False
    if status.st_mtime_ns != mtime_ns or status.st_ino != inode or not stat.S_ISDIR(status.st_mode):
        return False
    if not witness:
        return True
    try:
        status = os.stat(f"{full}/{witness}")
    except OSError as error:
        return isinstance(error, FileNotFoundError) and not witness_inode
    return status.st_mtime_ns == witness_mtime_ns and status.st_size == witness_size and status.st_ino == witness_inode


def _below(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _ancestors(path: str) -> list[str]:
    """The folders above a path, the nearest first, without the library itself."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]
