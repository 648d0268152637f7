"""Running apps, with real programs: launched, ready, listed, stopped, and what becomes of odd ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pumas.config import Layout
from pumas.errors import (
    AlreadyRunning,
    DependencyFailed,
    FileUnavailable,
    InvalidInput,
    LaunchFailed,
    NoActiveVersion,
    NotRunning,
    ProcessNotFound,
    PumasError,
    UnknownApp,
    VersionNotFound,
)
from pumas.processes import starting
from pumas.processes.ledger import Ledger, OnExit
from pumas.processes.ports import free_port
from pumas.processes.starting import Wish
from pumas.processes.values import RunState

from .conftest import Bench, MakeBench
from .programs import Root, runs


async def until(check: Callable[[], object], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not check():
            await asyncio.sleep(0.02)


def size_of(path: Path) -> int | None:
    """None when it was put aside a moment ago."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def asked(url: str) -> int:
    """The process that answers there."""
    with urllib.request.urlopen(url, timeout=20) as reply:  # noqa: S310 - our own loopback address
        return json.load(reply)["pid"]


async def test_an_app_is_launched_used_and_stopped(bench: Bench) -> None:
    bench.root.install("web")
    started = await bench.service.launch("web", None, ["--name", "a b; $(c)", ""])
    assert (started.state, started.tag, started.error, started.adopted) == (RunState.READY, "v1", None, False)
    assert asked(started.url) == started.pid
    assert bench.service.running("web") == started and bench.service.runs("web", "v1")
    assert (await bench.service.log("web")).lines == ("hello ['--name', 'a b; $(c)', '']",)
    stopped = await bench.service.stop("web")
    assert (stopped.processes, stopped.killed) == (1, 0)
    assert not runs(started.pid) and bench.service.running("web") is None
    (ended,) = bench.service.list(ended=True)
    assert (ended.state, ended.exit_code, ended.error) == (RunState.EXITED, -signal.SIGTERM, None)
    assert bench.service.list() == []
    assert (await bench.service.log("web")).lines, "the log outlives the run"
    assert json.loads(bench.root.ledger.read_text())["runs"] == {}
    await until(lambda: bench.root.leftovers() == [])


async def test_it_has_a_session_of_its_own_and_inherits_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "PUMAS_RPC_TOKEN": "secret-1",
        "HF_TOKEN": "secret-2",
        "PUMAS_RUN": "of another",
        "PYTHONPATH": "/nowhere",
        "VIRTUAL_ENV": "/nowhere",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    bench.root.install("environment")
    with socket.socket() as ours:
        ours.listen()
        os.set_inheritable(ours.fileno(), True)
        started = await bench.service.launch("environment")
        environment = json.loads((bench.root.folder("environment") / "environment").read_text())
        assert environment.pop("PUMAS_RUN") == started.run_id
        assert not set(secrets) & set(environment)
        assert os.getsid(started.pid) == started.pid != os.getsid(0)
        assert os.readlink(f"/proc/{started.pid}/fd/0") == os.devnull
        theirs = {os.readlink(entry) for entry in Path(f"/proc/{started.pid}/fd").iterdir()}
        assert f"socket:[{os.fstat(ours.fileno()).st_ino}]" not in theirs
    everything = f"{started}{bench.root.ledger.read_text()}{Path(f'/proc/{started.pid}/cmdline').read_bytes()!r}"
    assert "secret-" not in everything


@pytest.mark.parametrize(
    ("behaviour", "processes", "killed", "at_least_s"),
    [
        ("web", 1, 0, 0.0),
        ("deaf", 1, 1, 1.0),
        ("flood", 1, 0, 0.0),
        ("zombies", 1, 0, 0.0),
        ("family", 4, 0, 0.0),
        ("forks", 1, 0, 0.0),
        ("escapes", 2, 0, 0.0),
    ],
)
async def test_stop_ends_all_of_it(
    bench: Bench, behaviour: str, processes: int, killed: int, at_least_s: float
) -> None:
    bench.root.install(behaviour)
    started = await bench.service.launch(behaviour)
    assert started.state is RunState.READY
    begun = time.monotonic()
    stopped = await bench.service.stop(behaviour)
    assert (stopped.processes, stopped.killed) == (processes, killed)
    assert time.monotonic() - begun >= at_least_s
    await until(lambda: bench.root.leftovers() == [])
    assert bench.service.running(behaviour) is None


