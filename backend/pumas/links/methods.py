"""The link methods: wire models in, plain values out, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
from pumas.links.service import ApplyAnswer, LinkService
from pumas.rpc.models import NoParams
from pumas.rpc.registry import Methods

if TYPE_CHECKING:
    from pumas.links.health import Health
    from pumas.links.store import Link
    from pumas.links.values import Applied, Plan, PlannedLink, Unneeded

_ON_DISK = (LibraryOffline, DiskError, NotEnoughSpace, ReadOnly)
_NO_PLACE = (UnknownApp, VersionNotFound, InvalidInput)


def register(methods: Methods, links: LinkService) -> None:
    _register_mapping(methods, links)
    _register_links(methods, links)


def _register_mapping(methods: Methods, links: LinkService) -> None:
    @methods.row("preview_model_mapping", wire.PreviewMapping, wire.MappingPlan, errors=[*_NO_PLACE, *_ON_DISK])
    async def preview_model_mapping(p: wire.PreviewMapping) -> Json:
        """Say what would be done so that a version of an app finds the library's models. Changes nothing."""
        return _plan(await links.plan(p.app_id, p.version_tag, allow_copy=p.allow_copy))

    @methods.row(
        "apply_model_mapping", wire.ApplyMapping, wire.AppliedMapping, errors=[PlanOutdated, *_NO_PLACE, *_ON_DISK]
    )
    async def apply_model_mapping(p: wire.ApplyMapping) -> Json:
        """Make the missing links of a version and remove its broken ones; conflicts are not touched.

        Applying twice does nothing the second time. With the `plan_id` of a preview it is refused when anything that
        matters has changed since. Answers within ten seconds, else `pending` with a job.
        """
        answer = await links.apply(p.app_id, p.version_tag, plan_id=p.plan_id, allow_copy=p.allow_copy)
        done = _sum(answer)
        return {
            **_verdict(done, answer),
            "links_created": done.created,
            "links_removed": done.removed,
            "total_links": done.total,
            "links_skipped": done.skipped,
            "conflicts": done.conflicts,
            "copied_bytes": done.copied_bytes,
        }

    @methods.row("sync_models_incremental", wire.SyncModels, wire.SyncedModels, errors=[*_NO_PLACE, *_ON_DISK])
    async def sync_models_incremental(p: wire.SyncModels) -> Json:
        """Apply the mapping of these models only."""
        answer = await links.apply(p.app_id, p.version_tag, model_ids=p.model_ids)
        done = _sum(answer)
        return {
            **_verdict(done, answer),
            "links_created": done.created,
            "links_updated": done.updated,
            "links_skipped": done.skipped,
            "conflicts": done.conflicts,
        }

    @methods.row(
        "sync_with_resolutions", wire.SyncWithResolutions, wire.Resolved, errors=[PlanOutdated, *_NO_PLACE, *_ON_DISK]
    )
    async def sync_with_resolutions(p: wire.SyncWithResolutions) -> Json:
        """Apply the mapping and do about conflicts what is said for their model. Nothing in the way is deleted.

        What makes room for a link is moved aside: `backups` says where to.
        """
        answer = await links.apply(
            p.app_id, p.version_tag, plan_id=p.plan_id, resolutions=p.resolutions, allow_copy=p.allow_copy
        )
        done = _sum(answer)
        return {
            **_verdict(done, answer),
            "links_created": done.created,
            "links_skipped": done.skipped + done.conflicts,
            "links_renamed": done.renamed,
            "overwrites": done.overwritten,
            "backups": done.kept,
        }

    @methods.row("refresh_model_mappings", wire.OfApp, wire.RefreshedMappings, errors=[UnknownApp, *_ON_DISK])
    async def refresh_model_mappings(p: wire.OfApp) -> Json:
        """Look at the library anew and apply the mapping of every installed version of an app."""
        answer = await links.refresh(p.app_id)
        return {
            "results": {tag: done.total for tag, done in answer.applied.items()},
            "job_id": answer.job_id,
            "pending": answer.pending,
        }

    @methods.row(
        "get_cross_filesystem_warning", wire.OfVersion, wire.CrossFilesystem, errors=[UnknownApp, InvalidInput]
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
    @methods.row("get_link_health", wire.LinkHealth, wire.LinkReport, errors=[UnknownApp, InvalidInput, *_ON_DISK])
    async def get_link_health(p: wire.LinkHealth) -> Json:
        """Look at every link that we made, and at one version's folder for links that nobody needs."""
        return _health(await links.health(p.app_id, p.version_tag), links)

    @methods.row("clean_broken_links", NoParams, wire.CleanedLinks, errors=[*_ON_DISK])
    async def clean_broken_links(_p: NoParams) -> wire.CleanedLinks:
        """Remove links of ours that lead nowhere. Files on a drive that is away do not count as gone."""
        return wire.CleanedLinks(cleaned=await links.clean_broken())

    @methods.row(
        "remove_orphaned_links",
        wire.RemoveOrphans,
        wire.RemovedOrphans,
        errors=[UnknownApp, InvalidInput, *_ON_DISK],
    )
    async def remove_orphaned_links(p: wire.RemoveOrphans) -> wire.RemovedOrphans:
        """Remove links of ours that no rule wants any more, and those of `paths`. Others are never touched."""
        done = await links.remove_orphans(p.app_id, p.version_tag, p.paths)
        return wire.RemovedOrphans(removed=done.removed, kept=done.kept)

    @methods.row("get_links_for_model", wire.LinksOfModel, list[wire.LinkInfo], errors=[*_ON_DISK])
    async def get_links_for_model(p: wire.LinksOfModel) -> list[wire.LinkInfo]:
        """List the links of a model in all apps."""
        return [_link(row, links) for row in await links.of_model(p.model_id)]

    @methods.row("list_links", wire.ListLinks, wire.LinkList, errors=[*_ON_DISK])
    async def list_links(p: wire.ListLinks) -> wire.LinkList:
        """List all links, or those of an app or a version, in order of their paths."""
        rows, total = await links.list(p.app_id, p.version_tag, limit=p.limit, offset=p.offset)
        return wire.LinkList(links=[_link(row, links) for row in rows], total_count=total)


# -- values as plain objects: ten thousand of them must not cost more to show than to find ---------------------------


def _plan(plan: Plan) -> Json:
    from pumas.links.linking import LinkKind
    from pumas.links.values import Action

    to_create = plan.of(Action.CREATE, Action.UPDATE)
    skipped, conflicts, copies = plan.of(Action.SKIP), plan.of(Action.CONFLICT), plan.of(Action.COPY)
    return {
        "plan_id": plan.id,
        "to_create": [{**_action(link), "link_type": link.kind.value, **_copy_size(link)} for link in to_create],
        "to_skip_exists": [_action(link) for link in skipped],
        "conflicts": [{**_action(link), "existing_target": link.existing} for link in conflicts],
        "broken_to_remove": [_unneeded(one) for one in plan.broken],
        "needs_copy": [{**_action(link), **_copy_size(link)} for link in copies],
        "unwanted": [_unneeded(one) for one in plan.unwanted],
        "total_actions": len(to_create) + len(skipped) + len(conflicts) + len(plan.broken),
        "copy_bytes": sum(link.size for link in to_create if link.kind is LinkKind.COPY),
        "warnings": plan.warnings,
        "errors": plan.errors,
    }


def _action(link: PlannedLink) -> Json:
    return {
        "model_id": link.model_id,
        "model_name": link.model_name,
        "source_path": link.source,
        "target_path": link.target,
        "reason": link.reason,
    }


def _copy_size(link: PlannedLink) -> Json:
    return {"size": link.size} if link.size else {}


def _unneeded(one: Unneeded) -> Json:
    return {"target_path": one.target, "existing_target": one.existing, "reason": one.reason}


def _sum(answer: ApplyAnswer) -> Applied:
    """Of the one version that was applied; nothing yet while that is under way."""
    from pumas.links.values import Applied

    return next(iter(answer.applied.values()), Applied())


def _verdict(done: Applied, answer: ApplyAnswer) -> Json:
    failed = {"success": False, "error": done.errors[0]} if done.errors else {}
    return {**failed, "errors": done.errors, "job_id": answer.job_id, "pending": answer.pending}


def _health(health: Health, links: LinkService) -> Json:
    return {
        "status": health.status,
        "total_links": health.total,
        "healthy_links": health.healthy,
        "broken_links": [
            {
                "link_id": one.link.link_id,
                "target_path": one.target,
                "expected_source": links.absolute(one.link.source_path),
                "model_id": one.link.model_id,
                "reason": one.reason,
            }
            for one in health.broken
        ],
        "orphaned_links": health.orphaned,
        "backups": [
            {"target_path": links.absolute(one.target_path), "backup_path": links.absolute(one.kept_path)}
            for one in health.replaced
        ],
        "warnings": health.warnings,
        "errors": [f"{one.target}: {one.reason}" for one in health.broken[:20]],
    }


def _link(row: Link, links: LinkService) -> wire.LinkInfo:
    return wire.LinkInfo.model_validate(
        {
            "link_id": row.link_id,
            "model_id": row.model_id,
            "source_path": links.absolute(row.source_path),
            "target_path": links.absolute(row.target_path),
            "link_type": row.link_type,
            "app_id": row.app_id,
            "app_version": row.app_version,
            "is_external": bool(row.is_external),
            "created_at": row.created_at,
        }
    )
