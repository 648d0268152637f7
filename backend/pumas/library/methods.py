"""The library methods: wire models in, plain values out, and back. `file_methods.py` has those about files outside."""

from __future__ import annotations

from typing import Any

from pumas.errors import (
    AlreadyExists,
    CorruptState,
    DiskError,
    DuplicateModel,
    FileUnavailable,
    InvalidInput,
    ModelNotFound,
    NotAModel,
    NotEnoughSpace,
    PickleNotAcknowledged,
    ReadOnly,
    SeveralModels,
    TimedOut,
    TrashEntryNotFound,
    UnsafePath,
)
from pumas.jobs.store import Json
from pumas.library import contract as wire
from pumas.library import file_methods
from pumas.library.copying import Mode
from pumas.library.entry import formats_and_quantizations
from pumas.library.import_plan import ImportRequest
from pumas.library.search import Filters, Hit
from pumas.library.service import ImportAnswer, LibraryService
from pumas.library.trash import TrashEntry
from pumas.rpc.jsontext import Encoded
from pumas.rpc.models import NoParams
from pumas.rpc.registry import Methods

_ON_DISK = (DiskError, NotEnoughSpace, ReadOnly)
_ON_MODEL = (ModelNotFound, UnsafePath, CorruptState)
_OF_SOURCE = (
    UnsafePath,
    InvalidInput,
    FileUnavailable,
    NotAModel,
    SeveralModels,
    PickleNotAcknowledged,
    DuplicateModel,
)


def register(methods: Methods, library: LibraryService) -> None:
    file_methods.register(methods)
    _register_finding(methods, library)
    _register_models(methods, library)
    _register_imports(methods, library)
    _register_trash(methods, library)


def _register_finding(methods: Methods, library: LibraryService) -> None:
    catalog = library.catalog

    @methods.row("get_models", NoParams, dict[str, wire.ModelEntry], errors=[DiskError, ReadOnly])
    async def get_models(_p: NoParams) -> Encoded:
        """List all models, keyed by their id.

        Cheap while nothing changes. The first call after a start waits a few seconds for the first look at the disk.
        """
        return Encoded(await catalog.models_json())

    @methods.row("search_models_fts", wire.SearchModels, wire.SearchResult, errors=[TimedOut, DiskError, ReadOnly])
    async def search_models_fts(p: wire.SearchModels) -> Json:
        """Search names, tags, families, types and descriptions.

        Every word matches as a prefix; names count more than tags, tags more than descriptions. When no model has all
        words, models with any of them are shown and `matched` is `any`. No text is a syntax error.
        """
        page = await library.search(p.query, _filters(p), p.apps, limit=p.limit, offset=p.offset, sort=p.sort)
        return {
            "models": [_found(hit, library.folder_of(hit.id)) for hit in page.hits],
            "total_count": page.total,
            "query_time_ms": page.took_ms,
            "query": page.query,
            "matched": page.match,
        }

    @methods.row("get_model_facets", wire.CountFacets, wire.FacetsReply, errors=[TimedOut, DiskError, ReadOnly])
    async def get_model_facets(p: wire.CountFacets) -> wire.FacetsReply:
        """Count models by type, family, format, quantisation, size band, tag and the apps they are linked into.

        Of all models (cheap while nothing changes), or of those that `search_models_fts` finds by the same words and
        filters. A value's count is what choosing it would find: types, families, formats, quantisations, sizes and
        apps are each counted without their own filter.
        """
        return wire.FacetsReply.model_validate(await library.facets(p.query, _filters(p), p.apps))

    @methods.row("refresh_model_index", NoParams, wire.Indexed, errors=[DiskError, ReadOnly])
    async def refresh_model_index(_p: NoParams) -> wire.Indexed:
        """Look at every model folder now and bring the index up to date.

        In a huge library the look may take longer than this call; it goes on, and `library.changed` tells of it.
        """
        await catalog.reconcile()
        return wire.Indexed(indexed_count=(await catalog.status()).model_count)

    @methods.row("scan_shared_storage", NoParams, wire.StorageScan, errors=[DiskError, ReadOnly])
    async def scan_shared_storage(_p: NoParams) -> wire.StorageScan:
        """Count models, workflows and bytes. Made to be polled."""
        scan = await catalog.storage_scan()
        return wire.StorageScan(
            modelsFound=scan.models,
            workflowsFound=scan.workflows,
            customNodesFound=scan.custom_nodes,
            totalSize=scan.total_size,
        )

    @methods.row("get_library_status", NoParams, wire.LibraryStatus, errors=[DiskError, ReadOnly])
    async def get_library_status(_p: NoParams) -> wire.LibraryStatus:
        """Say how the library is: how many models, whether it is being read, and what is wrong with which file."""
        status = await catalog.status()
        troubles = library.troubles()
        return wire.LibraryStatus(
            indexing=status.indexing,
            deep_scan_in_progress=library.verifying(),
            model_count=status.model_count,
            pending_lookups=status.pending_lookups,
            last_scan=status.last_scan,
            state=status.state,
            trouble_count=troubles.count,
            troubles=[wire.TroubleInfo.model_validate(trouble) for trouble in troubles.list()],
        )


