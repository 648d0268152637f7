"""How many models have each value by which a search can be filtered: of all models, or of those that a search finds.

A value's count is what choosing it would find: values of one kind are alternatives, so a kind is counted without its
own filter; tags, all of which must be there, are counted with theirs. `search.py` says which models match; nothing
here knows how. A pass over models groups them first, so that their words are read once for each group. Where many
models match, their rows are not read at all: `Columns` holds the group and the tags of each, some 5 MB for 100,000.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from heapq import heappush, heappushpop
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

import orjson

from pumas.library.entry import formats_and_quantizations
from pumas.library.words import same, size_band

# Of each kind, so many values are worth showing.
MOST_VALUES: Final = 100

Chosen = Mapping[str, frozenset[str]]
"""Kind -> values that were chosen, for the kinds of `VALUES_OF` alone; a kind that is not there has no filter."""
# Kinds whose values are compared without case.
FOLDED: Final = frozenset({"families", "quants"})


class Matching(NamedTuple):
    """Which models match: a condition on `models`, and the values of its parameters."""

    condition: str = "1"
    values: tuple[str, ...] = ()


# The group of a row that is no model's.
_NO_MODEL: Final = -1


class FacetCounts(NamedTuple):
    """Value to number of models, the most frequent first; `sizes` holds bands, see `words.size_band`."""

    types: dict[str, int]
    families: dict[str, int]
    formats: dict[str, int]
    quants: dict[str, int]
    sizes: dict[str, int]
    tags: dict[str, int]
    apps: dict[str, int]


class _Group(NamedTuple):
    """Models that have these in common."""

    model_type: str
    family: str
    kinds: str
    gib: int | None


VALUES_OF: Final[Mapping[str, Callable[[_Group], list[str]]]] = {
    "types": lambda group: [group.model_type],
    "families": lambda group: [group.family],
    "formats": lambda group: formats_and_quantizations(group.kinds)[0],
    "quants": lambda group: formats_and_quantizations(group.kinds)[1],
    "sizes": lambda group: [] if group.gib is None else [size_band(group.gib << 30)],
}


def forms(kind: str, values: Iterable[str]) -> frozenset[str]:
    """Values in the form in which they are compared."""
    return frozenset(map(same, values) if kind in FOLDED else values)


def properties(c: sqlite3.Connection, matching: Matching, chosen: Chosen) -> dict[str, dict[str, int]]:
    """Counts of the kinds of `VALUES_OF`. `matching` holds all filters but those that are `chosen`."""
    sql = "SELECT model_type, family, kinds, size_bytes / 1073741824, count(*) FROM models "
    sql += f"WHERE {matching.condition} GROUP BY 1, 2, 3, 4"
    rows = c.execute(sql, matching.values)
    return _by_kind(((_Group(*columns), count) for *columns, count in rows), chosen)


def _by_kind(groups: Iterable[tuple[_Group, int]], chosen: Chosen) -> dict[str, dict[str, int]]:
    """`groups` come in order: of values that are equally frequent the one that came first is shown first."""
    counters = {kind: Counter[str]() for kind in VALUES_OF}
    for group, count in groups:
        values = {kind: read(group) for kind, read in VALUES_OF.items()}
        failed = [kind for kind, wanted in chosen.items() if wanted.isdisjoint(forms(kind, values[kind]))]
        if len(failed) > 1:
            continue
        for kind in failed or VALUES_OF:
            counters[kind].update(dict.fromkeys(filter(None, values[kind]), count))
    return {kind: dict(counter.most_common(MOST_VALUES)) for kind, counter in counters.items()}


def tags(c: sqlite3.Connection, matching: Matching) -> dict[str, int]:
    sql = f"SELECT value, count(*) FROM models, json_each(tags_json) WHERE {matching.condition} "  # noqa: S608 - fixed words only
    sql += "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?"
    return dict(c.execute(sql, (*matching.values, MOST_VALUES)))


def apps(c: sqlite3.Connection, matching: Matching, models_of: Mapping[str, str]) -> dict[str, int]:
    """`models_of` has ids as a JSON array for each app; one without a match is left out."""
    sql = "SELECT count(*) FROM models WHERE id IN (SELECT value FROM json_each(?)) AND "
    sql += matching.condition
    return _most_used({app: c.execute(sql, (ids, *matching.values)).fetchone()[0] for app, ids in models_of.items()})


def _most_used(counted: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter({app: count for app, count in counted.items() if count}).most_common(MOST_VALUES))


class Columns:
    """What the models of one revision are counted by. Rows are those of the table `models`, as positions."""

    def __init__(self, c: sqlite3.Connection) -> None:
        numbers: dict[_Group, int] = {}
        group_of = array("i")
        rows_of: dict[str, array[int]] = {}
        sql = "SELECT row, tags_json, model_type, family, kinds, size_bytes / 1073741824 FROM models ORDER BY row"
        for row, tags_json, *properties_ in c.execute(sql):
            group_of.extend([_NO_MODEL] * (row - len(group_of)))
            group_of.append(numbers.setdefault(_Group(*properties_), len(numbers)))
            for tag in orjson.loads(tags_json):
                rows_of.setdefault(tag, array("i")).append(row)
        # None comes before numbers, as it does in SQLite.
        self._groups = sorted(numbers, key=lambda group: (*group[:3], group.gib is not None, group.gib or 0))
        places = array("i", bytes(4 * len(numbers)))
        for place, group in enumerate(self._groups):
            places[numbers[group]] = place
        self._group_of = array("i", (group if group < 0 else places[group] for group in group_of))
        # The most frequent first, and of those the first in the alphabet.
        frequent = sorted(rows_of, key=lambda tag: (-len(rows_of[tag]), tag))
        self._tags = frequent
        self._tagged = array("i")
        for tag in frequent:
            self._tagged.extend(rows_of[tag])
        self._ends = array("i", accumulate((len(rows_of[tag]) for tag in frequent), initial=0))

    def rows(self) -> list[int]:
        """Of all models."""
        return [row for row, group in enumerate(self._group_of) if group >= 0]

    def properties(self, rows: Iterable[int], chosen: Chosen) -> dict[str, dict[str, int]]:
        """As the function of that name, of these rows."""
        counts = Counter(map(self._group_of.__getitem__, rows))
        return _by_kind(((self._groups[place], counts[place]) for place in sorted(counts)), chosen)

    def tags(self, rows: Iterable[int]) -> dict[str, int]:
        """As the function of that name, of these rows."""
        among = self._mask(rows).__getitem__
        least: list[int] = []
        counted: list[tuple[int, str]] = []
        for tag, (start, end) in zip(self._tags, pairwise(self._ends), strict=True):
            if len(least) == MOST_VALUES and end - start < least[0]:
                break  # nor has any later one enough
            count = sum(map(among, self._tagged[start:end]))
            if count:
                counted.append((-count, tag))
                (heappush if len(least) < MOST_VALUES else heappushpop)(least, count)
        return {tag: -count for count, tag in sorted(counted)[:MOST_VALUES]}

    def apps(self, c: sqlite3.Connection, rows: Iterable[int], models_of: Mapping[str, str]) -> dict[str, int]:
        """As the function of that name, of these rows."""
        among = self._mask(rows).__getitem__
        sql = "SELECT row FROM models WHERE id IN (SELECT value FROM json_each(?))"

        def count(ids: str) -> int:
            return sum(map(among, (row[0] for row in c.execute(sql, (ids,)))))

        return _most_used({app: count(ids) for app, ids in models_of.items()})

    def _mask(self, rows: Iterable[int]) -> bytearray:
        mask = bytearray(len(self._group_of))
        for row in rows:
            mask[row] = 1
        return mask
