"""The commands `pumas nodes …`: ComfyUI's custom nodes of a version, and their trash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pumas.cli import exits, following
from pumas.cli.apps import version_in_use
from pumas.cli.command import Cli, ListByDefault, command
from pumas.cli.output import moment

if TYPE_CHECKING:
    from collections.abc import Callable

    from pumas.client.types import InstallCustomNodeResult, UpdateCustomNodeResult

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As shown by pumas nodes list.", show_default=False)]
TrashArgument = Annotated[
    str, typer.Argument(metavar="ID", help="As shown by pumas nodes trash list.", show_default=False)
]
TagOption = Annotated[
    str, typer.Option("--tag", metavar="TAG", help="Of this version; by default the one in use.", show_default=False)
]
RequirementsOption = Annotated[
    bool,
    typer.Option("--requirements", help="Also install its requirements.txt into the version; that may run their code."),
]
_SHORT = 12


def register(app: typer.Typer) -> None:
    nodes = typer.Typer(
        help="Custom nodes of ComfyUI. They are programs: install what you trust. Without a command: list.",
        cls=ListByDefault,
    )
    command(nodes, "list")(list_nodes)
    command(nodes, "install")(install)
    command(nodes, "update")(update)
    command(nodes, "remove")(remove)
    trash = typer.Typer(help="Custom nodes that were removed. Without a command: list.", cls=ListByDefault)
    command(trash, "list")(trash_list)
    command(trash, "restore")(trash_restore)
    command(trash, "purge")(trash_purge)
    nodes.add_typer(trash, name="trash")
    app.add_typer(nodes, name="nodes")


def _tag(cli: Cli, tag: str) -> str:
    return version_in_use(cli, "comfyui", tag)


def list_nodes(cli: Cli, tag: TagOption = "") -> None:
    """Show the custom nodes of a version, and at which commit they are."""
    tag = _tag(cli, tag)
    listed = cli.client.get_custom_nodes(tag)
    if cli.out.as_json:
        cli.out.document(listed)
        return
    rows = [
        (
            one["name"],
            (one["commit"] or "")[:_SHORT],
            moment(one["installed_at"]),
            one["url"] or ("a checkout" if one["is_checkout"] else "a folder"),
        )
        for one in listed["details"]
    ]
    cli.out.table(("node", "commit", "installed", "from"), rows)
    if not rows:
        cli.out.say(f"{tag} has no custom nodes: pumas nodes install URL")


# -- install and update ----------------------------------------------------------------------------------------------


def install(
    cli: Cli,
    url: Annotated[str, typer.Argument(metavar="URL", help="https://host/path of a git repository.")],
    tag: TagOption = "",
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Of its folder; by default the end of URL.")
    ] = None,
    ref: Annotated[
        str | None,
        typer.Option("--ref", metavar="REF", help="A branch, a tag, or a commit id; by default the newest commit."),
    ] = None,
    requirements: RequirementsOption = False,
) -> int:
    """Clone a custom node. ComfyUI runs it at its next start."""
    tag = _tag(cli, tag)
    return _changed(
        cli,
        "Installing",
        lambda: cli.client.install_custom_node(tag, url, node_name=name, commit=ref, install_requirements=requirements),
    )


def update(cli: Cli, name: NameArgument, tag: TagOption = "", requirements: RequirementsOption = False) -> int:
    """Go forward to the newest commit of its branch; refused when its files were changed here."""
    tag = _tag(cli, tag)
    return _changed(
        cli, "Updating", lambda: cli.client.update_custom_node(tag, name, install_requirements=requirements)
    )


def _changed(cli: Cli, title: str, call: Callable[[], InstallCustomNodeResult | UpdateCustomNodeResult]) -> int:
    """The call answers after some seconds at most; what is left then is followed as a job."""
    answer, stop = following.while_answering(cli, "custom_node", title, call)
    done: dict[str, Any] = {**answer}
    status = exits.OK
    if answer["pending"]:
        job_id = answer["job_id"]
        job = following.interrupted(cli, job_id) if stop else following.follow(cli, job_id, title)
        following.say_end(cli, job)
        status = following.status_of(job)
        result: dict[str, Any] = job["result"] or {}
        done |= {key: result.get(key) for key in ("commit", "previous_commit")}
        done |= {"success": status == exits.OK, "pending": False}
    if cli.out.as_json:
        cli.out.document(done)
    elif status == exits.OK:
        cli.out.line(_said(done))
    return status


def _said(done: dict[str, Any]) -> str:
    name, commit, before = done["name"], str(done["commit"])[:_SHORT], done["previous_commit"]
    if before is None:
        return f"{name} is installed at {commit}."
    return f"{name} is at its newest commit {commit}." if before == done["commit"] else f"{name} is at {commit} now."


# -- remove, and the trash -------------------------------------------------------------------------------------------


def remove(cli: Cli, name: NameArgument, tag: TagOption = "") -> None:
    """Move a custom node to the version's trash."""
    tag = _tag(cli, tag)
    done = cli.client.remove_custom_node(tag, name)
    _told(cli, done, f"Removed. Bring it back with: pumas nodes trash restore {done['trash_id']} --tag {tag}")


def trash_list(cli: Cli, tag: TagOption = "") -> None:
    """Show what was removed and can be restored."""
    listed = cli.client.list_removed_custom_nodes(_tag(cli, tag))
    if cli.out.as_json:
        cli.out.document(listed)
        return
    rows = [
        (one["trash_id"], one["name"], (one["commit"] or "")[:_SHORT], moment(one["removed_at"]))
        for one in listed["nodes"]
    ]
    cli.out.table(("id", "node", "commit", "removed"), rows)
    if not rows:
        cli.out.say("The trash is empty.")


def trash_restore(cli: Cli, trash_id: TrashArgument, tag: TagOption = "") -> None:
    """Put a removed custom node back."""
    done = cli.client.restore_custom_node(_tag(cli, tag), trash_id)
    _told(cli, done, f"{done['name']} is back.")


def trash_purge(cli: Cli, trash_id: TrashArgument, tag: TagOption = "") -> None:
    """Remove a custom node from the trash for good."""
    done = cli.client.purge_removed_custom_node(_tag(cli, tag), trash_id)
    _told(cli, done, "Removed for good.")


def _told(cli: Cli, done: Any, text: str) -> None:
    if cli.out.as_json:
        cli.out.document(done)
    else:
        cli.out.line(text)
