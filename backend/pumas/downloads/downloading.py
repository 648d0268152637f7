"""One download from its plan to a model in the library.

What arrives stands in staging: whole files where they will be in the model, partial ones beside it. The checkpoint says
which files are whole and verified, and from the moment of publishing on under which id; so a killed download goes on
where it was, and one that had published is finished, not repeated.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pumas.config import Layout
from pumas.downloads.bandwidth import Bandwidth
from pumas.downloads.content import Content, Reply
from pumas.downloads.fetching import Fetch, name_whole
from pumas.downloads.meter import Meter
from pumas.downloads.patience import Patience
from pumas.downloads.plan import DownloadPlan
from pumas.downloads.schedule import Gate
from pumas.downloads.shared import LOOK_S, Shared
from pumas.downloads.space import Space
from pumas.downloads.staged import arrived, parts_of
from pumas.downloads.wanted import WantedFile
from pumas.errors import (
    DuplicateModel,
    Interrupted,
    MalformedModelFile,
    NotAModel,
    NotEnoughSpace,
    PickleNotAcknowledged,
    PumasError,
)
from pumas.jobs.store import Json
from pumas.library.copying import Mode, stage_file
from pumas.library.formats.detect import FileFormat, SecurityTier
from pumas.library.formats.families import ModelType
from pumas.library.formats.identify import Identity, identify, identify_folder
from pumas.library.hashing import Digests, Stamp
from pumas.library.import_plan import ImportPlan, ImportRequest, plan_of
from pumas.library.import_source import Source, SourceFile, weights_format
from pumas.library.publishing import size_of
from pumas.library.service import LibraryParts
from pumas.net.client import Timeouts
from pumas.storage.files import disk_errors, make_folders
from pumas.storage.paths import contained

if TYPE_CHECKING:
    from pumas.hub.client import HubClient
    from pumas.net.client import NetworkClient

# A connection that brings nothing for so long is given up for a new one.
SILENCE_S = 15.0
# How long to look away before looking again whether the disk has room.
SPACE_LOOK_S = 1.0
LONGEST_SPACE_LOOK_S = 4.0


class Work(Protocol):
    """What a download needs of its job; `JobContext` is one."""

    @property
    def job_id(self) -> str: ...
    @property
    def done(self) -> int: ...
    @property
    def checkpoint(self) -> Json: ...
    def check(self) -> None: ...
    def save_checkpoint_sync(self, state: Json) -> None: ...


@dataclass(frozen=True)
class Tools:
    """What all downloads use together. `patience_s`: how long one tries while nothing arrives."""

    layout: Layout
    library: LibraryParts
    hub: HubClient
    network: NetworkClient
    bandwidth: Bandwidth
    gate: Gate
    space: Space
    patience_s: float


class Download:
    """One run of one download; `run` blocks until it ends. Raises what ends it."""

    def __init__(self, tools: Tools, work: Work, plan: DownloadPlan, meter: Meter) -> None:
        self._tools = tools
        self._work = work
        self._plan = plan
        self._meter = meter
        self._lock = threading.Lock()
        self._state: Json = work.checkpoint
        done: dict[str, Json] = self._state.get("done") or {}
        self._done = {path: Digests(**digests) for path, digests in done.items()}
        self._staging = tools.library.staging
        self._id = work.job_id

    def run(self) -> Json:
        """The job's result: `model_id`, `model_path`, `files`, `size`, and by which digest how many were `verified`."""
        try:
            self._work.check()
            if (finished := self._finish_killed()) is not None:
                return finished
            return self._bring()
        except (Interrupted, NotEnoughSpace):
            raise
        except PumasError as error:
            if not _may_go_on(error):
                self._staging.discard_job(self._id)
            raise
        finally:
            self._tools.space.release(self._id)

    def _bring(self) -> Json:
        """Try until there is room for all of it: whoever filled the disk, it goes on by itself."""
        wait_s = SPACE_LOOK_S
        while True:
            self._wait_for_room()
            try:
                return self._try()
            except NotEnoughSpace as error:
                # The disk may say that it has room, and a quota that it has none.
                self._look_away(wait_s, str(error))
                wait_s = min(2 * wait_s, LONGEST_SPACE_LOOK_S)

    def _try(self) -> Json:
        folder, parts = self._open()
        self._forget_lost(folder, parts)
        self._meter.resumed(arrived(self._plan.files, self._done, parts))
        self._copy_held(folder)
        self._fetch(folder, parts)
        self._meter.phase("publishing")
        return self._publish(folder)

    # -- staging -----------------------------------------------------------------------------------------------------

    def _open(self) -> tuple[Path, Path]:
        folder = self._staging.open(self._id, self._id, self._done.keys())
        parts = parts_of(self._staging, self._id)
        with disk_errors("Preparing the download"):
            make_folders(parts)
        return folder, parts

    def _forget_lost(self, folder: Path, parts: Path) -> None:
        """Keep those verified files that are there, and give the ones that a kill left unnamed their names."""
        lost: list[str] = []
        for file in self._plan.files:
            if file.path in self._done and size_of(folder, file.path) != file.size:
                if size_of(parts, f"{file.expected}.part") == file.size:
                    name_whole(parts, folder, file.path, file.expected)
                else:
                    lost.append(file.path)
                    del self._done[file.path]
            if file.path in self._done:
                self._meter.arrived(file.path, file.size, "done")
        if lost:
            # Before any of them is begun again: a partial file must not pass for the verified one.
            self._keep({})

    def _copy_held(self, folder: Path) -> None:
        """What the library has already is copied (cloned where the file system can), and verified like all else."""
        for file in self._missing():
            if file.sha256 is None or not file.size:
                continue
            held = self._tools.library.holdings.copy_of((file.sha256, file.size))
            if held is not None:
                self._copy(file, held, folder)

    def _copy(self, file: WantedFile, source: Path, folder: Path) -> None:
        self._meter.phase("copying", f"Copying {file.path} from the library.")
        target = contained(folder, file.path, "file")
        with disk_errors(f"Copying {file.path}"):
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            stamp = Stamp.of(os.stat(source))
            staged = stage_file(source, target, Mode.COPY, expected=stamp, advance=lambda _count: self._work.check())
        except Interrupted:
            raise
        except (PumasError, OSError):
            return  # then it is fetched like any other
        finally:
            self._meter.phase("")
        if staged.digests.sha256 == file.sha256:
            self._keep({file.path: staged.digests})
            self._meter.arrived(file.path, file.size, "done")
        else:
            target.unlink()

    def _wait_for_room(self) -> None:
        """Wait until the schedule is open and the disk has room."""
        if not self._tools.gate.is_open():
            self._meter.phase("waiting", "Outside the hours in which downloads run.")
            self._tools.gate.wait(self._work.check)
        while True:
            try:
                self._tools.space.promise(self._id, self._remaining)
            except NotEnoughSpace as error:
                self._look_away(SPACE_LOOK_S, str(error))
            else:
                self._meter.phase("")
                return

    def _look_away(self, seconds: float, why: str) -> None:
        self._meter.phase("waiting", why)
        pause, until = threading.Event(), time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._work.check()
            pause.wait(min(left, LOOK_S))

    def _remaining(self) -> int:
        progress = self._meter.snapshot()
        return progress.total - progress.downloaded

    def _missing(self) -> list[WantedFile]:
        """One of each content that is not there yet, under any name."""
        there = {file.expected for file in self._plan.files if file.path in self._done}
        unique = {file.expected: file for file in self._plan.files if file.expected not in there}
        return list(unique.values())

    # -- fetching ----------------------------------------------------------------------------------------------------

    def _fetch(self, folder: Path, parts: Path) -> None:
        shared = Shared(
            self._meter,
            self._tools.bandwidth,
            self._tools.gate,
            self._work.check,
            Patience(self._tools.patience_s),
            self._tools.network.offline,
        )
        contents = [self._content(file, shared) for file in self._missing()]
        Fetch(contents, parts, folder, shared, self._keep).run()
        self._copy_repeated(folder)

    def _content(self, file: WantedFile, shared: Shared) -> Content:
        hub, network, plan = self._tools.hub, self._tools.network, self._plan

        def send(url: str, headers: Mapping[str, str]) -> Reply:
            return network.send(
                "GET",
                url,
                headers={**headers, **hub.headers_for(url)},
                timeouts=Timeouts(read_s=SILENCE_S),
                retry=False,
                check=False,
                stop=shared.stop,
            )

        return Content(file, plan.repo_id, plan.page, hub.file_url(plan.repo_id, plan.commit, file.path), send)

    def _copy_repeated(self, folder: Path) -> None:
        """Files of the repository with the same content were fetched once."""
        by_digest = {file.expected: file for file in self._plan.files if file.path in self._done}
        for file in self._plan.files:
            if file.path not in self._done:
                target = contained(folder, file.path, "file")
                with disk_errors(f"Copying {file.path}"):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.unlink(missing_ok=True)
                source = contained(folder, by_digest[file.expected].path, "file")
                stamp = Stamp.of(os.stat(source))
                staged = stage_file(source, target, Mode.COPY, expected=stamp, advance=lambda _n: self._work.check())
                self._keep({file.path: staged.digests})
                self._meter.arrived(file.path, file.size, "done")

    def _keep(self, files: Mapping[str, Digests]) -> None:
        with self._lock:
            self._done.update(files)
            self._state = {**self._state, "done": {path: asdict(digests) for path, digests in self._done.items()}}
            self._work.save_checkpoint_sync(self._state)

    # -- publishing --------------------------------------------------------------------------------------------------

    def _publish(self, folder: Path) -> Json:
        plan = self._identified(folder)
        if plan.security_tier is SecurityTier.PICKLE and not self._plan.request.security_acknowledged:
            raise PickleNotAcknowledged(
                f"{plan.official_name} turned out to be able to run code when an app loads it (pickle); "
                "download it again with security_acknowledged."
            )

        def metadata(model_id: str) -> Json:
            value = plan.metadata(model_id, self._done)
            return {**value, "quantization": value["quantization"] or self._plan.quant}

        def announce(model_id: str) -> None:
            self._work.check()
            self._state = {**self._state, "result": self._result(model_id, plan)}
            self._work.save_checkpoint_sync(self._state)

        self._tools.library.publisher.publish(
            self._id, plan.model_id, metadata, {}, announce=announce, require_new=lambda: self._require_new(plan)
        )
        self._staging.discard(self._id)
        return self._state["result"]

    def _finish_killed(self) -> Json | None:
        result: Json | None = self._state.get("result")
        if result is None:
            return None
        digests = {path: found.sha256 for path, found in self._done.items()}
        if not self._tools.library.publisher.finish_killed(self._id, result["model_id"], digests):
            return None
        self._staging.discard(self._id)
        return result

    def _result(self, model_id: str, plan: ImportPlan) -> Json:
        return {
            "model_id": model_id,
            "model_path": str(self._tools.layout.library / model_id),
            "repo_id": self._plan.repo_id,
            "revision": self._plan.commit,
            "files": len(self._plan.files),
            "size": self._plan.total_bytes,
            "verified": {
                "sha256": sum(file.sha256 is not None for file in self._plan.files),
                "git": sum(file.sha256 is None for file in self._plan.files),
            },
            "warnings": [*plan.warnings, *plan.security_findings],
        }

    def _require_new(self, plan: ImportPlan) -> None:
        if self._plan.request.allow_duplicate:
            return
        twin = self._tools.library.holdings.model_with(
            {(self._done[file.name].sha256, file.stamp.size) for file in plan.source.weights}
        )
        if twin is not None:
            raise DuplicateModel(twin)

    def _identified(self, folder: Path) -> ImportPlan:
        source, request, described = self._source(folder), self._plan.request, self._plan.described
        unknown = [file.name for file in source.weights if file.format is FileFormat.UNKNOWN]
        # Configurations without weights that can be read say too little.
        has_known = len(unknown) < len(source.weights)
        telling = [file.found for file in source.telling if file.name not in unknown] if has_known else []
        identity = _identity(telling)
        known = identity.model_type is not ModelType.UNKNOWN
        plan = plan_of(
            self._tools.layout,
            ImportRequest(
                path=self._plan.repo_id,
                family=request.family or self._family(identity),
                official_name=self._plan.title,
                repo_id=self._plan.repo_id,
                model_type=request.model_type or ("" if known else described.get("model_type", "")),
                subtype=request.subtype or described.get("subtype", ""),
                tags=tuple(described.get("tags", [])),
            ),
            source,
            identity,
            lambda _size: [],
        )
        said = [f"{name} is as the hub lists it, but no model file that we know." for name in unknown]
        return replace(plan, warnings=(*plan.warnings, *said, *_left_out(self._plan.left_out)))

    def _family(self, identity: Identity) -> str:
        """What the hub or the files say, else who made it."""
        said = (str(self._plan.described.get("family", "")), identity.family)
        owner = self._plan.repo_id.partition("/")[0]
        return next((family for family in said if family not in ("", "unknown")), owner)

    def _source(self, folder: Path) -> Source:
        """The staged files as an import would see them. The bytes are those the hub lists, so none is refused: weights
        of a form that we do not know are kept as such."""
        files = [self._source_file(folder, file) for file in self._plan.files]
        if not any(file.format for file in files):
            largest = max(range(len(files)), key=lambda n: files[n].stamp.size)
            files[largest] = replace(files[largest], format=FileFormat.UNKNOWN)
        return Source(folder, self._plan.title, tuple(files), (), metadata=self._plan.described)

    def _source_file(self, folder: Path, file: WantedFile) -> SourceFile:
        path = contained(folder, file.path, "file")
        found: FileFormat | None = None
        if file.path in self._plan.weights:
            try:
                found = weights_format(path) or FileFormat.UNKNOWN
            except NotAModel:
                found = FileFormat.UNKNOWN
        return SourceFile(path, path, file.path, file.path, Stamp.of(path.stat()), found)


def _identity(telling: Sequence[Path]) -> Identity:
    try:
        if len(telling) == 1:
            return identify(telling[0])
        return identify_folder(telling) if telling else Identity(FileFormat.UNKNOWN)
    except (NotAModel, MalformedModelFile) as error:
        return Identity(FileFormat.UNKNOWN, notes=(str(error),))


def _left_out(files: Mapping[str, str]) -> list[str]:
    return [f"{path} was left out: {reason}." for path, reason in list(files.items())[:20]]


def _may_go_on(error: PumasError) -> bool:
    """Whether what has arrived is of use to a later try."""
    return not isinstance(error, DuplicateModel | PickleNotAcknowledged) and error.kind != "cancelled"
