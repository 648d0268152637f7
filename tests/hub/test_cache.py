from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pumas.errors import ConnectionFailed, InvalidInput, Offline, PumasError, RateLimited, RepoNotFound, TimedOut
from pumas.hub.cache import IN_MEMORY_BYTES, Answers, gather
from pumas.hub.store import HubStore
from pumas.storage.database import Database, Schema

DAY = 24 * 3600.0


class Bench:
    """Answers over a real database, with a clock that the test sets and a count of the questions."""

    def __init__(self, path: Path) -> None:
        self.database = Database(path / "cache" / "hub.db", Schema.load("hub"), disposable=True)
        self.now = 1_700_000_000.0
        self.asked = 0
        self.answers = self.restarted()

    def restarted(self) -> Answers:
        self.answers = Answers(HubStore(self.database), clock=lambda: self.now)
        return self.answers

    async def get(self, value: Any = "answer", *, key: str = "k", ttl_s: float = 60.0, **waits: float) -> Any:
        """The value that comes, with `(stale)` behind it when it is; an exception or a function is raised or called."""

        def ask() -> Any:
            self.asked += 1
            if isinstance(value, Exception):
                raise value
            return value() if callable(value) else value

        answer = await self.answers.get(key, ttl_s, ask, **waits)
        return f"{answer.value} (stale)" if answer.stale else answer.value


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.answers.close()
    made.database.close_sync()


async def test_a_fresh_answer_is_not_asked_for_again(bench: Bench) -> None:
    assert await bench.get("first") == "first"
    bench.now += 59
    assert await bench.get("second") == "first"
    assert bench.asked == 1


async def test_an_old_answer_is_replaced(bench: Bench) -> None:
    await bench.get("first")
    bench.now += 60
    assert await bench.get("second") == "second"
    assert await bench.get("third") == "second"


async def test_an_answer_outlives_a_restart(bench: Bench) -> None:
    await bench.get({"list": [1, None, "ü"]})
    bench.restarted()
    assert await bench.get("other") == {"list": [1, None, "ü"]}
    bench.restarted()
    bench.now += 61
    assert await bench.get("other") == "other"


@pytest.mark.parametrize("back", [1.0, 365 * DAY])
async def test_an_answer_from_the_future_counts_as_old(bench: Bench, back: float) -> None:
    await bench.get("first")
    bench.now -= back
    assert await bench.get("second") == "second"
    bench.restarted()
    bench.now -= back
    assert await bench.get("third") == "third"


NETWORK = [Offline("hub"), ConnectionFailed("hub", "does not answer"), RateLimited("hub", 60.0)]


@pytest.mark.parametrize("failure", NETWORK, ids=lambda f: f.kind)
async def test_what_was_known_serves_while_the_hub_cannot_be_reached(bench: Bench, failure: PumasError) -> None:
    await bench.get("first")
    bench.now += 90 * DAY
    assert await bench.get(failure) == "first (stale)"
    bench.restarted()
    assert await bench.get(failure) == "first (stale)"
    assert await bench.get("second") == "second"


@pytest.mark.parametrize("failure", NETWORK, ids=lambda f: f.kind)
async def test_with_nothing_known_the_failure_is_the_answer(bench: Bench, failure: PumasError) -> None:
    with pytest.raises(type(failure)):
        await bench.get(failure)
    assert await bench.get("then") == "then"


@pytest.mark.parametrize("failure", [RepoNotFound("a/b"), InvalidInput("x", "bad")], ids=lambda f: f.kind)
async def test_an_answer_that_says_no_is_not_hidden_behind_an_old_one(bench: Bench, failure: PumasError) -> None:
    await bench.get("first")
    bench.now += DAY
    with pytest.raises(type(failure)):
        await bench.get(failure)


