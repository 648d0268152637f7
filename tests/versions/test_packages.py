"""What fills an environment, by each tool: uv, the pip beside us, and the pip of the environment itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fixtures.releases import ReleaseServer
from fixtures.releases.content import COMFYUI, comfyui
from fixtures.releases.wheels import USUAL
from pumas.jobs.store import JobState
from pumas.versions import packages

from .setup import built, server
from .test_service import ready

__all__ = ["server"]
TOOLS = ["uv", "our pip", "its pip"]


def choose(monkeypatch: pytest.MonkeyPatch, tool: str) -> None:
    if tool != "uv":
        monkeypatch.setenv("PUMAS_UV", "off")
    if tool == "its pip":
        monkeypatch.setattr(packages, "_DATED_PIP", 10_000)


def version_of(place: Path, name: str) -> str:
    return packages.distributions(place / "venv")[name]


@pytest.mark.parametrize("tool", TOOLS)
async def test_each_tool_installs_and_honours_the_date_of_the_release_or_says_that_it_does_not(
    server: ReleaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    choose(monkeypatch, tool)
    async with built(tmp_path / "a root with 'quotes'") as one:
        await ready(one)
        job = await one.install("v0.5.0")
        assert (job.state, job.error) == (JobState.COMPLETED, None)
        place = one.layout.root / "comfyui-versions/v0.5.0"
        assert job.result is not None
        # Version 2.0 of it was published after the release.
        found = (version_of(place, "tiny-colors"), [text.split(";")[0] for text in job.result["warnings"]])
        undated = "This pip cannot leave out packages that are newer than the release"
        assert found == (("2.0", [undated]) if tool == "its pip" else ("1.0", []))
        assert version_of(place, "pip")
        assert (await one.service.dependencies("v0.5.0")).missing == []


@pytest.mark.parametrize("tool", TOOLS[:2])
async def test_an_index_without_dates_is_used_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    choose(monkeypatch, tool)
    with ReleaseServer(wheels=tuple(dataclasses.replace(wheel, uploaded="") for wheel in USUAL)) as server:
        for name, value in {**server.environment(), "UV_CACHE_DIR": str(tmp_path / "uv-cache")}.items():
            monkeypatch.setenv(name, value)
        async with built(tmp_path) as one:
            await ready(one)
            job = await one.install("v0.5.0")
            assert (job.state, job.error) == (JobState.COMPLETED, None)
            assert job.result is not None
            assert ["does not tell when" in warning for warning in job.result["warnings"]] == [True]


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_requirement_that_cannot_be_had_is_told(
    server: ReleaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    choose(monkeypatch, tool)
    async with built(tmp_path) as one:
        await ready(one)
        job = await one.install("v0.7.0")
        assert (job.state, job.error_code) == (JobState.FAILED, "dependency_failed")
        assert "no-such-package-here" in (job.error or "")


@pytest.mark.parametrize("tool", TOOLS[:2])
async def test_a_release_that_needs_nothing(
    server: ReleaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    choose(monkeypatch, tool)
    server.releases[COMFYUI] = [comfyui("v0.5.0", requirements="# nothing\n", imports="")]
    async with built(tmp_path) as one:
        await ready(one)
        assert (await one.install("v0.5.0")).error is None
        assert (await one.service.dependencies("v0.5.0")).installed == ["setproctitle"]


@pytest.mark.parametrize("tool", TOOLS)
async def test_sizes_are_found_out_without_running_anything(
    server: ReleaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    choose(monkeypatch, tool)
    async with built(tmp_path) as one:
        await ready(one)
        size = await one.service.offers.size("v0.5.0")
        assert (size.source, size.unknown_count) == ("pip_report", 0)
        assert {str(package["package"]) for package in size.dependencies} >= {"tiny-server", "tiny-colors"}
        assert (await one.service.offers.size("v0.7.0")).estimated
    assert [asked for asked in server.asked if asked.method == "GET" and asked.path.endswith(".whl")] == []


@pytest.mark.parametrize("tool", TOOLS[:2])
async def test_dependencies_are_brought_into_an_environment_that_is_there(
    server: ReleaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    """As custom nodes do it too."""
    choose(monkeypatch, tool)
    server.releases[COMFYUI] = [comfyui("v0.5.0", requirements="tiny-server\ntiny-colors\n")]
    async with built(tmp_path) as one:
        await ready(one)
        await one.install("v0.5.0")
        requirements = tmp_path / "comfyui-versions/v0.5.0/requirements.txt"
        requirements.write_text("tiny-server\nno-such-package-here\n")
        job = await one.service.installs.install_dependencies("v0.5.0")
        job = await one.jobs.wait(job.id, 60)
        assert (job.error_code, "no-such-package-here" in (job.error or "")) == ("dependency_failed", True)
        requirements.write_text("tiny-extra\n")
        assert (await one.service.dependencies("v0.5.0")).missing == ["tiny-extra"]
        job = await one.service.installs.install_dependencies("v0.5.0")
        assert (await one.jobs.wait(job.id, 60)).error is None
        assert (await one.service.dependencies("v0.5.0")).missing == []


def test_what_an_environment_holds_is_read_from_its_metadata(tmp_path: Path) -> None:
    site = tmp_path / "lib/python3.12/site-packages"
    for name, url in {
        "pip-25.0": "file:///usr/lib/pip-25.0-py3-none-any.whl",
        "Tiny_Server-1.1+cu118": None,
        "local-2.0": "file:///home/me/local",
        "fetched-3.0": "https://example.org/fetched-3.0.whl",
    }.items():
        (site / f"{name}.dist-info").mkdir(parents=True)
        if url:
            (site / f"{name}.dist-info/direct_url.json").write_text(f'{{"url": "{url}"}}')
    (site / "local-2.0.dist-info/RECORD").touch()
    (site / "_virtualenv.py").touch()
    assert [(one.name, one.version, one.url) for one in packages.installed(tmp_path)] == [
        ("fetched", "3.0", "https://example.org/fetched-3.0.whl"),
        ("local", "2.0", "file:///home/me/local"),
        ("tiny-server", "1.1+cu118", None),
    ]
