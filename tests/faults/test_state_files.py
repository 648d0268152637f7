"""State that cannot be read: the sidecar starts, serves the rest, says what is wrong, and destroys nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar import Sidecar, eventually

Launch = Callable[..., Sidecar]
GOOD = b'{"official_name": "Good", "family": "a", "model_type": "llm", "x_unknown": {"kept": [1, 2]}}'
DAMAGE: dict[str, bytes | None] = {
    "empty": b"",
    "cut": GOOD[:-20],
    "zeros": bytes(100),
    "random": hashlib.sha512(b"seed").digest(),
    "text": b"hello",
    "list": b"[]",
    "null": b"null",
    "number": b"123",
    "deep": b'{"notes": %s%s}' % (b"[" * 500, b"]" * 500),
    "wrong-types": b'{"official_name": 7, "family": [], "tags": {"a": 1}, "hashes": "x", "files": 3}',
    "folder": None,
    "fifo": None,
}


def put(path: Path, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = DAMAGE[kind]
    if content is not None:
        path.write_bytes(content)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)


def library(root: Path) -> Path:
    return root / "shared-resources" / "models"


def model(root: Path, name: str, metadata: bytes | None = GOOD) -> Path:
    folder = library(root) / "llm" / "a" / name
    folder.mkdir(parents=True)
    if metadata is not None:
        (folder / "metadata.json").write_bytes(metadata)
    (folder / "model.gguf").write_bytes(b"GGUF" + name.encode())
    return folder


def walk(root: Path) -> dict[str, str]:
    """Every regular file below the root, dot folders included, by digest; state that the sidecar keeps aside."""
    ours = ("launcher-data/", "shared-resources/models/models.db")
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not path.is_symlink() and not name.startswith(ours):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def models(sidecar: Sidecar) -> set[str]:
    return set(sidecar.result("get_models")["models"])


def test_damaged_metadata_is_listed_and_never_written_over(launch: Launch, tmp_path: Path) -> None:
    root = tmp_path / "root"
    model(root, "good")
    for kind in DAMAGE:
        put(model(root, f"bad-{kind}", None) / "metadata.json", kind)
        saved = model(root, f"saved-{kind}", None)
        put(saved / "metadata.json", kind)
        (saved / "metadata.json.bak").write_bytes(GOOD)
        put(model(root, f"over-{kind}") / "overrides.json", kind)
    before = walk(root)
    sidecar = launch(root=root)
    assert "llm/a/good" in models(sidecar)
    assert {f"llm/a/saved-{kind}" for kind in DAMAGE if kind != "wrong-types"} <= models(sidecar)
    troubles = {trouble["subject"] for trouble in sidecar.result("get_library_status")["troubles"]}
    missing = [kind for kind in DAMAGE if not any(f"bad-{kind}/" in subject for subject in troubles)]
    # A folder under the file's name is no file: that model counts as one without metadata.
    assert missing in ([], ["folder"])
    silent = [kind for kind in DAMAGE if not any(f"over-{kind}/overrides.json" in subject for subject in troubles)]
    assert silent in ([], ["wrong-types"])
    for kind in DAMAGE:
        if kind not in ("wrong-types", "folder"):
            assert not sidecar.result("mark_metadata_as_manual", {"model_id": f"llm/a/bad-{kind}"})["success"]
        if kind not in ("wrong-types",):
            change = {"rel_path": f"llm/a/over-{kind}", "overrides": {}}
            assert sidecar.result("update_model_overrides", change)["error_code"] == "corrupt_state"
    sidecar.result("refresh_model_index")
    assert walk(root) == before
    assert sidecar.healthy()


@pytest.mark.parametrize("kind", [k for k in DAMAGE if k not in ("list", "null", "number", "deep", "wrong-types")])
def test_damaged_databases_are_put_aside_and_made_anew(launch: Launch, tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    model(root, "one")
    model(root, "two")
    for path in (library(root) / "models.db", root / "launcher-data" / "jobs.db"):
        put(path, kind)
    before = walk(root)
    sidecar = launch(root=root)
    assert models(sidecar) == {"llm/a/one", "llm/a/two"}
    assert sidecar.result("list_jobs")["jobs"] == []
    job = sidecar.result("verify_library")["job_id"]
    eventually(
        lambda: sidecar.result("get_job", {"job_id": job})["job"]["state"] == "completed", what="the verification"
    )
    kinds = {trouble["subject"].rpartition("/")[2] for trouble in sidecar.result("get_library_status")["troubles"]}
    assert {"models.db", "jobs.db"} <= kinds
    assert list((root / "launcher-data").glob("jobs.db.*-*"))
    # Verifying fills in missing digests: only the metadata files may differ.
    assert {n: d for n, d in walk(root).items() if "metadata" not in n} == {
        n: d for n, d in before.items() if "metadata" not in n
    }


def revision_of(index: Path) -> int:
    with contextlib.closing(sqlite3.connect(index)) as conn:
        revision: int = conn.execute("SELECT revision FROM library_state").fetchone()[0]
    return revision


def test_a_large_index_is_not_read_anew_when_it_is_damaged(launch: Launch, tmp_path: Path) -> None:
    """Its copy takes its place and is brought up to date: nothing that has not changed is read."""
    root = tmp_path / "root"
    filling = "x" * 6000
    for number in range(600):
        metadata = {"official_name": f"Model {number}", "model_type": "llm", "family": "a", "notes": filling}
        model(root, f"m{number:03}", json.dumps(metadata).encode())
    index = library(root) / "models.db"
    copy = library(root) / "models.db.bak"
    sidecar = launch(root=root)
    assert len(models(sidecar)) == 600
    eventually(copy.is_file, what="the copy of the index")
    sidecar.result("shutdown")
    sidecar.wait()
    revision = revision_of(index)
    # What happens while no sidecar runs is in no copy.
    shutil.rmtree(library(root) / "llm/a/m000")
    model(root, "new")
    (library(root) / "llm/a/m001/metadata.json").write_bytes(GOOD)
    before, inode = walk(root), copy.stat().st_ino
    damaged = hashlib.sha512(b"seed").digest() * 1000
    index.write_bytes(damaged)

    sidecar = launch(root=root)
    expected = {f"llm/a/m{number:03}" for number in range(1, 600)} | {"llm/a/new"}
    assert models(sidecar) == expected
    assert sidecar.result("get_models")["models"]["llm/a/m001"]["officialName"] == "Good"
    assert index.stat().st_ino == inode, "the copy is the index now"
    assert revision_of(index) > revision + 1000, "nothing that was remembered of the old index fits this one"
    troubles = sidecar.result("get_library_status")["troubles"]
    [trouble] = [trouble for trouble in troubles if trouble["kind"] == "index_rebuilt"]
    assert trouble["subject"].endswith("models/models.db")
    [aside] = library(root).glob("models.db.damaged-*")
    assert aside.read_bytes() == damaged
    assert walk(root) == before
    eventually(copy.is_file, what="the next copy")


@pytest.mark.parametrize("name", ["models.db", "jobs.db"])
def test_databases_of_a_newer_version_are_left_untouched(launch: Launch, tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    model(root, "one")
    path = (library(root) if name == "models.db" else root / "launcher-data") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    conn = sqlite3.connect(path)
    conn.executescript("CREATE TABLE future (x); INSERT INTO future VALUES (1); PRAGMA user_version = 999;")
    conn.close()
    before = path.read_bytes()
    sidecar = launch(root=root)
    assert models(sidecar) == {"llm/a/one"}
    assert any(name in t["subject"] for t in sidecar.result("get_library_status")["troubles"])
    assert path.read_bytes() == before


def test_what_older_sidecars_left_opens_as_it_is(launch: Launch, tmp_path: Path) -> None:
    root = tmp_path / "root"
    older = {
        "model_id": "llm/a/nulls",
        "official_name": "Nulls",
        "tags": None,
        "base_model": ["org/base"],
        "added_date": "2030-02-03T04:05:06+00:00",
        "preview_image": None,
        "hashes": None,
        "files": [{"name": "model.gguf", "size": 9, "sha256": None}],
        "x_unknown": {"kept": True, "serial": [0, 123456789012345678901234567890, -(2**63) - 1]},
    }
    folder = model(root, "nulls", json.dumps(older).encode())
    for leftover in (".downloads/0123abcd/model.gguf", "llm/a/.tmp_import_x/model.gguf", ".tmp_import_y/model.gguf"):
        path = library(root) / leftover
        path.parent.mkdir(parents=True)
        path.write_bytes(b"GGUF only copy")
    (library(root) / "link_registry.json").write_text("{}")
    conn = sqlite3.connect(library(root) / "models.db")
    conn.executescript("CREATE TABLE models (id TEXT PRIMARY KEY, path TEXT NOT NULL);")
    conn.close()
    before = walk(root)
    sidecar = launch(root=root)
    listed = sidecar.result("get_models")["models"]
    assert set(listed) == {"llm/a/nulls"}
    assert listed["llm/a/nulls"]["officialName"] == "Nulls"
    leftovers = [t["subject"] for t in sidecar.result("get_library_status")["troubles"] if "kind" in t]
    assert sum(".tmp_import_" in s or ".downloads" in s for s in leftovers) == 3
    assert walk(root) == before
    assert sidecar.result("mark_metadata_as_manual", {"model_id": "llm/a/nulls"})["success"]
    kept = json.loads((folder / "metadata.json").read_bytes())
    assert kept.pop("match_source") == "manual"
    assert {key: kept[key] for key in older} == older


def test_odd_trees_do_no_harm(launch: Launch, tmp_path: Path) -> None:
    root = tmp_path / "root"
    folder = model(root, "one")
    (folder / "loop").symlink_to(library(root))
    (library(root) / "llm" / "self").symlink_to(".")
    deep = library(root) / "deep"
    for _ in range(200):
        deep = deep / "d"
    os.makedirs(deep)
    os.makedirs(os.fsencode(library(root)) + b"/llm/a/\xff\xfe")
    Path(library(root) / "llm" / "a" / ("x" * 255)).mkdir()
    sidecar = launch(root=root)
    assert models(sidecar) == {"llm/a/one"}
    assert sidecar.healthy()


def test_a_folder_of_versions_that_cannot_be_listed_is_not_an_empty_one(launch: Launch, tmp_path: Path) -> None:
    root = tmp_path / "root"
    listing = root / "launcher-data" / "metadata" / "versions-ollama.json"
    put(listing, "list")
    folder = root / "ollama-versions"
    folder.symlink_to(folder.name)  # around in a circle: no rights are needed for the disk to refuse
    sidecar = launch(root=root)
    for method, params in (
        ("get_installed_versions", {}),
        ("get_active_version", {}),
        ("get_default_version", {}),
        ("get_version_status", {}),
        ("switch_version", {"tag": "v1"}),
        ("set_default_version", {"tag": "v1"}),
        ("remove_version", {"tag": "v1"}),
        ("rollback_version", {}),
        ("validate_installations", {}),
        ("validate_installations", {"rebuild": True}),
    ):
        answer = sidecar.rpc(method, {"app_id": "ollama", **params})
        said = answer.get("result") or answer["error"]["data"] | answer["error"]
        assert said.get("error_code") == "disk_error", (method, answer)
    assert listing.read_bytes() == DAMAGE["list"], "nothing was listed anew"
    folder.unlink()
    version = folder / "v1"
    version.mkdir(parents=True)
    (version / "ollama").touch(0o755)
    assert sidecar.result("get_installed_versions", {"app_id": "ollama"})["versions"] == ["v1"]


def test_a_damaged_list_of_versions_is_told_once_and_no_longer_when_it_is_made_anew(
    launch: Launch, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    version = root / "ollama-versions" / "v1"
    version.mkdir(parents=True)
    (version / "ollama").touch(0o755)
    listing = root / "launcher-data" / "metadata" / "versions-ollama.json"
    put(listing, "list")
    sidecar = launch(root=root)

    def subjects() -> list[str]:
        return [trouble["subject"] for trouble in sidecar.result("get_library_status")["troubles"]]

    assert sidecar.result("get_installed_versions", {"app_id": "ollama"})["versions"] == ["v1"]
    assert subjects() == [listing.relative_to(root).as_posix()]
    assert sidecar.result("validate_installations", {"app_id": "ollama", "rebuild": True})["success"]
    assert subjects() == []
