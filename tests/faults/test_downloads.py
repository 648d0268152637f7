"""Downloads of a real sidecar while it is killed, its disk fills up or goes away, and its hub stalls, refuses and lies.

Kills by the dozen, without HTTP and therefore quicker, are in `tests/downloads/test_kills.py`. `PUMAS_FAULT_RUNS` sets
how many this sidecar gets (3 unless told).
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import itertools
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sidecar as running_sidecar
from faults.volumes import broken_disk
from fixtures.hub import (
    Claims,
    Cut,
    Flip,
    Generated,
    Gzip,
    Hub,
    HubContent,
    HubFile,
    Options,
    Repo,
    Stall,
    Status,
    User,
)
from fixtures.hub.content import HOSTILE_NAMES
from fixtures.hub.repositories import GATED, HOSTILE, TOKENS, guarded_repositories, hostile_repository
from library.model_disk import safetensors
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
    seed = zlib.crc32(name.encode())
    files |= {f"model-{n}.safetensors": safetensors(seed + n, size) for n, size in enumerate(sizes)}
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
            assert time.monotonic() < end and now["status"] not in ("error", "completed", "cancelled"), said(now)
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


def said(now: dict[str, Any]) -> str:
    return " | ".join(str(now[name]) for name in ("status", "error", "error_code", "message", "downloaded_bytes"))


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
        finished, seen = 0, client.visible()
        for _ in range(KILLS):
            if client.status(download_id)["downloaded_bytes"] > BIG // 2:
                client.whole(download_id)
                finished, seen = finished + 1, client.visible()
                download_id = client.start(fresh(client, BIG))
            asked = len(hub.requests)
            hub.wait_until(lambda asked=asked: len([r for r in hub.requests[asked:] if r.span]) > 0, 20)
            time.sleep(chance.uniform(0.0, 0.4))
            shown = client.status(download_id)["downloaded_bytes"]
            client.sidecar.kill()
            assert client.visible() == seen, "nothing half is ever visible"
            client = Client(launch(root=root, env=hub.env(home=tmp_path)), hub)
            now = client.status(download_id)
            assert now["status"] in MOVING and now["error"] == ""
            assert now["downloaded_bytes"] >= shown - LOST_BY_A_KILL
        hub.options = Options()
        client.whole(download_id)
        assert client.staged() == []
        refetched = hub.bytes_sent("*.safetensors") - BIG * (finished + 1)
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
        assert client.sidecar.wait(30) == 0
        took = time.monotonic() - began
        assert took < 8
        print(f"ended after {took:.2f} s")
        client = Client(launch(root=root, env=hub.env(home=tmp_path)), hub)
        assert client.status(download_id)["downloaded_bytes"] >= shown - LOST_BY_A_KILL
        hub.options = Options()
        client.whole(download_id)
        assert hub.bytes_sent("*.safetensors") - BIG <= LOST_BY_A_KILL


# -- the hub -----------------------------------------------------------------------------------------------------------


def seconds_of(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def test_polls_answer_at_once_while_the_hub_is_a_black_hole(launch: Launch, tmp_path: Path) -> None:
    """Neither downloads that hang nor starts that wait for their answer hold up anybody else."""
    with hub_of(repo_of("one", SMALL), repo_of("two", SMALL)) as hub:
        client = Client(launch(env=hub.env(home=tmp_path)), hub)
        hub.fault(Stall(after_bytes=None), kind="file", times=None)
        stuck = client.start("maker/one")
        hub.fault(Stall(after_bytes=None), times=None)
        answers: list[tuple[str, float]] = []

        def start() -> None:
            began = time.monotonic()
            code = client.refused("maker/two")
            answers.append((code, time.monotonic() - began))

        starts = [threading.Thread(target=start) for _ in range(24)]
        for thread in starts:
            thread.start()
        hub.wait_until(lambda: sum(record.kind == "model" for record in hub.requests) >= 8)
        polls: dict[str, dict[str, Any]] = {
            "health_check": {},
            "get_model_download_status": {"download_id": stuck},
            "list_model_downloads": {},
            "get_download_limits": {},
            "get_network_status": {},
        }
        slowest = {
            method: max(seconds_of(lambda m=method, p=params: client.call(m, **p)) for _ in range(20))
            for method, params in polls.items()
        }
        print({method: f"{1000 * seconds:.0f} ms" for method, seconds in slowest.items()})
        assert max(slowest.values()) < 4.0
        steered = {
            "set_download_limits": {"at_once": 4},
            "reorder_model_downloads": {"download_ids": [stuck]},
            "pause_model_download": {"download_id": stuck},
        }
        for method, params in steered.items():
            took = seconds_of(lambda m=method, p=params: client.call(m, **p))
            print(f"{method}: {1000 * took:.0f} ms")
            assert took < 8.0
        for thread in starts:
            thread.join()
        assert {code for code, _seconds in answers} == {"connection_failed"}
        assert max(seconds for _code, seconds in answers) < 10, "no call takes longer"


def test_small_files_may_come_compressed_although_nobody_asked(client: Client) -> None:
    repo_id = fresh(client, SMALL)
    client.hub.fault(Gzip(), kind="file", path=f"{repo_id}/config.json", times=None)
    client.whole(client.start(repo_id))


def test_a_status_never_lies_for_long(client: Client) -> None:
    repo_id = fresh(client, 20 * MIB)
    client.hub.options = Options(connection_rate=2e6)
    download_id = client.start(repo_id)
    client.until_bytes(download_id, MIB)
    client.hub.fault(Stall(after_bytes=None), kind="file", times=None)
    client.hub.options = Options(connection_rate=1)
    stalled = time.monotonic()
    now = client.until(download_id, "retrying", timeout_s=STATUS_S)
    print(f"said after {time.monotonic() - stalled:.1f} s")
    assert now["speed"] < 2e6
    client.hub.reset()
    client.call("pause_model_download", download_id=download_id)
    client.until(download_id, "paused")


@pytest.mark.parametrize("code", [429, 503])
def test_a_wait_that_the_hub_asks_for_is_kept_to_the_second(client: Client, code: int) -> None:
    wait_s = 2
    repo_id = fresh(client, SMALL)
    client.hub.fault(Status(code, retry_after=wait_s), host="cdn", times=3)
    download_id = client.start(repo_id)
    refused = eventually(lambda: [r for r in client.hub.requests if r.status == code], FINAL_S)
    now = client.until(download_id, "retrying", timeout_s=STATUS_S)
    assert now["error"] == "" and now["retries"] >= 1
    client.whole(download_id)
    refused = [r for r in client.hub.requests if r.status == code]
    asked = [r for r in client.hub.requests if r.host == "cdn"]
    assert len(refused) == 3
    for one in refused:
        assert one.ended is not None
        # What several connections had asked by then came at the same moment.
        later = [r.began - one.ended for r in asked if r.began > one.ended + 0.3]
        assert later and wait_s - 0.1 <= min(later) <= wait_s + 1.0, later


def test_offline_mode_during_a_download(client: Client) -> None:
    repo_id = fresh(client, 20 * MIB)
    client.hub.options = Options(connection_rate=1e6)
    download_id = client.start(repo_id)
    client.until_bytes(download_id, MIB)
    client.call("set_network_settings", offline=True)
    assert client.refused(fresh(client, 10)) == "network_offline"
    eventually(lambda: "Offline" in client.status(download_id)["message"], STATUS_S)
    assert client.status(download_id)["status"] == "retrying"
    asked, sent = len(client.hub.requests), client.hub.bytes_sent()
    time.sleep(0.5)
    assert (len(client.hub.requests), client.hub.bytes_sent()) == (asked, sent), "nothing leaves this machine"
    client.hub.options = Options()
    client.call("set_network_settings", offline=False)
    client.until_bytes(download_id, 10 * MIB)
    client.whole(download_id)


def test_the_hub_moves_on_and_the_download_does_not(client: Client) -> None:
    repo_id = fresh(client, SMALL, SMALL)
    client.hub.options = Options(connection_rate=500_000)
    download_id = client.start(repo_id)
    client.until(download_id, "downloading")
    client.call("pause_model_download", download_id=download_id)
    client.until(download_id, "paused")
    client.hub.content.repos[repo_id].commit({"model-0.safetensors": safetensors(987, SMALL)})
    client.hub.options = Options()
    client.call("resume_model_download", download_id=download_id)
    done = client.whole(download_id)
    assert done["revision"] != client.hub.content.repos[repo_id].branches["main"]


# -- hostile words -----------------------------------------------------------------------------------------------------


def test_hostile_names_stay_in_the_folder(client: Client) -> None:
    outside = {path for path in client.sidecar.root.parent.rglob("*") if not path.is_relative_to(client.sidecar.root)}
    download_id = client.start(HOSTILE, filenames=["*"])
    done = client.whole(download_id)
    folder = Path(done["model_path"])
    assert folder.is_relative_to(client.library)
    names = digests(folder).keys()
    assert not names & set(HOSTILE_NAMES[:20])
    assert len({name.casefold() for name in names}) == len(names)
    assert sum("was left out" in warning for warning in done["warnings"]) >= 20
    others = {path for path in client.sidecar.root.parent.rglob("*") if not path.is_relative_to(client.sidecar.root)}
    assert {path.name for path in others - outside if "stderr" not in path.name} == set()
    strays = [name for name in client.visible() if not (client.library / name).is_relative_to(folder)]
    assert not any("escape" in name or "absolute" in name or "file.txt" in name for name in strays)


@pytest.mark.parametrize("size", [10**15, 10**14, -1, 2**63, 10**30])
def test_impossible_sizes_are_refused_before_a_byte(client: Client, size: int) -> None:
    repo_id = fresh(client)
    lie = HubFile(Generated(1000, 1), lfs=True, claims=Claims(size=size))
    client.hub.content.repos[repo_id].commit({"model.safetensors": lie})
    code = client.refused(repo_id)
    assert code in ("disk_full", "invalid_input", "invalid_reply"), code
    assert client.hub.bytes_sent("*.safetensors") == 0
    assert not any(repo_id == one["repo_id"] for one in client.call("list_model_downloads")["downloads"])


@pytest.mark.parametrize("code", ["gated_repo"])
def test_a_gated_repository_without_a_token(client: Client, code: str) -> None:
    assert client.refused(GATED) == code


# -- the token ---------------------------------------------------------------------------------------------------------


def test_the_token_is_for_the_hub_alone(launch: Launch, tmp_path: Path) -> None:
    """A gated download through faults, a kill and a refusal: then everything that was written, said or sent."""
    with hub_of(repo_of("plain", 2 * MIB), *guarded_repositories(), options=Options(connection_rate=1e6)) as hub:
        root = tmp_path / "root"
        env = hub.env(home=tmp_path, token=MARKER)
        client = Client(launch("--debug", root=root, env=env), hub)
        said: list[bytes] = []
        hub.fault(Status(500), host="hub", kind="resolve")
        hub.fault(Cut(after_bytes=100), kind="file", path="*/model*.safetensors")
        hub.fault(Status(403), host="cdn", skip=1)
        ids = [client.start(GATED), client.start("maker/plain")]
        with events_of(client) as events:
            client.until_bytes(ids[1], MIB)
            client.sidecar.kill()
        said += events
        written = partial_files(root)
        client = Client(launch("--debug", root=root, env=env), hub)
        hub.options = Options()
        with events_of(client) as events:
            for download_id in ids:
                client.whole(download_id)
            hub.fault(Status(404), kind="resolve", times=None)
            hub.fault(Status(401), kind="model")
            for repo_id in ("maker/none", GATED, "maker/plain"):
                said.append(client.sidecar.post(rpc("start_model_download_from_hf", repo_id=repo_id)).body)
            for method in ("list_model_downloads", "list_jobs", "get_network_status", "get_library_status"):
                said.append(client.sidecar.post(rpc(method)).body)
        said += events
        client.sidecar.close()
        assert any(b"download.progress" in text for text in said)
        assert any(b".blocks" in name for name in written), "it was looked at in the middle"
        said += [text for path, text in written.items()]
        said += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        for text in said:
            assert MARKER.encode() not in text
        seen = {(record.host, record.headers.get("authorization")) for record in hub.requests}
        assert seen == {("hub", f"Bearer {MARKER}"), ("cdn", None)}
        assert MARKER not in "".join(record.target for record in hub.requests)


def rpc(method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).encode()


def partial_files(root: Path) -> dict[bytes, bytes]:
    """Names and contents of everything that is not a model's bytes."""
    return {
        os.fsencode(path): os.fsencode(path) + path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.suffix != ".part"
    } | {os.fsencode(path): os.fsencode(path) for path in root.rglob("*.part")}


