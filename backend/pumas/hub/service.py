"""The hub's place in the sidecar: small, so that a start costs nothing for what may never be asked.

The work itself is `work.py`, loaded by a thread when it is first needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pumas.config import Layout
from pumas.jobs.service import JobContext, JobService
from pumas.jobs.store import Json
from pumas.library.service import LibraryService
from pumas.storage.database import Database

if TYPE_CHECKING:
    from pumas.hub.client import HubClient
    from pumas.hub.work import HubWork

HASH: Final = "hash_file"


class HubService:
    """`client` asks the hub; other domains may use it too."""

    def __init__(
        self,
        layout: Layout,
        client: HubClient,
        library: LibraryService,
        jobs: JobService,
        database: Database,
        room: Callable[[], int],
    ) -> None:
        """`room` says how many bytes a download may take of the library's disk; it may block."""

        def make() -> HubWork:
            from pumas.hub.store import HubStore
            from pumas.hub.work import HubWork

            return HubWork(layout, client, library, jobs, HubStore(database), room)

        self.client = client
        self._make = make
        self._work: HubWork | None = None
        self._making = asyncio.Lock()
        jobs.register(HASH, self._run_hash)

    async def work(self) -> HubWork:
        """What the hub's methods do, see `HubWork`."""
        if self._work is None:
            async with self._making:
                if self._work is None:
                    self._work = await asyncio.to_thread(self._make)
        return self._work

    def close(self) -> None:
        if self._work is not None:
            self._work.close()

    async def _run_hash(self, context: JobContext, params: Json) -> Json:
        return await (await self.work()).origins.run_hash(context, params)
