"""The commands `pumas downloads …`: see and steer what is being downloaded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pumas.cli import download_following, exits, units
from pumas.cli.command import Cli, ListByDefault, UsageProblem, command, parsed
from pumas.cli.download import SpeedOption, say_end
from pumas.cli.download_following import AT_REST, PREFIX, short
from pumas.cli.download_view import WIDE
from pumas.cli.output import STYLES, clean, moment, size
from pumas.client.wire import failure

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pumas.client.types import (
        DownloadStatus,
        GetModelDownloadStatusResult,
        ScheduleInfo,
    )

IdsArgument = Annotated[
    list[str], typer.Argument(metavar="ID", help="As shown by pumas downloads; its beginning is enough.")
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="See and steer what is being downloaded. Without a command: list.", cls=ListByDefault)
    command(group, "list")(list_downloads)
    command(group, "show")(show)
    command(group, "watch")(watch)
    command(group, "pause")(pause)
    command(group, "resume")(resume)
    command(group, "cancel")(cancel)
    command(group, "top")(top)
    command(group, "limits")(limits)
    app.add_typer(group, name="downloads")


# -- the queue -------------------------------------------------------------------------------------------------------


def list_downloads(
    cli: Cli,
    everything: Annotated[bool, typer.Option("--all", help="Also finished and cancelled ones.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
) -> None:
    """List downloads in the order of the queue. This is what pumas downloads does by itself."""
    listed = cli.client.list_model_downloads(finished=everything, limit=limit)
    if cli.out.as_json:
        cli.out.document(listed)
        return
    _table(cli, listed["downloads"])
    if not listed["downloads"]:
        cli.out.say("Nothing is being downloaded." if not everything else "Nothing was downloaded yet.")
    elif cli.client.started_sidecar and any(one["status"] not in AT_REST for one in listed["downloads"]):
        cli.out.say("They go on while a sidecar runs: pumas serve, or pumas downloads watch.")


def _table(cli: Cli, downloads: Sequence[DownloadStatus]) -> None:
    if not cli.out.tty:
        cli.out.table((), [_row(one) for one in downloads])
        return
    if downloads:
        from rich.console import Console

        console = Console()
        console.print(_drawn(downloads, console.width))
    for one in downloads:
        if said := one["error"] or one["message"]:
            cli.out.say(f"{short(one['download_id'])}: {said}")


def _row(one: DownloadStatus) -> tuple[object, ...]:
    """For a pipe: exact numbers."""
    place, eta = one["place"], one["eta_seconds"]
    return (
        "" if place is None else place + 1,
        one["download_id"],
        one["repo_id"],
        one["quant"],
        one["status"],
        one["downloaded_bytes"],
        one["total_bytes"],
        round(one["speed"]),
        "" if eta is None else round(eta),
        one["error"] or one["message"],
    )


def _drawn(downloads: Sequence[DownloadStatus], width: int) -> RenderableType:
    """One line each where there is room, else two."""
    from rich import box
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    wide = width >= WIDE
    bar = 12 if wide else 10
    headings = ("quant", "status", "done", "", "size", "speed", "left") if wide else ("status", "done", "")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", expand=True)
    for heading in ("#", "id"):
        table.add_column(heading, no_wrap=True)
    table.add_column("repository", ratio=1, overflow="fold")
    for heading in headings:
        right = heading in ("", "size", "speed", "left")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for one in downloads:
        place = "" if one["place"] is None else str(one["place"] + 1)
        name, quant = Text(clean(one["repo_id"])), clean(one["quant"])
        status = Text(one["status"], style=STYLES.get(one["status"], ""))
        done = ProgressBar(total=1.0, completed=one["progress"], width=bar)
        share, amount = f"{int(one['progress'] * 100)} %", size(one["total_bytes"])
        speed, left = _pace(one)
        if wide:
            table.add_row(place, short(one["download_id"]), name, quant, status, done, share, amount, speed, left)
        else:
            name.append(f"\n{f'{quant} {amount}'.strip()}", "dim")
            table.add_row(place, short(one["download_id"]), name, status.append(f"\n{speed}"), done, f"{share}\n{left}")
    return table


def _pace(one: DownloadStatus | GetModelDownloadStatusResult) -> tuple[str, str]:
    """Speed and time left, while bytes come."""
    if one["status"] != "downloading":
        return "", ""
    left = one["eta_seconds"]
    return f"{size(one['speed'])}/s", "" if left is None else units.duration(left)


def show(
    cli: Cli,
    download_id: Annotated[str, typer.Argument(metavar="ID", help="As shown by pumas downloads.", show_default=False)],
) -> None:
    """Show all of one download, with its files."""
    (found,) = _resolved(cli, [download_id])
    status = cli.client.get_model_download_status(found, files=True)
    if cli.out.as_json:
        cli.out.document(status)
        return
    speed, left = _pace(status)
    facts = {
        "download": status["download_id"],
        "repository": status["repo_id"],
        "commit": status["revision"],
        "quant": status["quant"],
        "status": status["status"],
        "queue": "" if status["place"] is None else f"{status['place']} before it",
        "done": f"{status['progress']:.0%}, {units.of_total(status['downloaded_bytes'], status['total_bytes'])}",
        "speed": speed,
        "left": left,
        "message": status["message"],
        "error": status["error"],
        "retries": status["retries"] or "",
        "began again": status["restarts"] or "",
        "model": status["model_id"],
        "folder": status["model_path"],
        "warnings": " ".join(status["warnings"]),
        "since": moment(status["created_at"]),
        "until": moment(status["finished_at"]),
    }
    cli.out.facts({key: value for key, value in facts.items() if value not in (None, "")})
    files = [(f["path"], f["state"], size(f["downloaded"]), size(f["size"])) for f in status.get("files") or ()]
    cli.out.table(("file", "state", "here", "size"), files)


# -- steering --------------------------------------------------------------------------------------------------------


def watch(
    cli: Cli,
    download_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="By default all that are under way.", show_default=False),
    ] = None,
) -> int:
    """Follow downloads until they end; the exit status tells whether all completed."""
    if download_ids:
        return _follow_all(cli, _resolved(cli, download_ids))
    listed = cli.client.list_model_downloads(finished=False, limit=1000)["downloads"]
    under_way = [one["download_id"] for one in listed if one["status"] not in AT_REST]
    if not under_way:
        cli.out.say("Nothing is being downloaded.")
        if cli.out.as_json:
            cli.out.document({"success": True, "downloads": []})
        return exits.OK
    return _follow_all(cli, under_way)


def _follow_all(cli: Cli, download_ids: Sequence[str]) -> int:
    began = time.monotonic()
    ended = download_following.follow(cli, download_ids)
    if cli.out.as_json:
        whole = all(one["status"] == "completed" for one in ended)
        cli.out.document({"success": whole, "downloads": ended})
        return exits.OK if whole else exits.FAILED
    return max(say_end(cli, one, time.monotonic() - began) for one in ended)


def pause(cli: Cli, download_ids: IdsArgument) -> int:
    """Stop downloads where they are; what has arrived is kept."""
    return _steer(cli, download_ids, "pause", "paused")


def cancel(cli: Cli, download_ids: IdsArgument) -> int:
    """Stop downloads for good and remove what has arrived."""
    return _steer(cli, download_ids, "cancel", "cancelled")


def resume(cli: Cli, download_ids: IdsArgument) -> int:
    """Go on with paused downloads, or try failed ones again, from where they were."""
    found = _resolved(cli, download_ids)
    for one in found:
        status = cli.client.get_model_download_status(one)["status"]
        if status in AT_REST:
            cli.client.resume_model_download(one)
    if cli.client.started_sidecar:
        # It would end with this command, and they with it.
        return _follow_all(cli, found)
    return _show_steered(cli, [cli.client.get_model_download_status(one) for one in found], None)


def _steer(cli: Cli, words: Sequence[str], verb: str, wanted: str) -> int:
    return _show_steered(cli, [download_following.settle(cli, one, verb) for one in _resolved(cli, words)], wanted)


def _show_steered(cli: Cli, statuses: Sequence[GetModelDownloadStatusResult], wanted: str | None) -> int:
    done = all(wanted in (None, one["status"]) for one in statuses)
    if cli.out.as_json:
        cli.out.document({"success": done, "downloads": statuses})
    else:
        cli.out.table(
            ("id", "repository", "quant", "status"),
            [(short(one["download_id"]), one["repo_id"], one["quant"], one["status"]) for one in statuses],
        )
    return exits.OK if done else exits.FAILED


def top(cli: Cli, download_ids: IdsArgument) -> None:
    """Put downloads first in the queue, in this order. Running ones are not stopped."""
    ordered = cli.client.reorder_model_downloads(_resolved(cli, download_ids))
    if cli.out.as_json:
        cli.out.document(ordered)
    else:
        _table(cli, ordered["downloads"])


def _resolved(cli: Cli, words: Sequence[str]) -> list[str]:
    """Whole ids for beginnings of ids, each once.

    Raises:
        CallFailed: no download begins so.
        UsageProblem: several do.
    """
    known = [one["download_id"] for one in cli.client.list_model_downloads(limit=1000)["downloads"]]
    return list(dict.fromkeys(_one(known, word) for word in words))


def _one(known: Sequence[str], word: str) -> str:
    start = word.removeprefix(PREFIX)
    fitting = [one for one in known if word and one.removeprefix(PREFIX).startswith(start)]
    if len(fitting) > 1:
        raise UsageProblem(f"{len(fitting)} downloads begin with {word[:60]!r}: {', '.join(map(short, fitting[:5]))}.")
    if not fitting:
        raise failure("download_not_found", f"No download begins with {word[:60]!r}; pumas downloads --all shows all.")
    return fitting[0]


# -- limits ----------------------------------------------------------------------------------------------------------


def limits(
    cli: Cli,
    speed: SpeedOption = None,
    at_once: Annotated[int | None, typer.Option(help="How many run at a time.")] = None,
    between: Annotated[
        str | None, typer.Option(metavar="FROM-TO", help="Only in these hours, such as 22:00-07:00 (local time).")
    ] = None,
    days: Annotated[
        str | None, typer.Option(metavar="DAYS", help="On which the hours begin, such as mon,tue or mon-fri.")
    ] = None,
    any_time: Annotated[bool, typer.Option("--any-time", help="Remove the hours.")] = False,
) -> None:
    """Show or change how fast, how many at once, and in which hours. Holds until it is changed again."""
    if days is not None and between is None:
        raise UsageProblem("--days goes with --between FROM-TO.")
    if between is not None and any_time:
        raise UsageProblem("--between and --any-time exclude each other: choose one.")
    wanted: dict[str, Any] = {
        "bytes_per_second": None if speed is None else parsed(units.rate, speed),
        "at_once": at_once,
        "schedule": None if between is None else parsed(lambda text: units.hours(text, days), between),
        "any_time": any_time or None,
    }
    change = any(value is not None for value in wanted.values())
    now = cli.client.set_download_limits(**wanted) if change else cli.client.get_download_limits()
    if cli.out.as_json:
        cli.out.document(now)
        return
    cli.out.facts(
        {
            "speed": _speed(now["bytes_per_second"]),
            "at once": now["at_once"],
            "hours": _hours(now["schedule"]),
            "now": "downloads run" if now["open"] else "downloads wait for these hours",
        }
    )


def _speed(bytes_per_s: int | None) -> str:
    return "no limit" if bytes_per_s is None else f"{size(bytes_per_s)}/s ({bytes_per_s:,} bytes per second)"


def _hours(schedule: ScheduleInfo | None) -> str:
    if schedule is None:
        return "any time"
    days = f" on {', '.join(schedule['days'])}" if schedule["days"] else ""
    return f"{schedule['start']}-{schedule['end']}{days}"
