"""How a method's value becomes its reply, and how a failure does: `contracts/response_wrappers.json`, nothing else.

Kinds: `pass` (an object, plus `success: true`), `list:K` / `dict:K` / `value:K` (the value under key K),
`bool` (an object or nothing, plus `success`), `opt` (an object with `success`, or null), `raw` and `builtin` (the bare
value). All but the last two have an envelope, in which a failure is `success: false` with `error`, `error_code` and the
method's empty keys; without one a failure is a JSON-RPC error.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any, cast

from pumas.config import contracts_folder
from pumas.errors import PumasError

_EMPTY: dict[str, Any] = {"list": [], "dict": {}}
_BARE = ("raw", "builtin")


@dataclass(frozen=True)
class Wrapper:
    kind: str
    key: str | None
    failure: dict[str, Any]

    @property
    def has_envelope(self) -> bool:
        return self.kind not in _BARE

    def success(self, value: Any) -> Any:
        if not self.has_envelope:
            return value
        if self.key is not None:
            return {"success": True, self.key: value}
        if self.kind == "opt" and value is None:
            return None
        # A value that knows better than "it worked" says so itself (a batch with failed items).
        return {"success": True, **cast(dict[str, Any], value or {})}

    def failed(self, error: PumasError) -> dict[str, Any]:
        return {"success": False, "error": str(error), "error_code": error.kind, **self.failure}


@functools.cache
def wrappers() -> dict[str, Wrapper]:
    table: dict[str, dict[str, Any]] = json.loads(
        (contracts_folder() / "response_wrappers.json").read_text(encoding="utf-8")
    )
    return {name: _wrapper(entry) for name, entry in table.items()}


def is_builtin(name: str) -> bool:
    """Whether this is a method of the server itself, which answers however much is going on."""
    wrapper = wrappers().get(name)
    return wrapper is not None and wrapper.kind == "builtin"


def _wrapper(entry: dict[str, Any]) -> Wrapper:
    kind, _, key = str(entry["kind"]).partition(":")
    failure: dict[str, Any] = {key: _EMPTY[kind]} if key and kind in _EMPTY else {}
    return Wrapper(kind, key or None, failure | entry.get("failure", {}))