def _filters(p: wire.ModelFilters) -> Filters:
    return Filters(
        model_types=[*p.model_types, *([p.model_type] if p.model_type else [])],
        tags=p.tags,
        families=p.families,
        formats=p.formats,
        quants=p.quants,
        sizes=p.sizes,
    )


def _found(hit: Hit, folder: str) -> Json:
    """A `FoundModel` as a plain object: a page of a hundred must not cost more to build than to find."""
    found: Json = hit._asdict()
    del found["primary_file"]
    found["formats"], found["quants"] = formats_and_quantizations(found.pop("kinds"))
    found["model_id"] = found["path"] = hit.id
    found["file_path"] = folder
    found["repo_id"] = hit.repo_id or None
    found["security_tier"] = hit.security_tier or None
    return found


def _register_models(methods: Methods, library: LibraryService) -> None:
    @methods.row("get_model", wire.ModelId, wire.ModelDetail, errors=_ON_MODEL)
    async def get_model(p: wire.ModelId) -> wire.ModelDetail:
        """Show one model's metadata and overrides as they are on disk."""
        return wire.ModelDetail.model_validate(await library.detail(p.model_id))

    @methods.row("get_model_overrides", wire.RelPath, dict[str, Any], errors=_ON_MODEL)
    async def get_model_overrides(p: wire.RelPath) -> Json:
        """Show which versions of an app a model is limited to."""
        return await library.overrides(p.rel_path)

    @methods.row("update_model_overrides", wire.UpdateOverrides, None, errors=[InvalidInput, *_ON_MODEL, *_ON_DISK])
    async def update_model_overrides(p: wire.UpdateOverrides) -> None:
        """Limit a model to versions of an app, in the syntax of Python version specifiers."""
        await library.update_overrides(p.rel_path, p.overrides)

    @methods.row("update_model", wire.EditModel, None, errors=[*_ON_MODEL, *_ON_DISK])
    async def update_model(p: wire.EditModel) -> None:
        """Change what a person may say about a model: names, tags, notes. Protected from automatic changes after that.

        The model stays in its folder.
        """
        await library.edit(p.model_id, p.model_dump(exclude={"model_id"}, exclude_none=True))

    @methods.row("mark_metadata_as_manual", wire.ModelId, None, errors=[*_ON_MODEL, *_ON_DISK])
    async def mark_metadata_as_manual(p: wire.ModelId) -> None:
        """Protect a model's metadata from automatic changes."""
        await library.mark_manual(p.model_id)

    @methods.row("verify_library", wire.VerifyLibrary, wire.Started, errors=[ModelNotFound, UnsafePath])
    async def verify_library(p: wire.VerifyLibrary) -> wire.Started:
        """Start a job that hashes files again and reports what is not as it was recorded.

        A recorded digest is never replaced; a missing one is filled in.
        """
        job = await library.verify(p.model_ids)
        return wire.Started(job_id=job.id)


