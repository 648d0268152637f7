"""Turns the answers of the hub's work into the objects of `results.py`, as plain JSON values.

Plain, because two thousand files or a hundred search results must not cost more to check than to fetch; the contract
tests hold them to the declared results.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pumas.hub import lookup, metadata
from pumas.hub.drift import Drift, DriftReport
from pumas.hub.lookup import LocalFile, Match
from pumas.hub.model import Json
from pumas.hub.selection import Choice, Contents, lacking, refusals, shown
from pumas.hub.work import Found, RepoView

MAX_FILES: Final = 2_000


def results(found: Found) -> Json:
    """A `HubResults`."""
    answer = found.answer
    return {
        "models": found.models,
        "stale": answer is not None and answer.stale,
        "fetched_at": None if answer is None else answer.fetched,
    }


def match(found: Match | None, local: LocalFile | None, filename: str) -> Json:
    """A `LookupResult`."""
    if found is None:
        return {"found": False, "metadata": None}
    name = filename or (local.path.name if local else "")
    return {"found": True, "metadata": lookup.described(found, name, local)}


def drift(reports: Sequence[DriftReport]) -> Json:
    """A `DriftList`."""
    states = [report.state for report in reports]
    models = [
        {
            "model_id": report.held.model_id,
            "repo_id": report.held.repo_id,
            "revision": report.held.revision,
            "state": str(report.state),
            "upstream": report.upstream,
            "upstream_date": report.upstream_date,
            "changed": list(report.changed),
            "removed": list(report.removed),
            "error": report.error,
            "error_code": report.error_code,
            "stale": report.stale,
        }
        for report in reports
    ]
    return {"models": models, "newer": states.count(Drift.NEWER), "unasked": states.count(Drift.UNASKED)}


def repository(view: RepoView, url: str) -> Json:
    """A `HubModel`."""
    model, choice = view.model, view.choice
    contents = Contents([file.path for file in model.files], model.repo_id)
    said = metadata.describe(model, choice or Choice((), (), None, 0))
    context = model.gguf.get("context_length")
    total = sum(model.parameters.values()) or model.gguf.get("total")
    refused = refusals(model, contents) | lacking(contents.weights_in(contents.paths))
    return {
        "repo_id": model.repo_id,
        "revision": view.revision,
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
        "refused": [{"path": path, "reason": reason} for path, reason in refused.items()],
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
