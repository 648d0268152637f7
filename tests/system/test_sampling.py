"""One thread, one reading for all, nothing awake when nobody asks. Time is moved by hand; nothing sleeps."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest

from pumas.errors import DiskError, Interrupted, TimedOut
from pumas.system.sampling import Pace, Sampler, when_asked

BOUND = 5.0
WATCHED = Pace(max_age=3.0, interval=1.0, park_after=10.0, window=0.25)


class Hand:
    """A clock that moves only when the sampling thread waits and the test lets it go on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []
        self._waiting = threading.Semaphore(0)
        self._go = threading.Semaphore(0)

    def clock(self) -> float:
        return self.now

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        self._waiting.release()
        while not stop.is_set():
            if self._go.acquire(timeout=0.01):
                self.now += seconds
                break
        return stop.is_set()

    def let_go(self) -> None:
        """Wait until the thread waits, then end that wait."""
        assert self._waiting.acquire(timeout=BOUND)
        self._go.release()


class Source:
    """Counts what happens to it; `read` gives 1, 2, 3 …, waits for `gate`, raises what `fault` holds."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.count = 0
        self.fault: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.reading = threading.Event()
        self.closed = threading.Event()

    @contextmanager
    def __call__(self) -> Iterator[Callable[[], int]]:
        self.log.append("open")
        yield self.read
        self.log.append("close")
        self.closed.set()

    def read(self) -> int:
        self.log.append("read")
        self.reading.set()
        assert self.gate.wait(BOUND)
        if self.fault:
            raise self.fault
        self.count += 1
        return self.count


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def source() -> Source:
    return Source()


def sampling_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sample test"]


def all_ended() -> bool:
    for thread in sampling_threads():
        thread.join(BOUND)
    return not sampling_threads()


def watched(source: Source, hand: Hand) -> Sampler[int]:
    return Sampler("test", source, WATCHED, clock=hand.clock, wait=hand.wait)


async def first(sampler: Sampler[int], hand: Hand) -> int:
    reading = asyncio.ensure_future(sampler.latest())
    await asyncio.sleep(0)
    hand.let_go()  # the window
    return await asyncio.wait_for(reading, BOUND)


async def test_nothing_is_read_before_somebody_asks(source: Source, hand: Hand) -> None:
    sampler = watched(source, hand)
    assert not sampler.awake and not sampling_threads() and source.log == []


async def test_the_first_reading_comes_after_the_window(source: Source, hand: Hand) -> None:
    sampler = watched(source, hand)
    asked = asyncio.ensure_future(sampler.latest())
    await asyncio.sleep(0)
    assert hand._waiting.acquire(timeout=BOUND)
    assert source.log == ["open"] and hand.waits == [0.25] and not asked.done()
    hand._go.release()
    assert await asyncio.wait_for(asked, BOUND) == 1
    await sampler.close()


async def test_callers_share_one_reading_and_the_loop_goes_on(source: Source) -> None:
    source.gate.clear()
    sampler = Sampler("test", source, Pace(max_age=60.0))
    callers = [asyncio.ensure_future(sampler.latest()) for _ in range(100)]
    assert await asyncio.to_thread(source.reading.wait, BOUND)
    assert len(sampling_threads()) == 1 and not any(caller.done() for caller in callers)
    source.gate.set()
    assert await asyncio.wait_for(asyncio.gather(*callers), BOUND) == [1] * 100
    assert await sampler.latest() == 1 and source.log.count("read") == 1


async def test_it_parks_when_nobody_asks_and_wakes_for_the_next(source: Source, hand: Hand) -> None:
    sampler = watched(source, hand)
    assert await first(sampler, hand) == 1
    for _ in range(10):
        hand.let_go()
    assert await asyncio.to_thread(source.closed.wait, BOUND) and all_ended() and not sampler.awake
    assert source.log == ["open", *["read"] * 11, "close"], "one reading a second for ten seconds, then none"
    assert hand.waits == [0.25] + [1.0] * 10

    hand.now += 3600
    assert await first(sampler, hand) == 12, "an hour later nothing old is given out"
    assert source.log[-2:] == ["open", "read"]
    await sampler.close()


async def test_a_watcher_keeps_it_awake_and_never_waits(source: Source, hand: Hand) -> None:
    sampler = watched(source, hand)
    await first(sampler, hand)
    for second in range(30):
        hand.let_go()
        if second % 2:
            reading = sampler.wake()
            assert reading.done(), "a watcher gets what is there"
    assert sampler.awake and source.log.count("open") == 1
    await sampler.close()
    assert all_ended()


async def test_a_reading_is_used_until_it_is_too_old(source: Source, hand: Hand) -> None:
    sampler = Sampler("test", source, Pace(max_age=2.0), clock=hand.clock, wait=lambda _stop, _seconds: False)
    got: list[int] = []
    for step in (0.0, 2.0, 0.1, 1.9, 0.1, 60.0):
        hand.now += step
        got.append(await sampler.latest())
        assert all_ended() and not sampler.awake, "one reading, then no thread"
    assert got == [1, 1, 2, 2, 2, 3]


async def test_who_cannot_wait_gets_the_reading_before_while_the_next_is_made(hand: Hand) -> None:
    source = Source()
    sampler = Sampler("test", source, Pace(max_age=1.0), clock=hand.clock)
    assert await sampler.recent() == 1, "the first one has to be waited for"
    hand.now += 2.0
    source.gate.clear()
    source.reading.clear()
    assert await sampler.recent() == 1
    assert await asyncio.to_thread(source.reading.wait, BOUND), "a new one is under way"
    source.gate.set()
    assert await sampler.latest() == 2
    hand.now += 60.0
    assert await sampler.recent(within=10.0) == 3, "one from long ago is worth nothing"
    await sampler.close()


async def test_a_failed_reading_reaches_every_caller_and_the_next_one_recovers(source: Source, hand: Hand) -> None:
    sampler = Sampler("test", source, Pace(max_age=2.0), clock=hand.clock, wait=lambda _stop, _seconds: False)
    source.fault = DiskError("gone")
    outcomes = await asyncio.gather(*(sampler.latest() for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DiskError] * 3
    with pytest.raises(DiskError):
        await sampler.latest()
    source.fault = None
    hand.now += 3
    assert all_ended() and await sampler.latest() == 1


async def test_a_source_that_cannot_be_opened_is_heard_of_and_tried_again(hand: Hand) -> None:
    tries = 0

    @contextmanager
    def opens_at_the_second_try() -> Iterator[Callable[[], int]]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise DiskError("not there")
        yield lambda: tries

    sampler = Sampler("test", opens_at_the_second_try, Pace(max_age=1.0), clock=hand.clock)
    with pytest.raises(DiskError, match="not there"):
        await sampler.latest()
    assert all_ended() and not sampler.awake
    hand.now += 2
    assert await sampler.latest() == 2


async def test_a_reading_that_hangs_costs_one_thread_and_gives_its_result_to_who_still_waits(source: Source) -> None:
    source.gate.clear()
    hurried = Sampler("test", source, Pace(max_age=60.0, answer_within=0.0))
    for _ in range(3):
        with pytest.raises(TimedOut, match="Reading the test takes longer than 0 s"):
            await hurried.latest()
    assert len(sampling_threads()) == 1
    waiting = hurried.wake()
    source.gate.set()
    assert await asyncio.wait_for(asyncio.wrap_future(waiting), BOUND) == 1
    assert all_ended()


async def test_a_caller_that_gives_up_takes_nothing_from_the_others(source: Source) -> None:
    source.gate.clear()
    sampler = Sampler("test", source, Pace(max_age=60.0))
    leaver, stayer = (asyncio.ensure_future(sampler.latest()) for _ in range(2))
    assert await asyncio.to_thread(source.reading.wait, BOUND)
    leaver.cancel()
    await asyncio.wait([leaver], timeout=BOUND)
    source.gate.set()
    assert leaver.cancelled() and await asyncio.wait_for(stayer, BOUND) == 1


async def test_close_ends_the_thread_and_tells_those_who_wait(source: Source, hand: Hand) -> None:
    sampler = watched(source, hand)
    waiting = asyncio.ensure_future(sampler.latest())
    await asyncio.sleep(0)
    await sampler.close()
    with pytest.raises(Interrupted):
        await asyncio.wait_for(waiting, BOUND)
    with pytest.raises(Interrupted):
        await sampler.latest()
    assert all_ended() and source.log == ["open", "close"], "closed before the first reading, and still closed well"


async def test_close_does_not_wait_for_a_reading_that_hangs(source: Source) -> None:
    source.gate.clear()
    sampler = Sampler("test", source, Pace(max_age=60.0))
    waiting = asyncio.ensure_future(sampler.latest())
    assert await asyncio.to_thread(source.reading.wait, BOUND)
    await asyncio.wait_for(sampler.close(), BOUND)
    assert sampling_threads(), "it hangs still, as a daemon"
    assert all(thread.daemon for thread in sampling_threads())
    with pytest.raises(Interrupted):
        await waiting
    source.gate.set()
    assert all_ended()


async def test_when_asked_reads_once_per_question_that_needs_it() -> None:
    reads: list[int] = []

    def read() -> int:
        reads.append(1)
        return len(reads)

    sampler = when_asked("test", read, max_age=60.0)
    assert [await sampler.latest() for _ in range(3)] == [1, 1, 1]
    assert all_ended()


async def test_a_fresh_reading_is_given_without_a_turn_of_the_loop(source: Source) -> None:
    sampler = Sampler("test", source, Pace(max_age=60.0))
    await sampler.latest()
    with pytest.raises(StopIteration) as given:
        sampler.latest().send(None)
    assert given.value.value == 1


async def test_a_question_between_the_last_reading_and_the_end_of_the_thread_is_answered(source: Source) -> None:
    sampler = Sampler("test", source, Pace(max_age=-1.0))  # nothing is ever fresh: every question needs the thread
    late: list[Future[int]] = []
    source.gate.clear()
    sampler.wake().add_done_callback(lambda _reading: late.append(sampler.wake()))  # runs before the thread can park
    source.gate.set()
    assert all_ended() and late[0].result(BOUND) == 2
    assert source.log == ["open", "read", "read", "close"]


async def test_a_question_while_the_last_thread_closes_its_source_starts_the_next(hand: Hand) -> None:
    opened: list[threading.Event] = []

    @contextmanager
    def slow_to_close() -> Iterator[Callable[[], int]]:
        may_close = threading.Event()
        opened.append(may_close)
        yield lambda: len(opened)
        assert may_close.wait(BOUND)

    sampler = Sampler("test", slow_to_close, WATCHED, clock=hand.clock, wait=hand.wait)
    assert await first(sampler, hand) == 1
    (closing,) = sampling_threads()
    for _ in range(10):
        hand.let_go()
    async with asyncio.timeout(BOUND / 2):
        while sampler.awake:
            await asyncio.sleep(0)
    assert closing.is_alive()
    hand.now += 3600
    assert await first(sampler, hand) == 2
    opened[0].set()
    closing.join(BOUND)
    assert sampler.awake, "the end of the old thread is not the end of the new one"
    opened[1].set()
    await sampler.close()
    assert all_ended() and len(opened) == 2
