"""Checks are kept for an hour and told as old when nobody answers; a restart starts the launcher after the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.git import GitServer
from pumas.config import Layout
from pumas.errors import ConnectionFailed, Unsupported
from pumas.events.stream import EventStream
from pumas.jobs.service import JobService
from pumas.jobs.store import JobStore
from pumas.net.client import NetworkClient
from pumas.storage.database import Database, Schema
from pumas.updates import checkout, service
from pumas.updates.checkout import Checkout, Commit
from pumas.updates.place import CHECKOUT_VARIABLE
from pumas.updates.service import LAUNCHER_VARIABLE, UpdateService
from sidecar import Sidecar, eventually

COMMIT = Commit("a" * 40, "First", "Ada", "2030-01-01T00:00:00Z")


def _one_commit(_self: Checkout, _network: NetworkClient) -> list[Commit]:
    return [COMMIT]


@pytest.fixture
def updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UpdateService:
    with GitServer(tmp_path / "server") as server:
        server.commit("owner/pumas", {"launcher": ""})
        server.clone("owner/pumas", tmp_path / "checkout")
    monkeypatch.setenv(CHECKOUT_VARIABLE, str(tmp_path / "checkout"))
    layout = Layout(tmp_path / "root")
    database = Database(layout.jobs_db, Schema.load("jobs"), disposable=False)
    return UpdateService(layout, JobService(JobStore(database), EventStream()), NetworkClient())


async def test_an_answer_is_kept(updates: UpdateService, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def newest(_self: Checkout, _network: NetworkClient) -> list[Commit]:
        asked.append(1)
        return [COMMIT]

    monkeypatch.setattr(checkout.Checkout, "newest", newest)
    first = await updates.check()
    assert (first.has_update, first.behind, first.latest, first.error, first.stale) == (True, 1, "a" * 40, None, False)
    assert await updates.check() == first
    assert len(asked) == 1
    await updates.check(force=True)
    assert len(asked) == 2
    monkeypatch.setattr(service, "FRESH_S", 0.0)
    await updates.check()
    assert len(asked) == 3


async def test_nobody_answers(updates: UpdateService, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_self: Checkout, _network: NetworkClient) -> list[Commit]:
        raise ConnectionFailed("api", "does not answer")

    monkeypatch.setattr(checkout.Checkout, "newest", away)
    nothing = await updates.check(force=True)
    assert (nothing.has_update, nothing.latest, nothing.stale) == (False, "", False)
    assert nothing.error
    with monkeypatch.context() as patch:
        patch.setattr(checkout.Checkout, "newest", _one_commit)
        await updates.check(force=True)
    old = await updates.check(force=True)
    assert (old.has_update, old.latest, old.stale, old.error) == (True, "a" * 40, True, None)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"commits": 3}',
        '{"lastChecked": "x", "result": {"hasUpdate": true}}',
        '{"branch": "main", "checkedAt": "soon", "commits": []}',
        '{"branch": "main", "checkedAt": 1, "commits": [3]}',
        '{"branch": "main", "checkedAt": 1, "commits": [{"sha": "a"}]}',
        '{"branch": "main", "checkedAt": null, "commits": {"a": 1}}',
    ],
)
async def test_a_damaged_or_older_cache_is_none(
    updates: UpdateService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = tmp_path / "root/launcher-data/cache/launcher-update-check.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    monkeypatch.setattr(checkout.Checkout, "newest", _one_commit)
    assert (await updates.check()).behind == 1
    assert json.loads(path.read_text())["commits"]


async def test_without_a_launcher_there_is_no_restart(updates: UpdateService, tmp_path: Path) -> None:
    (tmp_path / "checkout/launcher").unlink()
    with pytest.raises(Unsupported):
        await updates.prepare_restart()


def test_the_launcher_is_started_once_the_sidecar_is_gone(tmp_path: Path, launch: Callable[..., Sidecar]) -> None:
    told, launcher = tmp_path / "told", tmp_path / "launcher"
    launcher.write_text(
        "import os, pathlib\n"
        f"alive = os.path.exists('/proc/' + pathlib.Path({str(tmp_path / 'pid')!r}).read_text())\n"
        f"pathlib.Path({str(told)!r} + '~').write_text(f\"{{os.environ['PUMAS_ROOT']}} {{alive}}\")\n"
        f"os.rename({str(told)!r} + '~', {str(told)!r})\n"
    )
    one = launch(env={LAUNCHER_VARIABLE: str(launcher)})
    (tmp_path / "pid").write_text(str(one.process.pid))
    assert one.result("restart_launcher")["success"]
    one.process.wait(30)
    eventually(told.exists, timeout_s=20, what="the launcher")
    assert told.read_text() == f"{tmp_path / 'root'} False"
