"""Which files of a folder are one model, from names alone.

A folder with a mark (`config.json` and the like) is one model with everything in it, unless it holds several GGUF
files, each of which is a model. Without a mark each file, or each set of shards, is a model of its own; a projector
goes with each of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from pumas.adoption.found import StoredFile
from pumas.library.entry import extension, is_model_file
from pumas.library.formats.shards import detect_sharded_sets, is_projector
from pumas.library.import_source import MODEL_MARKS, is_junk

_NUMBERS = re.compile(r"-[0-9]+-of-[0-9]+$")


@dataclass(frozen=True, slots=True)
class Group:
    """`stem` tells it from others in the folder, "" when it is the only one there. `problem`: why it is not whole."""

    stem: str
    files: tuple[StoredFile, ...]
    problem: str = ""


def is_weights(name: str) -> bool:
    return is_model_file(PurePath(name).name)


def is_marked(names: Sequence[str]) -> bool:
    return any(MODEL_MARKS.fullmatch(name) for name in names)


def groups(files: Sequence[StoredFile]) -> list[Group]:
    """The models among `files`, whose names are relative to one folder; [] when none has weights."""
    useful = [file for file in files if not any(is_junk(part) for part in PurePath(file.name).parts)]
    weights = [file for file in useful if is_weights(file.name)]
    by_name = {file.name: file for file in weights}
    sets = detect_sharded_sets(list(by_name))
    mains = {key: found for key, found in sets.items() if not all(is_projector(name) for name in found.files)} or sets
    ggufs = {extension(file.name) for file in weights} == {"gguf"}
    if is_marked([file.name for file in useful]) and weights and not (ggufs and len(mains) > 1):
        wrong = [found.validation.error for found in sets.values() if not found.validation.complete]
        return [Group("", tuple(useful), wrong[0] if wrong else "")]
    projectors = [file for file in weights if is_projector(file.name)] if mains is not sets else []
    found: list[Group] = []
    for one in mains.values():
        members = [by_name[name] for name in one.files]
        others = [file for file in projectors if file not in members]
        stem = _NUMBERS.sub("", PurePath(one.files[0]).stem)
        problem = "" if one.validation.complete else one.validation.error
        found.append(Group(stem, (*members, *others), problem))
    return found
