"""Hash the library's files again and say where they differ from what is on record.

A digest that is on record is never replaced, whatever the disk holds now: a difference is reported as a trouble and in
the job's result. A digest that is missing is filled in, because the bytes were hashed just now; one that another
program's file name claimed is compared first, and is `verified` from then on. Files of a reference are read where they
are. The job goes on after
the last finished model when it was interrupted.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from pumas.config import Layout
from pumas.errors import Cancelled, Interrupted, ModelNotFound, PumasError
from pumas.jobs.store import Json
from pumas.library.entry import FoundFile, is_model_file, primary_file
from pumas.library.hashing import Advance, Digests, digest_file
from pumas.library.importing import Work
from pumas.library.index import Index
from pumas.library.metadata import METADATA, FileEntry, ModelMetadata, digest_text, file_entries
from pumas.library.references import REFERENCES, Reference, State, file_path, references
from pumas.storage.json_file import JsonObject
from pumas.storage.paths import display_name
from pumas.storage.troubles import Troubles

MAX_FINDINGS = 1000
_CHECKPOINT_EVERY_S = 5.0


class Status(StrEnum):
    OK = "ok"
    RECORDED = "recorded"
    MISMATCH = "mismatch"
    MISSING = "missing"
    OFFLINE = "offline"
    UNREADABLE = "unreadable"


_TROUBLE_KINDS = {
    Status.MISMATCH: "digest_mismatch",
    Status.MISSING: "file_missing",
    Status.OFFLINE: "file_offline",
    Status.UNREADABLE: "file_unreadable",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one file; `file` is "" when it concerns the model's metadata.

    `expected` and `observed` are digests of the same kind, SHA-256 unless only BLAKE3 is on record.
    """

    model_id: str
    file: str
    status: Status
    message: str = ""
    expected: str = ""
    observed: str = ""


@dataclass(frozen=True, slots=True)
class _Record:
    """What the metadata says about one file, the digests of `hashes` counted for the primary one. See `FileEntry`."""

    name: str
    size: int | None
    sha256: str
    blake3: str
    claimed: str = ""

    def compare(self, found: Digests) -> tuple[str, str] | None:
        """(expected, observed) of the first difference."""
        known = ((self.sha256, found.sha256), (self.blake3, found.blake3), (self.claimed, found.sha256))
        for expected, observed in known:
            if expected and expected != observed:
                return expected, observed
        if not any(expected for expected, _ in known) and self.size not in (None, found.size):
            return f"{self.size} bytes", f"{found.size} bytes"
        return None


