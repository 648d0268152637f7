"""Mapping rules: which of a model's files belong in which folder of an app.

Rules are files of the user's, in both formats that older sidecars know, or what the app's description says as long as
there are none. A filter that is not understood would let more through than its author wanted, so its rule is left out
and said so; so is a file that cannot be read.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pumas.apps.description import AppDescription, MappingRule
from pumas.config import Layout
from pumas.errors import PumasError
from pumas.library.metadata import OWN_FILES
from pumas.library.store import Mappable
from pumas.storage import json_file
from pumas.storage.files import TEMP_SUFFIX
from pumas.storage.paths import display_name, relative_path

HERE = "."
DEFAULT = "default"
# The file that is written for the user to change; Windows allows no asterisk in a name.
ANY_VERSION = ("*", "any")

# What older sidecars mean by "every weight file".
WEIGHTS = ("*.safetensors", "*.gguf", "*.ggml", "*.ckpt", "*.pt", "*.pth", "*.bin", "*.onnx")
_FILTERS = {
    "model_type": "types",
    "model_types": "types",
    "subtype": "subtypes",
    "subtypes": "subtypes",
    "families": "families",
    "family": "families",
    "tags": "tags",
    "exclude_tags": "exclude_tags",
}
_UNFINISHED = (".part", ".tmp", TEMP_SUFFIX)


@dataclass(frozen=True)
class Rule:
    """`folder` is below the app's models folder, `.` that itself. An empty set does not restrict. `fold`: words are
    compared without case."""

    name: str
    folder: str
    patterns: tuple[str, ...] = ("*",)
    types: frozenset[str] = frozenset()
    subtypes: frozenset[str] = frozenset()
    families: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    exclude_tags: frozenset[str] = frozenset()
    priority: int = 0
    fold: bool = False

    @property
    def reads_tags(self) -> bool:
        return bool(self.tags or self.exclude_tags)

    @functools.cached_property
    def deep(self) -> bool:
        """Whether it looks below the model's own folder."""
        return any("/" in pattern for pattern in self.patterns)

    def wants_model(self, model: Mappable, tags: Iterable[str]) -> bool:
        word = str.casefold if self.fold else str
        for value, wanted in (
            (model.model_type, self.types),
            (model.subtype, self.subtypes),
            (model.family, self.families),
        ):
            if wanted and word(value) not in wanted:
                return False
        found = {word(tag) for tag in tags} if self.reads_tags else set[str]()
        return not (found & self.exclude_tags) and (not self.tags or bool(found & self.tags))

    @functools.cached_property
    def matches(self) -> Any:
        """Whether a file, by its path relative to the model, is meant: `regex.match`."""
        return re.compile("|".join(_regex(pattern) for pattern in self.patterns), re.IGNORECASE).match


@dataclass
class Rules:
    """In the order in which they are applied. `from_app`: nobody wrote any, these are the app's own."""

    rules: list[Rule] = field(default_factory=list[Rule])
    warnings: list[str] = field(default_factory=list[str])
    from_app: bool = False


def is_linkable(name: str) -> bool:
    """Whether a file of a model may ever be linked, by its name."""
    return not (name in OWN_FILES or name[0] == "." or name.endswith(_UNFINISHED))


def _regex(pattern: str) -> str:
    """A glob over a relative path: `*` and `?` stay inside one part, `**` is any number of parts."""
    *folders, name = (part for part in pattern.split("/") if part)
    ahead = "".join("(?:[^/]+/)*" if part == "**" else f"{_part(part)}/" for part in folders)
    return rf"(?:{ahead}{_part(name)})\Z"


def _part(pattern: str) -> str:
    pieces = re.split(r"(\*+|\?)", pattern)
    return "".join("[^/]*" if p.startswith("*") else "[^/]" if p == "?" else _bracketed(p) for p in pieces)


def _bracketed(text: str) -> str:
    """Literal text with character classes: what `fnmatch` makes of it, without its frame."""
    return re.sub(r"\)\\[Zz]$", "", fnmatch.translate(text).removeprefix("(?s:")) if "[" in text else re.escape(text)


# -- reading ---------------------------------------------------------------------------------------------------------


def load_rules(layout: Layout, app: AppDescription, version: str) -> Rules:
    """The rules for a version (a tag without leading v) of an app, lowest priority number first.

    Raises:
        DiskError: nobody can say whether the user wrote any.
    """
    files = [
        found
        for folder in (layout.mapping_rules, layout.older_mapping_rules)
        for path in json_file.json_files(folder)
        if (found := _RuleFile.of(path)) is not None and found.app == app.id
    ]
    if not files:
        return Rules(app_rules(app), from_app=True)
    result = Rules()
    for file in sorted((f for f in files if f.is_for(version)), key=lambda f: -f.specificity):
        _read(file.path, result)
    result.rules.sort(key=lambda rule: rule.priority)
    return result


@dataclass(frozen=True, slots=True)
class _RuleFile:
    """`<app>_<version>_<variant>.json`"""

    path: Path
    app: str
    version: str
    variant: str

    @classmethod
    def of(cls, path: Path) -> _RuleFile | None:
        parts = path.name.removesuffix(".json").split("_", 2)
        return cls(path, parts[0].lower(), parts[1].lstrip("vV"), parts[2]) if len(parts) == 3 else None

    def is_for(self, version: str) -> bool:
        return self.version in ANY_VERSION or self.version == version

    @property
    def specificity(self) -> int:
        return 100 * (self.version not in ANY_VERSION) + 10 * (self.variant != DEFAULT)


