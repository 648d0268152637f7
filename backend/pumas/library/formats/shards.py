"""Which files are parts of one model, from their names alone.

Three spellings are known: `name-00001-of-00005.ext`, `name.ext.part1`, `name_00001.ext`. Nothing is opened, and the
files need not exist. Numbers in names are claims: the answer never grows with them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

# What makes a folder a pipeline of diffusers.
PIPELINE_INDEX: Final = "model_index.json"
CONFIG: Final = "config.json"  # of transformers
CONFIGURATIONS: Final = frozenset({CONFIG, PIPELINE_INDEX})
"""Files without weights from which can be learned what a folder is."""
MAX_MISSING: Final = 1_000

_OF: Final = re.compile(
    r"(?P<base>.+)-(?P<number>[0-9]{1,10})-of-(?P<total>[0-9]{1,10})(?P<ending>(?:\.[^.]+)?)", re.DOTALL
)
_PART: Final = re.compile(r"(?P<base>.+)(?P<ending>\.[^.]+)\.part(?P<number>[0-9]{1,10})", re.DOTALL)
_COUNTED: Final = re.compile(r"(?P<base>.+)_(?P<number>[0-9]{5})(?P<ending>\.[^.]+)", re.DOTALL)
_FORMS: Final = (_OF, _PART, _COUNTED)


def is_projector(name: str) -> bool:
    """Whether a file belongs to the model beside it: what turns images into tokens for it (`mmproj`)."""
    return "mmproj" in name.rpartition("/")[2].lower()


@dataclass(frozen=True, slots=True)
class ShardValidation:
    """Whether a set is whole. `missing_shards` lists at most `MAX_MISSING` numbers; `error` says so when it is cut."""

    complete: bool
    missing_shards: list[int]
    total_expected: int
    total_found: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class ShardGroup:
    """The paths as they were given, sorted by file name."""

    files: list[str]
    validation: ShardValidation


@dataclass(frozen=True, slots=True)
class _Part:
    path: str
    name: str
    number: int = 0
    total: int | None = None  # None when the name does not say


@dataclass(slots=True)
class _Set:
    parts: list[_Part] = field(default_factory=list[_Part])


def detect_sharded_sets(paths: Sequence[str]) -> dict[str, ShardGroup]:
    """Group `paths` by the model that they are parts of; every path appears exactly once.

    A set is keyed by what its members' names share, a file of its own by its name. Sets in different folders are
    different sets; when two keys would be equal, the later one gets its folder's name in front.
    """
    sets: dict[tuple[str, str], _Set] = defaultdict(_Set)
    single: list[_Part] = []
    for path in dict.fromkeys(paths):
        pure = PurePath(path)
        found = _parse(path, pure.name)
        if found is None:
            single.append(_Part(path, pure.name))
        else:
            key, part = found
            sets[str(pure.parent), key].parts.append(part)
    groups: dict[str, ShardGroup] = {}
    for (folder, key), members in sets.items():
        if len(members.parts) > 1 or members.parts[0].total not in (None, 1):
            members.parts.sort(key=lambda part: part.name)
            name = key if len(members.parts) > 1 else members.parts[0].name
            groups[_free_key(groups, name, folder)] = ShardGroup(
                [p.path for p in members.parts], _validate(members.parts)
            )
        else:
            single += members.parts
    for part in single:
        key = _free_key(groups, part.name, str(PurePath(part.path).parent))
        groups[key] = ShardGroup([part.path], ShardValidation(True, [], 1, 1))
    return groups


def _parse(path: str, name: str) -> tuple[str, _Part] | None:
    for form in _FORMS:
        match = form.fullmatch(name)
        if match:
            named = match.groupdict()
            total = named.get("total")
            part = _Part(path, name, int(named["number"]), None if total is None else int(total))
            return named["base"] + named["ending"], part
    return None


def _free_key(groups: dict[str, ShardGroup], key: str, folder: str) -> str:
    if key not in groups:
        return key
    key = f"{PurePath(folder).name}/{key}"
    count, free = 2, key
    while free in groups:
        free, count = f"{key} ({count})", count + 1
    return free


def _validate(parts: list[_Part]) -> ShardValidation:
    totals = {part.total for part in parts if part.total is not None}
    found = len(parts)
    if not totals:
        return ShardValidation(True, [], found, found)
    if len(totals) > 1:
        claimed = ", ".join(map(str, sorted(totals)[:5]))
        return ShardValidation(
            False, [], max(totals), found, f"the names disagree about how many parts there are: {claimed}"
        )
    expected = totals.pop()
    numbers = {part.number for part in parts}
    if not all(1 <= number <= expected for number in numbers):
        return ShardValidation(False, [], expected, found, f"a part has a number outside 1 to {expected}")
    if len(numbers) < found:
        return ShardValidation(False, [], expected, found, "two parts have the same number")
    absent = expected - found
    missing = _first_missing(numbers, expected)
    error = f"{absent} of {expected} parts are missing" if absent else ""
    if len(missing) < absent:
        error += f"; only the first {len(missing)} are listed"
    return ShardValidation(not absent, missing, expected, found, error)


def _first_missing(numbers: set[int], expected: int) -> list[int]:
    # Among the first MAX_MISSING + len(numbers) numbers there are at least MAX_MISSING missing ones, or all of them.
    last = min(expected, MAX_MISSING + len(numbers))
    return [number for number in range(1, last + 1) if number not in numbers][:MAX_MISSING]
