"""Reads a requirements file as far as we need it: which packages it names, and which of them may be missing.

https://pip.pypa.io/en/stable/reference/requirements-file-format/. What pip or uv make of it is theirs to say; this only
counts and compares.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_COMMENT = re.compile(r"(^|\s)#.*$")
_CONTINUED = re.compile(r"\\\r?\n")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Wanted:
    """One line. `name` is normalised (PEP 503); `spec` as written; `optional`: below the mark in the file."""

    name: str
    spec: str
    optional: bool
    requirement: Requirement | None

    def applies(self) -> bool:
        """Whether its environment marker holds on this machine."""
        marker = self.requirement.marker if self.requirement else None
        return marker is None or marker.evaluate()

    def fits(self, version: str) -> bool:
        if self.requirement is None or self.requirement.url:
            return True
        return self.requirement.specifier.contains(version, prereleases=True)


def parse(text: str, optional_after: str = "") -> list[Wanted]:
    """The packages that a requirements file names. Options and what is no requirement are left out."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    found: list[Wanted] = []
    optional = False
    mark = _squeezed(optional_after)
    for raw in _CONTINUED.sub(" ", text.removeprefix("\ufeff")).splitlines():
        if mark and _squeezed(raw).startswith(mark):
            optional = True
        line = _COMMENT.sub("", raw).strip()
        if not line or line.startswith("-"):
            continue
        line = line.split(" --", 1)[0].strip()
        try:
            requirement = Requirement(line)
            found.append(Wanted(canonicalize_name(requirement.name), str(requirement.specifier), optional, requirement))
        except InvalidRequirement:
            name = _NAME.match(line)
            if name and "/" not in line and ":" not in line:
                found.append(Wanted(canonicalize_name(name[0]), "", optional, None))
    return found


def digest(text: str | bytes) -> str:
    """`sha256:` and hex, as older sidecars write it."""
    return f"sha256:{hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()}"


def _squeezed(text: str) -> str:
    return re.sub(r"[\s-]+", "", text).lower()
