"""Commands about the sidecar itself: open, status, call, events, doctor."""

from __future__ import annotations

import difflib
import json
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer

from pumas.cli import arguments, exits, page, units
from pumas.cli.command import Cli, UsageProblem, command
from pumas.cli.output import size
from pumas.client import MethodNotFound, NotReachable, PumasError, discovery
from pumas.client.page import session_code
from pumas.config import Layout, contracts_folder
from pumas.errors import PumasError as OwnError


def register(app: typer.Typer) -> None:
    command(app, "open")(open_page)
    command(app, "status")(status)
    command(app, "call")(call)
    command(app, "events")(events)
    command(app, "doctor")(doctor)


def open_page(
    cli: Cli,
    url: Annotated[bool, typer.Option("--url", help="Print its address, good once and for two minutes.")] = False,
) -> None:
    """Open the page of the running sidecar in the browser."""
    endpoint = discovery.find(cli.root)
    if endpoint is None:
        raise NotReachable(f"No sidecar runs for {cli.root}. Start one and open its page: pumas serve --open")
    code = session_code(endpoint)
    if url or cli.out.as_json:
        address = page.address(endpoint.url, code)
        cli.out.document({"success": True, "url": address}) if cli.out.as_json else cli.out.line(address)
        return
    try:
        page.open_in_browser(Layout(cli.root), endpoint.url, code)
    except OwnError as error:
        raise NotOpened(f"{error} pumas open --url prints the page's address for a browser elsewhere.") from None


class NotOpened(PumasError):
    """The page could not be shown."""

    kind = "not_opened"


def status(cli: Cli) -> None:
    """Show the sidecar, the library and what is going on."""
    client = cli.client
    library, disk = client.get_library_status(), client.get_disk_space()
    active = client.list_jobs(states=["queued", "running", "paused"])["jobs"]
    system = client.get_status()
    if cli.out.as_json:
        sidecar = {"url": client.url, "root": str(cli.root), "started_for_this_command": client.started_sidecar}
        cli.out.document(
            {"success": True, "sidecar": sidecar, "library": library, "disk": disk, "jobs": active, "status": system}
        )
        return
    where = "started for this command" if client.started_sidecar else client.url
    cli.out.facts(
        {
            "sidecar": where,
            "root": cli.root,
            "version": system["version"],
            "library": f"{library['state']}, {units.count(library['model_count'], 'model')}",
            "indexing": "yes" if library["indexing"] else "no",
            "disk": f"{size(disk['free'])} free of {size(disk['total'])}",
            "jobs": f"{len(active)} not finished" if active else "none",
            "troubles": library["trouble_count"] or "none",
        }
    )
    if library["trouble_count"]:
        cli.out.say("pumas doctor shows the troubles.")
    if system["message"]:
        cli.out.say(system["message"])


def _methods() -> list[dict[str, Any]]:
    """Of the contract, as OpenRPC describes them; none when it cannot be read."""
    with suppress(OSError, ValueError, KeyError):
        return json.loads((contracts_folder() / "openrpc.json").read_bytes())["methods"]
    return []


def _method_names(incomplete: str) -> list[str]:
    """For shell completion."""
    return [method["name"] for method in _methods() if method["name"].startswith(incomplete)]


def _schemas(method: str) -> dict[str, dict[str, Any]]:
    """Of the method's parameters, by name."""
    found = [one["params"] for one in _methods() if one["name"] == method]
    return {parameter["name"]: parameter["schema"] for parameters in found for parameter in parameters}


def _given(method: str, words: list[str]) -> dict[str, Any]:
    return arguments.document(sys.stdin.read()) if words == ["-"] else arguments.parameters(words, _schemas(method))


def call(
    cli: Cli,
    method: Annotated[
        str,
        typer.Argument(metavar="METHOD", help="Name on the wire.", autocompletion=_method_names, show_default=False),
    ],
    params: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="A value is JSON when it parses as such, unless the method wants text; "
            "- alone reads a JSON object from stdin.",
        ),
    ] = None,
) -> None:
    """Call any method and print its result as JSON."""
    words = params or []
    cli.out.verbatim = True
    try:
        given = _given(method, words)
    except arguments.BadArgument as error:
        raise UsageProblem(f"{error}. Give parameters as key=value, or - to read a JSON object.") from None
    try:
        answer = cli.client.call(method, given)
    except MethodNotFound as error:
        near = difflib.get_close_matches(method, _method_names(""), 3)
        advice = f"Did you mean {', '.join(near)}?" if near else "pumas call rpc.discover lists them."
        raise MethodNotFound(f"{error}. {advice}", error.code, error.details) from None
    cli.out.document(answer)


def events(
    cli: Cli,
    topic: Annotated[list[str] | None, typer.Option(help="Only this topic or its children; may be repeated.")] = None,
    after: Annotated[int | None, typer.Option(help="Begin after the event with this cursor.")] = None,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="End after so many events.")] = None,
) -> None:
    """Follow the event stream until Ctrl-C. With --json, one JSON document per line."""
    with cli.client.events(topic or (), after) as stream:
        for number, event in enumerate(stream, 1):
            if cli.out.as_json:
                document: dict[str, Any] = {"topic": event.topic, "cursor": event.cursor, "data": event.data}
                sys.stdout.write(json.dumps(document) + "\n")
            else:
                words = " ".join(f"{key}={value}" for key, value in event.data.items() if value not in (None, ""))
                cli.out.line(f"{event.cursor or '-'} {event.topic} {words}")
            sys.stdout.flush()
            if number == count:
                return


def doctor(cli: Cli) -> int:
    """Check this installation and its root. Each line says ok, warn or fail, and what to do."""
    from pumas.cli.checks import run_checks

    found = run_checks(cli)
    failed = any(check.verdict == "fail" for check in found)
    if cli.out.as_json:
        cli.out.document({"success": not failed, "checks": [check.to_json() for check in found]})
    else:
        cli.out.table(("", "check", "finding", "what to do"), [(c.verdict, c.name, c.finding, c.remedy) for c in found])
    return exits.FAILED if failed else exits.OK
