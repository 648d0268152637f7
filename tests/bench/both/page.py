"""Writes `docs/benchmarks.md` from what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.both.methods import Compared
from bench.table import Row, number

AS_FAST = 1.1
"""Up to so many times the time of the Rust backend counts as being as fast."""

_HEAD = """\
# Benchmarks

Both backends, measured in turns in one run on one machine: what counts are the ratios. Made by

    ./launcher bench --compare

on {machine}.

## Figures

`ratio` is Rust to Python (in the lines about curl: Rust to curl).

"""
_AS_FAST = """
## Where Python is as fast

"""
_METHODS = """
## Methods

Milliseconds from a request to the end of its reply, over a kept connection, as the contract's examples ask; MB of the
whole process in memory afterwards. Calls marked * change something: each was made of a sidecar of its own.

"""
_ALONE = """
## Served by Python alone

"""
_FAILED = """
## Not measured

"""


def write(
    machine: str, rows: Sequence[Row], compared: Sequence[Compared], alone: Sequence[str], failed: Sequence[str]
) -> str:
    """The page's text. `alone` are the methods that only the Python backend serves."""
    return "".join(
        (
            _HEAD.format(machine=machine),
            _table(("figure", "Rust", "Python", "ratio", "target", "met"), map(_figure, rows)),
            _AS_FAST,
            _equals(rows, compared),
            _METHODS,
            _table(
                ("method", "calls", "Rust p50", "p99", "MB", "Python p50", "p99", "MB", "Python : Rust"),
                map(_method, compared),
            ),
            *([_ALONE, _listed(alone)] if alone else []),
            *([_FAILED, "".join(f"- {one}\n" for one in failed)] if failed else []),
        )
    )


def _figure(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        f"{number(row.measured)} {row.unit}",
        "" if row.baseline is None else f"{number(row.baseline)} {row.unit}",
        "" if row.ratio is None else f"{row.ratio:.2f}",
        row.target,
        "" if not row.target else "yes" if row.ok else "**no**",
    )


def _method(one: Compared) -> tuple[str, ...]:
    costs = [number(value) for cost in one.costs for value in (cost.p50_ms, cost.p99_ms, cost.memory_mb)]
    return (f"`{one.name}`", f"{one.calls}{'*' if one.fresh else ''}", *costs, f"{one.ratio:.1f}")


def _equals(rows: Sequence[Row], compared: Sequence[Compared]) -> str:
    figures = [row.name for row in rows if row.ratio is not None and "curl" not in row.name and _is_equal(row)]
    methods = [f"`{one.name}` ({one.ratio:.2f})" for one in compared if one.ratio <= AS_FAST]
    lines = [f"- {name}\n" for name in figures]
    if methods:
        lines.append(f"- by the time of half of the calls, Python to Rust: {', '.join(methods)}\n")
    return "".join(lines) or "Nowhere in this run.\n"


def _is_equal(row: Row) -> bool:
    """A rate is the better the higher, a time or a weight the lower."""
    assert row.ratio is not None
    return row.ratio <= AS_FAST if row.unit.endswith("/s") else row.ratio >= 1 / AS_FAST


def _table(titles: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(titles) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (titles, rule, *lines))


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} methods: {', '.join(f'`{name}`' for name in names)}.\n"
