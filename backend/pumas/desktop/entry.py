"""The text of a desktop entry, and what can be read from one again.

Rules: https://specifications.freedesktop.org/desktop-entry-spec/latest/ (values, exec-variables, recognized-keys). Pure
text; where files lie and whose they are is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pumas.errors import InvalidInput

ROOT_KEY = "X-Pumas-Root"
"""Whose entry it is: two launcher roots may have a version of the same name."""
_GROUP = "[Desktop Entry]"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Unquoted is what no rule of quoting speaks of; all else goes into double quotes.
_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")
_ESCAPES = {"s": " ", "n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
_IN_QUOTES = re.compile(r'(["`$\\])')


@dataclass(frozen=True, slots=True)
class Entry:
    """`command` is an argument vector; `icon` a name in the icon theme; `root` the launcher root."""

    name: str
    comment: str
    command: tuple[str, ...]
    icon: str
    root: str

    def text(self) -> str:
        """Raises InvalidInput: a value holds control characters, or the program's path a `=`."""
        if "=" in self.command[0]:
            raise InvalidInput("root", "a program whose path holds '=' cannot be started from a desktop entry")
        values = {
            "Type": "Application",
            "Version": "1.1",
            "Name": self.name,
            "Comment": self.comment,
            "Exec": exec_line(self.command),
            "Icon": self.icon,
            "Terminal": "false",
            "Categories": "Graphics;",
            "Keywords": "AI;diffusion;",
            ROOT_KEY: self.root,
        }
        lines = [f"{key}={escaped(value)}" for key, value in values.items()]
        return "\n".join([_GROUP, *lines, ""])


def exec_line(command: Sequence[str]) -> str:
    """The value of `Exec`, before the escapes that every value gets."""
    return " ".join(_argument(part) for part in command)


def _argument(text: str) -> str:
    text = text.replace("%", "%%")
    quoted = _IN_QUOTES.sub(r"\\\1", text)
    return text if _PLAIN.fullmatch(text) else f'"{quoted}"'


def escaped(value: str) -> str:
    """A value of type string. Raises InvalidInput: it would need a line of its own."""
    if _CONTROL.search(value) or any("\ud800" <= char <= "\udfff" for char in value):
        raise InvalidInput("root", "a path with control characters or bytes that are no text fits no desktop entry")
    value = value.replace("\\", "\\\\")
    return f"\\s{value[1:]}" if value.startswith(" ") else value


def value_of(text: str, key: str) -> str | None:
    """A key's value in the first group, escapes undone; None when there is none."""
    _, found, body = text.partition(_GROUP)
    for line in body.split("\n[", 1)[0].split("\n") if found else ():
        name, equals, value = line.partition("=")
        if equals and name.strip() == key:
            return re.sub(r"\\([sntr\\])", lambda match: _ESCAPES[match[1]], value.lstrip(" "))
    return None
