"""Which parts of its installation the sidecar has: Python packages it imports, programs it can use.

`service.py` asks from time to time. Nothing is imported and no program is started to find out. What an installed app
(ComfyUI, say) needs is not known here; the `versions` domain looks into those.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

REQUIRED: dict[str, str] = {
    "aiohttp": "aiohttp",
    "blake3": "blake3",
    "cachetools": "cachetools",
    "filelock": "filelock",
    "httpx2": "httpx2",
    "huggingface-hub": "huggingface_hub",
    "jsonrpcserver": "jsonrpcserver",
    "multidict": "multidict",
    "nvidia-ml-py": "pynvml",
    "orjson": "orjson",
    "packaging": "packaging",
    "picklescan": "picklescan",
    "pip": "pip",
    "psutil": "psutil",
    "pydantic": "pydantic",
    "pyyaml": "yaml",
    "requests": "requests",
    "tenacity": "tenacity",
    "urllib3": "urllib3",
    "zlib-ng": "zlib_ng",
    "zstandard": "zstandard",
}
"""Distributions that the sidecar imports, now or at the first use of a feature, and the module that shows that each is
there. `git` is not among them: only custom nodes use it and say so. A browser and `setproctitle` are conveniences."""


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What was found. `missing` holds names that an installer understands, sorted."""

    git: bool
    brave: bool
    setproctitle: bool
    missing: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Whether every feature of the sidecar can work."""
        return not self.missing


def look() -> Dependencies:
    """All of it; blocks for some milliseconds."""
    return Dependencies(check_git(), check_brave(), check_setproctitle(), missing_dependencies())


def check_git(path: str | None = None) -> bool:
    """Whether `git` is a program on `path`, by default the PATH of this process."""
    return shutil.which("git", path=path) is not None


def check_brave(path: str | None = None) -> bool:
    """Whether the Brave browser is on `path`, by default the PATH of this process."""
    return shutil.which("brave-browser", path=path) is not None


def check_setproctitle() -> bool:
    """Whether a process could give itself a name of its own."""
    return importable("setproctitle")


def missing_dependencies(
    required: Mapping[str, str] = REQUIRED, present: Callable[[str], bool] | None = None
) -> tuple[str, ...]:
    """The distributions of `required` whose module is not there, sorted; `present` stands in for `importable`."""
    has = present or importable
    return tuple(sorted(name for name, module in required.items() if not has(module)))


def importable(module: str) -> bool:
    """Whether a top-level module could be imported, without importing it."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # a module that is half there
        return False
