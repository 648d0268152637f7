"""Which methods the Rust sidecar serves, asked of a real one; where it is not built, its examples are left out."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import sidecar as running
from contract import replay

WRAPPERS: dict[str, dict[str, Any]] = json.loads(
    (replay.PROJECT / "contracts" / "response_wrappers.json").read_text(encoding="utf-8")
)
# No method has a parameter of this name, so asking does nothing.
ODD = {"\u0001": 0}
METHOD_NOT_FOUND = -32601


def rust_is_built() -> bool:
    try:
        return running.rust_binary().is_file()
    except FileNotFoundError:
        return False


@functools.cache
def rust_methods() -> frozenset[str]:
    """Empty when there is no Rust sidecar."""
    if not rust_is_built():
        return frozenset()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        sidecar = running.start(root, env={running.RUST_SWITCH: "1"})
        try:
            return frozenset(name for name in WRAPPERS if _serves(sidecar, name))
        finally:
            sidecar.close()


def _serves(sidecar: running.Sidecar, name: str) -> bool:
    # Methods of the server itself take any parameters: a question would do what they do. Every server has them.
    if WRAPPERS[name]["kind"] == "builtin":
        return True
    return sidecar.rpc(name, ODD).get("error", {}).get("code") != METHOD_NOT_FOUND


def playable(path: Path) -> bool:
    """Whether the Rust sidecar serves every method that the example calls."""
    example = json.loads(path.read_text(encoding="utf-8"))
    wanted = {path.name.rsplit(".", 2)[0], *(call["method"] for call in example.get("before", []))}
    return wanted <= rust_methods()


def plays() -> list[tuple[Path, str]]:
    """Every example with every backend that can play it."""
    both = [(path, backend) for path in replay.all_examples() for backend in running.BACKENDS]
    return [(path, backend) for path, backend in both if backend == "python" or playable(path)]
