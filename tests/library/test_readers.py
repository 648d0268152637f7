"""Processes that read folders ahead: the same index with and without them, and nothing lost when they die."""

from __future__ import annotations

import json
import marshal
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pumas.library import readers, reconcile
from pumas.library.readers import Readers
from pumas.library.reading import Reading, read_folder
from pumas.library.reconcile import Reconciler
from pumas.storage.database import Database, Schema
from pumas.storage.troubles import Troubles

MODELS = 603  # of all folders of `root`; two are damaged and without files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Models of every kind that a reading tells apart."""
    root = tmp_path / "models"
    for number in range(600):
        folder = root / "llm" / "fam" / f"m{number:04}"
        folder.mkdir(parents=True)
        (folder / "metadata.json").write_text(json.dumps({"official_name": f"name {number}", "tags": ["ü", "b"]}))
    odd = root / "llm" / "odd"
    (odd / "damaged").mkdir(parents=True)
    (odd / "damaged" / "metadata.json").write_text("[")
    (odd / "wrong").mkdir()
    (odd / "wrong" / "metadata.json").write_text('{"tags": 5}')
    (odd / "backup").mkdir()
    (odd / "backup" / "metadata.json.bak").write_text('{"official_name": "kept"}')
    (odd / "files").mkdir()
    (odd / "files" / "x.gguf").write_bytes(b"GGUF")
    (odd / "reference").mkdir()
    reference = {"storage": "reference", "references": [{"path": "/nowhere/x.gguf", "size": 1}]}
    (odd / "reference" / "metadata.json").write_text(json.dumps(reference))
    os.mkdir(os.fsencode(odd / "files") + b"/\xff\xfe")
    (odd / "empty").mkdir()
    (odd / "link").symlink_to(odd / "files")
    return root


def paths(root: Path) -> list[str]:
    found = [os.path.relpath(folder, root) for folder in root.glob("llm/*/*")]
    return sorted([*found, "llm/odd/not there"])


def check_same(ahead: Reading | OSError | None, root: Path, path: str) -> None:
    try:
        expected: Reading | OSError = read_folder(os.fspath(root), path, 0)
    except OSError as error:
        expected = error
    if isinstance(expected, OSError):
        assert (type(ahead), getattr(ahead, "errno", None)) == (type(expected), expected.errno)
    else:
        assert ahead == expected
        assert isinstance(ahead, Reading)
        assert type(ahead.entry) is type(expected.entry)


@pytest.mark.parametrize("count", [1, 2])
def test_readings_are_those_of_this_process(root: Path, count: int) -> None:
    helpers = Readers(os.fspath(root), count)
    try:
        for inside in (0, 1):
            asked = paths(root)
            answers = read(helpers, asked, inside)
            if not inside:
                for path, answer in zip(asked, answers, strict=True):
                    check_same(answer, root, path)
            entries = [answer.entry for answer in answers if isinstance(answer, Reading) and answer.witness == "x.gguf"]
            assert len(entries) == 1 - inside
        assert helpers.take("llm/fam/m0001") is None
    finally:
        helpers.close()


@pytest.mark.parametrize("seed", range(8))
def test_folders_are_taken_in_any_order(root: Path, seed: int) -> None:
    chance = random.Random(seed)
    unasked, asked = paths(root), list[str]()
    helpers = Readers(os.fspath(root), 2)
    try:
        while unasked or asked:
            count = chance.randint(0, len(unasked))
            helpers.ask(unasked[:count], 0)
            asked += unasked[:count]
            del unasked[:count]
            chance.shuffle(asked)
            for _ in range(chance.randint(0, len(asked))):
                path = asked.pop()
                check_same(helpers.take(path), root, path)
    finally:
        helpers.close()


def read(helpers: Readers, paths: list[str], inside: int = 0) -> list[Reading | OSError | None]:
    helpers.ask(paths, inside)
    return [helpers.take(path) for path in paths]