def looked_up_in_order() -> None:
    """What is kept is looked up one after the other: whoever asks last has joined last."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))


async def test_one_question_is_asked_once_at_a_time(bench: Bench) -> None:
    looked_up_in_order()
    go = threading.Event()

    def slow() -> str:
        go.wait(30)
        return "slow"

    waiting = [asyncio.ensure_future(bench.get(slow)) for _ in range(20)]
    other = asyncio.ensure_future(bench.get("other", key="other"))
    assert await other == "other"
    go.set()
    assert await asyncio.gather(*waiting) == ["slow"] * 20
    assert bench.asked == 2


async def test_a_failure_reaches_everybody_who_waits(bench: Bench) -> None:
    looked_up_in_order()
    go = threading.Event()

    def fail() -> Any:
        assert go.wait(30)
        raise Offline("hub")

    waiting = [asyncio.ensure_future(bench.get(fail)) for _ in range(5)]
    await bench.get("other", key="other")
    go.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in found] == [Offline] * 5
    assert bench.asked == 2


async def test_nobody_waits_longer_than_a_call_may_and_the_answer_is_kept_when_it_comes(bench: Bench) -> None:
    go = threading.Event()

    def slow() -> str:
        go.wait(30)
        return "slow"

    with pytest.raises(TimedOut):
        await bench.get(slow, wait_s=0.05)
    go.set()
    assert await bench.get("never asked") == "slow"
    assert bench.asked == 1


async def test_a_slow_hub_is_waited_for_less_when_something_is_known(bench: Bench) -> None:
    await bench.get("first")
    bench.now += DAY
    go = threading.Event()

    def slow() -> str:
        go.wait(30)
        return "slow"

    assert await bench.get(slow, wait_s=60.0, stale_wait_s=0.05) == "first (stale)"
    go.set()
    while await bench.get("asked again", stale_wait_s=5.0) != "slow":
        await asyncio.sleep(0)
    assert bench.asked == 2


async def test_a_caller_that_gives_up_stops_nobody_else(bench: Bench) -> None:
    go = threading.Event()

    def slow() -> str:
        go.wait(30)
        return "slow"

    one, other = (asyncio.ensure_future(bench.get(slow)) for _ in range(2))
    while bench.asked == 0:
        await asyncio.sleep(0.001)
    one.cancel()
    go.set()
    assert await other == "slow"


async def test_each_reader_has_a_copy_of_its_own(bench: Bench) -> None:
    first = await bench.get(["a"])
    first.append("b")
    assert await bench.get("x") == ["a"]


async def test_memory_has_a_bound_and_the_disk_has_the_rest(bench: Bench) -> None:
    for number in range(6):
        await bench.get(str(number) * (IN_MEMORY_BYTES // 3), key=f"k{number}")
    await bench.get("9" * IN_MEMORY_BYTES, key="huge")
    kept = [number for number in range(6) if bench.answers.remembered(f"k{number}")]
    assert len(kept) <= 3
    assert bench.answers.remembered("huge") is None
    assert await bench.get("new", key="k0") == "0" * (IN_MEMORY_BYTES // 3)
    assert await bench.get("new", key="huge") == "9" * IN_MEMORY_BYTES


async def test_only_a_remembered_answer_is_given_without_waiting(bench: Bench) -> None:
    assert bench.answers.remembered("k") is None
    await bench.get("first")
    assert bench.answers.remembered("k", 60.0) is not None
    bench.now += 61
    assert bench.answers.remembered("k", 60.0) is None
    assert bench.answers.remembered("k") is not None


async def test_a_disk_that_fails_costs_only_the_cache(bench: Bench) -> None:
    await bench.get("first")
    bench.database.close_sync()
    bench.database.path.write_bytes(b"no database" * 1000)
    bench.restarted()
    assert await bench.get("second") == "second"
    bench.restarted()
    assert await bench.get("third") == "second"


async def test_when_an_answer_was_fetched_is_said_in_utc(bench: Bench) -> None:
    answer = await bench.answers.get("k", 60.0, lambda: 1)
    assert answer.fetched == "2023-11-14T22:13:20.000000Z"


async def test_work_is_done_in_order_and_not_all_at_once() -> None:
    running, most = 0, 0

    def job(number: int) -> Callable[[], Any]:
        async def run() -> int:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            return number

        return run

    assert await gather(3, [job(number) for number in range(20)]) == list(range(20))
    assert most == 3
