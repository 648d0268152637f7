"""Take stored models into the library without copying a byte: the runner of the job kind `adopt`.

One item: read its store again, plan, share the files into staging by clone or hard link (or only name them), write the
journal, publish by one rename. A killed item leaves a row in the journal, by which the next start finishes it or takes
it back (`recover`), and a resumed job finds what was done. The owner's store is never written.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import orjson

from pumas.adoption.found import Look, Store, StoredModel
from pumas.adoption.locations import Location
from pumas.adoption.planning import AdoptionPlan, AdoptRequest, make_plan
from pumas.adoption.scan import Scanner
from pumas.adoption.store import Adoption, AdoptionState, Journal
from pumas.config import Layout
from pumas.errors import (
    Cancelled,
    CorruptState,
    DuplicateModel,
    Interrupted,
    InvalidInput,
    ModelNotFound,
    PumasError,
    StoredModelNotFound,
)
from pumas.jobs.store import Json, now
from pumas.library.copying import Method, can_clone, share_file
from pumas.library.import_source import SourceFile
from pumas.library.importing import Work
from pumas.library.index import Index
from pumas.library.metadata import METADATA, model_folder
from pumas.library.publishing import Publisher
from pumas.library.references import Storage
from pumas.library.staging import Staging
from pumas.storage import json_file
from pumas.storage.files import disk_errors, make_folders
from pumas.storage.paths import contained

log = logging.getLogger(__name__)

_CHECKPOINT_EVERY_S = 0.5

_METHODS = {Storage.REFLINK: Method.REFLINK, Storage.HARDLINK: Method.HARDLINK}


@dataclass(frozen=True, slots=True)
class AdoptResult:
    """What became of one request. `mode` is how the bytes are shared, `size` how many were not copied."""

    store: str
    name: str
    success: bool
    adoption_id: str | None = None
    model_id: str | None = None
    model_path: str | None = None
    mode: str | None = None
    size: int = 0
    security_tier: str | None = None
    security_findings: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])
    error: str | None = None
    error_code: str | None = None
    duplicate_of: str | None = None
    dry_run: bool = False


class Adopter:
    """Calls block; they come from worker threads."""

    def __init__(
        self, layout: Layout, scanner: Scanner, journal: Journal, staging: Staging, publisher: Publisher, index: Index
    ) -> None:
        self._layout = layout
        self._scanner = scanner
        self._journal = journal
        self._staging = staging
        self._publisher = publisher
        self._index = index

    def run(self, work: Work, requests: Sequence[AdoptRequest]) -> Json:
        """The result is `{success, adopted, failed, size, results}` with an `AdoptResult` per request, in order; what
        is done so far stands under `results` in the job's checkpoint."""
        results: list[Json] = list(work.checkpoint.get("results") or [])
        stores: dict[tuple[str, str], Store] = {}
        saved = time.monotonic()
        try:
            for number, request in enumerate(requests[len(results) :], len(results)):
                work.check()
                work.report(stage="adopting", done=number, total=len(requests), item=request.name, unit="models")
                results.append(self._result(work, number, request, stores))
                # The journal has each result; the checkpoint grows with all of them and is written now and then.
                if len(results) < len(requests) and time.monotonic() - saved > _CHECKPOINT_EVERY_S:
                    work.save_checkpoint_sync({"results": results})
                    saved = time.monotonic()
        except (Cancelled, Interrupted) as stopped:
            work.save_checkpoint_sync({"results": results})
            if isinstance(stopped, Cancelled):
                self._staging.discard_job(work.job_id)
            raise
        except BaseException:
            self._staging.discard_job(work.job_id)
            raise
        work.report(stage="complete", done=len(requests), total=len(requests), unit="models")
        failed = sum(not result["success"] for result in results)
        return {
            "success": not failed,
            "adopted": len(results) - failed,
            "failed": failed,
            "size": sum(result["size"] for result in results if result["success"]),
            "results": results,
        }

    def _result(self, work: Work, number: int, request: AdoptRequest, stores: dict[tuple[str, str], Store]) -> Json:
        if self._journal.exists and (done := self._journal.of_item(work.job_id, number)) is not None:
            self._staging.discard(_staging_id(work.job_id, number))
            return done.result  # published before a kill
        try:
            model = self._model(work, request, stores)
            plan = make_plan(self._layout, model, request, self._index.find_by_size)
            if not request.allow_duplicate:
                self._require_new(model)
            if request.dry_run:
                return self._success(plan, request, self._likely(plan, request), None, plan.plan.model_id)
            return self._adopt(work.job_id, number, plan, request)
        except (Cancelled, Interrupted):
            raise
        except PumasError as error:
            self._staging.discard(_staging_id(work.job_id, number))
            twin = error.model_id if isinstance(error, DuplicateModel) else None
            return asdict(
                AdoptResult(
                    store=request.store,
                    name=request.name,
                    success=False,
                    error=str(error),
                    error_code=error.kind,
                    duplicate_of=twin,
                    dry_run=request.dry_run,
                )
            )

    def _model(self, work: Work, request: AdoptRequest, stores: dict[tuple[str, str], Store]) -> StoredModel:
        key = (request.kind, request.store)
        if key not in stores:
            stores[key] = self._scanner.read(Look(work.check), Location(request.kind, request.store))
        return find_model(stores[key].models, request.name, request.revision)

    def _require_new(self, model: StoredModel) -> None:
        twin = self._scanner.holder(model)
        if twin is not None:
            raise DuplicateModel(twin)

    # -- one item ----------------------------------------------------------------------------------------------------

    def _adopt(self, job_id: str, number: int, plan: AdoptionPlan, request: AdoptRequest) -> Json:
        staging_id = _staging_id(job_id, number)
        storage = self._share(staging_id, job_id, plan, request)
        row = Adoption(
            id=f"adoption-{secrets.token_hex(8)}",
            state=AdoptionState.BEGUN,
            model_id=plan.plan.model_id,
            mode=str(storage),
            kind=str(plan.model.kind),
            store=plan.model.store,
            name=plan.model.name,
            revision=plan.model.revision,
            size=plan.plan.source.size,
            job_id=job_id,
            item=number,
            result_json="{}",
            trash_id=None,
            created_at=now(),
            updated_at="",
        )

        def announce(model_id: str) -> None:
            nonlocal row
            result = self._success(plan, request, storage, row.id, model_id)
            row = self._journal.save(replace(row, model_id=model_id, result_json=orjson.dumps(result).decode()))

        try:
            self._publisher.publish(
                staging_id,
                plan.plan.model_id,
                lambda model_id: plan.metadata(model_id, row.id, storage),
                {},
                announce=announce,
                require_new=lambda: None if request.allow_duplicate else self._require_new(plan.model),
            )
        except BaseException:
            with contextlib.suppress(PumasError):
                self._settle(row)
            raise
        with contextlib.suppress(PumasError):  # it is in the library; the next start completes the row
            row = self._journal.save(replace(row, state=AdoptionState.ADOPTED))
        self._staging.discard(staging_id)
        return row.result

    def _share(self, staging_id: str, job_id: str, plan: AdoptionPlan, request: AdoptRequest) -> Storage:
        """Put the files into staging in the first way that works for all of them."""
        for storage in request.mode.storages:
            folder = self._staging.open(staging_id, job_id)
            if storage is Storage.REFERENCE or all(self._share_one(folder, file, storage) for file in plan.files):
                if storage is Storage.REFERENCE:
                    self._staging.open(staging_id, job_id)  # without what another way left
                return storage
        how = "cloned" if request.mode == Storage.REFLINK else "hard-linked"
        raise InvalidInput("mode", f"the files cannot be {how} into the library's volume; use auto or reference")

    def _share_one(self, folder: Path, file: SourceFile, storage: Storage) -> bool:
        target = contained(folder, file.name, "file name")
        with disk_errors(f"Staging {file.original_name}"):
            target.parent.mkdir(parents=True, exist_ok=True)
        return share_file(file.path, target, _METHODS[storage], expected=file.stamp)

    def _likely(self, plan: AdoptionPlan, request: AdoptRequest) -> Storage:
        """What a dry run promises: asks the volumes, with a file that is removed at once."""
        with disk_errors("Looking at the library's volume"):
            make_folders(self._layout.staging, mode=0o700)
            device = os.stat(self._layout.staging).st_dev
        for storage in request.mode.storages:
            if storage is Storage.REFERENCE:
                return storage
            if any(file.stamp.device != device for file in plan.files):
                continue
            if storage is Storage.HARDLINK or can_clone(plan.plan.source.primary.path, self._layout.staging):
                return storage
        raise InvalidInput("mode", "the files lie on another volume than the library; use auto or reference")

    def _success(
        self, plan: AdoptionPlan, request: AdoptRequest, storage: Storage, adoption_id: str | None, model_id: str
    ) -> Json:
        skipped = [f"{skipped.path} was left out: {skipped.reason}" for skipped in plan.plan.source.skipped]
        return asdict(
            AdoptResult(
                store=plan.model.store,
                name=plan.model.name,
                success=True,
                adoption_id=adoption_id,
                model_id=model_id,
                model_path=str(self._layout.library / model_id),
                mode=str(storage),
                size=plan.plan.source.size,
                security_tier=str(plan.plan.security_tier),
                security_findings=list(plan.plan.security_findings),
                warnings=[*plan.warnings(storage, request.mode), *skipped],
                dry_run=request.dry_run,
            )
        )

    # -- after a kill ------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Finish or take back what a killed process left; call before jobs run.

        Staging was made on the library's volume before any row: while it is not there, the volume is away and says
        nothing about its models.
        """
        if not self._journal.exists or not self._layout.staging.is_dir():
            return
        for row in self._journal.unfinished():
            try:
                self._settle(row)
            except CorruptState as error:
                # Nobody can say now; the next start asks again.
                log.warning("adoption %s of %s stays open: %s", row.id, row.model_id, error)

    def _settle(self, row: Adoption) -> None:
        """`begun` becomes `adopted` when its model is in the library, else it never was; an undo that had not moved
        the model yet never was either."""
        there = self.holds(row)
        if row.state is AdoptionState.BEGUN:
            if there:
                self._journal.save(replace(row, state=AdoptionState.ADOPTED))
            else:
                self._journal.forget(row.id)
        elif row.state is AdoptionState.UNDOING:
            self._journal.save(replace(row, state=AdoptionState.ADOPTED if there else AdoptionState.UNDONE))

    def holds(self, row: Adoption) -> bool:
        """Whether the library has the model of this adoption, in its place. Raises CorruptState when nobody can say."""
        try:
            metadata = json_file.load(model_folder(self._layout.library, row.model_id) / METADATA).value or {}
        except ModelNotFound:
            return False
        return adoption_id_of(metadata) == row.id


def adoption_id_of(metadata: Json) -> str:
    """Which adoption made a model, "" for none."""
    adoption = metadata.get("adoption")
    found = adoption.get("id") if isinstance(adoption, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return found if isinstance(found, str) else ""


def find_model(models: Sequence[StoredModel], name: str, revision: str | None) -> StoredModel:
    """The model of that name; of several revisions the one that a branch or tag points to.

    Raises:
        StoredModelNotFound: there is none.
        InvalidInput: several would do.
    """
    named = [model for model in models if model.name == name and revision in (None, model.revision)]
    if not named:
        raise StoredModelNotFound(name)
    current = [model for model in named if "main" in model.refs] if len(named) > 1 else named
    if len(current) != 1:
        raise InvalidInput("revision", f"{name[:200]} is there in several revisions; say which")
    return current[0]


def _staging_id(job_id: str, number: int) -> str:
    return f"{job_id}.{number}"
