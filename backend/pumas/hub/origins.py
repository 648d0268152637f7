"""Finds the repository that a file on disk is from: asks for candidates, has the file hashed, lets `lookup.py` judge.

A file is hashed by a job, once, and only when a candidate holds a file of its size. What takes longer than a call may
is answered by name, and a later call finds the digest.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from pumas.errors import InvalidInput, PumasError
from pumas.hub import lookup, names
from pumas.hub.cache import Deadline, gather
from pumas.hub.lookup import Candidate, LocalFile, Match
from pumas.hub.model import HubListing, Json
from pumas.hub.repositories import FOREVER_S, Repositories
from pumas.hub.service import HASH
from pumas.hub.store import HubStore
from pumas.jobs.service import JobContext, JobService
from pumas.jobs.store import JobState
from pumas.library.formats.reader import open_regular
from pumas.library.hashing import Stamp, digest_open

log = logging.getLogger(__name__)

SEARCH_TTL_S: Final = 24 * 3600.0
LISTED: Final = 10
AT_ONCE: Final = 5


class Origins:
    def __init__(self, repositories: Repositories, jobs: JobService, store: HubStore) -> None:
        self._repositories = repositories
        self._jobs = jobs
        self._store = store
        self._hashing: dict[Stamp, str] = {}
        self._starting = asyncio.Lock()

    async def find(self, filename: str, file_path: str | None) -> tuple[Match | None, LocalFile | None]:
        """The repository that the file is from, as far as that can be told within ten seconds.

        Raises:
            UnsafePath, FileUnavailable: about the path.
            InvalidInput: neither a name nor a path was given.
            NetworkError, TokenRefused, TimedOut: the hub could not be asked.
        """
        deadline = Deadline()
        local = await asyncio.to_thread(lookup.read_local, file_path) if file_path else None
        name = filename.strip().replace("\\", "/").rpartition("/")[2] or (local.path.name if local else "")
        if not name:
            raise InvalidInput("filename", "must not be empty when no file_path is given")
        candidates = await self._candidates(name, local, deadline)
        if local is None:
            return lookup.match(name, candidates, None, ""), None
        same_size = any(one.of_size(local.stamp.size) for one in candidates)
        sha256, job_id = await self._digest(local, deadline) if same_size else ("", None)
        return lookup.match(name, candidates, local, sha256, job_id), local

    # -- candidates ----------------------------------------------------------------------------------------------------

    async def _candidates(self, name: str, local: LocalFile | None, deadline: Deadline) -> list[Candidate]:
        """Most alike first, the likeliest of them with their files' digests."""
        # A file whose name says nothing is searched for by its folder's.
        meant = name if names.title(name) or local is None else f"{local.path.parent.name}.x"
        found: list[Candidate] = []
        for text in names.searches(meant):
            found = lookup.ranked(meant, await self._search(text, deadline))
            if found:
                break
        looked = lookup.to_look_into(name, found)
        models = await gather(AT_ONCE, [partial(self._with_files, one, deadline) for one in looked])
        by_repo = {one.listing.repo_id: one for one in models}
        return [by_repo.get(one.listing.repo_id, one) for one in found]

    async def _search(self, text: str, deadline: Deadline) -> Sequence[HubListing]:
        ask = partial(self._repositories.client.models, search=text, limit=LISTED, sort="downloads")
        found, _ = await self._repositories.listings(("candidates", text.lower()), SEARCH_TTL_S, ask, deadline)
        return found

    async def _with_files(self, candidate: Candidate, deadline: Deadline) -> Candidate:
        """The candidate with its files' digests; as it was when the hub does not give them."""
        listing = candidate.listing
        try:
            # At the commit of the listing: what was asked once need never be asked again.
            model, _ = await self._repositories.model(listing.repo_id, listing.commit, FOREVER_S, deadline)
        except PumasError as error:
            log.info("%s could not be looked into: %s", listing.repo_id, error)
            return candidate
        return replace(candidate, model=model)

    # -- the file's digest ---------------------------------------------------------------------------------------------

    async def _digest(self, local: LocalFile, deadline: Deadline) -> tuple[str, str | None]:
        """(the file's SHA-256, None), or ("", id of the job that still computes it)."""
        known = await asyncio.to_thread(self._store.digest, local.stamp)
        if known:
            return known, None
        async with self._starting:
            job_id = self._hashing.get(local.stamp)
            if job_id is None:
                job = await self._jobs.start(HASH, {"path": str(local.path)}, title=f"Hash {local.path.name}")
                job_id = self._hashing[local.stamp] = job.id
        job = await self._jobs.wait(job_id, deadline.left_s)
        if not job.state.final:
            return "", job_id
        self._hashing.pop(local.stamp, None)
        return ((job.result or {}).get("sha256", "") if job.state is JobState.COMPLETED else ""), None

    async def run_hash(self, context: JobContext, params: Json) -> Json:
        """Run a `hash_file` job: `{path}` in, `{sha256, blake3, size}` out; the digest is kept for look-ups."""
        path = Path(params["path"])
        done = 0

        def work() -> Json:
            with open_regular(path) as file:
                stamp = Stamp.of(os.fstat(file.fd))

                def advance(count: int) -> None:
                    nonlocal done
                    context.check()
                    done += count
                    context.report(stage="hashing", done=done, total=stamp.size, item=path.name)

                digests = digest_open(file, advance)
            self._store.keep_digest(stamp, digests.sha256)
            return {"sha256": digests.sha256, "blake3": digests.blake3, "size": digests.size}

        return await asyncio.to_thread(work)
