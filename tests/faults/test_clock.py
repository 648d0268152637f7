"""The clock is set back while there is work: nobody loses sight of what was done.

A clock that was set back is told by what it leaves behind: moments in the future. The clock itself is everybody's.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

from library.model_disk import gguf, write
from sidecar import Sidecar

Launch = Callable[..., Sidecar]
FUTURE = "2999-01-01T00:00:00.000000Z"


def bring_in(sidecar: Sidecar, folder: Path, seed: int) -> str:
    """The job that imported a model."""
    source = write(folder / f"model-{seed}.gguf", gguf(seed))
    answer = sidecar.result("import_model", {"local_path": str(source), "family": "", "official_name": source.stem})
    assert answer["success"], answer
    return answer["job_id"]


def test_new_jobs_are_not_the_oldest_after_the_clock_was_set_back(launch: Launch, tmp_path: Path) -> None:
    sidecar = launch()
    known = bring_in(sidecar, tmp_path, 1)
    sidecar.close()
    with contextlib.closing(sqlite3.connect(sidecar.data / "jobs.db")) as connection, connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(jobs)")]
        later = ", ".join({"id": "?", "created_at": f"'{FUTURE}'"}.get(name, name) for name in names)
        copy = f"INSERT INTO jobs SELECT {later} FROM jobs WHERE id = ?"  # noqa: S608 - fixed words only
        connection.executemany(copy, [(f"{number:032x}", known) for number in range(1100)])
    sidecar = launch()
    for seed in (2, 3):
        done = bring_in(sidecar, tmp_path, seed)
        assert sidecar.result("get_job", {"job_id": done})["job"]["state"] == "completed"
        assert sidecar.result("list_jobs", {"limit": 1})["jobs"][0]["job_id"] == done
