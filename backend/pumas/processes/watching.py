"""What happens to a run while it goes on: it gets ready, it prints, it ends. One coroutine for each, for its life."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pumas.apps.description import AppDescription
from pumas.events.stream import EventStream
from pumas.processes import readiness
from pumas.processes.output import Follower
from pumas.processes.readiness import Answer
from pumas.processes.run import Run
from pumas.processes.values import RunState

LOG_TOPIC = "process.log"
SLOW_PROBE_S = 5.0
NEWS_S = 0.3


async def until_ready(run: Run, app: AppDescription, tell: Callable[[Run], None]) -> None:
    """Ask again and again until it is ready, is being stopped, or has ended; `tell` hears of each change."""
    limit_s = app.launch.ready.timeout_s
    for pause in readiness.pauses():
        if run.over.is_set() or run.state is RunState.STOPPING:
            return
        answer = await asyncio.to_thread(_probe, run, app)
        if answer is Answer.READY and run.state in (RunState.STARTING, RunState.NOT_ANSWERING):
            run.state, run.error = RunState.READY, None
            run.settled.set()
            tell(run)
            return
        if run.state is RunState.STARTING and time.monotonic() - run.began > limit_s:
            why = "another program has its port" if answer is Answer.FOREIGN else "it does not answer"
            run.state = RunState.NOT_ANSWERING
            run.error = f"{app.name} runs but is not ready after {limit_s:g} s: {why}. See its log."
            tell(run)
        await run.wait(SLOW_PROBE_S if run.state is RunState.NOT_ANSWERING else pause)


def _probe(run: Run, app: AppDescription) -> Answer:
    return readiness.probe(app.launch.ready, run.record.port, [seen.pid for seen in run.family()])


async def until_over(run: Run, name: str) -> None:
    """Returns when nothing of it is left; then its state says so, and its error why if nobody wanted that."""
    await run.wait_until_gone()
    if run.ending is not None:
        await asyncio.wait([run.ending])
    if not run.asked_to_stop:
        code = run.exit_code
        how = "" if code is None else f" by signal {-code}" if code < 0 else f" with status {code}"
        run.error = f"{name} ended by itself{how}. See its log."
    run.state = RunState.EXITED


async def follow_log(run: Run, events: EventStream) -> None:
    """Publish new lines, some times a second at most and only while somebody follows them."""
    follower: Follower | None = None
    try:
        over = False
        while not over:
            over = run.over.is_set()  # what it printed last is read once more after that
            if not events.wanted(LOG_TOPIC):
                follower = _closed(follower)
            elif follower is None:
                new = not run.adopted and time.monotonic() - run.began < 2 * NEWS_S
                follower = await asyncio.to_thread(Follower, Path(run.record.log), from_start=new)
            if follower is not None:
                news = await asyncio.to_thread(follower.news)
                if news.lines or news.skipped:
                    events.publish(LOG_TOPIC, {**who(run), "lines": list(news.lines), "skipped_bytes": news.skipped})
            await run.wait(NEWS_S)
    finally:
        _closed(follower)


def _closed(follower: Follower | None) -> None:
    if follower is not None:
        follower.close()


def who(run: Run) -> dict[str, Any]:
    """How events name a run."""
    return {"run_id": run.run_id, "app_id": run.record.app_id, "tag": run.record.tag}
