"""Downloads of a real sidecar while it is killed, its disk fills up or goes away, and its hub stalls, refuses and lies.

Kills by the dozen, without HTTP and therefore quicker, are in `tests/downloads/test_kills.py`. `PUMAS_FAULT_RUNS` sets
how many this sidecar gets (3 unless told).
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import signal
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sidecar as running_sidecar
from fixtures.hub import (
    Generated,
    Hub,
    HubContent,
    HubFile,
    Options,
    Repo,
    User,
)
from fixtures.hub.repositories import GATED, TOKENS, guarded_repositories, hostile_repository
from sidecar import Sidecar, eventually

Launch = Callable[..., Sidecar]
MIB = 1 << 20
KILLS = int(os.environ.get("PUMAS_FAULT_RUNS", "3"))
BIG = 96 * MIB + 4321
SMALL = 3 * MIB + 99
LOST_BY_A_KILL = 16 * MIB
STATUS_S = 5.0
MOVING = ("queued", "downloading", "retrying", "waiting", "verifying")
STOPPED = ("paused", "completed", "cancelled", "error")
FINAL_S = 40.0
# What nobody but the hub may ever see.
MARKER = "hf_MARKERmarkerMARKER"


# -- what there is -----------------------------------------------------------------------------------------------------


def repo_of(name: str, *sizes: int, **facts: Any) -> Repo:
    repo = Repo(f"maker/{name}", "text-generation", "transformers", "mit", **facts)
    files: dict[str, Any] = {"config.json": b'{"model_type": "llama", "of": "%s"}' % name.encode()}
    files |= {f"model-{n}.safetensors": Generated(size, zlib.crc32(name.encode()) + n) for n, size in enumerate(sizes)}
    repo.commit(files)
    return repo


def hub_of(*repos: Repo, **options: Any) -> Hub:
    return Hub(HubContent.of(*repos, users={**TOKENS, MARKER: User("marked", granted=frozenset({GATED}))}), **options)


class Client:
    """One sidecar and the calls that these tests make."""

    def __init__(self, sidecar: Sidecar, hub: Hub) -> None:
        self.sidecar, self.hub = sidecar, hub

    @property
    def library(self) -> Path:
        return self.sidecar.root / "shared-resources" / "models"

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.sidecar.result(method, params)

    def start(self, repo_id: str, **wishes: Any) -> str:
        answer = self.call("start_model_download_from_hf", repo_id=repo_id, **wishes)
        assert answer["success"], answer
        return answer["download_id"]

    def refused(self, repo_id: str, **wishes: Any) -> str:
        """The error code of a start that does not succeed."""
        answer = self.call("start_model_download_from_hf", repo_id=repo_id, **wishes)
        assert not answer["success"], answer
        assert answer["error"]
        return answer["error_code"]

    def status(self, download_id: str, **options: Any) -> dict[str, Any]:
        answer = self.call("get_model_download_status", download_id=download_id, **options)
        assert answer["success"], answer
        return answer

    def until(self, download_id: str, *statuses: str, timeout_s: float = FINAL_S) -> dict[str, Any]:
        end = time.monotonic() + timeout_s
        while (now := self.status(download_id))["status"] not in statuses:
            assert time.monotonic() < end and now["status"] not in ("error", "completed", "cancelled"), now
            time.sleep(0.02)
        return now

    def until_stopped(self, download_id: str) -> dict[str, Any]:
        found = eventually(lambda: now if (now := self.status(download_id))["status"] in STOPPED else None, FINAL_S)
        assert found is not None
        return found

    def until_bytes(self, download_id: str, count: int) -> dict[str, Any]:
        def enough() -> dict[str, Any] | None:
            now = self.status(download_id)
            assert now["status"] in MOVING, now
            return now if now["downloaded_bytes"] >= count else None

        found = eventually(enough, FINAL_S, f"{count:,} bytes")
        assert found is not None
        return found

    def whole(self, download_id: str) -> dict[str, Any]:
        """Wait for the end, and hold every byte against the hub's."""
        done = self.until(download_id, "completed")
        folder = Path(done["model_path"])
        commit = self.hub.content.repos[done["repo_id"]].at(done["revision"])
        assert commit is not None
        listed = [one["path"] for one in self.status(download_id, files=True)["files"]]
        assert digests(folder) == {path: digest_of(commit.files[path]) for path in listed}
        return done

    def visible(self) -> list[str]:
        """Every file of the library but its own ones."""
        found: list[str] = []
        for folder, folders, names in os.walk(self.library):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [os.path.relpath(f"{folder}/{name}", self.library) for name in names if "models.db" not in name]
        return sorted(found)

    def staged(self) -> list[str]:
        staging = self.library / ".staging"
        return sorted(path.name for path in staging.iterdir()) if staging.is_dir() else []


