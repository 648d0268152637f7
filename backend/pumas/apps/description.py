"""What differs between apps, as plain values read from one JSON file per app.

Everything that installs, launches, links or watches an app asks these values; no code names an app. Files come from
`contracts/apps/` and from the user's own `launcher-data/apps/` (see `catalog.py`). Nothing here touches a version's
folder; `command.py` turns the templates into a command.
"""

from __future__ import annotations

import functools
import platform
import re
import string
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal, cast

from pumas.errors import CorruptState, InvalidInput
from pumas.storage.paths import relative_path

PLACEHOLDERS = frozenset({"python", "program", "folder", "host", "port", "models", "shared"})
_ID = re.compile(r"[a-z][a-z0-9-]{0,40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_STRICT: Any = {"extra": "forbid", "strict": True}

_SYSTEMS = {"linux": "linux", "darwin": "macos", "win32": "windows"}
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


def this_platform() -> str:
    """Such as `linux-x86_64`: the key of `Package.assets`."""
    machine = platform.machine().lower()
    return f"{_SYSTEMS.get(sys.platform, sys.platform)}-{_MACHINES.get(machine, machine)}"


def _check_template(text: str) -> None:
    for _literal, name, spec, conversion in string.Formatter().parse(text):
        if name is not None and (name not in PLACEHOLDERS or spec or conversion):
            raise ValueError(f"unknown placeholder {{{name}}}; known are {', '.join(sorted(PLACEHOLDERS))}")


@dataclass(frozen=True, slots=True)
class Files:
    """Names of an app's state files, as older sidecars have them; empty ones follow from the app's id.

    `versions` in `launcher-data/metadata`, `active` in the root, `progress` and `releases` (the first is written, all
    are read) in `launcher-data/cache`, `pid` in a version's folder.
    """

    versions: str = ""
    active: str = ""
    progress: str = ""
    releases: tuple[str, ...] = ()
    pid: str = ""

    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        for name in (self.versions, self.active, self.progress, self.pid, *self.releases):
            if name:
                relative_path(name, "files")


@dataclass(frozen=True, slots=True)
class Releases:
    """Where releases are listed: a GitHub repository, and the tags that count (`version` is PEP 440 or a number).

    `newest_per` `minor` offers only the highest of each major.minor, `release` all. At most `pages` of 100 are read.
    """

    repository: str
    tag: str = r"v?(?P<version>\d.*)"
    newest_per: Literal["minor", "release"] = "release"
    pages: int = 10

    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        if not _REPOSITORY.fullmatch(self.repository):
            raise ValueError("repository must be owner/name")
        try:
            groups = re.compile(self.tag).groupindex
        except re.error:
            raise ValueError("tag must be a regular expression") from None
        if "version" not in groups:
            raise ValueError("tag must have a group named version")

    def version_text(self, tag: str) -> str | None:
        """The version inside a tag; None when the tag is none of an app's release."""
        found = re.fullmatch(self.tag, tag, re.IGNORECASE)
        return found["version"] if found else None


@dataclass(frozen=True, slots=True)
class Package:
    """What a release brings. `source`: the archive of the repository. `bundle`: the asset for this machine.

    `assets` maps `this_platform()` to shell patterns of asset names, best first. `programs` are the places where the
    program may lie in the version's folder. `complete` names what must be there; `a|b` means either.
    """

    kind: Literal["source", "bundle"]
    complete: tuple[str, ...]
    assets: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    programs: tuple[str, ...] = ()

    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        for choice in (*self.complete, *self.programs):
            for name in choice.split("|"):
                relative_path(name, "package")
        if not self.complete:
            raise ValueError("complete must name at least one file")
        if self.kind == "bundle" and not (self.assets and self.programs):
            raise ValueError("a bundle needs assets and programs")

    def choose(self, names: list[str], place: str | None = None) -> str | None:
        """The asset for a machine, by default this one; None when the release has none for it."""
        for pattern in self.assets.get(place or this_platform(), ()):
            for name in names:
                if fnmatchcase(name, pattern):
                    return name
        return None


@dataclass(frozen=True, slots=True)
class Python:
    """A virtual environment in `venv`, with what the requirements file and `extra` name.

    What the file lists below a comment that begins with `optional_after` may be missing.
    """

    requirements: str = "requirements.txt"
    extra: tuple[str, ...] = ()
    optional_after: str = ""

    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        relative_path(self.requirements, "python")


@dataclass(frozen=True, slots=True)
class SetupLink:
    """A relative symbolic link `name` in the version's folder. `make`: a missing target folder is made; otherwise a
    link without a target is left out."""

    name: str
    target: str
    make: bool = False

    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        relative_path(self.name, "links")
        _check_template(self.target)


@dataclass(frozen=True, slots=True)
class Ready:
    """How a running app shows that it is there: GET `path` answers 200, and where `field` is given, with a JSON object
    that has it (`a.b` goes inside), `equals` that."""

    path: str = "/"
    field: str = ""
    equals: str = ""
    header: str = ""
    timeout_s: float = 60.0

    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise ValueError("ready.path must begin with /")

    def accepts(self, status: int, headers: Mapping[str, str], body: object) -> bool:
        """Whether such an answer (`body`: its JSON, None when it is none) shows that the app is ready."""
        if status != 200 or (self.header and self.header not in headers):
            return False
        for name in filter(None, self.field.split(".")):
            if not isinstance(body, dict) or name not in body:
                return False
            body = cast(dict[str, object], body)[name]
        return not self.equals or body == self.equals


@dataclass(frozen=True, slots=True)
class Launch:
    """How it is started, in the version's folder, with placeholders of `PLACEHOLDERS`; `port` is what it uses by
    itself, `page` where its page is, "" when it has none for people. `smoke_command` is for a short try after an
    install."""

    command: tuple[str, ...]
    port: int
    smoke_command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict[str, str])
    page: str = "/"
    ready: Ready = field(default_factory=Ready)

    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        if not self.command or not 1 <= self.port <= 65535:
            raise ValueError("launch needs a command and a port")
        for text in (*self.command, *self.smoke_command, *self.environment.values()):
            _check_template(text)


