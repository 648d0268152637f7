"""The load of the machine and of running apps as events, while somebody follows the topic by its name.

For curves on a screen: `system.resources` comes every two seconds with what `get_system_resources` and
`list_processes` would say, so that nobody has to poll. A moment that was missed is not replayed.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict

from pumas.errors import PumasError
from pumas.events.stream import EventStream
from pumas.system.service import SystemService

TOPIC = "system.resources"
EVERY_S = 2.0


async def tell_load(system: SystemService, events: EventStream, every_s: float = EVERY_S) -> None:
    """Runs for the life of the sidecar; costs nothing while nobody follows."""
    while True:
        await events.until_wanted(TOPIC)
        with contextlib.suppress(PumasError):  # the machine does not answer; perhaps it does in a moment
            resources, processes = await asyncio.gather(system.resources(), system.processes())
            apps = [
                {
                    "app_id": one.app_id,
                    "tag": one.tag,
                    "pid": one.pid,
                    "cpu_usage": one.cpu_usage,
                    "ram_memory": one.ram_memory,
                    "gpu_memory": one.gpu_memory,
                }
                for one in processes
            ]
            events.publish_passing(TOPIC, {"resources": asdict(resources), "apps": apps})
        await asyncio.sleep(every_s)
