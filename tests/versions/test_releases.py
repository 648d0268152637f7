"""Lists of releases: asked for page by page and only when they changed, shown when nobody answers, limits told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from apps.test_description import shipped
from fixtures.releases import Release, ReleaseServer, Status
from pumas.errors import HttpStatus, NetworkError, RateLimited, ReleaseNotFound
from pumas.net.client import NetworkClient
from pumas.versions.github import GitHub
from pumas.versions.releases import ReleaseList

from .setup import server

__all__ = ["server"]
OLLAMA = "ollama/ollama"


class Clock:
    def __init__(self) -> None:
        self.now = 1_900_000_000.0

    def __call__(self) -> float:
        return self.now


def make(folder: Path, clock: Clock | None = None, app: str = "ollama") -> ReleaseList:
    now = clock or Clock()
    return ReleaseList(shipped(app), folder, GitHub(NetworkClient(), now), now)


def offered(releases: ReleaseList) -> list[str]:
    return [release.tag for release in releases.offered()]


def test_the_highest_of_each_minor_is_offered_and_every_one_is_known(server: ReleaseServer, tmp_path: Path) -> None:
    releases = make(tmp_path)
    assert offered(releases) == []
    assert not releases.status().has_cache
    releases.refresh()
    assert offered(releases) == ["v0.13.1", "v0.12.0"]
    assert releases.get("v0.13.0").tag == "v0.13.0"
    asset = releases.get("v0.13.1").assets[0]
    assert asset["download_url"] == asset["browser_download_url"]
    with pytest.raises(ReleaseNotFound):
        releases.get("v9")


def test_all_pages_are_read_and_unchanged_ones_not_sent_again(server: ReleaseServer, tmp_path: Path) -> None:
    server.releases[OLLAMA] = [Release(f"v{n}.0.0") for n in range(250, 0, -1)]
    clock = Clock()
    releases = make(tmp_path, clock)
    releases.refresh()
    assert len(offered(releases)) == 250
    assert server.count("/repos/*page=*") == 3
    again = make(tmp_path, clock)
    assert len(offered(again)) == 250
    again.refresh()
    conditional = [asked.headers.get("if-none-match") for asked in server.asked[3:]]
    assert len(conditional) == 3
    assert all(conditional)
    server.releases[OLLAMA] = [Release("v251.0.0"), *server.releases[OLLAMA]]
    again.refresh()
    assert offered(again)[0] == "v251.0.0"
    assert len(offered(again)) == 251


def test_a_release_that_moves_to_the_next_page_while_they_are_read_is_listed_once(
    server: ReleaseServer, tmp_path: Path
) -> None:
    """As when one is published between the requests for two pages."""
    names = [f"v{n}.0.0" for n in range(150, 0, -1)]
    server.releases[OLLAMA] = [Release(name) for name in [*names[:100], *names[99:]]]
    releases = make(tmp_path)
    releases.refresh()
    assert offered(releases) == names
    assert releases.status().count == len(names)


def test_a_list_is_fresh_for_an_hour(server: ReleaseServer, tmp_path: Path) -> None:
    clock = Clock()
    releases = make(tmp_path, clock)
    releases.refresh()
    assert (releases.status().is_valid, releases.status().age_s, releases.is_stale()) == (True, 0, False)
    clock.now += 3599
    assert releases.status().is_valid
    clock.now += 2
    assert (releases.status().is_valid, releases.is_stale()) == (False, True)
    assert offered(releases)
    clock.now -= 7200  # the clock was wrong then, or is now
    assert not releases.status().is_valid


@pytest.mark.parametrize("status", [Status(500), Status(502), Status(404), Status(401)])
def test_what_is_known_stays_when_github_fails(server: ReleaseServer, tmp_path: Path, status: Status) -> None:
    releases = make(tmp_path)
    releases.refresh()
    server.fault("/repos/*", status, times=20)
    with pytest.raises((NetworkError, ReleaseNotFound, HttpStatus)):
        releases.refresh()
    assert offered(releases) == ["v0.13.1", "v0.12.0"]
    assert releases.status().error
    server.no_faults()
    server.fault("/repos/*", Status(200))  # no list of releases
    with pytest.raises(NetworkError):
        releases.refresh()
    assert offered(releases) == ["v0.13.1", "v0.12.0"]


def test_a_rate_limit_is_told_and_kept(server: ReleaseServer, tmp_path: Path) -> None:
    import time

    clock = Clock()
    clock.now = time.time()
    releases = make(tmp_path, clock)
    server.rate_limit(1800)
    with pytest.raises(RateLimited) as first:
        releases.refresh()
    assert 1700 < first.value.retry_after_s < 1810
    asked = len(server.asked)
    with pytest.raises(RateLimited):
        releases.refresh()
    assert len(server.asked) == asked
    assert 1700 < releases.status().limited_s < 1810
    assert not releases.is_stale()


def test_pages_that_came_before_a_limit_are_shown_and_are_old(server: ReleaseServer, tmp_path: Path) -> None:
    import time

    clock = Clock()
    clock.now = time.time()
    server.releases[OLLAMA] = [Release(f"v{n}.0.0") for n in range(250, 0, -1)]
    server.rate_limit(1800, after=1)
    releases = make(tmp_path, clock)
    with pytest.raises(RateLimited):
        releases.refresh()
    for one in (releases, make(tmp_path, clock)):
        assert offered(one)[0] == "v250.0.0"
        assert (one.status().count, one.status().is_valid) == (100, False)
    server.limited_until = 0.0
    clock.now += 2000
    releases = make(tmp_path, clock)
    releases.refresh()
    assert (releases.status().count, releases.status().is_valid) == (250, True)
    server.releases[OLLAMA] = [Release("v251.0.0"), *server.releases[OLLAMA]]
    server.rate_limit(1800, after=1)
    clock.now += 100
    with pytest.raises(RateLimited):
        releases.refresh()
    assert offered(releases)[0] == "v251.0.0", "the first page is new"
    assert releases.get("v1.0.0").tag == "v1.0.0", "the others are known"
    assert releases.status().age_s == 100


NULLS = {"tag_name": "v1.0", "name": None, "assets": None, "body": None}
ODD = [{"tag_name": 5}, 7, {"tag_name": "v2.0", "assets": [5, {"name": None}]}]
OLD: list[tuple[Any, list[str]]] = [
    ({"lastFetched": "2030-01-01T00:00:00.000001Z", "ttl": 3600, "releases": [{"tag_name": "v1.0"}]}, ["v1.0"]),
    ({"lastFetched": "2030-01-01T00:00:00+00:00", "ttl": None, "releases": [NULLS]}, ["v1.0"]),
    ({"lastFetched": "2030-01-01T00:00:00", "releases": ODD}, ["v2.0"]),
    ({"lastFetched": "never", "releases": []}, []),
    ({"releases": [{"tag_name": "v1.0"}]}, []),
    ([], []),
]


@pytest.mark.parametrize(("value", "tags"), OLD)
def test_caches_of_older_sidecars_are_read(tmp_path: Path, value: Any, tags: list[str]) -> None:
    (tmp_path / "github-releases-ollama-ollama.json").write_text(json.dumps(value))
    assert offered(make(tmp_path)) == tags


ASSET = {
    "name": "ollama-linux-amd64.tgz",
    "size": 5,
    "browser_download_url": "https://example.org/x",
    "state": "uploaded",
}
ELSEWHERE = ASSET | {"name": "ollama-other.tgz"}
COMING = ASSET | {"state": "starter", "size": 0}


@pytest.mark.parametrize(
    ("releases", "tags"),
    [
        ({"v0.14.0": [ELSEWHERE], "v0.13.1": [COMING], "v0.13.0": [ASSET]}, ["v0.13.0"]),
        ({"v0.14.0": [ELSEWHERE], "v0.13.0": []}, ["v0.14.0", "v0.13.0"]),
        ({"draft v0.14.0": [ASSET], "v0.13.0": [ASSET]}, ["v0.13.0"]),
        ({"v0.13.9": [ASSET], "v0.14.0": [ASSET]}, ["v0.14.0", "v0.13.9"]),
    ],
    ids=["not for this machine yet", "never for this machine", "draft", "older one published later"],
)
def test_what_cannot_be_installed_hides_nothing_that_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, releases: dict[str, Any], tags: list[str]
) -> None:
    monkeypatch.setattr("pumas.apps.description.this_platform", lambda: "linux-x86_64")
    listed = [
        {"tag_name": name.removeprefix("draft "), "draft": name.startswith("draft"), "assets": assets}
        for name, assets in releases.items()
    ]
    value = {"lastFetched": "2030-01-01T00:00:00Z", "releases": listed}
    (tmp_path / "github-releases-ollama-ollama.json").write_text(json.dumps(value))
    assert offered(make(tmp_path)) == tags


def test_the_newer_of_two_caches_counts(tmp_path: Path) -> None:
    for name, day in (("github-releases.json", 1), ("github-releases-comfyanonymous-ComfyUI.json", 2)):
        value = {"lastFetched": f"2030-01-0{day}T00:00:00Z", "releases": [{"tag_name": f"v{day}.0"}]}
        (tmp_path / name).write_text(json.dumps(value))
    assert offered(make(tmp_path, app="comfyui")) == ["v2.0"]


def test_a_damaged_cache_is_none(server: ReleaseServer, tmp_path: Path) -> None:
    (tmp_path / "github-releases-ollama-ollama.json").write_text("{")
    releases = make(tmp_path)
    assert offered(releases) == []
    releases.refresh()
    assert offered(releases) == ["v0.13.1", "v0.12.0"]
