"""Bring the user's model files into the library without ever risking them.

One item: plan, make room, stage (hashed on the way), compare digests with what the library has, write the metadata into
the staging folder, publish by one rename, tell the index, and only then, and only for `move`, remove the source files
that are still what was imported. The checkpoint names the id before the rename, so a killed import that had published
is finished, not repeated. Which files make one model is known to `import_source.py`, what it is to `import_plan.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import quote_from_bytes, unquote_to_bytes

from pumas.config import Layout
from pumas.errors import (
    Cancelled,
    DuplicateModel,
    Interrupted,
    NotEnoughSpace,
    PickleNotAcknowledged,
    PumasError,
    SeveralModels,
)
from pumas.jobs.store import Json
from pumas.library.copying import Mode, can_clone, stage_file
from pumas.library.formats.detect import SecurityTier
from pumas.library.hashing import Advance, Digests, Stamp, digest_file
from pumas.library.holdings import Holdings
from pumas.library.import_plan import ImportPlan, ImportRequest, candidates, make_plan
from pumas.library.import_source import SourceFile
from pumas.library.index import Index
from pumas.library.metadata import file_entries
from pumas.library.publishing import Publisher, size_of
from pumas.library.staging import Staging
from pumas.storage.files import (
    disk_errors,
    fsync_folder,
    require_space,
)
from pumas.storage.json_file import StateLock
from pumas.storage.paths import contained, display_name

# A file at least this large is worth a checkpoint of its own, so that a resumed import does not copy it again.
_KEEP_STAGED_FROM = 64 * 1024 * 1024


class Work(Protocol):
    """What an import needs of its job; `JobContext` is one."""

    @property
    def job_id(self) -> str: ...
    @property
    def checkpoint(self) -> Json: ...
    def check(self) -> None: ...
    def report(self, *, stage: str, done: int, total: int, item: str = "", unit: str = "bytes") -> None: ...
    def save_checkpoint_sync(self, state: Json) -> None: ...


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What became of one request.

    `path` is as it was given, `model_path` absolute, `size` in bytes; `files` are the source files with weights,
    `skipped` those left out (`path`, `reason`). `security_findings` are the pickle scanner's. `candidates` are paths to
    import in the place of a folder of several models.
    """

    path: str
    success: bool
    model_id: str | None = None
    model_path: str | None = None
    security_tier: str | None = None
    error: str | None = None
    error_code: str | None = None
    duplicate_of: str | None = None
    size: int = 0
    dry_run: bool = False
    files: list[str] = field(default_factory=list[str])
    skipped: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    security_findings: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])
    candidates: list[str] = field(default_factory=list[str])


