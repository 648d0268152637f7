"""The load as events: only for those who name the topic, from the first moment, never replayed."""

import asyncio
import json
from pathlib import Path

from pumas.events.stream import EventStream
from pumas.system.service import AppProcess, AppsReport, SystemService
from pumas.system.watching import TOPIC, tell_load


class Apps:
    async def report(self) -> AppsReport:
        return AppsReport(processes=(AppProcess(7, "pid_file", "v1", 12.5, 1.5, 4.0),))


async def test_load_is_told_while_it_is_followed_by_name(tmp_path: Path) -> None:
    events = EventStream()
    system = SystemService(tmp_path, apps=Apps(), load_nvml=lambda: None)
    telling = asyncio.create_task(tell_load(system, events, every_s=0.01))
    try:
        with events.subscribe() as everything:
            cursor = events.cursor
            with events.subscribe([TOPIC, "job"]) as named:
                told = [await asyncio.wait_for(named.next(), 30) for _ in range(2)]
            assert everything.pending() == []
        data = json.loads(told[0].data)
        assert set(data["resources"]) == {"cpu", "gpu", "gpus", "ram", "disk"}
        assert data["apps"] == [
            {"app_id": "comfyui", "tag": "v1", "pid": 7, "cpu_usage": 12.5, "ram_memory": 1.5, "gpu_memory": 4.0}
        ]
        assert {event.cursor for event in told} == {cursor} == {events.cursor}
        with events.subscribe([TOPIC], after=cursor) as late:
            assert late.pending() == []
    finally:
        telling.cancel()
        await system.close()
