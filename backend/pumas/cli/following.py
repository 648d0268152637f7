"""Follows a job at the terminal: a progress bar from its events, and what Ctrl-C means meanwhile."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pumas.cli import exits
from pumas.cli.command import Cli
from pumas.cli.output import at_terminal, clean
from pumas.client import CallFailed, PumasError

if TYPE_CHECKING:
    from pumas.client.types import JobInfo

T = TypeVar("T")
Tell = Callable[[dict[str, Any]], None]
# How long a cancelled job may take to clean up what it staged.
CANCEL_PATIENCE_S = 30.0


class Detached(PumasError):
    """The user let the job go on without this command."""

    kind = "detached"


class Stopped(PumasError):
    """The user cancelled the job by Ctrl-C."""

    kind = "stopped"


@contextmanager
def progress_bar(cli: Cli, title: str) -> Generator[Tell]:
    """A bar on stderr while the block runs; silent when stderr is no terminal or --json was asked for."""
    if cli.out.as_json or not sys.stderr.isatty():
        yield lambda _progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(clean(title), total=None)

        def tell(progress: dict[str, Any]) -> None:
            words = clean(" ".join(str(progress.get(key) or "") for key in ("stage", "item")))[-60:]
            bar.update(
                task,
                description=f"{clean(title)} {words}".strip(),
                completed=progress.get("done") or 0,
                total=progress.get("total") or None,
            )

        yield tell


def follow(cli: Cli, job_id: str, title: str) -> JobInfo:
    """Wait for the job with a bar; the job at rest, whatever its state.

    Raises:
        Detached, Stopped: what the user chose at Ctrl-C.
    """
    try:
        with progress_bar(cli, title) as tell:
            return cli.client.wait_for_job(job_id, tell, check=False)
    except KeyboardInterrupt:
        return interrupted(cli, job_id)


def while_answering(cli: Cli, kind: str, title: str, call: Callable[[], T]) -> tuple[T, bool]:
    """Run a call that answers only when its job is done or after some seconds, with a bar for jobs of that kind.

    Returns the answer, and whether Ctrl-C was pressed meanwhile: the job's id is only known by the answer.
    """
    answer: Future[T] | None = None
    stop = False
    with ThreadPoolExecutor(1) as pool, cli.client.events(["job"]) as stream, progress_bar(cli, title) as tell:
        try:
            for event in stream.with_ready():
                if answer is None:
                    answer = pool.submit(call)
                    answer.add_done_callback(lambda _: stream.close())
                elif event.topic == "job.progress" and event.data.get("kind") == kind:
                    tell(event.data)
        except KeyboardInterrupt:
            if answer is None:
                raise
            stop = True
            cli.out.say("Stopping …")
    assert answer is not None
    return answer.result(), stop


def interrupted(cli: Cli, job_id: str) -> JobInfo:
    """Cancel the job or let it go on, as the user says; without a terminal to ask at, cancel. A second Ctrl-C leaves at
    once. The job, when it came to its end before it could be cancelled."""
    if at_terminal() and _answer("\n[c]ancel the job or [d]etach from it? [c]: ").startswith("d"):
        how = f"pumas jobs resume {job_id}" if cli.client.started_sidecar else f"pumas jobs watch {job_id}"
        fate = "stops with this command and can be resumed" if cli.client.started_sidecar else "goes on"
        raise Detached(f"Job {job_id} {fate}: {how}")
    cli.out.say("Cancelling …")
    try:
        cli.client.cancel_job(job_id)
    except CallFailed:
        # It came to its end a moment before.
        return cli.client.get_job(job_id)["job"]
    job = cli.client.wait_for_job(job_id, timeout=CANCEL_PATIENCE_S, check=False)
    if job["state"] == "cancelled":
        raise Stopped(f"Cancelled. {job['title']}: nothing was left half done.")
    return job


def _answer(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    # A second Ctrl-C that comes a moment before a blocking read would only be noticed at the next key.
    while os.name == "posix" and not select.select([sys.stdin], [], [], 0.1)[0]:
        pass
    return sys.stdin.readline().strip().lower()


def status_of(job: JobInfo) -> int:
    return exits.OK if job["state"] == "completed" else exits.FAILED


def say_end(cli: Cli, job: JobInfo) -> None:
    """One line about a job that did not complete."""
    if job["state"] == "completed":
        return
    said = [f"pumas: {job['title']}: {job['state']}."]
    if why := (job["error"] or "").rstrip():
        # What an app printed last ends as it likes.
        said.append(why if why.endswith((".", "!", "?")) else f"{why}.")
    if job["state"] in ("paused", "failed"):
        said.append(f"Go on with: pumas jobs resume {job['job_id']}")
    cli.out.say(" ".join(said))
