"""Downloads by a real sidecar, whichever backend it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fixtures.hub import Cut, Hub, Options, OtherETag
from sidecar import Sidecar, eventually

from .downloads_setup import MIB, REPO, one_file


def test_a_line_that_breaks_before_any_block_has_come(launch: Callable[..., Sidecar], tmp_path: Path) -> None:
    """As slow lines with several connections do, when something on the way gives each a minute."""
    with Hub(one_file(6 * MIB)) as hub:
        hub.fault(Cut(after_bytes=700_000), kind="file", path=f"{REPO}/weights.safetensors", times=None)
        assert ended(launch(env=hub.env(home=tmp_path))) == "completed"


def test_servers_that_name_the_same_bytes_differently(launch: Callable[..., Sidecar], tmp_path: Path) -> None:
    """As mirrors of several machines do, whose ETags are made of their own files' times."""
    with Hub(one_file(24 * MIB)) as hub:
        hub.fault(OtherETag(), kind="file", path=f"{REPO}/weights.safetensors", times=None)
        assert ended(launch(env=hub.env(home=tmp_path))) == "completed"


def test_what_came_before_a_pause_of_such_is_kept(launch: Callable[..., Sidecar], tmp_path: Path) -> None:
    path = f"{REPO}/weights.safetensors"
    with Hub(one_file(48 * MIB), Options(connection_rate=8e6)) as hub:
        hub.fault(OtherETag(), kind="file", path=path, times=None)
        sidecar = launch(env=hub.env(home=tmp_path))
        of_it = {"download_id": sidecar.result("start_model_download_from_hf", {"repo_id": REPO})["download_id"]}

        def status() -> dict[str, Any]:
            return sidecar.result("get_model_download_status", of_it)

        eventually(lambda: status()["downloaded_bytes"] > 30 * MIB, 60, "most of it")
        assert sidecar.result("pause_model_download", of_it)["success"]
        eventually(lambda: status()["status"] == "paused", what="the pause")
        sent = hub.bytes_sent(path)
        assert sidecar.result("resume_model_download", of_it)["success"]
        eventually(lambda: status()["status"] == "completed", 60, "the end")
        assert hub.bytes_sent(path) - sent < 30 * MIB


def ended(sidecar: Sidecar) -> str | None:
    """Download the model; how that ends."""
    started = sidecar.result("start_model_download_from_hf", {"repo_id": REPO})

    def end() -> str | None:
        status: str = sidecar.result("get_model_download_status", {"download_id": started["download_id"]})["status"]
        return status if status in ("completed", "error") else None

    return eventually(end, what="the end of the download")
