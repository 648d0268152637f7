"""The link methods: wire models in, plain values out; `shaping.py` turns answers into wire form."""

from __future__ import annotations

import asyncio
from typing import Final

from pumas.errors import (
    DiskError,
    InvalidInput,
    NotEnoughSpace,
    PlanOutdated,
    ReadOnly,
    UnknownApp,
    VersionNotFound,
)
from pumas.jobs.store import Json
from pumas.library.reconcile import LibraryOffline
from pumas.links import contract as wire
from pumas.links.service import LinkService
from pumas.rpc.models import NoParams
from pumas.rpc.registry import Methods, ResultsOf

_results: Final = ResultsOf("pumas.links.results")
_ON_DISK = (LibraryOffline, DiskError, NotEnoughSpace, ReadOnly)
_NO_PLACE = (UnknownApp, VersionNotFound, InvalidInput)


def register(methods: Methods, links: LinkService) -> None:
    _register_mapping(methods, links)
    _register_links(methods, links)


def _register_mapping(methods: Methods, links: LinkService) -> None:
    @methods.row("preview_model_mapping", wire.PreviewMapping, _results.MappingPlan, errors=[*_NO_PLACE, *_ON_DISK])
    async def preview_model_mapping(p: wire.PreviewMapping) -> Json:
        """Say what would be done so that a version of an app finds the library's models. Changes nothing."""
        plan = await links.plan(
            p.app_id, p.version_tag, allow_copy=p.allow_copy, replace_models_link=p.replace_models_link
        )
        from pumas.links import shaping

        return await asyncio.to_thread(shaping.plan_object, plan)

    @methods.row(
        "apply_model_mapping", wire.ApplyMapping, _results.AppliedMapping, errors=[PlanOutdated, *_NO_PLACE, *_ON_DISK]
    )
    async def apply_model_mapping(p: wire.ApplyMapping) -> Json:
        """Make the missing links of a version and remove its broken ones; conflicts are not touched.

        Applying twice does nothing the second time. With the `plan_id` of a preview it is refused when anything that
        matters has changed since. Answers within ten seconds, else `pending` with a job.
        """
        answer = await links.apply(
            p.app_id,
            p.version_tag,
            plan_id=p.plan_id,
            allow_copy=p.allow_copy,
            replace_models_link=p.replace_models_link,
        )
        from pumas.links import shaping

        done = shaping.sum_of(answer)
        return {
            **shaping.verdict(done, answer),
            "links_created": done.created,
            "links_removed": done.removed,
            "total_links": done.total,
            "links_skipped": done.skipped,
            "conflicts": done.conflicts,
            "copied_bytes": done.copied_bytes,
        }

    @methods.row("sync_models_incremental", wire.SyncModels, _results.SyncedModels, errors=[*_NO_PLACE, *_ON_DISK])
    async def sync_models_incremental(p: wire.SyncModels) -> Json:
        """Apply the mapping of these models only."""
        answer = await links.apply(p.app_id, p.version_tag, model_ids=p.model_ids)
        from pumas.links import shaping

        done = shaping.sum_of(answer)
        return {
            **shaping.verdict(done, answer),
            "links_created": done.created,
            "links_updated": done.updated,
            "links_skipped": done.skipped,
            "conflicts": done.conflicts,
        }

    @methods.row(
        "sync_with_resolutions",
        wire.SyncWithResolutions,
        _results.Resolved,
        errors=[PlanOutdated, *_NO_PLACE, *_ON_DISK],
    )
    async def sync_with_resolutions(p: wire.SyncWithResolutions) -> Json:
        """Apply the mapping and do about conflicts what is said for their model. Nothing in the way is deleted.

        What makes room for a link is moved aside: `backups` says where to.
        """
        answer = await links.apply(
            p.app_id,
            p.version_tag,
            plan_id=p.plan_id,
            resolutions=p.resolutions,
            allow_copy=p.allow_copy,
            replace_models_link=p.replace_models_link,
        )
        from pumas.links import shaping

        done = shaping.sum_of(answer)
        return {
            **shaping.verdict(done, answer),
            "links_created": done.created,
            "links_skipped": done.skipped + done.conflicts,
            "links_renamed": done.renamed,
            "overwrites": done.overwritten,
            "backups": done.kept,
        }

    @methods.row("refresh_model_mappings", wire.OfApp, _results.RefreshedMappings, errors=[UnknownApp, *_ON_DISK])
    async def refresh_model_mappings(p: wire.OfApp) -> Json:
        """Look at the library anew and apply the mapping of every installed version of an app."""
        answer = await links.refresh(p.app_id)
        return {
            "results": {tag: done.total for tag, done in answer.applied.items()},
            "job_id": answer.job_id,
            "pending": answer.pending,
        }

    @methods.row(
        "get_cross_filesystem_warning", wire.OfVersion, _results.CrossFilesystem, errors=[UnknownApp, InvalidInput]
    )
    async def get_cross_filesystem_warning(p: wire.OfVersion) -> Json:
        """Say whether the library and a version lie on different volumes."""
        across = await links.across(p.app_id, p.version_tag)
        if across is None:
            return {"cross_filesystem": False}
        library, app = across
        return {
            "cross_filesystem": True,
            "library_path": library,
            "app_path": app,
            "warning": "The library and the app lie on different volumes: links are absolute, and break when the "
            "library is moved or its drive is away.",
            "recommendation": "Keep the launcher's folder, with its apps and its library, on one volume.",
        }


def _register_links(methods: Methods, links: LinkService) -> None:
    @methods.row("get_link_health", wire.LinkHealth, _results.LinkReport, errors=[UnknownApp, InvalidInput, *_ON_DISK])
    async def get_link_health(p: wire.LinkHealth) -> Json:
        """Look at every link that we made, and at one version's folder for links that nobody needs."""
        health = await links.health(p.app_id, p.version_tag)
        from pumas.links import shaping

        return await asyncio.to_thread(shaping.health_object, health, links.absolute)

    @methods.row("clean_broken_links", NoParams, _results.CleanedLinks, errors=[*_ON_DISK])
    async def clean_broken_links(_p: NoParams) -> Json:
        """Remove links of ours that lead nowhere. Files on a drive that is away do not count as gone."""
        return {"cleaned": await links.clean_broken()}

    @methods.row(
        "remove_orphaned_links",
        wire.RemoveOrphans,
        _results.RemovedOrphans,
        errors=[UnknownApp, InvalidInput, *_ON_DISK],
    )
    async def remove_orphaned_links(p: wire.RemoveOrphans) -> Json:
        """Remove links of ours that no rule wants any more, and those of `paths`. Others are never touched."""
        done = await links.remove_orphans(p.app_id, p.version_tag, p.paths)
        return {"removed": done.removed, "kept": done.kept}

    @methods.row("get_links_for_model", wire.LinksOfModel, _results.Links, errors=[*_ON_DISK])
    async def get_links_for_model(p: wire.LinksOfModel) -> object:
        """List the links of a model in all apps."""
        rows = await links.of_model(p.model_id)
        from pumas.links import results, shaping

        objects = (shaping.link_object(row, links.absolute) for row in rows)
        return [results.LinkInfo.model_validate(one) for one in objects]

    @methods.row("list_links", wire.ListLinks, _results.LinkList, errors=[*_ON_DISK])
    async def list_links(p: wire.ListLinks) -> Json:
        """List all links, or those of an app or a version, in order of their paths."""
        rows, total = await links.list(p.app_id, p.version_tag, limit=p.limit, offset=p.offset)
        from pumas.links import shaping

        return {"links": [shaping.link_object(row, links.absolute) for row in rows], "total_count": total}
