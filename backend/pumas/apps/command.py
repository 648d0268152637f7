"""From a description and a version's folder to a command that can be started. Starts nothing itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pumas.apps.description import AppDescription
from pumas.errors import FileUnavailable

VENV = "venv"
# Nothing that an app starts may speak for us or for the user elsewhere.
_SECRETS = frozenset({"PUMAS_RPC_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN", "GITHUB_TOKEN"})
# What would make another Python run inside the app's environment.
_OURS = frozenset({"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__"})


@dataclass(frozen=True, slots=True)
class Command:
    """`argv` begins with an absolute path; `environment` is the whole one."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    folder: Path


def python_of(folder: Path) -> Path:
    """The interpreter of a version's own environment, whether it is there or not."""
    return folder / VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def program_of(app: AppDescription, folder: Path) -> Path:
    """
    Raises:
        FileUnavailable: the version does not have it.
    """
    suffixes = ("", ".exe") if sys.platform == "win32" else ("",)
    for name in app.package.programs:
        for suffix in suffixes:
            if (program := folder / f"{name}{suffix}").is_file():
                return program
    raise FileUnavailable(app.name, "the program is not in the version's folder; install it again")


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without our token and without the user's, plus `extra`."""
    kept = {name: value for name, value in os.environ.items() if name not in _SECRETS | _OURS}
    return kept | dict(extra or {})


def models_of(app: AppDescription, folder: Path) -> Path:
    return folder / (app.models.folder if app.models else "models")


def shared_of(root: Path) -> Path:
    return root / "shared-resources"


def fill(template: str, values: Mapping[str, str]) -> str:
    return template.format_map(values)


def command_of(
    app: AppDescription,
    folder: Path,
    root: Path,
    port: int,
    *,
    host: str = "127.0.0.1",
    extra_args: tuple[str, ...] = (),
    smoke: bool = False,
) -> Command:
    """How to start a version.

    Args:
        folder: the version's, absolute.
        root: the launcher root.
        smoke: for a short try after an install.

    Raises:
        FileUnavailable: the program or the interpreter is missing.
    """
    python = python_of(folder)
    template = (smoke and app.launch.smoke_command) or app.launch.command
    text = " ".join((*template, *app.launch.environment.values()))
    if "{python}" in text and not python.exists():
        raise FileUnavailable(app.name, "the version has no Python environment; install its dependencies")
    values = {
        "python": str(python),
        "program": str(program_of(app, folder)) if "{program}" in text else "",
        "folder": str(folder),
        "host": host,
        "port": str(port),
        "models": str(models_of(app, folder)),
        "shared": str(shared_of(root)),
    }
    environment = {name: fill(value, values) for name, value in app.launch.environment.items()}
    argv = (*(fill(part, values) for part in template), *extra_args)
    return Command(argv, child_environment(environment), folder)


def is_complete(app: AppDescription, folder: Path) -> bool:
    """Whether all that a version needs is there. Looks at names alone."""
    return not missing_of(app, folder)


def missing_of(app: AppDescription, folder: Path) -> list[str]:
    """What a version needs and does not have."""
    return [
        choice for choice in app.package.complete if not any((folder / name).exists() for name in choice.split("|"))
    ]
