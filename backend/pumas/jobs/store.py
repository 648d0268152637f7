"""Jobs as rows of one SQLite table. What a job means is known to the domain that runs it."""

from __future__ import annotations

import datetime
import enum
import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from pumas.errors import CorruptState
from pumas.storage.database import Database

log = logging.getLogger(__name__)

KEEP_FINISHED = 1000


class JobState(enum.StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


Json = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One piece of long work.

    `done` of `total` (0 when unknown) in `unit`; `stage` and `item` say what it is at; `error` and `error_code` are set
    for `failed`, and for a `paused` job that stopped by itself (`interrupted`). `state` JSON belongs to the runner.
    """

    id: str
    kind: str
    title: str
    state: JobState
    params: Json
    created_at: str
    updated_at: str
    stage: str = ""
    item: str = ""
    unit: str = "bytes"
    done: int = 0
    total: int = 0
    error: str | None = None
    error_code: str | None = None
    checkpoint: Json | None = None
    result: Json | None = None
    finished_at: str | None = None

    @property
    def progress(self) -> float:
        """0.0 to 1.0."""
        if self.state is JobState.COMPLETED:
            return 1.0
        return min(max(self.done, 0) / self.total, 1.0) if self.total > 0 else 0.0


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


_COLUMNS = (
    "id, kind, title, state, stage, item, unit, done, total, error, error_code, params_json, state_json, result_json, "
    "created_at, updated_at, finished_at"
)
_UPDATED = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS.split(", ")[1:])
# A job keeps its row for life. By the time of creation new jobs would be the oldest after the clock was set back.
_NEWEST_FIRST = "rowid DESC"


class JobStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def save(self, job: Job) -> None:
        await self._db.write(lambda c: _save(c, job))

    def save_sync(self, job: Job) -> None:
        self._db.write_sync(lambda c: _save(c, job))

    async def get(self, job_id: str) -> Job | None:
        def query(c: sqlite3.Connection) -> Job | None:
            sql = f"SELECT {_COLUMNS} FROM jobs WHERE id = ?"  # noqa: S608 - fixed words only
            row = c.execute(sql, (job_id,)).fetchone()
            return _job(row) if row else None

        try:
            return await self._db.read(query)
        except (ValueError, TypeError):
            raise CorruptState(job_id, "its row in jobs.db is damaged") from None

    async def list(
        self, *, kind: str | None, states: tuple[JobState, ...], also: Sequence[str] = (), limit: int, offset: int
    ) -> list[Job]:
        """Newest first. `also` are ids of those to be listed whatever their state is here."""
        where, values = ["1"], list[object]()
        if kind is not None:
            where.append("kind = ?")
            values.append(kind)
        if states:
            where.append(f"(state IN ({', '.join('?' * len(states))}) OR id IN ({', '.join('?' * len(also))}))")
            values += [*states, *also]

        def query(c: sqlite3.Connection) -> list[Job]:
            sql = (
                f"SELECT {_COLUMNS} FROM jobs WHERE {' AND '.join(where)} "  # noqa: S608 - fixed words only
                f"ORDER BY {_NEWEST_FIRST} LIMIT ? OFFSET ?"
            )
            return [job for row in c.execute(sql, (*values, limit, offset)) if (job := _readable(row)) is not None]

        return await self._db.read(query)

    def park_unfinished_sync(self, reason: str, code: str) -> int:
        """Pause what a dead process left `running` or `queued`; returns how many. The rest of each row stays."""

        def change(c: sqlite3.Connection) -> int:
            return c.execute(
                "UPDATE jobs SET state = 'paused', error = ?, error_code = ?, updated_at = ? "
                "WHERE state IN ('running', 'queued')",
                (reason, code, now()),
            ).rowcount

        return self._db.write_sync(change)


def _save(c: sqlite3.Connection, job: Job) -> None:
    c.execute(
        f"INSERT INTO jobs ({_COLUMNS}) VALUES ({', '.join('?' * 17)}) "  # noqa: S608 - fixed words only
        f"ON CONFLICT (id) DO UPDATE SET {_UPDATED}",
        (
            job.id,
            job.kind,
            job.title,
            job.state,
            job.stage,
            job.item,
            job.unit,
            job.done,
            job.total,
            job.error,
            job.error_code,
            orjson.dumps(job.params).decode(),
            orjson.dumps(job.checkpoint or {}).decode(),
            orjson.dumps(job.result).decode() if job.result is not None else None,
            job.created_at,
            job.updated_at,
            job.finished_at,
        ),
    )
    if job.state.final:
        c.execute(
            "DELETE FROM jobs WHERE state IN ('completed', 'failed', 'cancelled') AND id NOT IN "  # noqa: S608 - fixed words only
            "(SELECT id FROM jobs WHERE state IN ('completed', 'failed', 'cancelled') "
            f"ORDER BY {_NEWEST_FIRST} LIMIT ?)",
            (KEEP_FINISHED,),
        )


def _readable(row: tuple[Any, ...]) -> Job | None:
    """One damaged row must not hide the others."""
    try:
        return _job(row)
    except (ValueError, TypeError):
        log.warning("a job's row cannot be read: %r", str(row[0])[:100])
        return None


def _job(row: tuple[Any, ...]) -> Job:
    """Raises ValueError or TypeError when the row is damaged."""
    return Job(
        id=row[0],
        kind=row[1],
        title=row[2],
        state=JobState(row[3]),
        stage=row[4],
        item=row[5],
        unit=row[6],
        done=int(row[7]),
        total=int(row[8]),
        error=row[9],
        error_code=row[10],
        params=orjson.loads(row[11]),
        checkpoint=orjson.loads(row[12]),
        result=orjson.loads(row[13]) if row[13] is not None else None,
        created_at=row[14],
        updated_at=row[15],
        finished_at=row[16],
    )


def changed(job: Job, **values: Any) -> Job:
    return replace(job, updated_at=now(), **values)
