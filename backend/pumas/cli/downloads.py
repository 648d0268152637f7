"""The commands `pumas download` and `pumas downloads`: fetch a model from the hub, see and steer what is fetched."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from pumas.cli import download_following, exits, following, units
from pumas.cli.arguments import BadArgument
from pumas.cli.command import Cli, UsageProblem, command
from pumas.cli.download_following import AT_REST, short, title_of
from pumas.cli.output import STYLES, clean, moment, size
from pumas.client import CallFailed
from pumas.client.wire import failure

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pumas.client.types import (
        DownloadStatus,
        GetModelDownloadStatusResult,
        ScheduleInfo,
        StartModelDownloadFromHfResult,
    )

T = TypeVar("T")
SpeedOption = Annotated[
    str | None,
    typer.Option(metavar="SPEED", help="For all downloads together, such as 20MB/s, 500K, 1.5MiB/s; off: no limit."),
]
IdsArgument = Annotated[
    list[str], typer.Argument(metavar="ID...", help="As shown by pumas downloads; its beginning is enough.")
]


class _ListByDefault(TyperGroup):
    """`pumas downloads` alone, or with options only, lists."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    command(app, "download")(download)
    group = typer.Typer(help="See and steer what is being downloaded.", cls=_ListByDefault)
    command(group, "list")(list_downloads)
    command(group, "show")(show)
    command(group, "watch")(watch)
    command(group, "pause")(pause)
    command(group, "resume")(resume)
    command(group, "cancel")(cancel)
    command(group, "top")(top)
    command(group, "limits")(limits)
    app.add_typer(group, name="downloads")


# -- download --------------------------------------------------------------------------------------------------------


def download(
    cli: Cli,
    repo: Annotated[str, typer.Argument(help="owner/name, or the address of its page.", show_default=False)],
    quant: Annotated[
        str | None, typer.Option(help="Only this quantisation, such as Q4_K_M, with its configuration.")
    ] = None,
    file: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Only files that fit; may be repeated.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit [default: main].")] = None,
    model_type: Annotated[str | None, typer.Option("--type", help="By default found out.")] = None,
    family: Annotated[str | None, typer.Option(help="By default found out.")] = None,
    name: Annotated[str | None, typer.Option(help="The shown name; by default the repository's.")] = None,
    limit: SpeedOption = None,
    accept_pickle: Annotated[
        bool,
        typer.Option(
            "--accept-pickle", "--allow-pickle", help="Accept files that can run code when an app loads them."
        ),
    ] = False,
    allow_duplicate: Annotated[
        bool, typer.Option("--allow-duplicate", help="Download weights that the library has already.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave it to a sidecar that runs; do not follow it.")
    ] = False,
) -> int:
    """Download a model from the Hugging Face hub into the library, or go on with it. Every file is verified."""
    # A sidecar that was started for this command would end with it.
    cli.no_start = cli.no_start or detach
    bytes_per_s = None if limit is None else _read(units.rate, limit)
    began = time.monotonic()
    if bytes_per_s is not None:
        _say_limit(cli, cli.client.set_download_limits(bytes_per_second=bytes_per_s))

    def start() -> StartModelDownloadFromHfResult:
        return cli.client.start_model_download_from_hf(
            repo,
            quant=quant,
            filenames=file,
            revision=revision,
            model_type=model_type,
            family=family,
            official_name=name,
            security_acknowledged=accept_pickle,
            allow_duplicate=allow_duplicate,
        )

    # The call is not broken off by Ctrl-C: only its answer names what is then to be paused.
    try:
        started, stop = following.while_answering(cli, "", "Asking the hub", start)
    except CallFailed as error:
        raise _with_remedy(error) from None
    download_id = started["download_id"]
    cli.out.say(
        f"{started['repo_id']}: {_count(started['files'], 'file')}, {size(started['total_bytes'])}, "
        f"commit {started['revision'][:8]}, download {short(download_id)}"
    )
    if detach:
        return _detached(cli, started)
    follow = download_following.leave if stop else download_following.follow
    (ended,) = follow(cli, [download_id])
    return _say_end(cli, ended, time.monotonic() - began)


# What the sidecar advises -> what to type here.
_REMEDIES = {
    "pickle_not_acknowledged": "add --accept-pickle to download it all the same.",
    "duplicate_model": "add --allow-duplicate to download it all the same.",
}
_INSTEAD = {
    "network_offline": ("set_network_settings turns it off", "pumas call set_network_settings offline=false"),
}


def _with_remedy(error: CallFailed) -> CallFailed:
    """The failure, its advice in the words of the command line."""
    message = str(error)
    if remedy := _REMEDIES.get(error.kind):
        message = f"{message.partition(';')[0]}; {remedy}"
    said, typed = _INSTEAD.get(error.kind, ("", ""))
    return failure(error.kind, message.replace(said, f"turn it off: {typed}") if said else message, error.code)


def _detached(cli: Cli, started: StartModelDownloadFromHfResult) -> int:
    if cli.out.as_json:
        cli.out.document(started)
    else:
        cli.out.table(("download", "repository"), [(started["download_id"], started["repo_id"])])
        cli.out.say(f"Follow it: pumas downloads watch {short(started['download_id'])}")
    return exits.OK


