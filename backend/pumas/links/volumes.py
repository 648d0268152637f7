"""What a volume can do: symbolic links, hard links. By the name of its file system, so that a plan changes nothing.

What the name does not tell is found out when the first link is made there, and kept for the rest of the run.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from dataclasses import dataclass, replace

_MOUNT = re.compile(r"^\d+ \d+ (\d+):(\d+) .* - (\S+) ")
# FAT knows no links of any kind (https://docs.kernel.org/filesystems/vfat.html).
_NO_LINKS = frozenset({"vfat", "msdos", "exfat", "fuseblk.exfat"})


@dataclass(frozen=True, slots=True)
class Ability:
    symlinks: bool = True
    hardlinks: bool = True


class Volumes:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, Ability] = {}

    def ability(self, device: int) -> Ability:
        """Of the volume with this `st_dev`."""
        with self._lock:
            if device not in self._known:
                weak = _file_system(device) in _NO_LINKS
                self._known[device] = Ability(not weak, not weak)
            return self._known[device]

    def lacks(self, device: int, *, symlinks: bool = False, hardlinks: bool = False) -> None:
        """Remember that a link could not be made there."""
        known = self.ability(device)
        with self._lock:
            self._known[device] = replace(
                known, symlinks=known.symlinks and not symlinks, hardlinks=known.hardlinks and not hardlinks
            )


def _file_system(device: int) -> str:
    """Its name in the kernel's table of mounts; "" when that is not to be had."""
    if sys.platform != "linux":
        return ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                found = _MOUNT.match(line)
                if found and (int(found[1]), int(found[2])) == (os.major(device), os.minor(device)):
                    return found[3]
    except OSError:
        return ""
    return ""


def device_of(path: str) -> int:
    """`st_dev` of a path or of its nearest existing parent, links followed."""
    while True:
        try:
            return os.stat(path).st_dev
        except OSError:
            parent = os.path.dirname(path)
            if parent == path:
                return 0
            path = parent