class ImportService:
    """`run` is the runner of the job kind `import`; `job_params` makes its parameters."""

    def __init__(self, layout: Layout, lock: StateLock, staging: Staging, index: Index) -> None:
        self.layout = layout
        self.staging = staging
        self.publisher = Publisher(layout.library, lock, staging, index)
        self._index = index
        self.holdings = Holdings(layout.library, index)
        self._threads: ThreadPoolExecutor | None = None

    def plan(self, request: ImportRequest) -> ImportPlan:
        """What an import would do. Blocks; raises as `import_plan.make_plan`."""
        return make_plan(self.layout, request, self._index.find_by_size)

    def candidates(self, path: str) -> list[str]:
        """The paths to import for everything in `path`. Blocks; raises as `import_plan.make_plan`."""
        return candidates(self.layout, path)

    @staticmethod
    def job_params(requests: Sequence[ImportRequest]) -> Json:
        return {"requests": [request.to_json() for request in requests]}

    async def run(self, context: Work, params: Json) -> Json:
        """The result is `{success, imported, failed, results}` with an `ItemResult` per request, in order.

        What is done so far stands under `results` in the job's checkpoint.
        """
        if self._threads is None:
            self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="import")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.run_sync, context, params)

    def close(self) -> None:
        """Let go of the threads; running jobs stop at their next block."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def run_sync(self, work: Work, params: Json) -> Json:
        """See `run`; raises Cancelled or Interrupted when the job was told to stop."""
        requests = [ImportRequest.from_json(value) for value in params["requests"]]
        try:
            work.check()
            results = _Batch(self, work, requests).run()
        except Interrupted:
            raise  # what is staged is used when the job goes on
        except BaseException:
            self.staging.discard_job(work.job_id)
            raise
        failed = sum(not result["success"] for result in results)
        return {"success": not failed, "imported": len(results) - failed, "failed": failed, "results": results}

    # -- steps of one item -------------------------------------------------------------------------------------------

    def make_room(self, plan: ImportPlan, staging_id: str, staged_bytes: int) -> None:
        """Raise NotEnoughSpace before the first byte, unless the file system can share the source's blocks."""
        try:
            require_space(self.layout.library, max(0, plan.new_bytes - staged_bytes))
        except NotEnoughSpace:
            if plan.new_bytes and not can_clone(plan.source.primary.path, self.staging.folder(staging_id)):
                raise

    def twins(self, primary: Digests) -> list[str]:
        """Models whose primary file has this digest."""
        return self._index.find_by_sha256(primary.sha256)

    def require_new(self, plan: ImportPlan, digests: dict[str, Digests]) -> None:
        """Raise DuplicateModel when one model of the library holds all the weights of `plan`."""
        if plan.request.allow_duplicate:
            return
        twin = self.holdings.model_with({(digests[f.name].sha256, f.stamp.size) for f in plan.source.weights})
        if twin is not None:
            raise DuplicateModel(twin)

    def publish(
        self, plan: ImportPlan, staging_id: str, digests: dict[str, Digests], announce: Callable[[str], None]
    ) -> str:
        """Give the staged model its place. Raises as `Publisher.publish`, and DuplicateModel."""
        return self.publisher.publish(
            staging_id,
            plan.model_id,
            lambda model_id: plan.metadata(model_id, digests),
            plan.source.overrides,
            announce=announce,
            require_new=lambda: self.require_new(plan, digests),
        )

    def finish(self, staging_id: str, announced: Json) -> Json:
        """What follows a publication; may be done again after a kill. Returns the item's result."""
        result: Json = announced["result"]
        kept = _remove_sources(announced["remove"])
        self.staging.discard(staging_id)
        return {**result, "warnings": [*result["warnings"], *kept]}

    def finish_killed(self, staging_id: str, announced: Json) -> Json | None:
        """The result of an item that a killed process had published, else None."""
        if not self.publisher.finish_killed(staging_id, announced["result"]["model_id"], announced["digests"]):
            return None
        return self.finish(staging_id, announced)


