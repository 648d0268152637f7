"""The journal of adoptions: one row per model that was taken in without copying.

A row is durable before its model appears in the library, so that a start after a kill can finish or take back what was
under way (`service.py`). All calls block.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from enum import StrEnum
from typing import Any

import orjson

from pumas.jobs.store import Json, now
from pumas.storage.database import Database

KEEP_UNDONE = 1000


class AdoptionState(StrEnum):
    """`begun`: its model may be there or not. `undoing`: likewise."""

    BEGUN = "begun"
    ADOPTED = "adopted"
    UNDOING = "undoing"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class Adoption:
    """One row, in the order of the columns of `contracts/schema/adoptions.sql`. `size` in bytes."""

    id: str
    state: AdoptionState
    model_id: str
    mode: str
    kind: str
    store: str
    name: str
    revision: str | None
    size: int
    job_id: str
    item: int
    result_json: str
    trash_id: str | None
    created_at: str
    updated_at: str

    @property
    def result(self) -> Json:
        value: object = orjson.loads(self.result_json)
        return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType] - JSON


_COLUMNS = ", ".join(field.name for field in fields(Adoption))


class Journal:
    def __init__(self, database: Database) -> None:
        self._db = database

    @property
    def exists(self) -> bool:
        """Whether anything was ever written."""
        return self._db.path.exists()

    def save(self, adoption: Adoption) -> Adoption:
        """Write a row; when this returns it is on disk."""
        changed = replace(adoption, updated_at=now())
        holes = ", ".join("?" * len(fields(Adoption)))
        sql = f"INSERT OR REPLACE INTO adoptions ({_COLUMNS}) VALUES ({holes})"  # noqa: S608 - fixed words only

        def write(c: sqlite3.Connection) -> None:
            c.execute(sql, astuple(changed))
            if changed.state is AdoptionState.UNDONE:
                c.execute(
                    "DELETE FROM adoptions WHERE state = 'undone' AND id NOT IN "
                    "(SELECT id FROM adoptions WHERE state = 'undone' ORDER BY created_at DESC LIMIT ?)",
                    (KEEP_UNDONE,),
                )

        self._db.write_sync(write)
        return changed

    def forget(self, adoption_id: str) -> None:
        self._db.write_sync(lambda c: c.execute("DELETE FROM adoptions WHERE id = ?", (adoption_id,)).rowcount)

    def get(self, adoption_id: str) -> Adoption | None:
        return next(iter(self._select("id = ?", adoption_id)), None)

    def of_model(self, model_id: str) -> Adoption | None:
        """The newest adoption of the model that is in force."""
        return next(iter(self._select("model_id = ? AND state = 'adopted'", model_id)), None)

    def of_item(self, job_id: str, item: int) -> Adoption | None:
        """What a job's item became, once it was done."""
        return next(iter(self._select("job_id = ? AND item = ? AND state = 'adopted'", job_id, item)), None)

    def unfinished(self) -> list[Adoption]:
        return self._select("state IN ('begun', 'undoing')")

    def list(self, *, undone: bool, limit: int, offset: int) -> tuple[Sequence[Adoption], int]:
        """(newest first, number of all). What is `begun` is not shown."""
        states = "state IN ('adopted', 'undoing', 'undone')" if undone else "state IN ('adopted', 'undoing')"
        count = f"SELECT count(*) FROM adoptions WHERE {states}"  # noqa: S608 - fixed words only
        total: int = self._db.read_sync(lambda c: c.execute(count).fetchone()[0])
        return self._select(states, limit=limit, offset=offset), total

    def _select(self, condition: str, *values: object, limit: int = -1, offset: int = 0) -> list[Adoption]:
        sql = (
            f"SELECT {_COLUMNS} FROM adoptions WHERE {condition} "  # noqa: S608 - fixed words only
            "ORDER BY created_at DESC, id LIMIT ? OFFSET ?"
        )
        rows: list[tuple[Any, ...]] = self._db.read_sync(lambda c: c.execute(sql, (*values, limit, offset)).fetchall())
        return [Adoption(row[0], AdoptionState(row[1]), *row[2:]) for row in rows]
