"""A library with a sidecar of either backend and one caller, and what is done to it while it is disturbed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import sidecar as running
from faults.library_load import FINAL, Load
from sidecar import RUST_SWITCH, eventually

SIZE = 3_000_000


class Bench:
    """The backend is the one that the environment names, unless given."""

    def __init__(self, root: Path, user: Path, near: Path, backend: str | None = None) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        self.sidecar = self._start(backend)
        self.caller = Load(self.sidecar, user, near, seed=1, callers=0)

    def restart(self, backend: str | None = None) -> None:
        self.sidecar.close()
        self.sidecar = self.caller.sidecar = self._start(backend)

    def _start(self, backend: str | None) -> running.Sidecar:
        switch = {} if backend is None else {RUST_SWITCH: "1" if backend == "rust" else "0"}
        return running.start(self.root, env=switch)

    def verify(self) -> None:
        """Until the job has ended."""
        answer = self.caller.call("verify_library", {})
        if answer.get("success") is False:
            self.caller.refused.append(answer)
            return
        ask = {"job_id": answer["job_id"]}
        job = eventually(lambda: (job := self.caller.call("get_job", ask)["job"])["state"] in FINAL and job, 30)
        assert job["state"] == "completed" or job["error_code"] in ("disk_full", "disk_error", "read_only"), job

    def without_digests(self) -> None:
        """A model as older sidecars left it: verifying writes its digests down."""
        thing = self.caller.bring_in("copy", SIZE)
        path = self.root / "shared-resources/models" / thing.model_id / "metadata.json"
        text = path.read_text().replace(thing.digest, "")
        path.write_text(text)


Act = Callable[[], object]
# Name -> what is prepared undisturbed, and returns what is disturbed.
OPERATIONS: dict[str, Callable[[Bench], Act]] = {
    "import-copy": lambda bench: lambda: bench.caller.bring_in("copy", SIZE),
    "import-move": lambda bench: lambda: bench.caller.bring_in("move", SIZE),
    "import-hardlink": lambda bench: lambda: bench.caller.bring_in("hardlink", SIZE),
    "delete": lambda bench: one_inside(bench, bench.caller.delete),
    "restore": lambda bench: one_deleted(bench),
    "overrides": lambda bench: one_inside(bench, bench.caller.limit),
    "metadata": lambda bench: one_inside(bench, bench.caller.mark),
    "verify": lambda bench: bench.without_digests() or bench.verify,
}


def one_inside(bench: Bench, act: Callable[..., object]) -> Act:
    thing = bench.caller.bring_in("copy")
    return lambda: act(thing)


def one_deleted(bench: Bench) -> Act:
    thing = bench.caller.bring_in("copy")
    bench.caller.delete(thing)
    return lambda: bench.caller.restore(thing)
