"""`.pumas-nodes.json` in a version's folder: where its custom nodes came from, and what lies in their trash. Blocks.

It is written before a folder is moved, so that a start after a kill can tell from the disk how far the move came
(`work.py`). Programs that run there can write it too: names from it are checked before they are used. Keys of others
stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pumas.storage import json_file
from pumas.storage.json_file import JsonObject

NAME = ".pumas-nodes.json"


@dataclass
class Known:
    """`nodes`: by name, what is known of each; `trash`: by id, with `name`, `removed_at` and that as `node`."""

    nodes: dict[str, JsonObject]
    trash: dict[str, JsonObject]
    rest: JsonObject


class Record:
    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def read(self) -> Known:
        """Raises CorruptState."""
        value = json_file.load(self._path).value or {}
        return Known(_objects(value.get("nodes")), _objects(value.get("trash")), value)

    def save(self, known: Known) -> None:
        """Raises DiskError, NotEnoughSpace, ReadOnly; nothing was changed."""
        value = known.rest | {"nodes": known.nodes}
        if known.trash or "trash" in known.rest:
            value["trash"] = known.trash
        json_file.save(self._path, value)

    def note(self, name: str, entry: JsonObject | None) -> None:
        """Replace what is known of one node; None: nothing. Raises as `read` and `save`."""
        known = self.read()
        known.nodes.pop(name, None)
        if entry:
            known.nodes[name] = entry
        self.save(known)


def text(entry: JsonObject, key: str) -> str | None:
    """None for what is missing or no text."""
    value: object = entry.get(key)
    return value if isinstance(value, str) else None


def facts(entry: JsonObject, key: str) -> JsonObject:
    """`{}` for what is missing or no object."""
    value: object = entry.get(key)
    return cast(JsonObject, value) if isinstance(value, dict) else {}


def _objects(value: object) -> dict[str, JsonObject]:
    """The entries of an object that are objects."""
    if not isinstance(value, dict):
        return {}
    entries = cast("dict[str, object]", value)
    return {key: cast(JsonObject, entry) for key, entry in entries.items() if isinstance(entry, dict)}
