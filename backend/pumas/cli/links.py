"""The commands `pumas links …`: what apps get of the library, and how their links are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pumas.cli import exits, following, units
from pumas.cli.apps import version_in_use
from pumas.cli.command import Cli, ListByDefault, UsageProblem, command
from pumas.cli.output import moment, size

if TYPE_CHECKING:
    from pumas.client.types import ApplyModelMappingResult, PreviewModelMappingResult, SyncWithResolutionsResult

TagArgument = Annotated[
    str, typer.Argument(metavar="TAG", help="An installed version; by default the one in use.", show_default=False)
]
AppOption = Annotated[str, typer.Option("--app", metavar="APP", help="The app.")]
CopyOption = Annotated[bool, typer.Option("--allow-copy", help="Copy files where no link can be made.")]
ReplaceOption = Annotated[
    bool,
    typer.Option("--replace-link", help="Where the models folder is a link: keep it aside, and make a folder there."),
]
COMFYUI = "comfyui"


def register(app: typer.Typer) -> None:
    links = typer.Typer(
        help="Give apps the library's models by links, and look after those. Without a command: list.",
        cls=ListByDefault,
    )
    command(links, "plan")(plan)
    command(links, "apply")(apply)
    command(links, "health")(health)
    command(links, "list")(listed)
    app.add_typer(links, name="links")


# -- plan and apply --------------------------------------------------------------------------------------------------


def plan(
    cli: Cli,
    tag: TagArgument = "",
    app: AppOption = COMFYUI,
    allow_copy: CopyOption = False,
    replace_link: ReplaceOption = False,
) -> int:
    """Show what would be linked, what is in the way, and what is broken. Changes nothing."""
    tag = version_in_use(cli, app, tag)
    found = cli.client.preview_model_mapping(tag, app_id=app, allow_copy=allow_copy, replace_models_link=replace_link)
    if cli.out.as_json:
        cli.out.document(found)
        return exits.FAILED if found["errors"] else exits.OK
    again = f"pumas links apply {tag}{'' if app == COMFYUI else f' --app {app}'}"
    cli.out.table(("", "model", "link", "why"), list(_rows(found)))
    for text in (*found["errors"], *found["warnings"]):
        cli.out.say(text)
    cli.out.say(
        f"{len(found['to_create'])} to make, {len(found['to_skip_exists'])} there already, "
        f"{len(found['conflicts'])} in conflict, {len(found['broken_to_remove'])} broken."
    )
    if found["copy_bytes"]:
        cli.out.say(f"The copies need {size(found['copy_bytes'])}.")
    if found["conflicts"]:
        cli.out.say(f"Something is in the way; {again} --rename MODEL or --overwrite MODEL keeps it aside.")
    if found["models_link"] is not None and not replace_link:
        cli.out.say(f"{again} --replace-link keeps the link aside, and makes a folder there.")
    if found["to_create"] or found["broken_to_remove"]:
        replace = " --replace-link" if replace_link else ""
        cli.out.say(f"Do it: {again}{replace} --plan {found['plan_id']}")
    return exits.FAILED if found["errors"] else exits.OK


def _rows(found: PreviewModelMappingResult) -> Any:
    kinds = (("to_create", "make"), ("conflicts", "conflict"), ("needs_copy", "needs a copy"))
    for key, verb in kinds:
        for one in cast(dict[str, Any], found)[key]:
            kind = one.get("link_type")
            shown = verb if kind in (None, "symlink") else f"{verb} {kind}"
            yield shown, one["model_id"], one["target_path"], one["reason"]
    for key, verb in (("broken_to_remove", "remove"), ("unwanted", "unwanted")):
        for one in cast(dict[str, Any], found)[key]:
            yield verb, "", one["target_path"], one["reason"]


def apply(
    cli: Cli,
    tag: TagArgument = "",
    app: AppOption = COMFYUI,
    plan_id: Annotated[
        str | None, typer.Option("--plan", metavar="PLAN", help="Only if this is still what would be done.")
    ] = None,
    overwrite: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="Move what is in its way into a folder of its own.")
    ] = None,
    rename: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="Keep what is in its way beside it as NAME.old.")
    ] = None,
    allow_copy: CopyOption = False,
    replace_link: ReplaceOption = False,
    every: Annotated[bool, typer.Option("--all", help="Every installed version of the app.")] = False,
) -> int:
    """Make missing links and remove broken ones. What is not ours is only touched where you say so, and kept."""
    words = dict.fromkeys(overwrite or (), "overwrite") | dict.fromkeys(rename or (), "rename")
    if len(words) < len(overwrite or ()) + len(rename or ()):
        raise UsageProblem("--overwrite and --rename name the same model: choose one.")
    if every:
        if tag or plan_id or words or allow_copy or replace_link:
            raise UsageProblem("--all goes with --app only.")
        return _apply_all(cli, app)
    tag = version_in_use(cli, app, tag)

    def call() -> ApplyModelMappingResult | SyncWithResolutionsResult:
        if not words:
            return cli.client.apply_model_mapping(
                tag, app_id=app, plan_id=plan_id, allow_copy=allow_copy, replace_models_link=replace_link
            )
        in_the_way = cli.client.preview_model_mapping(
            tag, app_id=app, allow_copy=allow_copy, replace_models_link=replace_link
        )["conflicts"]
        for model_id in sorted(words.keys() - {one["model_id"] for one in in_the_way}):
            cli.out.say(f"Nothing is in the way of {model_id}.")
        return cli.client.sync_with_resolutions(
            tag, words, app_id=app, plan_id=plan_id, allow_copy=allow_copy, replace_models_link=replace_link
        )

    return _show_applied(cli, _followed(cli, call))


def _apply_all(cli: Cli, app: str) -> int:
    done = _followed(cli, lambda: cli.client.refresh_model_mappings(app_id=app))
    if cli.out.as_json:
        cli.out.document(done)
    else:
        cli.out.table(("version", "links"), sorted(done["results"].items()))
    return exits.OK


def _followed(cli: Cli, call: Any) -> dict[str, Any]:
    """The call answers after some seconds at most; what is left then is followed as a job."""
    answer, stop = following.while_answering(cli, "apply_links", "Linking", call)
    job_id = answer["job_id"]
    if not answer["pending"] or job_id is None:
        return answer
    job = following.interrupted(cli, job_id) if stop else following.follow(cli, job_id, "Linking")
    following.say_end(cli, job)
    applied: dict[str, Any] = (job["result"] or {}).get("applied") or {}
    sums = {key: sum(one[key] for one in applied.values()) for key in ("created", "removed", "total", "conflicts")}
    errors = [text for one in applied.values() for text in one["errors"]]
    return {
        **answer,
        "success": following.status_of(job) == exits.OK and not errors,
        "pending": False,
        "errors": errors,
        "results": {tag: one["total"] for tag, one in applied.items()},
        "links_created": sums.get("created", 0),
        "links_removed": sums.get("removed", 0),
        "total_links": sums.get("total", 0),
        "conflicts": sums.get("conflicts", 0),
    }


def _show_applied(cli: Cli, done: dict[str, Any]) -> int:
    status = exits.OK if done.get("success", True) else exits.FAILED
    if cli.out.as_json:
        cli.out.document(done)
        return status
    facts = {"made": "links_created", "removed": "links_removed", "in place": "total_links", "in conflict": "conflicts"}
    cli.out.facts({name: done[key] for name, key in facts.items() if key in done})
    if done.get("backups"):
        cli.out.table(("", "path"), [("kept", one["backup_path"]) for one in done["backups"]])
    for text in done["errors"]:
        cli.out.say(text)
    return status


# -- health and list -------------------------------------------------------------------------------------------------


def health(
    cli: Cli,
    tag: Annotated[
        str | None, typer.Argument(metavar="TAG", help="Look for orphans in this version too.", show_default=False)
    ] = None,
    app: AppOption = COMFYUI,
    clean: Annotated[bool, typer.Option("--clean", help="Remove links of ours that lead nowhere.")] = False,
    orphans: Annotated[
        bool, typer.Option("--remove-orphans", help="Remove links of ours that no rule wants; needs TAG.")
    ] = False,
) -> int:
    """Look at every link that we made."""
    if orphans:
        if tag is None:
            raise UsageProblem("--remove-orphans needs a TAG.")
        removed = cli.client.remove_orphaned_links(tag, app_id=app)
        gone = units.count(removed["removed"], "orphaned link")
        cli.out.say(f"{gone} removed, {len(removed['kept'])} that are not ours kept.")
    if clean:
        cli.out.say(f"{units.count(cli.client.clean_broken_links()['cleaned'], 'broken link')} removed.")
    report = cli.client.get_link_health(version_tag=tag, app_id=app)
    if cli.out.as_json:
        cli.out.document(report)
        return exits.FAILED if report["status"] == "errors" else exits.OK
    cli.out.facts({key: report[key] for key in ("status", "total_links", "healthy_links")})
    rows = [("broken", one["target_path"], one["reason"]) for one in report["broken_links"]]
    rows += [("orphaned", path, "") for path in report["orphaned_links"]]
    rows += [("kept aside", one["backup_path"], "") for one in report["backups"]]
    if rows:
        cli.out.table(("", "path", "why"), rows)
    for text in report["warnings"]:
        cli.out.say(text)
    return exits.FAILED if report["status"] == "errors" else exits.OK


def listed(
    cli: Cli,
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Only its links.", show_default=False)] = None,
    app: Annotated[str | None, typer.Option("--app", metavar="APP", help="Only this app's.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", metavar="TAG", help="Only this version's.")] = None,
) -> None:
    """Show the links that we made."""
    if model is not None:
        found: list[Any] = list(cli.client.get_links_for_model(model)["links"])
    else:
        found = []
        while True:
            page = cli.client.list_links(app_id=app, version_tag=tag, limit=1000, offset=len(found))
            found += page["links"]
            if not page["links"] or len(found) >= page["total_count"]:
                break
    if cli.out.as_json:
        cli.out.document({"success": True, "links": found})
        return
    rows = [
        (
            one["model_id"],
            one["app_id"],
            one["app_version"],
            one["link_type"],
            one["target_path"],
            moment(one["created_at"]),
        )
        for one in found
    ]
    cli.out.table(("model", "app", "version", "kind", "link", "since"), rows)
    if not rows:
        cli.out.say("There are no links yet: pumas links plan TAG")
