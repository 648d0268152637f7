"""File systems of a test's own, and what of them a power cut leaves.

As root on Linux a volume is an ext4 file system in a file. A copy of that file is what a disk holds at one moment:
whatever was not synced is not in it. Elsewhere a volume is a folder, and what is left is all that was written, as after
`kill -9`. Small file systems for full disks need root too; `tmpfs` says so by None.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path

SIZE = 512 * 1024 * 1024
_TRIES = 50


def _run(*command: str | Path) -> str:
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout.strip()


def _memory() -> str | None:
    """Where a folder lies in memory, so that thousands of syncs cost nothing."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@functools.cache
def can_mount() -> bool:
    try:
        with _ext4(32 * 1024 * 1024):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


class Volume:
    """A folder `path` whose state can be kept at a moment, and shown again later in the same place."""

    def __init__(self, path: Path, kept: Path) -> None:
        self.path, self._kept = path, kept
        self._count = 0

    def keep(self) -> Path:
        """What a disk would hold now. Whoever writes must be stopped meanwhile."""
        self._count += 1
        target = self._kept / str(self._count)
        self._copy(target)
        return target

    def _copy(self, target: Path) -> None:
        shutil.copytree(self.path, target, symlinks=True)

    @contextlib.contextmanager
    def shown(self, kept: Path) -> Generator[Path]:
        """The kept state, in the place of the volume, and gone afterwards."""
        aside = self.path.with_name(f"{self.path.name}-aside")
        self.path.rename(aside)
        try:
            kept.rename(self.path)
            yield self.path
        finally:
            shutil.rmtree(self.path)
            aside.rename(self.path)


class DiskVolume(Volume):
    """An ext4 file system whose `image` is the disk."""

    def __init__(self, path: Path, kept: Path, image: Path, device: str) -> None:
        super().__init__(path, kept)
        self._image, self._device = image, device

    def _copy(self, target: Path) -> None:
        """The kernel may write to the disk while we read it: then the copy is no state that it ever had."""
        for _ in range(_TRIES):
            before = self._written()
            _run("cp", "--sparse=always", self._image, target)
            if before == self._written():
                return
        raise AssertionError("the disk never stood still")

    def _written(self) -> tuple[str, ...]:
        """Finished writes, and how many are under way: https://docs.kernel.org/block/stat.html"""
        fields = Path(f"/sys/block/{Path(self._device).name}/stat").read_text().split()
        return fields[4], fields[8] if fields[8] == "0" else os.urandom(8).hex()

    @contextlib.contextmanager
    def shown(self, kept: Path) -> Generator[Path]:
        with _mounted(kept, over=self.path):
            yield self.path
        kept.unlink()


@contextlib.contextmanager
def volume() -> Generator[Volume]:
    with tempfile.TemporaryDirectory(dir=_memory(), prefix="pumas-volume-") as folder:
        kept = Path(folder) / "kept"
        kept.mkdir()
        if not can_mount():
            (Path(folder) / "volume").mkdir()
            yield Volume(Path(folder) / "volume", kept)
            return
        with _ext4(SIZE) as (image, device, path):
            yield DiskVolume(path, kept, image, device)


@contextlib.contextmanager
def _ext4(size: int) -> Generator[tuple[Path, str, Path]]:
    with tempfile.TemporaryDirectory(dir=_memory(), prefix="pumas-disk-") as folder:
        image, path = Path(folder) / "image", Path(folder) / "mount"
        with image.open("wb") as file:
            file.truncate(size)
        path.mkdir()
        _run("mkfs.ext4", "-q", "-F", "-J", "size=8", image)
        with _mounted(image, over=path) as device:
            yield image, device, path


class BreakableDisk:
    """A file system that can become read-only under the programs that write to it; it stays so."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make_read_only(self) -> None:
        """As the kernel does after an error: an ordinary remount is refused while a file is open for writing."""
        _run("mount", "-o", "remount,abort", self.path)


@contextlib.contextmanager
def broken_disk() -> Generator[BreakableDisk | None]:
    """None where none can be mounted."""
    if not can_mount():
        yield None
        return
    with _ext4(SIZE) as (_image, _device, path):
        yield BreakableDisk(path)


@contextlib.contextmanager
def _mounted(image: Path, over: Path) -> Generator[str]:
    """Mounted over `over`. Without `noauto_da_alloc` ext4 syncs a file that is renamed over another by itself."""
    device = _run("losetup", "--find", "--show", image)
    try:
        _run("mount", "-t", "ext4", "-o", "noauto_da_alloc", device, over)
        try:
            yield device
        finally:
            _run("umount", "-l", over)
    finally:
        _run("losetup", "-d", device)


@contextlib.contextmanager
def tmpfs(size: int) -> Generator[Path | None]:
    """A file system in memory that is full after `size` bytes; None where none can be mounted."""
    if not can_mount():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="pumas-tmpfs-") as folder:
        _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
        try:
            yield Path(folder)
        finally:
            _run("umount", "-l", folder)