class VerifyService:
    """`run` is the runner of the job kind `verify`; `job_params` makes its parameters."""

    def __init__(self, layout: Layout, models: ModelMetadata, index: Index, troubles: Troubles) -> None:
        self._library = layout.library
        self._shown_root = layout.library.relative_to(layout.root).as_posix()
        self._models = models
        self._index = index
        self._troubles = troubles
        self._threads: ThreadPoolExecutor | None = None

    @staticmethod
    def job_params(model_ids: Sequence[str] | None) -> Json:
        """None means all models."""
        return {"model_ids": None if model_ids is None else list(model_ids)}

    async def run(self, context: Work, params: Json) -> Json:
        """The result counts `models`, `files` and `bytes`, and files by `Status`; `findings` lists the first
        MAX_FINDINGS files that are not `ok` or `recorded`, `findings_omitted` counts the others."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="verify")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.run_sync, context, params)

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def run_sync(self, work: Work, params: Json) -> Json:
        """See `run`; raises Cancelled or Interrupted when the job was told to stop."""
        work.check()
        wanted: list[str] | None = params["model_ids"]
        state: Json = {"after": "", "done": 0, **_NOTHING, "findings": [], **work.checkpoint}
        ids = [i for i in sorted(set(self._index.model_ids() if wanted is None else wanted)) if i > state["after"]]
        total = state["done"] + sum(self._size(model_id) for model_id in ids)
        saved = time.monotonic()
        for model_id in ids:

            def advance(count: int, model_id: str = model_id) -> None:
                work.check()
                state["done"] += count
                work.report(stage="hashing", done=state["done"], total=max(total, state["done"]), item=model_id)

            before = state["done"]
            try:
                findings = self._check_model(model_id, advance)
            except (Cancelled, Interrupted):
                state["done"] = before
                work.save_checkpoint_sync(state)
                raise
            _count(state, model_id, findings)
            if time.monotonic() - saved > _CHECKPOINT_EVERY_S:
                work.save_checkpoint_sync(state)
                saved = time.monotonic()
        return {key: value for key, value in state.items() if key not in ("after", "done")} | {"bytes": state["done"]}

    def _size(self, model_id: str) -> int:
        """Bytes to read for a model, 0 for one that cannot be looked at."""
        try:
            folder = self._models.folder(model_id)
            outside = _outside(self._models.load(model_id))
        except PumasError:
            return 0
        return sum(size for _name, size in _files(folder)) + sum(reference.size for reference in outside.values())

    def _check_model(self, model_id: str, advance: Advance) -> list[Finding]:
        """One finding per file that is on record or looks like a model file."""
        try:
            folder = self._models.folder(model_id)
            metadata = self._models.load(model_id)
        except ModelNotFound as error:
            return [Finding(model_id, "", Status.MISSING, str(error))]
        except PumasError as error:
            return [self._told(Finding(model_id, "", Status.UNREADABLE, str(error)))]
        on_disk, outside = dict(_files(folder)), _outside(metadata)
        records = _records(metadata, on_disk)
        names = [*records, *(name for name in on_disk if name not in records and is_model_file(name))]
        findings: list[Finding] = []
        hashed: dict[str, Digests] = {}
        for name in names:
            advance(0)
            record = records.get(name) or _Record(name, None, "", "")
            findings.append(self._told(_check_file(model_id, folder, outside, record, hashed, advance)))
        if hashed:
            try:
                self._record(model_id, metadata, hashed, on_disk)
            except PumasError as error:
                findings.append(Finding(model_id, "", Status.UNREADABLE, f"digests not recorded: {error}"))
        return findings

    def _record(self, model_id: str, metadata: JsonObject, hashed: dict[str, Digests], on_disk: dict[str, int]) -> None:
        """Fill in missing digests; the metadata is only written when there are some."""

        if not _fill_in(metadata, hashed, _primary(metadata, on_disk)):
            return

        def fill(value: JsonObject) -> None:
            _fill_in(value, hashed, _primary(value, on_disk))

        self._models.update(model_id, fill)

    def _told(self, finding: Finding) -> Finding:
        """Report what is wrong where the user sees it, and take back what is right again."""
        subject = "/".join(part for part in (self._shown_root, finding.model_id, finding.file) if part)
        kind = _TROUBLE_KINDS.get(finding.status)
        if kind is None:
            self._troubles.clear(subject)
        else:
            self._troubles.report(subject, kind, finding.message)
        return finding


_NOTHING = {"models": 0, "files": 0, **{str(status): 0 for status in Status}, "findings_omitted": 0}


def _count(state: Json, model_id: str, findings: Sequence[Finding]) -> None:
    state["after"] = model_id
    state["models"] += 1
    for finding in findings:
        state["files"] += bool(finding.file)
        state[str(finding.status)] += 1
        if finding.status in _TROUBLE_KINDS:
            if len(state["findings"]) < MAX_FINDINGS:
                state["findings"].append(asdict(finding))
            else:
                state["findings_omitted"] += 1


def _check_file(
    model_id: str,
    folder: Path,
    outside: dict[str, Reference],
    record: _Record,
    hashed: dict[str, Digests],
    advance: Advance,
) -> Finding:
    """Hash one file; into `hashed` goes what may be recorded: digests that contradict nothing."""
    name = record.name
    try:
        path = file_path(folder, outside, name)
        if name in outside and outside[name].state() is State.OFFLINE:
            return Finding(model_id, name, Status.OFFLINE, f"{display_name(name)} lies on a drive that is away.")
        if not os.path.lexists(path):
            return Finding(model_id, name, Status.MISSING, f"{display_name(name)} is on record but not on disk.")
        found = digest_file(path, advance)
    except (Cancelled, Interrupted):
        raise
    except PumasError as error:
        return Finding(model_id, name, Status.UNREADABLE, str(error))
    difference = record.compare(found)
    if difference is not None:
        message = f"{display_name(name)} is not what it was: {difference[0]} on record, {difference[1]} on disk."
        return Finding(model_id, name, Status.MISMATCH, message, *difference)
    hashed[name] = found
    return Finding(model_id, name, Status.OK if record.sha256 or record.blake3 else Status.RECORDED)


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """(relative name, bytes) of the model's files, without hidden ones and without models nested in it."""
    for path, folders, names in os.walk(folder):
        if METADATA in names and Path(path) != folder:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            file = Path(path, name)
            try:
                yield file.relative_to(folder).as_posix(), file.stat().st_size
            except OSError:
                continue


