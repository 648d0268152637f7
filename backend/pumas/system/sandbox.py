"""Whether the sidecar runs inside a sandbox, and what that takes from the user.

`service.py` asks once per process. Only marks that a sandbox leaves are read; nothing is tried out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_CGROUP = Path("proc/1/cgroup")
_CGROUP_LIMIT = 64 * 1024
_CGROUP_MARKS = ("docker", "containerd")


class SandboxKind(StrEnum):
    """The names on the wire."""

    FLATPAK = "flatpak"
    SNAP = "snap"
    DOCKER = "docker"
    APPIMAGE = "appimage"
    NONE = "none"


LIMITATIONS: dict[SandboxKind, tuple[str, ...]] = {
    SandboxKind.FLATPAK: (
        "Only folders that the Flatpak permits are visible; permit others with 'flatpak override --filesystem=PATH'.",
        "Links to files outside the permitted folders are broken inside the sandbox.",
    ),
    SandboxKind.SNAP: (
        "Only the home folder and connected interfaces are visible; hidden folders in the home folder are not.",
        "Other drives need the removable-media interface of the snap.",
    ),
    SandboxKind.DOCKER: (
        "Only mounted volumes are visible; mount the model folders into the container.",
        "Links that leave a mounted volume are broken outside the container.",
    ),
    SandboxKind.APPIMAGE: ("The program's own folder is read-only and is mounted elsewhere at every start.",),
    SandboxKind.NONE: (),
}


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What was found; `limitations` are sentences for the user."""

    kind: SandboxKind
    limitations: tuple[str, ...]

    @property
    def is_sandboxed(self) -> bool:
        return self.kind is not SandboxKind.NONE


def detect(root: Path = Path("/"), environ: Mapping[str, str] | None = None) -> Sandbox:
    """The sandbox around this process, by the marks below `root` and in `environ` (the process's own by default).

    The outermost mark decides: Flatpak (https://docs.flatpak.org/en/latest/sandbox-permissions.html), then snap, then a
    container. An AppImage (https://docs.appimage.org/packaging-guide/environment-variables.html) gives the name
    even inside one of these, and its limitations come on top.
    """
    variables = os.environ if environ is None else environ
    around = _around(root, variables)
    if not variables.get("APPIMAGE"):
        return Sandbox(around, LIMITATIONS[around])
    return Sandbox(SandboxKind.APPIMAGE, LIMITATIONS[around] + LIMITATIONS[SandboxKind.APPIMAGE])


def _around(root: Path, environ: Mapping[str, str]) -> SandboxKind:
    if _exists(root / ".flatpak-info") or environ.get("FLATPAK_ID"):
        return SandboxKind.FLATPAK
    if environ.get("SNAP"):
        return SandboxKind.SNAP
    if _exists(root / ".dockerenv") or _in_container(root / _CGROUP):
        return SandboxKind.DOCKER
    return SandboxKind.NONE


def _exists(mark: Path) -> bool:
    try:
        return mark.exists()
    except OSError:
        return False


def _in_container(cgroup: Path) -> bool:
    try:
        with cgroup.open("rb") as file:
            text = file.read(_CGROUP_LIMIT).decode(errors="replace")
    except OSError:  # not Linux, or hidden from us
        return False
    return any(mark in text for mark in _CGROUP_MARKS)
