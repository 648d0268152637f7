"""Jobs: their states one by one, and every order of starting, pausing, resuming, cancelling, stopping and reopening."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import AsyncGenerator, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from pumas.errors import CorruptState, DiskError, JobNotFound, NotAModel, PumasError, WrongJobState
from pumas.events.stream import EventStream
from pumas.jobs.service import JobContext, JobService
from pumas.jobs.store import Job, JobState, JobStore
from pumas.storage.database import Database, Schema

S = JobState


class Bench:
    """A job service on a real file, with one kind of job whose every step the test decides."""

    def __init__(self, folder: Path, at_once: int = 1) -> None:
        self.folder, self.at_once = folder, at_once
        self.gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.outcome: dict[str, Exception | None] = {}
        self.running: list[str] = []
        self.most_running = 0
        self.cleaned: list[str] = []
        self.started: list[str] = []

    async def open(self) -> None:
        self.events = EventStream()
        self.events.bind(asyncio.get_running_loop())
        self.database = Database(self.folder / "jobs.db", Schema.load("jobs"), disposable=False)
        self.jobs = JobService(JobStore(self.database), self.events)
        self.ended: list[tuple[str, JobState]] = []
        self.jobs.register("test", self.run, at_once=self.at_once, ended=self.note_end)
        await self.jobs.open()

    async def note_end(self, job: Job) -> None:
        self.ended.append((job.params["name"], job.state))

    async def run(self, context: JobContext, params: dict[str, Any]) -> dict[str, Any]:
        name = params["name"]
        self.started.append(name)
        self.running.append(name)
        self.most_running = max(self.most_running, len(self.running))
        steps = context.checkpoint.get("steps", 0)
        try:
            while not self.gates.setdefault(name, asyncio.Event()).is_set():
                context.check()
                await asyncio.sleep(0)
            steps += 1
            await asyncio.to_thread(context.save_checkpoint_sync, {"steps": steps})
            context.report(stage="work", done=1, total=1, unit="steps")
            context.check()
            failure = self.outcome.get(name)
            if failure is not None:
                raise failure
            return {"steps": steps}
        except PumasError:
            self.cleaned.append(name)
            raise
        finally:
            self.running.remove(name)

    async def close(self) -> None:
        await self.jobs.close()
        self.database.close_sync()

    async def crash(self) -> None:
        """What `kill -9` leaves: the rows as they are, nothing told to anybody."""
        for task in [t for t in asyncio.all_tasks() if t.get_name().startswith("job ")]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self.database.close_sync()

    async def settled(self, job_id: str) -> Job:
        return await self.jobs.wait(job_id, 30)

    async def until(self, job_id: str, state: JobState) -> Job:
        for _ in range(5000):
            job = await self.jobs.get(job_id)
            if job.state is state:
                return job
            await asyncio.sleep(0.001)
        raise AssertionError(f"{job_id} is {job.state}, not {state}")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Bench]:
    one = Bench(tmp_path)
    await one.open()
    yield one
    await one.close()


async def test_a_job_that_works(bench: Bench) -> None:
    with bench.events.subscribe(["job"]) as reader:
        job = await bench.jobs.start("test", {"name": "a"}, title="A")
        assert job.state is S.QUEUED
        await bench.until(job.id, S.RUNNING)
        bench.gates["a"].set()
        done = await bench.settled(job.id)
        assert (done.state, done.result, done.error, done.progress) == (S.COMPLETED, {"steps": 1}, None, 1.0)
        assert done.finished_at is not None
        states = [e.data for e in reader.pending() if e.topic == "job.state"]
    assert [b'"%s"' % s in d for s, d in zip([b"queued", b"running", b"completed"], states, strict=True)] == [True] * 3
    assert (await bench.jobs.list())[0] == done


@pytest.mark.parametrize(
    ("failure", "code", "told"),
    [
        (NotAModel("nothing there"), "not_a_model", "nothing there"),
        (RuntimeError("secret inside"), "internal_error", "Internal error"),
        (OSError(28, "no space"), "internal_error", "Internal error"),
    ],
)
async def test_a_job_that_fails_says_why_and_can_be_tried_again(
    bench: Bench, failure: Exception, code: str, told: str
) -> None:
    bench.gates["a"] = asyncio.Event()
    bench.gates["a"].set()
    bench.outcome["a"] = failure
    job = await bench.jobs.start("test", {"name": "a"}, title="A")
    failed = await bench.settled(job.id)
    assert (failed.state, failed.error_code) == (S.FAILED, code)
    assert told in (failed.error or "")
    assert "secret" not in (failed.error or "")
    bench.outcome["a"] = None
    await bench.jobs.resume(job.id)
    again = await bench.settled(job.id)
    assert (again.state, again.error, again.result) == (S.COMPLETED, None, {"steps": 2})


async def test_who_waits_for_a_job_gets_its_result_or_its_own_failure(bench: Bench) -> None:
    job = await bench.jobs.start("test", {"name": "a"}, title="A")
    assert await bench.jobs.outcome(job.id, 0.01) is None, "still under way"
    failure = bench.outcome["a"] = NotAModel("nothing there")
    bench.gates["a"].set()
    with pytest.raises(NotAModel) as raised:
        await bench.jobs.outcome(job.id, 30)
    assert raised.value is failure
    with pytest.raises(PumasError, match="nothing there"):
        await bench.jobs.outcome(job.id, 30)  # later only its words are left
    bench.outcome["a"] = None
    await bench.jobs.resume(job.id)
    assert await bench.jobs.outcome(job.id, 30) == {"steps": 2}


async def test_who_waits_for_a_job_that_is_stopped_hears_of_it(bench: Bench) -> None:
    for stop, kind in ((bench.jobs.cancel, "cancelled"), (bench.jobs.pause, "interrupted")):
        job = await bench.jobs.start("test", {"name": kind}, title="A")
        await bench.until(job.id, S.RUNNING)
        waiting = asyncio.create_task(bench.jobs.outcome(job.id, 30))
        await stop(job.id)
        with pytest.raises(PumasError) as raised:
            await waiting
        assert raised.value.kind == kind


async def test_a_start_goes_on_with_what_was_interrupted_and_leaves_what_was_paused(bench: Bench) -> None:
    ids = [(await bench.jobs.start("test", {"name": name}, title=name)).id for name in "abc"]
    await bench.until(ids[0], S.RUNNING)
    await bench.jobs.pause(ids[1])
    await bench.settled(ids[1])
    await bench.crash()
    await bench.open()
    bench.started.clear()
    assert await bench.jobs.go_on("other") == []
    assert await bench.jobs.go_on("test") == [ids[0], ids[2]], "in the order they came"
    for name in "ac":
        bench.gates[name].set()
    assert [(await bench.settled(one)).state for one in ids] == [S.COMPLETED, S.PAUSED, S.COMPLETED]
    assert bench.started == ["a", "c"]


async def test_pause_and_resume_keep_the_checkpoint(bench: Bench) -> None:
    job = await bench.jobs.start("test", {"name": "a"}, title="A")
    await bench.until(job.id, S.RUNNING)
    await bench.jobs.pause(job.id)
    paused = await bench.settled(job.id)
    assert (paused.state, paused.error) == (S.PAUSED, None)
    bench.gates["a"].set()
    await bench.jobs.resume(job.id)
    assert (await bench.settled(job.id)).state is S.COMPLETED


async def test_a_job_can_be_resumed_before_its_pause_has_come_about(bench: Bench) -> None:
    job = await bench.jobs.start("test", {"name": "a"}, title="A")
    await bench.until(job.id, S.RUNNING)
    for _ in range(3):
        assert not bench.jobs.is_pausing(job.id)
        await bench.jobs.pause(job.id)
        assert bench.jobs.is_pausing(job.id)
        await bench.jobs.resume(job.id)
    bench.gates["a"].set()
    assert (await bench.settled(job.id)).state is S.COMPLETED
    assert not bench.jobs.is_pausing(job.id)


async def test_a_kind_is_told_of_every_end_also_of_jobs_that_never_ran(bench: Bench) -> None:
    ids = [(await bench.jobs.start("test", {"name": name}, title=name)).id for name in "abc"]
    await bench.until(ids[0], S.RUNNING)
    await bench.jobs.pause(ids[1])
    await bench.settled(ids[1])
    await bench.jobs.cancel(ids[2])
    await bench.settled(ids[2])
    bench.gates["a"].set()
    await bench.settled(ids[0])
    await bench.jobs.cancel(ids[1])
    await bench.settled(ids[1])
    assert bench.ended == [("b", S.PAUSED), ("c", S.CANCELLED), ("a", S.COMPLETED), ("b", S.CANCELLED)]


async def test_a_waiting_job_can_be_paused_and_cancelled_at_once(bench: Bench) -> None:
    """It need not wait for the slot that another holds."""
    holder = await bench.jobs.start("test", {"name": "holder"}, title="H")
    await bench.until(holder.id, S.RUNNING)
    waiting = await bench.jobs.start("test", {"name": "waiting"}, title="W")
    await bench.jobs.pause(waiting.id)
    assert (await bench.settled(waiting.id)).state is S.PAUSED
    await bench.jobs.resume(waiting.id)
    await bench.jobs.cancel(waiting.id)
    assert (await bench.settled(waiting.id)).state is S.CANCELLED
    assert (await bench.jobs.get(holder.id)).state is S.RUNNING
    fresh = await bench.jobs.start("test", {"name": "fresh"}, title="F")
    await bench.jobs.cancel(fresh.id)
    assert (await bench.settled(fresh.id)).state is S.CANCELLED
    assert "fresh" not in bench.started
    bench.gates["holder"].set()
    assert (await bench.settled(holder.id)).state is S.COMPLETED
    # the slots are all there again
    last = await bench.jobs.start("test", {"name": "last"}, title="L")
    bench.gates["last"] = asyncio.Event()
    bench.gates["last"].set()
    assert (await bench.settled(last.id)).state is S.COMPLETED


async def test_a_cancelled_paused_job_cleans_up(bench: Bench) -> None:
    job = await bench.jobs.start("test", {"name": "a"}, title="A")
    await bench.until(job.id, S.RUNNING)
    await bench.jobs.pause(job.id)
    await bench.settled(job.id)
    bench.cleaned.clear()
    await bench.jobs.cancel(job.id)
    assert (await bench.settled(job.id)).state is S.CANCELLED
    assert bench.cleaned == ["a"]


async def test_a_cancel_is_not_weakened(bench: Bench) -> None:
    """A pause or the end of the sidecar after a cancel does not turn it into a pause."""
    job = await bench.jobs.start("test", {"name": "a"}, title="A")
    await bench.until(job.id, S.RUNNING)
    await bench.jobs.cancel(job.id)
    with pytest.raises(WrongJobState):
        await bench.jobs.pause(job.id)
    await bench.jobs.close()
    assert (await bench.jobs.get(job.id)).state is S.CANCELLED


@pytest.mark.parametrize(("ask", "end"), [("cancel", S.CANCELLED), ("resume", S.COMPLETED)])
async def test_what_is_asked_while_a_pause_is_recorded_is_done(bench: Bench, ask: str, end: JobState) -> None:
    job = await bench.jobs.start("test", {"name": "a"}, title="A")
    await bench.until(job.id, S.RUNNING)
    await bench.jobs.pause(job.id)
    # The state is shown before its row is on disk, so what follows comes while it is being written.
    while (await bench.jobs.get(job.id)).state is not S.PAUSED:
        await asyncio.sleep(0)
    bench.gates["a"].set()
    await getattr(bench.jobs, ask)(job.id)
    assert (await bench.until(job.id, end)).state is end


async def test_two_calls_at_once_start_one_run(bench: Bench) -> None:
    job = await bench.jobs.start("test", {"name": "a"}, title="A")
    await bench.until(job.id, S.RUNNING)
    await bench.jobs.pause(job.id)
    await bench.settled(job.id)
    bench.started.clear()
    answers = await asyncio.gather(*(bench.jobs.resume(job.id) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(a, Job) for a in answers) == 1
    assert all(isinstance(a, (Job, WrongJobState)) for a in answers)
    bench.gates["a"].set()
    await bench.settled(job.id)
    assert bench.started == ["a"]


async def test_wrong_calls(bench: Bench) -> None:
    for call in (bench.jobs.get, bench.jobs.cancel, bench.jobs.pause, bench.jobs.resume):
        with pytest.raises(JobNotFound):
            await call("no-such-job")
    job = await bench.jobs.start("test", {"name": "a"}, title="A")
    with pytest.raises(WrongJobState):
        await bench.jobs.resume(job.id)
    await bench.until(job.id, S.RUNNING)
    bench.gates["a"].set()
    await bench.settled(job.id)
    for call in (bench.jobs.cancel, bench.jobs.pause, bench.jobs.resume):
        with pytest.raises(WrongJobState):
            await call(job.id)


async def test_an_unknown_kind_fails_by_name(bench: Bench) -> None:
    job = await bench.jobs.start("later-version", {"name": "a"}, title="A")
    failed = await bench.settled(job.id)
    assert (failed.state, failed.error_code) == (S.FAILED, "wrong_job_state")


async def test_closing_parks_and_opening_resumes(bench: Bench) -> None:
    running = await bench.jobs.start("test", {"name": "a"}, title="A")
    queued = await bench.jobs.start("test", {"name": "b"}, title="B")
    await bench.until(running.id, S.RUNNING)
    await bench.close()
    await bench.open()
    for job_id in (running.id, queued.id):
        job = await bench.jobs.get(job_id)
        assert (job.state, job.error_code) == (S.PAUSED, "interrupted")
        for name in "ab":
            bench.gates.setdefault(name, asyncio.Event()).set()
        await bench.jobs.resume(job_id)
        assert (await bench.settled(job_id)).state is S.COMPLETED


async def test_a_crash_parks_what_ran(bench: Bench) -> None:
    job = await bench.jobs.start("test", {"name": "a"}, title="A")
    await bench.until(job.id, S.RUNNING)
    await bench.crash()
    await bench.open()
    parked = await bench.jobs.get(job.id)
    assert (parked.state, parked.error_code) == (S.PAUSED, "interrupted")
    assert "Resume" in (parked.error or "")


async def test_progress_is_coalesced_also_when_the_total_is_unknown(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.open()

    async def busy(context: JobContext, _params: dict[str, Any]) -> dict[str, Any]:
        for done in range(500):
            context.report(stage="scan", done=done, total=0, unit="files")
        for done in range(500):
            context.report(stage="copy", done=done, total=499)
        for _ in range(500):
            context.report(stage="copy", done=499, total=499)
        return {}

    bench.jobs.register("busy", busy)
    with bench.events.subscribe(["job.progress"]) as reader:
        job = await bench.jobs.start("busy", {}, title="B")
        await bench.settled(job.id)
        await asyncio.sleep(0)
        told = reader.pending()
    stages = [b'"scan"' in event.data for event in told]
    assert 1 <= stages.count(True) <= 20
    assert 2 <= stages.count(False) <= 20
    assert b'"progress":1.0' in told[-1].data
    await bench.close()


async def test_reports_and_checkpoints_of_several_threads_do_not_undo_each_other(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.open()

    async def threads(context: JobContext, _params: dict[str, Any]) -> dict[str, Any]:
        def report() -> None:
            for n in range(3000):
                context.report(stage=f"s{n}", done=n, total=3000)

        def keep() -> None:
            for n in range(60):
                context.save_checkpoint_sync({"n": n})
                assert context.checkpoint == {"n": n}

        await asyncio.gather(*(asyncio.to_thread(f) for f in (report, report, keep)))
        return {}

    bench.jobs.register("threads", threads)
    job = await bench.jobs.start("threads", {}, title="T")
    done = await bench.jobs.wait(job.id, 30)
    assert (done.state, done.checkpoint) == (S.COMPLETED, {"n": 59})
    await bench.close()


async def test_progress_is_between_none_and_all(bench: Bench) -> None:
    for done, total, expected in [(-5, 10, 0.0), (5, 10, 0.5), (20, 10, 1.0), (3, 0, 0.0), (0, -1, 0.0)]:
        job = Job("x", "k", "t", S.RUNNING, {}, "", "", done=done, total=total)
        assert job.progress == expected


async def test_a_damaged_row_hides_only_itself(bench: Bench) -> None:
    good = await bench.jobs.start("test", {"name": "a"}, title="A")
    bad = await bench.jobs.start("later", {"name": "b"}, title="B")
    await bench.settled(bad.id)
    with contextlib.closing(sqlite3.connect(bench.folder / "jobs.db", isolation_level=None)) as raw:
        raw.execute("UPDATE jobs SET params_json = '{\"a', done = 'x' WHERE id = ?", (bad.id,))
    assert [job.id for job in await bench.jobs.list()] == [good.id]
    with pytest.raises(CorruptState):
        await bench.jobs.get(bad.id)


async def test_lists_filter_and_page(bench: Bench) -> None:
    for name in "abc":
        bench.gates[name] = asyncio.Event()
        bench.gates[name].set()
        job = await bench.jobs.start("test", {"name": name}, title=name)
        await bench.settled(job.id)
    waiting = await bench.jobs.start("test", {"name": "d"}, title="d")
    await bench.until(waiting.id, S.RUNNING)
    assert [j.title for j in await bench.jobs.list()] == ["d", "c", "b", "a"]
    assert [j.title for j in await bench.jobs.list(limit=2, offset=1)] == ["c", "b"]
    assert [j.title for j in await bench.jobs.list(states=(S.RUNNING,))] == ["d"]
    assert await bench.jobs.list(kind="other") == []


async def test_one_that_ends_while_the_list_is_read_is_shown_as_it_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await bench.jobs.start("test", {"name": "a"}, title="a")
    await bench.until(job.id, S.RUNNING)
    read = JobStore.list

    async def slow(store: JobStore, **wanted: Any) -> list[Job]:
        rows = await read(store, **wanted)
        bench.gates["a"].set()
        await bench.settled(job.id)
        return rows

    monkeypatch.setattr(JobStore, "list", slow)
    assert await bench.jobs.list(states=(S.RUNNING,)) == []
    assert [one.state for one in await bench.jobs.list()] == [S.COMPLETED]


async def test_one_that_has_ended_is_listed_as_ended_before_that_is_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await bench.jobs.start("test", {"name": "a"}, title="a")
    await bench.until(job.id, S.RUNNING)
    save, go = JobStore.save, asyncio.Event()

    async def late(store: JobStore, ended: Job) -> None:
        await go.wait()
        await save(store, ended)

    monkeypatch.setattr(JobStore, "save", late)
    bench.gates["a"].set()
    await bench.until(job.id, S.COMPLETED)
    assert await bench.jobs.list(states=(S.RUNNING,)) == []
    assert [one.id for one in await bench.jobs.list(states=(S.COMPLETED, S.FAILED))] == [job.id]
    go.set()
    await bench.settled(job.id)


async def test_an_end_that_the_disk_refuses_is_told_and_written_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await bench.jobs.start("test", {"name": "a"}, title="a")
    await bench.until(job.id, S.RUNNING)
    save = JobStore.save

    async def full(_store: JobStore, _job: Job) -> None:
        raise DiskError("Writing jobs.db: the disk is full.")

    monkeypatch.setattr(JobStore, "save", full)
    bench.gates["a"].set()
    assert (await bench.settled(job.id)).state is S.COMPLETED
    store = JobStore(bench.database)
    for _ in range(2):
        assert (await bench.jobs.get(job.id)).state is S.COMPLETED
        assert await bench.jobs.list(states=(S.RUNNING,)) == []
        assert [one.id for one in await bench.jobs.list(states=(S.COMPLETED,))] == [job.id]
        row = await store.get(job.id)
        assert row is not None
        assert row.state is S.RUNNING
    monkeypatch.setattr(JobStore, "save", save)
    assert (await bench.jobs.get(job.id)).state is S.COMPLETED
    row = await store.get(job.id)
    assert row is not None
    assert row.state is S.COMPLETED


# -- any order ---------------------------------------------------------------------------------------------------------


class Orders(RuleBasedStateMachine):
    """Calls in any order against one service: the states stay truthful, nothing runs twice, nothing is lost."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.bench = Bench(self.folder, at_once=2)
        self.names: dict[str, str] = {}
        self.cancelled: set[str] = set()
        self.do(self.bench.open())

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    def steer(self, call: str, job_id: str) -> bool:
        try:
            self.do(getattr(self.bench.jobs, call)(job_id))
        except WrongJobState:
            return False
        return True

    @rule(target=jobs, number=st.integers(0, 10**9))
    def start(self, number: int) -> str:
        name = f"n{number}-{len(self.names)}"
        job = self.do(self.bench.jobs.start("test", {"name": name}, title=name))
        self.names[job.id] = name
        return job.id

    @rule(job=jobs)
    def pause(self, job: str) -> None:
        self.steer("pause", job)

    @rule(job=jobs)
    def resume(self, job: str) -> None:
        if self.steer("resume", job):
            assert job not in self.cancelled

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        if self.steer("cancel", job):
            self.cancelled.add(job)

    @rule(job=jobs)
    def let_it_finish(self, job: str) -> None:
        self.bench.gates.setdefault(self.names[job], asyncio.Event()).set()

    @rule(turns=st.integers(1, 30))
    def time_goes_by(self, turns: int) -> None:
        async def wait() -> None:
            for _ in range(turns):
                await asyncio.sleep(0.0005)

        self.do(wait())

    @rule()
    def stop_and_open_again(self) -> None:
        self.do(self.bench.close())
        self.bench.gates = {name: _fresh(gate) for name, gate in self.bench.gates.items()}
        self.do(self.bench.open())

    @rule()
    def crash_and_open_again(self) -> None:
        self.do(self.bench.crash())
        self.bench.running.clear()
        self.do(self.bench.open())
        # A crash may come before the wish to cancel is carried out; the job is then parked and can go on.
        self.cancelled = {j for j in self.cancelled if self.do(self.bench.jobs.get(j)).state is S.CANCELLED}

    @rule(job=consumes(jobs))
    def forget(self, job: str) -> None:
        del job

    @invariant()
    def nothing_runs_twice(self) -> None:
        assert len(self.bench.running) == len(set(self.bench.running))
        # Jobs that only clean up after themselves need no slot.
        assert len([n for n in self.bench.running if self.id_of(n) not in self.cancelled]) <= 2

    @invariant()
    def every_job_is_there(self) -> None:
        listed = {job.id: job for job in self.do(self.bench.jobs.list(limit=1000))}
        assert set(listed) == set(self.names)
        for job in listed.values():
            assert (job.state is S.COMPLETED) == (job.result is not None)
            assert job.state.final == (job.finished_at is not None)
            assert 0 <= job.progress <= 1

    def id_of(self, name: str) -> str:
        return next(job_id for job_id, n in self.names.items() if n == name)

    def teardown(self) -> None:
        self.do(self.bench.close())
        for job_id in self.names:
            job = self.do(JobStore(self.bench.database).get(job_id))
            assert job.state.final or job.state is S.PAUSED, job
            if job_id in self.cancelled:
                assert job.state in (S.CANCELLED, S.COMPLETED, S.PAUSED)
        self.bench.database.close_sync()
        self.loop.close()
        shutil.rmtree(self.folder)


def _fresh(gate: asyncio.Event) -> asyncio.Event:
    new = asyncio.Event()
    if gate.is_set():
        new.set()
    return new


TestOrders = Orders.TestCase
TestOrders.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
