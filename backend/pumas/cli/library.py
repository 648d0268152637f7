"""Commands about models: models, search, import, delete, verify, trash."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast
from urllib.parse import unquote, urlsplit

import typer

from pumas.cli import exits, following, units
from pumas.cli.advice import typed
from pumas.cli.command import Cli, ListByDefault, UsageProblem, command
from pumas.cli.output import moment, size

if TYPE_CHECKING:
    from pumas.client.types import FoundModel, ImportBatchResult, ImportSpec

TypeOption = Annotated[str | None, typer.Option("--type", help="Only this type, for example llm or diffusion.")]
TagOption = Annotated[list[str] | None, typer.Option("--tag", help="Only with this tag; may be repeated.")]
LimitOption = Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")]
OffsetOption = Annotated[int, typer.Option(min=0, help="Leave out so many first.")]
Sort = Literal["relevance", "newest", "name", "largest", "smallest"]
SortOption = Annotated[Sort, typer.Option("--sort", help="Which come first; by size, those of unknown size come last.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def register(app: typer.Typer) -> None:
    command(app, "models")(models)
    command(app, "search")(search)
    command(app, "import")(import_models)
    command(app, "delete")(delete)
    command(app, "verify")(verify)
    trash = typer.Typer(
        help="See, restore or remove for ever what was deleted. Without a command: list.", cls=ListByDefault
    )
    command(trash, "list")(trash_list)
    command(trash, "restore")(trash_restore)
    command(trash, "empty")(trash_empty)
    app.add_typer(trash, name="trash")


# -- finding ---------------------------------------------------------------------------------------------------------


def models(
    cli: Cli,
    model_id: Annotated[str | None, typer.Argument(help="Show all of this one model.", show_default=False)] = None,
    model_type: TypeOption = None,
    tag: TagOption = None,
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
    sort: SortOption = "relevance",
) -> None:
    """List models, newest first unless sorted otherwise, or show one."""
    if model_id is not None:
        detail = cli.client.get_model(model_id)
        if cli.out.as_json:
            cli.out.document(detail)
        else:
            cli.out.facts({"folder": detail["folder"], **detail["metadata"]})
        return
    _find(cli, "", model_type, tag, limit, offset, sort)


def search(
    cli: Cli,
    words: Annotated[list[str], typer.Argument(help="Beginnings of words; all must match.", show_default=False)],
    model_type: TypeOption = None,
    tag: TagOption = None,
    limit: LimitOption = 50,
    offset: OffsetOption = 0,
    sort: SortOption = "relevance",
) -> None:
    """Find models, best first unless sorted otherwise, by words in names, tags and descriptions."""
    _find(cli, " ".join(words), model_type, tag, limit, offset, sort)


def _find(
    cli: Cli,
    query: str,
    model_type: str | None,
    tags: list[str] | None,
    limit: int,
    offset: int,
    sort: Sort,
) -> None:
    found = cli.client.search_models_fts(query, model_type=model_type, tags=tags, limit=limit, offset=offset, sort=sort)
    if cli.out.as_json:
        cli.out.document(found)
        return
    shown = found["models"]
    cli.out.table(("model", "name", "type", "family", "size", "added"), [_row(model) for model in shown])
    if found["matched"] == "any" and shown:
        cli.out.say("No model has all of these words; these have some of them.")
    if not shown:
        cli.out.say("No model matches." if query else "The library is empty here. Fill it: pumas import FILE")
    elif found["total_count"] > len(shown):
        cli.out.say(f"{len(shown)} of {found['total_count']}; --limit and --offset show others.")


def _row(model: FoundModel) -> tuple[object, ...]:
    kind = model["subtype"] or model["model_type"]
    added = moment(model["added_date"])
    return model["model_id"], model["official_name"], kind, model["family"], size(model["size_bytes"]), added


# -- importing -------------------------------------------------------------------------------------------------------


def import_models(
    cli: Cli,
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Model files, or folders of one model each.", show_default=False),
    ],
    family: Annotated[str | None, typer.Option(help="By default found in the file.")] = None,
    name: Annotated[str | None, typer.Option(help="The shown name, for one PATH; by default the file's name.")] = None,
    model_type: Annotated[str | None, typer.Option("--type", help="By default found in the file.")] = None,
    subtype: Annotated[str | None, typer.Option(help="By default found in the file.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="May be repeated.")] = None,
    each: Annotated[bool, typer.Option("--each", help="Of a folder of several models, import each.")] = False,
    move: Annotated[bool, typer.Option("--move", help="Remove the source once it is safely in the library.")] = False,
    hardlink: Annotated[bool, typer.Option("--hardlink", help="Share the bytes with the source (one volume).")] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Accept files that can run code when an app loads them.")
    ] = False,
    allow_duplicate: Annotated[
        bool, typer.Option("--allow-duplicate", help="Import bytes that the library has already.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait: say which job does it, and end.")] = False,
    dry_run: DryRunOption = False,
) -> int:
    """Bring model files into the library. The source stays where it is unless --move is given."""
    if move and hardlink:
        raise UsageProblem("--move and --hardlink exclude each other: choose one.")
    if name is not None and (each or len(paths) > 1):
        raise UsageProblem("--name goes with one PATH of one model: import the others by themselves.")
    if detach and each:
        raise UsageProblem(
            "--detach and --each exclude each other: what a folder holds is known when it was looked at."
        )
    if detach and dry_run:
        raise UsageProblem("--detach and --dry-run exclude each other: a dry run is over at once.")
    options: dict[str, Any] = {
        "family": family,
        "official_name": name,
        "model_type": model_type,
        "subtype": subtype,
        "tags": tag,
        "mode": "move" if move else "hardlink" if hardlink else None,
        "security_acknowledged": allow_pickle or None,
        "allow_duplicate": allow_duplicate or None,
    }
    given = {key: value for key, value in options.items() if value is not None}

    def specs(places: Sequence[str]) -> list[ImportSpec]:
        return [cast("ImportSpec", {"path": place, **given}) for place in places]

    def bring(places: Sequence[str]) -> ImportBatchResult:
        return cli.client.import_batch(specs(places), dry_run=True) if dry_run else _import(cli, specs(places))

    places = [_place(path) for path in paths]
    if detach:
        return _detach(cli, specs(places))
    outcome = bring(places)
    if each:
        outcome = _each(outcome, bring)
    if cli.out.as_json:
        cli.out.document(outcome)
    else:
        _show_import(cli, outcome, dry_run=dry_run)
    return exits.OK if outcome["success"] else exits.FAILED


def _place(text: str) -> str:
    """The absolute path that somebody means by `text`.

    Raises:
        UsageProblem: it is none. What is left of a variable without a value must not become the working directory.
    """
    if not text.strip():
        raise UsageProblem("PATH is empty: name a file or a folder.")
    scheme = urlsplit(text).scheme if "://" in text else ""
    if scheme in ("http", "https"):
        raise UsageProblem(f"{text[:200]} is an address: pumas download brings models from Hugging Face, import files.")
    if scheme == "file":  # as file managers copy it
        text = unquote(urlsplit(text).path, errors="surrogateescape")
    try:
        place = str(Path(text).expanduser().absolute())
        place.encode()
    except UnicodeEncodeError:
        raise UsageProblem(
            f"{_shown(text)} is not named in UTF-8: rename it, or import the folder that it is in."
        ) from None
    except (OSError, RuntimeError) as error:  # the working directory is gone, or there is no such user
        raise UsageProblem(f"{text[:200]} cannot be found: {error}.") from None
    return place


def _shown(text: str) -> str:
    return os.fsencode(text).decode("utf-8", "replace")


def _each(outcome: ImportBatchResult, bring: Callable[[Sequence[str]], ImportBatchResult]) -> ImportBatchResult:
    """The outcome with the models of each refused folder in its place."""
    inside = [path for item in outcome["results"] for path in item.get("candidates", ())]
    if not inside:
        return outcome
    more = bring(inside)
    of_path = {item["path"]: item for item in more["results"]}
    results = [
        one
        for item in outcome["results"]
        for one in ([of_path[path] for path in item.get("candidates", ()) if path in of_path] or [item])
    ]
    failed = sum(not item["success"] for item in results)
    ended = {"success": not failed, "imported": len(results) - failed, "failed": failed, "results": results}
    return cast("ImportBatchResult", {**more, **ended})


def _detach(cli: Cli, specs: Sequence[ImportSpec]) -> int:
    if cli.client.started_sidecar:
        raise UsageProblem("--detach needs a sidecar that outlives this command: start one by pumas serve.")
    outcome = cli.client.import_batch(specs, wait_seconds=0)
    if cli.out.as_json:
        cli.out.document(outcome)
    else:
        cli.out.table(("", "job"), [("started", outcome.get("job_id"))])
        cli.out.say(f"Follow it by: pumas jobs watch {outcome.get('job_id')}")
    return exits.OK


def _import(cli: Cli, specs: Sequence[ImportSpec]) -> ImportBatchResult:
    outcome = cli.client.import_batch(specs, wait_seconds=0)
    job_id = outcome.get("job_id")
    if not outcome.get("pending") or job_id is None:
        return outcome
    job = following.follow(cli, job_id, "Importing")
    following.say_end(cli, job)
    if job["result"] is None:
        return {**outcome, "success": False}
    return cast("ImportBatchResult", {**job["result"], "job_id": job_id, "pending": 0})


def _show_import(cli: Cli, outcome: ImportBatchResult, *, dry_run: bool) -> None:
    done = "would be imported" if dry_run else "imported"
    rows: list[tuple[object, ...]] = []
    for item in outcome["results"]:
        twin = item.get("duplicate_of")
        verdict = done if item["success"] else "duplicate" if twin else "failed"
        rows.append((verdict, item["path"], item.get("model_id") or twin, typed(item.get("error") or "")))
    cli.out.table(("", "file", "model", "why"), rows)
    for item in outcome["results"]:
        for finding in item.get("security_findings", ()):
            cli.out.say(f"{item['path']}: the pickle scanner found {finding}")
        for skipped in item.get("skipped", ()):
            cli.out.say(f"{skipped['path']}: left out: {skipped['reason']}")
        for warning in item.get("warnings", ()):
            cli.out.say(f"{item['path']}: {warning}")


# -- deleting and checking -------------------------------------------------------------------------------------------


def delete(
    cli: Cli,
    model_ids: Annotated[list[str], typer.Argument(metavar="MODEL", help="As shown by pumas models.")],
    dry_run: DryRunOption = False,
) -> None:
    """Move models into the trash. `pumas trash restore` brings them back."""
    done = [cli.client.delete_model_with_cascade(model_id, dry_run=dry_run) for model_id in model_ids]
    if cli.out.as_json:
        cli.out.document({"success": True, "deleted": done})
        return
    cli.out.table(
        ("trash id", "models", "size"),
        [(one["trash_id"] or "would be deleted", ", ".join(one["model_ids"]), size(one["size"])) for one in done],
    )


def verify(
    cli: Cli,
    model_ids: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL", help="By default all.", show_default=False)
    ] = None,
) -> int:
    """Hash the library again. Differences are reported, recorded digests never replaced."""
    job = following.follow(cli, cli.client.verify_library(model_ids=model_ids)["job_id"], "Verifying")
    following.say_end(cli, job)
    report = job["result"] or {}
    findings = cast(list[dict[str, Any]], report.get("findings") or [])
    if cli.out.as_json:
        cli.out.document({"success": job["state"] == "completed" and not findings, "job": job})
    elif job["state"] == "completed":
        cli.out.table(
            ("", "model", "file", "why"), [(f["status"], f["model_id"], f["file"], f["message"]) for f in findings]
        )
        hidden = f" {report['findings_omitted']} more are not shown." if report["findings_omitted"] else ""
        cli.out.say(
            f"{units.count(report['models'], 'model')}, {units.count(report['files'], 'file')}, "
            f"{size(report['bytes'])} read: "
            f"{len(findings)} not as recorded.{hidden}"
        )
    return exits.FAILED if findings else following.status_of(job)


# -- trash -----------------------------------------------------------------------------------------------------------


def trash_list(cli: Cli) -> None:
    """Show what was deleted and can be restored."""
    listed = cli.client.list_trash()
    if cli.out.as_json:
        cli.out.document(listed)
        return
    rows = [
        (e["trash_id"], e["model_id"], e["official_name"], size(e["size"]), moment(e["deleted_at"]))
        for e in listed["entries"]
    ]
    cli.out.table(("trash id", "model", "name", "size", "deleted"), rows)
    if not rows:
        cli.out.say("The trash is empty.")


def trash_restore(
    cli: Cli,
    trash_id: Annotated[
        str, typer.Argument(help="As shown by pumas trash, or the model that was deleted.", show_default=False)
    ],
    dry_run: DryRunOption = False,
) -> None:
    """Put a deleted model back where it was."""
    # Newest first: of a model that was deleted more than once, the last one.
    entries = cli.client.list_trash()["entries"]
    of_model = [entry["trash_id"] for entry in entries if trash_id in entry["model_ids"]]
    restored = cli.client.restore_model(of_model[0] if of_model else trash_id, dry_run=dry_run)
    if cli.out.as_json:
        cli.out.document(restored)
    else:
        for model_id in restored["model_ids"]:
            cli.out.line(f"{'would be restored' if dry_run else 'restored'}\t{model_id}")


def trash_empty(
    cli: Cli,
    trash_ids: Annotated[
        list[str] | None, typer.Argument(metavar="TRASH-ID", help="By default all.", show_default=False)
    ] = None,
    older_than_days: Annotated[float, typer.Option(min=0, help="Only what was deleted so long ago.")] = 0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRunOption = False,
) -> int:
    """Remove deleted models for ever."""
    preview = cli.client.empty_trash(trash_ids=trash_ids, older_than_days=older_than_days, dry_run=True)
    if dry_run or not preview["removed"]:
        _show_emptied(cli, preview, "would be removed")
        return exits.OK
    if not yes:
        if not sys.stdin.isatty():
            raise UsageProblem("this removes files for ever: add --yes to do it, or --dry-run to see what would go.")
        many = f"{units.count(len(preview['removed']), 'entry', 'entries')}, {size(preview['freed'])}"
        if not typer.confirm(f"Remove {many}, for ever?", err=True):
            return exits.FAILED
    # Exactly what was shown, not what has come into the trash since.
    shown = [entry["trash_id"] for entry in preview["removed"]]
    _show_emptied(cli, cli.client.empty_trash(trash_ids=shown), "removed")
    return exits.OK


def _show_emptied(cli: Cli, emptied: Any, verb: str) -> None:
    if cli.out.as_json:
        cli.out.document(emptied)
        return
    cli.out.table(("", "trash id", "model"), [(verb, e["trash_id"], e["model_id"]) for e in emptied["removed"]])
    cli.out.say(f"{size(emptied['freed'])} {'to be freed' if verb != 'removed' else 'freed'}.")
