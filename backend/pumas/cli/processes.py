"""Commands about running apps: run, stop, ps, logs."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pumas.cli import exits, units
from pumas.cli.command import Cli, command
from pumas.cli.output import moment
from pumas.client import PumasError

if TYPE_CHECKING:
    from pumas.client.sync import EventReader

AppArgument = Annotated[str, typer.Argument(metavar="APP", help="Such as comfyui or ollama.", show_default=False)]


def register(app: typer.Typer) -> None:
    command(app, "run", context_settings={"ignore_unknown_options": True})(run)
    command(app, "stop")(stop)
    command(app, "ps")(ps)
    command(app, "logs")(logs)


def run(
    cli: Cli,
    app: AppArgument,
    args: Annotated[
        list[str] | None, typer.Argument(metavar="ARG", help="For the app itself, behind --.", show_default=False)
    ] = None,
    tag: Annotated[str | None, typer.Option(help="The version [default: the active one].")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="[default: the app's own, or a free one].")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show what it prints; Ctrl-C stops it.")] = False,
) -> int:
    """Start an app. Without a sidecar that stays, it is followed until it ends, and ended by Ctrl-C."""
    client = cli.client

    def launch() -> dict[str, Any]:
        return cast(dict[str, Any], client.launch_app(app, tag=tag, extra_args=args or None, port=port))

    if not (follow or client.started_sidecar):
        _launched(cli, launch())
        return exits.OK
    with ThreadPoolExecutor(1) as pool, client.events(["process"]) as stream:
        answer: Future[dict[str, Any]] | None = None
        try:
            for event in stream.with_ready():
                if answer is None:
                    answer = pool.submit(launch)
                    answer.add_done_callback(lambda done: _say_launched(cli, done, stream))
                elif event.data.get("app_id") == app.lower() and (code := _shown(cli, event.topic, event.data)) != -1:
                    return code
        except KeyboardInterrupt:
            cli.out.say("Stopping …")
            with suppress(PumasError):
                client.stop_app(app_id=app)
            return exits.INTERRUPTED
        if answer is not None:
            answer.result()  # raises why it did not start
    return exits.FAILED


def stop(cli: Cli, app: AppArgument) -> None:
    """Stop an app with all its processes. Only what was started here is ever touched."""
    stopped = cli.client.stop_app(app_id=app)
    if cli.out.as_json:
        cli.out.document(stopped)
    else:
        killed = f", {stopped['killed']} of them killed" if stopped["killed"] else ""
        cli.out.line(f"stopped: {units.count(stopped['stopped'], 'process', 'processes')}{killed}")


def ps(
    cli: Cli,
    ended: Annotated[bool, typer.Option("--all", "-a", help="Also what ended of late.")] = False,
) -> None:
    """List the apps that run, with what each uses. Memory in GiB, load in percent of one core."""
    listed = cli.client.list_processes(ended=ended)
    if cli.out.as_json:
        cli.out.document(listed)
        return
    rows = [
        (
            p["app_id"],
            p["tag"],
            p["state"],
            p["pid"],
            p["url"],
            f"{p['cpu_usage']:.0f} %",
            f"{p['ram_memory']:.2f}",
            f"{p['gpu_memory']:.2f}",
            moment(p["started_at"]),
            p["error"] or "",
        )
        for p in listed["processes"]
    ]
    cli.out.table(("app", "version", "state", "pid", "address", "cpu", "memory", "gpu", "since", "error"), rows)
    if not rows:
        cli.out.say("Nothing runs.")


def logs(
    cli: Cli,
    app: AppArgument,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=2000, help="How many of the last ones.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the app ends or Ctrl-C.")] = False,
) -> int:
    """Show what an app printed, of its newest run, whether that still goes on or not."""
    if not follow:
        found = cli.client.get_process_log(app_id=app, lines=lines)
        if cli.out.as_json:
            cli.out.document(found)
        else:
            _print(cli, found["lines"])
        return exits.OK
    with cli.client.events(["process"]) as stream:
        begun = False
        for event in stream.with_ready():
            if not begun:
                begun = True
                _print(cli, cli.client.get_process_log(app_id=app, lines=lines)["lines"])
                runs = [p for p in cli.client.list_processes(ended=True)["processes"] if p["app_id"] == app.lower()]
                if all(p["state"] == "exited" for p in runs):
                    newest = max(runs, key=lambda p: p["started_at"], default=None)
                    if newest and newest["error"]:
                        cli.out.say(f"pumas: {newest['error']}")
                    return exits.OK
            elif event.data.get("app_id") == app.lower() and _shown(cli, event.topic, event.data) != -1:
                return exits.OK
    return exits.OK


def _shown(cli: Cli, topic: str, data: dict[str, Any]) -> int:
    """Show an event of the app; the exit status when it was the last one, else -1."""
    if topic == "process.log":
        if data.get("skipped_bytes"):
            cli.out.say(f"… {data['skipped_bytes']} bytes left out …")
        _print(cli, data.get("lines", []))
    elif topic == "process.state" and data.get("state") == "exited":
        if data.get("error"):
            cli.out.say(f"pumas: {data['error']}")
        return exits.FAILED if data.get("error") else exits.OK
    return -1


def _say_launched(cli: Cli, answer: Future[dict[str, Any]], stream: EventReader) -> None:
    if answer.exception() is not None:
        stream.close()
    else:
        result = answer.result()
        cli.out.say(f"{'Ready at' if result['ready'] else 'Not ready yet:'} {result['url']}")


def _launched(cli: Cli, result: dict[str, Any]) -> None:
    if cli.out.as_json:
        cli.out.document(result)
    else:
        cli.out.facts({key: result[key] for key in ("url", "ready", "pid", "log_path")})


def _print(cli: Cli, lines: list[str]) -> None:
    for line in lines:
        cli.out.line(line)
