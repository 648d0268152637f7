"""Import, delete, restore, emptying and metadata writes, killed or refused by the disk at any system call.

After each fault the disk is walked by digest, dot folders included: every file that the user had is whole in a place
where a call shows it, nothing half is visible, and after a start (`recover`) the same operation works. strace makes the
faults (`--inject`); `PUMAS_FAULT_RUNS` sets how many kills each operation gets (12 unless told). The operation is done
by either backend's services, what follows by Python's: they go on with whatever the other left.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from contract.served import rust_is_built
from faults.library_driver import FileJob, Parts, small_blocks
from faults.strace import CALL, CHANGING, Point, attach, changes
from library.model_disk import gguf, make_model, tree, write
from pumas.library.copying import Mode
from pumas.library.import_plan import ImportRequest
from pumas.library.importing import ImportService
from sidecar import rust_binary

RUNS = int(os.environ.get("PUMAS_FAULT_RUNS", "12"))
CHECKOUT = Path(__file__).resolve().parents[2]
KEPT = "llm/llama/kept"
NEIGHBOUR = "llm/llama/neighbour"

READING = ["preadv", "pread64", "read", "getdents64"]


@dataclass
class Ending:
    status: int
    said: dict[str, Any] | None

    @property
    def killed(self) -> bool:
        return os.WIFSIGNALED(self.status)


class Driver(Protocol):
    """Does an operation in a process of its own, under strace with the arguments given."""

    def run(self, command: dict[str, Any], *strace: str) -> Ending: ...

    def close(self) -> None: ...


class PythonDriver:
    """The process that forks the victims."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(CHECKOUT / "backend"), str(CHECKOUT / "tests")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "faults.library_driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def run(self, command: dict[str, Any], *strace: str) -> Ending:
        self._say(json.dumps(command))
        pid = int(self._hear())
        tracer = attach(pid, strace) if strace else None
        self._say("go")
        answer = json.loads(self._hear())
        if tracer is not None:
            tracer.communicate()
        return Ending(answer["status"], answer["said"])

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)


