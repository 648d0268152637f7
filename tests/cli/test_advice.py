"""What the sidecar advises, in words of the command line: whatever the contract's examples say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from pumas.cli import advice
from pumas.cli.advice import typed
from pumas.cli.tree import tree
from pumas.config import contracts_folder

METHODS = [method["name"] for method in json.loads((contracts_folder() / "openrpc.json").read_bytes())["methods"]]
"""Of one word, such as `search`, a sentence may hold without naming the method; what was called too often is named."""
NAMED = re.compile(rf"(?<!pumas call )(?<!calls of )\b(?:{'|'.join(name for name in METHODS if '_' in name)})\b")


def said(value: Any) -> Iterator[str]:
    """The failures in a reply."""
    if isinstance(value, dict):
        yield from (text for key, text in value.items() if key in ("error", "message") and isinstance(text, str))
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from said(inner)


def test_no_failure_sends_a_person_to_a_method() -> None:
    paths = sorted((contracts_folder() / "examples").rglob("*.json"))
    texts = {text for path in paths for text in said(json.loads(path.read_bytes()))}
    assert sum(typed(text) != text for text in texts) > 10, "there are such texts"
    assert [
        text for text in map(typed, texts) if NAMED.search(text) or re.search(r"\bpass [a-z]+_?[a-z]+ to\b", text)
    ] == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "There is no app 'x'; list_apps shows the known ones.",
            "There is no app 'x'; pumas apps shows the known ones.",
        ),
        ("It is there already; pass reinstall to build it anew.", "It is there already; add --again to build it anew."),
        (
            "No version of Tiny is installed; install_version installs one.",
            "No version of Tiny is installed; pumas install APP installs one.",
        ),
        ("pumas call install_version_dependencies", "pumas call install_version_dependencies"),
        (
            "schedule: start and end are the same; pass any_time to download at any time",
            "schedule: start and end are the same; give --any-time instead to download at any time",
        ),
        ("a file called list_apps_old", "a file called list_apps_old"),
        ("", ""),
    ],
)
def test_texts(text: str, shown: str) -> None:
    assert typed(text) == shown


def test_what_is_advised_exists() -> None:
    known = {command.name for command in tree().registered_commands} | {g.name for g in tree().registered_groups}
    texts = [getattr(advice, "_TYPED")[key] for key in getattr(advice, "_TYPED")]  # noqa: B009 - private on purpose
    for words in (text.split() for text in texts if text.startswith("pumas ")):
        assert words[1] in known, words
        if words[1] == "call":
            assert words[2] in METHODS
