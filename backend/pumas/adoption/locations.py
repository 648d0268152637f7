"""Where programs keep their models on this machine, and of what kind a folder is that the user names.

Each program's own rules, in its own order: environment, settings file, default below the home folder. Settings files
are small and only read; one that cannot be read says nothing. What lies in a store is not known here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pumas.adoption.found import Look, StoreKind, is_text
from pumas.config import Layout
from pumas.storage.json_file import JsonObject

_MAX_LOCATIONS = 200


@dataclass(frozen=True, slots=True)
class Location:
    """`path` is absolute, its links resolved. `given`: the user named it, so that its absence is worth a word."""

    kind: StoreKind
    path: str
    given: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the rules look at. `system` is where the folders begin that belong to no user."""

    environment: Mapping[str, str]
    home: Path
    launcher: Layout
    system: Path = Path("/")

    @classmethod
    def real(cls, launcher: Layout) -> Surroundings:
        return cls(dict(os.environ), Path(os.path.expanduser("~")), launcher)

    def folder(self, variable: str) -> Path | None:
        """An environment variable that names a folder, `~` and `$NAME` expanded."""
        text = self.environment.get(variable, "").strip()
        if not text:
            return None
        for name, value in self.environment.items():
            text = text.replace(f"${{{name}}}", value)
        path = Path(text.replace("~", str(self.home), 1) if text.startswith("~") else text)
        return path if path.is_absolute() else None

    @property
    def cache(self) -> Path:
        """https://specifications.freedesktop.org/basedir-spec/latest/"""
        return self.folder("XDG_CACHE_HOME") or self.home / ".cache"


def known_locations(around: Surroundings) -> list[Location]:
    """The stores that exist where programs put them by themselves."""
    found: dict[str, Location] = {}
    for kind, rule in _RULES:
        for path in rule(around):
            location = _location(kind, path)
            if location is not None:
                found.setdefault(location.path, location)
    return list(found.values())[:_MAX_LOCATIONS]


def locations_in(folder: Path) -> list[Location]:
    """The stores in a folder that the user named: itself, or those that it is known to contain."""
    found = [
        location
        for kind, marks, inside in _FORMS
        if any(os.path.isdir(folder / mark) for mark in marks)
        for path in inside
        if (location := _location(kind, folder / path, given=True)) is not None
    ]
    if _kind_of_tree(folder / "hub") is StoreKind.HUGGINGFACE:
        found.append(Location(StoreKind.HUGGINGFACE, os.path.realpath(folder / "hub"), given=True))
    if found:
        return list({location.path: location for location in found}.values())
    return [Location(_kind_of_tree(folder), os.path.realpath(folder), given=True)]


def _location(kind: StoreKind, path: Path, *, given: bool = False) -> Location | None:
    try:
        real = os.path.realpath(path, strict=True)
    except (OSError, ValueError):
        return None
    return Location(kind, real, given) if os.path.isdir(real) and is_text(real) else None


# -- the rules of each program -----------------------------------------------------------------------------------------


def _huggingface(around: Surroundings) -> Iterator[Path]:
    """https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables"""
    home = around.folder("HF_HOME") or around.cache / "huggingface"
    yield around.folder("HF_HUB_CACHE") or around.folder("HUGGINGFACE_HUB_CACHE") or home / "hub"


def _ollama(around: Surroundings) -> Iterator[Path]:
    """https://github.com/ollama/ollama/blob/main/docs/faq.mdx ("Where are models stored?")"""
    named = around.folder("OLLAMA_MODELS")
    if named is not None:
        yield named
    yield around.home / ".ollama" / "models"
    yield around.system / "usr" / "share" / "ollama" / ".ollama" / "models"
    yield around.system / "var" / "lib" / "ollama"


def _lm_studio(around: Surroundings) -> Iterator[Path]:
    """https://lmstudio.ai/docs/app/basics/import-model; `downloadsFolder` in its settings names another folder."""
    homes = [around.home / ".lmstudio", around.cache / "lm-studio"]
    pointer = _line(around.home / ".lmstudio-home-pointer")
    if pointer:
        homes.insert(0, Path(pointer))
    for home in homes:
        named = _settings(home / "settings.json").get("downloadsFolder")
        if isinstance(named, str) and os.path.isabs(named):
            yield Path(named)
        yield home / "models"


def own_versions(launcher: Layout) -> Path:
    """Where the versions of ComfyUI lie that this launcher has: what they hold beside our links is a find, too."""
    return launcher.root / "comfyui-versions"


