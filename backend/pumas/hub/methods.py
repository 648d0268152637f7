"""The hub methods: wire models in, plain values out; `shaping.py` turns answers into wire form."""

from __future__ import annotations

import asyncio
from typing import Final

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
from pumas.hub.service import HubService
from pumas.jobs.store import Json
from pumas.rpc.registry import Methods, ResultsOf

_results: Final = ResultsOf("pumas.hub.results")
_NETWORK = (Offline, ConnectionFailed, HttpStatus, RateLimited, CircuitOpen, InvalidReply, TimedOut, TokenRefused)


def register(methods: Methods, hub: HubService) -> None:
    @methods.row("search_hf_models", wire.SearchHub, _results.HubResults, errors=[InvalidInput, *_NETWORK])
    async def search_hf_models(p: wire.SearchHub) -> Json:
        """Search Hugging Face for models, most downloaded first.

        One request to the hub; answers are kept for an hour, and served as `stale` while the hub cannot be reached.
        """
        found = await (await hub.work()).search(p.query, p.kind, p.limit)
        from pumas.hub import shaping

        return shaping.results(found)

    @methods.row(
        "get_related_models",
        wire.RelatedModels,
        _results.HubResults,
        errors=[ModelNotFound, UnsafePath, CorruptState, *_NETWORK],
    )
    async def get_related_models(p: wire.RelatedModels) -> Json:
        """Find other models of the same family by the owner of this model's base model.

        Empty when the model's family or its base repository is not known.
        """
        found = await (await hub.work()).related(p.model_id, p.limit)
        from pumas.hub import shaping

        return shaping.results(found)

    @methods.row(
        "get_hf_model",
        wire.GetHubModel,
        _results.HubModel,
        errors=[InvalidInput, RepoNotFound, RevisionNotFound, *_NETWORK],
    )
    async def get_hf_model(p: wire.GetHubModel) -> Json:
        """Show one repository: card, files with sizes and digests, and what a download would fetch.

        Nothing is downloaded. `choice` is what `quant` and `filenames` stand for, and `fits` whether there is room.
        """
        work = await hub.work()
        view = await work.show(p.repo_id, p.revision, quant=p.quant, filenames=p.filenames, card=p.card)
        from pumas.hub import shaping

        url = hub.client.page_url(view.model.repo_id)
        return await asyncio.to_thread(shaping.repository, view, url)

    @methods.row(
        "lookup_hf_metadata_for_file",
        wire.LookupFile,
        _results.LookupResult,
        errors=[UnsafePath, InvalidInput, FileUnavailable, *_NETWORK],
    )
    async def lookup_hf_metadata_for_file(p: wire.LookupFile) -> Json:
        """Find the repository that a file is from.

        With `file_path`, its SHA-256 is compared with those of the candidates' files: equal digests prove it. The file
        is hashed only when a candidate has a file of its size; a large one is hashed by a job, and asking again after
        that gives the proof.
        """
        match, local = await (await hub.work()).origins.find(p.filename, p.file_path)
        from pumas.hub import shaping

        return shaping.match(match, local, p.filename)

    @methods.row(
        "list_hf_revisions_drift",
        wire.ListDrift,
        _results.DriftList,
        errors=[ModelNotFound, UnsafePath, CorruptState, DiskError, ReadOnly],
    )
    async def list_hf_revisions_drift(p: wire.ListDrift) -> Json:
        """Ask which models of the library have something newer on the hub.

        Compares the files' digests, not only the commit. One request per repository at most once an hour; what was not
        answered within ten seconds is `unasked`.
        """
        reports = await (await hub.work()).drift(p.model_ids)
        from pumas.hub import shaping

        return await asyncio.to_thread(shaping.drift, reports)