def _read(path: Path, into: Rules) -> None:
    name = display_name(path.name)
    try:
        listed: object = (json_file.load(path).value or {}).get("mappings")
    except PumasError as error:
        into.warnings.append(f"The rules in {name} are not used: {error}")
        return
    if not isinstance(listed, list):
        into.warnings.append(f"The rules in {name} are not used: it has no list named mappings.")
        return
    for number, value in enumerate(cast(list[object], listed), 1):
        try:
            rule = _rule(value)
        except (ValueError, PumasError) as error:
            into.warnings.append(f"Rule {number} of {name} is not used: {error}")
            continue
        if rule is not None:
            into.rules.append(rule)


def _rule(value: object) -> Rule | None:
    """None for one that is switched off. Raises ValueError or UnsafePath for one that cannot be used."""
    if not isinstance(value, dict):
        raise ValueError("it is no object")
    raw = cast(dict[str, Any], value)
    if raw.get("enabled", True) is False:
        return None
    if raw.get("method", "symlink") != "symlink":
        raise ValueError("only the method symlink is known")
    flat = "target_subdir" not in raw and "target_dir" in raw
    filters = {key: raw[key] for key in _FILTERS if key in raw} if flat else raw.get("filters") or {}
    if not isinstance(filters, dict):
        raise ValueError("its filters are no object")
    folder = raw.get("target_dir" if flat else "target_subdir")
    if not isinstance(folder, str):
        raise ValueError("it names no target folder")
    priority = raw.get("priority", 0)
    return Rule(
        name=str(raw.get("name") or folder),
        folder=_checked_folder(folder),
        patterns=WEIGHTS if flat else tuple(_patterns(raw.get("patterns"))),
        priority=priority if isinstance(priority, int) else 0,
        fold=flat,
        **_filter_sets(cast(dict[str, Any], filters), fold=flat),
    )


def _patterns(value: object) -> list[str]:
    patterns = [pattern for pattern in _words(value, "patterns") if pattern.strip("/")]
    if any(".." in pattern.split("/") or pattern.startswith("/") for pattern in patterns):
        raise ValueError("a pattern leads out of the model")
    return patterns or ["*"]


def _filter_sets(filters: dict[str, Any], *, fold: bool) -> dict[str, Any]:
    sets: dict[str, frozenset[str]] = {}
    for key, value in filters.items():
        if value is None or value == []:
            continue
        if key not in _FILTERS:
            raise ValueError(f"the filter {key[:60]} is not known")
        words = _words(value, key)
        sets[_FILTERS[key]] = frozenset(word.casefold() if fold else word for word in words)
    return sets


def _words(value: object, name: str) -> list[str]:
    """A text is a list of one."""
    values = cast(list[object], value) if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(item, str) for item in values):
        raise ValueError(f"{name[:60]} holds something that is no text")
    return cast(list[str], values)


def _checked_folder(text: str) -> str:
    folder = text.strip().strip("/")
    return HERE if folder in ("", HERE) else relative_path(folder, "target_subdir")


# -- the app's own ---------------------------------------------------------------------------------------------------


def app_rules(app: AppDescription) -> list[Rule]:
    """What the app's description says."""
    mappings = app.models.mappings if app.models else ()
    return sorted((_of_app(mapping) for mapping in mappings), key=lambda rule: rule.priority)


def _of_app(mapping: MappingRule) -> Rule:
    return Rule(
        mapping.name,
        mapping.target_subdir,
        mapping.patterns,
        frozenset(mapping.model_types),
        frozenset(mapping.subtypes),
        frozenset(mapping.families),
        frozenset(mapping.tags),
        frozenset(mapping.exclude_tags),
        mapping.priority,
    )


def write_default(layout: Layout, app: AppDescription, moment: str) -> None:
    """Write the app's own rules as a file that the user can change and older sidecars can read. Never over one.

    Raises:
        DiskError, NotEnoughSpace, ReadOnly: nothing was written.
    """
    import sys

    from pumas.storage.files import disk_errors, make_folders

    mappings = app.models.mappings if app.models else ()
    path = layout.mapping_rules / f"{app.id}_{ANY_VERSION[sys.platform == 'win32']}_{DEFAULT}.json"
    if not mappings or path.exists():
        return
    with disk_errors(f"Writing {path.name}"):
        make_folders(path.parent)
    value = {
        "app": app.id,
        "version": "*",
        "variant": DEFAULT,
        "description": f"Where {app.name} looks for models. Change it as you like; it is not written again.",
        "created_at": moment,
        "updated_at": moment,
        "mappings": [_as_file(mapping) for mapping in mappings],
    }
    json_file.save(path, value)


def _as_file(mapping: MappingRule) -> dict[str, Any]:
    filters: dict[str, Sequence[str]] = {
        "model_types": mapping.model_types,
        "subtypes": mapping.subtypes,
        "families": mapping.families,
        "tags": mapping.tags,
        "exclude_tags": mapping.exclude_tags,
    }
    return {
        "name": mapping.name,
        "method": "symlink",
        "target_subdir": mapping.target_subdir,
        "patterns": list(mapping.patterns),
        "filters": {key: list(values) for key, values in filters.items() if values},
        "enabled": True,
        "priority": mapping.priority,
    }
