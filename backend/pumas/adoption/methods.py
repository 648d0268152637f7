"""The adoption methods: wire models in, plain values out, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pumas.adoption import contract as wire
from pumas.adoption.service import AdoptionService
from pumas.adoption.store import AdoptionState
from pumas.adoption.values import ListedAdoption, Wanted
from pumas.errors import (
    AdoptionNotFound,
    CorruptState,
    DiskError,
    InvalidInput,
    JobNotFound,
    LastCopy,
    ModelNotFound,
    NotEnoughSpace,
    ReadOnly,
    StoredModelNotFound,
    TimedOut,
    UnsafePath,
)
from pumas.jobs.store import Json
from pumas.rpc.registry import Methods

if TYPE_CHECKING:
    from pumas.adoption.duplicates import Repeated
    from pumas.adoption.found import Store, StoredModel
    from pumas.adoption.scan import Scan

_ON_DISK = (DiskError, NotEnoughSpace, ReadOnly)


def register(methods: Methods, adoption: AdoptionService) -> None:
    @methods.row(
        "scan_model_stores",
        wire.ScanModelStores,
        wire.StoreScan,
        errors=[UnsafePath, InvalidInput, JobNotFound, *_ON_DISK],
    )
    async def scan_model_stores(p: wire.ScanModelStores) -> Json:
        """Find the models of other programs on this machine, and which bytes exist more than once.

        Looks at names, sizes and small manifests; no model file is opened. Hugging Face's cache, Ollama, LM Studio,
        ComfyUI, A1111 and Forge are found by themselves. Answers within ten seconds, else `pending` with a job.
        """
        answer = await adoption.scan(p.folders, known=p.known) if p.job_id is None else await adoption.scanned(p.job_id)
        if answer.scan is None:
            sums = dict.fromkeys(("omitted", "shared_bytes", "freed_bytes", "possible_bytes", "seconds"), 0)
            return {"pending": True, "job_id": answer.job_id, "stores": [], "repeated": [], **sums}
        return _scan(answer.scan, answer.job_id)

    @methods.row(
        "adopt_models",
        wire.AdoptModels,
        wire.AdoptOutcome,
        errors=[StoredModelNotFound, InvalidInput, UnsafePath, TimedOut, *_ON_DISK],
    )
    async def adopt_models(p: wire.AdoptModels) -> wire.AdoptOutcome:
        """Take models of other programs into the library without copying a byte.

        One that fails does not stop the others. Answers within ten seconds with what is done; `pending` items go on in
        the job. `undo_adoption` takes back.
        """
        answer = await adoption.adopt([_wanted(item) for item in p.items], p.mode, p.folders, dry_run=p.dry_run)
        results = [wire.AdoptedItem.model_validate(result) for result in answer.results]
        failed = sum(not result.success for result in results)
        return wire.AdoptOutcome(
            success=failed == 0,
            adopted=len(results) - failed,
            failed=failed,
            size=sum(result.size for result in results if result.success),
            results=results,
            job_id=answer.job_id,
            pending=answer.pending,
        )

    @methods.row("list_adoptions", wire.ListAdoptions, wire.AdoptionList, errors=[*_ON_DISK])
    async def list_adoptions(p: wire.ListAdoptions) -> wire.AdoptionList:
        """List what was adopted, newest first, and whether it is still there."""
        listed, total = await adoption.adoptions(undone=p.undone, limit=p.limit, offset=p.offset)
        return wire.AdoptionList(
            adoptions=[_adoption(one) for one in listed],
            total_count=total,
            size=sum(one.row.size for one in listed if one.present),
        )

    @methods.row(
        "undo_adoption",
        wire.UndoAdoption,
        wire.UndoneAdoption,
        errors=[AdoptionNotFound, LastCopy, InvalidInput, ModelNotFound, UnsafePath, CorruptState, *_ON_DISK],
    )
    async def undo_adoption(p: wire.UndoAdoption) -> wire.UndoneAdoption:
        """Take an adoption back: our names for the files go, the owner's files stay as they are.

        Refused when the owner has the bytes no more; `delete_model_with_cascade` then moves them into the trash.
        """
        undone = await adoption.undo(adoption_id=p.adoption_id, model_id=p.model_id, dry_run=p.dry_run)
        return wire.UndoneAdoption.model_validate(undone)


def _wanted(item: wire.AdoptItem) -> Wanted:
    return Wanted(
        id=item.stored_id,
        store=item.store,
        name=item.name,
        revision=item.revision,
        official_name=item.official_name or "",
        family=item.family or "",
        model_type=item.model_type or "",
        subtype=item.subtype or "",
        tags=tuple(item.tags),
        security_acknowledged=item.security_acknowledged,
        allow_duplicate=item.allow_duplicate,
    )


def _adoption(one: ListedAdoption) -> wire.AdoptionInfo:
    row = one.row
    return wire.AdoptionInfo.model_validate(
        {
            "adoption_id": row.id,
            "model_id": row.model_id,
            "official_name": one.official_name,
            "mode": row.mode,
            "kind": row.kind,
            "store": row.store,
            "name": row.name,
            "revision": row.revision,
            "size": row.size,
            "present": one.present,
            "state": one.state.value,
            "undone": row.state is AdoptionState.UNDONE,
            "trash_id": row.trash_id,
            "created_at": row.created_at,
        }
    )


# -- a scan as plain objects: thousands of files must not cost more to show than to find -----------------------------


def _scan(scan: Scan, job_id: str) -> Json:
    found = scan.duplicates
    return {
        "pending": False,
        "job_id": job_id,
        "stores": [_store(store, scan.in_library) for store in scan.stores],
        "repeated": [_repeated(one) for one in found.repeated],
        "omitted": found.omitted,
        "shared_bytes": found.shared_bytes,
        "freed_bytes": found.freed_bytes,
        "possible_bytes": found.possible_bytes,
        "seconds": round(scan.seconds, 3),
    }


def _store(store: Store, in_library: dict[str, str]) -> Json:
    sizes = {(file.device, file.inode): file.size for model in store.models for file in model.files}
    return {
        "kind": store.kind.value,
        "path": store.path,
        "size": sum(sizes.values()),
        "truncated": store.truncated,
        "models": [_model(model, in_library.get(model.id)) for model in store.models],
        "problems": [{"path": p.path, "kind": p.kind, "message": p.message} for p in store.problems],
        "more_problems": store.more_problems,
    }


def _model(model: StoredModel, in_library: str | None) -> Json:
    return {
        "stored_id": model.id,
        "name": model.name,
        "title": model.title,
        "repo_id": model.repo_id,
        "revision": model.revision,
        "refs": list(model.refs),
        "size": model.size,
        "format": model.format,
        "quantization": model.quantization,
        "in_library": in_library,
        "problem": model.problem or None,
        "files": [
            {
                "name": file.name,
                "path": file.path,
                "size": file.size,
                "links": file.links,
                "claimed_sha256": file.claimed_sha256 or None,
            }
            for file in model.files
        ],
    }


def _repeated(one: Repeated) -> Json:
    return {
        "certainty": one.certainty.value,
        "size": one.size,
        "freed": one.freed,
        "sha256": one.sha256 or None,
        "verified": one.verified,
        "places": [{"store": p.store, "model": p.model, "path": p.path} for p in one.pieces],
    }
