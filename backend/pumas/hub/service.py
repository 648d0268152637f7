"""The hub as its callers see it: search, look at one repository, find out where a file is from, ask for newer versions.

Puts the parts together for the event loop: `client.py` asks, `cache.py` keeps and bounds the waiting, the other modules
say what answers mean. They are loaded when the hub is first used, by a thread. Downloading is another domain's work.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pumas.config import Layout
from pumas.errors import GatedRepo, InvalidInput, NetworkError, PumasError, RepoNotFound, TimedOut
from pumas.hub.cache import Answer, Answers, gather
from pumas.hub.store import HubStore
from pumas.jobs.service import JobContext, JobService
from pumas.jobs.store import JobState, Json
from pumas.library.hashing import Stamp, digest_open
from pumas.library.service import LibraryService
from pumas.storage.database import Database
from pumas.storage.files import MARGIN, free_space

if TYPE_CHECKING:
    from pumas.hub.client import HubClient
    from pumas.hub.drift import DriftReport, HeldModel
    from pumas.hub.lookup import Candidate, LocalFile, Match
    from pumas.hub.model import HubListing, HubModel
    from pumas.hub.selection import Choice, DownloadOption

log = logging.getLogger(__name__)

HASH: Final = "hash_file"
SEARCH_TTL_S: Final = 3600.0
CANDIDATES_TTL_S: Final = 24 * 3600.0
MODEL_TTL_S: Final = 600.0
DRIFT_TTL_S: Final = 3600.0
FOREVER_S: Final = 365 * 24 * 3600.0
"""For what a commit id names: it cannot change."""
CALL_S: Final = 9.0
"""No call takes longer than 10 s."""
CARD_BYTES: Final = 128 * 1024
AT_ONCE: Final = 6
LISTED_CANDIDATES: Final = 10
_MAX_SIZES: Final = 2_000
# The card's data in YAML, which `HubModel.card` holds already.
_FRONT_MATTER: Final = re.compile(r"\A---\r?\n.*?^---[ \t]*\r?\n", re.DOTALL | re.MULTILINE)
# Part of every key: an answer that another version kept in another form is not found.
_FORM: Final = "1"


@dataclass(frozen=True, slots=True)
class Found:
    """Search results in wire form, and how old they are."""

    models: list[Json]
    answer: Answer


@dataclass(frozen=True, slots=True)
class RepoView:
    """One repository, and what a choice from it would fetch. `choice` is None when there is no model file in it.

    `free_bytes` is what the library's disk has, `held` the models of the library that are from this repository. `card`
    is cut after `CARD_BYTES`; None when it was not asked for or could not be had.
    """

    model: HubModel
    answer: Answer
    options: list[DownloadOption]
    choice: Choice | None
    free_bytes: int
    held: list[str]
    card: str | None

    def fits(self, size_bytes: int) -> bool:
        """Whether so much fits on the library's disk, with the margin that downloads keep."""
        return size_bytes + MARGIN <= self.free_bytes


class _Deadline:
    """What is left of the time that one call may take."""

    def __init__(self, seconds: float = CALL_S) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + seconds

    @property
    def left_s(self) -> float:
        return max(0.0, self._end - self._loop.time())