@contextlib.contextmanager
def events_of(client: Client) -> Iterator[list[bytes]]:
    """What `GET /events` says meanwhile."""
    heard: list[bytes] = []
    sock = client.sidecar.connect(FINAL_S)
    headers = "".join(f"{name}: {value}\r\n" for name, value in client.sidecar.auth().items())
    sock.sendall(f"GET /events HTTP/1.1\r\nHost: {client.sidecar.host}\r\n{headers}\r\n".encode())

    def listen() -> None:
        with contextlib.suppress(OSError):
            while data := sock.recv(65536):
                heard.append(data)

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield heard
    finally:
        with contextlib.suppress(OSError):
            sock.shutdown(2)
        thread.join()
        sock.close()


# -- steering over the wire --------------------------------------------------------------------------------------------


def test_pause_resume_cancel_and_their_wrong_moments(client: Client) -> None:
    client.hub.options = Options(connection_rate=300_000)
    download_id = client.start(fresh(client, SMALL))

    def asked(method: str, expected: str | None) -> dict[str, Any]:
        answer = client.call(f"{method}_model_download", download_id=download_id)
        assert (answer["success"], answer.get("error_code") or None) == (expected is None, expected), answer
        return answer

    client.until(download_id, "downloading")
    asked("resume", "wrong_job_state")
    assert asked("pause", None)["status"] == "paused"
    asked("pause", "wrong_job_state")
    assert client.status(download_id)["status"] == "paused"
    asked("resume", None)
    client.until(download_id, "downloading")
    asked("cancel", None)
    client.until_stopped(download_id)
    assert client.status(download_id)["status"] == "cancelled"
    for method in ("pause", "resume", "cancel"):
        asked(method, "wrong_job_state")
    assert client.staged() == []
    for method in ("pause", "resume", "cancel"):
        answer = client.call(f"{method}_model_download", download_id="download-none")
        assert answer["error_code"] == "download_not_found"


