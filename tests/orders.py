"""What one backend began, the other goes on with: both orders of the two, for tests."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

import sidecar as running
from contract.served import rust_is_built

# Without the Rust backend Python takes its place.
OTHER = "rust" if rust_is_built() else "python"
ORDERS = pytest.mark.parametrize(("first", "second"), [("python", OTHER), (OTHER, "python")])


def switched(backend: str, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment in which a sidecar is of this backend."""
    return {**(env or {}), running.RUST_SWITCH: "1" if backend == "rust" else "0"}