def _records(metadata: JsonObject, on_disk: dict[str, int]) -> dict[str, _Record]:
    hashes = _dict(metadata.get("hashes"))
    primary = _primary(metadata, on_disk)
    records: dict[str, _Record] = {}
    for entry in file_entries(metadata) or [FileEntry(primary, None, "", "")]:
        of_model = hashes if entry.name == primary else {}
        records[entry.name] = _Record(
            entry.name,
            entry.size,
            entry.sha256 or digest_text(of_model.get("sha256")),
            entry.blake3 or digest_text(of_model.get("blake3")),
            entry.claimed,
        )
    records.pop("", None)
    return records


def _primary(metadata: JsonObject, on_disk: dict[str, int]) -> str:
    """The file that `hashes` speaks of: named in the metadata, or the largest by the sizes on record."""
    named = metadata.get("primary_file")
    if isinstance(named, str) and named:
        return named
    entries = file_entries(metadata)
    listed = [FoundFile(entry.name, entry.size or on_disk.get(entry.name, 0)) for entry in entries]
    largest = primary_file(listed or [FoundFile(name, size) for name, size in on_disk.items()])
    return largest.name if largest else ""


def _fill_in(metadata: JsonObject, hashed: dict[str, Digests], primary: str) -> bool:
    """Put digests where there are none. Returns whether anything was added."""
    added = False

    def put(target: JsonObject, found: Digests) -> None:
        nonlocal added
        for key, value in (("sha256", found.sha256), ("blake3", found.blake3)):
            if not target.get(key):
                target[key] = value
                added = True

    listed: object = metadata.get("files")
    entries = cast(list[Any], listed) if isinstance(listed, list) else []
    known: set[object] = set()
    for entry in entries:
        name = _dict(entry).get("name")
        if isinstance(name, str) and name in hashed:
            known.add(name)
            put(entry, hashed[name])
            if entry.get("digest_state") == "claimed":
                entry["digest_state"] = "verified"
                added = True
    for name, found in hashed.items():
        if name not in known:
            entries.append({"name": name, "original_name": name, "size": found.size})
            put(entries[-1], found)
    if primary in hashed:
        hashes = _dict(metadata.get("hashes"))
        put(hashes, hashed[primary])
        metadata["hashes"] = hashes
    metadata["files"] = entries
    return added


def _outside(metadata: JsonObject) -> dict[str, Reference]:
    return {reference.name: reference for reference in references(metadata.get(REFERENCES))}


def _dict(value: object) -> JsonObject:
    return cast(JsonObject, value) if isinstance(value, dict) else {}
