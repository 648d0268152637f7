"""Downloads over any order of calls, kills and faults of the hub.

Hypothesis chooses what happens; a real process does it (`driver.py`), over a real hub, and is killed for real. After
every step the disk is walked: a file under its final name is one that the hub really has, in a model that is whole. At
the end the hub is healed, all is resumed, and everything must have come to its end by itself, with nothing left over.

`HYPOTHESIS_PROFILE=long` runs for minutes; `=soak` for an hour.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fixtures.hub import (
    Action,
    Commit,
    Cut,
    Drop,
    Flip,
    Generated,
    Gzip,
    Header,
    Hub,
    HubContent,
    HubFile,
    IgnoreRange,
    Length,
    Options,
    OtherETag,
    OtherRange,
    Page,
    Repo,
    Slow,
    Stall,
    Status,
    Truncate,
)
from library.model_disk import safetensors

from .life import Driver, Life

MIB = 1 << 20
RUNS = {"": 6, "long": 120, "soak": 1500}[os.environ.get("HYPOTHESIS_PROFILE", "")]
# What a kill may cost of what was shown before.
LOST_BY_A_KILL = 16 * MIB
ENDS_S = 60.0
FINAL = ("completed", "cancelled")
STOPPED = (*FINAL, "paused", "error")
OURS = frozenset({"metadata.json", "overrides.json"})
REPOS = ("maker/one", "maker/two", "maker/small")

FAULTS: tuple[tuple[Action, ...], ...] = (
    (Drop(),),
    (Drop(reset=True),),
    (Cut(0),),
    (Cut(after_bytes=700_000),),
    (Cut(after_bytes=1_500_000, reset=True),),
    (Cut(at=2 * MIB + 5),),
    (Truncate(keep=300_000),),
    (Truncate(keep=MIB, admit=True),),
    (Stall(after_bytes=400_000, seconds=1.0),),
    (Stall(after_bytes=None, seconds=1.0),),
    (Slow(200_000),),
    (Flip(1_234_567),),
    (Flip(3), Flip(2 * MIB)),
    (OtherETag(),),
    (IgnoreRange(),),
    (OtherRange(4096),),
    (OtherRange(-777, admit=False),),
    (Length(10**15),),
    (Length(17),),
    (Length(-1),),
    (Length(None),),
    (Length(None, close=True),),
    (Header("ETag", None),),
    (Header("Content-Range", None),),
    (Header("Content-Range", "bytes 0-0/1"),),
    (Page(),),
    (Gzip(),),
    (Status(429, retry_after=0.2),),
    (Status(503, retry_after=0.1),),
    (Status(500),),
    (Status(403),),
    (Status(404),),
    (Status(416),),
    (OtherETag(), Cut(after_bytes=1_200_000)),
    (Flip(1 * MIB + 7), Cut(after_bytes=3 * MIB)),
)


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    with Driver() as driver:
        yield driver


def new_content() -> HubContent:
    one = Repo(REPOS[0], "text-generation", "transformers", "mit")
    one.commit({"config.json": b'{"model_type": "llama"}', "model.safetensors": safetensors(1, 6 * MIB + 321)})
    two = Repo(REPOS[1], "text-to-image", "diffusers", "mit")
    two.commit(
        {
            "model_index.json": b"{}",
            "unet/model.safetensors": safetensors(2, 3 * MIB + 1),
            "vae/model.safetensors": safetensors(3, 2 * MIB),
            "text/model.safetensors": safetensors(3, 2 * MIB),  # the same once more
            "unet/config.json": b'{"_class_name": "UNet2DConditionModel"}',
            "tokenizer/merges.txt": HubFile(Generated(MIB + 77, 4), lfs=False),
        }
    )
    small = Repo(REPOS[2], "text-generation", "transformers", "mit")
    small.commit(
        {"config.json": b"{}", "model.safetensors": safetensors(5, 9_999)}
        | {f"part-{n}/config.json": b'{"n": %d}' % n for n in range(12)}
    )
    return HubContent.of(one, two, small)


@dataclass
class Seen:
    """What was last seen of a download."""

    repo_id: str
    commit: str
    status: str = ""
    downloaded: int = 0
    restarts: int = 0
    lives: int = 0
    user_paused: bool = False
    cancelled: bool = False


class Downloads(RuleBasedStateMachine):
    driver: Driver

    @initialize(rate=st.sampled_from([3e6, 8e6, 30e6]))
    def begin(self, rate: float) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="downloads-")
        self.root = Path(self.folder.name)
        self.library = self.root / "shared-resources" / "models"
        self.hub = Hub(new_content(), Options(connection_rate=rate))
        self.hub.__enter__()
        self.lives = 0
        self.seen: dict[str, Seen] = {}
        self.digests: dict[tuple[int, int, int], str] = {}
        self.life = self.reopened()

    def reopened(self) -> Life:
        self.lives += 1
        return self.driver.begin(self.root, self.hub.env(home=self.root))

    # -- what happens ------------------------------------------------------------------------------------------------

    @rule(repo_id=st.sampled_from(REPOS), duplicate=st.booleans())
    def start(self, repo_id: str, duplicate: bool) -> None:
        answer = self.life.call("start_model_download_from_hf", repo_id=repo_id, allow_duplicate=duplicate)
        note(f"start: {answer}")
        if not answer["success"]:
            assert answer["error_code"] not in ("internal_error", "invalid_input"), answer
            return
        known = self.seen.get(answer["download_id"])
        if known is None:
            self.seen[answer["download_id"]] = Seen(repo_id, answer["revision"])
            return
        assert (known.repo_id, known.commit) == (repo_id, answer["revision"])
        assert known.status not in FINAL and not known.cancelled, "what has ended does not come back to life"
        known.user_paused = False

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        self.steer("pause", data)

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        self.steer("resume", data)

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.steer("cancel", data)

    def steer(self, what: str, data: st.DataObject) -> None:
        download_id = data.draw(st.sampled_from(sorted(self.seen)))
        answer = self.life.call(f"{what}_model_download", download_id=download_id)
        note(f"{what}: {answer}")
        known = self.seen[download_id]
        if not answer["success"]:
            assert answer["error_code"] == "wrong_job_state", answer
            return
        known.user_paused = what == "pause" or (known.user_paused and what == "cancel")
        known.cancelled = known.cancelled or what == "cancel"
        if what == "pause":
            self.until(download_id, STOPPED)
        if what == "cancel":
            self.until(download_id, ("cancelled", "completed"))

    @rule()
    def kill(self) -> None:
        self.life.kill()
        self.life = self.reopened()

    @rule()
    def stop_and_start(self) -> None:
        self.life.stop()
        self.life = self.reopened()

    @rule(
        actions=st.sampled_from(FAULTS),
        times=st.integers(1, 3),
        skip=st.integers(0, 4),
        path=st.sampled_from(["*", "*model.safetensors"]),
    )
    def fault(self, actions: tuple[Action, ...], times: int, skip: int, path: str) -> None:
        self.hub.fault(*actions, kind="file", path=path, times=times, skip=skip)

    @rule(actions=st.sampled_from([(Drop(),), (Status(500),), (Status(429, retry_after=0.1),), (Page(),)]))
    def fault_of_the_first_host(self, actions: tuple[Action, ...]) -> None:
        self.hub.fault(*actions, host="hub", times=2)

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def reorder(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(sorted(self.seen)), min_size=1, max_size=3))
        assert self.life.call("reorder_model_downloads", download_ids=ids)["success"]

    @rule(rate=st.sampled_from([0, 500_000, 5_000_000]), at_once=st.integers(1, 4))
    def limit(self, rate: int, at_once: int) -> None:
        answer = self.life.call("set_download_limits", bytes_per_second=rate, at_once=at_once)
        assert (answer["bytes_per_second"], answer["at_once"]) == (rate or None, at_once)
        assert self.life.call("get_download_limits")["at_once"] == at_once

    @rule(repo_id=st.sampled_from(REPOS), seed=st.integers(100, 10**6))
    def new_commit(self, repo_id: str, seed: int) -> None:
        repo = self.hub.content.repos[repo_id]
        name = next(path for path in self.commit_of(repo_id, "main").files if path.endswith("model.safetensors"))
        repo.commit({name: safetensors(seed, 3 * MIB + seed), "config.json": b'{"seed": %d}' % seed})
        self.hub.content.warm()

    @rule(seconds=st.sampled_from([0.02, 0.1, 0.4]))
    def time_passes(self, seconds: float) -> None:
        time.sleep(seconds)

    # -- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def all_is_well(self) -> None:
        if hasattr(self, "life"):
            self.check_files()
            self.check_downloads()

    def check_downloads(self) -> None:
        listed = {one["download_id"]: one for one in self.life.call("list_model_downloads", limit=1000)["downloads"]}
        assert listed.keys() == self.seen.keys(), "ids stay"
        for download_id, one in listed.items():
            self.check_one(self.seen[download_id], one)

    def check_one(self, known: Seen, now: dict[str, Any]) -> None:
        assert now["repo_id"] == known.repo_id and now["revision"] == known.commit
        assert 0 <= now["downloaded_bytes"] <= now["total_bytes"] and 0 <= now["progress"] <= 1
        assert now["speed"] >= 0 and (now["eta_seconds"] is None or now["eta_seconds"] >= 0)
        assert now["error_code"] != "internal_error", now
        assert bool(now["error"]) == (now["status"] == "error")
        assert (now["model_path"] is not None) == (now["status"] == "completed")
        if known.status in FINAL and known.lives == self.lives:
            assert now["status"] == known.status
        if known.status == "completed":
            assert now["status"] == "completed" or known.lives < self.lives
        if known.user_paused and not known.cancelled:
            assert now["status"] in STOPPED, now
        if now["restarts"] == 0 and now["status"] != "cancelled":
            allowed = LOST_BY_A_KILL if known.lives < self.lives else 0
            restarted = known.restarts > 0 and known.lives < self.lives
            assert restarted or now["downloaded_bytes"] >= known.downloaded - allowed, (known, now)
        known.status, known.downloaded, known.restarts = now["status"], now["downloaded_bytes"], now["restarts"]
        known.lives = self.lives

    def check_files(self) -> None:
        """A model's folder is there whole or not at all, and each of its files is one that the hub has."""
        visible = self.visible_files()
        folders = [path.parent for path in visible if path.name == "metadata.json"]
        for folder in folders:
            found = self.files_of(folder)
            assert found in self.possible(), (folder, found)
        assert [path for path in visible if not any(path.is_relative_to(folder) for folder in folders)] == []

    def visible_files(self) -> list[Path]:
        """All but the library's own: its index, and folders that begin with a dot."""
        found: list[Path] = []
        for folder, folders, names in os.walk(self.library):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [Path(folder, name) for name in names if not name.startswith("models.db")]
        return found

    def files_of(self, folder: Path) -> dict[str, str]:
        return {
            path.relative_to(folder).as_posix(): self.digest(path)
            for path in folder.rglob("*")
            if path.is_file() and path.name not in OURS
        }

    def digest(self, path: Path) -> str:
        facts = path.stat()
        key = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
        if key not in self.digests:
            self.digests[key] = hashlib.sha256(path.read_bytes()).hexdigest()
        return self.digests[key]

    def possible(self) -> list[dict[str, str]]:
        return [content_of(commit) for repo in self.hub.content.repos.values() for commit in repo.commits.values()]

    def commit_of(self, repo_id: str, revision: str) -> Commit:
        commit = self.hub.content.repos[repo_id].at(revision)
        assert commit is not None
        return commit

    # -- the end -----------------------------------------------------------------------------------------------------

    def until(self, download_id: str, statuses: tuple[str, ...], timeout_s: float = 10.0) -> dict[str, Any]:
        end = time.monotonic() + timeout_s
        while True:
            now = self.life.call("get_model_download_status", download_id=download_id)
            if now["status"] in statuses:
                return now
            assert time.monotonic() < end, f"{now} after {timeout_s} s, and not {statuses}"
            time.sleep(0.01)

    def teardown(self) -> None:
        if not hasattr(self, "life"):
            return
        try:
            self.check_the_end()
        finally:
            self.life.kill()
            self.hub.__exit__(None, None, None)
            self.folder.cleanup()

    def check_the_end(self) -> None:
        self.hub.rules.clear()
        self.hub.options = Options()
        self.life.call("set_download_limits", bytes_per_second=0, at_once=4)
        for download_id in sorted(self.seen):
            now = self.life.call("get_model_download_status", download_id=download_id)
            if now["status"] in ("paused", "error"):
                answer = self.life.call("resume_model_download", download_id=download_id)
                assert answer["success"], answer
        for download_id, known in self.seen.items():
            now = self.until(download_id, STOPPED, ENDS_S)
            assert now["status"] in FINAL or now["error_code"] == "duplicate_model", now
            if now["status"] == "completed":
                assert self.files_of(Path(now["model_path"])) == content_of(self.commit_of(known.repo_id, known.commit))
                assert now["downloaded_bytes"] == now["total_bytes"] and now["progress"] == 1.0
        self.all_is_well()
        staging = self.library / ".staging"
        left = sorted(path.relative_to(staging).as_posix() for path in staging.rglob("*")) if staging.is_dir() else []
        assert left == [], "staging without an owner"


def content_of(commit: Commit) -> dict[str, str]:
    return {path: HubFile(file.data, lfs=True).sha256 for path, file in commit.files.items()}


def test_any_order(driver: Driver) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    Downloads.driver = driver
    run_state_machine_as_test(
        Downloads,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=14,
            deadline=None,
            # Time is a part of what happens: a smaller example would be another one.
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