async def test_a_process_that_is_stopped_by_a_signal_ends_too(bench: Bench) -> None:
    bench.root.install("web")
    started = await bench.service.launch("web")
    os.kill(started.pid, signal.SIGSTOP)
    assert (await bench.service.stop("web")).killed == 0
    assert not runs(started.pid)


@pytest.mark.parametrize(
    ("behaviour", "exit_code", "words"),
    [("dead", 3, "ended by itself with status 3"), ("killed", -9, "ended by itself by signal 9")],
)
async def test_one_that_ends_at_once_is_a_failure(bench: Bench, behaviour: str, exit_code: int, words: str) -> None:
    bench.root.install(behaviour)
    started = await bench.service.launch(behaviour)
    assert (started.state, started.exit_code) == (RunState.EXITED, exit_code)
    assert started.error and words in started.error and not started.ready
    with pytest.raises(NotRunning):
        await bench.service.stop(behaviour)
    await until(lambda: bench.root.leftovers() == [])


async def test_one_that_is_slow_is_running_and_then_ready(opened: MakeBench, root: Root) -> None:
    async with opened(ready_wait_s=0.3) as bench:
        root.install("late")
        with bench.events.subscribe(["process.state"]) as told:
            started = await bench.service.launch("late")
            assert (started.state, started.ready, started.error) == (RunState.STARTING, False, None)
            await until(lambda: bench.service.list()[0].ready)
            states = [json.loads(event.data)["state"] for event in told.pending()]
        assert states == ["starting", "ready"]


async def test_one_that_never_answers_is_told_and_left_running(opened: MakeBench, root: Root) -> None:
    async with opened(ready_wait_s=0.2) as bench:
        root.install("silent", ready_s=0.5)
        await bench.service.launch("silent")
        await until(lambda: bench.service.list()[0].state is RunState.NOT_ANSWERING)
        (run,) = bench.service.list()
        assert run.error == "Silent runs but is not ready after 0.5 s: it does not answer. See its log."
        assert runs(run.pid)
        assert (await bench.service.stop("silent")).processes == 1


async def test_a_port_that_others_answer_on_is_never_ready(opened: MakeBench, root: Root) -> None:
    async with opened(ready_wait_s=0.2) as bench:
        root.install("web")
        root.install("silent", ready_s=0.5)
        other = await bench.service.launch("web")
        await until(lambda: bench.service.list()[0].ready)
        await bench.service.launch("silent", port=other.port)
        await until(lambda: bench.service.running("silent").state is RunState.NOT_ANSWERING)  # type: ignore[union-attr]
        assert "another program has its port" in (bench.service.running("silent").error or "")  # type: ignore[union-attr]
        assert asked(other.url) == other.pid
        await bench.service.stop("silent")
        assert runs(other.pid)


