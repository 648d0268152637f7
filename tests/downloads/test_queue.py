"""Whose turn it is: in order, never more than so many, and nobody is forgotten or counted twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pumas.downloads.queue import MOST_AT_ONCE, Queue
from pumas.errors import InvalidInput


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Jobs:
    """Starts jobs that take their turn and hold it until they are told to end."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.ran: list[str] = []

    async def start(self, *job_ids: str) -> None:
        for job_id in job_ids:
            self.tasks[job_id] = asyncio.ensure_future(self._take(job_id))
        await settle()

    async def _take(self, job_id: str) -> None:
        await self.queue.take(job_id)
        self.ran.append(job_id)

    async def end(self, job_id: str) -> None:
        assert self.tasks[job_id].done()
        self.queue.give_back(job_id)
        self.queue.forget(job_id)
        await settle()

    async def give_up(self, job_id: str) -> None:
        self.tasks[job_id].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.tasks[job_id]
        await settle()


def check(queue: Queue, places: dict[str, int | None]) -> None:
    assert {job_id: queue.place_of(job_id) for job_id in places} == places


async def test_they_run_in_the_order_they_came() -> None:
    jobs = Jobs(Queue(2))
    await jobs.start("a", "b", "c", "d")
    assert jobs.ran == ["a", "b"]
    check(jobs.queue, {"a": None, "b": None, "c": 0, "d": 1, "nobody": None})
    await jobs.end("b")
    assert jobs.ran == ["a", "b", "c"]
    check(jobs.queue, {"c": None, "d": 0})


async def test_the_order_can_be_changed() -> None:
    jobs = Jobs(Queue(1))
    await jobs.start("a", "b", "c", "d")
    jobs.queue.move_first(["d", "c", "d"])
    assert jobs.queue.order == ["d", "c", "a", "b"]
    check(jobs.queue, {"d": 0, "c": 1, "b": 2})
    for job_id in ("a", "d", "c"):
        await jobs.end(job_id)
    assert jobs.ran == ["a", "d", "c", "b"], "a ran already and was not stopped"


async def test_more_may_run_at_once_from_now_on() -> None:
    jobs = Jobs(Queue(1))
    await jobs.start("a", "b", "c", "d")
    jobs.queue.limit(3)
    await settle()
    assert jobs.ran == ["a", "b", "c"]
    jobs.queue.limit(1)
    await settle()
    await jobs.end("a")
    await jobs.end("b")
    assert jobs.ran == ["a", "b", "c"], "one of three still runs"
    await jobs.end("c")
    assert jobs.ran == ["a", "b", "c", "d"]


async def test_a_paused_one_keeps_its_place() -> None:
    jobs = Jobs(Queue(1))
    await jobs.start("a", "b", "c")
    await jobs.give_up("b")
    check(jobs.queue, {"b": None, "c": 0})
    await jobs.start("b")
    check(jobs.queue, {"b": 0, "c": 1})


async def test_a_forgotten_one_goes_to_the_end() -> None:
    jobs = Jobs(Queue(1))
    await jobs.start("a", "b", "c")
    await jobs.give_up("b")
    jobs.queue.forget("b")
    jobs.queue.forget("b")
    await jobs.start("b")
    check(jobs.queue, {"c": 0, "b": 1})


async def test_one_that_is_forgotten_while_it_waits_can_be_asked_about() -> None:
    """A cancelled download leaves the order a moment before it stops waiting."""
    jobs = Jobs(Queue(1))
    await jobs.start("a", "b", "c")
    jobs.queue.forget("b")
    check(jobs.queue, {"b": None, "c": 0})
    await jobs.end("a")
    assert jobs.ran == ["a", "c"]


async def test_giving_up_at_the_moment_of_the_turn_passes_it_on() -> None:
    jobs = Jobs(Queue(1))
    await jobs.start("a", "b", "c")
    jobs.queue.give_back("a")  # b's turn is granted, but b has not noticed
    await jobs.give_up("b")
    assert jobs.ran == ["a", "c"]


async def test_a_job_that_is_cancelled_gives_up_before_it_began_to_wait() -> None:
    jobs = Jobs(Queue(1))
    task = asyncio.ensure_future(jobs.queue.take("a"))
    task.cancel()
    await settle()
    await jobs.start("b")
    assert jobs.ran == ["b"]


@pytest.mark.parametrize("at_once", [0, -1, MOST_AT_ONCE + 1])
def test_limits(at_once: int) -> None:
    queue = Queue(3)
    with pytest.raises(InvalidInput):
        queue.limit(at_once)
    assert queue.at_once == 3


class AnyOrder(RuleBasedStateMachine):
    """Against a list: `waiting` in order, `running` no more than the limit except where the limit was lowered."""

    @initialize(at_once=st.integers(1, 4))
    def begin(self, at_once: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.queue = Queue(at_once)
        self.jobs = Jobs(self.queue)
        self.at_once = at_once
        self.order: list[str] = []
        self.waiting: set[str] = set()
        self.running: set[str] = set()
        self.number = 0

    def do(self, work: object) -> None:
        self.loop.run_until_complete(work)  # type: ignore[arg-type]

    def grant(self) -> None:
        for job_id in self.order:
            if len(self.running) >= self.at_once:
                return
            if job_id in self.waiting:
                self.waiting.remove(job_id)
                self.running.add(job_id)

    @rule()
    def new(self) -> None:
        self.number += 1
        job_id = f"job-{self.number}"
        self.order.append(job_id)
        self.waiting.add(job_id)
        self.grant()
        self.do(self.jobs.start(job_id))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.running)))
        self.running.remove(job_id)
        self.grant()
        self.do(self.jobs.end(job_id))
        self.order.remove(job_id)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.waiting)))
        self.waiting.remove(job_id)
        self.do(self.jobs.give_up(job_id))

    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        paused = sorted(set(self.order) - self.waiting - self.running)
        if paused:
            job_id = data.draw(st.sampled_from(paused))
            self.waiting.add(job_id)
            self.grant()
            self.do(self.jobs.start(job_id))

    @precondition(lambda self: self.order)
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        first: Sequence[str] = data.draw(st.lists(st.sampled_from(self.order), min_size=1, max_size=3, unique=True))
        self.order = [*first, *(job_id for job_id in self.order if job_id not in first)]
        self.queue.move_first(first)

    @rule(at_once=st.integers(1, 4))
    def limit(self, at_once: int) -> None:
        self.at_once = at_once
        self.grant()
        self.queue.limit(at_once)
        self.do(settle())

    @invariant()
    def all_are_where_they_should_be(self) -> None:
        if not hasattr(self, "queue"):
            return
        assert list(self.queue.order) == self.order
        places = {job_id: place for place, job_id in enumerate(j for j in self.order if j in self.waiting)}
        assert {job_id: self.queue.place_of(job_id) for job_id in self.order} == {
            job_id: places.get(job_id) for job_id in self.order
        }
        assert {job_id for job_id in self.order if self.jobs.tasks[job_id].done()} >= self.running
        assert not any(self.jobs.tasks[job_id].done() for job_id in self.waiting)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            for task in self.jobs.tasks.values():
                task.cancel()
            self.do(settle())
            self.loop.close()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