def rows(root: Path, count: int) -> tuple[list[Any], list[tuple[str, str]]]:
    database = Database(root.parent / f"index-{count}.db", Schema.load("models"), disposable=True)
    troubles = Troubles()
    Reconciler(root, database, troubles, readers=count).run()
    columns = ", ".join(reconcile.store._COLUMNS)
    tables = (
        f"SELECT {columns} FROM models ORDER BY id",  # noqa: S608 - fixed words only
        "SELECT * FROM folders ORDER BY parent, name",
        "SELECT * FROM troubles ORDER BY folder, subject",
    )
    found = [database.read_sync(lambda c, s=sql: c.execute(s).fetchall()) for sql in tables]
    database.close_sync()
    return found, [(t.subject, t.kind) for t in troubles.list()]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers for libraries of any size."""
    monkeypatch.setattr(reconcile, "_READERS_AFTER", 0)
    monkeypatch.setattr(reconcile, "_READERS_FOR", 1)
    monkeypatch.setattr(readers, "_GROUP", 7)
    monkeypatch.setattr(reconcile, "_CHUNK", 50)


@pytest.mark.usefixtures("eager")
def test_the_index_is_the_same_without_them(root: Path) -> None:
    for path in (*root.rglob("*"), root):
        if not path.is_symlink():
            os.utime(path, ns=(10**18, 10**18))  # old enough to be settled in every run
    assert rows(root, 2) == rows(root, 0)


@pytest.mark.usefixtures("eager")
def test_small_families_are_asked_for_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(300):
        folder = tmp_path / "models/llm" / f"family{number // 2}" / f"m{number}"
        folder.mkdir(parents=True)
        (folder / "metadata.json").write_text("{}")
    real, sizes = readers._Reader.ask, list[int]()

    def counting(self: readers._Reader, group: readers._Group) -> None:
        sizes.append(len(group.paths))
        real(self, group)

    monkeypatch.setattr(readers._Reader, "ask", counting)
    found, _ = rows(tmp_path / "models", 2)
    assert len(found[0]) == 300
    assert sum(sizes) >= 300 + 150
    assert len(sizes) < sum(sizes) / 5


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("answers", [0, 1, 5])
def test_a_reader_that_dies_costs_nothing_but_time(root: Path, monkeypatch: pytest.MonkeyPatch, answers: int) -> None:
    real, seen = readers._Reader.receive, 0

    def dying(self: readers._Reader) -> None:
        nonlocal seen
        if seen == answers:
            self.process.kill()
            self.process.wait()
        seen += 1
        real(self)

    monkeypatch.setattr(readers._Reader, "receive", dying)
    found, _ = rows(root, 2)
    assert seen > answers
    assert len(found[0]) == MODELS


@pytest.mark.usefixtures("eager")
def test_no_process_can_be_started(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(readers.subprocess, "Popen", refused)
    found, _ = rows(root, 2)
    assert len(found[0]) == MODELS


def test_readers_end_with_whoever_started_them(root: Path) -> None:
    helpers = Readers(os.fspath(root), 2)
    first, second = (reader.process for reader in helpers._readers)
    assert first.stdin is not None
    first.stdin.close()  # as the kernel does when the asking process dies
    assert first.wait(30) == 0
    assert second.poll() is None
    helpers.close()
    assert second.poll() is not None
    assert read(helpers, ["llm/fam/m0001"]) == [None]


def test_readers_inherit_no_secret(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PUMAS_RPC_TOKEN", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "marker-of-a-secret")
    helpers = Readers(os.fspath(root), 1)
    try:
        [process] = (reader.process for reader in helpers._readers)
        read(helpers, ["llm/fam/m0001"])
        for what in ("environ", "cmdline"):
            assert b"marker-of-a-secret" not in Path(f"/proc/{process.pid}/{what}").read_bytes()
    finally:
        helpers.close()


@pytest.mark.usefixtures("eager")
def test_a_run_that_is_stopped_leaves_no_reader(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Readers] = []
    stop = threading.Event()
    real = Readers.__init__

    def starting(self: Readers, *arguments: Any) -> None:
        real(self, *arguments)
        started.append(self)
        stop.set()

    monkeypatch.setattr(Readers, "__init__", starting)
    database = Database(root.parent / "index.db", Schema.load("models"), disposable=True)
    Reconciler(root, database, Troubles(), readers=1, stop=stop.is_set).run()
    database.close_sync()
    assert started
    assert not any(helpers._readers for helpers in started)


@given(st.lists(st.text(max_size=400), max_size=60).map(lambda few: few * 20))
@settings(max_examples=40)
def test_two_questions_fit_into_a_pipe(paths: list[str]) -> None:
    asked: list[tuple[int, list[str]]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "_start", FakeProcess)
        patch.setattr(readers, "_AHEAD", 10_000)
        patch.setattr(readers, "_send", lambda _pipe, value: asked.append(value))
        helpers = Readers("", 1)
        asked.clear()
        helpers.ask(paths, 1)
        helpers._keep_busy(all_of_it=True)
    assert [path for _, group in asked for path in group] == paths
    for inside, group in asked:
        question = marshal.dumps((inside, [path.encode("utf-8", "replace").decode() for path in group]))
        assert 0 < len(group) <= readers._GROUP and len(question) + 8 <= 65_536 // 2


class FakeProcess:
    stdin = stdout = None
