"""The hub methods: wire models in, plain values out, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pumas.errors import (
    CircuitOpen,
    ConnectionFailed,
    CorruptState,
    DiskError,
    FileUnavailable,
    HttpStatus,
    InvalidInput,
    InvalidReply,
    ModelNotFound,
    Offline,
    RateLimited,
    ReadOnly,
    RepoNotFound,
    RevisionNotFound,
    TimedOut,
    TokenRefused,
    UnsafePath,
)
from pumas.hub import contract as wire
from pumas.hub.service import Found, HubService
from pumas.jobs.store import Json
from pumas.rpc.registry import Methods

if TYPE_CHECKING:
    from pumas.hub.drift import DriftReport
    from pumas.hub.selection import Choice
    from pumas.hub.service import RepoView

MAX_FILES: Final = 2_000
_NETWORK = (Offline, ConnectionFailed, HttpStatus, RateLimited, CircuitOpen, InvalidReply, TimedOut, TokenRefused)


def register(methods: Methods, hub: HubService) -> None:
    @methods.row("search_hf_models", wire.SearchHub, wire.HubResults, errors=[InvalidInput, *_NETWORK])
    async def search_hf_models(p: wire.SearchHub) -> Json:
        """Search Hugging Face for models, most downloaded first.

        One request to the hub; answers are kept for an hour, and served as `stale` while the hub cannot be reached.
        """
        return _results(await hub.search(p.query, p.kind, p.limit))

    @methods.row(
        "get_related_models",
        wire.RelatedModels,
        wire.HubResults,
        errors=[ModelNotFound, UnsafePath, CorruptState, *_NETWORK],
    )
    async def get_related_models(p: wire.RelatedModels) -> Json:
        """Find other models of the same family by the owner of this model's base model.

        Empty when the model's family or its base repository is not known.
        """
        return _results(await hub.related(p.model_id, p.limit))

    @methods.row(
        "get_hf_model",
        wire.GetHubModel,
        wire.HubModel,
        errors=[InvalidInput, RepoNotFound, RevisionNotFound, *_NETWORK],
    )
    async def get_hf_model(p: wire.GetHubModel) -> Json:
        """Show one repository: card, files with sizes and digests, and what a download would fetch.

        Nothing is downloaded. `choice` is what `quant` and `filenames` stand for, and `fits` whether there is room.
        """
        view = await hub.show(p.repo_id, p.revision, quant=p.quant, filenames=p.filenames, card=p.card)
        return _repository(view, p.revision, hub.client.page_url(view.model.repo_id))

    @methods.row(
        "lookup_hf_metadata_for_file",
        wire.LookupFile,
        wire.LookupResult,
        errors=[UnsafePath, InvalidInput, FileUnavailable, *_NETWORK],
    )
    async def lookup_hf_metadata_for_file(p: wire.LookupFile) -> Json:
        """Find the repository that a file is from.

        With `file_path`, its SHA-256 is compared with those of the candidates' files: equal digests prove it. The file
        is hashed only when a candidate has a file of its size; a large one is hashed by a job, and asking again after
        that gives the proof.
        """
        match, local = await hub.lookup(p.filename, p.file_path)
        if match is None:
            return {"found": False, "metadata": None}
        from pumas.hub.lookup import described

        return {"found": True, "metadata": described(match, p.filename or (local.path.name if local else ""), local)}

    @methods.row(
        "list_hf_revisions_drift",
        wire.ListDrift,
        wire.DriftList,
        errors=[ModelNotFound, UnsafePath, CorruptState, DiskError, ReadOnly],
    )
    async def list_hf_revisions_drift(p: wire.ListDrift) -> wire.DriftList:
        """Ask which models of the library have something newer on the hub.

        Compares the files' digests, not only the commit. One request per repository at most once an hour; what was not
        answered within ten seconds is `unasked`.
        """
        models = [_drift(report) for report in await hub.drift(p.model_ids)]
        states = [model.state for model in models]
        return wire.DriftList(models=models, newer=states.count("newer"), unasked=states.count("unasked"))


def _results(found: Found) -> Json:
    asked = found.answer.fetched_at > 0
    return {
        "models": found.models,
        "stale": found.answer.stale,
        "fetched_at": found.answer.fetched if asked else None,
    }


def _drift(report: DriftReport) -> wire.HubDrift:
    return wire.HubDrift(
        model_id=report.held.model_id,
        repo_id=report.held.repo_id,
        revision=report.held.revision,
        state=report.state.value,
        upstream=report.upstream,
        upstream_date=report.upstream_date,
        changed=list(report.changed),
        removed=list(report.removed),
        error=report.error,
        error_code=report.error_code,
        stale=report.stale,
    )


def _repository(view: RepoView, revision: str, url: str) -> Json:
    """A `HubModel` as a plain object: two thousand files must not cost more to build than to fetch."""
    from pumas.hub import metadata
    from pumas.hub.selection import Choice, Contents, refusals, shown

    model, choice = view.model, view.choice
    contents = Contents([file.path for file in model.files], model.repo_id)
    said = metadata.describe(model, choice or Choice((), (), None, 0))
    context = model.gguf.get("context_length")
    total = sum(model.parameters.values()) or model.gguf.get("total")
    return {
        "repo_id": model.repo_id,
        "revision": revision,
        "commit": model.commit,
        "url": url,
        "name": model.name,
        "author": model.author,
        "task": model.pipeline_tag,
        "library": model.library_name,
        "tags": list(model.tags),
        "license": model.license,
        "gated": model.gated if isinstance(model.gated, str) else "auto" if model.gated else "no",
        "private": model.private,
        "base_model": list(model.base_model),
        "downloads": model.downloads,
        "likes": model.likes,
        "last_modified": model.last_modified,
        "parameters": total if isinstance(total, int) else None,
        "context_length": context if isinstance(context, int) else None,
        "architecture": said["architecture"],
        "model_type": said["model_type"],
        "subtype": said["subtype"],
        "family": said["family"],
        "formats": contents.formats,
        "quants": contents.quants,
        "files": [
            {
                "path": shown(file.path),
                "size": file.size,
                "role": str(contents.roles.get(file.path, "refused")),
                "quant": contents.label(file.path) or None,
                "sha256": file.sha256,
                "git_oid": file.git_oid,
            }
            for file in model.files[:MAX_FILES]
        ],
        "file_count": len(model.files),
        "options": [
            {
                "kind": option.kind,
                "quant": option.quant,
                "weights": list(option.weights),
                "file_count": len(option.files),
                "size_bytes": option.size_bytes,
                "fits": view.fits(option.size_bytes),
            }
            for option in view.options
        ],
        "choice": None if choice is None else _choice(choice, view),
        "refused": [{"path": path, "reason": reason} for path, reason in refusals(model, contents).items()],
        "free_bytes": view.free_bytes,
        "held": view.held,
        "card": view.card,
        "card_data": metadata.card_of(model),
        "stale": view.answer.stale,
        "fetched_at": view.answer.fetched,
    }


def _choice(choice: Choice, view: RepoView) -> Json:
    return {
        "quant": choice.quant,
        "files": [file.path for file in choice.files],
        "total_bytes": choice.total_bytes,
        "fits": view.fits(choice.total_bytes),
        "pickles": list(choice.pickles),
        "offered": list(choice.offered),
    }
