"""One sidecar per launcher root: a kernel lock says who owns it, `rpc.json` says where to reach the owner.

The kernel releases the lock when its process dies, however it dies, so a stale lock cannot exist; the file beside it
may be stale, which is why clients check whose it is before they trust it (`live_owner`). The lock's own file says it
best: the process by its start since the boot, which no clock moves, and its port. Where it says nothing (an older
sidecar, a full disk, another system than Linux) the start time in `rpc.json` decides, which a clock that was set hides.
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
from pumas.storage.paths import display_name

START_TOLERANCE_S = 2.0
# How a `LockRecord` begins in its file.
_RECORD = b'{"pid":'


@dataclass(frozen=True)
class RpcFile:
    """`launcher-data/rpc.json`. `started_at` is the start time of the process (UTC), by which a recycled pid is told
    from the sidecar; `token` is null when callers are told apart by user id alone."""

    pid: int
    port: int
    token: str | None
    backend: str
    started_at: str


@dataclass(frozen=True)
class LockRecord:
    """What the lock's file says of the process that holds it: `start` counts ticks since the boot `boot`."""

    pid: int
    port: int
    start: int
    boot: str

    @classmethod
    def of(cls, pid: int, port: int) -> LockRecord:
        """Raises OSError when there is no such process, or only its remains."""
        return cls(pid, port, _start_ticks(pid), Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip())


class OwnerLock:
    """Hold the root for the life of the process."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock: object | None = None

    def acquire(self) -> None:
        """Raises RootInUse when another sidecar owns the root, ReadOnly when nothing can be written there,
        DiskError when the lock alone cannot be had, or when the root's path is no text: the wire and the database,
        which name files by their paths, hold text only."""
        from filelock import FileLock, Timeout

        if not _is_text(self._layout.root):
            shown = display_name(os.fspath(self._layout.root))
            raise DiskError(f"{shown} has bytes in its path that are not UTF-8: rename the folder.")
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

    def tell(self, port: int) -> None:
        """Say in the lock's file whose it is; call once the port is open. Clients can do without."""
        if self._lock is None or sys.platform != "linux":
            return
        with contextlib.suppress(OSError):
            record = json.dumps(asdict(LockRecord.of(os.getpid(), port)))
            fd = os.open(self._layout.owner_lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(fd, "r+b") as file:
                # What is not ours stays, the mark of a lock of another kind among it.
                if file.read(len(_RECORD)) in (b"", _RECORD):
                    file.seek(0)
                    file.truncate()
                    file.write(record.encode() + b"\n")


def _describe_owner(layout: Layout) -> str:
    owner = live_owner(layout)
    where = f" It is process {owner.pid}, listening on port {owner.port}, since {owner.started_at}." if owner else ""
    return f"Another sidecar owns this launcher root.{where} Use that one, or stop it first (pumas call shutdown)."


def process_start_time(pid: int) -> datetime.datetime:
    """When the process began, by the system's clock. Raises OSError when there is no such process, or only its
    remains."""
    if sys.platform == "linux":
        # As psutil does it (btime of /proc/stat is moved with the clock); every start of ours would load that.
        ticks = _start_ticks(pid)
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


def _start_ticks(pid: int) -> int:
    """proc_pid_stat(5), field 22."""
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    fields = stat[stat.rfind(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        raise ProcessLookupError(errno.ESRCH, "it has ended")
    return int(fields[19])


def own_rpc_file(port: int, token: str | None, backend: str) -> RpcFile:
    started = process_start_time(os.getpid()).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return RpcFile(os.getpid(), port, token, backend, started)


def write_rpc_file(layout: Layout, facts: RpcFile) -> None:
    """One that makes no sense is kept aside. Raises the disk's failures."""
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
        record = _lock_record(layout.owner_lock)
        if record is not None:
            return facts if record == LockRecord.of(facts.pid, facts.port) else None
        started = datetime.datetime.fromisoformat(facts.started_at)
        drift = abs((process_start_time(facts.pid) - started).total_seconds())
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return None
    return facts if drift <= START_TOLERANCE_S else None


def _lock_record(path: Path) -> LockRecord | None:
    """None when the lock's file holds none that can be used."""
    if sys.platform != "linux":
        return None
    try:
        raw = parse_object(path)
        pid, port, start, boot = (raw[key] for key in ("pid", "port", "start", "boot"))
    except (OSError, ValueError, KeyError):
        return None
    if any(type(number) is not int for number in (pid, port, start)) or not isinstance(boot, str):
        return None
    return LockRecord(pid, port, start, boot)


def _is_text(path: Path) -> bool:
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True
