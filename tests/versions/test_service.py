"""Real (tiny) apps are installed, updated, rolled back and removed in real environments; what faults leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apps.test_description import shipped
from fixtures.releases import Cut, Flip, Release, ReleaseServer, Stall, Status
from fixtures.releases.archives import Member, below, bundle, gzipped, tarred, web_app, zipped, zstandarded
from fixtures.releases.content import COMFYUI, OLLAMA, comfyui, ollama
from pumas.errors import (
    AlreadyExists,
    Busy,
    Cancelled,
    DependencyFailed,
    InvalidInput,
    NothingToRollBack,
    RateLimited,
    ReleaseNotFound,
    TrashEntryNotFound,
    UnknownApp,
    VersionInUse,
    VersionNotFound,
    WrongJobState,
)
from pumas.jobs.store import JobState
from pumas.versions import filling, installing, offers
from sidecar import eventually

from .setup import Built, built, everything, server

__all__ = ["server"]


async def ready(one: Built, app_id: str = "comfyui") -> None:
    await one.service.offers.offered(app_id, force=True)


def folders(root: Path, app_id: str = "comfyui") -> list[str]:
    place = root / f"{app_id}-versions"
    return sorted(path.name for path in place.iterdir()) if place.exists() else []


async def test_an_app_is_installed_whole_in_an_environment_of_its_own(server: ReleaseServer, tmp_path: Path) -> None:
    async with built(tmp_path) as one:
        await ready(one)
        job = await one.install("v0.5.0")
        assert (job.state, job.error, job.result and job.result["warnings"]) == (JobState.COMPLETED, None, [])
        assert await one.tags() == ["v0.5.0"]
        place = tmp_path / "comfyui-versions/v0.5.0"
        assert (place / "user").readlink() == Path("../../shared-resources/user")
        assert (place / "user").is_dir()
        said = subprocess.run([place / "venv/bin/tiny-server-say"], capture_output=True, text=True, check=True)
        assert said.stdout == "1.1\n"
        code = "import sys, tiny_colors; print(sys.prefix, tiny_colors.VERSION)"
        prefix = subprocess.run([place / "venv/bin/python", "-c", code], capture_output=True, text=True, check=True)
        # Version 2.0 of it was published after the release.
        assert prefix.stdout.split() == [str(place / "venv"), "1.0"]
        assert folders(tmp_path) == ["v0.5.0"]
        version = await one.service.get("v0.5.0")
        assert version.info["path"] == "comfyui-versions/v0.5.0"
        assert version.info["pythonVersion"].startswith("Python 3.")
        found = await one.service.dependencies("v0.5.0")
        assert found.installed == ["setproctitle", "tiny-colors", "tiny-extra", "tiny-server"]
        assert found.missing == []


async def test_progress_has_the_shape_that_older_clients_poll(server: ReleaseServer, tmp_path: Path) -> None:
    async with built(tmp_path) as one:
        assert await one.service.installs.progress() is None
        await ready(one)
        seen: list[dict[str, Any]] = []
        job = await one.service.installs.install("v0.5.0")
        while one.jobs.is_active("install"):
            at = await one.service.installs.progress()
            assert at is not None
            seen.append(at)
            await asyncio.sleep(0)
        assert (await one.jobs.get(job.id)).state is JobState.COMPLETED
        last = await one.service.installs.progress()
    assert last is not None
    assert {"stage": last["stage"], "overall": last["overall_progress"]} == {"stage": "setup", "overall": 100}
    assert (last["success"], last["error"]) == (True, None)
    assert last["completed_at"].endswith("+00:00")
    assert (last["dependency_count"], last["completed_dependencies"]) == (4, 4)
    assert [item["type"] for item in last["completed_items"]] == ["archive", *["package"] * 4]
    assert last["downloaded_bytes"] == last["total_size"]
    running = [at for at in seen if "completed_at" not in at]
    assert running
    assert all("success" not in at for at in running)
    overall = [at["overall_progress"] for at in seen]
    assert overall == sorted(overall)
    kept = json.loads((tmp_path / "launcher-data/cache/installation-state.json").read_text())
    assert kept == last
    assert "v0.5.0 is installed" in Path(last["log_path"]).read_text()


async def test_a_bundle_comes_whole_with_its_libraries(server: ReleaseServer, tmp_path: Path) -> None:
    async with built(tmp_path) as one:
        await ready(one, "ollama")
        job = await one.install("v0.13.1", "ollama")
        assert (job.state, job.error) == (JobState.COMPLETED, None)
        place = tmp_path / "ollama-versions/v0.13.1"
        assert (place / "lib/ollama/libtiny.so").readlink() == Path("libtiny.so.1")
        # Older sidecars look for the program here.
        assert (place / "ollama").readlink() == Path("bin/ollama")
        progress = await one.service.installs.progress("ollama")
        assert progress is not None
        assert progress["dependency_count"] is None
        assert await one.service.installs.progress("comfyui") is None


@pytest.mark.parametrize(("worth_s", "waits"), [(60.0, 1), (-1.0, 2)], ids=["quick", "slow"])
async def test_what_is_done_again_in_no_time_is_not_kept(
    server: ReleaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worth_s: float, waits: int
) -> None:
    """To keep a step waits for all that anybody writes on the volume. Nor is anything resolved twice."""
    waited: list[Path] = []
    monkeypatch.setattr(installing, "sync", waited.append)
    monkeypatch.setattr(installing, "_WORTH_KEEPING_S", worth_s)
    monkeypatch.setattr(filling, "LONG_S", 600.0)
    async with built(tmp_path) as one:
        await ready(one)
        job = await one.install("v0.5.0")
        assert (job.state, job.error) == (JobState.COMPLETED, None)
        assert job.checkpoint["steps"] == ["extract", "dependencies"]
        assert len(waited) == waits
        progress = await one.service.installs.progress()
    assert progress is not None
    assert "pip compile" not in Path(progress["log_path"]).read_text()


async def test_of_many_small_members_nobody_hears_one_by_one(server: ReleaseServer, tmp_path: Path) -> None:
    members = [*bundle("v1.0.0"), *(Member(f"many/{number}") for number in range(2000))]
    server.releases[OLLAMA] = [Release("v1.0.0", assets={"ollama-linux-amd64.tar.zst": zipped(members)})]
    async with built(tmp_path) as one:
        await ready(one, "ollama")
        before = one.events.cursor
        job = await one.install("v1.0.0", "ollama")
        assert (job.state, job.error) == (JobState.COMPLETED, None)
        assert one.events.cursor - before < 300


BROKEN = [
    ("v0.8.0", "smoke_launch_failed", "cannot find the GPU"),
    ("v0.7.0", "dependency_failed", "no-such-package-here"),
    ("v0.6.0", "unsafe_archive", "escaped"),
]


@pytest.mark.parametrize(("tag", "code", "says"), BROKEN)
async def test_a_release_that_cannot_be_installed_leaves_nothing(
    server: ReleaseServer, tmp_path: Path, tag: str, code: str, says: str
) -> None:
    async with built(tmp_path) as one:
        await ready(one)
        job = await one.install(tag)
        assert (job.state, job.error_code) == (JobState.FAILED, code)
        assert says in (job.error or "")
        progress = await one.service.installs.progress()
        assert progress is not None
        assert (progress["success"], progress["error"]) == (False, job.error)
        assert "cancel" not in job.error.lower()  # type: ignore[union-attr]
        assert says in Path(progress["log_path"]).read_text()
        assert await one.tags() == []
        assert folders(tmp_path) == []
        assert not list(tmp_path.rglob("escaped.txt"))
        assert not [o for o in await one.service.offers.offered() if o.installing]


@pytest.mark.parametrize("trouble", ['sys.exit("broken")', "import no_such_module_here", "os.kill(os.getpid(), 9)"])
async def test_a_failed_update_leaves_the_old_version_as_it_was(
    server: ReleaseServer, tmp_path: Path, trouble: str
) -> None:
    server.releases[COMFYUI] = [comfyui("v0.5.0")]
    async with built(tmp_path) as one:
        await ready(one)
        await one.install("v0.5.0")
        before = everything(tmp_path / "comfyui-versions")
        server.releases[COMFYUI] = [comfyui("v0.9.0", trouble=trouble), comfyui("v0.5.0", trouble=trouble)]
        await ready(one)
        job = await one.service.update()
        assert not isinstance(job, str)
        assert (await one.jobs.wait(job.id, 60)).error_code == "smoke_launch_failed"
        assert (await one.install("v0.5.0", replace=True)).error_code == "smoke_launch_failed"
        assert everything(tmp_path / "comfyui-versions") == before
        active = await one.service.active()
        assert active is not None
        assert active.tag == "v0.5.0"


async def test_an_update_is_active_and_can_be_taken_back(server: ReleaseServer, tmp_path: Path) -> None:
    server.releases[OLLAMA] = [ollama("v0.12.0")]
    async with built(tmp_path) as one:
        await ready(one, "ollama")
        await one.install("v0.12.0", "ollama")
        with pytest.raises(NothingToRollBack):
            await one.service.rollback("ollama")
        server.releases[OLLAMA] = [ollama("v0.13.1"), ollama("v0.12.0")]
        await ready(one, "ollama")
        job = await one.service.update("ollama")
        assert not isinstance(job, str)
        await one.jobs.wait(job.id, 60)
        assert (await one.service.active("ollama")).tag == "v0.13.1"  # type: ignore[union-attr]
        assert await one.service.rollback("ollama") == "v0.12.0"
        assert (await one.service.active("ollama")).tag == "v0.12.0"  # type: ignore[union-attr]
        with pytest.raises(NothingToRollBack):
            await one.service.rollback("ollama")
        assert await one.service.update("ollama") == "v0.13.1"


async def test_a_new_build_replaces_the_old_one_and_can_be_taken_back(server: ReleaseServer, tmp_path: Path) -> None:
    async with built(tmp_path) as one:
        await ready(one, "ollama")
        await one.install("v0.13.1", "ollama")
        place = tmp_path / "ollama-versions/v0.13.1"
        (place / "notes.txt").write_text("mine")
        with pytest.raises(AlreadyExists):
            await one.service.installs.install("v0.13.1", "ollama")
        assert (await one.install("v0.13.1", "ollama", replace=True)).state is JobState.COMPLETED
        assert not (place / "notes.txt").exists()
        assert [removed.reason for removed in await one.service.removed("ollama")] == ["replaced"]
        assert await one.service.rollback("ollama") == "v0.13.1"
        assert (place / "notes.txt").read_text() == "mine"
        assert await one.tags("ollama") == ["v0.13.1"]


async def test_the_last_version_is_removed_when_that_is_meant(server: ReleaseServer, tmp_path: Path) -> None:
    async with built(tmp_path) as one:
        await ready(one, "ollama")
        for tag in ("v0.12.0", "v0.13.1"):
            await one.install(tag, "ollama")
        await one.service.switch("v0.13.1", "ollama")
        await one.service.set_default("v0.13.1", "ollama")
        with pytest.raises(VersionInUse, match="switch to another version first"):
            await one.service.remove("v0.13.1", "ollama", last=True)
        await one.service.remove("v0.12.0", "ollama", last=True)
        with pytest.raises(VersionInUse, match="no other version is installed; pass last"):
            await one.service.remove("v0.13.1", "ollama")
        removed = await one.service.remove("v0.13.1", "ollama", last=True)
        assert await one.tags("ollama") == []
        assert await one.service.active("ollama") is None
        assert not (tmp_path / ".active-version-ollama").exists()
    async with built(tmp_path) as one:
        assert await one.service.active("ollama") is None
        assert await one.service.restore(removed.id, "ollama") == "v0.13.1"
        active = await one.service.active("ollama")
        assert active is not None
        assert active.tag == "v0.13.1"


async def test_removing_goes_to_the_trash_and_back(server: ReleaseServer, tmp_path: Path) -> None:
    async with built(tmp_path) as one:
        await ready(one, "ollama")
        for tag in ("v0.12.0", "v0.13.1"):
            await one.install(tag, "ollama")
        await one.service.switch("v0.13.1", "ollama")
        with pytest.raises(VersionInUse):
            await one.service.remove("v0.13.1", "ollama")
        before = everything(tmp_path / "ollama-versions/v0.12.0")
        info = (await one.service.get("v0.12.0", "ollama")).info
        removed = await one.service.remove("v0.12.0", "ollama")
        assert await one.tags("ollama") == ["v0.13.1"]
        assert not (tmp_path / "ollama-versions/v0.12.0").exists()
        with pytest.raises(VersionNotFound):
            await one.service.remove("v0.12.0", "ollama")
        assert await one.service.restore(removed.id, "ollama") == "v0.12.0"
        assert everything(tmp_path / "ollama-versions/v0.12.0") == before
        assert (await one.service.get("v0.12.0", "ollama")).info == info
        again = await one.service.remove("v0.12.0", "ollama")
        await one.service.purge(again.id, "ollama")
        for trash_id in (again.id, removed.id, "../..", ""):
            with pytest.raises(TrashEntryNotFound):
                await one.service.restore(trash_id, "ollama")


async def test_a_version_that_runs_is_neither_removed_nor_replaced(server: ReleaseServer, tmp_path: Path) -> None:
    async with built(tmp_path) as one:
        one.service.ask_in_use(lambda app_id, tag: (app_id, tag) == ("ollama", "v0.12.0"))
        await ready(one, "ollama")
        for tag in ("v0.12.0", "v0.13.1"):
            await one.install(tag, "ollama")
        await one.service.switch("v0.13.1", "ollama")
        with pytest.raises(VersionInUse):
            await one.service.remove("v0.12.0", "ollama")
        with pytest.raises(Busy):
            await one.service.installs.install("v0.12.0", "ollama", replace=True)


REFUSED: list[tuple[str, str, type[Exception]]] = [
    ("../x", "comfyui", InvalidInput),
    ("v0.5.0\nExec", "comfyui", InvalidInput),
    ("v9.9.9", "comfyui", ReleaseNotFound),
    ("v0.5.0", "nothing", UnknownApp),
]


@pytest.mark.parametrize(("tag", "app", "error"), REFUSED)
async def test_what_cannot_be_installed_is_refused_at_once(
    server: ReleaseServer, tmp_path: Path, tag: str, app: str, error: type[Exception]
) -> None:
    async with built(tmp_path) as one:
        await ready(one)
        with pytest.raises(error):
            await one.service.installs.install(tag, app)
        assert not (tmp_path / "comfyui-versions").exists()


async def test_a_folder_of_somebody_elses_is_not_replaced(server: ReleaseServer, tmp_path: Path) -> None:
    mine = tmp_path / "comfyui-versions/v0.5.0"
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("x")
    async with built(tmp_path) as one:
        await ready(one)
        for replace in (False, True):
            with pytest.raises(AlreadyExists, match=r"comfyui-versions/v0\.5\.0 .* move it away"):
                await one.service.installs.install("v0.5.0", replace=replace)
        assert (await one.service.validate()).unknown == ["v0.5.0"]
    assert everything(tmp_path / "comfyui-versions") == {"v0.5.0/thesis.txt": b"x"}


@pytest.mark.parametrize("lost", ["main.py", "venv/bin/python"])
async def test_what_is_not_whole_any_more_is_built_anew_or_removed(
    server: ReleaseServer, tmp_path: Path, lost: str
) -> None:
    """Nobody can start it; it is neither in the way of a new build nor there for ever."""
    async with built(tmp_path) as one:
        await ready(one)
        await one.install("v0.5.0")
        place = tmp_path / "comfyui-versions/v0.5.0"
        (place / "output.png").write_text("mine")
        (place / lost).unlink()
        assert await one.tags() == []
        helps = "install_version" if lost == "main.py" else "install_version_dependencies"
        said = f"ComfyUI 'v0.5.0' is not whole: it has no {lost}; {helps} builds it anew."
        assert [(trouble.subject, trouble.message) for trouble in one.troubles.list()] == [
            ("comfyui-versions/v0.5.0", said)
        ]
        with pytest.raises(VersionNotFound, match=re.escape(said)):
            await one.service.prepare("v0.5.0")
        assert (await one.install("v0.5.0")).state is JobState.COMPLETED
        assert await one.tags() == ["v0.5.0"]
        assert one.troubles.list() == []
        (old,) = await one.service.removed()
        assert old.reason == "removed", "it is not pruned with builds that can be gone back to"
        with pytest.raises(NothingToRollBack):
            await one.service.rollback()
        (place / lost).unlink()
        assert await one.tags() == [] and one.troubles.count == 1
        removed = await one.service.remove("v0.5.0")
        assert (await one.tags(), one.troubles.count) == ([], 0)
        assert not place.exists() and (await one.service.validate()).incomplete == []
        await one.service.restore(old.id)
        assert (place / "output.png").read_text() == "mine"
        assert {removed.id} == {entry.id for entry in await one.service.removed()}


async def test_an_environment_whose_python_has_gone_is_made_anew(server: ReleaseServer, tmp_path: Path) -> None:
    """As after an update of the system; all else of the version stays."""
    async with built(tmp_path) as one:
        await ready(one)
        await one.install("v0.5.0")
        place = tmp_path / "comfyui-versions/v0.5.0"
        (place / "custom_nodes").mkdir()
        (place / "custom_nodes/mine.py").write_text("mine")
        python = place / "venv/bin/python"
        python.unlink()
        python.symlink_to("/usr/bin/python3.4")
        assert await one.service.active() is None
        job = await one.service.installs.install_dependencies("v0.5.0")
        assert (await one.jobs.wait(job.id, 60)).error is None
        assert (await one.service.dependencies("v0.5.0")).missing == []
        await one.service.prepare("v0.5.0")
        assert (place / "custom_nodes/mine.py").read_text() == "mine"
        assert (await one.service.active()).tag == "v0.5.0"  # type: ignore[union-attr]


async def test_one_installation_per_app_and_cancel_finds_it(server: ReleaseServer, tmp_path: Path) -> None:
    server.fault("/cdn/*", Stall(10), times=5)
    async with built(tmp_path) as one:
        await ready(one)
        await ready(one, "ollama")
        with pytest.raises(WrongJobState):
            await one.service.installs.cancel()
        job = await one.service.installs.install("v0.13.1", "ollama")
        with pytest.raises(Busy):
            await one.service.installs.install("v0.12.0", "ollama")
        with pytest.raises(WrongJobState):
            await one.service.installs.cancel("comfyui")
        assert [o.release.tag for o in await one.service.offers.offered("ollama") if o.installing] == ["v0.13.1"]
        await one.service.installs.cancel()
        assert (await one.jobs.wait(job.id, 10)).state is JobState.CANCELLED
        await one.service.installs.settled()
        progress = await one.service.installs.progress("ollama")
        assert progress is not None
        assert "cancel" in progress["error"].lower()
        assert progress["success"] is False
        assert folders(tmp_path, "ollama") == []
        server.no_faults()
        assert (await one.install("v0.13.1", "ollama")).state is JobState.COMPLETED


SLOW = 'import time; open("started", "w").close(); time.sleep(60)'


async def test_what_is_cancelled_before_it_began_has_ended(server: ReleaseServer, tmp_path: Path) -> None:
    async with built(tmp_path) as one:
        await ready(one, "ollama")
        job = await one.service.installs.install("v0.13.1", "ollama")
        one.jobs._active[job.id].ask(Cancelled)  # pyright: ignore[reportPrivateUsage] - before its task ran
        assert (await one.jobs.wait(job.id, 10)).state is JobState.CANCELLED
        await one.service.installs.settled()
        progress = await one.service.installs.progress("ollama")
        assert progress is not None
        assert "cancel" in progress["error"].lower()
        assert (await one.install("v0.13.1", "ollama")).state is JobState.COMPLETED


async def test_a_program_that_is_tried_ends_with_the_cancel(server: ReleaseServer, tmp_path: Path) -> None:
    server.releases[COMFYUI] = [comfyui("v0.5.0", trouble=SLOW)]
    async with built(tmp_path) as one:
        await ready(one)
        job = await one.service.installs.install("v0.5.0")
        await asyncio.to_thread(
            eventually, lambda: list(tmp_path.glob("comfyui-versions/.pumas-build-*/started")), 30.0
        )
        note = json.loads(next(tmp_path.glob("comfyui-versions/.pumas-work/*/running.json")).read_bytes())
        await one.service.installs.cancel("comfyui")
        assert (await one.jobs.wait(job.id, 10)).state is JobState.CANCELLED
        assert not Path(f"/proc/{note['pid']}").exists()


FAULTS = [
    ("cut", Cut(200), None),
    ("twice cut", Cut(100), None),
    ("busy", Status(503, {"Retry-After": "0"}), None),
    ("flipped", Flip(50), None),
]


@pytest.mark.parametrize(("name", "fault", "error"), FAULTS)
async def test_downloads_survive_what_passes(
    server: ReleaseServer, tmp_path: Path, name: str, fault: Any, error: str | None
) -> None:
    async with built(tmp_path) as one:
        await ready(one, "ollama")
        server.fault("/cdn/*", fault, times=2 if name == "twice cut" else 1)
        job = await one.install("v0.13.1", "ollama")
        assert (job.state, job.error_code) == (JobState.COMPLETED, error)


async def test_an_archive_with_another_digest_is_never_unpacked(server: ReleaseServer, tmp_path: Path) -> None:
    async with built(tmp_path) as one:
        await ready(one, "ollama")
        server.fault("/cdn/*", Flip(50), times=100)
        job = await one.install("v0.13.1", "ollama")
        assert (job.state, job.error_code) == (JobState.FAILED, "digest_mismatch")
        assert folders(tmp_path, "ollama") == []


async def test_a_large_asset_comes_in_parts(server: ReleaseServer, tmp_path: Path) -> None:
    server.releases[OLLAMA] = [ollama("v0.13.1", padding=12_000_000)]
    async with built(tmp_path) as one:
        await ready(one, "ollama")
        server.fault("/cdn/*", Cut(3_000_000), times=2)
        job = await one.install("v0.13.1", "ollama")
        assert (job.state, job.error) == (JobState.COMPLETED, None)
    assert server.count("/cdn/*") >= 3


async def test_assets_without_a_digest_are_resumed(server: ReleaseServer, tmp_path: Path) -> None:
    server.releases[OLLAMA] = [ollama("v0.13.1", padding=3_000_000)]
    server.releases[OLLAMA][0].digests = False
    server.releases[OLLAMA][0].assets.pop("sha256sum.txt")
    async with built(tmp_path) as one:
        await ready(one, "ollama")
        server.fault("/cdn/*", Cut(2_000_000))
        job = await one.install("v0.13.1", "ollama")
        assert (job.state, job.error) == (JobState.COMPLETED, None)
    ranges = [asked.headers.get("range") for asked in server.asked if asked.path.startswith("/cdn/")]
    assert ranges[0] is None
    assert ranges[1] is not None
    assert int(ranges[1].removeprefix("bytes=").rstrip("-")) > 1_000_000


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("sha256sum.txt", "{digest}  ./{name}\n"),
        ("SHA256SUMS", "{other} *else.tgz\r\n{upper} *{name}\r\n"),
        ("checksums.txt", "SHA256 ({name}) = {digest}\n"),
        ("{name}.sha256", "{digest}\n"),
    ],
)
async def test_a_list_of_check_sums_beside_the_assets_is_heeded(
    server: ReleaseServer, tmp_path: Path, name: str, form: str
) -> None:
    release = ollama("v0.13.1")
    release.digests = False
    asset = shipped("ollama").package.choose(list(release.assets))
    assert asset is not None
    digest = hashlib.sha256(release.assets[asset]).hexdigest()
    words = {"name": asset, "digest": digest, "upper": digest.upper(), "other": "0" * 64}
    release.assets.pop("sha256sum.txt")
    release.assets[name.format(**words)] = form.format(**words).encode()
    server.releases[OLLAMA] = [release]
    async with built(tmp_path) as one:
        await ready(one, "ollama")
        job = await one.install("v0.13.1", "ollama")
        assert (job.state, job.error) == (JobState.COMPLETED, None)
        log = (tmp_path / "launcher-data/logs").rglob("*install*")
        assert any(f"{digest} (as published)" in place.read_text() for place in log)
        release.assets[name.format(**words)] = form.format(**words | {"digest": "1" * 64, "upper": "1" * 64}).encode()
        job = await one.install("v0.13.1", "ollama", replace=True)
        assert (job.state, job.error_code) == (JobState.FAILED, "digest_mismatch")
        assert await one.tags("ollama") == ["v0.13.1"], "the one that was there stays"


async def test_a_list_that_cannot_be_had_or_names_others(server: ReleaseServer, tmp_path: Path) -> None:
    release = ollama("v0.13.1")
    release.digests = False
    server.releases[OLLAMA] = [release]
    async with built(tmp_path) as one:
        await ready(one, "ollama")
        server.fault("/cdn/*/sha256sum.txt*", Status(404), times=100)
        job = await one.install("v0.13.1", "ollama")
        assert (job.state, job.error_code) == (JobState.FAILED, "http_error")
        server.no_faults()
        release.assets["sha256sum.txt"] = b"0" * 64 + b"  another.tgz\n"
        job = await one.install("v0.13.1", "ollama")
        assert (job.state, job.error) == (JobState.COMPLETED, None)


@pytest.mark.parametrize("data", [b"<!DOCTYPE html><title>Sign in</title>", b"", b"\x1f\x8b" + bytes(100)])
async def test_what_is_no_archive_is_refused(server: ReleaseServer, tmp_path: Path, data: bytes) -> None:
    server.releases[COMFYUI] = [Release("v0.5.0", raw=data)]
    async with built(tmp_path) as one:
        await ready(one)
        assert (await one.install("v0.5.0")).error_code == "unsafe_archive"
        assert folders(tmp_path) == []


async def test_a_release_without_its_main_file_is_refused(server: ReleaseServer, tmp_path: Path) -> None:
    data = gzipped(tarred(below("top", [Member("README", b"x")])))
    server.releases[COMFYUI] = [Release("v0.5.0", raw=data)]
    async with built(tmp_path) as one:
        await ready(one)
        job = await one.install("v0.5.0")
        assert (job.error_code, "main.py" in str(job.error)) == ("install_failed", True)


@pytest.mark.parametrize("stage", ["download", "venv", "try"])
async def test_an_interrupted_installation_goes_on_by_itself(server: ReleaseServer, tmp_path: Path, stage: str) -> None:
    once = 'import time\nif not os.path.exists("once"): open("once", "w").close(); time.sleep(60)'
    server.releases[COMFYUI] = [comfyui("v0.5.0", trouble=once if stage == "try" else "")]
    marks = {
        "download": "comfyui-versions/.pumas-work/*/archive.part",
        "venv": "comfyui-versions/.pumas-build-*/venv",
        "try": "comfyui-versions/.pumas-build-*/once",
    }
    if stage == "download":
        server.fault("/codeload/*", Stall(100))
    async with built(tmp_path) as one:
        await ready(one)
        job = await one.service.installs.install("v0.5.0")
        await asyncio.to_thread(eventually, lambda: list(tmp_path.glob(marks[stage])), 30.0)
    async with built(tmp_path) as one:
        job = await one.jobs.wait(job.id, 60)
        assert (job.state, job.error) == (JobState.COMPLETED, None)
        assert await one.tags() == ["v0.5.0"]
        assert folders(tmp_path) == ["v0.5.0"]
        progress = await one.service.installs.progress()
        assert progress is not None
        assert progress["success"] is True


async def test_what_no_installation_owns_is_cleaned_and_nothing_else(server: ReleaseServer, tmp_path: Path) -> None:
    versions = tmp_path / "comfyui-versions"
    for name in (".pumas-build-install-0123/x", ".pumas-work/install-0123/y", ".hidden/z", "mine/a"):
        (versions / name).mkdir(parents=True)
    async with built(tmp_path):
        await asyncio.to_thread(eventually, lambda: folders(tmp_path) == [".hidden", "mine"])


async def test_what_we_built_and_the_list_lost_is_listed_again(server: ReleaseServer, tmp_path: Path) -> None:
    """Nothing else is: not what has no marker of ours, nor one under another name."""
    async with built(tmp_path, smoke=False) as one:
        await ready(one, "ollama")
        for tag in ("v0.12.0", "v0.13.1"):
            await one.install(tag, "ollama")
        info = (await one.service.get("v0.12.0", "ollama")).info
    listing = tmp_path / "launcher-data/metadata/versions-ollama.json"
    value = json.loads(listing.read_text())
    del value["installed"]["v0.12.0"]
    listing.write_text(json.dumps(value))
    place = tmp_path / "ollama-versions"
    shutil.copytree(place / "v0.12.0", place / "v0.1.0", symlinks=True)
    shutil.copytree(place / "v0.12.0", place / "v0.2.0", symlinks=True)
    (place / "v0.2.0/.pumas-version.json").unlink()
    (place / "v0.12.0_backup of mine").mkdir()  # no tag can be called so
    async with built(tmp_path, smoke=False) as one:
        assert one.troubles.list() == []
        assert await one.tags("ollama") == ["v0.13.1", "v0.12.0"]
        assert (await one.service.get("v0.12.0", "ollama")).info == info
        unknown = ["v0.1.0", "v0.12.0_backup of mine", "v0.2.0"]
        assert (await one.service.validate("ollama")).unknown == unknown


async def test_a_removal_that_was_cut_short_is_finished(server: ReleaseServer, tmp_path: Path) -> None:
    async with built(tmp_path) as one:
        await ready(one, "ollama")
        for tag in ("v0.12.0", "v0.13.1"):
            await one.install(tag, "ollama")
        await one.service.switch("v0.13.1", "ollama")
        listing = tmp_path / "launcher-data/metadata/versions-ollama.json"
        before = listing.read_bytes()
        removed = await one.service.remove("v0.12.0", "ollama")
    listing.write_bytes(before)  # killed before the list was changed
    async with built(tmp_path) as one:
        assert "v0.12.0" not in json.loads(listing.read_text())["installed"]
        assert [entry.id for entry in await one.service.removed("ollama")] == [removed.id]
        assert await one.service.restore(removed.id, "ollama") == "v0.12.0"


async def test_a_list_that_cannot_be_read_stops_every_change(server: ReleaseServer, tmp_path: Path) -> None:
    async with built(tmp_path) as one:
        await ready(one, "ollama")
        for tag in ("v0.12.0", "v0.13.1"):
            await one.install(tag, "ollama")
    listing = tmp_path / "launcher-data/metadata/versions-ollama.json"
    for path in listing.parent.glob("versions-ollama.json*"):
        path.write_text("{")
    before = everything(tmp_path / "ollama-versions")
    async with built(tmp_path) as one:
        assert await one.tags("ollama") == ["v0.13.1", "v0.12.0"]
        for change in (
            one.service.remove("v0.12.0", "ollama"),
            one.service.switch("v0.12.0", "ollama"),
            one.service.installs.install("v0.13.0", "ollama"),
            one.service.rollback("ollama"),
        ):
            with pytest.raises(Exception, match="cannot be read"):
                await change
        assert everything(tmp_path / "ollama-versions") == before
        assert [trouble.subject for trouble in one.troubles.list()] == [f"launcher-data/metadata/{listing.name}"]
        assert (await one.service.validate("ollama", rebuild=True)).valid == ["v0.13.1", "v0.12.0"]
        assert one.troubles.count == 0
        await one.service.switch("v0.12.0", "ollama")
        # What we knew about each version came back from the version's own folder.
        assert (await one.service.get("v0.13.1", "ollama")).info["releaseTag"] == "v0.13.1"


async def test_old_lists_are_shown_and_limits_told_when_github_does_not_answer(
    server: ReleaseServer, tmp_path: Path
) -> None:
    async with built(tmp_path) as one:
        server.rate_limit(600)
        with pytest.raises(RateLimited):
            await one.service.offers.offered(force=True)
        server.limited_until = 0
    async with built(tmp_path) as one:
        await ready(one)
        server.rate_limit(600)
        assert await one.service.offers.offered(force=True)
        assert (await one.service.offers.cache_status()).limited_s > 500


async def test_polls_ask_nobody(server: ReleaseServer, tmp_path: Path) -> None:
    async with built(tmp_path) as one:
        await ready(one, "ollama")
        await ready(one)
        await one.install("v0.13.1", "ollama")
        asked = len(server.asked)
        for _ in range(20):
            for app in ("comfyui", "ollama"):
                await one.service.offers.cache_status(app)
                await one.service.installs.progress(app)
                await one.service.installed(app)
                await one.service.active(app)
                await one.service.overview(app)
                await one.service.offers.offered(app)
        assert one.service.offers.fetched_behind is False
        assert len(server.asked) == asked


async def test_a_stale_list_is_refreshed_behind_and_said_so(server: ReleaseServer, tmp_path: Path) -> None:
    async with built(tmp_path) as one:
        assert await one.service.offers.offered() == []
        await asyncio.to_thread(eventually, lambda: one.service.offers.fetched_behind)
        assert await one.service.offers.offered()
        one.service.offers.reset_fetched_behind()
        await one.service.offers.offered("ollama")
        await one.service.offers.refresh_all_behind()
        assert not one.service.offers.fetched_behind


async def test_missing_dependencies_are_found_and_brought(server: ReleaseServer, tmp_path: Path) -> None:
    async with built(tmp_path) as one:
        await ready(one)
        await one.install("v0.5.0")
        shutil.rmtree(next(tmp_path.glob("comfyui-versions/v0.5.0/venv/lib/python*/site-packages/tiny_server-*")))
        assert (await one.service.dependencies("v0.5.0")).missing == ["tiny-server"]
        with pytest.raises(InvalidInput):
            await one.service.installs.install_dependencies("v0.13.1", "ollama")
        job = await one.service.installs.install_dependencies("v0.5.0")
        assert (await one.jobs.wait(job.id, 60)).state is JobState.COMPLETED
        assert (await one.service.dependencies("v0.5.0")).missing == []


async def test_what_lacks_packages_is_not_ready_to_start(server: ReleaseServer, tmp_path: Path) -> None:
    async with built(tmp_path) as one:
        await ready(one)
        await one.install("v0.5.0")
        await one.service.prepare("v0.5.0")
        place = tmp_path / "comfyui-versions/v0.5.0"
        packages = next(place.glob("venv/lib/python*/site-packages"))
        # Another version than is asked for, and no title for the process: users do that, and it runs.
        os.rename(next(packages.glob("tiny_server-*")), packages / "tiny_server-0.1.dist-info")
        shutil.rmtree(next(packages.glob("setproctitle-*")))
        assert (await one.service.dependencies("v0.5.0")).missing == ["setproctitle", "tiny-server"]
        await one.service.prepare("v0.5.0")
        shutil.rmtree(packages / "tiny_server-0.1.dist-info")
        shutil.rmtree(next(packages.glob("tiny_extra-*")))  # optional
        with pytest.raises(DependencyFailed, match=r"v0\.5\.0 lacks tiny-server; .*\(install_version_dependencies\)"):
            await one.service.prepare("v0.5.0")
        settings = place / "venv/pyvenv.cfg"
        settings.write_text(settings.read_text().replace("site-packages = false", "site-packages = true"))
        os.utime(place / "requirements.txt")
        await one.service.prepare("v0.5.0")


LINKS: list[tuple[str, Callable[[Path], object], str | None]] = [
    ("missing", lambda link: link.unlink(), "../../shared-resources/user"),
    ("broken", lambda link: (link.unlink(), link.symlink_to("/nowhere")), "../../shared-resources/user"),
    ("theirs", lambda link: (link.unlink(), link.symlink_to("models")), "models"),
    ("a folder", lambda link: (link.unlink(), link.mkdir()), None),
]


@pytest.mark.parametrize(("name", "change", "leads_to"), LINKS, ids=[case[0] for case in LINKS])
async def test_links_of_a_version_are_mended_before_it_starts(
    server: ReleaseServer, tmp_path: Path, name: str, change: Callable[[Path], object], leads_to: str | None
) -> None:
    """What is there and works stays, whoever made it."""
    async with built(tmp_path, smoke=False) as one:
        server.releases[COMFYUI] = [comfyui("v0.5.0", requirements="")]
        await ready(one)
        await one.install("v0.5.0")
        link = tmp_path / "comfyui-versions/v0.5.0/user"
        shutil.rmtree(tmp_path / "shared-resources/user")
        change(link)
        await one.service.prepare("v0.5.0")
        assert (str(link.readlink()) if link.is_symlink() else None) == leads_to
        assert link.is_dir()
        again = link.lstat().st_ino
        await one.service.prepare("v0.5.0")
        assert link.lstat().st_ino == again


@pytest.mark.parametrize(("is_full", "code"), [(True, "disk_full"), (False, "dependency_failed")])
async def test_a_full_disk_is_told_whatever_words_a_tool_has_for_it(
    server: ReleaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_full: bool, code: str
) -> None:
    def look(folder: Path) -> bool:
        assert folder == tmp_path / "comfyui-versions"
        return is_full

    async with built(tmp_path) as one:
        await ready(one)
        monkeypatch.setattr(installing, "has_no_room", look)
        job = await one.install("v0.7.0")
        assert (job.error_code, folders(tmp_path)) == (code, [])
        progress = await one.service.installs.progress()
        assert progress is not None
        assert "no-such-package-here" in Path(progress["log_path"]).read_text()


HOSTILE = Member("../../escaped.txt", b"x")


@pytest.mark.parametrize(
    ("app_id", "tag", "release"),
    [
        ("comfyui", "v0.5.0", Release("v0.5.0", raw=zipped(below("top", [*web_app("v1", ""), HOSTILE])))),
        ("ollama", "v1", Release("v1", assets={"ollama-linux-amd64.tgz": gzipped(tarred([*bundle("1"), HOSTILE]))})),
        ("ollama", "v1", Release("v1", assets={"ollama-linux-amd64.tar.zst": zstandarded(tarred([HOSTILE]))})),
    ],
    ids=["zip", "tgz", "tar.zst"],
)
async def test_a_hostile_archive_ends_its_installation_and_leaves_nothing(
    server: ReleaseServer, tmp_path: Path, app_id: str, tag: str, release: Release
) -> None:
    server.releases[{"comfyui": COMFYUI, "ollama": OLLAMA}[app_id]] = [release]
    root = tmp_path / "deep" / "root"
    async with built(root) as one:
        await ready(one, app_id)
        assert (await one.install(tag, app_id)).error_code == "unsafe_archive"
        assert folders(root, app_id) == []
    assert not list(tmp_path.rglob("escaped.txt"))


async def test_what_follows_a_removal_cannot_fail_it(server: ReleaseServer, tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []

    async def fail(app_id: str, tag: str) -> None:
        told.append((app_id, tag))
        raise Busy("the desktop is busy")

    async with built(tmp_path, smoke=False) as one:
        one.service.after_removal(fail)
        await ready(one, "ollama")
        for tag in ("v0.12.0", "v0.13.1"):
            await one.install(tag, "ollama")
        await one.service.switch("v0.13.1", "ollama")
        await one.service.remove("v0.12.0", "ollama")
        assert told == [("ollama", "v0.12.0")]
        assert await one.tags("ollama") == ["v0.13.1"]


async def test_what_follows_an_installation_cannot_fail_it(server: ReleaseServer, tmp_path: Path) -> None:
    async def fail(_version: object) -> None:
        raise Busy("the models are being moved")

    async with built(tmp_path) as one:
        one.service.installs.after(fail)
        await ready(one, "ollama")
        job = await one.install("v0.13.1", "ollama")
        assert job.state is JobState.COMPLETED
        assert job.result is not None
        assert job.result["warnings"] == ["the models are being moved"]


async def test_sizes_come_from_metadata_and_are_kept(server: ReleaseServer, tmp_path: Path) -> None:
    async with built(tmp_path) as one:
        await ready(one)
        await ready(one, "ollama")
        assert await one.service.offers.known_size("v0.5.0") is None
        size = await one.service.offers.size("v0.5.0")
        names = {str(package["package"]) for package in size.dependencies}
        assert names == {"tiny-server", "tiny-colors", "tiny-extra", "setproctitle"}
        assert size.dependencies_size == sum(int(package["size"]) for package in size.dependencies) > 0
        assert (size.dependency_count, size.unknown_count, size.source) == (3, 0, "pip_report")
        asked = len(server.asked)
        assert await one.service.offers.size("v0.5.0") == size == await one.service.offers.known_size("v0.5.0")
        assert len(server.asked) == asked
        shown = {o.release.tag: o.total_size for o in await one.service.offers.offered()}
        assert shown["v0.5.0"] == size.total_size
        assert shown["v0.4.1"] is None
        # A dependency that does not exist, and no network: an estimate, so that nobody asks for ever.
        estimate = await one.service.offers.size("v0.7.0")
        assert estimate.estimated
        server.fault("*", Status(401), times=1000)
        assert (await one.service.offers.size("v0.4.1")).estimated
        assert {o.release.tag: o.total_size for o in await one.service.offers.offered()}[
            "v0.7.0"
        ] == estimate.total_size
        assert server.count("/wheels/*.whl") == 0
        bundle = await one.service.offers.size("v0.13.1", "ollama")
        assert (bundle.archive_size, bundle.dependencies_size) == (bundle.total_size, 0)


async def test_every_release_has_a_total_after_it_was_asked_for(server: ReleaseServer, tmp_path: Path) -> None:
    """Older clients ask again and again until there is one."""
    server.releases[OLLAMA] = [Release("v0.14.0", assets={"sha256sum.txt": b""}), ollama("v0.13.1")]
    server.fault("/repos/*/contents/*", Status(404), times=1000)
    async with built(tmp_path) as one:
        for app_id in ("comfyui", "ollama"):
            await ready(one, app_id)
            for offer in await one.service.offers.offered(app_id):
                with contextlib.suppress(ReleaseNotFound):
                    await one.service.offers.size(offer.release.tag, app_id)
            assert [o.release.tag for o in await one.service.offers.offered(app_id) if o.total_size is None] == []


async def test_an_estimate_left_in_haste_gives_way_to_what_is_found_out(
    server: ReleaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with built(tmp_path) as one:
        await ready(one)
        monkeypatch.setattr(offers, "SIZE_S", 0.0)
        assert (await one.service.offers.size("v0.5.0")).source == "unknown"
        monkeypatch.setattr(offers, "SIZE_S", 30.0)
        assert (await one.service.offers.size("v0.5.0")).source == "pip_report"


def test_shipped_descriptions_are_what_these_tests_install() -> None:
    assert shipped("comfyui").releases.repository == COMFYUI
    assert shipped("ollama").releases.repository == OLLAMA
