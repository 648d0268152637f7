"""Two backends, each on its own copy of one prepared root, asked the same in the same order."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sidecar as running
from contract.replay import differences
from sidecar import PROJECT

MAY_DIFFER: dict[str, Any] = json.loads((PROJECT / "contracts" / "compare.json").read_text(encoding="utf-8"))
WRAPPERS: dict[str, Any] = json.loads((PROJECT / "contracts" / "response_wrappers.json").read_text(encoding="utf-8"))
_REFERENCES: tuple[str, ...] = tuple(MAY_DIFFER["references"])
_MOMENTS = re.compile(MAY_DIFFER["moments"])
"""Times in names of files."""
_ACTIVE = ("queued", "running")


@dataclass
class Side:
    """One backend. `names`: what it called a thing -> the name under which both sides' things are compared."""

    backend: str
    root: Path
    sidecar: running.Sidecar
    names: dict[str, str] = field(default_factory=dict[str, str])

    def ask(self, method: str, params: Any) -> dict[str, Any]:
        """The reply without its frame, with neutral names."""
        reply = self.sidecar.rpc(method, self._own(params), timeout_s=60)
        reply = {key: reply[key] for key in ("result", "error") if key in reply}
        self._learn(reply)
        return self.neutral(reply)

    def settle(self) -> None:
        """Wait until no job is at work."""

        def idle() -> bool:
            reply = self.sidecar.rpc("list_jobs", {"states": list(_ACTIVE)})
            return not reply.get("result", {}).get("jobs")

        running.eventually(idle, 60, f"the last job of the {self.backend} backend")

    def neutral(self, value: Any) -> Any:
        text = json.dumps(value, ensure_ascii=False).replace(str(self.root), "$root")
        for own, name in self.names.items():
            text = text.replace(own, name)
        return json.loads(_MOMENTS.sub("<moment>", text))

    def _own(self, value: Any) -> Any:
        text = json.dumps(value, ensure_ascii=False)
        for own, name in self.names.items():
            text = text.replace(name, own)
        return json.loads(text.replace("$root", str(self.root)))

    def _learn(self, value: Any) -> None:
        """Ids that a backend made up are named by the order in which they come."""
        if isinstance(value, list):
            for item in value:
                self._learn(item)
        elif isinstance(value, dict):
            for key, item in value.items():
                if key in _REFERENCES and isinstance(item, str) and item and item not in self.names:
                    self.names[item] = f"<{key} {sum(name.startswith(f'<{key} ') for name in self.names.values())}>"
                self._learn(item)


@dataclass(frozen=True)
class Step:
    """One call. Ids of earlier replies stand in `params` by their neutral names."""

    method: str
    params: Any


class Pair:
    def __init__(self, sides: tuple[Side, Side]) -> None:
        self.sides = sides

    def ask(self, step: Step, *, settle: bool = False) -> tuple[dict[str, Any], list[str]]:
        """(the first side's reply, where the replies differ)."""
        first, second = (side.ask(step.method, step.params) for side in self.sides)
        if settle:
            for side in self.sides:
                side.settle()
        return first, differences(first, second)

    def serves(self, method: str) -> list[str]:
        """The backends that have this method: others know not even its name.

        Built-in methods take any parameters, so a question would do what they do: every server has them.
        """
        if WRAPPERS[method]["kind"] == "builtin":
            return [side.backend for side in self.sides]
        odd = {"\u0001": 0}
        return [
            side.backend for side in self.sides if side.sidecar.rpc(method, odd).get("error", {}).get("code") != -32601
        ]


_numbers = itertools.count()


@contextlib.contextmanager
def pair(
    folder: Path,
    prepare: Callable[[Path], None],
    env: Mapping[str, str],
    backends: tuple[str, str] = ("python", "rust"),
) -> Iterator[Pair]:
    """Start both on copies of what `prepare` makes; the copies stay in `folder` when both have ended."""
    place = folder / str(next(_numbers))
    prepared = place / "prepared"
    prepared.mkdir(parents=True)
    prepare(prepared)
    sides: list[Side] = []
    try:
        for number, backend in enumerate(backends):
            root = place / f"{number}" / "root"
            shutil.copytree(prepared, root, symlinks=True)
            switch = {running.RUST_SWITCH: "1" if backend == "rust" else "0", "HOME": str(root.parent / "home")}
            sides.append(Side(backend, root, running.start(root, env={**env, **switch})))
            # It waits for the first look at the library, which goes on aside.
            sides[-1].sidecar.result("get_models", {})
        yield Pair((sides[0], sides[1]))
    finally:
        for side in sides:
            side.sidecar.close()
