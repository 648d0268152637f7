"""Python environments and what is in them: made, resolved and filled by uv when it is there, else by pip.

Resolving reads metadata only: with `build` False nothing of a package is ever run. Blocks. Knows nothing of apps.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import re
import shutil
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson

from pumas.apps.command import child_environment, python_of
from pumas.errors import DependencyFailed, InstallFailed
from pumas.net.children import require_online, with_network
from pumas.storage.files import disk_errors
from pumas.versions.places import remove_tree
from pumas.versions.running import OnLine, Programs
from pumas.versions.scratch import scratch, scratch_folder

log = logging.getLogger(__name__)

UV_VARIABLE = "PUMAS_UV"
"""The path of uv; `off`: use pip."""
VENV_S = 120.0
RESOLVE_S = 600.0
INSTALL_S = 4 * 3600.0
_CAUSE = re.compile(r"(?i)error\b|×|╰─▶")
_DATED_PIP = 26
# Or the index that settings of the tools' own name.
_INDEX = "PyPI"
_RELOCATED_BYTES = 256 * 1024
_SITE = ("lib/python*/site-packages", "Lib/site-packages")


@dataclass(frozen=True, slots=True)
class Resolved:
    """One package of a resolution; `size` in bytes of the file that would be fetched, None when not told."""

    name: str
    version: str
    size: int | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What an environment shall hold. `before`: an ISO time; packages published later do not count."""

    requirements: Path | None
    extra: tuple[str, ...] = ()
    before: str = ""


def find_uv() -> str | None:
    chosen = os.environ.get(UV_VARIABLE, "")
    if chosen:
        return None if chosen == "off" else chosen
    beside = Path(sys.executable).with_name("uv.exe" if sys.platform == "win32" else "uv")
    return str(beside) if beside.is_file() else shutil.which("uv")


