"""What a shortcut runs: `python starter.py ROOT APP [TAG]` starts the app and opens its page once it answers.

Uses the sidecar of the root when one runs; otherwise it starts one and stays until the app ends. A program of its own:
nothing of the sidecar imports it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, cast

READY_S = 300.0
POLL_S = 0.5


def main(arguments: list[str]) -> int:
    from pumas.client import PumasClient, PumasError

    root, app_id, tag = (*arguments, None)[:3]
    try:
        with PumasClient(cast(str, root), start=True) as client:
            return _go(client, cast(str, app_id), tag)
    except PumasError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1


def _go(client: Any, app_id: str, tag: str | None) -> int:
    run = _run_of(client, app_id) or client.launch_app(app_id, tag=tag)
    run_id = run["run_id"]
    if _until_ready(client, app_id, run_id):
        client.open_url(run["url"])
    while client.started_sidecar and _run_of(client, app_id, run_id):
        time.sleep(POLL_S)
    return 0


def _until_ready(client: Any, app_id: str, run_id: str) -> bool:
    ends = time.monotonic() + READY_S
    while time.monotonic() < ends and (run := _run_of(client, app_id, run_id)):
        if run["ready"]:
            return True
        time.sleep(POLL_S)
    return False


def _run_of(client: Any, app_id: str, run_id: str | None = None) -> dict[str, Any] | None:
    runs: list[dict[str, Any]] = client.list_processes()["processes"]
    return next((run for run in runs if run["app_id"] == app_id and run_id in (None, run["run_id"])), None)


if __name__ == "__main__":
    # As a script its own folder is the first to be searched; the package lies two above.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    sys.exit(main(sys.argv[1:]))
