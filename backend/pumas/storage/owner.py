"""One sidecar per launcher root: a kernel lock says who owns it, `rpc.json` says where to reach the owner.

The kernel releases the lock when its process dies, however it dies, so a stale lock cannot exist; the file beside it
may be stale, which is why clients check pid and start time before they trust it (`read_rpc_file`).
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from pumas.config import Layout
from pumas.errors import DiskError, ReadOnly, RootInUse
from pumas.storage.files import disk_error, is_odd, put_aside, write_durably
from pumas.storage.json_file import parse_object

START_TOLERANCE_S = 2.0


@dataclass(frozen=True)
class RpcFile:
    """`launcher-data/rpc.json`. `started_at` is the start time of the process (UTC), by which a recycled pid is told
    from the sidecar; `token` is null when callers are told apart by user id alone."""

    pid: int
    port: int
    token: str | None
    backend: str
    started_at: str


class OwnerLock:
    """Hold the root for the life of the process."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock: object | None = None

    def acquire(self) -> None:
        """Raises RootInUse when another sidecar owns the root, ReadOnly when nothing can be written there,
        DiskError when the lock alone cannot be had."""
        from filelock import FileLock, Timeout

        path = self._layout.owner_lock
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if is_odd(path):
                put_aside(path)
            lock = FileLock(path)
            lock.acquire(timeout=0)
        except Timeout:
            raise RootInUse(_describe_owner(self._layout)) from None
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTDIR):
                raise DiskError(f"{path.parent.name} is no folder: move what stands there away.") from None
            if error.errno in (errno.EACCES, errno.EPERM) and os.access(path.parent, os.W_OK):
                # Another user's sidecar may hold it: without the lock nobody may write here.
                raise DiskError(
                    f"{path.parent.name}/{path.name} may not be opened by this user. Remove it when no sidecar runs."
                ) from None
            if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise ReadOnly(f"{path.parent.name} cannot be written: {os.strerror(error.errno)}.") from None
            raise disk_error(error, f"Locking {path.name}") from error
        self._lock = lock


def _describe_owner(layout: Layout) -> str:
    owner = live_owner(layout)
    where = f" It is process {owner.pid}, listening on port {owner.port}, since {owner.started_at}." if owner else ""
    return f"Another sidecar owns this launcher root.{where} Use that one, or stop it first (pumas call shutdown)."


def process_start_time(pid: int) -> datetime.datetime:
    """When the process began, by the system's clock. Raises OSError when there is no such process."""
    if sys.platform == "linux":
        # As psutil does it (proc_pid_stat(5), field 22, and btime of /proc/stat); every start of ours would load that.
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        ticks = int(stat[stat.rfind(b")") + 2 :].split()[19])
        lines = Path("/proc/stat").read_bytes().splitlines()
        boot = next(int(line.split()[1]) for line in lines if line.startswith(b"btime"))
        began = boot + ticks / os.sysconf("SC_CLK_TCK")
    else:
        import psutil

        try:
            began = psutil.Process(pid).create_time()
        except psutil.Error as error:
            raise ProcessLookupError(errno.ESRCH, str(error)) from None
    return datetime.datetime.fromtimestamp(began, datetime.UTC)


def own_rpc_file(port: int, token: str | None, backend: str) -> RpcFile:
    started = process_start_time(os.getpid()).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return RpcFile(os.getpid(), port, token, backend, started)


def write_rpc_file(layout: Layout, facts: RpcFile) -> None:
    try:
        if os.path.lexists(layout.rpc_file) and not _parses(layout.rpc_file):
            put_aside(layout.rpc_file)
        write_durably(layout.rpc_file, json.dumps(asdict(facts), indent=2).encode(), mode=0o600)
    except OSError as error:
        raise disk_error(error, "Writing rpc.json") from error


def remove_rpc_file(layout: Layout) -> None:
    """Remove the file only when it is ours: a later sidecar may have written its own."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        if parse_rpc_file(layout.rpc_file).pid == os.getpid():
            layout.rpc_file.unlink()


def parse_rpc_file(path: Path) -> RpcFile:
    """Raises OSError, ValueError, TypeError or KeyError when it is missing or not such a file."""
    raw = parse_object(path)
    return RpcFile(int(raw["pid"]), int(raw["port"]), raw["token"], str(raw["backend"]), str(raw["started_at"]))


def _parses(path: Path) -> bool:
    try:
        parse_rpc_file(path)
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return True


def live_owner(layout: Layout) -> RpcFile | None:
    """The sidecar of this root, when the process that wrote `rpc.json` still lives. Never send it a token otherwise."""
    try:
        facts = parse_rpc_file(layout.rpc_file)
        started = datetime.datetime.fromisoformat(facts.started_at)
        drift = abs((process_start_time(facts.pid) - started).total_seconds())
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return None
    return facts if drift <= START_TOLERANCE_S else None
