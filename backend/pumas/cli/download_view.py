"""How downloads look while they run: live bars at a terminal, few plain lines in a pipe, nothing with --json.

Draws what it is told; asks nobody and knows no client.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pumas.cli.output import STYLES, Output, clean, size
from pumas.cli.units import duration, of_total

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_MOST_FILES = 8
WIDE = 110
_USUAL = 70
# In a pipe: a line per tenth or change of state, but not within so many seconds; and one after a long silence.
_SILENCE_S = 60.0
_CALM_S = 5.0


@dataclass(frozen=True)
class Moving:
    """A file that bytes arrive for."""

    path: str
    done: int
    size: int


@dataclass(frozen=True)
class Shown:
    """One download at this moment; sizes in bytes, `speed` in bytes per second, `place` how many wait before it."""

    id: str
    title: str
    status: str
    done: int
    total: int
    speed: float = 0.0
    eta_s: float | None = None
    message: str = ""
    place: int | None = None
    files: Sequence[Moving] = field(default=())

    @property
    def share(self) -> float:
        """0.0 to 1.0; an empty download is whole."""
        return min(1.0, self.done / self.total) if self.total else 1.0

    @property
    def percent(self) -> str:
        """Rounded down: 100 % means all."""
        return f"{int(self.share * 100)} %"

    @property
    def words(self) -> str:
        """What it is at, in a few words."""
        before = f", {self.place} before it" if self.place else ""
        said = f": {self.message}" if self.message else ""
        pace = f", {size(self.speed)}/s" if self.speed >= 1 and self.status == "downloading" else ""
        left = f", {duration(self.eta_s)} left" if pace and self.eta_s is not None else ""
        return f"{self.status}{before}{pace}{left}{said}"


Show = Callable[[Sequence[Shown]], None]


@contextmanager
def view(out: Output) -> Generator[Show]:
    """What to call with the downloads whenever something about them has changed."""
    if out.as_json:
        yield lambda _downloads: None
        return
    if sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True)
        if not console.is_dumb_terminal:
            with _bars(console) as show:
                yield show
            return
    yield Lines(out.say).show


# -- at a terminal ---------------------------------------------------------------------------------------------------


@contextmanager
def _bars(console: Console) -> Generator[Show]:
    from rich.live import Live

    now: Sequence[Shown] = ()

    def show(downloads: Sequence[Shown]) -> None:
        nonlocal now
        now = downloads

    with Live(get_renderable=lambda: picture(now, *console.size), console=console, transient=True):
        yield show


def picture(downloads: Sequence[Shown], width: int, height: int) -> RenderableType:
    """For each download its moving files, all of it, and what it is at. Never higher or wider than the terminal."""
    from rich.console import Group
    from rich.text import Text

    # Below the bars stand the words, on two lines when they are long.
    room = max(1, (height - 1) // max(1, len(downloads)) - 3)
    parts: list[RenderableType] = []
    for one in downloads:
        hidden = len(one.files) - min(room, _MOST_FILES)
        parts.append(_bars_of(one, one.files[: min(room, _MOST_FILES)], width))
        more = f" ({hidden} more files)" if hidden > 0 else ""
        style = STYLES.get(one.status, "")
        parts.append(Text(clean(one.words) + more, style=style))
    return Group(*parts)


def _bars_of(one: Shown, files: Sequence[Moving], width: int) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    bar = 40 if width >= WIDE else 20 if width >= _USUAL else 5
    table = Table.grid(padding=(0, 2, 0, 0), expand=True, pad_edge=False)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(width=bar)
    table.add_column(width=5, justify="right", no_wrap=True)
    table.add_column(width=16, justify="right", no_wrap=True)
    # What the other columns and the gaps between them leave.
    name_width = max(8, width - bar - 5 - 16 - 3 * 2)
    for file in files:
        name = Text(_end_of(clean(file.path), name_width), style="dim")
        table.add_row(name, *_progress(file.done, file.size, bar))
    table.add_row(Text(_end_of(clean(one.title), name_width), style="bold"), *_progress(one.done, one.total, bar))
    return table


def _progress(done: int, total: int, width: int) -> tuple[RenderableType, str, str]:
    from rich.progress_bar import ProgressBar

    shown = Shown("", "", "", done, total)
    return ProgressBar(total=1.0, completed=shown.share, width=width), shown.percent, of_total(done, total)


def _end_of(text: str, width: int) -> str:
    """Paths differ at their ends."""
    return text if len(text) <= width else f"…{text[1 - width :]}"


# -- in a pipe -------------------------------------------------------------------------------------------------------


class Lines:
    """Says a line at each tenth and when the status changes, though not all the time, and after a minute without."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._said: dict[str, tuple[float, str, int]] = {}

    def show(self, downloads: Sequence[Shown]) -> None:
        for one in downloads:
            moment, tenth = self._clock(), int(one.share * 10)
            last = self._said.get(one.id)
            if last is None or self._worth_a_line(one, tenth, moment - last[0], *last[1:]):
                self._said[one.id] = (moment, one.status, tenth)
                self._say(f"{one.title}: {one.percent} of {size(one.total)}, {one.words}")

    @staticmethod
    def _worth_a_line(one: Shown, tenth: int, silence_s: float, status: str, last_tenth: int) -> bool:
        changed = (one.status, tenth) != (status, last_tenth)
        return silence_s >= (_CALM_S if changed else _SILENCE_S)
