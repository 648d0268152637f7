"""Whole downloads from the test hub: what is fetched, what a fault costs, and that nothing wrong is ever visible."""

from __future__ import annotations

import contextlib
import json
import pkgutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fixtures.hub import (
    Action,
    Claims,
    Cut,
    Drop,
    Endless,
    Flip,
    Generated,
    Gzip,
    Header,
    Hub,
    HubFile,
    IgnoreRange,
    Length,
    Options,
    OtherETag,
    OtherRange,
    Page,
    Stall,
    Status,
    Truncate,
)
from pumas.downloads.space import Space
from pumas.errors import (
    Cancelled,
    DigestMismatch,
    DuplicateModel,
    GatedRepo,
    HttpStatus,
    Interrupted,
    InvalidReply,
    NetworkError,
    PickleNotAcknowledged,
    PumasError,
    UnsafePath,
)
from pumas.net.settings import NetworkSettings
from pumas.storage.files import DiskFull
from sidecar import eventually

from .downloads_setup import MIB, REPO, DownloadJob, Setup, Stopper, one_file, repository

BIG = 24 * MIB + 12_345
WEIGHTS = f"{REPO}/weights.safetensors"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pumas.downloads.patience.FIRST_WAIT_S", 0.02)
    monkeypatch.setattr("pumas.net.breaker.RECOVERY_S", 0.2)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(one_file(BIG)) as hub:
        yield hub


@pytest.fixture
def setup(tmp_path: Path, hub: Hub) -> Iterator[Setup]:
    made = Setup(tmp_path, hub)
    yield made
    made.close()


def check(setup: Setup, job: DownloadJob | None = None) -> dict[str, object]:
    """A download that succeeds: every byte is right, nothing is left in staging, the metadata says what it is."""
    result = setup.download(job=job)
    assert setup.files(result["model_id"]) == setup.expected()
    assert setup.staged() == []
    assert setup.models() == [result["model_id"]]
    metadata = json.loads((setup.library / result["model_id"] / "metadata.json").read_bytes())
    sizes = {file["name"]: file["size"] for file in metadata["files"]}
    assert sizes == {name: len(data) for name, data in setup.expected().items()}
    weights = setup.hub.content.repos[REPO].file("weights.safetensors")
    assert metadata["hashes"]["sha256"] == weights.sha256
    assert metadata["match_source"] == "hf" and metadata["repo_id"] == REPO
    snapshot = setup.meter.snapshot()
    assert snapshot.downloaded == snapshot.total
    return result


def test_a_model_arrives_whole(setup: Setup) -> None:
    check(setup)
    assert setup.hub.bytes_sent(WEIGHTS) == BIG, "nothing was fetched twice"
    assert len({r.connection for r in setup.hub.requests if r.label == WEIGHTS}) > 1, "several connections"


