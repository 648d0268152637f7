"""`kill -9` at any moment of a large download: it goes on by itself, loses little, and ends right.

Where the Rust backend is the one under test, every other life is the Python one's: each goes on with what the other
had.
`PUMAS_FAULT_RUNS` sets how many kills each of the four downloads gets (13 unless told: 52 together).
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from fixtures.hub import Generated, Hub, HubContent, Options, Repo
from sidecar import chosen_backend

from .life import Driver, Life, RustLife

MIB = 1 << 20
KILLS = int(os.environ.get("PUMAS_FAULT_RUNS", "13"))
SIZE = max(96, 8 * KILLS) * MIB + 4321  # more than all the lives together bring
REPO = "maker/big"
LOST_BY_A_KILL = 16 * MIB
MOVING = ("queued", "downloading", "retrying", "verifying")
BOUND_S = 30.0


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    with Driver() as driver:
        yield driver


Begin = Callable[[Path, Mapping[str, str]], Life | RustLife]


@pytest.fixture
def begin(driver: Driver) -> Begin:
    """Begins the next life."""
    if chosen_backend(os.environ) == "python":
        return driver.begin
    kinds = itertools.cycle((RustLife, driver.begin))
    return lambda root, env: next(kinds)(root, env)


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_moment(begin: Begin, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    repo = Repo(REPO, "text-generation", "transformers", "mit")
    repo.commit({"config.json": b"{}", "model.safetensors": Generated(SIZE, seed)})
    library = tmp_path / "shared-resources" / "models"
    with Hub(HubContent.of(repo), Options(connection_rate=5e6)) as hub:
        life = begin(tmp_path, hub.env(home=tmp_path))
        download_id = life.call("start_model_download_from_hf", repo_id=REPO)["download_id"]
        for _ in range(KILLS):
            asked = len(hub.requests)
            hub.wait_until(lambda asked=asked: any(r.bytes_sent and r.span for r in hub.requests[asked:]), BOUND_S)
            time.sleep(chance.uniform(0.0, 0.35))
            before = life.call("get_model_download_status", download_id=download_id)
            life.kill()
            assert visible(library) == []
            life = begin(tmp_path, hub.env(home=tmp_path))
            after = life.call("get_model_download_status", download_id=download_id)
            assert after["status"] in MOVING
            assert after["downloaded_bytes"] >= before["downloaded_bytes"] - LOST_BY_A_KILL
            assert after["restarts"] == 0
        hub.options = Options()
        end = time.monotonic() + BOUND_S
        while (now := life.call("get_model_download_status", download_id=download_id))["status"] != "completed":
            assert now["status"] in MOVING and time.monotonic() < end, now
            time.sleep(0.02)
        with Path(now["model_path"], "model.safetensors").open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == repo.file("model.safetensors").sha256
        assert sorted(path.name for path in (library / ".staging").iterdir()) == []
        refetched = hub.bytes_sent("*.safetensors") - SIZE
        assert refetched <= KILLS * LOST_BY_A_KILL
        print(f"{KILLS} kills, {refetched / KILLS / MIB:.1f} MiB fetched again per kill")
        life.kill()


def visible(library: Path) -> list[str]:
    found: list[str] = []
    for folder, folders, names in os.walk(library):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(folder, name) for name in names if not name.startswith("models.db")]
    return found