async def test_the_own_port_is_taken_when_it_is_free_and_another_when_not(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        own = one.getsockname()[1]
        for name in ("first", "second"):
            bench.root.install(name, "web")
            path = bench.root.path / "launcher-data" / "apps" / f"{name}.json"
            description = json.loads(path.read_text())
            description["launch"]["port"] = own
            path.write_text(json.dumps(description))
        taken = await bench.service.launch("first")
        assert taken.port != own and taken.ready
    assert (await bench.service.launch("second")).port == own


@pytest.mark.parametrize("asked_for", [True, False])
async def test_who_loses_its_port_on_the_way_gets_another_unless_that_very_one_was_asked_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, asked_for: bool
) -> None:
    bench.root.install("web")
    with contextlib.ExitStack() as others:
        chosen: list[int] = []

        def begin(layout: Layout, ledger: Ledger, wish: Wish) -> object:
            """Somebody is quicker the first time."""
            if not chosen:
                chosen.append(wish.port or free_port())
                others.enter_context(socket.create_server(("127.0.0.1", chosen[0])))
                wish = replace(wish, port=chosen[0])
            return real(layout, ledger, wish)

        real = starting.begin
        monkeypatch.setattr(starting, "begin", begin)
        started = await bench.service.launch("web", port=free_port() if asked_for else None, remember=True)
        assert (started.port == chosen[0], started.ready) == (asked_for, not asked_for)
        assert (bench.service.last_launch_error is None) is not asked_for
        assert len(bench.service.list(ended=True)) == (1 if asked_for else 2)


async def test_only_one_of_an_app_runs(bench: Bench) -> None:
    bench.root.install("web")
    bench.root.install("web", tag="v2")
    several = await asyncio.gather(*(bench.service.launch("web", "v1") for _ in range(5)), return_exceptions=True)
    assert [type(one) for one in several if isinstance(one, BaseException)] == [AlreadyRunning] * 4
    with pytest.raises(AlreadyRunning, match="v1"):
        await bench.service.launch("web", "v2")
    ended = await asyncio.gather(*(bench.service.stop("web") for _ in range(3)), return_exceptions=True)
    assert any(not isinstance(one, BaseException) for one in ended)
    assert (await bench.service.launch("web", "v2")).tag == "v2"


async def test_a_caller_that_hangs_up_leaves_a_whole_run(bench: Bench) -> None:
    bench.root.install("late")
    call = asyncio.create_task(bench.service.launch("late"))
    await until(lambda: bench.root.ledger.exists() and '"keeper"' in bench.root.ledger.read_text())
    call.cancel()
    await asyncio.wait([call])
    await until(lambda: bench.service.running("late"))
    assert (await bench.service.stop("late")).processes == 1


@pytest.mark.parametrize(
    ("app", "tag", "extra", "error"),
    [
        ("nothing", None, (), UnknownApp),
        ("web", "v9", (), VersionNotFound),
        ("ollama", None, (), NoActiveVersion),
        ("web", None, ("a\0b",), InvalidInput),
        ("web", None, ("\ud800",), InvalidInput),
        ("web", None, ("x" * 5000,), InvalidInput),
        ("web", None, ("x",) * 201, InvalidInput),
        ("broken", None, (), LaunchFailed),
    ],
)
async def test_what_cannot_be_launched(
    bench: Bench, app: str, tag: str | None, extra: tuple[str, ...], error: type[PumasError]
) -> None:
    bench.root.install("web")
    bench.root.install("broken", "web")
    path = bench.root.path / "launcher-data" / "apps" / "broken.json"
    path.write_text(path.read_text().replace('"command": ["/', '"command": ["/nowhere/'))
    with pytest.raises(error):
        await bench.service.launch(app, tag, extra)
    assert bench.service.list() == []
    assert not bench.root.ledger.exists() or json.loads(bench.root.ledger.read_text()).get("runs", {}) == {}
    await until(lambda: bench.root.leftovers() == [])


async def test_what_cannot_be_stopped_or_read(bench: Bench) -> None:
    bench.root.install("web")
    for call, error in (
        (bench.service.stop("nothing"), UnknownApp),
        (bench.service.stop("web"), NotRunning),
        (bench.service.stop(run_id="0" * 32), ProcessNotFound),
        (bench.service.log("nothing"), UnknownApp),
        (bench.service.log("web"), FileUnavailable),
        (bench.service.log(run_id="x"), ProcessNotFound),
    ):
        with pytest.raises(error):
            await call


