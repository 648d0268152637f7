"""The real sidecar with one more method, `start_test_job`, whose job a test steers by files. Started by path.

The job reports `steps` steps, waits until the file `gate` exists (when one is named), and completes or fails.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

BACKEND = Path(__file__).resolve().parents[2] / "backend"
sys.path[0] = str(BACKEND)

import pumas.app  # noqa: E402
import rpc_server  # noqa: E402
from pumas.app import Services  # noqa: E402
from pumas.errors import DiskError  # noqa: E402
from pumas.rpc.models import Params, Result  # noqa: E402
from pumas.rpc.registry import Methods  # noqa: E402
from pumas.rpc.wrap import Wrapper, wrappers  # noqa: E402


class StartTestJob(Params):
    steps: int = 3
    gate: str | None = None
    fail: bool = False


class Started(Result):
    job_id: str


async def run(context: Any, params: dict[str, Any]) -> dict[str, Any]:
    for step in range(params["steps"]):
        context.report(stage=f"step {step}", done=step, total=params["steps"], item="a file", unit="steps")
        context.check()
        await asyncio.sleep(0)
    while params["gate"] and not Path(params["gate"]).exists():
        context.check()
        await asyncio.sleep(0.01)
    if params["fail"]:
        raise DiskError("Reading failed: input/output error.")
    return {"steps": params["steps"]}


original = pumas.app.build_methods


def build_methods(services: Services, stop: Callable[[], None]) -> Methods:
    methods = original(services, stop)
    wrappers()["start_test_job"] = Wrapper("pass", None, {})
    services.jobs.register("test", run, at_once=8)

    @methods.row("start_test_job", StartTestJob, Started)
    async def start_test_job(p: StartTestJob) -> Started:
        """Start a job that a test steers."""
        job = await services.jobs.start("test", p.model_dump(), title="A test job")
        return Started(job_id=job.id)

    return methods


pumas.app.build_methods = build_methods

if __name__ == "__main__":
    sys.exit(rpc_server.main())
