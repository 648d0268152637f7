"""How many models have each value by which a search can be filtered: of all models, or of those that a search finds.

A value's count is what choosing it would find: values of one kind are alternatives, so a kind is counted without its
own filter; tags, all of which must be there, are counted with theirs. `search.py` says which models match; nothing
here knows how. The one pass over many models groups them first, so that their words are read once for each group.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

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
    counters = {kind: Counter[str]() for kind in VALUES_OF}
    sql = "SELECT model_type, family, kinds, size_bytes / 1073741824, count(*) FROM models "
    sql += f"WHERE {matching.condition} GROUP BY 1, 2, 3, 4"
    for *columns, count in c.execute(sql, matching.values):
        group = _Group(*columns)
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
    counted = {app: c.execute(sql, (ids, *matching.values)).fetchone()[0] for app, ids in models_of.items()}
    return dict(Counter({app: count for app, count in counted.items() if count}).most_common(MOST_VALUES))