class _Batch:
    """The requests of one job, in order.

    The checkpoint holds the `results` of finished items and, for the `item` under way, its `index`, the large files
    that are `staged`, and from the moment of publishing on the `result`, the `digests` and what to `remove`.
    """

    def __init__(self, service: ImportService, work: Work, requests: Sequence[ImportRequest]) -> None:
        self._service = service
        self._work = work
        self._requests = requests
        self._results: list[Json] = list(work.checkpoint.get("results") or [])
        self._item: Json = dict(work.checkpoint.get("item") or {})
        self._done = 0
        self._total = 0
        self._stage = "copying"
        self._title = ""

    def run(self) -> list[Json]:
        if "result" in self._item:
            finished = self._service.finish_killed(self._staging_id(self._item["index"]), self._item)
            if finished is not None:
                self._keep_result(finished)
        first = len(self._results)
        plans = [self._planned(request) for request in self._requests[first:]]
        self._total = sum(plan.work_bytes for plan in plans if isinstance(plan, ImportPlan))
        for index, (request, plan) in enumerate(zip(self._requests[first:], plans, strict=True), first):
            self._work.check()
            before = self._done
            self._keep_result(self._result(index, request, plan))
            self._done = before + (plan.work_bytes if isinstance(plan, ImportPlan) else 0)
        self._report("complete")
        return self._results

    def _planned(self, request: ImportRequest) -> ImportPlan | PumasError:
        self._work.check()
        try:
            return self._service.plan(request)
        except PumasError as error:
            return error

    def _result(self, index: int, request: ImportRequest, plan: ImportPlan | PumasError) -> Json:
        try:
            if isinstance(plan, PumasError):
                raise plan
            return self._import(index, plan)
        except (Cancelled, Interrupted):
            raise
        except PumasError as error:
            self._service.staging.discard(self._staging_id(index))
            return _failure(request, plan, error)

    def _import(self, index: int, plan: ImportPlan) -> Json:
        self._title = plan.official_name
        if plan.security_tier is SecurityTier.PICKLE and not plan.request.security_acknowledged:
            raise PickleNotAcknowledged(
                f"{plan.official_name} can run code when an app loads it (pickle); "
                "pass security_acknowledged to import it all the same."
            )
        same = self._brought_in_with_others(plan)
        if same is not None:
            return {**same, "path": plan.request.path}
        if plan.look_alikes and not plan.request.allow_duplicate:
            self._compare_before_copying(plan)
        if plan.request.dry_run:
            return self._success(plan, plan.model_id)
        return self._bring_in(index, plan)

    def _brought_in_with_others(self, plan: ImportPlan) -> Json | None:
        """The result of the request that imported the same files, as parts of one set of shards."""
        files = {_kept(file.path) for file in plan.source.weights}
        if len(files) == 1 or plan.request.allow_duplicate:
            return None
        done = (result for result in self._results if result["success"] and not result["dry_run"])
        return next((result for result in done if files <= set(result["files"])), None)

    def _compare_before_copying(self, plan: ImportPlan) -> None:
        """Hash first when the size says that the library may have it: a second import of the same file ends here."""
        self._report("hashing")
        primary = plan.source.primary
        digests = {primary.name: digest_file(primary.path, self._advance)}
        if not self._service.twins(digests[primary.name]):
            return
        for file in plan.source.weights:
            if file.name not in digests:
                digests[file.name] = digest_file(file.path, self._advance)
        self._service.require_new(plan, digests)

    def _bring_in(self, index: int, plan: ImportPlan) -> Json:
        service, staging_id = self._service, self._staging_id(index)
        kept = self._staged_before(index, plan)
        folder = service.staging.open(staging_id, self._work.job_id, kept)
        service.make_room(plan, staging_id, sum(digests.size for digests in kept.values()))
        self._report("copying" if plan.new_bytes else "hashing")
        digests = {file.name: self._stage_one(index, plan, folder, file, kept) for file in plan.source.files}
        service.require_new(plan, digests)
        self._report("writing_metadata")

        def announce(model_id: str) -> None:
            self._work.check()
            self._save(
                {
                    "index": index,
                    "result": self._success(plan, model_id, _differing_from_carried(plan, digests)),
                    "digests": {name: found.sha256 for name, found in digests.items()},
                    "remove": _removable(plan) if plan.request.mode is Mode.MOVE else [],
                }
            )

        service.publish(plan, staging_id, digests, announce)
        self._report("indexing")
        return service.finish(staging_id, self._item)

    def _stage_one(
        self, index: int, plan: ImportPlan, folder: Path, file: SourceFile, kept: dict[str, Digests]
    ) -> Digests:
        target = contained(folder, file.name, "file name")
        if file.name in kept and size_of(folder, file.name) == file.stamp.size:
            self._advance(file.stamp.size)
            return kept[file.name]
        with disk_errors(f"Staging {file.original_name}"):
            target.unlink(missing_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
        advance: Advance = self._advance
        staged = stage_file(file.path, target, plan.request.mode_of(file), expected=file.stamp, advance=advance)
        if file.stamp.size >= _KEEP_STAGED_FROM:
            self._keep_staged(index, file, staged.digests)
        return staged.digests

    def _success(self, plan: ImportPlan, model_id: str, warnings: Sequence[str] = ()) -> Json:
        request = plan.request
        short = request.dry_run and plan.new_bytes > plan.free_bytes
        return asdict(
            ItemResult(
                path=request.path,
                success=True,
                model_id=model_id,
                model_path=str(self._service.layout.library / model_id),
                security_tier=str(plan.security_tier),
                size=plan.source.size,
                dry_run=request.dry_run,
                files=[_kept(file.path) for file in plan.source.weights],
                skipped=_skipped(plan),
                security_findings=list(plan.security_findings),
                warnings=[*plan.warnings, *warnings, *(["There is not enough disk space."] if short else [])],
            )
        )

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def _staging_id(self, index: int) -> str:
        return f"{self._work.job_id}.{index}"

    def _save(self, item: Json) -> None:
        self._item = item
        self._work.save_checkpoint_sync({"results": self._results, "item": item})

    def _keep_result(self, result: Json) -> None:
        self._results.append(result)
        self._save({})

    def _keep_staged(self, index: int, file: SourceFile, digests: Digests) -> None:
        staged: Json = self._item["staged"] if self._item.get("index") == index and "staged" in self._item else {}
        new = {file.name: {"source": asdict(file.stamp), "digests": asdict(digests)}}
        self._save({"index": index, "staged": {**staged, **new}})

    def _staged_before(self, index: int, plan: ImportPlan) -> dict[str, Digests]:
        """Files that an earlier run of this job staged whole, from sources that have not changed since."""
        staged: Json = self._item.get("staged") or {} if self._item.get("index") == index else {}
        stamps = {file.name: file.stamp for file in plan.source.files}
        return {
            name: Digests(**value["digests"])
            for name, value in staged.items()
            if stamps.get(name) == Stamp(**value["source"])
        }

    # -- progress ----------------------------------------------------------------------------------------------------

    def _advance(self, count: int) -> None:
        self._work.check()
        self._done += count
        self._report(self._stage)

    def _report(self, stage: str) -> None:
        self._stage = stage
        self._work.report(stage=stage, done=min(self._done, self._total), total=self._total, item=self._title)


def _failure(request: ImportRequest, plan: ImportPlan | PumasError, error: PumasError) -> Json:
    known = plan if isinstance(plan, ImportPlan) else None
    return asdict(
        ItemResult(
            path=request.path,
            success=False,
            security_tier=str(known.security_tier) if known else None,
            error=str(error),
            error_code=error.kind,
            duplicate_of=error.model_id if isinstance(error, DuplicateModel) else None,
            size=known.source.size if known else 0,
            dry_run=request.dry_run,
            skipped=_skipped(known) if known else [],
            security_findings=list(known.security_findings) if known else [],
            warnings=list(known.warnings) if known else [],
            candidates=list(error.candidates) if isinstance(error, SeveralModels) else [],
        )
    )


def _skipped(plan: ImportPlan) -> list[dict[str, str]]:
    return [{"path": skipped.path, "reason": skipped.reason} for skipped in plan.source.skipped]


def _differing_from_carried(plan: ImportPlan, digests: dict[str, Digests]) -> list[str]:
    """Files whose digest in the library they came from is another: damaged there, or changed by hand."""
    entries = file_entries(plan.source.metadata)
    said = {entry.name: entry.sha256 for entry in entries if entry.sha256}
    return [
        f"{file.original_name}: its old metadata has another SHA-256; it was changed or damaged before this import"
        for file in plan.source.files
        if said.get(file.original_name, digests[file.name].sha256) != digests[file.name].sha256
    ]


def _kept(path: Path) -> str:
    """A path as a checkpoint can keep it, which holds UTF-8 only: the name of a file may be any bytes."""
    return quote_from_bytes(os.fsencode(path))


def _path(kept: str) -> Path:
    return Path(os.fsdecode(unquote_to_bytes(kept)))


# -- moving ----------------------------------------------------------------------------------------------------------


def _removable(plan: ImportPlan) -> list[Json]:
    """The names that the user gave, then their folders from the inside; what links lead to is not ours to remove.

    The primary file goes last and the other weights first: what a kill leaves behind is then still recognised as the
    model that the library has, and not taken for another one.
    """
    root, primary = plan.source.path, plan.source.primary
    ordered = sorted(plan.source.files, key=lambda file: (file is primary, file.format is None))
    files: list[Json] = [{"path": _kept(f.found), "stamp": asdict(f.stamp)} for f in ordered]
    folders = {
        parent for f in plan.source.files for parent in f.found.parents if parent == root or root in parent.parents
    }
    inner_first = sorted(folders, key=lambda folder: len(folder.parts), reverse=True)
    return [*files, *({"folder": _kept(folder)} for folder in inner_first if root.is_dir())]


def _remove_sources(remove: Sequence[Json]) -> list[str]:
    """Remove imported files that are unchanged, and folders that are empty then; returns what was kept and why."""
    kept: list[str] = []
    touched: set[Path] = set()
    for item in remove:
        if "folder" in item:
            with contextlib.suppress(OSError):
                os.rmdir(_path(item["folder"]))
            continue
        path = _path(item["path"])
        try:
            if Stamp.of(path.stat()) == Stamp(**item["stamp"]):
                path.unlink()
                touched.add(path.parent)
            else:
                kept.append(f"{display_name(path.name)} was kept: it changed after it was imported")
        except FileNotFoundError:
            continue  # removed before a kill
        except OSError as error:
            kept.append(f"{display_name(path.name)} was kept: {os.strerror(error.errno or 0)}")
    for folder in touched:
        with contextlib.suppress(OSError):
            fsync_folder(folder)
    return kept
