"""The command tree: which commands there are, how they are reached, and what becomes of an error in any of them."""

from __future__ import annotations

import errno
import functools
import os
import sys
from typing import Annotated

import typer

from pumas import __version__
from pumas.cli import adopt, apps, download, downloads, exits, general, hf, jobs, library, links, nodes, processes
from pumas.cli.command import debugging
from pumas.cli.output import Output

HELP = f"""Your library of AI models, kept by one sidecar: import model files once, find them at once.

Most commands use the sidecar that runs for the root (pumas serve), or start one for as long as they need it.
With --json each writes one JSON document to stdout. PUMAS_DEBUG=1 shows where an error comes from.

{exits.HELP}
"""


# Options of every command, which people try in front of it, as git has them.
BEHIND = ("--root", "--json", "--no-start")

# What stdout answers when the disk behind it takes no more. Disks of the sidecar come as failures of their own.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pumas {__version__}")
        raise typer.Exit


def pumas(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Options of the command as a whole; its help is `HELP`."""


def serve(context: typer.Context) -> int:
    """Run the sidecar until Ctrl-C. `pumas serve --help` lists its options."""
    # Reached only when `serve` is not the first word; `main` sends it on its short way otherwise.
    from pumas.cli.serve import serve as run_serve

    return run_serve(context.args)


@functools.cache
def tree() -> typer.Typer:
    """All commands."""
    app = typer.Typer(name="pumas", help=HELP, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.callback()(pumas)
    forwards = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command("serve", add_help_option=False, context_settings=forwards)(serve)
    for group in (general, library, hf, download, downloads, adopt, links, apps, nodes, jobs, processes):
        group.register(app)
    return app


def run(words: list[str]) -> int:
    out = Output(as_json="--json" in words)
    try:
        status = tree()(args=words or ["--help"], prog_name="pumas", standalone_mode=False)
        return status if isinstance(status, int) else exits.OK
    except typer.TyperException as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "pumas")
        message = error.format_message().replace(": Value error, ", ": ")
        if command == "pumas" and any(message.startswith(f"No such option: {option}") for option in BEHIND):
            message = f"{message.partition(' (')[0]} here: it goes behind the command"
        if message:
            ended = message if message.endswith(("?", ".")) else f"{message}."
            out.error(f"{ended.replace('?.', '?')} See: {command} --help", "usage")
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        out.say("pumas: stopped.")
        return exits.INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has enough; the interpreter would complain about it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
    except Exception as error:
        if debugging():
            raise
        if isinstance(error, OSError) and error.errno in FULL and error.filename is None:
            out.error(f"the output could not be written: {os.strerror(error.errno)}.", "output_failed")
            return exits.FAILED
        out.error(f"internal error ({type(error).__name__}: {error}). PUMAS_DEBUG=1 shows where.", "internal_error")
        return exits.FAILED