def test_two_downloads_share_one_limit(client: Client) -> None:
    limit = 4_000_000
    client.call("set_download_limits", bytes_per_second=limit, at_once=2)
    ids = [client.start(fresh(client, 30 * MIB)) for _ in range(2)]
    for download_id in ids:
        client.until_bytes(download_id, MIB // 2)
    before, began = sum(client.status(one)["downloaded_bytes"] for one in ids), time.monotonic()
    time.sleep(2.0)
    after, took = sum(client.status(one)["downloaded_bytes"] for one in ids), time.monotonic() - began
    print(f"{(after - before) / took / 1e6:.2f} MB/s of {limit / 1e6}")
    assert after - before <= limit * took * 1.1
    assert all(client.status(one)["downloaded_bytes"] > MIB for one in ids), "both move"
    client.call("set_download_limits", bytes_per_second=0)
    for download_id in ids:
        client.whole(download_id)


def test_hours(client: Client) -> None:
    now = datetime.datetime.now().astimezone()
    start, end = (f"{(now.hour + hours) % 24:02}:00" for hours in (2, 3))
    answer = client.call("set_download_limits", schedule={"start": start, "end": end})
    assert answer["open"] is False
    download_id = client.start(fresh(client, SMALL))
    waiting = client.until(download_id, "waiting")
    assert waiting["message"] and client.hub.bytes_sent() == 0
    assert client.call("set_download_limits", any_time=True)["open"] is True
    client.whole(download_id)


def test_hours_that_end_in_the_middle(client: Client) -> None:
    client.hub.options = Options(connection_rate=3e6)
    download_id = client.start(fresh(client, 30 * MIB))
    client.until_bytes(download_id, 2 * MIB)
    now = datetime.datetime.now().astimezone()
    start, end = (f"{(now.hour + hours) % 24:02}:00" for hours in (2, 3))
    client.call("set_download_limits", schedule={"start": start, "end": end})
    client.until(download_id, "waiting", timeout_s=STATUS_S)
    time.sleep(0.3)  # each connection brings its block to the end
    sent = client.hub.bytes_sent()
    time.sleep(0.5)
    assert client.hub.bytes_sent() == sent
    client.hub.options = Options()
    client.call("set_download_limits", any_time=True)
    client.whole(download_id)


def test_a_flipped_bit_is_mended_and_a_lasting_one_is_refused(client: Client) -> None:
    repo_id = fresh(client, 12 * MIB)
    client.hub.fault(Flip(5 * MIB), kind="file", path=f"{repo_id}/*", times=None)
    download_id = client.start(repo_id)
    failed = client.until_stopped(download_id)
    assert (failed["status"], failed["error_code"]) == ("error", "digest_mismatch")
    assert client.hub.content.repos[repo_id].file("model-0.safetensors").sha256 in failed["error"]
    client.hub.reset()
    client.hub.fault(Flip(7 * MIB), kind="file", path=f"{repo_id}/*")
    client.call("resume_model_download", download_id=download_id)
    eventually(lambda: client.status(download_id)["status"] != "error", what="the resumed one runs")
    client.whole(download_id)


# -- the disk ----------------------------------------------------------------------------------------------------------


class OwnDisk:
    """A sidecar whose library lies on a file system of its own, which ends with it.

    In a mount namespace, as root or as the root of a user namespace, so that no privilege is needed.
    """

    def __init__(self, launch: Launch, tmp_path: Path, hub: Hub, size: int) -> None:
        self._user = [] if os.geteuid() == 0 else ["-U", "-r"]
        library = tmp_path / "root" / "shared-resources" / "models"
        library.mkdir(parents=True)
        mount = f'mount -t tmpfs -o size={size} tmpfs "{library}" && exec "$0" "$@"'
        self.sidecar = launch(
            root=tmp_path / "root",
            env=hub.env(home=tmp_path),
            prefix=["unshare", *self._user, "-m", "sh", "-c", mount],
        )
        self.client = Client(self.sidecar, hub)
        self.library = Path(f"/proc/{self.sidecar.pid}/root{library}")
        self._place = library

    def remount(self, how: str) -> None:
        user = ["-U", "--preserve-credentials"] if self._user else []
        pid = str(self.sidecar.pid)
        command = ["nsenter", "-t", pid, *user, "-m", "mount", "-o", f"remount,{how}", str(self._place)]
        subprocess.run(command, check=True)

    def fill(self) -> Path:
        """Take all room that is left."""
        path = self.library / ".other-program"
        with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * MIB)
        return path

    def free(self) -> int:
        facts = os.statvfs(self.library)
        return facts.f_bavail * facts.f_frsize


