"""Commands about long work: jobs list, show, watch, cancel, pause, resume."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pumas.cli import exits, following
from pumas.cli.advice import typed
from pumas.cli.command import Cli, ListByDefault, command
from pumas.cli.output import moment

if TYPE_CHECKING:
    from pumas.client.types import JobInfo

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="As shown by pumas jobs.", show_default=False)]


class State(enum.StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


def register(app: typer.Typer) -> None:
    jobs = typer.Typer(help="Follow and steer long work. Without a command: list.", cls=ListByDefault)
    command(jobs, "list")(list_jobs)
    command(jobs, "show")(show)
    command(jobs, "watch")(watch)
    for verb, meaning in _STEERING.items():
        _add_steering(jobs, verb, meaning)
    app.add_typer(jobs, name="jobs")


def list_jobs(
    cli: Cli,
    state: Annotated[list[State] | None, typer.Option(help="Only in this state; may be repeated.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only of this kind, for example import.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
) -> None:
    """List jobs, newest first."""
    listed = cli.client.list_jobs(kind=kind, states=[one.value for one in state or ()], limit=limit)
    if cli.out.as_json:
        cli.out.document(listed)
        return
    rows = [
        (
            j["job_id"],
            j["state"],
            f"{j['progress']:.0%}",
            j["title"],
            moment(j["created_at"]),
            j["error"] or _shortfall(j),
        )
        for j in listed["jobs"]
    ]
    cli.out.table(("job", "state", "done", "what", "since", "error"), rows)
    if not rows:
        cli.out.say("No jobs.")


def show(cli: Cli, job_id: JobArgument) -> None:
    """Show all of one job."""
    _show(cli, cli.client.get_job(job_id)["job"])


def watch(cli: Cli, job_id: JobArgument) -> int:
    """Follow a job until it ends; the exit status tells whether it completed."""
    job = following.follow(cli, job_id, "")
    following.say_end(cli, job)
    shortfall = _shortfall(job)
    if shortfall:
        cli.out.say(f"pumas: {job['title']}: {shortfall}")
    _show(cli, job)
    return exits.FAILED if shortfall else following.status_of(job)


def _shortfall(job: JobInfo) -> str:
    """What a job that went through all of its items could not do; "" when there is nothing of the kind."""
    results = cast(list[dict[str, Any]], (job["result"] or {}).get("results") or [])
    failed = [result for result in results if result.get("success") is False]
    if not failed:
        return ""
    why = typed(str(failed[0].get("error") or ""))
    return why if len(results) == 1 else f"{len(failed)} of {len(results)} failed, the first: {why}"


_STEERING = {
    "cancel": "Ask a job to stop for good.",
    "pause": "Ask a job to stop where it is, to be resumed later.",
    "resume": "Go on with a paused job, or try a failed one again.",
}


def _add_steering(jobs: typer.Typer, verb: str, meaning: str) -> None:
    def steer(cli: Cli, job_id: JobArgument) -> None:
        _show(cli, cli.client.call(f"{verb}_job", {"job_id": job_id})["job"])

    steer.__doc__ = meaning
    command(jobs, verb)(steer)


def _show(cli: Cli, job: JobInfo) -> None:
    if cli.out.as_json:
        cli.out.document({"success": True, "job": job})
    else:
        cli.out.facts({key: value for key, value in cast(dict[str, Any], job).items() if value not in (None, "")})