async def test_versions_are_switched_only_when_asked(bench: Bench) -> None:
    bench.root.install("web")
    await bench.service.launch("web", "v1")
    assert bench.versions.switched == []
    await bench.service.stop("web")
    await bench.service.launch("web", "v1", switch=True)
    assert bench.versions.switched == [("web", "v1")]


async def test_what_lacks_packages_is_neither_started_nor_chosen(bench: Bench) -> None:
    bench.root.install("web")
    bench.versions.lacking.add(("web", "v1"))
    with pytest.raises(DependencyFailed, match="lacks"):
        await bench.service.launch("web", "v1", switch=True)
    assert (bench.service.list(ended=True), bench.versions.switched) == ([], [])


@pytest.mark.parametrize("behaviour", ["web", "late"])
async def test_its_page_is_shown_when_it_is_ready_and_that_was_asked_for(
    opened: MakeBench, root: Root, behaviour: str
) -> None:
    shown: list[tuple[str, str, str]] = []

    async def show(url: str, app_id: str, tag: str) -> None:
        shown.append((url, app_id, tag))
        raise LaunchFailed("no browser")

    root.install(behaviour)
    async with opened(grace_s=1.0, ready_wait_s=0.2) as bench:
        bench.service.show_pages_by(show)
        run = await bench.service.launch(behaviour, open_page=True)
        await until(lambda: shown)
        assert shown == [(f"{run.url}/", behaviour, "v1")]
        assert bench.service.running(behaviour) is not None
        await bench.service.stop(behaviour)
        await bench.service.launch(behaviour)
        await until(lambda: (run := bench.service.running(behaviour)) and run.ready)
        assert len(shown) == 1


@pytest.mark.parametrize(("behaviour", "page"), [("dead", "/"), ("web", "")])
async def test_what_ends_at_once_or_has_no_page_shows_none(bench: Bench, behaviour: str, page: str) -> None:
    shown: list[str] = []

    async def show(url: str, _app_id: str, _tag: str) -> None:
        shown.append(url)

    bench.service.show_pages_by(show)
    bench.root.install(behaviour)
    path = bench.root.path / f"launcher-data/apps/{behaviour}.json"
    app = json.loads(path.read_text())
    app["launch"]["page"] = page
    path.write_text(json.dumps(app))
    run = await bench.service.launch(behaviour, open_page=True)
    assert run.ready == (behaviour == "web")
    await asyncio.sleep(0)  # whoever waited for it has its turn
    assert shown == []


async def test_a_launch_is_remembered_when_asked(bench: Bench) -> None:
    bench.root.install("dead")
    bench.root.install("web")
    assert (bench.service.last_launch_log, bench.service.last_launch_error) == (None, None)
    await bench.service.launch("web")
    assert bench.service.last_launch_log is None
    failed = await bench.service.launch("dead", remember=True)
    assert (bench.service.last_launch_log, bench.service.last_launch_error) == (failed.log_path, failed.error)
    await bench.service.stop("web")
    run = await bench.service.launch("web", remember=True)
    with pytest.raises(AlreadyRunning):
        await bench.service.launch("web", remember=True)
    assert (bench.service.last_launch_log, bench.service.last_launch_error) == (run.log_path, None), "a second click"
    with pytest.raises(UnknownApp):
        await bench.service.launch("nothing", remember=True)
    assert bench.service.last_launch_log is None
    assert "nothing" in (bench.service.last_launch_error or "")


async def test_the_log_is_bounded_however_much_is_printed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from pumas.processes import spawn

    monkeypatch.setattr(spawn.Orders, "__init__", _small_logs(spawn.Orders.__init__))
    bench.root.install("flood")
    with bench.events.subscribe(["process.log"]) as told:
        started = await bench.service.launch("flood")
        folder = Path(started.log_path).parent
        await until(lambda: Path(f"{started.log_path}.2").exists())
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            sizes = [size for path in folder.glob("launch-*") if (size := size_of(path)) is not None]
            assert len(sizes) <= 3 and max(sizes) <= 300_000
            await asyncio.sleep(0.02)
        found = await bench.service.log("flood", lines=50)
        assert found.lines[1:-1] == ("x" * 99,) * 48 and found.cut, "the last one may just be under way"
        news = [json.loads(event.data) for event in told.pending()]
    assert sum(one["skipped_bytes"] for one in news) > 100_000, "a flood is cut, not piled up"
    assert max(len(event["lines"]) for event in news) < 1000