# What the engine leaves to others on the library's disk.
MARGIN = 256 * MIB


def test_no_room_is_said_at_the_start(launch: Launch, tmp_path: Path) -> None:
    with hub_of(repo_of("large", 100 * MIB), repo_of("small", 20 * MIB), repo_of("other", 20 * MIB)) as hub:
        disk = OwnDisk(launch, tmp_path, hub, MARGIN + 50 * MIB)
        client = disk.client
        hub.options = Options(connection_rate=500_000)
        answer = client.call("start_model_download_from_hf", repo_id="maker/large")
        assert answer["error_code"] == "disk_full"
        needed, free = (
            int(number.replace(",", "")) for number in re.findall(r"[\d,]+(?= bytes| free)", answer["error"])
        )
        assert needed > free > MARGIN, "both count what must stay free"
        assert disk.free() > MARGIN + 48 * MIB and client.staged() == []
        first = client.start("maker/small")
        other = client.start("maker/other")
        assert client.refused("maker/large") == "disk_full"
        assert client.call("list_model_downloads")["downloads"].__len__() == 2
        client.call("cancel_model_download", download_id=other)
        client.call("cancel_model_download", download_id=first)


def test_somebody_else_fills_the_disk_in_the_middle(launch: Launch, tmp_path: Path) -> None:
    with hub_of(repo_of("large", 60 * MIB), options=Options(connection_rate=2e6)) as hub:
        disk = OwnDisk(launch, tmp_path, hub, MARGIN + 70 * MIB)
        client = disk.client
        download_id = client.start("maker/large")
        client.until_bytes(download_id, 5 * MIB)
        other = disk.fill()
        hub.options = Options()
        waiting = client.until(download_id, "waiting", timeout_s=FINAL_S)
        assert "space" in waiting["message"] or "full" in waiting["message"], waiting
        assert client.sidecar.healthy()
        assert seconds_of(lambda: client.call("list_model_downloads")) < 1.0
        time.sleep(1.5)
        assert client.status(download_id)["status"] == "waiting"
        shown = client.status(download_id)["downloaded_bytes"]
        other.unlink()
        began = time.monotonic()
        eventually(lambda: client.status(download_id)["downloaded_bytes"] > shown, 5.0, "going on by itself")
        print(f"goes on {time.monotonic() - began:.1f} s after there is room")
        done = client.until(download_id, "completed")
        assert digests(disk.library / done["model_id"]).keys() == {"config.json", "model-0.safetensors"}
        commit = hub.content.repos["maker/large"].at("main")
        assert commit is not None
        assert digests(disk.library / done["model_id"]) == {n: digest_of(f) for n, f in commit.files.items()}
        assert hub.bytes_sent("*.safetensors") <= 60 * MIB + 2 * LOST_BY_A_KILL


