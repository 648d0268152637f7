"""The single table from failures to wire codes: `contracts/errors.json`, read once.

`kind` names the failure in both forms: `error_code` in a `success:false` reply, `data.kind` in a JSON-RPC error.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

from pumas.config import contracts_folder
from pumas.errors import PumasError

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
BUSY = -32000

MAX_ECHO = 100


@functools.cache
def error_table() -> dict[str, dict[str, Any]]:
    """kind -> {code, description}, for every failure that can reach the wire."""
    return json.loads((contracts_folder() / "errors.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class WireError:
    """A JSON-RPC error object."""

    code: int
    message: str
    data: dict[str, Any]

    def to_object(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "data": self.data}


def from_exception(error: PumasError) -> WireError:
    return WireError(error_table()[error.kind]["code"], str(error), {"kind": error.kind})


def parse_error(detail: str) -> WireError:
    return WireError(PARSE_ERROR, f"Parse error: {detail}", {"kind": "parse_error"})


def invalid_request(detail: str) -> WireError:
    return WireError(INVALID_REQUEST, f"Invalid request: {detail}", {"kind": "invalid_request"})


def method_not_found(name: str) -> WireError:
    return WireError(METHOD_NOT_FOUND, f"Method not found: {name[:MAX_ECHO]}", {"kind": "method_not_found"})


def invalid_params(problems: list[tuple[str, str]]) -> WireError:
    """`problems` are (parameter path, what is wrong with it)."""
    text = "; ".join(f"{name}: {reason}" if name else reason for name, reason in problems[:5])
    errors = [{"param": name, "message": reason} for name, reason in problems[:20]]
    return WireError(INVALID_PARAMS, f"Invalid params: {text}", {"kind": "invalid_params", "errors": errors})


def internal_error() -> WireError:
    return WireError(INTERNAL_ERROR, "Internal error; the log has the details.", {"kind": "internal_error"})


def busy(detail: str) -> WireError:
    return WireError(BUSY, f"Busy: {detail}", {"kind": "busy"})