def _say_end(cli: Cli, ended: GetModelDownloadStatusResult, seconds: float) -> int:
    """The one line about how it went, or all of it as a document; the exit status."""
    whole = ended["status"] == "completed"
    verified: Mapping[str, int] = {}
    if whole:
        verified = (cli.client.get_job(ended["download_id"])["job"]["result"] or {}).get("verified") or {}
    if cli.out.as_json:
        why = ended["error"] or f"The download is {ended['status']}."
        outcome = {"success": True} if whole else {"success": False, "error": why}
        cli.out.document({**ended, **outcome, "verified": verified, "seconds": round(seconds, 1)})
        return exits.OK if whole else exits.FAILED
    for warning in ended["warnings"]:
        cli.out.say(warning)
    if not whole:
        cli.out.say(f"pumas: {title_of(ended)}: {_why_not(ended)}")
        return exits.FAILED
    said = (
        f"{ended['model_id']}: {size(ended['total_bytes'])} in {_count(sum(verified.values()), 'file')}, "
        f"{_verified(verified)}, {seconds:.1f} s"
    )
    if cli.out.tty:
        cli.out.line(said)
    else:
        # In a pipe the next program gets what it can use.
        cli.out.say(said)
        cli.out.table((), [(ended["model_id"], ended["model_path"], ended["total_bytes"], f"{seconds:.1f}")])
    return exits.OK


def _verified(by: Mapping[str, int]) -> str:
    ways = [f"{by[kind]} by {name}" for kind, name in (("sha256", "SHA-256"), ("git", "git id")) if by.get(kind)]
    return f"all verified ({', '.join(ways)})"


def _why_not(status: DownloadStatus | GetModelDownloadStatusResult) -> str:
    name = short(status["download_id"])
    if status["status"] == "error":
        return f"{status['error']} What has arrived is kept; try again: pumas downloads resume {name}"
    if status["status"] == "paused":
        return f"paused at {status['progress']:.0%}. Go on with: pumas downloads resume {name}"
    return f"{status['status']}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _read(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except BadArgument as error:
        raise UsageProblem(f"{error}.") from None


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
    from rich import box
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    wide = width >= 110
    table = Table(box=box.SIMPLE, pad_edge=False, header_style="bold", expand=True)
    table.add_column("")
    table.add_column("id", no_wrap=True)
    table.add_column("repository", ratio=1, overflow="fold")
    for heading in ("quant", "status") if wide else ("status",):
        table.add_column(heading, no_wrap=True)
    table.add_column("done", no_wrap=True, width=20 if wide else 10)
    table.add_column("", justify="right", no_wrap=True)
    for heading in ("speed", "left") if wide else ():
        table.add_column(heading, justify="right", no_wrap=True)
    for one in downloads:
        going = one["status"] == "downloading"
        speed = f"{size(one['speed'])}/s" if going else ""
        left = units.duration(one["eta_seconds"]) if going and one["eta_seconds"] is not None else ""
        status = Text(one["status"], style=STYLES.get(one["status"], ""))
        bar = ProgressBar(total=1.0, completed=one["progress"], width=20 if wide else 10)
        share = f"{int(one['progress'] * 100)} %"
        place = "" if one["place"] is None else str(one["place"] + 1)
        name, quant = clean(one["repo_id"]), clean(one["quant"])
        amount = units.of_total(one["downloaded_bytes"], one["total_bytes"])
        if wide:
            table.add_row(place, short(one["download_id"]), name, quant, status, bar, share, speed, left)
        else:
            what = Text(f"{name}\n") + Text(f"{quant}  {amount}".strip(), style="dim")
            pace = f"{share}\n{left}"
            table.add_row(place, short(one["download_id"]), what, status, bar, pace)
    return table


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
    left = status["eta_seconds"]
    facts = {
        "download": status["download_id"],
        "repository": status["repo_id"],
        "commit": status["revision"],
        "quant": status["quant"],
        "status": status["status"],
        "queue": "" if status["place"] is None else f"{status['place']} before it",
        "done": f"{status['progress']:.0%}, {units.of_total(status['downloaded_bytes'], status['total_bytes'])}",
        "speed": f"{size(status['speed'])}/s" if status["speed"] else "",
        "left": "" if left is None or status["status"] in AT_REST else units.duration(left),
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
        typer.Argument(metavar="[ID]...", help="By default all that are under way.", show_default=False),
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
    return max(_say_end(cli, one, time.monotonic() - began) for one in ended)


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
    fitting = [
        one for one in known if word and (one.startswith(word) or one.removeprefix("download-").startswith(word))
    ]
    if word in fitting:
        return word
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
        "bytes_per_second": None if speed is None else _read(units.rate, speed),
        "at_once": at_once,
        "schedule": None if between is None else _read(lambda text: units.hours(text, days), between),
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


def _say_limit(cli: Cli, now: Any) -> None:
    """The limit outlives this command."""
    cli.out.say(f"All downloads together, from now on: {_speed(now['bytes_per_second'])} (pumas downloads limits).")


def _speed(bytes_per_s: int | None) -> str:
    return "no limit" if bytes_per_s is None else f"{size(bytes_per_s)}/s ({bytes_per_s:,} bytes per second)"


def _hours(schedule: ScheduleInfo | None) -> str:
    if schedule is None:
        return "any time"
    days = f" on {', '.join(schedule['days'])}" if schedule["days"] else ""
    return f"{schedule['start']}-{schedule['end']}{days}"