def test_a_library_that_becomes_read_only(launch: Launch, tmp_path: Path) -> None:
    with hub_of(repo_of("one", 20 * MIB), options=Options(connection_rate=1e6)) as hub:
        disk = OwnDisk(launch, tmp_path, hub, MARGIN + 70 * MIB)
        client = disk.client
        disk.remount("ro")
        answer = client.call("start_model_download_from_hf", repo_id="maker/one")
        if answer["success"]:
            download_id = answer["download_id"]
            failed = client.until_stopped(download_id)
            assert (failed["status"], failed["error_code"]) == ("error", "read_only"), failed
        else:
            assert answer["error_code"] == "read_only"
        assert client.sidecar.healthy() and client.call("get_download_limits")["at_once"]
        disk.remount("rw")
        download_id = client.start("maker/one")
        hub.options = Options()
        client.until(download_id, "completed")


def test_a_disk_that_the_kernel_makes_read_only(launch: Launch, tmp_path: Path) -> None:
    """In the middle of a download, whose end cannot be written down either."""
    with broken_disk() as disk, hub_of(repo_of("one", 20 * MIB), options=Options(connection_rate=1e6)) as hub:
        if disk is None:
            return
        (disk.path / "root").mkdir()
        (tmp_path / "root").symlink_to(disk.path / "root")
        client = Client(launch(root=tmp_path / "root", env=hub.env(home=tmp_path)), hub)
        download_id = client.start("maker/one")
        client.until_bytes(download_id, MIB)
        disk.make_read_only()
        failed = client.until_stopped(download_id)
        assert (failed["status"], failed["error_code"]) == ("error", "read_only"), failed
        assert client.refused("maker/one") == "read_only"
        assert client.sidecar.healthy() and client.call("get_download_limits")["at_once"]


