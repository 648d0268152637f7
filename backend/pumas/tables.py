"""The tables of the contract that both backends read: `contracts/tables/`. What they mean is known to their readers."""

from __future__ import annotations

from typing import Any

import orjson

from pumas.config import contracts_folder


def table(name: str) -> dict[str, Any]:
    return orjson.loads((contracts_folder() / "tables" / f"{name}.json").read_bytes())
