"""Where everything lives and what the caller chose. Plain values; reading them costs nothing.

`Layout` is the only place that knows the names of files and folders below a launcher root.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path


@functools.cache
def contracts_folder() -> Path:
    """The contract's data: beside the checkout, or inside an installed package."""
    checkout = Path(__file__).resolve().parents[2] / "contracts"
    return checkout if checkout.is_dir() else Path(__file__).resolve().parent / "_contracts"


@functools.cache
def page_folder() -> Path:
    """The built page: of the checkout, or inside an installed package. It need not be there."""
    checkout = Path(__file__).resolve().parents[2] / "electron"
    return checkout / "dist" / "renderer" if checkout.is_dir() else Path(__file__).resolve().parent / "_page"


@dataclass(frozen=True)
class Layout:
    """Paths below one launcher root, shared with older sidecars."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "launcher-data"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def rpc_file(self) -> Path:
        return self.data / "rpc.json"

    @property
    def page_opener(self) -> Path:
        """A page for the browser, only for its user to read, that leads on to ours with a code (`rpc/session.py`)."""
        return self.data / "open.html"

    @property
    def owner_lock(self) -> Path:
        return self.data / "owner.lock"

    @property
    def state_lock(self) -> Path:
        return self.data / "state.lock"

    @property
    def jobs_db(self) -> Path:
        return self.data / "jobs.db"

    @property
    def adoptions_db(self) -> Path:
        return self.data / "adoptions.db"

    @property
    def cache(self) -> Path:
        """What can be fetched or made again."""
        return self.data / "cache"

    @property
    def hub_db(self) -> Path:
        return self.cache / "hub.db"

    @property
    def download_settings(self) -> Path:
        return self.data / "metadata" / "downloads.json"

    @property
    def network_settings(self) -> Path:
        return self.data / "metadata" / "network.json"

    @property
    def apps(self) -> Path:
        """Descriptions of further apps, the user's own."""
        return self.data / "apps"

    @property
    def processes_file(self) -> Path:
        """What was started and may still run, and what becomes of it when the sidecar ends."""
        return self.data / "metadata" / "processes.json"

    @property
    def library(self) -> Path:
        return self.root / "shared-resources" / "models"

    @property
    def models_db(self) -> Path:
        return self.library / "models.db"

    @property
    def link_registry_db(self) -> Path:
        return self.library / "link_registry.db"

    @property
    def link_registry_json(self) -> Path:
        """Of older sidecars; only read."""
        return self.library / "link_registry.json"

    @property
    def mapping_rules(self) -> Path:
        return self.data / "config" / "model-library-translation"

    @property
    def older_mapping_rules(self) -> Path:
        """Of older sidecars; only read."""
        return self.data / "mapping-configs"

    @property
    def trash(self) -> Path:
        """On the library's own volume, so that deleting and restoring are renames."""
        return self.library / ".trash"

    @property
    def staging(self) -> Path:
        return self.library / ".staging"

    @property
    def uploads(self) -> Path:
        """What a page in a browser handed over for an import."""
        return self.data / "uploads"

    @property
    def workflows(self) -> Path:
        return self.root / "shared-resources" / "user" / "workflows"


@dataclass(frozen=True)
class ServerSettings:
    """How the sidecar listens.

    `token` None means that callers are told apart by the operating-system user alone (see `rpc/access.py`). The
    sidecar ends when the process `parent` does; None means that it stays. With `session_code` a page can get the token
    once, soon after the start.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    debug: bool = False
    parent: int | None = None
    session_code: str | None = None