def _small_logs(make: Callable[..., None]) -> Callable[..., None]:
    def small(self: object, **facts: object) -> None:
        make(self, **{**facts, "log_bytes": 200_000, "log_files": 2})

    return small


async def test_only_the_last_logs_of_an_app_are_kept_and_no_stranger_goes(bench: Bench) -> None:
    bench.root.install("dead")
    bench.layout.logs.mkdir(parents=True)
    strangers = [bench.layout.logs / name for name in ("launch-dead-v1-1.log", "launch-0-3-10-1700000000.log", "x.log")]
    for path in strangers:
        path.write_text("an older sidecar's")
    for _ in range(12):
        await bench.service.launch("dead")
    assert all(path.exists() for path in strangers)
    assert len(list(bench.layout.logs.iterdir())) == 10 + len(strangers)


async def test_nobody_is_told_log_lines_that_nobody_follows(bench: Bench) -> None:
    bench.root.install("web")
    before = bench.events.cursor
    with bench.events.subscribe(["job"]):
        await bench.service.launch("web")
        await bench.service.stop("web")
    assert bench.events.cursor - before == 3, "starting, ready, exited"


@pytest.mark.parametrize(("wish", "left"), [(OnExit.STOP, False), (OnExit.KEEP, True)])
async def test_what_becomes_of_apps_when_the_sidecar_ends(
    opened: MakeBench, root: Root, wish: OnExit, left: bool
) -> None:
    root.install("family")
    async with opened() as bench:
        await asyncio.to_thread(bench.service.set_on_exit, wish)
        started = await bench.service.launch("family")
        begun = time.monotonic()
    assert time.monotonic() - begun < 8
    if left:
        assert runs(started.pid)
    else:
        await until(lambda: root.leftovers() == [])
    async with opened(grace_s=1.0) as bench:
        assert bench.service.on_exit is wish, "it lasts"
        if left:
            await until(lambda: bench.service.list()[0].ready)
            (found,) = bench.service.list()
            assert (found.pid, found.adopted, found.run_id) == (started.pid, True, started.run_id)
            assert (await bench.service.stop("family")).processes == 4
            assert bench.service.list(ended=True)[0].exit_code == -signal.SIGTERM, "also of a stranger's child"
        else:
            assert bench.service.list() == []
    await until(lambda: root.leftovers() == [])


async def test_what_does_not_listen_is_killed_after_the_sidecar_has_gone(opened: MakeBench, root: Root) -> None:
    root.install("deaf")
    async with opened(grace_s=1.0) as bench:
        started = await bench.service.launch("deaf")
    assert runs(started.pid), "it has its grace"
    await until(lambda: not runs(started.pid))
    await until(lambda: root.leftovers() == [])


async def test_an_app_whose_keeper_was_killed_is_still_known_and_stopped(bench: Bench) -> None:
    bench.root.install("family")
    started = await bench.service.launch("family")
    keeper = json.loads(bench.root.ledger.read_text())["runs"][started.run_id]["keeper"]
    os.kill(keeper, signal.SIGKILL)
    await until(lambda: not runs(keeper))
    assert bench.service.running("family") is not None
    assert (await bench.service.stop("family")).processes == 4
    await until(lambda: bench.root.leftovers() == [])


async def test_usage_counts_all_processes(bench: Bench) -> None:
    bench.root.install("family")
    await bench.service.launch("family")
    bench.service.list()
    await until(lambda: bench.service.list()[0].usage.ram >= 0.03)
