"""Reads `key=value` words into the parameters of a call. Plain functions; no terminal, no client."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

Json = dict[str, Any]

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class BadArgument(ValueError):
    """A word is no `key=value`, or its JSON cannot be used; the message names it."""


def parameters(words: Iterable[str], schemas: Mapping[str, Json] | None = None) -> dict[str, Any]:
    """Each value is JSON when it parses as JSON, else text: `limit=5`, `tags=["a"]`, `query=llama`, `tag='"5"'`.

    Args:
        schemas: JSON Schema of parameters, by name. Where one takes text and no other value, `5` is text, too.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not _KEY.fullmatch(key):
            raise BadArgument(f"{word[:60]!r} is no key=value")
        if key in found:
            raise BadArgument(f"{key} is given twice")
        parsed = value(text)
        types = _types((schemas or {}).get(key, {}))
        is_text = "string" in types and types <= {"string", "null"} and not (parsed is None and "null" in types)
        found[key] = text if is_text and not isinstance(parsed, str) else parsed
    return found


def _types(schema: Json) -> set[str]:
    """The types that a schema names; of its alternatives, too."""
    found = {schema["type"]} if "type" in schema else {"any"}
    alternatives: list[Json] | None = schema.get("anyOf")
    return found if alternatives is None else {name for one in alternatives for name in _types(one)}


def value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> Any:
    # NaN and Infinity are no JSON: the word is meant as text.
    raise ValueError(name)


def document(text: str) -> dict[str, Any]:
    """The parameters from a whole JSON object."""
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadArgument(f"stdin holds no JSON object: {error}") from None
    if not isinstance(found, dict):
        raise BadArgument("stdin must hold a JSON object of parameters")
    return cast(dict[str, Any], found)
