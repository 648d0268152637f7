"""What the hub's client library costs a sidecar in Python: nothing before the hub is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fixtures.hub import Hub
from orders import switched
from sidecar import Sidecar


def test_nothing_of_the_hub_is_loaded_before_it_is_asked(
    hub: Hub, launch: Callable[..., Sidecar], tmp_path: Path
) -> None:
    server = launch(env=switched("python", hub.env(home=tmp_path / "home")))
    before = memory_of(server)
    server.result("search_hf_models", {"query": "lumen"})
    assert memory_of(server) - before > 5_000_000  # the client library came only now


def memory_of(server: Sidecar) -> int:
    for line in Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")
