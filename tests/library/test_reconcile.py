"""The index agrees with the files: after any change, any damage, any kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pumas.config import Layout
from pumas.events.stream import EventStream
from pumas.library import reading, reconcile
from pumas.library.library_index import LibraryIndex
from pumas.library.reconcile import LibraryOffline, Reconciler, Summary
from pumas.library.store import Changes
from pumas.storage.database import Database, Schema
from pumas.storage.files import TEMP_SUFFIX
from pumas.storage.troubles import Troubles


class Library:
    """A library folder with its index, and what was told about it."""

    def __init__(self, folder: Path, index: Path | None = None) -> None:
        self.root = folder / "models"
        self.root.mkdir(parents=True, exist_ok=True)
        self.database = Database(index or self.root / "models.db", Schema.load("models"), disposable=True)
        self.troubles = Troubles()
        self.told: list[Changes] = []
        self.identified: list[str] = []
        self.reconciler = Reconciler(
            self.root, self.database, self.troubles, identify=self._identify, on_changes=self.told.append
        )

    def _identify(self, path: Path) -> tuple[str, str, str]:
        self.identified.append(path.name)
        return ("vision", "", "seen") if path.name.startswith("seen") else ("", "", "")

    def run(self) -> Summary:
        return self.reconciler.run()

    def write(self, model_id: str, text: str | None = None, **metadata: Any) -> Path:
        folder = self.root / model_id
        folder.mkdir(parents=True, exist_ok=True)
        value = {"official_name": folder.name, **metadata}
        (folder / "metadata.json").write_text(json.dumps(value) if text is None else text, encoding="utf-8")
        return folder

    def weights(self, path: str, size: int = 10) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * size)
        return file

    def rows(self) -> dict[str, tuple[Any, ...]]:
        """All models, without what an equal index may differ in (row numbers)."""
        sql = (
            "SELECT id, official_name, model_type, family, size_bytes, primary_file, metadata_json, facets, derived "
            "FROM models"
        )
        return {r[0]: r for r in self.database.read_sync(lambda c: c.execute(sql).fetchall())}

    def ids(self) -> list[str]:
        return sorted(self.rows())

    def kinds(self) -> dict[str, str]:
        return {t.subject: t.kind for t in self.troubles.list()}

    def check_search(self) -> None:
        """The search table holds exactly what the models table says."""
        self.database.write_sync(
            lambda c: c.execute("INSERT INTO model_search (model_search, rank) VALUES ('integrity-check', 1)")
        )

    def close(self) -> None:
        self.database.close_sync()


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    one = Library(tmp_path)
    yield one
    one.close()


def old(path: Path, seconds: int = 100) -> None:
    """Make a stamp that is old enough to be trusted, unlike those of files that a test just wrote."""
    status = os.stat(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - seconds * 1_000_000_000 + 1))


def age(library: Library) -> None:
    for base, _, files in os.walk(library.root):
        for name in files:
            old(Path(base, name))
        old(Path(base))


def test_first_and_unchanged(library: Library) -> None:
    library.write("llm/llama/a", tags=["x"], model_type="llm")
    library.write("llm/qwen/b")
    age(library)
    first = library.run()
    assert (first.added, first.read) == (2, 6)
    assert [c.added for c in library.told] == [["llm/llama/a", "llm/qwen/b"]] or library.told[0].count == 2
    again = library.run()
    # The library's own folder holds the index and its journals: it is read each time, and only it.
    assert (again.added, again.changed, again.removed) == (0, 0, 0)
    assert again.read <= 1
    library.check_search()


def _add(x: Library) -> None:
    x.write("llm/new/c")


def _edit(x: Library) -> None:
    x.write("llm/llama/a", official_name="Other")


def _touch(x: Library) -> None:
    os.utime(x.root / "llm/llama/a/metadata.json")


def _rename(x: Library) -> None:
    os.rename(x.root / "llm/llama/a", x.root / "llm/llama/z")


def _remove(x: Library) -> None:
    shutil.rmtree(x.root / "llm/llama")


def _hide(x: Library) -> None:
    os.rename(x.root / "llm/llama/a", x.root / "llm/llama/.a")


CHANGES: list[tuple[Callable[[Library], None], tuple[int, int, int]]] = [
    (_add, (1, 0, 0)),
    (_edit, (0, 1, 0)),
    (_touch, (0, 0, 0)),
    (_rename, (1, 0, 1)),
    (_remove, (0, 0, 1)),
    (_hide, (0, 0, 1)),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES, ids=[c.__name__ for c, _ in CHANGES])
def test_changes_are_found(library: Library, change: Callable[[Library], None], expected: tuple[int, int, int]) -> None:
    library.write("llm/llama/a", description="unsaid")
    library.write("audio/x/b")
    age(library)
    library.run()
    change(library)
    summary = library.run()
    assert (summary.added, summary.changed, summary.removed) == expected
    library.check_search()


def test_a_change_within_one_tick_of_the_clock_is_found(library: Library) -> None:
    """Same size, same time, same file: only distrust of young stamps sees it."""
    file = library.write("llm/a/b", official_name="one") / "metadata.json"
    library.run()
    stamp = os.stat(file).st_mtime_ns
    with open(file, "r+b") as f:
        f.write(file.read_bytes().replace(b"one", b"two"))
    os.utime(file, ns=(stamp, stamp))
    library.run()
    assert library.rows()["llm/a/b"][1] == "two"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "123", '"x"', "\0" * 64, '{"a": NaN}', "[" * 5000, '{"official_name": 5}',
             '{"tags": 7}', '{"files": {}}', '{"hashes": []}', '{"size_bytes": "1"}', '{"model_type": ["llm"]}'],
)  # fmt: skip
def test_damaged_metadata_is_listed_and_costs_nobody_else(library: Library, text: str) -> None:
    library.write("llm/good/a")
    library.write("llm/bad/b", text)
    library.write("llm/bad/with-file", text)
    library.weights("llm/bad/with-file/x.gguf", 7)
    library.run()
    assert library.ids() == ["llm/bad/with-file", "llm/good/a"]
    assert library.kinds() == {
        "models/llm/bad/b/metadata.json": reconcile.DAMAGED,
        "models/llm/bad/with-file/metadata.json": reconcile.DAMAGED,
    }
    assert (library.root / "llm/bad/b/metadata.json").read_text() == text
    # Another process lists it too, without reading the folder again.
    troubles = Troubles()
    Reconciler(library.root, library.database, troubles).load_troubles()
    assert {t.subject for t in troubles.list()} == set(library.kinds())
    library.write("llm/bad/b")
    library.write("llm/bad/with-file")
    library.run()
    assert library.kinds() == {}
    assert len(library.ids()) == 3


@pytest.mark.parametrize(
    "damage", [lambda p: p.write_text("{"), lambda p: p.unlink(), lambda p: p.write_bytes(b"\0" * 9)]
)
def test_a_backup_is_used_and_the_trouble_listed(library: Library, damage: Callable[[Path], None]) -> None:
    file = library.write("llm/a/b", official_name="From the backup") / "metadata.json"
    shutil.copy(file, f"{file}.bak")
    damage(file)
    library.run()
    library.run()
    assert library.rows()["llm/a/b"][1] == "From the backup"
    assert library.kinds() == {"models/llm/a/b/metadata.json": reconcile.DAMAGED}


def make_fifo(path: Path) -> None:
    path.parent.mkdir(parents=True)
    os.mkfifo(path)


@pytest.mark.parametrize("make", [lambda p: p.mkdir(parents=True), make_fifo])
def test_metadata_that_is_no_file(library: Library, make: Callable[[Path], None]) -> None:
    library.write("llm/good/a")
    make(library.root / "llm/odd/b/metadata.json")
    library.run()
    assert library.ids() == ["llm/good/a"]


def test_folders_put_there_by_hand(library: Library) -> None:
    library.weights("llm/llama/by-hand/small.gguf", 3)
    library.weights("llm/llama/by-hand/large.gguf", 30)
    library.weights("llm/two/seen.safetensors", 5)
    library.weights("diffusion/sdxl/pipe/unet/weights.safetensors", 40)
    library.weights("diffusion/sdxl/pipe/vae/weights.safetensors", 2)
    (library.root / "diffusion/sdxl/pipe/model_index.json").write_text("{}")
    library.weights("checkpoints/flat.safetensors")
    library.weights("llm/llama/notes/readme.txt")
    library.weights("loose.gguf")
    library.write("a/b/c/d/deep")
    library.write("top")
    library.run()
    rows = {i: row[2:6] for i, row in library.rows().items()}
    assert rows == {
        "llm/llama/by-hand": ("llm", "llama", 33, "large.gguf"),
        "llm/two": ("vision", "seen", 5, "seen.safetensors"),
        "diffusion/sdxl/pipe": ("diffusion", "sdxl", 42, "unet/weights.safetensors"),
        "a/b/c/d/deep": ("a", "b", None, ""),
        "top": ("unknown", "", None, ""),
    }
    before = set(library.root.rglob("*"))
    age(library)
    library.run()
    library.weights("llm/llama/by-hand/large.gguf", 50)
    library.weights("diffusion/sdxl/pipe/unet/more.safetensors", 8)
    library.run()
    assert library.rows()["llm/llama/by-hand"][4] == 53
    assert library.rows()["diffusion/sdxl/pipe"][4] == 50
    assert {p.name for p in set(library.root.rglob("*")) - before} == {"more.safetensors"}


def test_what_becomes_a_model_takes_what_is_below_it(library: Library) -> None:
    library.weights("llm/llama/set/part/x.gguf")
    age(library)
    library.run()
    assert library.ids() == ["llm/llama/set/part"]
    library.write("llm/llama/set")
    library.run()
    assert library.ids() == ["llm/llama/set"]
    (library.root / "llm/llama/set/metadata.json").unlink()
    library.run()
    assert library.ids() == ["llm/llama/set/part"]


def test_dot_folders_links_and_odd_names(library: Library, tmp_path: Path) -> None:
    library.write("llm/a/good")
    for hidden in (".staging/x", ".trash/x/y", ".downloads/z", "llm/a/.tmp_import_q", ".tmp_import_1"):
        library.write(hidden)
    outside = Library(tmp_path / "outside")
    outside.write("m/n/o")
    (library.root / "llm/loop").symlink_to(library.root)
    (library.root / "llm/a/again").symlink_to(library.root / "llm/a/good")
    (library.root / "linked").symlink_to(outside.root)
    os.makedirs(os.path.join(os.fsencode(library.root), b"llm/\xff\xfe/x"))
    library.write("llm/名前/новый\n")
    library.run()
    assert library.ids() == ["llm/a/good", "llm/名前/новый\n"]
    assert library.kinds() == {
        "models/llm/\\xff\\xfe": reconcile.ODD_NAME,
        "models/llm/名前/новый\\n": reconcile.ODD_NAME,
        "models/linked": reconcile.LINKED,
    }
    outside.close()


def test_links_that_hide_models_are_told_until_they_are_gone(library: Library, tmp_path: Path) -> None:
    elsewhere, root = tmp_path / "elsewhere", library.root
    for folder in (elsewhere / "foo", root / "llm/a/good", root / "llm/loose/part"):
        folder.mkdir(parents=True)
        (folder / "x.gguf").write_bytes(b"x")
    links = {
        "all": elsewhere,
        "llm/a/foo": elsewhere / "foo",
        "llm/a/foo.gguf": elsewhere / "foo",
        "llm/a/gone": tmp_path / "gone",
        "llm/a/circle": root / "llm/a/circle",
        "llm/b/gone.gguf": tmp_path / "gone.gguf",
        # None of these hides anything.
        "llm/a/here": root / "llm/a/good",
        "llm/a/.hidden": elsewhere,
        "llm/a/readme": elsewhere / "foo/x.gguf",
        "llm/a/null": Path("/dev/null"),
        "llm/a/good/inside": elsewhere,
        "llm/a/good/broken": tmp_path / "gone",
        "llm/loose/part/more/inside": elsewhere,
        "llm/c/file/x.gguf": elsewhere / "foo/x.gguf",
    }
    for name, target in links.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)
    told = {
        "models/all": reconcile.LINKED,
        "models/llm/a/foo": reconcile.LINKED,
        "models/llm/a/foo.gguf": reconcile.LINKED,
        "models/llm/a/gone": reconcile.BROKEN,
        "models/llm/a/circle": reconcile.BROKEN,
        "models/llm/b/gone.gguf": reconcile.BROKEN,
    }
    for _ in range(2):
        library.run()
        assert library.ids() == ["llm/a/good", "llm/c/file", "llm/loose/part"]
        assert library.kinds() == told
    texts = {t.subject: t.message for t in library.troubles.list()}
    assert str(tmp_path) not in "".join(texts.values())
    assert "adopt_models" in texts["models/llm/a/foo"] and "drive" in texts["models/llm/a/gone"]
    # The drive of a link is connected, that of another is pulled: nothing changes in the library itself.
    (tmp_path / "gone").mkdir()
    (elsewhere / "foo").rename(elsewhere / "bar")
    (tmp_path / "gone.gguf").write_bytes(b"x")
    library.run()
    assert library.kinds() == {
        "models/all": reconcile.LINKED,
        "models/llm/a/foo": reconcile.BROKEN,
        "models/llm/a/foo.gguf": reconcile.BROKEN,
        "models/llm/a/gone": reconcile.LINKED,
        "models/llm/a/circle": reconcile.BROKEN,
        "models/llm/a/readme": reconcile.BROKEN,
        "models/llm/c/file/x.gguf": reconcile.BROKEN,
    }
    assert library.ids() == ["llm/a/good", "llm/b", "llm/loose/part"]
    for name in links:
        (root / name).unlink()
    library.run()
    assert library.kinds() == {}


def test_looking_at_links_costs_nothing_where_there_are_none(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    library.write("llm/a/good")
    library.weights("llm/a/good/x.gguf")
    (library.root / "llm/a/good/y.gguf").symlink_to("x.gguf")
    library.weights("llm/readme.md")
    monkeypatch.setattr(reading, "_followed", lambda *_: pytest.fail("there is no link to follow"))
    library.run()
    assert library.kinds() == {}


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", b"\0" * 9, None])
def test_damaged_overrides_are_told(library: Library, damage: bytes | None) -> None:
    for name in ("sound", "bad", "saved"):
        library.write(f"llm/a/{name}")
        overrides = library.root / f"llm/a/{name}/overrides.json"
        if name == "sound":
            overrides.write_text("{}")
        elif damage is None:
            overrides.mkdir()
        else:
            overrides.write_bytes(damage)
    (library.root / "llm/a/saved/overrides.json.bak").write_text("{}")
    library.run()
    assert library.ids() == ["llm/a/bad", "llm/a/saved", "llm/a/sound"]
    told = {t.subject.split("/")[3]: t for t in library.troubles.list()}
    assert {t.kind for t in told.values()} == {reconcile.DAMAGED_OVERRIDES} and told.keys() == {"bad", "saved"}
    assert "repair" in told["bad"].message and "backup is used" in told["saved"].message


def test_names_that_no_call_takes_are_told(library: Library) -> None:
    for path in ("llm/a/CON", "llm/b:c/good", "llm/a/good"):
        library.write(path)
    library.run()
    assert library.kinds() == dict.fromkeys(("models/llm/a/CON", "models/llm/b:c/good"), reconcile.ODD_NAME)
    (library.root / "llm/a/CON").rename(library.root / "llm/a/convoy")
    (library.root / "llm/b:c").rename(library.root / "llm/b-c")
    library.run()
    assert library.kinds() == {}
    assert library.ids() == ["llm/a/convoy", "llm/a/good", "llm/b-c/good"]


def test_files_outside_of_a_models_folder_are_told(library: Library) -> None:
    for path in ("loose.gguf", "checkpoints/a.safetensors", "llm/Mine/b.gguf"):
        library.weights(path)
    (library.root / "llm/readme.md").write_text("no model")
    library.run()
    assert library.ids() == ["llm/Mine"]
    assert library.kinds() == {"models": reconcile.LOOSE, "models/checkpoints": reconcile.LOOSE}
    (library.root / "loose.gguf").unlink()
    (library.root / "checkpoints/a.safetensors").unlink()
    library.run()
    assert library.kinds() == {}


def test_deep_and_wide_trees(library: Library) -> None:
    folder = library.root
    deep = "/".join(["d"] * 1000)
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(1000):
        os.mkdir("d", dir_fd=fd)
        fd, before = os.open("d", os.O_RDONLY, dir_fd=fd), fd
        os.close(before)
    os.close(fd)
    library.write("d/d/model")
    wide = library.write("llm/wide/model")
    for n in range(3000):
        (wide / f"{n}.txt").touch()
    summary = library.run()
    assert library.ids() == ["d/d/model", "llm/wide/model"]
    assert summary.seen < 600
    assert list(library.kinds().values()) == [reconcile.ODD_NAME]
    assert len(next(iter(library.kinds()))) < len(deep)
    # pytest's own clean-up is recursive and would give up at this depth.
    subprocess.run(["rm", "-rf", str(library.root / "d")], check=True)


def test_many_children(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and batches: none is lost where they meet."""
    monkeypatch.setattr(reconcile, "_CHUNK", 7)
    monkeypatch.setattr(reconcile, "_BATCH", 5)
    for n in range(60):
        library.write(f"llm/f/m{n:02}")
    library.run()
    for n in range(0, 60, 2):
        shutil.rmtree(library.root / f"llm/f/m{n:02}")
        library.write(f"llm/f/n{n:02}")
    summary = library.run()
    assert (summary.added, summary.removed) == (30, 30)
    assert library.ids() == sorted(
        [f"llm/f/m{n:02}" for n in range(1, 60, 2)] + [f"llm/f/n{n:02}" for n in range(0, 60, 2)]
    )
    library.check_search()


