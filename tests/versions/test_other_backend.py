"""An installation in which one backend was killed goes on under the other, in both orders."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fixtures.releases import Asked, Release, ReleaseServer, Stall
from fixtures.releases.content import COMFYUI, OLLAMA, comfyui, ollama
from orders import ORDERS, OTHER, switched
from sidecar import Sidecar, eventually

from .setup import launch_app, server
from .test_sidecar import wait_for

__all__ = ["server"]
Launch = Callable[..., Sidecar]
MIB = 1 << 20
PADDING = 12 * MIB


class Install:
    """One installation: begun by `begin`, cut off once it is so far, and gone on with by `go_on`."""

    def __init__(self, launch: Launch, server: ReleaseServer, cache: Path, app_id: str, tag: str) -> None:
        self._launch, self._server, self._cache = launch, server, cache
        self._of_app, self._tag = {"app_id": app_id}, tag
        self._job_id = ""

    def started(self, backend: str) -> Sidecar:
        env = {**self._server.environment(), "UV_CACHE_DIR": str(self._cache)}
        return self._launch(env=switched(backend, env))

    def cut_off(self, backend: str, is_so_far: Callable[[dict[str, Any]], bool]) -> None:
        sidecar = self.started(backend)
        sidecar.result("get_available_versions", {**self._of_app, "force_refresh": True})
        self._job_id = sidecar.result("install_version", {**self._of_app, "tag": self._tag})["job_id"]

        def look() -> bool:
            progress = sidecar.result("get_installation_progress", self._of_app)
            assert progress["error"] is None, progress
            return is_so_far(progress)

        eventually(look, 60, "so much of the installation")
        sidecar.kill()
        self._server.no_faults()

    def check_goes_on(self, backend: str) -> None:
        sidecar = self.started(backend)
        job = wait_for(sidecar, self._job_id)
        assert (job["state"], job["error"]) == ("completed", None)
        assert sidecar.result("get_installed_versions", self._of_app)["versions"] == [self._tag]
        folder = Path(job["result"]["path"])
        left = {path.name for path in folder.parent.iterdir()} - {".pumas-trash"}
        assert left == {self._tag}
        assert launch_app(sidecar, {**self._of_app, "open_page": False})["ready"]
        assert sidecar.result("stop_app", self._of_app)["success"]


def archive_of(release: Release) -> bytes:
    return release.assets["ollama-linux-amd64.tar.zst"]


def fetched(asked: Sequence[Asked], size: int) -> int:
    """Bytes of the archive that were asked for."""
    total = 0
    for one in asked:
        if one.method == "GET" and one.path.startswith("/cdn/"):
            first, _, last = one.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
            total += int(last or size - 1) + 1 - int(first)
    return total


@ORDERS
@pytest.mark.parametrize("digests", [True, False], ids=["in blocks", "in one stream"])
def test_what_had_arrived_of_an_archive_is_not_fetched_again(
    launch: Launch, server: ReleaseServer, tmp_path: Path, first: str, second: str, *, digests: bool
) -> None:
    release = ollama("v0.13.1", PADDING)
    release.digests = digests
    release.assets.pop("sha256sum.txt")
    server.releases[OLLAMA] = [release]
    # Each of four connections brings a block and a half; one stream as much as the four.
    server.fault("/cdn/*", Stall(3 * MIB // 2 if digests else 6 * MIB), times=99)
    install = Install(launch, server, tmp_path / "uv", "ollama", "v0.13.1")
    install.cut_off(first, lambda progress: progress["downloaded_bytes"] > 5 * MIB)
    asked, size = len(server.asked), len(archive_of(release))
    install.check_goes_on(second)
    assert 0 < fetched(server.asked[asked:], size) < size - 3 * MIB


@ORDERS
@pytest.mark.parametrize(
    ("stalled", "stage"), [("/codeload/*", "download"), ("/wheels/*.whl", "dependencies")], ids=["download", "packages"]
)
def test_an_environment_that_was_begun_is_finished(
    launch: Launch, server: ReleaseServer, tmp_path: Path, first: str, second: str, stalled: str, stage: str
) -> None:
    server.releases[COMFYUI] = [comfyui("v0.5.0")]
    server.fault(stalled, Stall(100), times=99)
    install = Install(launch, server, tmp_path / "uv", "comfyui", "v0.5.0")

    def is_so_far(progress: dict[str, Any]) -> bool:
        return progress["stage"] == stage and server.count(stalled) > 0

    install.cut_off(first, is_so_far)
    install.check_goes_on(second)
    # What was unpacked in no time may be unpacked again, but is not fetched again.
    assert server.count("/codeload/*") == (2 if stage == "download" else 1)


def test_what_was_installed_is_listed_alike(launch: Launch, server: ReleaseServer, tmp_path: Path) -> None:
    server.releases[COMFYUI] = [comfyui("v0.5.0")]
    listed: list[tuple[str, list[str], int]] = []
    for backend in ("python", OTHER):
        root = tmp_path / f"{backend}-{len(listed)}"
        env = {**server.environment(), "UV_CACHE_DIR": str(tmp_path / "uv")}
        sidecar = launch(root=root, env=switched(backend, env))
        sidecar.result("get_available_versions", {"force_refresh": True})
        wait_for(sidecar, sidecar.result("install_version", {"tag": "v0.5.0"})["job_id"])
        progress = sidecar.result("get_installation_progress")
        (constraints,) = (root / "launcher-data/cache/constraints").iterdir()
        listed.append(
            (
                constraints.read_text(),
                [item["name"] for item in progress["completed_items"]],
                progress["dependency_count"],
            )
        )
    assert listed[0] == listed[1]
    assert re.fullmatch(r"(setproctitle|tiny-colors|tiny-extra|tiny-server)==\S+\n" * 4, listed[0][0])
