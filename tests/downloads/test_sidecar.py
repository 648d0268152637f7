"""Downloads by a real sidecar, whichever backend it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fixtures.hub import Cut, Hub
from sidecar import Sidecar, eventually

from .downloads_setup import MIB, REPO, one_file


def test_a_line_that_breaks_before_any_block_has_come(launch: Callable[..., Sidecar], tmp_path: Path) -> None:
    """As slow lines with several connections do, when something on the way gives each a minute."""
    with Hub(one_file(6 * MIB)) as hub:
        hub.fault(Cut(after_bytes=700_000), kind="file", path=f"{REPO}/weights.safetensors", times=None)
        sidecar = launch(env=hub.env(home=tmp_path))
        started = sidecar.result("start_model_download_from_hf", {"repo_id": REPO})

        def ended() -> str | None:
            status: str = sidecar.result("get_model_download_status", {"download_id": started["download_id"]})["status"]
            return status if status in ("completed", "error") else None

        assert eventually(ended, what="the end of the download") == "completed"
