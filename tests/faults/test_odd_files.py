"""What a start finds in the place of its own small files: it says so or puts it aside, and nothing of it is lost."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sidecar as running
from library.model_disk import gguf
from sidecar import Sidecar

Launch = Callable[..., Sidecar]
TEXT = b"\xff\x00 words of somebody else"
FILES = ["rpc.json", "owner.lock", "state.lock", "logs/launcher.log"]
# As root nothing is unreadable, unless that power is given up: https://man7.org/linux/man-pages/man7/capabilities.7.html
POWERS = "-dac_override,-dac_read_search"
LIKE_OTHERS = ["setpriv", f"--bounding-set={POWERS}", f"--inh-caps={POWERS}"] if os.geteuid() == 0 else []


def put(path: Path, kind: str, elsewhere: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "folder":
            path.mkdir()
            (path / "inside").write_bytes(TEXT)
        case "link":
            elsewhere.write_bytes(TEXT)
            path.symlink_to(elsewhere)
        case "link to nothing":
            path.symlink_to(elsewhere)
        case "loop":
            path.symlink_to(path.name)
        case "fifo":
            os.mkfifo(path)
        case "unreadable":
            path.write_bytes(TEXT)
            path.chmod(0)
        case "read-only":
            path.write_bytes(TEXT)
            path.chmod(0o444)
        case _:
            path.write_bytes({"garbage": TEXT, "empty": b"", "list": b"[]", "cut": b'{"pid": 1, "po'}[kind])


def texts(folder: Path) -> list[bytes]:
    found = [path for path in folder.rglob("*") if stat.S_ISREG(path.lstat().st_mode)]
    return [path.read_bytes() for path in found]


KINDS = ["folder", "link", "link to nothing", "loop", "fifo", "garbage", "empty", "list", "cut"]


@pytest.mark.parametrize("kind", KINDS)
def test_put_aside_or_taken_over(launch: Launch, tmp_path: Path, kind: str) -> None:
    """All of them at once: it starts, serves, is found, and owns its root alone."""
    root = tmp_path / "root"
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in FILES:
        put(root / "launcher-data" / name, kind, outside / Path(name).name)
    sidecar = launch(root=root)
    facts = json.loads((root / "launcher-data/rpc.json").read_text())
    assert (facts["pid"], facts["port"]) == (sidecar.pid, sidecar.port)
    assert stat.S_IMODE((root / "launcher-data/rpc.json").lstat().st_mode) == 0o600
    second = running.run_to_end(root)
    assert (second.returncode, second.stdout) == (3, "")
    sidecar.result("get_library_status")
    sidecar.result("shutdown")
    assert sidecar.wait() == 0
    assert "Traceback" not in sidecar.stderr()
    kept = texts(tmp_path)
    if kind in ("folder", "link", "garbage"):
        assert sum(TEXT in text for text in kept) == len(FILES)
    assert {path.name for path in outside.iterdir()} == (
        {Path(name).name for name in FILES} if kind == "link" else set()
    )
    assert all(path.read_bytes() == TEXT for path in outside.iterdir())


@pytest.mark.parametrize("kind", ["unreadable", "read-only"])
@pytest.mark.parametrize("name", FILES)
def test_what_may_not_be_opened(tmp_path: Path, name: str, kind: str) -> None:
    assert not LIKE_OTHERS or shutil.which("setpriv"), "util-linux has it"
    root = tmp_path / "root"
    path = root / "launcher-data" / name
    put(path, kind, tmp_path / "outside")
    if name == "owner.lock":
        check_refused(root)
    else:
        sidecar = running.start(root, prefix=LIKE_OTHERS)
        try:
            sidecar.result("get_library_status")
            assert json.loads((root / "launcher-data/rpc.json").read_text())["pid"] == sidecar.pid
        finally:
            sidecar.close()
        assert "Traceback" not in sidecar.stderr()
        assert name != "logs/launcher.log" or not path.exists(), "it stands in the way no longer"
    for place in (root / "launcher-data").rglob("*"):
        place.chmod(0o700)
    assert sum(TEXT in text for text in texts(root)) == 1


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder of somebody else: who is not root may not look into it."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "x.gguf").write_bytes(gguf())
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


def test_folders_that_this_user_may_not_enter(launch: Launch, tmp_path: Path, locked: Path) -> None:
    """Each is told by name; nothing else suffers, least of all the search for models of other programs."""
    home = tmp_path / "home"
    (home / "ComfyUI").mkdir(parents=True)
    (home / "ComfyUI").chmod(0)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.gguf").write_bytes(gguf(2))
    root = tmp_path / "root"
    private = root / "shared-resources/models/llm/theirs"
    for name in ("theirs/x", "mine/y"):
        folder = private.parent / name
        folder.mkdir(parents=True)
        (folder / "metadata.json").write_text('{"official_name": "M", "family": "f", "model_type": "llm"}')
    private.chmod(0)
    sidecar = launch(root=root, prefix=LIKE_OTHERS, env={"HOME": str(home)})
    try:
        assert list(sidecar.result("get_models")["models"]) == ["llm/mine/y"]
        theirs = {"model_id": "llm/theirs/x"}
        for method in ("get_model", "update_model", "mark_metadata_as_manual", "delete_model_with_cascade"):
            assert sidecar.result(method, theirs)["error_code"] == "model_not_found", method
        for path, word in ((locked, "theirs"), (locked / "x.gguf", "x.gguf"), (private / "x", "x")):
            answer = sidecar.result("import_model", {"local_path": str(path), "family": "f", "official_name": "n"})
            assert (answer["error_code"], answer["error"]) == ("file_unavailable", f"{word}: permission denied")
        assert sidecar.result("open_path", {"path": str(private / "x")})["error_code"] == "file_unavailable"

        scan = sidecar.result("scan_model_stores", {"folders": [str(tmp_path / "models"), str(locked)]})
        assert scan["success"], scan
        stores = {Path(store["path"]).name: store for store in scan["stores"]}
        assert [model["title"] for model in stores["models"]["models"]] == ["mine"]
        assert [problem["kind"] for problem in stores["theirs"]["problems"]] == ["unreadable"]
        within = sidecar.result("scan_model_stores", {"folders": [str(locked / "x.gguf")]})
        assert within["error"] == "folders: x.gguf is no folder that can be looked into"
        assert "by a bug" not in sidecar.log()
    finally:
        private.chmod(0o700)
        (home / "ComfyUI").chmod(0o700)


def test_a_name_that_no_disk_takes(shared: Sidecar) -> None:
    assert shared.result("open_path", {"path": "n" * 300})["error_code"] == "file_unavailable"


@pytest.mark.parametrize(
    ("method", "field"), [("get_file_link_count", "file_path"), ("set_network_settings", "ca_bundle")]
)
def test_a_name_with_a_line_break_is_told_in_one_line(shared: Sidecar, method: str, field: str) -> None:
    assert shared.result(method, {field: "/nowhere/a\nb"})["error"] == "a\\nb: No such file or directory"


def test_names_that_differ_in_case_alone_are_not_given(launch: Launch, tmp_path: Path) -> None:
    """Copied to a system that knows no case, two models would become one."""
    library = tmp_path / "root" / "shared-resources" / "models"
    (library / "llm/f/M\u00e4RZ").mkdir(parents=True)
    (library / "llm/f/other").mkdir()
    sidecar = launch()
    given: list[str] = []
    for seed, name in enumerate(("Tiny", "TINY", "tiny", "M\u00e4rz", "OTHER", "Tiny-3")):
        path = tmp_path / f"{seed}.gguf"
        path.write_bytes(gguf(seed))
        answer = sidecar.result("import_model", {"local_path": str(path), "family": "f", "official_name": name})
        given.append(answer["model_id"].removeprefix("llm/f/"))
    assert given == ["Tiny", "TINY-2", "tiny-3", "M\u00e4rz-2", "OTHER-2", "Tiny-3-2"]


def test_a_folder_that_is_a_link_is_told_until_it_is_gone(launch: Launch, tmp_path: Path) -> None:
    """Nothing of what it leads to is listed; adopted and without the link, all is well."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    library = root / "shared-resources" / "models"
    for folder in (library / "llm/llama/real", elsewhere):
        folder.mkdir(parents=True)
        (folder / f"{folder.name}.gguf").write_bytes(gguf(len(str(folder)), 5000))
    for name, target in (("foo", elsewhere), ("gone", tmp_path / "gone"), ("again", library / "llm/llama/real")):
        (library / "llm/llama" / name).symlink_to(target)
    sidecar = launch(root=root)

    def told() -> dict[str, str]:
        sidecar.result("refresh_model_index")
        status = sidecar.result("get_library_status")
        assert all(str(tmp_path) not in trouble["message"] for trouble in status["troubles"])
        return {trouble["subject"]: trouble["kind"] for trouble in status["troubles"]}

    place = "shared-resources/models/llm/llama"
    assert told() == {f"{place}/foo": "linked_folder", f"{place}/gone": "broken_link"}
    assert list(sidecar.result("get_models")["models"]) == ["llm/llama/real"]
    folders = {"folders": [str(elsewhere)], "known": False}
    (store,) = sidecar.result("scan_model_stores", folders)["stores"]
    (found,) = store["models"]
    items = [{"stored_id": found["stored_id"]}]
    adopted = sidecar.result("adopt_models", {"items": items, "folders": [str(elsewhere)]})
    assert adopted["adopted"] == 1, adopted
    assert f"{place}/foo" in told()
    (library / "llm/llama/foo").unlink()
    (tmp_path / "gone").mkdir()
    assert told() == {f"{place}/gone": "linked_folder"}
    (library / "llm/llama/gone").unlink()
    assert told() == {}
    assert len(sidecar.result("get_models")["models"]) == 2


def check_refused(root: Path) -> None:
    """Another user's sidecar may hold it: one sentence, no port, nothing changed."""
    done = subprocess.run(
        [*LIKE_OTHERS, *running.command(root)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=running.environment(running.TOKEN),
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "owner.lock" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["launcher-data", "launcher-data/logs", "launcher-data/cache", "shared-resources"])
def test_files_in_the_place_of_folders(tmp_path: Path, name: str) -> None:
    """Without the first there is nothing to own; without the others it starts and says what it lacks."""
    root = tmp_path / "root"
    (root / name).parent.mkdir(parents=True)
    (root / name).write_bytes(TEXT)
    if name == "launcher-data":
        done = running.run_to_end(root)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Traceback" not in done.stderr
        assert "launcher-data" in done.stderr
    else:
        sidecar = running.start(root)
        sidecar.result("get_library_status")
        sidecar.close()
        assert "Traceback" not in sidecar.stderr()
    assert (root / name).read_bytes() == TEXT
