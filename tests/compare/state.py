"""What a launcher root holds, in a form that can be compared: files by content, databases by their rows."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from compare.pair import MAY_DIFFER
from contract.replay import VOLATILE

Neutral = Callable[[Any], Any]
_IDS = re.compile(MAY_DIFFER["ids"])


def held(root: Path, neutral: Neutral) -> dict[str, Any]:
    """Path -> content of everything below `root`, except what `contracts/compare.json` leaves out.

    Ids that `neutral` has no name for, because no reply told them, are only said to be there.
    """

    def named(value: Any) -> Any:
        return _plain(neutral(value))

    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in MAY_DIFFER["files"]):
            continue
        found[named(name)] = _content(path, named)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return _IDS.sub(r"<\1>", value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value


def _content(path: Path, neutral: Neutral) -> Any:
    if path.is_symlink():
        return {"link": neutral(str(path.readlink()))}
    if path.is_dir():
        return "folder"
    data = path.read_bytes()
    if data.startswith(b"SQLite format 3\0"):
        return _tables(path, neutral)
    if path.suffix == ".json":
        try:
            return neutral(json.loads(data))
        except ValueError:
            pass
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _tables(path: Path, neutral: Neutral) -> dict[str, list[Any]]:
    with tempfile.TemporaryDirectory() as folder:
        for part in path.parent.glob(f"{path.name}*"):
            shutil.copy(part, folder)
        with closing(sqlite3.connect(Path(folder) / path.name)) as database:
            database.row_factory = sqlite3.Row
            names = [
                row["name"]
                for row in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
                if not row["name"].startswith("sqlite_") and "_fts_" not in row["name"]
            ]
            return {name: _rows(database, name, neutral) for name in sorted(names)}


def _rows(database: sqlite3.Connection, table: str, neutral: Neutral) -> list[Any]:
    rows = [
        neutral({key: _value(row[key]) for key in row.keys() if key not in MAY_DIFFER["columns"]})  # noqa: SIM118
        for row in database.execute(f'SELECT * FROM "{table}"')  # noqa: S608
    ]
    return sorted(rows, key=_order)


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        return _unpacked(value)
    if isinstance(value, str) and value[:1] in "{[":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _unpacked(data: bytes) -> Any:
    """What was packed is compared as it was: no two packers need to agree on the bytes between."""
    try:
        return zlib.decompress(data).decode()
    except (zlib.error, UnicodeDecodeError):
        return data.hex()


def _order(row: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in row.items() if key not in VOLATILE}, sort_keys=True)
