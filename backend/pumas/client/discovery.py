"""Where the sidecar of a launcher root listens, and whether what listens there is really it.

`launcher-data/rpc.json` names a process by id and start time. A token is only ever sent while that very process lives:
after its death the port may belong to anybody.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pumas.client.errors import NotReachable
from pumas.config import Layout
from pumas.storage.owner import live_owner

if TYPE_CHECKING:
    import psutil

ROOT_VARIABLE = "PUMAS_ROOT"
_INCLUDE_LOOPBACK = {"127.0.0.1", "0.0.0.0", "::"}  # noqa: S104 - compared, not bound


def default_root() -> Path:
    """The launcher root when none is named: `PUMAS_ROOT`; else the checkout that this package runs from; else the
    user's data folder (Linux `~/.local/share/pumas`, macOS `~/Library/Application Support/pumas`, Windows
    `%LOCALAPPDATA%\\pumas`)."""
    named = os.environ.get(ROOT_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    checkout = Path(__file__).resolve().parents[3]
    if (checkout / "launcher").is_file() and (checkout / "backend" / "rpc_server.py").is_file():
        return checkout
    import platformdirs

    return platformdirs.user_data_path("pumas", appauthor=False)


@dataclass(frozen=True)
class Endpoint:
    """An address to call. `process` is the sidecar's own, where it runs on this machine and we know it."""

    url: str
    token: str | None = field(default=None, repr=False)
    process: psutil.Process | None = None

    @property
    def alive(self) -> bool:
        """False when the process that the token belongs to is gone, also when its id was given to another one."""
        import psutil

        if self.process is None:
            return True
        with contextlib.suppress(psutil.Error):
            return self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE
        return False


def find(root: Path) -> Endpoint | None:
    """The running sidecar of this root, or None."""
    import psutil

    try:
        owner = live_owner(Layout(root))
        if owner is None:
            return None
        process = psutil.Process(owner.pid)
        # Bound to a process object only now: look again, so that both name the same process.
        if live_owner(Layout(root)) != owner:
            return None
        host = _listening_host(process, owner.port)
    except (psutil.Error, OSError):
        return None
    return Endpoint(f"http://{host}:{owner.port}", owner.token, process) if host else None


def _listening_host(process: psutil.Process, port: int) -> str | None:
    """The address on which that very process listens: on another one the same port may belong to somebody else."""
    import psutil

    sockets = process.net_connections("tcp")
    found = {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN and s.laddr and s.laddr.port == port}
    if found & _INCLUDE_LOOPBACK:
        return "127.0.0.1"
    address = min(found, default=None)
    return f"[{address}]" if address and ":" in address else address


def at(url: str, token: str | None) -> Endpoint:
    """An endpoint that the caller names.

    Raises:
        ValueError: the URL is not `http://HOST:PORT` (or https) alone, or holds a user name or password.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("url must look like http://127.0.0.1:PORT")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("url must name only the host and the port; the path is added")
    return Endpoint(f"{parts.scheme}://{parts.netloc}", token)


def not_running(root: Path) -> NotReachable:
    return NotReachable(f"No sidecar runs for {root}. Start one: pumas serve --root {shlex.quote(str(root))}")