def digests(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in ("metadata.json", "overrides.json"):
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def digest_of(file: HubFile) -> str:
    return HubFile(file.data, lfs=True).sha256


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with hub_of(hostile_repository(), *guarded_repositories()) as hub:
        yield hub


@pytest.fixture(scope="module")
def running(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """One sidecar for the tests that need no other."""
    home = tmp_path_factory.mktemp("downloads")
    (home / "root").mkdir()
    one = running_sidecar.start(home / "root", env=hub.env(home=home))
    yield one
    one.close()


@pytest.fixture
def client(running: Sidecar, hub: Hub) -> Iterator[Client]:
    hub.reset()
    hub.options = Options()
    made = Client(running, hub)
    yield made
    hub.reset()
    hub.options = Options()
    made.call("set_network_settings", offline=False)
    for one in made.call("list_model_downloads", finished=False)["downloads"]:
        made.call("cancel_model_download", download_id=one["download_id"])
        made.until_stopped(one["download_id"])
    made.call("set_download_limits", bytes_per_second=0, at_once=3, any_time=True)


_NAMES = itertools.count(1)


def fresh(client: Client, *sizes: int, **facts: Any) -> str:
    """A repository that no other test downloads."""
    repo = repo_of(f"fresh-{next(_NAMES)}", *sizes, **facts)
    client.hub.content.repos[repo.id] = repo
    client.hub.content.warm()
    return repo.id


# -- killed ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_moment_it_goes_on_by_itself(launch: Launch, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with hub_of(repo_of(f"big-{seed}", BIG), options=Options(connection_rate=3e6)) as hub:
        root = tmp_path / "root"
        client = Client(launch(root=root, env=hub.env(home=tmp_path)), hub)
        download_id = client.start(f"maker/big-{seed}")
        for _ in range(KILLS):
            asked = len(hub.requests)
            hub.wait_until(lambda asked=asked: len([r for r in hub.requests[asked:] if r.span]) > 0, 20)
            time.sleep(chance.uniform(0.0, 0.4))
            shown = client.status(download_id)["downloaded_bytes"]
            client.sidecar.kill()
            assert client.visible() == [], "nothing half is ever visible"
            client = Client(launch(root=root, env=hub.env(home=tmp_path)), hub)
            now = client.status(download_id)
            assert now["status"] in MOVING and now["error"] == ""
            assert now["downloaded_bytes"] >= shown - LOST_BY_A_KILL
        hub.options = Options()
        client.whole(download_id)
        assert client.staged() == []
        refetched = hub.bytes_sent("*.safetensors") - BIG
        assert refetched <= KILLS * LOST_BY_A_KILL
        print(f"{KILLS} kills, {refetched / KILLS / MIB:.1f} MiB fetched again per kill")


def test_the_order_and_the_limits_survive_a_kill(launch: Launch, tmp_path: Path) -> None:
    with hub_of(*(repo_of(name, SMALL) for name in "abcd"), options=Options(connection_rate=50_000)) as hub:
        root = tmp_path / "root"
        client = Client(launch(root=root, env=hub.env(home=tmp_path)), hub)
        client.call("set_download_limits", at_once=1, bytes_per_second=7_000_000)
        ids = [client.start(f"maker/{name}") for name in "abcd"]
        client.until(ids[0], "downloading")
        client.call("reorder_model_downloads", download_ids=[ids[3], ids[1]])
        client.call("pause_model_download", download_id=ids[2])
        order = [ids[3], ids[1], ids[0], ids[2]]
        assert [one["download_id"] for one in client.call("list_model_downloads")["downloads"]] == order
        client.sidecar.kill()
        client = Client(launch(root=root, env=hub.env(home=tmp_path)), hub)
        listed = client.call("list_model_downloads")["downloads"]
        assert [one["download_id"] for one in listed] == order
        assert listed[3]["status"] == "paused", "what the user stopped stays"
        limits = client.call("get_download_limits")
        assert (limits["at_once"], limits["bytes_per_second"]) == (1, 7_000_000)
        hub.options = Options()
        for download_id in order[:3]:
            client.whole(download_id)
        assert client.status(ids[2])["status"] == "paused"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_in_the_middle(launch: Launch, tmp_path: Path, number: int) -> None:
    with hub_of(repo_of("big", BIG), options=Options(connection_rate=4e6)) as hub:
        root = tmp_path / "root"
        client = Client(launch(root=root, env=hub.env(home=tmp_path)), hub)
        download_id = client.start("maker/big")
        shown = client.until_bytes(download_id, 4 * MIB)["downloaded_bytes"]
        began = time.monotonic()
        client.sidecar.signal(number)
        assert client.sidecar.wait(10) == 0
        took = time.monotonic() - began
        assert took < 2
        print(f"ended after {took:.2f} s")
        client = Client(launch(root=root, env=hub.env(home=tmp_path)), hub)
        assert client.status(download_id)["downloaded_bytes"] >= shown - LOST_BY_A_KILL
        hub.options = Options()
        client.whole(download_id)
        assert hub.bytes_sent("*.safetensors") - BIG <= LOST_BY_A_KILL
