"""What a download will bring, decided once at its start and kept with the job: commit, files, digests, metadata.

So a download that goes on a week later fetches the same bytes, whatever the repository's branch says by then, and needs
no question to the hub beyond the files themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from pumas.downloads.wanted import WantedFile
from pumas.errors import InvalidInput, PickleNotAcknowledged
from pumas.hub.model import DEFAULT_REVISION, parse_place
from pumas.jobs.store import Json

if TYPE_CHECKING:
    from pumas.hub.client import HubClient

MAX_FILES = 20_000


@dataclass(frozen=True, slots=True)
class DownloadRequest:
    """What the caller wants; empty values mean: find out.

    `repo_id` may be an address, whose revision, quantisation and file hold where none are asked for besides.
    `filenames` are paths or shell patterns in the repository. `security_acknowledged` accepts files that can run code
    when an app loads them (pickle).
    """

    repo_id: str
    revision: str = DEFAULT_REVISION
    quant: str = ""
    filenames: tuple[str, ...] = ()
    family: str = ""
    official_name: str = ""
    model_type: str = ""
    subtype: str = ""
    security_acknowledged: bool = False
    allow_duplicate: bool = False

    @classmethod
    def from_json(cls, value: Json) -> DownloadRequest:
        fields: Json = {**value, "filenames": tuple(value["filenames"])}
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class DownloadPlan:
    """`files` in the hub's order; `weights` are the paths of those that hold weights, `page` is for a person to open.

    `described` is what the hub says about the model, for its metadata. `left_out` gives each file that cannot be stored
    its reason.
    """

    request: DownloadRequest
    repo_id: str
    commit: str
    page: str
    quant: str
    files: tuple[WantedFile, ...]
    weights: tuple[str, ...]
    described: Json
    left_out: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def title(self) -> str:
        return self.request.official_name or self.repo_id.rpartition("/")[2]

    def fetches_the_same_as(self, other: DownloadPlan) -> bool:
        return (self.repo_id, self.commit, self.files) == (other.repo_id, other.commit, other.files)

    def to_json(self) -> Json:
        return {
            **{name: getattr(self, name) for name in ("repo_id", "commit", "page", "quant", "described")},
            "request": {**asdict(self.request), "filenames": list(self.request.filenames)},
            "files": [file.to_json() for file in self.files],
            "weights": list(self.weights),
            "left_out": dict(self.left_out),
        }

    @classmethod
    def from_json(cls, value: Json) -> DownloadPlan:
        fields: Json = {
            **value,
            "request": DownloadRequest.from_json(value["request"]),
            "files": tuple(WantedFile.from_json(file) for file in value["files"]),
            "weights": tuple(value["weights"]),
        }
        return cls(**fields)


def make_plan(hub: HubClient, request: DownloadRequest) -> DownloadPlan:
    """Ask the hub what there is and choose. Blocks for one request, or two when the repository is gated.

    Raises:
        InvalidInput: the name or revision cannot be one, or there is nothing of that kind.
        PickleNotAcknowledged: a file can run code when an app loads it.
        RepoNotFound, RevisionNotFound, GatedRepo, TokenRefused, NetworkError: as `HubClient.model`.
    """
    from pumas.hub.metadata import describe
    from pumas.hub.selection import choose

    place = parse_place(request.repo_id)
    request = replace(
        request,
        revision=place.revision_for(request.revision),
        quant=place.quant_for(request.quant, request.filenames),
        filenames=place.names_for(request.quant, request.filenames),
    )
    model = hub.model(request.repo_id, request.revision)
    if model.gated:
        hub.require_access(model.repo_id)
    choice = choose(model, quant=request.quant or None, filenames=request.filenames or None)
    if choice.pickles and not request.security_acknowledged:
        raise PickleNotAcknowledged(
            f"{choice.pickles[0]} can run code when an app loads it (pickle); "
            "pass security_acknowledged to download it all the same."
        )
    if len(choice.files) > MAX_FILES:
        raise InvalidInput("repo_id", f"has {len(choice.files):,} files; at most {MAX_FILES:,} are taken as one model")
    files = tuple(WantedFile(file.path, file.size, file.sha256, file.git_oid) for file in choice.files)
    if not files:
        raise InvalidInput("repo_id", "names a repository without any file to download")
    return DownloadPlan(
        request=request,
        repo_id=model.repo_id,
        commit=model.commit,
        page=hub.page_url(model.repo_id),
        quant=choice.quant or "",
        files=files,
        weights=tuple(file.path for file in choice.weights),
        described=describe(model, choice),
        left_out=dict(choice.refused),
    )
