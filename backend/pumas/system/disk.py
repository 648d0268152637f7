"""How full a filesystem is.

`resources.py` and `service.py` use it, each on a thread of its own: the calls here block, on a network disk for long.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from pumas.errors import DiskError


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """The filesystem that holds a path, in bytes.

    `free` is what this user may still write; what the system reserves is in neither `used` nor `free`.
    `percent` is `used` of `total`, 0 to 100 with one decimal.
    """

    total: int
    used: int
    free: int
    percent: float


def measure(path: Path) -> DiskSpace:
    """The space of the filesystem that holds `path`; blocks. Raises `DiskError`."""
    try:
        usage = shutil.disk_usage(path)
    except OSError as error:
        raise DiskError(f"The free space of the launcher's disk cannot be read: {error.strerror or error}.") from error
    return DiskSpace(usage.total, usage.used, usage.free, percent(usage.used, usage.total))


def percent(part: float, whole: float) -> float:
    """`part` of `whole` in percent, kept within 0 to 100, with one decimal; an empty whole is 0 percent used."""
    return round(min(max(100.0 * part / whole, 0.0), 100.0), 1) if whole else 0.0
