"""Values of the link service as plain objects in wire form (`results.py`).

Ten thousand of them must not cost more to show than to find, so no model of theirs is built.
"""

from __future__ import annotations

from collections.abc import Callable

from pumas.jobs.store import Json
from pumas.links.health import Health
from pumas.links.linking import LinkKind
from pumas.links.service import ApplyAnswer
from pumas.links.store import Link
from pumas.links.values import Action, Applied, Plan, PlannedLink, Unneeded

Absolute = Callable[[str], str]
"""Makes a stored path absolute."""


def plan_object(plan: Plan) -> Json:
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
        "models_link": plan.foreign_link or None,
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


def sum_of(answer: ApplyAnswer) -> Applied:
    """Of the one version that was applied; nothing yet while that is under way."""
    return next(iter(answer.applied.values()), Applied())


def verdict(done: Applied, answer: ApplyAnswer) -> Json:
    failed = {"success": False, "error": done.errors[0]} if done.errors else {}
    return {**failed, "errors": done.errors, "job_id": answer.job_id, "pending": answer.pending}


def health_object(health: Health, absolute: Absolute) -> Json:
    return {
        "status": health.status,
        "total_links": health.total,
        "healthy_links": health.healthy,
        "broken_links": [
            {
                "link_id": one.link.link_id,
                "target_path": one.target,
                "expected_source": absolute(one.link.source_path),
                "model_id": one.link.model_id,
                "reason": one.reason,
            }
            for one in health.broken
        ],
        "orphaned_links": health.orphaned,
        "backups": [
            {"target_path": absolute(one.target_path), "backup_path": absolute(one.kept_path)}
            for one in health.replaced
        ],
        "warnings": health.warnings,
        "errors": [f"{one.target}: {one.reason}" for one in health.broken[:20]],
    }


def link_object(row: Link, absolute: Absolute) -> Json:
    return {
        "link_id": row.link_id,
        "model_id": row.model_id,
        "source_path": absolute(row.source_path),
        "target_path": absolute(row.target_path),
        "link_type": row.link_type,
        "app_id": row.app_id,
        "app_version": row.app_version,
        "is_external": bool(row.is_external),
        "created_at": row.created_at,
    }
