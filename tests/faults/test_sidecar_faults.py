"""The whole sidecar, killed or refused by the disk in the middle of a call, at system calls and at random moments.

After each kill a sidecar starts on what is left: see `library_load.py` for what must hold. `PUMAS_FAULT_RUNS` sets how
many kills each operation gets (3 unless told). The operations alone, at every system call: `test_library_faults.py`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

import sidecar as running
from faults.killing import kill_often
from faults.library_bench import OPERATIONS, Bench
from faults.library_load import check_nothing_left_over, check_promises
from faults.strace import traced
from faults.volumes import broken_disk, tmpfs
from library.model_disk import gguf
from sidecar import Sidecar, eventually

RUNS = int(os.environ.get("PUMAS_FAULT_RUNS", "3"))
# What needs room on a disk; opening is left out, because reading begins with it too.
NEED_ROOM = "write,pwrite64,mkdir,link,fallocate,copy_file_range,ftruncate"
if running.chosen_backend(os.environ) == "rust":
    # Its runtime wakes its threads by writing to an eventfd, which no disk can refuse. The file system below that is
    # really full refuses plain writes too.
    NEED_ROOM = NEED_ROOM.removeprefix("write,")


# What a read-only disk refuses besides. It removes nothing either, but then it let nothing be made that is left behind.
NEED_WRITING = "rename,renameat,renameat2,mkdirat,linkat,symlink,symlinkat,fchmod"


@pytest.fixture
def bench(tmp_path: Path) -> Generator[Bench]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as far:
        one = Bench(tmp_path / "launcher", Path(far), tmp_path / "user")
        yield one
        one.sidecar.close()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_and_started_again(bench: Bench, tmp_path: Path, operation: str) -> None:
    def check(number: int) -> None:
        bench.restart()
        promises = bench.caller.promises()
        check_promises(bench.sidecar, promises)
        check_nothing_left_over(bench.sidecar, promises, resume=bool(number % 2))
        bench.caller.look()

    kill_often(lambda: bench.sidecar, lambda: OPERATIONS[operation](bench), tmp_path / "trace", RUNS, check)


def check_reads_go_on(bench: Bench) -> None:
    """A deletion needs no room, but the index may not learn of it before there is some."""
    inside = {thing.model_id for thing in bench.caller.inside()}
    assert bench.sidecar.healthy()
    assert bench.sidecar.result("health_check")["status"] == "ok"
    assert inside <= set(bench.sidecar.result("get_models")["models"])
    assert bench.sidecar.result("search_models_fts", {"query": "thing"})["total_count"] >= len(inside)
    bench.sidecar.result("get_library_status")
    for model_id in inside:
        assert bench.sidecar.result("get_model", {"model_id": model_id})["model_id"] == model_id


def check_works_again(bench: Bench) -> None:
    """Within five seconds, without a restart."""

    def works() -> bool:
        thing = bench.caller.bring_in("copy")
        return thing in bench.caller.inside()

    eventually(works, 30, "writing after there was room again")
    bench.caller.look()
    check_promises(bench.sidecar, bench.caller.promises())
    bench.restart()
    check_nothing_left_over(bench.sidecar, bench.caller.promises(), resume=False)


CODES = {"ENOSPC": "disk_full", "EDQUOT": "disk_full", "EIO": "disk_error", "EROFS": "read_only"}


@pytest.mark.parametrize(
    ("error", "first"), [("ENOSPC", 1), ("ENOSPC", 3), ("EDQUOT", 1), ("EIO", 1), ("EIO", 8), ("EROFS", 1)]
)
def test_the_disk_refuses(bench: Bench, error: str, first: int) -> None:
    """From the `first` call on that needs room, in each thread, until the trouble is over."""
    bench.caller.bring_in("copy")
    acts = {name: OPERATIONS[name](bench) for name in ("import-copy", "import-move", "delete", "overrides", "verify")}
    calls = f"{NEED_ROOM},{NEED_WRITING}" if error == "EROFS" else NEED_ROOM
    inject = f"inject={calls}:error={error}:when={first}+"
    with traced(bench.sidecar.pid, ["-o", "/dev/null", "-e", f"trace={calls}", "-e", inject]):
        for act in acts.values():
            act()
        check_reads_go_on(bench)
    for refused in bench.caller.refused:
        assert refused.get("error_code") == CODES[error], refused
    assert bench.caller.refused or first > 1
    check_works_again(bench)


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """On a file system of its own. Where none can be mounted the test above stands for it."""
    with tmpfs(128 * 1024 * 1024) as place:
        if place is None:
            return
        bench = Bench(place / "launcher", tmp_path, place / "user")
        try:
            kept = bench.caller.bring_in("copy")
            ballast = place / "ballast"
            with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(b"x" * 4096) == 4096:
                    pass
            for act in (
                lambda: bench.caller.bring_in("copy"),
                lambda: bench.caller.limit(kept),
                lambda: bench.caller.mark(kept),
                lambda: bench.caller.delete(kept),
            ):
                act()
            check_reads_go_on(bench)
            codes = [refused.get("error_code") for refused in bench.caller.refused]
            assert set(codes) == {"disk_full"} and len(codes) >= 3, bench.caller.refused
            ballast.unlink()
            check_works_again(bench)
        finally:
            bench.sidecar.close()


def test_a_launcher_on_a_disk_that_is_mounted_read_only(launch: Callable[..., Sidecar]) -> None:
    """A snapshot, a backup, a disk of somebody else: what its index says can be looked at."""
    with tmpfs(64 * 1024 * 1024) as disk:
        if disk is None:
            return
        root = disk / "launcher"
        folder = root / "shared-resources" / "models" / "llm" / "f" / "one"
        folder.mkdir(parents=True)
        (folder / "one.gguf").write_bytes(gguf())
        (folder / "metadata.json").write_text('{"official_name": "One", "family": "f", "model_type": "llm"}')
        first = launch(root=root)
        first.result("refresh_model_index")
        first.close()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with tempfile.TemporaryDirectory() as place:
            # What the tests write down of a sidecar lies beside its root.
            (Path(place) / "launcher").symlink_to(root)
            sidecar = launch(root=Path(place) / "launcher")
            for _ in range(2):
                assert list(sidecar.result("get_models")["models"]) == ["llm/f/one"]
                assert sidecar.result("search_models_fts", {"query": "one"})["total_count"] == 1
                assert sidecar.result("get_library_status")["state"] == "read_only"
                assert sidecar.result("refresh_model_index")["error_code"] == "read_only"
            refused = sidecar.result("update_model", {"model_id": "llm/f/one", "notes": "x"})
            assert refused["error_code"] == "read_only"
            sidecar.close()


def test_a_disk_that_the_kernel_makes_read_only(tmp_path: Path) -> None:
    """In the middle and for good: whatever is refused says so, reading goes on, also after a start."""
    with broken_disk() as disk:
        if disk is None:
            return
        (disk.path / "launcher").mkdir()
        (tmp_path / "launcher").symlink_to(disk.path / "launcher")
        bench = Bench(tmp_path / "launcher", tmp_path, disk.path / "user")
        try:
            bench.caller.bring_in("copy")
            names = ("import-copy", "delete", "restore", "overrides", "metadata", "verify")
            acts = [OPERATIONS[name](bench) for name in names]
            disk.make_read_only()
            for act in acts:
                act()
            for method, params in (
                ("set_download_limits", {"at_once": 2}),
                ("set_network_settings", {"offline": True}),
                ("refresh_model_index", {}),
                ("empty_trash", {}),
            ):
                bench.caller.refused.append(bench.sidecar.result(method, params))
            assert len(bench.caller.refused) == len(acts) + 4
            for refused in bench.caller.refused:
                assert refused.get("error_code") == "read_only", refused
            check_reads_go_on(bench)
            assert bench.sidecar.result("get_library_status")["state"] == "read_only"
            bench.restart()
            check_reads_go_on(bench)
            bench.caller.refused.clear()
            bench.caller.bring_in("copy")
            assert [refused.get("error_code") for refused in bench.caller.refused] == ["read_only"]
        finally:
            bench.sidecar.close()


def test_what_killed_writes_left_is_gone_after_a_start(launch: Callable[..., Sidecar], tmp_path: Path) -> None:
    """Beside each state file that a domain writes; nobody else's files, not even of the same ending."""
    root = tmp_path / "launcher"
    ended = subprocess.Popen(["true"])
    ended.wait()
    state = ("", "launcher-data", "launcher-data/metadata", "launcher-data/cache", "launcher-data/config/rules")
    versions = ("ollama-versions", "ollama-versions/v0.12.0", "ollama-versions/.pumas-trash/v0.11.0-1")
    library = ("shared-resources/models/llm/fam/one", "shared-resources/models/.staging")
    foreign = ("launcher-data/cache/pip/http", "launcher-data/profiles/a/b", "shared-resources/user/workflows")
    gone, kept = list[Path](), list[Path]()
    for place in (*state, *versions, *library, *foreign):
        folder = root / place
        folder.mkdir(parents=True, exist_ok=True)
        (kept if place in foreign else gone).append(folder / f"x.json.{ended.pid}.0123abcd.pumas-tmp")
        kept += [folder / f"y.json.{os.getpid()}.0123abcd.pumas-tmp", folder / f"mine.{ended.pid}.pumas-tmp"]
    (root / "shared-resources/models/llm/fam/one/metadata.json").write_text('{"official_name": "One"}')
    for path in (*gone, *kept):
        path.write_text("half")
    sidecar = launch(root=root)
    eventually(lambda: sidecar.result("get_library_status")["model_count"] == 1, 30, "the index")
    eventually(lambda: not [path for path in gone if path.exists()], 10, "the end of the leftovers")
    assert [path for path in kept if not path.exists()] == []