def test_a_library_that_is_taken_away_and_comes_back(launch: Launch, tmp_path: Path) -> None:
    """On a drive of its own, to which the library's folder is a link."""
    drive, away = tmp_path / "drive", tmp_path / "unplugged"
    (drive / "models").mkdir(parents=True)
    root = tmp_path / "root"
    (root / "shared-resources").mkdir(parents=True)
    (root / "shared-resources" / "models").symlink_to(drive / "models")
    with hub_of(repo_of("one", 20 * MIB, SMALL), repo_of("two", SMALL), options=Options(connection_rate=2e6)) as hub:
        client = Client(launch(root=root, env=hub.env(home=tmp_path)), hub)
        download_id = client.start("maker/one")
        client.until_bytes(download_id, 4 * MIB)
        drive.rename(away)
        hub.options = Options()
        lost = client.until_stopped(download_id)
        assert (lost["status"], lost["error_code"]) == ("error", "disk_error"), lost
        answer = client.call("start_model_download_from_hf", repo_id="maker/two")
        if answer["success"]:
            assert client.until_stopped(answer["download_id"])["status"] == "error"
        assert not drive.exists(), "nothing is put where the drive was"
        assert client.sidecar.healthy()
        away.rename(drive)
        client.call("resume_model_download", download_id=download_id)
        client.until(download_id, "completed") if client.status(download_id)["status"] != "error" else None
        client.whole(download_id)
        assert hub.bytes_sent("*one*") <= 20 * MIB + SMALL + LOST_BY_A_KILL
