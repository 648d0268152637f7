"""What the command writes: tables for a terminal, tab-separated lines for a pipe, one JSON document for --json.

Results go to stdout, everything said on the way to stderr. Text from model files is stripped of control characters, so
that no file name can drive the terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pumas.cli.advice import typed

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
STYLES = {
    "ok": "green",
    "completed": "green",
    "warn": "yellow",
    "paused": "yellow",
    "cancelled": "yellow",
    "fail": "red",
    "failed": "red",
    "running": "cyan",
    "downloading": "cyan",
    "verifying": "cyan",
    "retrying": "yellow",
    "waiting": "yellow",
    "error": "red",
}


# Behind a failure of that kind, for who types.
_HINTS = {"model_not_found": " Ids are as pumas models and pumas search show them."}


def at_terminal() -> bool:
    """Whether somebody can be asked something."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def clean(value: object) -> str:
    """One line of printable text."""
    text = "" if value is None else str(value)
    return "".join(" " if c in "\t\n\r" else c for c in text if c in "\t\n\r" or unicodedata.category(c) not in _HIDDEN)


def size(count: int | float | None) -> str:
    """Bytes for people, in units of 1024."""
    if count is None:
        return ""
    number = float(count)
    for unit in _UNITS[:-1]:
        if abs(number) < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} {_UNITS[-1]}"


def moment(stamp: str | None) -> str:
    """An ISO time cut to the minute (UTC)."""
    return "" if stamp is None else stamp[:16].replace("T", " ")


class Output:
    """`as_json` decides the form of results; whether stdout is a terminal decides the rest.

    `verbatim` leaves failures in the words of the wire, for who speaks it.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.verbatim = False
        if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison] - closed by the caller: `pumas … >&-`
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
        self.tty = sys.stdout.isatty()

    def document(self, value: Any) -> None:
        """The JSON document of a result; indented for a person."""
        pretty = self.tty
        text = json.dumps(value, ensure_ascii=not pretty, indent=2 if pretty else None)
        sys.stdout.write(text + "\n")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table; for a pipe, one line per row with tabs between the columns and no heading."""
        if not self.tty:
            sys.stdout.writelines("\t".join(clean(cell) for cell in row) + "\n" for row in rows)
            return
        # Imported where a terminal needs it: rich costs more than a whole call.
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(box=box.SIMPLE, pad_edge=False, header_style="bold")
        console = Console()
        shown = [[Text(text := clean(cell), style=STYLES.get(text, "")) for cell in row] for row in rows]
        # What is copied into the next command stays in one piece where there is room for the rest beside it.
        first = max((row[0].cell_len for row in shown if row), default=0)
        for number, column in enumerate(columns):
            whole = max(first, len(column)) if number == 0 and first <= console.width * 3 // 5 else None
            drawn.add_column(column, width=whole, overflow="fold", justify="right" if column == "size" else "left")
        for row in shown:
            drawn.add_row(*row)
        console.print(drawn)

    def facts(self, facts: Mapping[str, object]) -> None:
        """One fact per line."""
        if not self.tty:
            sys.stdout.writelines(f"{name}\t{clean(value)}\n" for name, value in facts.items())
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table.grid(padding=(0, 2))
        for name, value in facts.items():
            drawn.add_row(Text(name, style="bold"), Text(text := clean(value), style=STYLES.get(text, "")))
        Console().print(drawn)

    def line(self, text: str) -> None:
        sys.stdout.write(clean(text) + "\n")

    def say(self, text: str) -> None:
        """Something said on the way, which is no part of the result."""
        sys.stderr.write(f"{clean(text)}\n")
        sys.stderr.flush()

    def error(self, message: str, kind: str) -> None:
        """The one line that says what went wrong and what to do; with --json also as the document."""
        if self.as_json:
            with contextlib.suppress(OSError):  # what could not be written may be the very reason
                self.document({"success": False, "error": message, "error_code": kind})
        self.say(f"pumas: {message if self.verbatim else typed(message) + _HINTS.get(kind, '')}")
