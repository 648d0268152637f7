"""Follows downloads until they come to rest: what events say, what is asked, a sidecar that goes away, Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pumas.cli.command import Cli
from pumas.cli.download_view import Moving, Show, Shown, view
from pumas.cli.following import CANCEL_PATIENCE_S, Stopped
from pumas.client import CallFailed, NotReachable
from pumas.client.sse import READY, RESYNC

if TYPE_CHECKING:
    from pumas.client.types import GetModelDownloadStatusResult

# What all ids begin with.
PREFIX = "download-"
AT_REST = ("completed", "cancelled", "paused", "error")
_TOPICS = ("download.progress", "job.state")
# How long to look for another sidecar when the one that was followed has gone: a shell starts it again.
BACK_WITHIN_S = 15.0
_LOOK_S = 0.2
_NAMED = 3


class _Parked(NotReachable):
    """The download stopped because its sidecar stops; it goes on with the next one."""


def short(download_id: str) -> str:
    """The beginning of an id that people see; `downloads` commands take any beginning that is the only one."""
    return download_id.removeprefix(PREFIX)[:8]


def title_of(status: Any) -> str:
    return f"{status['repo_id']} {status['quant']}".strip()


def follow(cli: Cli, download_ids: Sequence[str]) -> list[GetModelDownloadStatusResult]:
    """Show the downloads until each is at rest; how they are then, with their files.

    Raises:
        Stopped: by Ctrl-C; the message says what becomes of them.
        NotReachable: the sidecar went away and did not come back.
    """
    follower = _Follower(cli, download_ids)
    try:
        with view(cli.out) as show:
            return follower.run(show)
    except KeyboardInterrupt:
        return leave(cli, download_ids)


def leave(cli: Cli, download_ids: Sequence[str]) -> list[GetModelDownloadStatusResult]:
    """What Ctrl-C means: the downloads go on in the sidecar, or pause where that ends with this command.

    Returns them when they came to their end before they could be paused. Raises Stopped.
    """
    names = " ".join(map(short, download_ids)) if len(download_ids) <= _NAMED else "ID..."
    if not cli.client.started_sidecar:
        who = "It goes on" if len(download_ids) == 1 else "They go on"
        raise Stopped(
            f"{who} in the sidecar. To follow again: pumas downloads watch {names}; "
            f"to stop: pumas downloads pause {names}"
        )
    cli.out.say("Pausing …")
    ended = [settle(cli, one, "pause") for one in download_ids]
    if all(one["status"] == "completed" for one in ended):
        return ended
    raise Stopped(f"Paused; what has arrived is kept. To go on: pumas downloads resume {names}")


def settle(cli: Cli, download_id: str, verb: str) -> GetModelDownloadStatusResult:
    """Pause or cancel, and wait a while until it has happened. A download that has ended before is left as it is."""
    with suppress(CallFailed):
        cli.client.call(f"{verb}_model_download", {"download_id": download_id})
        cli.client.wait_for_job(download_id, timeout=CANCEL_PATIENCE_S, check=False)
    return cli.client.get_model_download_status(download_id, files=True)


class _Follower:
    def __init__(self, cli: Cli, download_ids: Sequence[str]) -> None:
        self._client = cli.client
        self._shown: dict[str, Shown] = {}
        self._last: dict[str, GetModelDownloadStatusResult] = {}
        self._ids = tuple(dict.fromkeys(download_ids))

    def run(self, show: Show) -> list[GetModelDownloadStatusResult]:
        lost_at: float | None = None
        while True:
            seen = dict(self._shown)
            try:
                self._listen(show)
                return [self._last[one] for one in self._ids]
            except NotReachable as error:
                moment = time.monotonic()
                lost_at = moment if lost_at is None or seen != self._shown else lost_at
                if self._client.started_sidecar or moment - lost_at > BACK_WITHIN_S:
                    names = " ".join(map(short, self._ids))
                    raise NotReachable(
                        f"{error} What has arrived is kept; go on with: pumas downloads watch {names}"
                    ) from None
                show([replace(one, status="waiting", message="the sidecar is gone", files=()) for one in self._all()])
                time.sleep(_LOOK_S)

    def _listen(self, show: Show) -> None:
        """Until all are at rest. The server says `ready` first, so nothing happens unseen after that look."""
        with self._client.events(_TOPICS) as stream:
            for event in stream.with_ready():
                data = event.data
                if event.topic == "download.progress":
                    self._progressed(data)
                elif event.topic in (READY, RESYNC) or data.get("kind") == "download":
                    # Any download that starts or ends may move the others in the queue.
                    for one in self._ids:
                        self._look(one)
                show(self._all())
                if all(self._last[one]["status"] in AT_REST for one in self._ids):
                    return

    def _all(self) -> list[Shown]:
        return list(self._shown.values())

    def _look(self, download_id: str) -> None:
        now = self._client.get_model_download_status(download_id, files=True)
        if now["status"] == "paused" and self._client.get_job(download_id)["job"]["error_code"] == "interrupted":
            raise _Parked("The sidecar has stopped.")
        self._last[download_id] = now
        moving = [f for f in now.get("files") or () if f["state"] == "downloading"]
        self._shown[download_id] = Shown(
            id=download_id,
            title=title_of(now),
            status=now["status"],
            done=now["downloaded_bytes"],
            total=now["total_bytes"],
            speed=now["speed"],
            eta_s=now["eta_seconds"],
            message=now["message"] or now["error"],
            place=now["place"],
            files=[Moving(f["path"], f["downloaded"], f["size"]) for f in moving],
        )

    def _progressed(self, data: dict[str, Any]) -> None:
        before = self._shown.get(str(data.get("download_id")))
        if before is None:
            return
        self._shown[before.id] = replace(
            before,
            status=data["status"],
            done=data["downloaded_bytes"],
            total=data["total_bytes"],
            speed=data["speed"],
            eta_s=data["eta_seconds"],
            message=data["message"],
            place=None,
            files=[Moving(f["path"], f["downloaded"], f["size"]) for f in data["files"]],
        )