@dataclass(frozen=True, slots=True)
class Processes:
    """What the app's processes look like, for telling whether one that we did not start runs: a command line (lower
    case) that holds all words of one of the lists. Never a reason to end a process."""

    contains: tuple[tuple[str, ...], ...] = ()

    __pydantic_config__: ClassVar[Any] = _STRICT

    def looks_like(self, command_line: str) -> bool:
        text = command_line.lower()
        return any(words and all(word in text for word in words) for words in self.contains)


@dataclass(frozen=True, slots=True)
class MappingRule:
    """Which models go to which folder below the app's models (`.`: itself). Empty lists do not restrict."""

    name: str
    target_subdir: str
    patterns: tuple[str, ...] = ("*",)
    model_types: tuple[str, ...] = ()
    subtypes: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    exclude_tags: tuple[str, ...] = ()
    priority: int = 0

    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        if self.target_subdir != ".":
            relative_path(self.target_subdir, "target_subdir")


@dataclass(frozen=True, slots=True)
class Models:
    """The folder of a version that takes models, and the rules that hold until the user writes others."""

    folder: str
    mappings: tuple[MappingRule, ...] = ()

    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        relative_path(self.folder, "models")


@dataclass(frozen=True, slots=True)
class AppDescription:
    """One app. `folder` holds its versions, below the launcher root; `python`, `models` and `custom_nodes` (a folder of
    git clones in the version's folder) are None for apps that have none."""

    id: str
    name: str
    folder: str
    releases: Releases
    package: Package
    launch: Launch
    description: str = ""
    homepage: str = ""
    files: Files = field(default_factory=Files)
    python: Python | None = None
    links: tuple[SetupLink, ...] = ()
    processes: Processes = field(default_factory=Processes)
    models: Models | None = None
    custom_nodes: str | None = None

    __pydantic_config__: ClassVar[Any] = _STRICT

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise ValueError("id must be made of a-z, 0-9 and -")
        for name in (self.folder, self.custom_nodes or self.folder):
            relative_path(name, "folder")

    @property
    def versions_file(self) -> str:
        return self.files.versions or f"versions-{self.id}.json"

    @property
    def active_file(self) -> str:
        return self.files.active or f".active-version-{self.id}"

    @property
    def progress_file(self) -> str:
        return self.files.progress or f"installation-state-{self.id}.json"

    @property
    def release_caches(self) -> tuple[str, ...]:
        return self.files.releases or (f"github-releases-{self.releases.repository.replace('/', '-')}.json",)

    @property
    def pid_file(self) -> str:
        return self.files.pid or f"{self.id}.pid"


@functools.cache
def _reader() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(AppDescription)


def read(name: str, data: bytes) -> AppDescription:
    """Read a description strictly: no unknown keys, no odd types.

    Raises:
        CorruptState: `name` cannot be used, and why.
    """
    from pydantic import ValidationError

    try:
        return _reader().validate_json(data)
    except InvalidInput as error:
        raise CorruptState(name, str(error)) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"][:6])
        said = first["msg"].removeprefix("Value error, ")
        raise CorruptState(name, (f"{place}: {said}" if place else said)[:300]) from None
