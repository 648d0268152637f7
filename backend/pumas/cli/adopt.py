"""The command `pumas adopt`: what other programs hold, what of it comes in without a copy, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pumas.cli import exits, following, units
from pumas.cli.advice import typed
from pumas.cli.command import Cli, UsageProblem, command
from pumas.cli.output import moment, size

if TYPE_CHECKING:
    from pumas.client.types import AdoptModelsResult, ScanModelStoresResult


class Mode(StrEnum):
    """As `adopt_models` takes it."""

    AUTO = "auto"
    REFLINK = "reflink"
    HARDLINK = "hardlink"
    REFERENCE = "reference"


def register(app: typer.Typer) -> None:
    command(app, "adopt")(adopt)


def adopt(
    cli: Cli,
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID",
            help="What to take in, by its id or by its name in the store, such as llama3.2:3b; without any, show what "
            "there is.",
            show_default=False,
        ),
    ] = None,
    folder: Annotated[
        list[Path] | None, typer.Option("--in", metavar="DIR", help="Look here too; may be repeated.")
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="Look nowhere but in the --in folders.")] = False,
    mode: Annotated[Mode, typer.Option(help="How to share the bytes; auto takes the first that works.")] = Mode.AUTO,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Accept files that can run code when an app loads them.")
    ] = False,
    allow_duplicate: Annotated[
        bool, typer.Option("--allow-duplicate", help="Take bytes that the library has already.")
    ] = False,
    undo: Annotated[
        str | None, typer.Option(metavar="ID", help="Take an adoption back: its id, or the model's.")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show what was adopted.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> int:
    """Show the models of other programs (Hugging Face, Ollama, LM Studio, ComfyUI, …), take them in without a copy."""
    if bool(ids) + (undo is not None) + listed > 1:
        raise UsageProblem("ids, --undo and --list exclude each other: choose one.")
    if only and not folder:
        raise UsageProblem("--only needs a folder to look into: add --in DIR.")
    folders = [str(path.expanduser().absolute()) for path in folder or ()]
    if undo is not None:
        return _undo(cli, undo, dry_run=dry_run)
    if listed:
        return _list(cli)
    scan = _scan(cli, folders, known=not only)
    if not ids:
        return _show_scan(cli, scan)
    chosen = {"security_acknowledged": allow_pickle, "allow_duplicate": allow_duplicate}
    items = [{"stored_id": _meant(scan, one), **chosen} for one in dict.fromkeys(ids)]
    outcome = _adopt(cli, items, mode, folders, dry_run=dry_run)
    if cli.out.as_json:
        cli.out.document(outcome)
    else:
        _show_adopted(cli, outcome, dry_run=dry_run)
    return exits.OK if outcome["success"] else exits.FAILED


# -- scan ------------------------------------------------------------------------------------------------------------


def _scan(cli: Cli, folders: Sequence[str], *, known: bool) -> ScanModelStoresResult:
    scan = cli.client.scan_model_stores(folders=folders, known=known)
    while scan["pending"]:
        job = following.follow(cli, scan["job_id"], "Scanning")
        following.say_end(cli, job)
        scan = cli.client.scan_model_stores(job_id=scan["job_id"])
    return scan


def _meant(scan: ScanModelStoresResult, given: str) -> str:
    """The id of what was named. What no store holds stays as it is: the answer says so then."""
    models = [(model, store) for store in scan["stores"] for model in store["models"]]
    if any(model["stored_id"] == given for model, _ in models):
        return given
    named = [(model["stored_id"], store["kind"]) for model, store in models if model["name"] == given]
    if len(named) > 1:
        ids = ", ".join(f"{stored_id} ({kind})" for stored_id, kind in named)
        raise UsageProblem(f"{given!r} is the name of {len(named)}; give the id of one: {ids}.")
    return named[0][0] if named else given


def _show_scan(cli: Cli, scan: ScanModelStoresResult) -> int:
    if cli.out.as_json:
        cli.out.document(scan)
        return exits.OK
    cli.out.table(("id", "store", "model", "quant", "size", "here"), list(_rows(scan)))
    for store in scan["stores"]:
        count, problems = len(store["models"]), len(store["problems"]) + store["more_problems"]
        more = " There is more than was looked at." if store["truncated"] else ""
        wrong = f" {units.count(problems, 'problem')}." if problems else ""
        cli.out.say(
            f"{store['kind']} {store['path']}: {units.count(count, 'model')}, {size(store['size'])}.{wrong}{more}"
        )
        for problem in store["problems"][:5]:
            cli.out.say(f"  {problem['path']}: {problem['message']}")
    if not scan["stores"]:
        cli.out.say("No store of another program was found. Name one: pumas adopt --in DIR")
    for one in scan["repeated"][:10]:
        if one["certainty"] != "shared":
            places = ", ".join(f"{place['store']} ({place['model']})" for place in one["places"][:4])
            cli.out.say(f"{one['certainty']}: {size(one['size'])} in {places}")
    if scan["freed_bytes"] or scan["possible_bytes"]:
        possible = f", and {size(scan['possible_bytes'])} more if they are equal" if scan["possible_bytes"] else ""
        cli.out.say(f"Sharing the duplicates would free {size(scan['freed_bytes'])}{possible}.")
    if any(True for _ in _rows(scan)):
        cli.out.say("Take one in, without a copy: pumas adopt ID")
    return exits.OK


def _rows(scan: ScanModelStoresResult) -> Iterator[tuple[object, ...]]:
    for store in scan["stores"]:
        for model in store["models"]:
            here = model["in_library"] or (f"not whole: {model['problem']}" if model["problem"] else "")
            quant = model["quantization"] or model["format"]
            yield model["stored_id"], store["kind"], model["name"], quant, size(model["size"]), here


# -- adopt and undo --------------------------------------------------------------------------------------------------


def _adopt(
    cli: Cli, items: Sequence[dict[str, Any]], mode: Mode, folders: Sequence[str], *, dry_run: bool
) -> AdoptModelsResult:
    """The call answers after some seconds at most; what is left then is followed as a job."""

    def call() -> AdoptModelsResult:
        return cli.client.adopt_models(cast(Any, items), mode=mode.value, dry_run=dry_run, folders=folders)

    outcome, stop = following.while_answering(cli, "adopt", "Adopting", call)
    job_id = outcome["job_id"]
    if not outcome.get("pending") or job_id is None:
        return outcome
    job = following.interrupted(cli, job_id) if stop else following.follow(cli, job_id, "Adopting")
    following.say_end(cli, job)
    if job["result"] is None:
        return {**outcome, "success": False}
    return cast("AdoptModelsResult", {**outcome, **job["result"], "pending": 0})


def _show_adopted(cli: Cli, outcome: AdoptModelsResult, *, dry_run: bool) -> None:
    done = "would be adopted" if dry_run else "adopted"
    rows: list[tuple[object, ...]] = []
    for item in outcome["results"]:
        twin = item.get("duplicate_of")
        verdict = done if item["success"] else "duplicate" if twin else "failed"
        why = typed(item.get("error") or "")
        rows.append((verdict, item["name"], item.get("mode"), item.get("model_id") or twin, why))
    cli.out.table(("", "stored model", "how", "model", "why"), rows)
    for item in outcome["results"]:
        for warning in (*item.get("security_findings", ()), *item.get("warnings", ())):
            cli.out.say(f"{item['name']}: {warning}")
    cli.out.say(f"{size(outcome['size'])} need no space of their own.")


def _undo(cli: Cli, what: str, *, dry_run: bool) -> int:
    key = "model_id" if "/" in what else "adoption_id"
    undone = cli.client.undo_adoption(**{key: what}, dry_run=dry_run)  # pyright: ignore[reportArgumentType]
    if cli.out.as_json:
        cli.out.document(undone)
        return exits.OK
    cli.out.table(("", "model"), [("would be taken back" if dry_run else "taken back", undone["model_id"])])
    for reason in undone["reasons"]:
        cli.out.say(reason)
    if undone["trash_id"]:
        cli.out.say(f"It is in the trash: pumas trash restore {undone['trash_id']}")
    return exits.OK


def _list(cli: Cli) -> int:
    found = cli.client.list_adoptions(limit=1000)
    if cli.out.as_json:
        cli.out.document(found)
        return exits.OK
    rows: list[tuple[object, ...]] = []
    for one in found["adoptions"]:
        state = one["state"] if one["present"] else "gone"
        what = (one["adoption_id"], one["model_id"], one["mode"], state, size(one["size"]))
        rows.append((*what, one["store"], moment(one["created_at"])))
    cli.out.table(("adoption", "model", "how", "state", "size", "store", "since"), rows)
    cli.out.say(f"{size(found['size'])} need no space of their own." if rows else "Nothing was adopted yet.")
    return exits.OK
