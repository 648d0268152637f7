"""The commands `pumas apps …` and `pumas install`: which apps there are, their versions, and bringing them here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pumas.cli import units
from pumas.cli.command import Cli, ListByDefault, UsageProblem, command
from pumas.cli.following import interrupted, say_end, status_of
from pumas.cli.output import clean, moment, size
from pumas.client import CallFailed
from pumas.config import Layout

if TYPE_CHECKING:
    from pumas.client.types import InstallationProgress, JobInfo

AppArgument = Annotated[str, typer.Argument(metavar="APP", help="As shown by pumas apps.")]
TagArgument = Annotated[str, typer.Argument(metavar="TAG", help="As shown by pumas apps versions APP.")]
OWN_APPS = Layout(Path()).apps
STAGES = ("download", "extract", "venv", "dependencies", "setup")
Show = Callable[["InstallationProgress | None"], None]


def version_in_use(cli: Cli, app: str, tag: str) -> str:
    """The tag that was given, else that of the version in use: there is one as soon as any is installed whole.

    Raises UsageProblem.
    """
    found = tag or cli.client.get_active_version(app_id=app)["version"]
    if not found:
        raise UsageProblem(f"no version of {app} is installed: pumas install {app} installs one.")
    return found


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Apps that use your models, and their versions. Without a command: list.", cls=ListByDefault
    )
    command(group, "list")(list_apps)
    command(group, "versions")(versions)
    command(group, "use")(use)
    command(group, "update")(update)
    command(group, "rollback")(rollback)
    command(group, "remove")(remove)
    command(group, "restore")(restore)
    command(group, "purge")(purge)
    app.add_typer(group, name="apps")
    command(app, "install")(install)


def list_apps(cli: Cli) -> None:
    """List the apps that can be installed. This is what pumas apps does by itself."""
    listed = cli.client.list_apps()
    if cli.out.as_json:
        cli.out.document(listed)
        return
    rows = [
        (app["app_id"], app["name"], app["active"], ", ".join(app["installed"]), app["description"])
        for app in listed["apps"]
    ]
    cli.out.table(("app", "name", "in use", "installed", "what it is"), rows)
    for trouble in cli.client.get_library_status()["troubles"]:
        if Path(trouble["subject"]).is_relative_to(OWN_APPS):
            cli.out.say(f"{trouble['subject']}: {trouble['message']}")


def versions(
    cli: Cli,
    app: AppArgument,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask GitHub now.")] = False,
) -> None:
    """List the releases of an app, and which are installed."""
    installed = cli.client.get_installed_versions(app_id=app)["versions"]
    available = cli.client.get_available_versions(app_id=app, force_refresh=refresh)
    if not available["versions"] and not refresh:
        available = cli.client.get_available_versions(app_id=app, force_refresh=True)
    if cli.out.as_json:
        cli.out.document({"installed": installed, **available})
        return
    active = cli.client.get_active_version(app_id=app)["version"]
    offered = {release["tag_name"]: release for release in available["versions"]}
    rows: list[tuple[object, ...]] = []
    for tag in [*offered, *(tag for tag in installed if tag not in offered)]:
        state = "in use" if tag == active else "installed" if tag in installed else ""
        release = offered.get(tag)
        if release is None:
            rows.append((tag, "", "", state))
        else:
            rows.append((tag, moment(release["published_at"])[:10], size(release["total_size"]), state))
    cli.out.table(("tag", "published", "size", "here"), rows)
    if wait := available.get("retry_after_secs"):
        cli.out.say(f"GitHub allows no more questions for {units.duration(wait)}; this is the list known so far.")


def use(cli: Cli, app: AppArgument, tag: TagArgument) -> None:
    """Make an installed version the one in use."""
    done = cli.client.switch_version(tag, app_id=app)
    _said(cli, done, f"{app} {tag} is in use.")


def update(cli: Cli, app: AppArgument) -> int:
    """Install the newest release and use it. pumas apps rollback takes it back."""
    cli.client.get_available_versions(app_id=app, force_refresh=True)
    accepted = cli.client.update_version(app_id=app)
    job_id = accepted["job_id"]
    if job_id is None:
        _said(cli, accepted, f"{app} {accepted['tag']} is the newest, and in use.")
        return 0
    return _end(cli, app, accepted["tag"], _followed(cli, app, accepted["tag"], job_id))


def rollback(cli: Cli, app: AppArgument) -> None:
    """Take the last switch, update or new build back."""
    done = cli.client.rollback_version(app_id=app)
    _said(cli, done, f"{app} {done['tag']} is in use again.")


def remove(
    cli: Cli,
    app: AppArgument,
    tag: TagArgument,
    last: Annotated[bool, typer.Option("--last", help="Also the one in use, when no other is installed.")] = False,
) -> None:
    """Move a version to the trash."""
    done = cli.client.remove_version(tag, app_id=app, last=last)
    _said(cli, done, f"Removed. Bring it back with: pumas apps restore {app} {done['trash_id']}")


def restore(
    cli: Cli,
    app: AppArgument,
    trash_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Left out: list what can be restored.", show_default=False)
    ] = None,
) -> None:
    """Bring a removed version back."""
    if trash_id is not None:
        done = cli.client.restore_version(trash_id, app_id=app)
        _said(cli, done, f"{app} {done['tag']} is back.")
        return
    listed = cli.client.list_removed_versions(app_id=app)
    if cli.out.as_json:
        cli.out.document(listed)
        return
    rows = [(one["trash_id"], one["tag"], one["reason"], moment(one["removed_at"])) for one in listed["versions"]]
    cli.out.table(("id", "tag", "why", "since"), rows)
    if not rows:
        cli.out.say(f"No version of {app} is in the trash.")


def purge(
    cli: Cli,
    app: AppArgument,
    trash_id: Annotated[str, typer.Argument(metavar="ID", help="As shown by pumas apps restore APP.")],
) -> None:
    """Remove a version from the trash for good."""
    done = cli.client.purge_removed_version(trash_id, app_id=app)
    _said(cli, done, "Removed for good.")


def install(
    cli: Cli,
    app: AppArgument,
    tag: Annotated[str | None, typer.Argument(metavar="TAG", help="Left out: the newest.", show_default=False)] = None,
    use_it: Annotated[bool, typer.Option("--use", help="Make it the version in use.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Build it anew although it is installed.")] = False,
) -> int:
    """Install a version of an app, with live bars for each stage."""
    chosen = tag or _newest(cli, app)
    if tag is not None:
        _know(cli, app, tag)
    job_id = cli.client.install_version(chosen, app_id=app, activate=use_it, reinstall=again)["job_id"]
    return _end(cli, app, chosen, _followed(cli, app, chosen, job_id))


def _newest(cli: Cli, app: str) -> str:
    found = cli.client.get_available_versions(app_id=app, force_refresh=True)["versions"]
    final = [release["tag_name"] for release in found if not release["prerelease"]]
    if not final:
        raise UsageProblem(f"{app} has no release that is known. Name one: pumas install {app} TAG")
    return final[0]


def _know(cli: Cli, app: str, tag: str) -> None:
    """A release that is not known yet may be new."""
    known = cli.client.get_available_versions(app_id=app)["versions"]
    if tag not in [release["tag_name"] for release in known]:
        try:
            cli.client.get_available_versions(app_id=app, force_refresh=True)
        except CallFailed as error:
            cli.out.say(f"GitHub could not be asked: {error}")


def _said(cli: Cli, done: Any, text: str) -> None:
    if cli.out.as_json:
        cli.out.document(done)
    else:
        cli.out.line(text)


def _followed(cli: Cli, app: str, tag: str, job_id: str) -> JobInfo:
    try:
        with _bars(cli, f"{app} {tag}") as show:

            def tell(_event: object) -> None:
                show(cli.client.get_installation_progress(app_id=app))

            job = cli.client.wait_for_job(job_id, tell, check=False)
            show(cli.client.get_installation_progress(app_id=app))
            return job
    except KeyboardInterrupt:
        return interrupted(cli, job_id)


def _end(cli: Cli, app: str, tag: str, job: JobInfo) -> int:
    if cli.out.as_json:
        cli.out.document(job)
    elif job["state"] == "completed":
        cli.out.line(f"{app} {tag} is installed.")
        for warning in (job["result"] or {}).get("warnings", []):
            cli.out.say(f"Warning: {warning}")
    else:
        say_end(cli, job)
        progress = cli.client.get_installation_progress(app_id=app)
        if progress and progress["log_path"]:
            cli.out.say(f"What happened: {progress['log_path']}")
    return status_of(job)


@contextmanager
def _bars(cli: Cli, title: str) -> Generator[Show]:
    """One bar for each stage on a terminal, one line for each stage elsewhere, nothing with --json."""
    if cli.out.as_json:
        yield lambda _progress: None
    elif not sys.stderr.isatty():
        yield _lines(cli, title)
    else:
        with _drawn(title) as show:
            yield show


def _lines(cli: Cli, title: str) -> Show:
    told = ""

    def show(progress: InstallationProgress | None) -> None:
        nonlocal told
        if progress is not None and progress["stage"] != told:
            told = progress["stage"]
            cli.out.say(f"{title}: {told}")

    return show


@contextmanager
def _drawn(title: str) -> Generator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description:<13}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        whole = bars.add_task(clean(title)[:40], total=100, note="")
        tasks = {stage: bars.add_task(f"  {stage}", total=100, note="") for stage in STAGES}

        def show(progress: InstallationProgress | None) -> None:
            if progress is None:
                return
            bars.update(whole, completed=progress["overall_progress"])
            at = STAGES.index(progress["stage"])
            for number, stage in enumerate(STAGES):
                done = 100 if number < at else progress["stage_progress"] if number == at else 0
                bars.update(tasks[stage], completed=done, note=_note(progress) if number == at else "")

        yield show


def _note(progress: InstallationProgress) -> str:
    """What the stage is at: bytes and pace, packages, or the tool's last words."""
    if progress["stage"] == "download":
        total, speed = progress["total_size"], progress["download_speed"]
        done = units.of_total(progress["downloaded_bytes"], total) if total else size(progress["downloaded_bytes"])
        return f"{done} {size(speed)}/s" if speed else done
    if progress["stage"] == "dependencies" and progress["dependency_count"]:
        return f"{progress['completed_dependencies']}/{progress['dependency_count']} {clean(progress['current_item'])}"[
            :60
        ]
    return clean(progress["current_item"])[:60]
