"""The library's index: bringing it up to date, searching it, listing everything."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import string
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.library_maker import folder_of, models, queries, write
from bench.table import Row, Run, percentile, seconds

if TYPE_CHECKING:
    from pumas.storage.database import Database

SEED = 20


def bench_reconcile(run: Run) -> list[Row]:
    """A first and an unchanged look at a library, against a loop that reads, parses and inserts the same rows."""
    count = run.pick(full=20_000, quick=4_000, tiny=40)
    library = run.folder / "models"
    for model in models(count, SEED):
        write(library, model)
    first, rows = _reconcile_first(library)
    bare = _bare_loop(library, rows)
    again, _ = _reconcile(library)
    found = [
        Row(f"reconcile: first look, {count:,} models", first, "s", bare, ratio_at_most=1.5),
        Row(f"reconcile: unchanged, {count:,} models", again, "s", at_most=0.3),
    ]
    larger = run.pick(full=80_000, quick=0, tiny=0)
    if larger:
        for number, model in enumerate(models(larger, SEED + 1)):
            model["cleaned_name"] += f"-{number}b"
            write(library, model)
        all_of_them, _ = _reconcile_first(library)
        total = count + larger
        linear = first * total / count
        found.append(Row(f"reconcile: first look, {total:,} models", all_of_them, "s", linear, ratio_at_most=1.4))
        found.append(Row("index made from nothing, per 100,000 models", all_of_them * 100_000 / total, "s", at_most=10))
        found.append(Row(f"reconcile: unchanged, {total:,} models", _reconcile(library)[0], "s", at_most=1.5))
    indexed = count + larger
    found.append(Row(f"damaged index back, {indexed:,} models", _damaged(library, indexed), "s", at_most=10))
    return found


def _damaged(library: Path, count: int) -> float:
    """Seconds until an index that was written over agrees with the disk again."""
    database = _index(library)
    database.keep_copy_sync(lambda: False)
    database.close_sync()
    (library / "models.db").write_bytes(os.urandom(1 << 20))
    started = time.perf_counter()
    _, rows = _reconcile(library)
    took = time.perf_counter() - started
    assert len(rows) == count
    return took


def _index(library: Path) -> Database:
    from pumas.library import store
    from pumas.storage.database import Database, Schema

    return Database(library / "models.db", Schema.load("models"), disposable=True, renewal=store.RENEWAL)


def bench_search(run: Run) -> list[Row]:
    """Search of one to three words cut to beginnings, and of single letters, with the true total."""
    count = run.pick(full=100_000, quick=20_000, tiny=100)
    from pumas.library.search import Searcher

    database = _indexed(run.folder / "models.db", count)
    searcher = Searcher()

    def ask(text: str, offset: int = 0) -> float:
        started = time.perf_counter()
        database.read_sync(lambda c: searcher.search(c, text, limit=50, offset=offset), deadline_s=1.0)
        return (time.perf_counter() - started) * 1000

    asked = queries(run.pick(full=300, quick=300, tiny=10), SEED)
    ask("warm")
    times = [ask(text) for text in asked]
    second = [ask(text, 50) for text in asked]
    letters = [ask(letter) for letter in string.ascii_lowercase + string.digits]
    database.close_sync()
    name = f"search of {count:,} models"
    return [
        Row(f"{name}: half of the queries", percentile(times, 50), "ms", at_most=3),
        Row(f"{name}: 95 % of the queries", percentile(times, 95), "ms", at_most=15),
        Row(f"{name}: second pages, 95 %", percentile(second, 95), "ms", at_most=15),
        Row(f"{name}: one letter, the slowest", max(letters), "ms", at_most=30),
    ]


def bench_listing(run: Run) -> list[Row]:
    """`get_models` and `scan_shared_storage` while nothing changes, against writing the same object as JSON."""
    from pumas.config import Layout
    from pumas.events.stream import EventStream
    from pumas.library.catalog import Catalog
    from pumas.storage.troubles import Troubles

    count = run.pick(full=20_000, quick=2_000, tiny=40)
    layout = Layout(run.folder)
    for model in models(count, SEED):
        write(layout.library, model)

    async def measure() -> tuple[float, float, bytes]:
        catalog = Catalog(layout, EventStream(), Troubles())
        await catalog.reconcile(60)
        data = await catalog.models_json()
        started = time.perf_counter()
        await catalog.models_json()
        listed = time.perf_counter() - started
        started = time.perf_counter()
        await catalog.storage_scan()
        scanned = time.perf_counter() - started
        await catalog.close()
        return listed, scanned, data

    listed, scanned, data = asyncio.run(measure())
    value = json.loads(data)
    written = seconds(lambda: json.dumps(value))
    return [
        Row(f"get_models, {count:,} unchanged models", listed * 1000, "ms", written * 1000, ratio_at_most=1.0),
        Row(f"scan_shared_storage, {count:,} unchanged models", scanned * 1000, "ms", at_most=50),
    ]


def _reconcile(library: Path) -> tuple[float, list[tuple[Any, ...]]]:
    from pumas.library.entry import IndexEntry
    from pumas.library.readers import reader_count
    from pumas.library.reconcile import Reconciler
    from pumas.storage.troubles import Troubles

    database = _index(library)
    database.open_sync()
    reconciler = Reconciler(library, database, Troubles(), readers=reader_count())
    took = seconds(reconciler.run)
    columns = ", ".join(IndexEntry._fields)
    rows = database.read_sync(lambda c: c.execute(f"SELECT {columns} FROM models").fetchall())  # noqa: S608 - fixed words only
    database.close_sync()
    return took, rows


def _reconcile_first(library: Path) -> tuple[float, list[tuple[Any, ...]]]:
    for file in library.glob("models.db*"):
        file.unlink()
    return _reconcile(library)


def _bare_loop(library: Path, rows: list[tuple[Any, ...]]) -> float:
    """Seconds to find, read and parse every metadata.json, and to insert the rows, which are given ready."""
    from pumas.storage.database import Schema

    path = library.parent / "bare.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.executescript(Schema.load("models").sql)
    from pumas.library.entry import IndexEntry

    names = IndexEntry._fields
    sql = f"INSERT INTO models ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608 - fixed words only

    def loop() -> None:
        for base, _, files in os.walk(library):
            if "metadata.json" in files:
                with open(os.path.join(base, "metadata.json"), encoding="utf-8") as file:
                    json.load(file)
        connection.execute("BEGIN")
        connection.executemany(sql, rows)
        connection.execute("COMMIT")

    took = seconds(loop)
    connection.close()
    return took


def _indexed(path: Path, count: int) -> Any:
    """An index of `count` models without their files."""
    from pumas.library import store
    from pumas.library.entry import from_metadata
    from pumas.storage.database import Database, Schema

    database = Database(path, Schema.load("models"), disposable=True)
    batch = store.Batch()

    def flush() -> None:
        nonlocal batch
        database.write_sync(lambda c: store.apply(c, batch))
        batch = store.Batch()

    for model in models(count, SEED):
        batch.entries.append(from_metadata(folder_of(model), model))
        if len(batch.entries) >= 1000:
            flush()
    flush()
    while database.write_sync(store.merge_search_segments):
        pass
    return database