def _has_new_pip() -> bool:
    """Whether a pip lies beside us that can leave out what was published after a time (`--uploaded-prior-to`, 26.0)."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError, ValueError):
        return int(importlib.metadata.version("pip").partition(".")[0]) >= _DATED_PIP
    return False


class Packages:
    """`cache` is the folder for downloads that all versions share."""

    def __init__(self, cache: Path, programs: Programs, uv: str | None = None) -> None:
        self._cache = cache
        self._programs = programs
        self._uv = find_uv() if uv is None else uv
        self._own_pip = self._uv is None and _has_new_pip()

    @property
    def tool(self) -> str:
        return "uv" if self._uv else "pip"

    @property
    def resolves_by_itself(self) -> bool:
        """Whether `install` needs no constraints to come to what `resolve` says."""
        return self._uv is not None

    def make(self, venv: Path) -> None:
        """Make an empty environment; what was there goes.

        Raises:
            InstallFailed: stage `venv`.
        """
        remove_tree(venv)  # uv refuses to clear one that a kill left half made
        if self._uv:
            argv = [self._uv, "venv", "--quiet", "--no-project", "--clear", "--python", sys.executable, str(venv)]
        else:
            argv = [sys.executable, "-m", "venv", "--clear", *(["--without-pip"] if self._own_pip else []), str(venv)]
        status, tail = self._programs.run(argv, venv.parent, self._environment(), timeout_s=VENV_S)
        if status:
            raise InstallFailed("venv", f"The Python environment could not be made: {_last(tail)}")
        if not _names_its_python(venv):  # uv says nothing of a write that the disk refused
            raise InstallFailed("venv", "The Python environment could not be made: its pyvenv.cfg is not whole.")

    def resolve(self, wish: Wish, *, build: bool, python: Path | None = None) -> list[Resolved]:
        """Everything that would be installed, with exact versions. Raises as `resolve_dated`."""
        return self.resolve_dated(wish, build=build, python=python)[0]

    def resolve_dated(self, wish: Wish, *, build: bool, python: Path | None = None) -> tuple[list[Resolved], str]:
        """Everything that would be installed, with exact versions, and the `before` that could be kept.

        Raises:
            DependencyFailed: there is no way to satisfy it, or no metadata without building.
            Offline: what is at hand is not enough.
        """
        with scratch(self._cache, "resolve-") as place:
            sources = [wish.requirements] if wish.requirements else []
            if wish.extra:
                sources.append(place / "extra.in")
                sources[-1].write_text("\n".join([*wish.extra, ""]), encoding="utf-8")
            if not sources:
                return [], wish.before
            resolve = self._resolve_by_uv if self._uv else self._resolve_by_pip
            before = wish.before if self._uv or self._own_pip else ""
            try:
                return resolve(sources, place, build, python, before), before
            except DependencyFailed:
                if not before:
                    raise
                # An index that does not tell when files were published has nothing from before any time.
                return resolve(sources, place, build, python, ""), ""

    @property
    def why_undated(self) -> str:
        """Why packages that were published after a release could not be left out, when they were not."""
        if self._uv or self._own_pip:
            return "The package index does not tell when files were published; newer packages were not left out."
        return "This pip cannot leave out packages that are newer than the release; uv, or pip 26 beside us, could."

    def install(
        self, venv_parent: Path, wish: Wish, constraints: Path | None, on_line: OnLine, on_look: Callable[[], None]
    ) -> None:
        """Fill the environment in `venv_parent/venv`.

        Raises:
            DependencyFailed: with the last words of the tool.
            Offline: what is at hand is not enough.
        """
        python = python_of(venv_parent)
        if self._uv:
            argv = [self._uv, "pip", "install", "--python", str(python), *_bundled_pip()]
            argv += ["--exclude-newer", wish.before] if wish.before else []
        else:
            argv = [*self._pip(python), "install", "--no-input", "--progress-bar", "off"]
            argv += _bundled_pip() if self._own_pip else []
        argv += ["-r", str(wish.requirements)] if wish.requirements else []
        argv += ["-c", str(constraints)] if constraints else []
        argv += wish.extra
        status, tail = self._programs.run(
            argv, venv_parent, self._environment(), timeout_s=INSTALL_S, on_line=on_line, on_look=on_look
        )
        if status:
            require_online(_INDEX)
            raise DependencyFailed("dependencies", f"The dependencies could not be installed: {_last(tail)}")

    def _resolve_by_uv(
        self, sources: Sequence[Path], place: Path, build: bool, _python: Path | None, before: str
    ) -> list[Resolved]:
        assert self._uv
        out = place / "pylock.toml"
        argv = [self._uv, "pip", "compile", "--quiet", "--no-header", "--format", "pylock.toml", *map(str, sources)]
        argv += ["--output-file", str(out), "--python", sys.executable]
        argv += [] if build else ["--no-build"]
        argv += ["--exclude-newer", before] if before else []
        return self._resolved(argv, out, _locked)

    def _resolve_by_pip(
        self, sources: Sequence[Path], place: Path, build: bool, python: Path | None, before: str
    ) -> list[Resolved]:
        out = place / "report.json"
        argv = [*self._pip(python), "install", "--quiet", "--dry-run", "--ignore-installed", "--no-input"]
        argv += ["--report", str(out), *(word for source in sources for word in ("-r", str(source)))]
        argv += [] if build else ["--only-binary", ":all:"]
        argv += ["--uploaded-prior-to", before] if before else []
        return self._resolved(argv, out, _reported)

    def _resolved(self, argv: Sequence[str], out: Path, read: Callable[[bytes], list[Resolved]]) -> list[Resolved]:
        status, tail = self._programs.run(argv, out.parent, self._environment(), timeout_s=RESOLVE_S)
        if status:
            require_online(_INDEX)
            raise DependencyFailed("dependencies", f"The dependencies cannot be resolved: {_last(tail)}")
        try:
            return read(out.read_bytes())
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("the answer of %s is not understood", self.tool, exc_info=error)
            raise DependencyFailed("dependencies", f"What {self.tool} resolved cannot be read: {_last(tail)}") from None

    def _pip(self, python: Path | None) -> list[str]:
        """The pip beside us, when it is new enough, works on any environment; else that of the environment."""
        if self._own_pip:
            return [sys.executable, "-m", "pip", *(["--python", str(python)] if python else [])]
        return [str(python or sys.executable), "-m", "pip"]

    def _environment(self) -> dict[str, str]:
        ours = {"PIP_CACHE_DIR": str(self._cache / "pip"), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "NO_COLOR": "1"}
        uv = {"UV_NO_PROGRESS": "1"} | (
            {} if os.environ.get("UV_CACHE_DIR") else {"UV_CACHE_DIR": str(self._cache / "uv")}
        )
        temporary = {} if os.environ.get("TMPDIR") else {"TMPDIR": str(scratch_folder(self._cache))}
        return with_network(child_environment({"PYTHONUNBUFFERED": "1"} | ours | uv | temporary))


def _names_its_python(venv: Path) -> bool:
    with contextlib.suppress(OSError):
        return re.search(rb"(?m)^home\s*=", (venv / "pyvenv.cfg").read_bytes()) is not None
    return False


def relocate(venv: Path, new_parent: Path) -> None:
    """Make the scripts of an environment name the place to which its parent folder will be moved.

    Interpreters find their environment by themselves; the scripts that pip and uv write name it in their first lines.
    """
    old, new = str(venv).encode(), str(new_parent / venv.name).encode()
    with disk_errors("Preparing the Python environment"):
        for folder in filter(os.path.isdir, (venv, venv / "bin", venv / "Scripts")):
            with os.scandir(folder) as entries:
                scripts = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
            for path in (Path(entry) for entry in scripts if entry.stat().st_size <= _RELOCATED_BYTES):
                data = path.read_bytes()
                if old in data and b"\0" not in data[:512]:
                    path.write_bytes(data.replace(old, new))


def distributions(venv: Path) -> dict[str, str]:
    """Normalised name -> version of what is installed, read from the names of metadata folders."""
    found: dict[str, str] = {}
    for folder in (path for pattern in _SITE for path in venv.glob(pattern)):
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith((".dist-info", ".egg-info")):
                    name, _, version = entry.name.rpartition(".")[0].partition("-")
                    found[normalised(name)] = version.split("-", 1)[0]
    return found


def installed(venv: Path) -> list[Resolved]:
    """What an environment holds for its app, by name; the pip that came along is not of it."""
    found: list[Resolved] = []
    for folder in (path for pattern in _SITE for path in venv.glob(f"{pattern}/*.dist-info")):
        name, _, version = folder.name.removesuffix(".dist-info").partition("-")
        url = _origin(folder)
        if not (name == "pip" and url and url.startswith("file:")):
            found.append(Resolved(normalised(name), version, None, url))
    return sorted(found, key=lambda one: one.name)


def _origin(metadata: Path) -> str | None:
    """The address that was asked for by itself: https://packaging.python.org/en/latest/specifications/direct-url/"""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(orjson.loads((metadata / "direct_url.json").read_bytes())["url"])
    return None