def _comfyui(around: Surroundings) -> Iterator[Path]:
    """Its checkout, the desktop app's folder (`basePath` in its settings), and the versions that this launcher has."""
    config = around.folder("XDG_CONFIG_HOME") or around.home / ".config"
    bases = [around.home / "ComfyUI", around.home / "Documents" / "ComfyUI", around.home / "comfy" / "ComfyUI"]
    for settings in (
        config / "ComfyUI" / "config.json",
        around.home / "Library" / "Application Support" / "ComfyUI" / "config.json",
        around.home / "AppData" / "Roaming" / "ComfyUI" / "config.json",
    ):
        named = _settings(settings).get("basePath")
        if isinstance(named, str) and os.path.isabs(named):
            bases.append(Path(named))
    bases += _folders(own_versions(around.launcher))[:_MAX_LOCATIONS]
    for base in bases:
        if os.path.isdir(base / "models"):
            yield base / "models"
            yield from extra_model_paths(base / "extra_model_paths.yaml")


def _webui(around: Surroundings) -> Iterator[Path]:
    for name in ("stable-diffusion-webui", "stable-diffusion-webui-forge", "sd-webui-forge-neo", "sd-webui-forge"):
        yield around.home / name / "models"
        yield around.home / name / "embeddings"


def _pumas(around: Surroundings) -> Iterator[Path]:
    """Those of `client/discovery.py`, on each system."""
    data = around.folder("XDG_DATA_HOME") or around.home / ".local" / "share"
    local = around.folder("LOCALAPPDATA") or around.home / "AppData" / "Local"
    defaults = [folder / "pumas" for folder in (data, around.home / "Library" / "Application Support", local)]
    own = os.path.realpath(around.launcher.root)
    for root in (around.folder("PUMAS_ROOT"), *defaults):
        if root is not None and os.path.realpath(root) != own:
            yield Layout(root).library


_RULES: Sequence[tuple[StoreKind, Callable[[Surroundings], Iterator[Path]]]] = (
    (StoreKind.HUGGINGFACE, _huggingface),
    (StoreKind.OLLAMA, _ollama),
    (StoreKind.LM_STUDIO, _lm_studio),
    (StoreKind.COMFYUI, _comfyui),
    (StoreKind.WEBUI, _webui),
    (StoreKind.PUMAS, _pumas),
)

# Kind, folders of which one must be there, and where the store is then. The first that fit are taken, all of them.
_FORMS: Sequence[tuple[StoreKind, tuple[str, ...], tuple[str, ...]]] = (
    (StoreKind.PUMAS, ("shared-resources/models",), ("shared-resources/models",)),
    (StoreKind.OLLAMA, ("manifests",), (".",)),
    (StoreKind.OLLAMA, ("models/manifests",), ("models",)),
    (StoreKind.OLLAMA, (".ollama/models/manifests",), (".ollama/models",)),
    (StoreKind.COMFYUI, ("models/checkpoints", "models/loras", "models/diffusion_models"), ("models",)),
    (StoreKind.WEBUI, ("models/Stable-diffusion", "models/Lora"), ("models", "embeddings")),
)


def _kind_of_tree(folder: Path) -> StoreKind:
    names = {path.name for path in _folders(folder)}
    if any(name.startswith("models--") for name in names):
        return StoreKind.HUGGINGFACE
    if {"checkpoints", "loras"} & names:
        return StoreKind.COMFYUI
    if {"Stable-diffusion", "Lora"} & names:
        return StoreKind.WEBUI
    return StoreKind.LM_STUDIO if folder.parent.name in (".lmstudio", "lm-studio") else StoreKind.FOLDER


def extra_model_paths(path: Path) -> Iterator[Path]:
    """The folders that a ComfyUI is told to look into besides its own.

    https://github.com/comfyanonymous/ComfyUI/blob/master/extra_model_paths.yaml.example: sections with an optional
    `base_path`, relative to the file, and for each kind of model one folder or several, one per line.
    """
    import yaml

    try:
        value: object = yaml.safe_load(Look().text(os.fspath(path)))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return
    sections = cast(dict[object, object], value).values() if isinstance(value, dict) else ()
    for section in list(sections)[:50]:
        fields = cast(dict[object, object], section) if isinstance(section, dict) else {}
        base: object = fields.get("base_path")
        top = path.parent / os.path.expanduser(base) if isinstance(base, str) else path.parent
        for key, text in list(fields.items())[:100]:
            if key in ("base_path", "is_default", "custom_nodes") or not isinstance(text, str):
                continue
            yield from (top / line.strip() for line in text.splitlines() if line.strip())


def _settings(path: Path) -> JsonObject:
    try:
        return Look().manifest(os.fspath(path))
    except (OSError, ValueError, RecursionError):
        return {}


def _line(path: Path) -> str:
    try:
        text = Look().text(os.fspath(path)).decode().strip()
    except (OSError, ValueError):
        return ""
    return text if os.path.isabs(text) else ""


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(e.path) for e in entries if os.path.isdir(e.path))
    except OSError:
        return []
