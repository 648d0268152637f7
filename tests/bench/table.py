"""What a benchmark gets and gives: `Run` says how much to measure, `Row` is one figure with its baseline and target."""

from __future__ import annotations

import enum
import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class Size(enum.Enum):
    """FULL gives the figures that count, QUICK a look in seconds, TINY only shows that the benchmark still runs."""

    FULL = "full"
    QUICK = "quick"
    TINY = "tiny"


@dataclass(frozen=True)
class Run:
    """`folder` is empty, belongs to this benchmark alone and is removed afterwards."""

    size: Size
    folder: Path

    def pick(self, *, full: T, quick: T, tiny: T) -> T:
        """The amount for this run's size."""
        return {Size.FULL: full, Size.QUICK: quick, Size.TINY: tiny}[self.size]


@dataclass(frozen=True)
class Row:
    """One figure. The `ratio_` targets are for measured / baseline, the others for the measured value itself.

    Without any target the row is information.
    """

    name: str
    measured: float
    unit: str
    baseline: float | None = None
    ratio_at_most: float | None = None
    ratio_at_least: float | None = None
    at_most: float | None = None
    at_least: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.measured / self.baseline if self.baseline else None

    @property
    def ok(self) -> bool:
        """False when a target is missed, or cannot be judged because its baseline is missing."""
        ratio = self.ratio
        return all(
            (
                self.at_most is None or self.measured <= self.at_most,
                self.at_least is None or self.measured >= self.at_least,
                self.ratio_at_most is None or (ratio is not None and ratio <= self.ratio_at_most),
                self.ratio_at_least is None or (ratio is not None and ratio >= self.ratio_at_least),
            )
        )

    @property
    def target(self) -> str:
        """The targets in words, empty for information."""
        limits = (
            ("≤", self.at_most, f" {self.unit}"),
            ("≥", self.at_least, f" {self.unit}"),
            ("≤", self.ratio_at_most, " ×"),
            ("≥", self.ratio_at_least, " ×"),
        )
        return ", ".join(f"{sign} {number(limit)}{unit}" for sign, limit, unit in limits if limit is not None)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio, "target": self.target, "ok": self.ok}


def number(value: float) -> str:
    """Three significant digits, with thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


Benchmark = Callable[[Run], list[Row]]


def interleave(rounds: int, *measures: Callable[[], float]) -> list[float]:
    """Call all measures once in each of the `rounds`, so that a busy moment hits all alike: their medians.

    Each round has an order of its own: what one leaves behind (memory, the disk's queue) is not always met by the same.
    """
    found: list[list[float]] = [[] for _ in measures]
    turns = list(zip(found, measures, strict=True))
    for number in range(rounds):
        for values, measure in random.Random(number).sample(turns, len(turns)):
            values.append(measure())
    return [statistics.median(values) for values in found]


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes, without the collector's share of earlier garbage."""
    gc.collect()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed. Raises ValueError when there are none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
