"""Search in the index: any text becomes a safe expression, filters and paging happen in SQL, totals are true.

All words must match, each as the beginning of an indexed word. When nothing has them all, `llama3` is also taken for
`llama 3`; when that finds nothing either, models with any of them are shown and the result says so. Order, best first:
the name is the query; all its words are words of the name; all begin words of the name; all are in name, tags or other
short fields; the rest, which needs the description. Up to `NARROW` matches are weighed one by one inside that order
(`qwen` is a word of both Qwen2.5 and DeepSeek-R1-Distill-Qwen; the former begins with it). More than that are taken
newest first, because weighing all of, say, 30,000 matches (FTS5's bm25 does) takes 30 times longer than finding them.

A person may ask for another order (`Sort`). Few matches are then sorted by their rows; for many, the order of all
models is read once and remembered (`_Orders`), 400 KB for 100,000 models, and a page is taken by walking along it.

Filters are words too (`words.facet`), so that counting stays one pass over the search table. Nothing here writes.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress, islice
from typing import Any, Final, Literal, NamedTuple

import orjson

from pumas import footprint
from pumas.library import facets
from pumas.library.facets import FacetCounts, Matching
from pumas.library.formats.quantization import detect_quantization
from pumas.library.words import apart, facet, same, words

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
MAX_OFFSET = 2**31
MAX_TEXT = 4096
MAX_TERMS = 16
MAX_TERM = 64
MAX_FILTERS = 64
DEADLINE_S = 1.0
# The first search in an order reads that of all models: half a second for 100,000, more on a slow disk.
SORTED_DEADLINE_S = 9.0

NARROW = 256
# So many rows are listed; of more, the index is asked for the page alone, and which of them are in no better tier.
MODERATE = 4000
# A filter that keeps fewer rows is read and sorted; one that keeps more is met soon by walking from the newest on.
_SORTED = 2000
_REMEMBERED = 2000
_DIGITS = frozenset("0123456789")
# What it adds to a score that the name begins with the first word: no more than any other difference.
_FIRST = 1
# So many models are counted faster from memory than by reading the row of each.
_MANY = 2000

_NAME: Final = "{official_name other_names}"
_FOUND: Final = "row IN (SELECT rowid FROM model_search WHERE model_search MATCH ?)"
_AMONG: Final = "models.id IN (SELECT value FROM json_each(?))"
_WITHIN: Final = " AND +rowid IN (SELECT row FROM models WHERE id IN (SELECT value FROM json_each(?)))"
_SHORT: Final = "{official_name other_names model_type tags family kinds}"

Match = Literal["all", "any"]
Sort = Literal["relevance", "newest", "name", "largest", "smallest"]

# Each ends with what no two models share, so that pages never overlap. A size that nobody knows comes last.
_ORDERS: Final[Mapping[Sort, str]] = {
    "newest": "updated_at DESC, row DESC",
    "name": "name_key, id",
    "largest": "size_bytes IS NULL, size_bytes DESC, id",
    "smallest": "size_bytes IS NULL, size_bytes, id",
}


@dataclass(frozen=True)
class Filters:
    """Several types, families, formats, quantisations or sizes mean any of them; all tags must be there.

    Types and formats are compared exactly, the rest without case. `sizes` are bands, see `words.size_band`. With `ids`
    only these models are looked at.
    """

    model_types: Sequence[str] = ()
    tags: Sequence[str] = ()
    subtype: str | None = None
    families: Sequence[str] = ()
    formats: Sequence[str] = ()
    quants: Sequence[str] = ()
    sizes: Sequence[str] = ()
    ids: Sequence[str] | None = None

    def facets(self) -> list[list[str]]:
        """Groups of facets: of each group at least one must be there."""
        groups = [[facet("tag", same(tag.strip()))] for tag in self.tags[:MAX_FILTERS]]
        any_of = (
            ("type", self.model_types),
            ("subtype", () if self.subtype is None else (self.subtype,)),
            ("family", [same(family.strip()) for family in self.families]),
            ("format", self.formats),
            ("quant", [_quant(quant) for quant in self.quants]),
            ("size", self.sizes),
        )
        return groups + [[facet(kind, v) for v in values[:MAX_FILTERS]] for kind, values in any_of if values]

    @property
    def none(self) -> bool:
        return self.ids is None and not self.facets()

    def chosen(self) -> facets.Chosen:
        """The filters of which each is left out where its own kind is counted."""
        by_kind = {
            "types": self.model_types,
            "families": [family.strip() for family in self.families],
            "formats": self.formats,
            "quants": [_quant(quant) for quant in self.quants],
            "sizes": self.sizes,
        }
        return {kind: facets.forms(kind, values[:MAX_FILTERS]) for kind, values in by_kind.items() if values}

    def without_chosen(self) -> Filters:
        return replace(self, model_types=(), families=(), formats=(), quants=(), sizes=())


def _quant(text: str) -> str:
    return detect_quantization(text) or same(text.strip())


class Hit(NamedTuple):
    """One model found, in the order of the selected columns."""

    id: str
    official_name: str
    cleaned_name: str
    model_type: str
    subtype: str
    family: str
    tags: list[str]
    description: str
    primary_file: str
    repo_id: str
    size_bytes: int | None
    security_tier: str
    added_date: str | None
    last_used: str | None
    updated_at: str
    related_available: bool
    state: str
    storage: str
    kinds: str


_HIT_COLUMNS: Final = (
    "row, id, official_name, cleaned_name, model_type, subtype, family, tags_json, description, primary_file, repo_id, "
    "size_bytes, security_tier, added_date, last_used, updated_at, related_available, state, storage, kinds"
)

_TAGS, _RELATED = Hit._fields.index("tags"), Hit._fields.index("related_available")


@dataclass(frozen=True)
class Page:
    """`total` counts all matches. `match` says whether all words were found or only any; `query` is the expression."""

    hits: list[Hit]
    total: int
    query: str
    match: Match
    took_ms: float


@dataclass
class _Counts:
    """Totals of one revision of the library."""

    revision: int = -1
    known: dict[str, int] = field(default_factory=dict[str, int])


@dataclass
class _Orders:
    """All rows of one revision of the library, for each order that was asked for."""

    revision: int = -1
    known: dict[Sort, array[int]] = field(default_factory=dict[Sort, "array[int]"])


def terms(text: str) -> list[str]:
    """The different words of a query, at most MAX_TERMS, each cut to MAX_TERM characters."""
    return list(dict.fromkeys(word[:MAX_TERM] for word in words(text[:MAX_TEXT])))[:MAX_TERMS]


class Searcher:
    """Stateless but for the totals, the orders and what models are counted by; until the library changes it remembers.

    Any thread may call it. With fewer matches than `many` their rows are read each time instead.
    """

    def __init__(self, *, many: int = _MANY) -> None:
        self._counts = _Counts()
        self._many = many
        self._reading = threading.Lock()
        self._columns: tuple[int, facets.Columns] | None = None
        self._orders = _Orders()

    def search(
        self,
        c: sqlite3.Connection,
        text: str,
        *,
        filters: Filters = Filters(),
        limit: int | None = None,
        offset: int = 0,
        sort: Sort = "relevance",
    ) -> Page:
        """Find models. `limit` None means DEFAULT_LIMIT; it is kept within 1 to MAX_LIMIT, `offset` from 0 on."""
        started = time.perf_counter()
        limit = DEFAULT_LIMIT if limit is None else min(max(limit, 1), MAX_LIMIT)
        offset = min(max(offset, 0), MAX_OFFSET)
        look = _Look(c, self._current(c), filters)
        found = terms(text)
        by_weight = sort == "relevance" or (sort == "newest" and not found)

        def find(asked: list[str], operator: str) -> tuple[str, list[int], int]:
            if by_weight:
                return look.find(asked, operator, limit, offset) if asked else look.newest(limit, offset)
            return self._sorted(look, asked, operator, sort, limit, offset)

        match: Match = "all"
        query, rows, total = find([], " AND ") if not found else ("", [], 0)
        for asked, operator in _ways(found):
            match = "all" if operator == " AND " else "any"
            query, rows, total = find(asked, operator)
            if total:
                break
        hits = look.hits(rows)
        return Page(hits, total, query, match, round((time.perf_counter() - started) * 1000, 3))

    def facets(
        self, c: sqlite3.Connection, text: str, filters: Filters, models_of: Mapping[str, Sequence[str]]
    ) -> FacetCounts:
        """Count what `search` finds, by kind. `models_of` has the ids of the models that each app uses."""
        known, ways = self._current(c), _ways(terms(text)) or [([], " AND ")]
        look = _Look(c, known, filters)
        found, operator = next((way for way in ways[:-1] if look.has_any(*way)), ways[-1])
        of_apps = {app: _json(ids) for app, ids in models_of.items()}
        others, of_any_app = filters.without_chosen(), replace(filters, ids=None)
        if _Look(c, known, others).are_more_than(self._many, found, operator):
            columns = self._columns_of(c, known.revision)

            def rows(chosen: Filters) -> Sequence[int]:
                found_rows = _Look(c, known, chosen).rows(found, operator)
                return columns.rows() if found_rows is None else found_rows

            whole_rows = rows(filters)
            return FacetCounts(
                **columns.properties(whole_rows if others == filters else rows(others), filters.chosen()),
                tags=columns.tags(whole_rows),
                apps=columns.apps(c, whole_rows if of_any_app == filters else rows(of_any_app), of_apps),
            )

        def matching(chosen: Filters) -> Matching:
            return _Look(c, known, chosen).condition(found, operator)

        whole = matching(filters)
        return FacetCounts(
            **facets.properties(c, matching(others), filters.chosen()),
            tags=facets.tags(c, whole),
            apps=facets.apps(c, matching(of_any_app), of_apps),
        )

    def _sorted(
        self, look: _Look, found: list[str], operator: str, sort: Sort, limit: int, offset: int
    ) -> tuple[str, list[int], int]:
        """As `_Look.find`, in another order than the best first."""
        expression = _begun(found, operator) if found else ""
        rows = look.rows(found, operator)
        total = look.count_all() if rows is None else len(rows)
        if offset >= total:
            return expression, [], total
        if total <= self._many:
            return expression, look.in_order(rows, _ORDERS[sort], limit, offset), total
        order = self._order_of(look, sort)
        if rows is None:
            return expression, order[offset : offset + limit].tolist(), total
        among = bytearray(max(order) + 1)
        for row in rows:
            among[row] = 1
        kept = compress(order, map(among.__getitem__, order))
        return expression, list(islice(kept, offset, offset + limit)), total

    def _order_of(self, look: _Look, sort: Sort) -> array[int]:
        """All rows in this order, as of the snapshot that `look` looks at."""
        with self._reading:
            if self._orders.revision != look.revision:
                self._orders = _Orders(look.revision)
            order = self._orders.known.get(sort)
            if order is None:
                order = self._orders.known[sort] = array("i", look.in_order(None, _ORDERS[sort], -1, 0))
                footprint.give_back()
            return order

    def _columns_of(self, c: sqlite3.Connection, revision: int) -> facets.Columns:
        with self._reading:
            if self._columns is None or self._columns[0] != revision:
                # Two at once would be one too many.
                self._columns = None
                self._columns = revision, facets.Columns(c)
                footprint.give_back()
            return self._columns[1]

    def _current(self, c: sqlite3.Connection) -> _Counts:
        revision: int = c.execute("SELECT revision FROM library_state").fetchone()[0]
        counts = self._counts
        if counts.revision != revision or len(counts.known) > _REMEMBERED:
            counts = self._counts = _Counts(revision)
        return counts


class _Look:
    """One search over one snapshot of the index."""

    def __init__(self, c: sqlite3.Connection, counts: _Counts, filters: Filters) -> None:
        self._c = c
        self._counts = counts
        self.revision = counts.revision
        self._groups = filters.facets()
        self._filter = " AND ".join(f"({' OR '.join(_quoted(f) for f in group)})" for group in self._groups)
        # Holds for both tables. The plus keeps SQLite from asking the search table for each row by itself.
        self._within = "" if filters.ids is None else _WITHIN
        self._ids = () if filters.ids is None else (_json(filters.ids),)

    def condition(self, found: list[str], operator: str) -> Matching:
        """All that matches, as a condition on `models`."""
        expression = self._expression(found, operator)
        conditions = [_FOUND] * bool(expression) + [_AMONG] * len(self._ids)
        return Matching(" AND ".join(conditions) or "1", (*filter(None, [expression]), *self._ids))

    def _expression(self, found: list[str], operator: str) -> str:
        """Filters and words; "" when everything matches."""
        return self._filtered(_begun(found, operator)) if found else self._filter

    def rows(self, found: list[str], operator: str, limit: int = -1) -> list[int] | None:
        """Up to `limit` of all that matches, in no order; None for everything."""
        expression = self._expression(found, operator)
        if expression:
            return self._all_matching(expression, limit)
        return self._numbers(f"SELECT row FROM models WHERE {_AMONG}", self._ids, limit) if self._ids else None  # noqa: S608 - fixed words only

    def _all_matching(self, match: str, limit: int = -1) -> list[int]:
        """Rows that match this whole expression, the newest first; with a limit, any so many of them."""
        # Backwards the search table needs half as long again.
        sql = f"SELECT rowid AS row FROM model_search WHERE model_search MATCH ?{self._within}"  # noqa: S608 - fixed words only
        return self._numbers(sql, (match, *self._ids), limit)[::-1]

    def _numbers(self, sql: str, values: tuple[str, ...], limit: int, offset: int = 0) -> list[int]:
        """One text of a hundred thousand numbers is read faster than as many rows."""
        sql = f"SELECT json_group_array(row) FROM ({sql} LIMIT ? OFFSET ?)"  # noqa: S608 - fixed words only
        return orjson.loads(self._c.execute(sql, (*values, limit, offset)).fetchone()[0])

    def in_order(self, rows: list[int] | None, order: str, limit: int, offset: int) -> list[int]:
        """These rows, or all, by one of `_ORDERS`."""
        among, values = ("", ()) if rows is None else ("WHERE row IN (SELECT value FROM json_each(?))", (_json(rows),))
        sql = f"SELECT row FROM models {among} ORDER BY {order}"  # noqa: S608 - fixed words only
        return self._numbers(sql, values, limit, offset)

    def are_more_than(self, many: int, found: list[str], operator: str) -> bool:
        """Whether so many match."""
        rows = self.rows(found, operator, many + 1)
        return (self.count_all() if rows is None else len(rows)) > many

    def has_any(self, found: list[str], operator: str) -> bool:
        return bool(self._matching(_begun(found, operator), 1, 0))

    # -- with words --------------------------------------------------------------------------------------------------

    def find(self, found: list[str], operator: str, limit: int, offset: int) -> tuple[str, list[int], int]:
        """(the expression without filters, the page's rows, the count of all matches)."""
        expression = _begun(found, operator)
        matching = None
        if len(found) == 1 and not self._filter and not self._ids:
            # One word is counted in no time.
            total = self._count(expression)
        else:
            matching = self._all_matching(self._filtered(expression), MODERATE + 1)
            total = len(matching)
            if total > MODERATE:
                matching, total = None, self._count(expression)
        if total <= NARROW:
            matching = self._all_matching(self._filtered(expression)) if matching is None else matching
            return expression, self._weighed(matching, found)[offset : offset + limit], total
        return expression, self._tiers(found, operator, limit, offset, matching), total

    def _filtered(self, expression: str) -> str:
        return f"{self._filter} AND ({expression})" if self._filter else expression

    def _matching(self, expression: str, limit: int, offset: int, without: Sequence[int] = ()) -> list[int]:
        """Rows in the search table's own order, so that it can stop early."""
        condition = " AND rowid NOT IN (SELECT value FROM json_each(?))" if without else ""
        sql = f"SELECT rowid FROM model_search WHERE model_search MATCH ?{condition}{self._within}"  # noqa: S608 - fixed words only
        sql += " ORDER BY rowid DESC LIMIT ? OFFSET ?"
        excluded = (_json(without),) if without else ()
        values = (self._filtered(expression), *excluded, *self._ids, limit, offset)
        return [row[0] for row in self._c.execute(sql, values)]

    def _count(self, expression: str) -> int:
        return self._count_matches(self._filtered(expression))

    def _count_matches(self, match: str) -> int:
        # Totals among some models are not remembered: which models they are is nobody's to say here.
        count = None if self._ids else self._counts.known.get(match)
        if count is None:
            sql = f"SELECT count(*) FROM model_search WHERE model_search MATCH ?{self._within}"  # noqa: S608 - fixed words only
            count = self._c.execute(sql, (match, *self._ids)).fetchone()[0]
            if not self._ids:
                self._counts.known[match] = count
        return count

    def _tiers(self, found: list[str], operator: str, limit: int, offset: int, matching: list[int] | None) -> list[int]:
        """A page of many matches: tier after tier, inside each the newest first. `matching`: all of them, if known."""
        # All of the better tiers: these rows, or, when those are too many, what an expression finds.
        better, expression = self._named(found), ""
        count = len(better)
        rows = better[offset : offset + limit]
        steps = _tier_expressions(found, operator)
        for step in steps:
            wanted, skip = limit - len(rows), max(offset - count, 0)
            if not wanted:
                break
            listed = matching if step is steps[-1] else None
            if listed is None and skip and len(found) > 1:
                listed = self._all_matching(self._filtered(step), MODERATE + 1)
            if listed is not None and len(listed) <= MODERATE and not expression:
                among = set(better)
                rows += [row for row in listed if row not in among][skip:][:wanted]
                better, count = listed, len(listed)
                continue
            tier = f"({step}) NOT ({expression})" if expression else step
            if not skip:
                # Fewer than wanted are the whole tier.
                here = self._matching(tier, wanted, 0, without=better)
                rows += here
                better, count = better + here, count + len(here)
                continue
            total = self._count(step)
            if offset < total:
                rows += self._matching(tier, wanted, skip, without=better)
            better, expression, count = [], step, total
        return rows

    def _named(self, found: list[str]) -> list[int]:
        """Rows whose whole name is the query; the filters hold for them too."""
        key = " ".join(found)
        sql = f"SELECT row FROM models WHERE name_key = ? AND length(name_key) <= 32{self._conditions()}"  # noqa: S608 - fixed words only
        sql += " ORDER BY row DESC LIMIT 100"
        return [row[0] for row in self._c.execute(sql, (key, *self._condition_values()))]

    def _conditions(self) -> str:
        """The filters as they apply to the table of models."""
        facets_ = "".join(f" AND ({' OR '.join(['instr(facets, ?)'] * len(group))})" for group in self._groups)
        return f"{facets_}{self._within}"

    def _condition_values(self) -> tuple[str, ...]:
        return (*(item for group in self._groups for item in group), *self._ids)

    def _weighed(self, rows: list[int], found: list[str]) -> list[int]:
        """Few matches, best first."""
        key = " ".join(found)
        sql = (
            "SELECT row, name_key, name_key || ' ' || other_names, tags || ' ' || family, model_type || ' ' || kinds, "
            "updated_at FROM models WHERE row IN (SELECT value FROM json_each(?))"
        )
        weighed: list[tuple[int, int, str, int]] = []
        for row, name, names, labels, others, updated in self._c.execute(sql, (_json(rows),)):
            tier, score = _weight(found, names, labels, others)
            weighed.append((5 if name == key else tier, score, updated, row))
        weighed.sort(reverse=True)
        return [item[3] for item in weighed]

    # -- without words -----------------------------------------------------------------------------------------------

    def newest(self, limit: int, offset: int) -> tuple[str, list[int], int]:
        order = "ORDER BY updated_at DESC, row DESC LIMIT ? OFFSET ?"
        total = self._count_matches(self._filter) if self._filter else self.count_all()
        if self._filter and total <= _SORTED:
            condition, values = self.condition([], "")
        else:
            condition, values = f"1{self._conditions()}", self._condition_values()
        rows = self._c.execute(f"SELECT row FROM models WHERE {condition} {order}", (*values, limit, offset))  # noqa: S608 - fixed words only
        return "", [row[0] for row in rows], total

    def count_all(self) -> int:
        total = None if self._ids else self._counts.known.get("")
        if total is None:
            sql = f"SELECT count(*) FROM models WHERE 1{self._within}"  # noqa: S608 - fixed words only
            total = self._c.execute(sql, self._ids).fetchone()[0]
            if not self._ids:
                self._counts.known[""] = total
        return total

    # -- rows --------------------------------------------------------------------------------------------------------

    def hits(self, rows: list[int]) -> list[Hit]:
        sql = f"SELECT {_HIT_COLUMNS} FROM models WHERE row IN (SELECT value FROM json_each(?))"  # noqa: S608 - fixed words only
        found = {row: _hit(columns) for row, *columns in self._c.execute(sql, (_json(rows),))}
        return [found[row] for row in rows]


def one(c: sqlite3.Connection, model_id: str) -> Hit | None:
    row = c.execute(f"SELECT {_HIT_COLUMNS} FROM models WHERE id = ?", (model_id,)).fetchone()  # noqa: S608 - fixed words only
    return _hit([*row[1:]]) if row else None


def _hit(columns: list[Any]) -> Hit:
    """Of the selected columns, which are changed here."""
    columns[_TAGS] = orjson.loads(columns[_TAGS])
    columns[_RELATED] = bool(columns[_RELATED])
    return Hit._make(columns)


def _ways(found: list[str]) -> list[tuple[list[str], str]]:
    """(the words to ask for, what is between them), in the order to try: the first way that finds something counts."""
    if not found:
        return []
    split = apart(found)[:MAX_TERMS]
    ways = [(found, " AND ")]
    if split != found:
        ways.append((split, " AND "))
    if len(found) > 1:
        ways.append((split, " OR "))
    return ways


def _begun(found: list[str], operator: str) -> str:
    """Words that begin so."""
    return operator.join(f"{_quoted(term)}*" for term in found)


def _tier_expressions(found: list[str], operator: str) -> tuple[str, ...]:
    """Expressions for better and worse matches; each finds all that those before it find."""
    whole = operator.join(map(_quoted, found))
    begun = _begun(found, operator)
    return f"{_NAME} : ({whole})", f"{_NAME} : ({begun})", f"{_SHORT} : ({begun})", begun


def _weight(found: list[str], names: str, labels: str, others: str) -> tuple[int, int]:
    """(tier, score) of one model: 4 all words are in its name, 3 all begin there, 2 all in short fields, 1 the rest.

    `names` are folded words already. A space before a word finds beginnings, and one behind it whole words; a number
    behind it does as well.
    """
    tier, score = 4, _FIRST if names.startswith(found[0]) else 0
    named = f" {names} "
    missing: list[str] = []
    for term in found:
        if f" {term}" not in named:
            missing.append(term)
        elif f" {term} " in named or _numbered(named, term):
            score += 16
        else:
            score += 11
            tier = 3
    if not missing:
        return tier, score
    text = f"{labels} {others}".lower()
    # To part texts into folded words costs much more than to see that none of them is there.
    if text.isascii() and not any(term in text for term in missing):
        return 1, score
    tier = 2
    folded = [(weight, f" {' '.join(words(text))} ") for weight, text in ((6, labels), (3, others))]
    for term in missing:
        for weight, text in folded:
            if f" {term}" in text:
                score += weight if f" {term} " in text else weight - weight // 3
                break
        else:
            tier = 1
    return tier, score


def _numbered(named: str, term: str) -> bool:
    """Whether a number follows on the word, as in `qwen2` or `phi3`."""
    behind = named.find(f" {term}") + len(term) + 1
    return term[-1] not in _DIGITS and named[behind] in _DIGITS


def _quoted(word: str) -> str:
    """A word holds letters and digits only (or is a facet); the quotes keep AND, OR, NOT and NEAR plain words."""
    return f'"{word}"'


def _json(values: Iterable[int] | Iterable[str]) -> str:
    return orjson.dumps(list(values)).decode()