# Each fault, and how many bytes more than the file it may cost.
SEGMENT = 8 * MIB
PASSING: dict[str, tuple[tuple[Action, ...], dict[str, object], int]] = {
    "no reply": ((Drop(),), {}, 0),
    "reset": ((Drop(reset=True),), {}, 0),
    "cut at once": ((Cut(0),), {}, SEGMENT),
    "cut in the middle": ((Cut(at=10 * MIB + 77),), {}, SEGMENT),
    "reset in the middle": ((Cut(at=10 * MIB + 77, reset=True),), {}, SEGMENT),
    "cut thrice": ((Cut(after_bytes=3 * MIB),), {"times": 3}, 3 * SEGMENT),
    "truncated": ((Truncate(keep=2 * MIB),), {}, SEGMENT),
    "truncated and admitted": ((Truncate(keep=2 * MIB, admit=True),), {}, SEGMENT),
    "too long a length": ((Length(BIG * 2),), {}, SEGMENT),
    "too short a length": ((Length(1000),), {}, SEGMENT),
    "no length": ((Length(None),), {"times": None}, SEGMENT),
    "up to the end of the connection": ((Length(None, close=True),), {"times": None}, SEGMENT),
    "a length that is none": ((Length(-1),), {}, SEGMENT),
    "a claim of a petabyte": ((Length(10**15),), {}, SEGMENT),
    "endless": ((Endless(),), {}, 3 * BIG),
    "another ETag": ((OtherETag(),), {"skip": 1}, 2 * BIG),
    "another ETag each time": ((OtherETag(),), {"times": 3}, 3 * BIG),
    "another ETag for ever": ((OtherETag(),), {"times": None}, 3 * BIG),
    "range ignored": ((IgnoreRange(),), {}, 2 * BIG),
    "ranges always ignored": ((IgnoreRange(),), {"times": None}, 2 * BIG),
    "another range": ((OtherRange(4096),), {}, 2 * BIG),
    "another range, hidden": ((OtherRange(4096, admit=False),), {}, 2 * BIG),
    "a sign-in page": ((Page(),), {}, 0),
    "a sign-in page thrice": ((Page(),), {"times": 3}, 0),
    "busy": ((Status(503),), {}, 0),
    "busy, come back": ((Status(503, retry_after=0.2),), {}, 0),
    "rate limited": ((Status(429, retry_after=0.2),), {}, 0),
    "broken": ((Status(500),), {"times": 3}, 0),
    "a flipped bit": ((Flip(13 * MIB + 5),), {}, BIG + SEGMENT),
    "two flipped bits": ((Flip(1 * MIB), Flip(20 * MIB)), {}, BIG + SEGMENT),
    "no range said": ((Header("Content-Range", None),), {}, SEGMENT),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes(setup: Setup, name: str) -> None:
    actions, conditions, cost = PASSING[name]
    setup.hub.fault(*actions, kind="file", path=WEIGHTS, **conditions)  # type: ignore[arg-type]
    check(setup)
    assert setup.hub.bytes_sent(WEIGHTS) <= BIG + cost


def test_a_line_that_breaks_before_any_block_has_come(setup: Setup) -> None:
    """As slow lines with several connections do, when something on the way gives each a minute."""
    setup.patience_s = 2.0
    setup.hub.fault(Cut(after_bytes=700_000), kind="file", path=WEIGHTS, times=None)
    check(setup)
    assert setup.hub.bytes_sent(WEIGHTS) == BIG, "nothing was fetched twice"


def test_what_came_of_a_block_is_forgotten_with_the_content_that_it_was_of(setup: Setup) -> None:
    setup.hub.fault(OtherETag(), Cut(after_bytes=700_000), kind="file", path=WEIGHTS)
    check(setup)
    assert setup.meter.snapshot().restarts == 1


def test_a_silent_server_is_given_up_for_a_new_connection(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pumas.downloads.downloading.SILENCE_S", 0.3)
    setup.hub.fault(Stall(after_bytes=3 * MIB), kind="file", path=WEIGHTS)
    setup.hub.fault(Stall(after_bytes=None), kind="file", path=WEIGHTS)
    check(setup)


SMALL_FAULTS: dict[str, tuple[tuple[Action, ...], dict[str, object]]] = {
    name: (actions, conditions)
    for name, (actions, conditions, _cost) in PASSING.items()
    if not isinstance(actions[0], Flip | OtherRange | Endless) and not (isinstance(actions[0], Cut) and actions[0].at)
} | {"a flipped bit": ((Flip(5),), {}), "compressed": ((Gzip(),), {"times": None}), "endless": ((Endless(),), {})}


@pytest.mark.parametrize("name", SMALL_FAULTS)
def test_a_fault_on_a_small_file(setup: Setup, name: str) -> None:
    actions, conditions = SMALL_FAULTS[name]
    setup.hub.fault(*actions, kind="file", path=f"{REPO}/config.json", **conditions)  # type: ignore[arg-type]
    check(setup)


LASTING: dict[str, tuple[tuple[Action, ...], type[PumasError]]] = {
    "refused by the second host": ((Status(403),), InvalidReply),
    "flipped for ever": ((Flip(13 * MIB),), DigestMismatch),
    "a page for ever": ((Page(),), InvalidReply),
    "broken for ever": ((Status(500),), NetworkError),
    "gated": ((Status(403, error_code="GatedRepo"),), GatedRepo),
    "another content for ever": ((OtherETag(), Flip(13 * MIB)), DigestMismatch),
    "shorter there for ever": ((Status(416),), InvalidReply),
    "cut at once for ever": ((Cut(0),), NetworkError),
    "longer for ever": ((Length(BIG + 1),), InvalidReply),
    "no reply for ever": ((Drop(),), NetworkError),
}


@pytest.mark.parametrize("name", LASTING)
def test_a_fault_that_lasts_fails_the_download_and_leaves_nothing_visible(setup: Setup, name: str) -> None:
    actions, error = LASTING[name]
    setup.patience_s = 1.0
    setup.hub.fault(*actions, kind="file", path=WEIGHTS, times=None)
    job = DownloadJob("download-1")
    with pytest.raises(error):
        setup.download(job=job)
    assert setup.models() == []
    setup.hub.rules.clear()
    setup.patience_s = 3.0
    check(setup, job)


@pytest.mark.parametrize("breaks", ["before the file's half", "while a part is compared"])
def test_a_server_that_always_breaks_off_is_not_asked_for_ever(setup: Setup, breaks: str) -> None:
    """Bytes come each time, and each time they are lost."""
    setup.patience_s = 2.0
    if breaks == "before the file's half":
        setup.hub.fault(IgnoreRange(), Cut(after_bytes=BIG // 2), kind="file", path=WEIGHTS, times=None)
    else:
        setup.hub.fault(Flip(13 * MIB), kind="file", path=WEIGHTS)
        setup.hub.fault(Cut(at=7 * MIB + 5), kind="file", path=WEIGHTS, times=None, skip=1)
    with pytest.raises(NetworkError):
        setup.download()
    assert setup.hub.bytes_sent(WEIGHTS) < 6 * BIG, "the waits are everybody's"
    assert setup.models() == []


@pytest.mark.parametrize(("status", "error"), [(404, HttpStatus), (401, HttpStatus), (410, HttpStatus)])
def test_what_the_hub_does_not_give_fails_at_once(setup: Setup, status: int, error: type[PumasError]) -> None:
    setup.hub.fault(Status(status), kind="resolve", path=WEIGHTS, times=None)
    with pytest.raises(error):
        setup.download()
    assert len([r for r in setup.hub.requests if r.label == WEIGHTS]) <= 8
    assert setup.models() == []


def test_a_wrong_digest_names_both(setup: Setup) -> None:
    setup.hub.fault(Flip(13 * MIB), kind="file", path=WEIGHTS, times=None)
    with pytest.raises(DigestMismatch) as raised:
        setup.download()
    expected = setup.hub.content.repos[REPO].file("weights.safetensors").sha256
    assert expected in str(raised.value)
    assert len([word for word in str(raised.value).replace(",", " ").split() if len(word) == 64]) == 2


@pytest.mark.parametrize("stop", [Interrupted, Cancelled])
def test_a_stop_in_the_middle(setup: Setup, stop: type[PumasError]) -> None:
    setup.hub.options = Options(connection_rate=6e6)
    job = DownloadJob("download-1")
    Stopper(job, stop("stop"), lambda: setup.hub.bytes_sent(WEIGHTS) > 6 * MIB)
    with pytest.raises(stop):
        setup.download(job=job)
    assert setup.models() == []
    if stop is Cancelled:
        assert setup.staged() == []
        return
    sent = setup.hub.bytes_sent(WEIGHTS)
    job.on_check = lambda: None
    setup.hub.options = Options()
    check(setup, job)
    assert setup.hub.bytes_sent(WEIGHTS) - BIG <= 16 * MIB, sent


def test_what_came_before_a_stop_is_kept_whatever_a_mirror_calls_it(setup: Setup) -> None:
    setup.hub.fault(OtherETag(), kind="file", path=WEIGHTS, times=None)
    setup.hub.options = Options(connection_rate=8e6)
    job = DownloadJob("download-1")
    Stopper(job, Interrupted("stop"), lambda: setup.meter.snapshot().downloaded > 14 * MIB)
    with pytest.raises(Interrupted):
        setup.download(job=job)
    sent = setup.hub.bytes_sent(WEIGHTS)
    job.on_check = lambda: None
    setup.hub.options = Options()
    check(setup, job)
    assert setup.hub.bytes_sent(WEIGHTS) - sent <= BIG - 8 * MIB
    assert setup.meter.snapshot().restarts == 0


def test_what_the_disk_changed_is_fetched_again(setup: Setup) -> None:
    setup.hub.options = Options(connection_rate=8e6)
    job = DownloadJob("download-1")
    Stopper(job, Interrupted("stop"), lambda: setup.hub.bytes_sent(WEIGHTS) > 16 * MIB)
    with pytest.raises(Interrupted):
        setup.download(job=job)
    (part,) = setup.layout.staging.glob("*/parts/*.part")
    with part.open("r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))
    sent = setup.hub.bytes_sent(WEIGHTS)
    job.on_check = lambda: None
    setup.hub.options = Options()
    check(setup, job)
    assert setup.hub.bytes_sent(WEIGHTS) - sent <= BIG - 8 * MIB + 16 * MIB


def test_a_cut_off_record_file_costs_only_what_it_does_not_name(setup: Setup) -> None:
    setup.hub.options = Options(connection_rate=8e6)
    job = DownloadJob("download-1")
    Stopper(job, Interrupted("stop"), lambda: setup.hub.bytes_sent(WEIGHTS) > 16 * MIB)
    with pytest.raises(Interrupted):
        setup.download(job=job)
    (records,) = setup.layout.staging.glob("*/parts/*.blocks")
    for damage in (records.read_bytes()[:700], b"", b"garbage" * 200):
        records.write_bytes(damage)
        again = DownloadJob("download-1", job.checkpoint)
        Stopper(again, Interrupted("stop"), lambda: True)
        with pytest.raises(Interrupted):
            setup.download(job=again)
    setup.hub.options = Options()
    job.on_check = lambda: None
    check(setup, job)


def test_a_verified_file_that_was_lost_is_not_taken_for_its_half_successor(setup: Setup) -> None:
    """It stood in the checkpoint as whole; a partial file of the same name and length must not pass for it."""
    setup.hub.content.repos[REPO].commit({"second.safetensors": Generated(BIG, 8)})
    setup.hub.options = Options(connection_rate=8e6)
    job = DownloadJob("download-1")
    job.on_check = lambda: _stop_when(bool(job.checkpoint.get("done", {}).keys() & {"weights.safetensors"}))
    with pytest.raises(Interrupted):
        setup.download(job=job)
    (whole,) = setup.layout.staging.glob("*/model/weights.safetensors")
    whole.unlink()
    sent = setup.hub.bytes_sent(WEIGHTS)
    job.on_check = lambda: _stop_when(setup.hub.bytes_sent(WEIGHTS) > sent + 2 * MIB)
    with pytest.raises(Interrupted):
        setup.download(job=job)
    setup.hub.options, job.on_check = Options(), lambda: None
    result = setup.download(job=job)
    assert setup.files(result["model_id"]) == setup.expected()


def _stop_when(condition: bool) -> None:
    if condition:
        raise Interrupted("stop")


def test_an_expired_signature_is_asked_for_again(setup: Setup) -> None:
    setup.hub.options = Options(link_ttl_s=0.0, connection_rate=12e6)
    setup.hub.fault(Status(403), host="cdn", path=WEIGHTS, skip=2, times=2)
    setup.hub.options = Options(connection_rate=12e6)
    check(setup)


@pytest.mark.parametrize("etags", ["digest", "opaque"])
@pytest.mark.parametrize("plain", [True, False])
def test_hubs_of_all_kinds(tmp_path: Path, etags: str, plain: bool) -> None:
    with Hub(one_file(3 * MIB), Options(cdn_etags=etags, plain_redirects=plain)) as hub:  # type: ignore[arg-type]
        setup = Setup(tmp_path, hub)
        check(setup)
        setup.close()


def test_the_structure_is_kept_and_equal_files_are_fetched_once(tmp_path: Path) -> None:
    files = {
        "model_index.json": b"{}",
        "unet/weights.safetensors": Generated(2 * MIB, 5),
        "vae/weights.safetensors": Generated(2 * MIB, 5),
        "text/empty.txt": b"",
        "empty.safetensors": b"",
        "plain-but-large.txt": HubFile(Generated(3 * MIB, 9), lfs=False),
    }
    with Hub(repository(files)) as hub:
        setup = Setup(tmp_path, hub)
        result = setup.download()
        assert setup.files(result["model_id"]) == setup.expected()
        assert hub.bytes_sent("*/weights.safetensors") == 2 * MIB
        setup.close()


def test_equal_files_are_fetched_once_also_when_it_stops_between_them(tmp_path: Path) -> None:
    with Hub(repository({f"{name}/weights.safetensors": Generated(2 * MIB, 5) for name in ("unet", "vae")})) as hub:
        setup = Setup(tmp_path, hub)
        job = DownloadJob("download-1")
        job.on_check = lambda: _stop_when(bool(job.checkpoint.get("done")))
        with pytest.raises(Interrupted):
            setup.download(job=job)
        assert len(job.checkpoint["done"]) == 1
        job.on_check = lambda: None
        result = setup.download(job=job)
        assert setup.files(result["model_id"]) == setup.expected()
        assert hub.bytes_sent("*/weights.safetensors") == 2 * MIB
        setup.close()


def test_what_the_library_has_is_not_fetched(setup: Setup) -> None:
    first = check(setup)
    sent = setup.hub.bytes_sent(WEIGHTS)
    again = setup.download(setup.plan(allow_duplicate=True), DownloadJob("download-2"))
    assert again["model_id"] == f"{first['model_id']}-2"
    assert setup.files(again["model_id"]) == setup.expected()
    assert setup.hub.bytes_sent(WEIGHTS) == sent
    with pytest.raises(DuplicateModel):
        setup.download(job=DownloadJob("download-3"))
    assert setup.staged() == []


@pytest.mark.parametrize("path", ["../escape.safetensors", "/abs.safetensors", "a/../../b.safetensors", "nul.gguf"])
def test_no_name_leads_out_of_the_folder(setup: Setup, path: str) -> None:
    content = repository({path: b"x" * 100})
    setup.hub.content.repos.update(content.repos)
    with pytest.raises(UnsafePath):
        setup.plan()


def test_a_pickle_is_refused_unless_acknowledged(tmp_path: Path) -> None:
    import pickle

    with Hub(repository({"weights.bin": HubFile(pickle.dumps({"a": print}), lfs=True)})) as hub:
        setup = Setup(tmp_path, hub)
        with pytest.raises(PickleNotAcknowledged):
            setup.download()
        assert setup.models() == [] and setup.staged() == []
        result = setup.download(security_acknowledged=True, job=DownloadJob("download-2"))
        assert setup.files(result["model_id"]) == setup.expected()
        setup.close()


def test_a_digest_that_is_a_lie_is_never_believed(tmp_path: Path) -> None:
    lie = HubFile(Generated(2 * MIB, 1), lfs=True, claims=Claims(sha256="0" * 64))
    with Hub(repository({"weights.safetensors": lie})) as hub:
        setup = Setup(tmp_path, hub)
        with pytest.raises(DigestMismatch):
            setup.download()
        assert setup.models() == []
        setup.close()


FULL_AT: dict[str, tuple[str, int]] = {
    "a block": ("pumas.downloads.part.PartFile.write", 5),
    "the records of a file": ("pumas.downloads.part.PartFile.__init__", 0),
    "the sync of a file": ("pumas.downloads.part.PartFile.sync", 0),
    "a name": ("pumas.downloads.fetching.name_whole", 0),
    "a small file": ("pumas.downloads.fetching._sync", 0),
    "the first folders": ("pumas.library.staging.Staging.open", 0),
    "the metadata": ("pumas.library.publishing.write_durably", 0),
    "the model's folder": ("pumas.library.publishing.make_folders", 0),
}


@pytest.mark.parametrize("where", FULL_AT)
def test_a_disk_that_fills_up_is_waited_for(setup: Setup, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever meets the full disk first, and also where the disk says that there is room (a quota has none)."""
    target, works = FULL_AT[where]
    whole = pkgutil.resolve_name(target.rpartition(".")[0])
    name = target.rpartition(".")[2]
    genuine = getattr(whole, name)
    full, calls = threading.Event(), []

    def fails(*args: object, **options: object) -> object:
        calls.append(time.monotonic())
        if full.is_set() and len(calls) > works:
            raise DiskFull("Writing a test")
        return genuine(*args, **options)

    monkeypatch.setattr(whole, name, fails)
    monkeypatch.setattr("pumas.downloads.downloading.SPACE_LOOK_S", 0.3)
    full.set()
    with running(setup) as done:
        eventually(lambda: setup.meter.snapshot().activity == "waiting")
        assert "full" in setup.meter.snapshot().note
        assert setup.models() == []
        before = len(calls)
        time.sleep(0.5)
        assert len(calls) - before <= 30, "it is tried now and then, not all the time"
        full.clear()
        result = done()
    assert setup.files(result["model_id"]) == setup.expected()
    assert setup.staged() == []


def test_a_full_disk_of_the_launcher_is_waited_for(setup: Setup) -> None:
    job, full = DownloadJob("download-1"), threading.Event()

    def save(_state: object) -> None:
        if full.is_set():
            raise DiskFull("Saving the job")

    job.on_save = save
    full.set()
    with running(setup, job) as done:
        eventually(lambda: setup.meter.snapshot().activity == "waiting")
        full.clear()
        result = done()
    assert setup.files(result["model_id"]) == setup.expected()


def test_a_pause_while_the_disk_is_full(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.space = Space(setup.library, lambda _folder: 0)
    job, stopped = DownloadJob("download-1"), threading.Event()
    Stopper(job, Interrupted("stop"), stopped.is_set)
    with pytest.raises(Interrupted), running(setup, job) as done:
        eventually(lambda: setup.meter.snapshot().activity == "waiting")
        stopped.set()
        done()


def test_offline_mode_stops_what_is_under_way_and_it_goes_on_after(setup: Setup) -> None:
    setup.hub.options = Options(connection_rate=2e6)
    with running(setup) as done:
        setup.hub.wait_until(lambda: setup.hub.bytes_sent(WEIGHTS) > 2 * MIB)
        setup.network.configure(NetworkSettings(offline=True))
        eventually(lambda: setup.meter.snapshot().activity == "retrying")
        eventually(lambda: "Offline mode" in setup.meter.snapshot().note)
        assert eventually(lambda: is_still(setup)), "nothing moves"
        setup.hub.options = Options()
        setup.network.configure(NetworkSettings())
        result = done()
    assert setup.files(result["model_id"]) == setup.expected()
    assert setup.hub.bytes_sent(WEIGHTS) <= BIG + 16 * MIB


def is_still(setup: Setup) -> bool:
    """Whether neither a request nor a byte comes for longer than any wait of these tests."""
    before = setup.hub.bytes_sent(WEIGHTS), len(setup.hub.requests)
    time.sleep(0.4)
    return (setup.hub.bytes_sent(WEIGHTS), len(setup.hub.requests)) == before


@contextlib.contextmanager
def running(setup: Setup, job: DownloadJob | None = None) -> Iterator[Callable[[], dict[str, Any]]]:
    """A download in a thread of its own; the value waits for its end. Raises what it raised."""
    job = job or DownloadJob("download-1")
    with ThreadPoolExecutor(1) as thread:
        before = setup.meter
        work = thread.submit(setup.download, job=job)
        eventually(lambda: setup.meter is not before or work.done())
        try:
            yield lambda: work.result(30)
        finally:
            if not work.done():
                Stopper(job, Interrupted("the test has failed"), lambda: True)


def test_the_token_stays_with_the_hub(setup: Setup) -> None:
    check(setup)
    hub_seen = [r.headers.get("authorization") for r in setup.hub.requests if r.host == "hub"]
    cdn_seen = [r.headers.get("authorization") for r in setup.hub.requests if r.host == "cdn"]
    assert set(hub_seen) == {"Bearer hf_granted"} and cdn_seen and set(cdn_seen) == {None}
    written = b"".join(p.read_bytes() for p in setup.layout.root.rglob("*") if p.is_file() and p.stat().st_size < MIB)
    assert b"hf_granted" not in written