def _register_imports(methods: Methods, library: LibraryService) -> None:
    @methods.row("import_model", wire.ImportModel, wire.ImportOutcome, errors=[*_OF_SOURCE, *_ON_DISK])
    async def import_model(p: wire.ImportModel) -> wire.ImportOutcome:
        """Import a model file or folder into the library, as a copy unless asked otherwise.

        Answers within ten seconds, or `wait_seconds`: with the imported model, or with `pending` and the job that goes
        on.
        """
        request = _request(p, p.local_path, p.family, p.official_name, dry_run=p.dry_run)
        answer = await library.import_models([request], p.wait_seconds)
        if answer.pending:
            result: Json = {"path": p.local_path, "success": True, "pending": True}
        else:
            result = answer.results[0]
        return wire.ImportOutcome.model_validate({**result, "job_id": answer.job_id})

    @methods.row("import_batch", wire.ImportBatch, wire.BatchOutcome, errors=[*_ON_DISK])
    async def import_batch(p: wire.ImportBatch) -> wire.BatchOutcome:
        """Import several files and folders, in order; one that fails does not stop the others.

        Answers within ten seconds, or `wait_seconds`, with what is done; `pending` items go on in the job.
        """
        requests = [
            _request(spec, spec.path, spec.family, spec.official_name or "", dry_run=p.dry_run)
            for spec in p.import_specs
        ]
        return batch_outcome(await library.import_models(requests, p.wait_seconds))


def batch_outcome(answer: ImportAnswer) -> wire.BatchOutcome:
    results = [wire.ImportItem.model_validate(result) for result in answer.results]
    failed = sum(not result.success for result in results)
    return wire.BatchOutcome(
        success=failed == 0,
        imported=len(results) - failed,
        failed=failed,
        results=results,
        job_id=answer.job_id,
        pending=answer.pending,
    )


def _request(p: wire.ImportOptions, path: str, family: str, official_name: str, *, dry_run: bool) -> ImportRequest:
    return ImportRequest(
        path=path,
        family=family,
        official_name=official_name,
        repo_id=p.repo_id,
        model_type=p.model_type or "",
        subtype=p.subtype or "",
        tags=tuple(p.tags),
        security_acknowledged=p.security_acknowledged,
        mode=Mode(p.mode),
        allow_duplicate=p.allow_duplicate,
        dry_run=dry_run,
    )


def _register_trash(methods: Methods, library: LibraryService) -> None:
    @methods.row(
        "delete_model_with_cascade", wire.DeleteModel, wire.Deleted, errors=[ModelNotFound, UnsafePath, *_ON_DISK]
    )
    async def delete_model_with_cascade(p: wire.DeleteModel) -> wire.Deleted:
        """Move a model into the trash and take its links away; `restore_model` brings all of it back."""
        entry = await library.delete(p.model_id, dry_run=p.dry_run)
        return wire.Deleted(
            links_removed=entry.companions,
            trash_id=None if p.dry_run else entry.trash_id,
            model_ids=list(entry.model_ids),
            size=entry.size,
        )

    @methods.row("list_trash", NoParams, wire.TrashList, errors=[*_ON_DISK])
    async def list_trash(_p: NoParams) -> wire.TrashList:
        """List deleted models, newest first."""
        return wire.TrashList(entries=[_trash_entry(entry) for entry in await library.trash()])

    @methods.row(
        "restore_model", wire.RestoreModel, wire.Restored, errors=[TrashEntryNotFound, AlreadyExists, *_ON_DISK]
    )
    async def restore_model(p: wire.RestoreModel) -> wire.Restored:
        """Bring a deleted model back to where it was, with its links."""
        entry = await library.restore(p.trash_id, dry_run=p.dry_run)
        return wire.Restored(model_id=entry.model_id, model_ids=list(entry.model_ids), links_restored=entry.companions)

    @methods.row("empty_trash", wire.EmptyTrash, wire.Emptied, errors=[TrashEntryNotFound, *_ON_DISK])
    async def empty_trash(p: wire.EmptyTrash) -> wire.Emptied:
        """Remove deleted models for ever."""
        removed = await library.empty_trash(p.trash_ids, older_than_days=p.older_than_days, dry_run=p.dry_run)
        return wire.Emptied(removed=[_trash_entry(entry) for entry in removed], freed=sum(e.size for e in removed))


def _trash_entry(entry: TrashEntry) -> wire.TrashEntry:
    return wire.TrashEntry.model_validate(entry)