class HubService:
    def __init__(
        self, layout: Layout, client: HubClient, library: LibraryService, jobs: JobService, database: Database
    ) -> None:
        self.client = client
        self._layout = layout
        self._library = library
        self._jobs = jobs
        self._store = HubStore(database)
        self._answers = Answers(self._store)
        self._sizes: OrderedDict[tuple[str, str], dict[str, int]] = OrderedDict()
        self._hashing: dict[tuple[int, ...], str] = {}
        self._is_loaded = False
        jobs.register(HASH, self._run_hash)

    def close(self) -> None:
        self._answers.close()

    async def _load(self) -> None:
        """Load the modules that only the hub needs, and not on the event loop."""
        if not self._is_loaded:
            names = ("search", "selection", "lookup", "drift", "metadata", "reading")
            await asyncio.to_thread(lambda: [importlib.import_module(f"pumas.hub.{name}") for name in names])
            self._is_loaded = True

    # -- search --------------------------------------------------------------------------------------------------------

    async def search(self, query: str, kind: str | None, limit: int) -> Found:
        """Repositories whose name holds the words. One request to the hub, none when the answer is fresh.

        Raises:
            InvalidInput: the words are too many, or `kind` cannot be a task.
            NetworkError, TokenRefused, TimedOut: there is no answer, and none from before.
        """
        await self._load()
        from pumas.hub import search

        words, task = search.words_of(query), search.task_of(kind)
        limit = min(max(limit, 1), search.MAX_LIMIT)
        sort = "downloads" if words else "trending_score"

        def ask() -> list[Json]:
            found = self.client.models(search=words, task=task, limit=limit, sort=sort)
            return [search.result(listing) for listing in found]

        answer = await self._answers.get(self._key("search", words.lower(), task, limit), SEARCH_TTL_S, ask)
        return Found(search.with_sizes(answer.value, self._sizes), answer)

    async def related(self, model_id: str, limit: int) -> Found:
        """Other repositories of the base model's owner with the family in their name; none where either is unknown.

        Raises:
            ModelNotFound, UnsafePath, CorruptState: about the model.
            NetworkError, TokenRefused, TimedOut: as `search`.
        """
        await self._load()
        from pumas.hub import search

        metadata = (await self._library.detail(model_id)).metadata
        token, base = search.family_token(metadata), search.base_repo(metadata)
        if not token or not base:
            return Found([], Answer(b"[]", 0.0))
        owner, limit = base.partition("/")[0], min(max(limit, 1), search.MAX_LIMIT)
        family = str(metadata["family"]).strip().lower()

        def ask() -> list[Json]:
            models = partial(self.client.models, author=owner, limit=limit, sort="downloads")
            # A family may be spelled otherwise in names; then those that are downloaded most are looked through.
            return [one.to_json() for one in models(search=family) or models()]

        answer = await self._answers.get(self._key("related", owner.lower(), family, limit), SEARCH_TTL_S, ask)
        own = search.own_repo(metadata)
        found = search.related(self._listings(answer), owner, token, own)
        return Found(search.with_sizes([search.result(one) for one in found], self._sizes), answer)

    # -- one repository ------------------------------------------------------------------------------------------------

    async def show(
        self,
        repo_id: str,
        revision: str = "main",
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
        await self._load()
        from pumas.hub import selection

        deadline = _Deadline()
        model, answer = await self._model(repo_id, revision, MODEL_TTL_S, deadline)

        def choose() -> tuple[list[DownloadOption], Choice | None]:
            ways = selection.options(model)
            wanted = bool(quant or filenames or ways)
            return ways, selection.choose(model, quant=quant, filenames=filenames) if wanted else None

        options, choice = await asyncio.to_thread(choose)
        text = await self._card(model, deadline) if card else None
        free = await asyncio.to_thread(free_space, self._layout.library)
        return RepoView(model, answer, options, choice, free, await self._held(model.repo_id), text)

    async def _model(self, repo_id: str, revision: str, ttl_s: float, deadline: _Deadline) -> tuple[HubModel, Answer]:
        from pumas.hub.client import check_revision
        from pumas.hub.model import HubModel, is_commit, parse_repo_id

        repo_id, revision = parse_repo_id(repo_id), check_revision(revision)
        answer = await self._answers.get(
            self._key("model", repo_id.lower(), revision),
            FOREVER_S if is_commit(revision) else ttl_s,
            lambda: self.client.model(repo_id, revision).to_json(),
            wait_s=deadline.left_s,
        )

        def read() -> HubModel:
            model = HubModel.from_json(answer.value)
            self._remember_sizes(model)
            return model

        return await asyncio.to_thread(read), answer

    def _remember_sizes(self, model: HubModel) -> None:
        from pumas.hub.search import sizes_of

        self._sizes[model.repo_id, model.commit] = sizes_of(model)
        while len(self._sizes) > _MAX_SIZES:
            self._sizes.popitem(last=False)

    async def _card(self, model: HubModel, deadline: _Deadline) -> str | None:
        """A card that cannot be had now is no reason to show nothing of the model."""
        if not any(file.path == "README.md" for file in model.files):
            return ""
        try:
            answer = await self._answers.get(
                self._key("card", model.repo_id.lower(), model.commit),
                FOREVER_S,
                lambda: self.client.card_text(model.repo_id, model.commit, CARD_BYTES),
                wait_s=deadline.left_s,
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

    # -- where a file is from ------------------------------------------------------------------------------------------

    async def lookup(self, filename: str, file_path: str | None) -> tuple[Match | None, LocalFile | None]:
        """The repository that the file is from, as far as that can be told within ten seconds.

        Raises:
            UnsafePath, FileUnavailable: about the path.
            InvalidInput: neither a name nor a path was given.
            NetworkError, TokenRefused, TimedOut: as `search`.
        """
        await self._load()
        from pumas.hub import lookup

        deadline = _Deadline()
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

    async def _candidates(self, name: str, local: LocalFile | None, deadline: _Deadline) -> list[Candidate]:
        from pumas.hub import lookup, names

        # A file with a name that says nothing is searched for by its folder's.
        texts = names.searches(name) or (names.searches(f"{local.path.parent.name}.x") if local else [])
        shown = name if names.title(name) or local is None else f"{local.path.parent.name}.x"
        found: list[Candidate] = []
        for text in texts:
            found = lookup.ranked(shown, await self._search_by_name(text, deadline))
            if found:
                break
        looked = lookup.to_look_into(name, found)
        models = await gather(AT_ONCE, [partial(self._with_files, one, deadline) for one in looked])
        by_repo = {one.listing.repo_id: one for one in models}
        return [by_repo.get(one.listing.repo_id, one) for one in found]

    async def _search_by_name(self, text: str, deadline: _Deadline) -> list[HubListing]:
        def ask() -> list[Json]:
            found = self.client.models(search=text, limit=LISTED_CANDIDATES, sort="downloads")
            return [listing.to_json() for listing in found]

        key = self._key("candidates", text.lower())
        answer = await self._answers.get(key, CANDIDATES_TTL_S, ask, wait_s=deadline.left_s)
        return self._listings(answer)

    async def _with_files(self, candidate: Candidate, deadline: _Deadline) -> Candidate:
        """The candidate with its files' digests; as it was when the hub does not give them."""
        listing = candidate.listing
        try:
            # At the commit of the listing: what was asked once need never be asked again.
            model, _ = await self._model(listing.repo_id, listing.commit, FOREVER_S, deadline)
        except PumasError as error:
            log.info("%s could not be looked into: %s", listing.repo_id, error)
            return candidate
        return replace(candidate, model=model)

    async def _digest(self, local: LocalFile, deadline: _Deadline) -> tuple[str, str | None]:
        """(the file's SHA-256, None), or ("", id of the job that still computes it)."""
        known = await asyncio.to_thread(lambda: self._store.digest(local.stamp))
        if known:
            return known, None
        key = (local.stamp.device, local.stamp.inode, local.stamp.size, local.stamp.mtime_ns)
        job_id = self._hashing.get(key)
        if job_id is None:
            job = await self._jobs.start(HASH, {"path": str(local.path)}, title=f"Hash {local.path.name}")
            job_id = self._hashing[key] = job.id
        job = await self._jobs.wait(job_id, deadline.left_s)
        if not job.state.final:
            return "", job_id
        self._hashing.pop(key, None)
        return ((job.result or {}).get("sha256", "") if job.state is JobState.COMPLETED else ""), None

    async def _run_hash(self, context: JobContext, params: Json) -> Json:
        from pumas.library.formats.reader import open_regular

        path = Path(params["path"])
        total = done = 0

        def advance(count: int) -> None:
            nonlocal done
            context.check()
            done += count
            context.report(stage="hashing", done=done, total=total, item=path.name)

        def work() -> Json:
            nonlocal total
            with open_regular(path) as file:
                stamp = Stamp.of(os.fstat(file.fd))
                total = stamp.size
                digests = digest_open(file, advance)
            self._store.keep_digest(stamp, digests.sha256)
            return {"sha256": digests.sha256, "blake3": digests.blake3, "size": digests.size}

        return await asyncio.to_thread(work)

    # -- newer upstream ------------------------------------------------------------------------------------------------

    async def drift(self, model_ids: Sequence[str] | None = None) -> list[DriftReport]:
        """For each model of the library that is from the hub: whether the hub has something newer.

        One request per repository, a few at a time, none for those asked within the hour. What is not answered within
        ten seconds is `unasked`; the answers are kept when they come.

        Raises:
            ModelNotFound, UnsafePath, CorruptState: about a model that was named.
        """
        await self._load()
        deadline = _Deadline()
        held = await self._held_models(model_ids)
        repos = sorted({one.repo_id for one in held})
        asked = await gather(AT_ONCE, [partial(self._upstream, repo_id, deadline) for repo_id in repos])
        upstream = dict(zip(repos, asked, strict=True))
        return [_drift_of(one, upstream[one.repo_id]) for one in held]

    async def _upstream(self, repo_id: str, deadline: _Deadline) -> tuple[HubModel, Answer] | PumasError:
        try:
            return await self._model(repo_id, "main", DRIFT_TTL_S, deadline)
        except PumasError as error:
            return error

    async def _held_models(self, model_ids: Sequence[str] | None) -> list[HeldModel]:
        from pumas.hub.drift import HeldModel

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

    # -- keys ----------------------------------------------------------------------------------------------------------

    def _key(self, *parts: str | int) -> str:
        return "\n".join((_FORM, self.client.endpoint, *map(str, parts)))

    def _listings(self, answer: Answer) -> list[HubListing]:
        from pumas.hub.model import HubListing

        rows: list[Any] = answer.value
        return [HubListing.from_json(row) for row in rows]


def _drift_of(held: HeldModel, upstream: tuple[HubModel, Answer] | PumasError) -> DriftReport:
    from pumas.hub.drift import Drift, DriftReport, compare

    if isinstance(upstream, PumasError):
        state = Drift.GONE if isinstance(upstream, RepoNotFound) else Drift.UNASKED
        return DriftReport(held, state, error=str(upstream), error_code=upstream.kind)
    model, answer = upstream
    return compare(held, model, stale=answer.stale)
