"""The list of check sums that many projects publish beside their files, as `sha256sum` writes it.

https://www.gnu.org/software/coreutils/manual/html_node/md5sum-invocation.html: `DIGEST  NAME`, with `*` before the name
in binary mode, or with `--tag` `SHA256 (NAME) = DIGEST`. The list of one file may hold its digest alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LARGEST = 1024 * 1024
_COMMON = ("sha256sum.txt", "sha256sums.txt", "sha256sums", "sha256.txt", "checksums.txt", "checksums.sha256")
_OF_ONE = (".sha256", ".sha256sum", ".sha256.txt")
_LINE = re.compile(r"([0-9a-fA-F]{64})(?:[ \t]+\*?(?:\./)?(.+))?")
_TAGGED = re.compile(r"SHA256 \((?:\./)?(.+)\) = ([0-9a-fA-F]{64})")


def list_for(name: str, published: Iterable[str]) -> str | None:
    """Which of the published names is the list with the digest of `name`, best first; None without one."""
    known = {one.lower(): one for one in published}
    wanted = (*(name.lower() + ending for ending in _OF_ONE), *_COMMON)
    return next((known[one] for one in wanted if one in known), None)


def digest_in(text: bytes, name: str) -> str | None:
    """The SHA-256 of `name` in lower-case hex; None when the list does not name it."""
    plain = text.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = [line.rstrip() for line in plain.split("\n") if line.strip()]
    for line in lines:
        usual, tagged = _LINE.fullmatch(line), _TAGGED.fullmatch(line)
        if tagged is not None and tagged[1] == name:
            return tagged[2].lower()
        if usual is not None and (usual[2] == name or (usual[2] is None and len(lines) == 1)):
            return usual[1].lower()
    return None
