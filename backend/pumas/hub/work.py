"""What the hub's methods do: search, look at one repository, find out where a file is from, ask for newer versions.

Puts the parts together for the event loop; what each answer means is said in the module that it names. Loads the client
library's neighbours, so a thread imports it. Downloading is another domain's work.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from pumas.config import Layout
from pumas.errors import GatedRepo, NetworkError, PumasError, RepoNotFound, TimedOut
from pumas.hub import search, selection
from pumas.hub.cache import Answer, Answers, Deadline, gather
from pumas.hub.client import HubClient
from pumas.hub.drift import Drift, DriftReport, HeldModel, compare
from pumas.hub.model import DEFAULT_REVISION, HubModel, Json, parse_place
from pumas.hub.origins import Origins
from pumas.hub.repositories import FOREVER_S, Repositories
from pumas.hub.selection import Choice, DownloadOption
from pumas.hub.store import HubStore
from pumas.jobs.service import JobService
from pumas.library.service import LibraryService
from pumas.storage.files import free_space

log = logging.getLogger(__name__)

SEARCH_TTL_S: Final = 3600.0
MODEL_TTL_S: Final = 600.0
DRIFT_TTL_S: Final = 3600.0
CARD_BYTES: Final = 128 * 1024
AT_ONCE: Final = 6
_MAX_SIZES: Final = 2_000
# The card's data in YAML, which `HubModel.card` holds already.
_FRONT_MATTER: Final = re.compile(r"\A---\r?\n.*?^---[ \t]*\r?\n", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Found:
    """Search results in wire form, and how old they are; `answer` is None when nobody had to be asked."""

    models: list[Json]
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class RepoView:
    """One repository, and what a choice from it would fetch. `choice` is None when nothing was chosen and not all can
    be taken: there is no model file, or a set on the hub lacks parts.

    `free_bytes` is what the library's disk has, `room_bytes` what a download may take of it; `held` are the models of
    the library that are from this repository. `card` is cut after `CARD_BYTES`; None when it was not asked for or could
    not be had.
    """

    model: HubModel
    revision: str
    answer: Answer
    options: list[DownloadOption]
    choice: Choice | None
    free_bytes: int
    room_bytes: int
    held: list[str]
    card: str | None

    def fits(self, size_bytes: int) -> bool:
        """Whether a download of that size would be started."""
        return size_bytes <= self.room_bytes


class HubWork:
    def __init__(
        self,
        layout: Layout,
        client: HubClient,
        library: LibraryService,
        jobs: JobService,
        store: HubStore,
        room: Callable[[], int],
    ) -> None:
        """`room` says how many bytes a download may take of the library's disk; it may block."""
        self._room = room
        self._layout = layout
        self._client = client
        self._library = library
        self._answers = Answers(store)
        self._repositories = Repositories(client, self._answers)
        self._sizes: OrderedDict[tuple[str, str], dict[str, int]] = OrderedDict()
        self.origins = Origins(self._repositories, jobs, store)

    def close(self) -> None:
        self._answers.close()

    # -- search --------------------------------------------------------------------------------------------------------

    async def search(self, query: str, kind: str | None, limit: int) -> Found:
        """Repositories whose name holds the words. One request to the hub, none when the answer is fresh.

        Raises:
            InvalidInput: the words are too many, or `kind` cannot be a task.
            NetworkError, TokenRefused, TimedOut: there is no answer, and none from before.
        """
        words, task = search.words_of(query), search.task_of(kind)
        limit = min(max(limit, 1), search.MAX_LIMIT)
        sort = "downloads" if words else "trending_score"

        def ask() -> list[Json]:
            found = self._client.models(search=words, task=task, limit=limit, sort=sort)
            return [search.result(listing) for listing in found]

        key = ("search", words.lower(), task, limit)
        answer = await self._repositories.answer(key, SEARCH_TTL_S, ask, Deadline())
        return Found(search.with_sizes(answer.value, self._sizes), answer)

    async def related(self, model_id: str, limit: int) -> Found:
        """Other repositories of the base model's owner with the family in their name; none where either is unknown.

        Raises:
            ModelNotFound, UnsafePath, CorruptState: about the model.
            NetworkError, TokenRefused, TimedOut: as `search`.
        """
        metadata = (await self._library.detail(model_id)).metadata
        token, base = search.family_token(metadata), search.base_repo(metadata)
        if not token or not base:
            return Found([], None)
        owner, limit = base.partition("/")[0], min(max(limit, 1), search.MAX_LIMIT)
        family = str(metadata["family"]).strip().lower()
        models = partial(self._client.models, author=owner, limit=limit, sort="downloads")
        # A family may be spelled otherwise in names; then those that are downloaded most are looked through.
        listings, answer = await self._repositories.listings(
            ("related", owner.lower(), family, limit),
            SEARCH_TTL_S,
            lambda: models(search=family) or models(),
            Deadline(),
        )
        found = search.related(listings, owner, token, search.own_repo(metadata))
        return Found(search.with_sizes([search.result(one) for one in found], self._sizes), answer)

    # -- one repository ------------------------------------------------------------------------------------------------

    async def show(
        self,
        repo_id: str,
        revision: str = DEFAULT_REVISION,
        *,
        quant: str | None = None,
        filenames: Sequence[str] | None = None,
        card: bool = True,
    ) -> RepoView:
        """The repository, the ways to take it, and what this choice would fetch.

        Raises:
            InvalidInput: the name or revision cannot be one, or there are no such files; then it says which there are.
            RepoNotFound, RevisionNotFound, GatedRepo, TokenRefused, NetworkError, TimedOut: as `HubClient.model`.
        """
        deadline = Deadline()
        place = parse_place(repo_id)
        revision = place.revision_for(revision)
        quant, names = place.quant_for(quant, filenames), place.names_for(quant, filenames)
        model, answer = await self._repositories.model(place.repo_id, revision, MODEL_TTL_S, deadline)

        def choose() -> tuple[list[DownloadOption], Choice | None]:
            ways = [way for way in selection.options(model) if not selection.lacking(way.weights)]
            wanted = bool(quant or names or any(way.kind == "all" for way in ways))
            return ways, selection.choose(model, quant=quant, filenames=names) if wanted else None

        options, choice = await asyncio.to_thread(choose)
        self._remember_sizes(model, options)
        text = await self._card(model, deadline) if card else None
        free, room = await asyncio.to_thread(lambda: (free_space(self._layout.library), self._room()))
        return RepoView(model, revision, answer, options, choice, free, room, await self._held(model.repo_id), text)

    def _remember_sizes(self, model: HubModel, options: Sequence[DownloadOption]) -> None:
        self._sizes[model.repo_id, model.commit] = search.sizes_of(options)
        while len(self._sizes) > _MAX_SIZES:
            self._sizes.popitem(last=False)

    async def _card(self, model: HubModel, deadline: Deadline) -> str | None:
        """A card that cannot be had now is no reason to show nothing of the model."""
        if not any(file.path == "README.md" for file in model.files):
            return ""
        try:
            answer = await self._repositories.answer(
                ("card", model.repo_id.lower(), model.commit),
                FOREVER_S,
                lambda: self._client.card_text(model.repo_id, model.commit, CARD_BYTES),
                deadline,
            )
        except (NetworkError, TimedOut, GatedRepo, RepoNotFound) as error:
            log.info("no model card of %s: %s", model.repo_id, error)
            return None
        return _FRONT_MATTER.sub("", answer.value, count=1)

    async def _held(self, repo_id: str) -> list[str]:
        try:
            rows = await self._library.catalog.from_hub()
        except PumasError as error:
            log.info("which models are from %s is not known now: %s", repo_id, error)
            return []
        return [model_id for model_id, known in rows if known.lower() == repo_id.lower()]

    # -- newer upstream ------------------------------------------------------------------------------------------------

    async def drift(self, model_ids: Sequence[str] | None = None) -> list[DriftReport]:
        """For each model of the library that is from the hub: whether the hub has something newer.

        One request per repository, a few at a time, none for those asked within the hour. What is not answered within
        ten seconds is `unasked`; the answers are kept when they come.

        Raises:
            ModelNotFound, UnsafePath, CorruptState: about a model that was named.
        """
        deadline = Deadline()
        held = await self._held_models(model_ids)
        repos = sorted({one.repo_id for one in held})
        asked = await gather(AT_ONCE, [partial(self._upstream, repo_id, deadline) for repo_id in repos])
        upstream = dict(zip(repos, asked, strict=True))
        return await asyncio.to_thread(lambda: [_drift_of(one, upstream[one.repo_id]) for one in held])

    async def _upstream(self, repo_id: str, deadline: Deadline) -> tuple[HubModel, Answer] | PumasError:
        try:
            return await self._repositories.model(repo_id, DEFAULT_REVISION, DRIFT_TTL_S, deadline)
        except PumasError as error:
            return error

    async def _held_models(self, model_ids: Sequence[str] | None) -> list[HeldModel]:
        rows = dict(await self._library.catalog.from_hub())
        models = self._library.parts.models

        def read() -> list[HeldModel]:
            found: list[HeldModel] = []
            for model_id in rows if model_ids is None else dict.fromkeys(model_ids):
                try:
                    metadata = models.load(model_id)
                except PumasError as error:
                    if model_ids is not None:
                        raise
                    log.info("%s is passed over: %s", model_id, error)
                    continue
                if model_id in rows:
                    found.append(HeldModel.of(model_id, rows[model_id], metadata))
            return found

        return await asyncio.to_thread(read)


def _drift_of(held: HeldModel, upstream: tuple[HubModel, Answer] | PumasError) -> DriftReport:
    if isinstance(upstream, PumasError):
        state = Drift.GONE if isinstance(upstream, RepoNotFound) else Drift.UNASKED
        return DriftReport(held, state, error=str(upstream), error_code=upstream.kind)
    model, answer = upstream
    return compare(held, model, stale=answer.stale)