def normalised(name: str) -> str:
    """https://packaging.python.org/en/latest/specifications/name-normalization/"""
    return re.sub(r"[-_.]+", "-", name).lower()


class Arrivals:
    """Tells of each distribution that appears in an environment, looked for now and then."""

    def __init__(self, venv: Path, told: Callable[[str], None], every_s: float = 0.25) -> None:
        self._venv, self._told, self._every_s = venv, told, every_s
        self._seen = set(distributions(venv))
        self._looked = time.monotonic()

    def look(self, *, at_once: bool = False) -> None:
        if at_once or time.monotonic() - self._looked > self._every_s:
            self._looked = time.monotonic()
            for name in sorted(set(distributions(self._venv)) - self._seen):
                self._seen.add(name)
                self._told(name)


def _bundled_pip() -> Sequence[str]:
    """The pip that comes with Python, for apps that call it: needs no index."""
    import ensurepip

    wheels = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    return [str(wheels[-1])] if wheels else ["pip"]


def _locked(data: bytes) -> list[Resolved]:
    """https://packaging.python.org/en/latest/specifications/pylock-toml/"""
    found: list[Resolved] = []
    for package in cast("list[dict[str, Any]]", tomllib.loads(data.decode()).get("packages", [])):
        first = _fitting(package.get("wheels", [])) or package.get("sdist") or package.get("archive") or {}
        size = first.get("size")
        found.append(
            Resolved(
                normalised(str(package["name"])),
                str(package.get("version", "")),
                size if isinstance(size, int) else None,
                first.get("url"),
            )
        )
    return found


def _fitting(wheels: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The wheel that an installer would take here."""
    from packaging.tags import sys_tags
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    ranks = {tag: rank for rank, tag in enumerate(sys_tags())}
    best: tuple[int, dict[str, Any]] | None = None
    for wheel in wheels:
        name = str(wheel.get("name") or str(wheel.get("url", "")).rsplit("/", 1)[-1])
        try:
            tags = parse_wheel_filename(name)[3]
        except InvalidWheelFilename:
            continue
        rank = min((ranks[tag] for tag in tags if tag in ranks), default=None)
        if rank is not None and (best is None or rank < best[0]):
            best = rank, wheel
    return best[1] if best else None


def _reported(data: bytes) -> list[Resolved]:
    """https://pip.pypa.io/en/stable/reference/installation-report/"""
    return [
        Resolved(normalised(one["metadata"]["name"]), one["metadata"]["version"], None, one["download_info"]["url"])
        for one in orjson.loads(data)["install"]
    ]


def _last(tail: Sequence[str]) -> str:
    """The words that say why, as far as the tool's last lines do."""
    said = [line.strip() for line in tail if line.strip()]
    first = next((at for at, line in enumerate(said) if _CAUSE.match(line)), max(0, len(said) - 4))
    return " ".join(said[first : first + 6])[:800] or "it said nothing"