# -- refresh, remove -------------------------------------------------------------------------------------------------


def test_refresh_and_remove_single_models(library: Library) -> None:
    library.write("llm/a/one")
    library.run()
    library.write("llm/b/two/nested")
    library.write("llm/b/two")
    library.write("llm/b/three")
    library.reconciler.refresh(["llm/b/two", "llm/b/gone", "../x", "/etc", ".trash/x"])
    assert library.ids() == ["llm/a/one", "llm/b/two", "llm/b/two/nested"]
    library.reconciler.remove(["llm/b/two"])
    assert library.ids() == ["llm/a/one"]
    shutil.rmtree(library.root / "llm/a/one")
    library.reconciler.refresh(["llm/a/one"])
    assert library.ids() == []
    library.run()
    assert library.ids() == ["llm/b/three", "llm/b/two", "llm/b/two/nested"]
    library.check_search()


# -- a library that is not there -------------------------------------------------------------------------------------


def leave(root: Path) -> None:
    os.rename(root, root.with_name("away"))


def leave_mount_point(root: Path) -> None:
    leave(root)
    root.mkdir()


def leave_file(root: Path) -> None:
    leave(root)
    root.write_text("not a folder")


@pytest.mark.parametrize("go", [leave, leave_mount_point, leave_file])
def test_offline_is_not_deleted(tmp_path: Path, go: Callable[[Path], None]) -> None:
    library = Library(tmp_path, tmp_path / "index.db")
    library.write("llm/a/one")
    age(library)
    library.run()
    go(library.root)
    for act in (
        (library.run,) if go is leave_mount_point else (library.run, lambda: library.reconciler.refresh(["llm/a/one"]))
    ):
        with pytest.raises(LibraryOffline):
            act()
    assert library.ids() == ["llm/a/one"]
    if library.root.is_dir():
        library.root.rmdir()
    elif library.root.exists():
        library.root.unlink()
    os.rename(tmp_path / "away", library.root)
    summary = library.run()
    assert (summary.read, summary.added, summary.removed) == (0, 0, 0)
    library.close()


