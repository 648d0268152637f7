"""What all commands share: their common options, the client, errors as one line, the exit status.

A command is a function whose first parameter is a `Cli`; it returns its exit status, or None for success.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, Self, TypeVar

import typer
from typer.core import TyperGroup

from pumas.arguments import folder
from pumas.cli import exits
from pumas.cli.arguments import BadArgument
from pumas.cli.output import Output
from pumas.client import NotReachable, PumasError, default_root

if TYPE_CHECKING:
    from pumas.client import PumasClient

P = ParamSpec("P")
T = TypeVar("T")


def _folder(text: str) -> Path:
    try:
        path = folder(text)
    except argparse.ArgumentTypeError as error:
        raise typer.BadParameter(str(error)) from None
    if path.is_file():
        raise typer.BadParameter(f"{text!r} is a file")
    return path


RootOption = Annotated[
    Path | None,
    typer.Option(
        "--root",
        metavar="DIR",
        help="Folder with the library [default: $PUMAS_ROOT, else this checkout, else the user's data folder].",
        parser=_folder,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
NoStartOption = Annotated[
    bool, typer.Option("--no-start", help="Fail when no sidecar runs, instead of starting one for this command.")
]
_SHARED: dict[str, Any] = {
    "root": (RootOption, None),
    "as_json": (JsonOption, False),
    "no_start": (NoStartOption, False),
}


class ListByDefault(TyperGroup):
    """A group of commands that alone, or with options only, lists: `pumas downloads`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing and (not args or (args[0].startswith("-") and args[0] != "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


class UsageProblem(PumasError):
    """The words of the command line do not fit together."""

    kind = "usage"


class Cli:
    """One run of one command."""

    def __init__(self, root: Path | None, *, as_json: bool, no_start: bool) -> None:
        self.out = Output(as_json=as_json)
        self.given_root = root
        self.no_start = no_start
        self._client: PumasClient | None = None

    @property
    def root(self) -> Path:
        return (self.given_root or default_root()).expanduser().resolve()

    @property
    def client(self) -> PumasClient:
        """The sidecar of the root; one is started for the time of this command when none runs."""
        if self._client is None:
            if self.given_root is not None and not self.root.is_dir():
                raise UsageProblem(f"--root: {self.root} is no folder. Name an existing one.")
            from pumas.client import PumasClient

            self._client = PumasClient(self.root, start=not self.no_start)
        return self._client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._client is not None:
            self._client.close()


def command(
    app: typer.Typer, name: str, **options: Any
) -> Callable[[Callable[Concatenate[Cli, P], int | None]], Callable[Concatenate[Cli, P], int | None]]:
    """Add a command to `app`, with the shared options behind its own."""

    def declare(function: Callable[Concatenate[Cli, P], int | None]) -> Callable[Concatenate[Cli, P], int | None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        shared = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for key, (annotation, default) in _SHARED.items()
        ]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + shared

        def run(**values: Any) -> int:
            cli = Cli(values.pop("root"), as_json=values.pop("as_json"), no_start=values.pop("no_start"))
            return _guarded(cli, lambda: function(cli, **values))  # pyright: ignore[reportCallIssue] - by its signature

        run.__doc__, run.__name__ = function.__doc__, function.__name__
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
        app.command(name, **options)(run)
        return function

    return declare


def parsed(parse: Callable[[str], T], text: str) -> T:
    """What `parse` makes of a word of the command line. Raises UsageProblem for its BadArgument."""
    try:
        return parse(text)
    except BadArgument as error:
        raise UsageProblem(f"{error}.") from None


def debugging() -> bool:
    return os.environ.get("PUMAS_DEBUG", "") not in ("", "0")


def _guarded(cli: Cli, work: Callable[[], int | None]) -> int:
    try:
        with cli:
            status = work()
            sys.stdout.flush()
            return exits.OK if status is None else status
    except PumasError as error:
        if debugging():
            raise
        cli.out.error(str(error), error.kind)
        return exit_status(error)


_STATUS: dict[str, int] = {NotReachable.kind: exits.NOT_RUNNING, "usage": exits.USAGE, "stopped": exits.INTERRUPTED}


def exit_status(error: PumasError) -> int:
    return exits.OK if error.kind == "detached" else _STATUS.get(error.kind, exits.FAILED)
