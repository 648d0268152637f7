"""The commands `pumas hf search` and `pumas hf show`: what Hugging Face has, and what a download would fetch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pumas.cli import exits, units
from pumas.cli.command import Cli, command
from pumas.cli.output import moment, size

if TYPE_CHECKING:
    from pumas.client.types import GetHfModelResult, HubChoice, HubOption, HubResult, SearchHfModelsResult

_QUANTS_SHOWN = 6


def register(app: typer.Typer) -> None:
    hf = typer.Typer(help="Look for models on Hugging Face.")
    command(hf, "search")(search)
    command(hf, "show")(show)
    app.add_typer(hf, name="hf")


def search(
    cli: Cli,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT",
            help="Words of a name, or an address; without any, what is popular now.",
            show_default=False,
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="Only this task, for example text-generation.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 25,
) -> None:
    """Find models on Hugging Face, most downloaded first."""
    found = cli.client.search_hf_models(" ".join(words or ()), kind=task, limit=limit)
    if cli.out.as_json:
        cli.out.document(found)
        return
    columns = ("repository", "task", "formats", "quants", "downloads", "changed")
    cli.out.table(columns, [_row(model) for model in found["models"]])
    if not found["models"]:
        cli.out.say("Nothing on Hugging Face matches.")
    _say_age(cli, found)


def _row(model: HubResult) -> tuple[object, ...]:
    quants = model["quants"]
    more = f" +{len(quants) - _QUANTS_SHOWN}" if len(quants) > _QUANTS_SHOWN else ""
    shown = " ".join(quants[:_QUANTS_SHOWN]) + more
    name = f"{model['repoId']} (gated)" if model["gated"] else model["repoId"]
    changed = moment(model["releaseDate"])[:10]
    return name, model["kind"], " ".join(model["formats"]), shown, model["downloads"], changed


def show(
    cli: Cli,
    repo: Annotated[str, typer.Argument(metavar="REPO", help="owner/name, owner/name:Q4_K_M, or an address.")],
    quant: Annotated[str | None, typer.Option(help="What this quantisation would fetch, such as Q4_K_M.")] = None,
    file: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Or these files; * and ? are allowed; may be repeated.")
    ] = None,
    revision: Annotated[str, typer.Option(help="A branch, tag or commit.")] = "main",
) -> int:
    """Show one model of Hugging Face: the ways to take it, their sizes, and what a choice would fetch."""
    found = cli.client.get_hf_model(repo, revision=revision, quant=quant, filenames=file or [], card=cli.out.as_json)
    if cli.out.as_json:
        cli.out.document(found)
        return exits.OK
    cli.out.facts(_facts(found))
    cli.out.table(("take", "parts", "size", "fits"), [_option(option) for option in found["options"]])
    choice = found["choice"]
    if choice is None and not found["options"]:
        cli.out.say("It holds no model file.")
    elif choice is not None and (quant or file or names_less(found)):
        _say_choice(cli, found, choice)
    if found["gated"] != "no":
        cli.out.say(f"It is gated: accept its terms at {found['url']} before a download.")
    if found["refused"]:
        reasons = "; ".join(f"{one['path']}: {one['reason']}" for one in found["refused"][:5])
        cli.out.say(f"{units.count(len(found['refused']), 'file')} cannot be taken: {reasons}")
    _say_age(cli, found)
    return exits.OK


def names_less(found: GetHfModelResult) -> bool:
    """Whether the choice is not all that the repository offers, as when an address names a quantisation or a file."""
    choice, everything = found["choice"], [option for option in found["options"] if option["kind"] == "all"]
    if choice is None or not everything:
        return choice is not None
    taken = len(choice["files"]), choice["total_bytes"]
    return taken != (everything[0]["file_count"], everything[0]["size_bytes"])


def _facts(found: GetHfModelResult) -> dict[str, object]:
    facts = {
        "repository": found["repo_id"],
        "commit": found["commit"],
        "task": found["task"],
        "type": " / ".join(word for word in (found["model_type"], found["subtype"], found["family"]) if word),
        "license": found["license"],
        "made from": ", ".join(found["base_model"]),
        "parameters": f"{found['parameters']:,}" if found["parameters"] else "",
        "context": found["context_length"] or "",
        "downloads": found["downloads"],
        "changed": moment(found["last_modified"]),
        "in the library": ", ".join(found["held"]),
        "free here": size(found["free_bytes"]),
    }
    return {name: value for name, value in facts.items() if value not in ("", None)}


def _option(option: HubOption) -> tuple[object, ...]:
    by_name = option["kind"] in ("file", "projector")
    words = {"all": "without --quant", "quant": f"--quant {option['quant']}"}
    taken = f"--file {option['weights'][0]}" if by_name else words[option["kind"]]
    return taken, len(option["weights"]), size(option["size_bytes"]), "yes" if option["fits"] else "no"


def _say_choice(cli: Cli, found: GetHfModelResult, choice: HubChoice) -> None:
    sizes = {file["path"]: file["size"] for file in found["files"]}
    cli.out.table(("file", "size"), [(path, size(sizes.get(path))) for path in choice["files"]])
    room = "" if choice["fits"] else f", and only {size(found['free_bytes'])} are free"
    cli.out.say(f"{units.count(len(choice['files']), 'file')}, {size(choice['total_bytes'])}{room}.")
    for path in choice["pickles"]:
        cli.out.say(f"{path} can run code when an app loads it.")
    if choice["offered"]:
        cli.out.say(f"For images or sound add: --file {' --file '.join(choice['offered'])}")


def _say_age(cli: Cli, found: SearchHfModelsResult | GetHfModelResult) -> None:
    if found["stale"]:
        cli.out.say(f"Hugging Face cannot be reached; this is what it said on {moment(found['fetched_at'])} UTC.")