def test_a_drive_pulled_in_the_middle_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(tmp_path, tmp_path / "index.db")
    for n in range(5):
        library.write(f"llm/f{n}/m")
    library.run()
    real, calls = os.stat, 0

    def pulled(path: Any, **options: Any) -> os.stat_result:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise FileNotFoundError(2, "gone")
        return real(path, **options)

    monkeypatch.setattr(reconcile.os, "stat", pulled)
    with pytest.raises(LibraryOffline):
        library.run()
    monkeypatch.undo()
    assert len(library.ids()) == 5
    assert library.run().removed == 0
    library.close()


@pytest.mark.parametrize("call", ["scandir", "stat", "open"])
def test_what_cannot_be_read_now_stays(library: Library, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    library.write("llm/a/one")
    library.write("llm/b/two")
    library.run()
    real = getattr(os, call)
    library.write("llm/a/one", official_name="changed")

    def failing(path: Any, *arguments: Any, **options: Any) -> Any:
        if "llm/a/one" in os.fspath(path) if isinstance(path, str | Path) else False:
            raise OSError(5, "Input/output error")
        return real(path, *arguments, **options)

    monkeypatch.setattr(reconcile.os, call, failing)
    library.run()
    assert library.ids() == ["llm/a/one", "llm/b/two"]
    assert library.kinds() == {"models/llm/a/one": reconcile.UNREADABLE}
    monkeypatch.undo()
    library.run()
    assert library.kinds() == {}
    assert library.rows()["llm/a/one"][1] == "changed"


# -- killed ----------------------------------------------------------------------------------------------------------

KILLED = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    from pumas.library import reconcile, store
    from pumas.library.reconcile import Reconciler
    from pumas.storage.database import Database, Schema
    from pumas.storage.troubles import Troubles
    reconcile._BATCH, reconcile._CHUNK = 10, 10
    root, when = Path(sys.argv[1]), int(sys.argv[2])
    real, calls = store.apply, 0
    def apply(c, batch):
        global calls
        calls += 1
        changes = real(c, batch)
        if calls == when:
            os.kill(os.getpid(), signal.SIGKILL)
        return changes
    store.apply = apply
    database = Database(root / "models.db", Schema.load("models"), disposable=True)
    Reconciler(root, database, Troubles()).run()
    """
)


def test_killed_in_the_middle_and_finished_by_the_next_run(tmp_path: Path) -> None:
    library = Library(tmp_path)
    for n in range(60):
        library.write(f"llm/f{n % 3}/m{n:02}")
    age(library)
    everything = sorted(f"llm/f{n % 3}/m{n:02}" for n in range(60))
    seen: list[int] = []
    for when in (1, 3, 5):
        process = subprocess.run([sys.executable, "-c", KILLED, str(library.root), str(when)], check=False, env=_env())
        assert process.returncode == -signal.SIGKILL
        seen.append(len(library.ids()))
        library.check_search()
        library.close()
    # Each killed run kept what it had finished, and the next one went on from there.
    assert 0 <= seen[0] < seen[1] < seen[2] < 60
    library.run()
    assert library.ids() == everything
    assert library.run().read <= 1
    library.close()


def test_killed_and_then_emptied(tmp_path: Path) -> None:
    """Rows that a killed run left below folders that it did not finish are found again when those are gone."""
    library = Library(tmp_path)
    for n in range(60):
        library.write(f"llm/f{n % 3}/m{n:02}")
    process = subprocess.run([sys.executable, "-c", KILLED, str(library.root), "4"], check=False, env=_env())
    assert process.returncode == -signal.SIGKILL
    assert len(library.ids()) > 0
    shutil.rmtree(library.root / "llm")
    library.write("audio/a/b")
    library.run()
    assert library.ids() == ["audio/a/b"]
    library.close()


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(reconcile.__file__).parents[2])}


# -- any order of changes --------------------------------------------------------------------------------------------

PLACES = ["llm/a/m", "llm/a/n", "llm/b/m", "llm/b", "audio/a/m", "audio/a/m/inner", "llm/a/.hidden"]


class AnyOrder(RuleBasedStateMachine):
    """After each reconcile the index equals that of a fresh look at the same folder."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pumas-reconcile-"))
        self.library = Library(self.folder, self.folder / "index.db")
        self.clean = False

    @rule(place=st.sampled_from(PLACES), name=st.sampled_from(["x", "y"]))
    def add(self, place: str, name: str) -> None:
        self.library.write(place, official_name=name)
        self.clean = False

    @rule(
        place=st.sampled_from(PLACES),
        name=st.sampled_from(["a.gguf", "b.bin", "c.txt", "sub/d.gguf"]),
        size=st.integers(1, 3),
    )
    def put_file(self, place: str, name: str, size: int) -> None:
        self.library.weights(f"{place}/{name}", size)
        self.clean = False

    @rule(place=st.sampled_from(PLACES), text=st.sampled_from(["", "{", "[]", '{"tags": 1}']))
    def corrupt(self, place: str, text: str) -> None:
        self.library.write(place, text)
        self.clean = False

    @rule(place=st.sampled_from([*PLACES, "llm", "audio/a", "llm/a"]))
    def remove(self, place: str) -> None:
        shutil.rmtree(self.library.root / place, ignore_errors=True)
        self.clean = False

    @rule(place=st.sampled_from(PLACES))
    def drop_metadata(self, place: str) -> None:
        (self.library.root / place / "metadata.json").unlink(missing_ok=True)
        self.clean = False

    @rule(source=st.sampled_from(PLACES), place=st.sampled_from(PLACES))
    def rename(self, source: str, place: str) -> None:
        a, b = self.library.root / source, self.library.root / place
        if a.exists() and not b.exists() and not b.is_relative_to(a):
            b.parent.mkdir(parents=True, exist_ok=True)
            os.rename(a, b)
        self.clean = False

    @rule(place=st.sampled_from(PLACES))
    def refresh(self, place: str) -> None:
        self.library.reconciler.refresh([place])
        self.clean = False

    @rule()
    def grow_old(self) -> None:
        age(self.library)

    @precondition(lambda self: not self.clean)
    @rule()
    def reconcile(self) -> None:
        self.library.run()
        self.clean = True

    @invariant()
    def equals_a_fresh_look(self) -> None:
        if not getattr(self, "clean", False):
            return
        fresh = Library(self.folder, Path(tempfile.mkdtemp(dir=self.folder)) / "fresh.db")
        fresh.run()
        assert self.library.rows() == fresh.rows()
        assert self.library.kinds() == fresh.kinds()
        self.library.check_search()
        fresh.close()

    def teardown(self) -> None:
        if hasattr(self, "library"):
            self.library.close()
            shutil.rmtree(self.folder)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_what_a_killed_write_left_in_a_model_folder_goes(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    folder = layout.library / "llm" / "a" / "one"
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text('{"official_name": "one"}')
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead, ours = (f"metadata.json.{pid}.0a1b2c3d{TEMP_SUFFIX}" for pid in (int(gone.stdout), os.getpid()))
    for name in (dead, ours, "notes.tmp"):
        (folder / name).write_text("{")
    index = LibraryIndex(layout, EventStream(), Troubles())
    index.reconcile()
    index.close()
    assert sorted(os.listdir(folder)) == sorted(["metadata.json", ours, "notes.tmp"])


# -- files outside the library -----------------------------------------------------------------------------------------


def referenced(library: Library, store: Path, *names: str) -> Path:
    """A model whose files lie in another program's store; returns its folder."""
    outside = [
        {"name": n, "path": str(store / n), "size": 1, "mtime_ns": 1, "store": str(store), "mount": "/"} for n in names
    ]
    files = [{"name": n, "size": 1} for n in names]
    return library.write("llm/a/one", storage="reference", references=outside, files=files)


def state_of(library: Library, model_id: str = "llm/a/one") -> tuple[str, str]:
    sql = "SELECT state, storage FROM models WHERE id = ?"
    return library.database.read_sync(lambda c: c.execute(sql, (model_id,)).fetchone())


def test_an_owner_who_removes_a_file_and_a_drive_that_is_away(library: Library, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "x.gguf").write_bytes(b"x")
    referenced(library, store, "x.gguf")
    age(library)
    library.run()
    assert state_of(library) == ("ok", "reference")
    assert library.run().read <= 1, "from here on the model's own folder is not read again"
    steps: list[tuple[Callable[[], object], str]] = [
        (lambda: store.rename(tmp_path / "away"), "offline"),
        (lambda: (tmp_path / "away").rename(store), "ok"),
        (lambda: (store / "x.gguf").unlink(), "missing"),
        (lambda: (store / "x.gguf").write_bytes(b"x"), "ok"),
    ]
    for change, expected in steps:
        before = library.rows()
        library.told.clear()
        change()
        assert library.run().changed == 1
        assert state_of(library) == (expected, "reference")
        assert [changes.changed for changes in library.told] == [["llm/a/one"]]
        assert library.rows() == before, "nothing else of the row changed, and it was not removed"
        assert library.run().changed == 0
    library.check_search()


def test_a_reference_without_its_files_is_indexed_all_the_same(library: Library, tmp_path: Path) -> None:
    folder = referenced(library, tmp_path / "store", "x.gguf", "y.gguf")
    library.run()
    assert state_of(library) == ("offline", "reference")
    # More metadata than a row holds: then the file itself is asked.
    value = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps({**value, "notes": "x" * 100_000}))
    age(library)
    library.run()
    (tmp_path / "store").mkdir()
    library.run()
    assert state_of(library) == ("missing", "reference")


@pytest.mark.parametrize("value", [None, 5, "x", "copy", ["reference"], {"a": 1}])
def test_an_unknown_storage_is_owned(library: Library, value: object) -> None:
    library.write("llm/a/one", storage=value, references="x")
    library.run()
    assert state_of(library) == ("ok", "owned")


@pytest.mark.parametrize("value", [None, 5, "x", [], [5], [{"path": "/x"}]])
def test_odd_references_are_no_reason_to_fail(library: Library, value: object) -> None:
    library.write("llm/a/one", storage="reference", references=value)
    library.run()
    library.run()
    assert state_of(library) == ("ok", "reference")
