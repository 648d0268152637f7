"""Repositories and listings as they were asked for last: `client.py` asks, `cache.py` keeps, this joins the two.

Every question of the hub's methods goes through here, so that no two of them ask for the same thing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from pumas.hub.cache import Answer, Answers, Deadline
from pumas.hub.client import HubClient, check_revision
from pumas.hub.model import HubListing, HubModel, is_commit, parse_repo_id

FOREVER_S: Final = 365 * 24 * 3600.0
"""For what a commit id names: it cannot change."""
# Part of every key: an answer that another version kept in another form is not found.
_FORM: Final = "1"


class Repositories:
    def __init__(self, client: HubClient, answers: Answers) -> None:
        self.client = client
        self._answers = answers

    async def model(self, repo_id: str, revision: str, ttl_s: float, deadline: Deadline) -> tuple[HubModel, Answer]:
        """A repository with its files, at most `ttl_s` old unless the hub cannot be reached. One request, or none.

        Raises:
            InvalidInput, RepoNotFound, RevisionNotFound, GatedRepo, TokenRefused, NetworkError: as `HubClient.model`.
            TimedOut: the hub did not answer, and nothing is known from before.
        """
        repo_id, revision = parse_repo_id(repo_id), check_revision(revision)
        answer = await self.answer(
            ("model", repo_id.lower(), revision),
            FOREVER_S if is_commit(revision) else ttl_s,
            lambda: self.client.model(repo_id, revision).to_json(),
            deadline,
        )
        return await asyncio.to_thread(lambda: HubModel.from_json(answer.value)), answer

    async def listings(
        self, key: tuple[str | int, ...], ttl_s: float, ask: Callable[[], list[HubListing]], deadline: Deadline
    ) -> tuple[list[HubListing], Answer]:
        """What `ask` lists, kept under `key`. Raises as `model`."""
        answer = await self.answer(key, ttl_s, lambda: [one.to_json() for one in ask()], deadline)
        return await asyncio.to_thread(lambda: [HubListing.from_json(row) for row in answer.value]), answer

    async def answer(
        self, key: tuple[str | int, ...], ttl_s: float, ask: Callable[[], Any], deadline: Deadline
    ) -> Answer:
        """See `Answers.get`; answers of one hub are not those of another."""
        whole = "\n".join((_FORM, self.client.endpoint, *map(str, key)))
        return await self._answers.get(whole, ttl_s, ask, wait_s=deadline.left_s)
