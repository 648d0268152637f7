"""The one place where text from a caller, a hub or a file becomes a path below a root.

Nothing else joins a root and foreign text. The rules are those of the strictest supported system, so that a library
made on Linux can be copied to Windows or macOS (https://learn.microsoft.com/windows/win32/fileio/naming-a-file).
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from pumas.errors import FileUnavailable, InvalidInput, UnsafePath

MAX_NAME_BYTES = 255
MAX_RELATIVE_BYTES = 1024
MAX_ABSOLUTE_BYTES = 4096

_RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?$")
# Nearly all names are so plain that one look tells that no rule below can mind them.
_PLAIN = re.compile(r"[A-Za-z0-9_-]{5}(?:[A-Za-z0-9._-]{0,90}[A-Za-z0-9_-])?")
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')
_SLUG_DROPPED = re.compile(r"[^\w.+-]+")


def _check_part(field: str, part: str) -> None:
    if _PLAIN.fullmatch(part):
        return
    if part in ("", ".", ".."):
        raise UnsafePath(field, "must be made of plain folder names, without empty parts, '.' or '..'")
    if _FORBIDDEN.search(part):
        raise UnsafePath(field, 'must not hold control characters, backslashes or any of <>:"|?*')
    if not part.isascii() and any(unicodedata.category(c) in ("Cs", "Cc") for c in part):
        raise UnsafePath(field, "must be well-formed text")
    if part.endswith((".", " ")) or part.startswith(" "):
        raise UnsafePath(field, "must not have parts that end with a dot or space or start with a space")
    if _RESERVED.match(part):
        raise UnsafePath(field, "must not use a name that Windows reserves for devices")
    if len(os.fsencode(part)) > MAX_NAME_BYTES:
        raise UnsafePath(field, f"must not have a part longer than {MAX_NAME_BYTES} bytes")


def relative_path(text: str, field: str = "path") -> str:
    """Check that `text` is a plain relative path ('a/b/c') and return it unchanged.

    Raises:
        UnsafePath: empty, absolute, with a drive or UNC prefix, '..', backslashes, control characters, reserved names.
    """
    try:
        length = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise UnsafePath(field, "must be well-formed text") from None
    if not text:
        raise UnsafePath(field, "must not be empty")
    if length > MAX_RELATIVE_BYTES:
        raise UnsafePath(field, f"must not be longer than {MAX_RELATIVE_BYTES} bytes")
    if text.startswith("/"):
        raise UnsafePath(field, "must be relative to its folder, not absolute")
    for part in text.split("/"):
        _check_part(field, part)
    return text


def contained(root: Path, text: str, field: str = "path") -> Path:
    """Turn (root, foreign text) into a path that stays below root, links followed.

    Components are compared after resolving, never string prefixes, so that a sibling `models-old` does not pass for
    `models`. The path need not exist.

    Raises:
        UnsafePath: see `relative_path`, or a symbolic link leads out of the root.
    """
    path = root / relative_path(text, field)
    real_root = Path(os.path.realpath(root))
    try:
        real = Path(os.path.realpath(path))
    except (OSError, ValueError):
        raise UnsafePath(field, "cannot be resolved") from None
    if real == real_root or not real.is_relative_to(real_root):
        raise UnsafePath(field, "leads out of the folder it belongs to")
    return path


class Below:
    """What `contained` gives, for many new paths below a root in which nobody makes links meanwhile: each folder is
    looked at once, and the last part of a path not at all."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[str, Path] = {"": root}

    def path(self, text: str, field: str = "path") -> Path:
        """Raises as `contained`."""
        folder, _, name = relative_path(text, field).rpartition("/")
        known = self._folders.get(folder)
        if known is None:
            known = self._folders[folder] = contained(self._root, folder, field)
        return known / name


def caller_path(text: str, field: str = "path") -> Path:
    """Check an absolute path that the user names on their own disk (a file to import or to look at).

    It may lie anywhere; what is done with it decides what it may be. `~` is expanded.

    Raises:
        UnsafePath: empty, relative, with NUL bytes, too long, or not well-formed.
    """
    try:
        # Names on disk that are not UTF-8 travel as surrogate escapes inside this process but never on the wire.
        length = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise UnsafePath(field, "must be well-formed text") from None
    if not text.strip():
        raise UnsafePath(field, "must not be empty")
    if "\0" in text:
        raise UnsafePath(field, "must not hold NUL bytes")
    if length > MAX_ABSOLUTE_BYTES:
        raise UnsafePath(field, f"must not be longer than {MAX_ABSOLUTE_BYTES} bytes")
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise UnsafePath(field, "names a home folder that does not exist") from None
    if not path.is_absolute():
        raise UnsafePath(field, "must be an absolute path")
    return path


def path_below(root: Path, text: str, *others: Path) -> Path:
    """What a caller means: an absolute path, `~`, or a path below the root, links followed.

    `others` are folders that may lie elsewhere: a library on another drive, for example.

    Raises:
        InvalidInput, UnsafePath: it is no path, or does not lie in the launcher root or in one of the others.
        FileUnavailable: nothing is there.
    """
    if "\0" in text:
        raise InvalidInput("path", "must not hold NUL")
    allowed = [Path(os.path.realpath(folder)) for folder in (root, *others)]
    try:
        real = Path(os.path.realpath(root / Path(text).expanduser()))
    except (OSError, ValueError, RuntimeError):
        raise InvalidInput("path", "cannot be resolved") from None
    if not any(real.is_relative_to(folder) for folder in allowed):
        raise UnsafePath("path", "must lie in the launcher's own folder")
    if not os.path.exists(real):
        raise FileUnavailable(text[:200], "there is nothing of that name")
    return real


def slug(text: str, fallback: str) -> str:
    """Make one folder or file name out of free text: letters, digits, `_ - . +`; never empty, reserved or hidden.

    Letters of all scripts are kept (NFC); spaces become `-`; at most 128 bytes of UTF-8.
    """
    normal = unicodedata.normalize("NFC", text.encode("utf-8", "ignore").decode())
    name = _SLUG_DROPPED.sub("-", normal.strip()).strip("-. _")
    name = re.sub(r"-{2,}", "-", name)
    name = name.encode("utf-8")[:128].decode("utf-8", "ignore").rstrip("-. _")
    if not name:
        return fallback
    return _RESERVED.sub(r"\1_\2", name)


def display_name(raw: str) -> str:
    """A name from disk as well-formed text: bytes that are not UTF-8 and control characters are shown escaped."""
    text = os.fsencode(raw).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
