"""The command `pumas download`: a model from the Hugging Face hub into the library, followed to its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from pumas.cli import download_following, exits, following, units
from pumas.cli.command import Cli, command, parsed
from pumas.cli.download_following import short, title_of
from pumas.cli.hf import names_less
from pumas.cli.output import at_terminal, size
from pumas.client import CallFailed
from pumas.client.wire import failure

if TYPE_CHECKING:
    from pumas.client.types import GetModelDownloadStatusResult, SetDownloadLimitsResult, StartModelDownloadFromHfResult

# Also the kind of the option that takes everything.
_ALL = "all"

SpeedOption = Annotated[
    str | None,
    typer.Option(metavar="SPEED", help="For all downloads together, such as 20MB/s, 500K, 1.5MiB/s; off: no limit."),
]


def register(app: typer.Typer) -> None:
    command(app, "download")(download)


def download(
    cli: Cli,
    repo: Annotated[
        str,
        typer.Argument(metavar="REPO", help="owner/name, owner/name:Q4_K_M, or an address.", show_default=False),
    ],
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
    began = time.monotonic()
    if limit is not None:
        _say_limit(cli, cli.client.set_download_limits(bytes_per_second=parsed(units.rate, limit)))

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
        if not (quant or file or cli.out.as_json) and at_terminal():
            quant = _asked_quant(cli, repo, revision)
        started, stop = following.while_answering(cli, "", "Asking the hub", start)
    except CallFailed as error:
        raise failure(error.kind, _advised(error.kind, str(error)), error.code, error.details) from None
    download_id = started["download_id"]
    cli.out.say(
        f"{started['repo_id']}: {units.count(started['files'], 'file')}, {size(started['total_bytes'])}, "
        f"commit {started['revision'][:8]}, download {short(download_id)}"
    )
    if detach:
        return _detached(cli, started)
    follow = download_following.leave if stop else download_following.follow
    (ended,) = follow(cli, [download_id])
    return say_end(cli, ended, time.monotonic() - began)


def _asked_quant(cli: Cli, repo: str, revision: str | None) -> str | None:
    """Which of several quantisations the user wants; None: all there is, or there are not several."""
    found = cli.client.get_hf_model(repo, revision=revision)
    ways = {option["quant"] or _ALL: option for option in found["options"] if option["kind"] in ("quant", _ALL)}
    if len([option for option in ways.values() if option["kind"] == "quant"]) < 2:
        return None
    if names_less(found):
        return None  # the address has said it
    for name, option in ways.items():
        room = "" if option["fits"] else "  does not fit on the disk"
        cli.out.say(f"  {name:<12} {size(option['size_bytes']):>8}{room}")

    def known(text: str) -> str:
        for name in ways:
            if name.lower() == text.strip().lower():
                return name
        raise typer.BadParameter("it is none of these.")

    wanted = typer.prompt("Which one?", value_proc=known, err=True)
    return None if wanted == _ALL else wanted


def _say_limit(cli: Cli, now: SetDownloadLimitsResult) -> None:
    """It outlives this command, and is not for this download alone."""
    speed = now["bytes_per_second"]
    lift = "" if speed is None else "; to lift it: pumas downloads limits --speed off"
    cli.out.say(f"All downloads from now on: {'no limit' if speed is None else f'{size(speed)}/s together'}{lift}")


# What the sidecar advises -> what to type here.
_ADVICE = {
    "pickle_not_acknowledged": "add --accept-pickle to download it all the same",
    "duplicate_model": "add --allow-duplicate to download it all the same",
    "network_offline": "turn it off: pumas call set_network_settings offline=false",
    "connection_failed": "see what is wrong: pumas call get_network_status",
    "repo_not_found": "look for another: pumas hf search WORDS",
}
# These end a download for good; after all others it can go on.
_NOTHING_KEPT = ("pickle_not_acknowledged", "duplicate_model")


def _advised(kind: str, message: str) -> str:
    """The failure with its advice, which stands last, in the words of the command line."""
    if kind not in _ADVICE:
        return message
    return f"{message.rpartition('; ')[0] or message.rstrip('.')}; {_ADVICE[kind]}."


def _detached(cli: Cli, started: StartModelDownloadFromHfResult) -> int:
    if cli.out.as_json:
        cli.out.document(started)
    else:
        cli.out.table(("download", "repository"), [(started["download_id"], started["repo_id"])])
        cli.out.say(f"Follow it: pumas downloads watch {short(started['download_id'])}")
    return exits.OK


def say_end(cli: Cli, ended: GetModelDownloadStatusResult, seconds: float) -> int:
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
        f"{ended['model_id']}: {size(ended['total_bytes'])} in {units.count(sum(verified.values()), 'file')}, "
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


def _why_not(status: GetModelDownloadStatusResult) -> str:
    name, kind = short(status["download_id"]), status["error_code"]
    if status["status"] == "error":
        kept = "" if kind in _NOTHING_KEPT else f" What has arrived is kept; try again: pumas downloads resume {name}"
        return f"{_advised(kind, status['error'])}{kept}"
    if status["status"] == "paused":
        return f"paused at {status['progress']:.0%}. Go on with: pumas downloads resume {name}"
    return f"{status['status']}."