class RustDriver:
    """The Rust services, a new process for each operation."""

    program = rust_binary().parent / "examples" / "library_operation" if rust_is_built() else Path()

    def run(self, command: dict[str, Any], *strace: str) -> Ending:
        with subprocess.Popen(
            [self.program, json.dumps(command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            tracer = attach(process.pid, strace) if strace else None
            process.stdin.write(b"g")
            process.stdin.flush()
            if "kill_after" in command:
                time.sleep(command["kill_after"])
                process.kill()
            said = process.stdout.read()
        if tracer is not None:
            tracer.communicate()
        status = -process.returncode if process.returncode < 0 else process.returncode << 8
        return Ending(status, json.loads(said) if said else None)

    def close(self) -> None:
        """Nothing is left running."""


DRIVERS: dict[str, type[PythonDriver | RustDriver]] = {"python": PythonDriver}
if RustDriver.program.is_file():
    DRIVERS["rust"] = RustDriver


@pytest.fixture(scope="module", params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Generator[Driver]:
    assert shutil.which("strace"), "strace is needed to make system calls fail; ./launcher setup installs it"
    one = DRIVERS[request.param]()
    yield one
    one.close()


def trace(driver: Driver, command: dict[str, Any], log: Path) -> list[tuple[str, str]]:
    """(name, arguments) of each changing or reading call of the operation, in order."""
    ending = driver.run(command, "-o", str(log), "-s", "0", "-e", f"trace={','.join(CHANGING + READING)}")
    assert ending.said is not None and "result" in ending.said, ending
    found: list[tuple[str, str]] = []
    main = ""
    for line in log.read_text().splitlines():
        match = CALL.match(line)
        if match:
            main = main or match[1]
            if match[1] == main:
                found.append((match[2], match[3]))
    return found


# -- what is done, and to what ---------------------------------------------------------------------------------------


@dataclass
class World:
    """A library with two models, the user's folder, and the command that will be disturbed."""

    root: Path
    user: Path
    command: dict[str, Any]
    sources: dict[str, str] = field(default_factory=dict[str, str])
    models: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])

    @property
    def library(self) -> Path:
        return self.root / "shared-resources/models"


@dataclass(frozen=True)
class Case:
    """`mode` for imports; `across`: the user's folder lies on another volume than the library."""

    op: str
    mode: str = ""
    across: bool = False

    def __str__(self) -> str:
        return "-".join(filter(None, (self.op, self.mode, "across" if self.across else "")))

    @contextlib.contextmanager
    def world(self) -> Generator[World]:
        # tmpfs for the library: hundreds of runs with dozens of fsyncs each. What is tested is the order of calls.
        with tempfile.TemporaryDirectory(dir="/dev/shm") as near, tempfile.TemporaryDirectory() as far:
            assert os.stat(near).st_dev != os.stat(far).st_dev
            yield self._build(Path(near) / "launcher", Path(far if self.across else near) / "user")

    def _build(self, root: Path, user: Path) -> World:
        parts = Parts(root)
        world = World(root, user, {"op": self.op, "root": str(root), "model_id": KEPT})
        for model_id in (KEPT, NEIGHBOUR):
            make_model(world.library, model_id, {"a.gguf": gguf(len(model_id), 9000), "sub/b.txt": b"b"})
        write(user / "pipe/config.json", b"{}")
        for n in range(1 + RUNS // 25):
            write(user / f"pipe/part{n}/model.gguf", gguf(n, 40_000 + n))
        write(user / "single.gguf", gguf(77, 50_000))
        world.sources = tree(user)
        if self.op in ("restore", "empty"):
            world.command["trash_id"] = parts.trash.delete(KEPT).trash_id
        if self.op == "import":
            requests = [ImportRequest(str(user / name), mode=Mode(self.mode)) for name in ("pipe", "single.gguf")]
            world.command.update(ImportService.job_params(requests), job=str(root.parent / "job.json"))
        place = root / "shared-resources/models"
        world.models = {i: tree(place / i) for i in (KEPT, NEIGHBOUR) if (place / i).exists()}
        if self.op in ("restore", "empty"):
            world.models[KEPT] = tree(place / ".trash" / world.command["trash_id"] / "model")
        return world


IMPORTS = [
    Case("import", "copy"),
    Case("import", "copy", across=True),
    Case("import", "move"),
    Case("import", "move", across=True),
    Case("import", "hardlink"),
]
OTHERS = [Case(op) for op in ("delete", "restore", "empty", "metadata", "overrides")]
CASES = [*IMPORTS, *OTHERS]


# -- what must hold --------------------------------------------------------------------------------------------------


def visible_models(world: World) -> dict[str, dict[str, str]]:
    """Models by id with all their files. Fails for anything visible that is no whole model."""
    found: dict[str, dict[str, str]] = {}
    for folder, folders, names in os.walk(world.library):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if not names or Path(folder) == world.library:
            continue
        model_id = Path(folder).relative_to(world.library).as_posix()
        assert "metadata.json" in names, f"{model_id} is visible without metadata: {names}"
        folders.clear()
        files = tree(Path(folder))
        metadata = json.loads((Path(folder) / "metadata.json").read_bytes())
        for entry in metadata["files"]:
            assert entry["name"] in files, f"{model_id} is visible without {entry['name']}"
            assert entry.get("sha256") in (None, files[entry["name"]]), f"{model_id}: {entry['name']} is cut"
        json.loads((Path(folder) / "overrides.json").read_bytes())
        found[model_id] = files
    return found


def check_nothing_lost(case: Case, world: World) -> None:
    """Everything that was there is whole, and where a call shows it."""
    models = visible_models(world)
    in_library = {digest for files in models.values() for digest in files.values()}
    now = tree(world.user)
    for name, digest in world.sources.items():
        moved = case.mode == "move" and digest in in_library and name not in now
        assert now.get(name) == digest or moved, f"{name} was lost or changed"
    own = set() if case.op not in ("metadata", "overrides") else {f"{case.op}.json"}
    for model_id, files in world.models.items():
        if model_id not in models:
            assert model_id == KEPT and case.op in ("delete", "restore", "empty"), f"{model_id} is gone"
            check_in_trash(case, world, files)
            continue
        now_files = models[model_id]
        assert {n: d for n, d in files.items() if n not in own} == {
            n: d for n, d in now_files.items() if n in files and n not in own
        }
        extra = now_files.keys() - files.keys()
        assert not extra or own, extra


def check_in_trash(case: Case, world: World, files: dict[str, str]) -> None:
    trash = world.library / ".trash"
    listed = Parts(world.root).trash.list()
    whole = [entry for entry in listed if tree(trash / entry.trash_id / "model") == files]
    assert [entry.model_id for entry in whole] == [KEPT] or (case.op == "empty" and not listed), listed
    assert all(entry.deleted_at for entry in whole), "the entry was written before the model was moved"


def check_retry(case: Case, world: World, fresh: bool) -> None:
    """A start, then the same again: it works, once, and leaves nothing behind."""
    small_blocks()
    parts = Parts(world.root)
    parts.recover(job_open=not fresh)
    check_nothing_lost(case, world)
    models = visible_models(world)
    if case.op == "import":
        check_import_again(case, world, parts, fresh)
    elif case.op == "delete":
        if KEPT in models:
            parts.trash.delete(KEPT)
        (entry,) = parts.trash.list()
        parts.trash.restore(entry.trash_id)
    elif case.op == "restore":
        if KEPT not in models:
            parts.trash.restore(world.command["trash_id"])
        assert parts.trash.list() == []
    elif case.op == "empty":
        parts.trash.empty()
        assert tree(world.library / ".trash") == {} and NEIGHBOUR in visible_models(world)
        return
    elif case.op == "metadata":
        parts.models.mark_manual(KEPT)
        assert parts.models.load(KEPT)["match_source"] == "manual"
        assert parts.models.load(KEPT)["x_unknown"] == {"kept": [1, 2, 3]}
    else:
        parts.models.update_overrides(KEPT, {"new": [1, 2, 3]})
        assert parts.models.overrides(KEPT) == {"new": [1, 2, 3]}
    parts.recover(job_open=False)
    check_nothing_lost(case, world)
    assert KEPT in visible_models(world)
    assert not list(world.root.rglob("*.pumas-tmp")), "temporary files are gone"
    assert not tree(world.library / ".staging") and not tree(world.library / ".trash")


def check_import_again(case: Case, world: World, parts: Parts, fresh: bool) -> None:
    state = Path(world.command["job"])
    if fresh:
        state.unlink(missing_ok=True)
    outcome = parts.imports.run_sync(FileJob(state), world.command)
    for result in outcome["results"]:
        # A new job may find what the killed one had finished: as a duplicate, or moved away already.
        again = fresh and result["error_code"] in ("duplicate_model", "file_unavailable", "not_a_model")
        assert result["success"] or again, result
    check_counts(world)
    if case.mode == "move" and not fresh:
        assert tree(world.user) == {}, "a resumed move finishes"


def check_counts(world: World) -> None:
    new = {i: files for i, files in visible_models(world).items() if i not in (KEPT, NEIGHBOUR)}
    wanted = Counter(world.sources.values())
    there = Counter(
        d for files in new.values() for n, d in files.items() if n not in ("metadata.json", "overrides.json")
    )
    assert there == wanted, "each file is in the library exactly once"


# -- tests -----------------------------------------------------------------------------------------------------------


def points_of(driver: Driver, case: Case) -> tuple[list[Point], list[Point], float]:
    """The operation's changing calls, its reading calls on our files, and how long it takes undisturbed (seconds)."""
    with case.world() as world:
        log = world.root.parent / "trace"
        calls = trace(driver, world.command, log)
        check_nothing_lost(case, world) if case.op != "empty" else None
    with case.world() as world:
        started = time.monotonic()
        driver.run(world.command)
        took = time.monotonic() - started
    seen: Counter[str] = Counter()
    changing: list[Point] = []
    reading: list[Point] = []
    for name, arguments in calls:
        seen[name] += 1
        if changes(name, arguments):
            changing.append(Point(name, seen[name]))
        elif name != "ioctl":
            reading.append(Point(name, seen[name]))
    return changing, reading, took


def spread(points: Sequence[Point], count: int) -> list[Point]:
    """At most `count` of the points, evenly, the first and the last among them."""
    if len(points) <= count:
        return list(points)
    return [points[round(i * (len(points) - 1) / (count - 1))] for i in range(count)]


def first_and_last(points: Sequence[Point]) -> list[Point]:
    """Each call by name at its first and last time; all times in the long form."""
    if RUNS >= 100:
        return list(points)
    by_name: dict[str, list[Point]] = {}
    for point in points:
        by_name.setdefault(point.name, []).append(point)
    return list(dict.fromkeys(p for same in by_name.values() for p in (same[0], same[-1])))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_killed_at_any_call(driver: Driver, case: Case) -> None:
    changing, _reading, took = points_of(driver, case)
    assert len(changing) >= 3, changing
    for number, point in enumerate(spread(changing, RUNS)):
        with case.world() as world:
            inject = f"inject={point.name}:signal=KILL:when={point.when}"
            ending = driver.run(world.command, "-o", "/dev/null", "-e", f"trace={point.name}", "-e", inject)
            assert ending.killed, (point, ending)
            check(case, world, point, fresh=bool(number % 2))
    moments = random.Random(str(case))
    for number in range(RUNS - len(changing)):
        with case.world() as world:
            moment = moments.uniform(0, took)
            driver.run({**world.command, "kill_after": moment})
            check(case, world, f"after {moment:.4f} s", fresh=bool(number % 2))


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_refused_at_any_call(driver: Driver, case: Case, error: str) -> None:
    changing, reading, _took = points_of(driver, case)
    points = first_and_last([*changing, *(reading if error == "EIO" else [])])
    for number, point in enumerate(points):
        with case.world() as world:
            inject = f"inject={point.name}:error={error}:when={point.when}"
            ending = driver.run(world.command, "-o", "/dev/null", "-e", f"trace={point.name}", "-e", inject)
            assert ending.said is not None and "bug" not in ending.said, (point, ending)
            for code in codes(ending.said):
                assert code in EXPECTED[error], (point, ending)
            if case.op == "import" and codes(ending.said) == []:
                check_done(case, world, ending.said["result"], f"{point} {error}")
                continue
            # A job that ended with failed items is not resumed but asked for again.
            resumable = "error_code" in ending.said
            check(case, world, f"{point} {error}", fresh=not resumable or bool(number % 2))


EXPECTED = {
    "ENOSPC": {"disk_full"},
    # A file that cannot be opened or listed is unavailable; a state file that cannot be read is as good as damaged.
    "EIO": {"disk_error", "file_unavailable", "corrupt_state", "not_a_model"},
}


def codes(said: dict[str, Any]) -> list[str]:
    """Of the operation and of each item; a call whose failure does not matter may also succeed."""
    result = said.get("result")
    items = result["results"] if isinstance(result, dict) else []
    return [code for code in (said.get("error_code"), *(item["error_code"] for item in items)) if code]


def check_done(case: Case, world: World, result: dict[str, Any], where: str) -> None:
    """The import succeeded although a call was refused: all is there, and a source that stayed is named."""
    check_nothing_lost(case, world)
    check_counts(world)
    if case.mode == "move":
        said = " ".join(warning for item in result["results"] for warning in item["warnings"])
        assert all(Path(name).name in said for name in tree(world.user)), (where, said)


def check(case: Case, world: World, where: object, *, fresh: bool) -> None:
    try:
        check_nothing_lost(case, world)
        check_retry(case, world, fresh)
    except Exception as error:
        everything = "\n".join(f"  {name}" for name in sorted([*tree(world.root), *tree(world.user)]))
        raise AssertionError(f"{case} disturbed at {where} (fresh={fresh}): {error}\n{everything}") from error


@pytest.mark.parametrize("case", [IMPORTS[0], IMPORTS[3], Case("delete"), Case("metadata")], ids=str)
def test_what_is_acknowledged_was_synced_before(driver: Driver, case: Case) -> None:
    """Power loss: data, then fsync, then rename, then fsync of the folders, in the order the system calls were made."""
    with case.world() as world:
        log = world.root.parent / "trace"
        everything = "openat,close,write,fsync,rename,renameat,renameat2,link,linkat,unlink,mkdir"
        ending = driver.run(world.command, "-y", "-o", str(log), "-s", "0", "-e", f"trace={everything}")
        assert ending.said and "result" in ending.said
        check_order(whole_lines(log.read_text().splitlines()), str(world.library))


def whole_lines(lines: Sequence[str]) -> list[str]:
    """strace cuts a call in two when another thread says something in between."""
    begun: dict[str, str] = {}
    found: list[str] = []
    for line in lines:
        pid, _space, rest = line.partition(" ")
        if line.endswith("<unfinished ...>"):
            begun[pid] = line.removesuffix("<unfinished ...>").rstrip()
        elif "resumed>" in rest:
            found.append(begun.pop(pid) + rest.partition("resumed>")[2])
        else:
            found.append(line)
    return found


_WRITE = re.compile(r"^\d+ +write\(\d+<([^>]+)>.* = \d+")
_FSYNC = re.compile(r"^\d+ +fsync\(\d+<([^>]+)>\) += 0")
_RENAME = re.compile(
    r'^\d+ +rename(?:at2?)?\((?:AT_FDCWD(?:<[^>]*>)?, )?"([^"]+)", (?:AT_FDCWD(?:<[^>]*>)?, )?"([^"]+)".* = 0'
)
_MKDIR = re.compile(r'^\d+ +mkdir\("([^"]+)".* = 0')
_LINK = re.compile(r'^\d+ +linkat?\(.*"([^"]+)"(?:, 0)?\) += 0')
_UNLINK = re.compile(r'^\d+ +unlink\("([^"]+)"\) += 0')


def check_order(lines: Sequence[str], library: str) -> None:
    unsynced: set[str] = set()  # files with written data, folders with new names
    renames = 0
    for line in lines:
        if match := _WRITE.match(line):
            unsynced.add(match[1])
        elif match := _FSYNC.match(line):
            unsynced.discard(match[1])
        elif match := _MKDIR.match(line) or _LINK.match(line):
            unsynced.add(os.path.dirname(match[1]))
            if _MKDIR.match(line):
                unsynced.add(match[1])
        elif match := _RENAME.match(line):
            renames += 1
            source, target = match[1], match[2]
            pending = [path for path in unsynced if path == source or path.startswith(f"{source}/")]
            assert not pending, f"renamed before it was synced: {pending}"
            unsynced |= {os.path.dirname(source), os.path.dirname(target)}
        elif match := _UNLINK.match(line):
            if "/user/" in match[1]:
                visible = {p for p in unsynced if p.startswith(library) and "/." not in p.removeprefix(library)}
                assert not visible, f"a source was removed before this was durable: {visible}"
            unsynced.discard(match[1])
    left = {path for path in unsynced if path.startswith(library) and "/.staging" not in path and os.path.exists(path)}
    assert renames and not left, f"acknowledged before it was synced: {left}"
