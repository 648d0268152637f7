"""Asks the hub: one repository at one revision, a listing, a model card; and says where its files are.

Requests are built, and answers and errors read, by the official client library; its traffic goes through `net/` like
all other. The library is large and loaded at the first question: call from worker threads. Each question is one
request. What was answered before is the business of `cache.py`; what the answers mean, of `reading.py`.

API: https://huggingface.co/docs/hub/api; environment: https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Generator, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast
from urllib.parse import quote

from pumas.errors import (
    GatedRepo,
    HttpStatus,
    InvalidInput,
    InvalidReply,
    NetworkError,
    Offline,
    RateLimited,
    RepoNotFound,
    RevisionNotFound,
    TokenRefused,
)
from pumas.hub.model import DEFAULT_REVISION, HUB, HubListing, HubModel, Json, is_commit, parse_repo_id
from pumas.net.address import Address, base, parse
from pumas.net.client import Timeouts

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from pumas.net.client import NetworkClient

MAX_REVISION: Final = 200
# A person waits for the answer, or nobody does any more.
TIMEOUTS: Final = Timeouts(connect_s=5.0, read_s=20.0)
PATIENCE_S: Final = 15.0
_TRUE: Final = frozenset({"1", "on", "yes", "true"})
_MAX_TOKEN_BYTES: Final = 4096
# What a listing is asked for: everything that a search result shows, in one request. Sizes are not to be had this way.
LISTED: Final = (
    "author", "cardData", "downloads", "gated", "gguf", "lastModified", "library_name", "likes", "pipeline_tag",
    "safetensors", "sha", "siblings", "tags",
)  # fmt: skip
Sort = Literal["created_at", "downloads", "last_modified", "likes", "trending_score"]


class HubClient:
    """Calls block and may come from several threads at once."""

    def __init__(self, network: NetworkClient, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is read for `HF_ENDPOINT`, `HF_TOKEN` and where the token file is; by default the process's."""
        self._network = network
        self._environment = os.environ if environment is None else environment
        self._making = threading.Lock()
        self._made: HfApi | None = None

    @functools.cached_property
    def endpoint(self) -> str:
        """The hub's base address, without a slash at its end. Raises InvalidInput when `HF_ENDPOINT` is not one."""
        return base(self._environment.get("HF_ENDPOINT", "").strip() or HUB, "HF_ENDPOINT").url.rstrip("/")

    @functools.cached_property
    def _origin(self) -> Address:
        return parse(self.endpoint, "HF_ENDPOINT")

    # -- questions -----------------------------------------------------------------------------------------------------

    def model(self, repo_id: str, revision: str = DEFAULT_REVISION) -> HubModel:
        """The repository at a branch, tag or commit, with the size and digest of every file. One request.

        Raises:
            InvalidInput: the name or revision cannot be one.
            RepoNotFound, RevisionNotFound, GatedRepo, TokenRefused: what the hub said.
            NetworkError: the hub could not be asked, or its answer makes no sense.
        """
        from pumas.hub.reading import read_model

        repo_id = parse_repo_id(repo_id)
        api, token = self._api(), self._token_argument()
        with self._answers(repo_id, check_revision(revision)):
            return read_model(api.model_info(repo_id, revision=revision, files_metadata=True, token=token))

    def models(
        self,
        *,
        search: str = "",
        task: str = "",
        author: str = "",
        limit: int = 25,
        sort: Sort | None = None,
    ) -> list[HubListing]:
        """Repositories whose name holds `search`, in the hub's order. One request. Raises as `model`.

        An entry that makes no sense is left out.
        """
        from pumas.hub.reading import ODD, read_listing

        api, token = self._api(), self._token_argument()
        with self._answers():
            found = api.list_models(
                search=search or None,
                pipeline_tag=task or None,
                author=author or None,
                sort=sort,
                limit=limit,
                expand=cast(Any, list(LISTED)),
                token=token,
            )
            listings: list[HubListing] = []
            for info in islice(found, limit):
                with contextlib.suppress(*ODD):
                    listings.append(read_listing(info))
            return listings

    def require_access(self, repo_id: str) -> None:
        """Ask whether this user may have the repository's files. Raises as `model`."""
        api, token = self._api(), self._token_argument()
        with self._answers(repo_id):
            api.auth_check(repo_id, token=token)

    def card_text(self, repo_id: str, commit: str, limit: int) -> str:
        """The model card (README.md), cut after `limit` bytes; `""` when there is none. Raises as `model`."""
        url = self.file_url(repo_id, commit, "README.md")
        with self._network.send(
            "GET", url, headers=self.headers_for(url), accept=(401, 403, 404), timeouts=TIMEOUTS, patience_s=PATIENCE_S
        ) as response:
            if response.status == 404:
                return ""
            if response.status in (401, 403):
                raise self._refusal(repo_id, response.status, response.headers)
            buffer, filled = bytearray(limit), 0
            with memoryview(buffer) as view:
                while filled < limit and (count := response.read_into(view[filled:])):
                    filled += count
        return buffer[:filled].decode("utf-8", "replace" if filled < limit else "ignore")

    # -- addresses and who we are --------------------------------------------------------------------------------------

    def file_url(self, repo_id: str, commit: str, path: str) -> str:
        """Where the hub gives one file of a commit."""
        return f"{self.endpoint}/{repo_id}/resolve/{quote(commit, safe='')}/{quote(path)}"

    def page_url(self, repo_id: str) -> str:
        """The page of a repository for a person to open."""
        return f"{self.endpoint}/{repo_id}"

    def headers_for(self, url: str) -> dict[str, str]:
        """What a request to `url` must carry: the token, for the hub's own scheme, host and port alone."""
        try:
            address = parse(url)
        except InvalidInput:
            return {}
        token = self.token() if address.origin == self._origin.origin else None
        return {"Authorization": f"Bearer {token}"} if token else {}

    def token(self) -> str | None:
        """The user's token, from the environment or the file that `hf auth login` writes. Read anew each time.

        The library's own `get_token` would refresh some tokens and write them back; reading is all that we do.
        """
        if self._environment.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").lower() in _TRUE:
            return None
        names = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
        given = next((token for name in names if (token := _clean(self._environment.get(name, "")))), "")
        return given or _clean(_read_small(self._token_file())) or None

    def _token_file(self) -> Path:
        get = self._environment.get
        home = Path(get("HOME") or os.path.expanduser("~"))
        cache = get("XDG_CACHE_HOME") or str(home / ".cache")
        hf_home = get("HF_HOME") or f"{cache}/huggingface"
        return Path(os.path.expandvars(get("HF_TOKEN_PATH") or f"{hf_home}/token")).expanduser()

    def _token_argument(self) -> str | Literal[False]:
        return self.token() or False

    # -- the library ---------------------------------------------------------------------------------------------------

    def _api(self) -> HfApi:
        with self._making:
            if self._made is None:
                self._made = self._load()
            return self._made

    def _load(self) -> HfApi:
        from huggingface_hub import HfApi, constants, hf_api

        from pumas.hub.reading import tolerant
        from pumas.net.httpx_transport import use_for_huggingface_hub

        # Else it looks for torch, asks the hub which agents there are, and writes what it learned into the user's home.
        constants.HF_HUB_DISABLE_TELEMETRY = True
        use_for_huggingface_hub(self._network)
        # For the whole process: the library names both itself, and there is no argument for either.
        hf_api.ModelInfo = tolerant(hf_api.ModelInfo)
        cast(Any, hf_api).paginate = _paginate
        return HfApi(endpoint=self.endpoint, token=False, library_name="pumas")

    @contextlib.contextmanager
    def _answers(self, repo_id: str = "", revision: str = "") -> Generator[None]:
        """Turn the library's errors into ours. `net/` raises its own, which pass."""
        from huggingface_hub import errors

        from pumas.hub.reading import Unreadable
        from pumas.net.httpx_transport import asking

        host = self._origin.origin.netloc
        try:
            with asking(timeouts=TIMEOUTS, patience_s=PATIENCE_S):
                yield
        except NetworkError:
            raise
        except errors.GatedRepoError:
            raise GatedRepo(repo_id, self.page_url(repo_id)) from None
        except errors.RevisionNotFoundError:
            raise RevisionNotFound(repo_id, revision) from None
        except errors.DisabledRepoError:
            raise RepoNotFound(repo_id, "has disabled this repository") from None
        except errors.RepositoryNotFoundError:
            raise RepoNotFound(repo_id) from None
        except errors.OfflineModeIsEnabled:
            raise Offline(host) from None
        except errors.HfHubHTTPError as error:
            raise self._http_error(error, host) from None
        except (Unreadable, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            reason = str(error) if isinstance(error, Unreadable) else "no description of a model"
            raise InvalidReply(host, reason) from None

    def _http_error(self, error: Any, host: str) -> NetworkError | TokenRefused:
        status: int = error.response.status_code
        if status == 401:
            return TokenRefused()
        return RateLimited(host, 60.0) if status == 429 else HttpStatus(status, host)

    def _refusal(
        self, repo_id: str, status: int, headers: Mapping[str, str]
    ) -> GatedRepo | RepoNotFound | TokenRefused | HttpStatus:
        code = headers.get("X-Error-Code", "")
        if code == "GatedRepo":
            return GatedRepo(repo_id, self.page_url(repo_id))
        if code == "RepoNotFound":
            return RepoNotFound(repo_id)
        return TokenRefused() if status == 401 else HttpStatus(status, self._origin.origin.netloc)


def _paginate(path: str, params: Any, headers: dict[str, str], timeout: float | None = None) -> Iterator[Json]:
    """The library's, but an entry that is no object does not end the listing."""
    from huggingface_hub import utils

    from pumas.hub.reading import entries

    url: str | None = path
    while url:
        response = cast(Any, utils).http_backoff("GET", url, params=params, headers=headers, timeout=timeout)
        utils.hf_raise_for_status(response)
        yield from entries(response.json())
        url, params = response.links.get("next", {}).get("url"), None


def check_revision(revision: str) -> str:
    """A branch, tag, ref or commit as git allows it. Raises InvalidInput.

    https://git-scm.com/docs/git-check-ref-format
    """
    odd = any(not char.isprintable() or char in " ~^:?*[\\" for char in revision)
    if is_commit(revision):
        return revision
    if not revision or len(revision) > MAX_REVISION or odd or ".." in revision or revision.startswith(("/", "-")):
        raise InvalidInput("revision", "must be a branch, a tag or a commit id")
    return revision


def _clean(text: str) -> str:
    """A token as it may stand in a header; `""` for what cannot be one."""
    token = text.strip()
    return token if token.isascii() and token.isprintable() and " " not in token else ""


def _read_small(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_TOKEN_BYTES).decode("ascii", "replace")
    except (OSError, ValueError):
        return ""
