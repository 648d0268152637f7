"""One run over all figures and methods: what fails is told and does not end the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bench.both import page
from bench.both.figures import FIGURES, Contest
from bench.both.methods import Compared, examples, measure
from bench.table import Row, Run
from contract.served import WRAPPERS, rust_methods

METHODS = "methods"
PARTS = [*(figure.__name__ for figure in FIGURES), METHODS]


@dataclass
class Outcome:
    """What was measured; `alone` are methods that only the second backend serves, `failed` says what and why."""

    alone: list[str]
    rows: list[Row] = field(default_factory=list[Row])
    compared: list[Compared] = field(default_factory=list[Compared])
    failed: list[str] = field(default_factory=list[str])

    def page(self, machine: str) -> str:
        return page.write(machine, self.rows, self.compared, self.alone, self.failed)


def run(
    size: Run,
    say: Callable[[str], None],
    parts: Sequence[str] = PARTS,
    backends: tuple[str, str] = ("rust", "python"),
) -> Outcome:
    """`say` is told what is measured next; `parts` are of `PARTS`."""
    everything = frozenset(WRAPPERS)
    served = rust_methods() if "rust" in backends else everything
    contest = Contest(size, served, backends)
    outcome = Outcome(sorted(everything - served))
    for figure in (figure for figure in FIGURES if figure.__name__ in parts):
        say(figure.__name__)
        try:
            outcome.rows += figure(contest)
        except Exception as error:
            outcome.failed.append(f"{figure.__name__}: {_words(error)}")
    if METHODS in parts:
        _methods(outcome, contest, say)
    return outcome


def methods(size: Run, names: Iterable[str], backends: tuple[str, str] = ("rust", "python")) -> list[Compared]:
    """Only these methods; raises what goes wrong."""
    contest = Contest(size, frozenset(WRAPPERS), backends)
    found = examples(contest.served)
    return [measure(contest, found[name]) for name in names]


def _methods(outcome: Outcome, contest: Contest, say: Callable[[str], None]) -> None:
    found = examples(contest.served)
    outcome.failed += [f"`{name}`: no example of a success" for name in sorted(contest.served - found.keys())]
    for name, path in sorted(found.items()):
        say(name)
        try:
            outcome.compared.append(measure(contest, path))
        except Exception as error:
            outcome.failed.append(f"`{name}`: {_words(error)}")


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:200]
