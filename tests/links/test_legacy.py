"""`links/legacy.py`: what older sidecars wrote is taken over without loss."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from .setup import Setup, write

OLD_SCHEMA = """
CREATE TABLE links (
    link_id INTEGER PRIMARY KEY AUTOINCREMENT, model_id TEXT NOT NULL, source_path TEXT NOT NULL,
    target_path TEXT NOT NULL UNIQUE, link_type TEXT NOT NULL, app_id TEXT NOT NULL, app_version TEXT NOT NULL,
    is_external INTEGER NOT NULL DEFAULT 0, created_at TEXT NOT NULL);
CREATE INDEX idx_links_model_id ON links (model_id);
CREATE INDEX idx_links_app ON links (app_id, app_version);
CREATE INDEX idx_links_is_external ON links (is_external);
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO settings VALUES ('theirs', 'kept');
"""
ID = "diffusion/sdxl/a"
TARGET = "comfyui-versions/v0.3.10/models/checkpoints/a.safetensors"
SOURCE = f"shared-resources/models/{ID}/a.safetensors"


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path / "root")


def old_registry(setup: Setup, *rows: tuple[str, str, str, str], schema: str = OLD_SCHEMA) -> None:
    """(model, source, target, type)"""
    c = sqlite3.connect(setup.store.database.path)
    c.execute("PRAGMA journal_mode=WAL")
    c.executescript(schema)
    for row in rows:
        c.execute(
            "INSERT INTO links (model_id, source_path, target_path, link_type, app_id, app_version, created_at) "
            "VALUES (?, ?, ?, ?, 'comfyui', '0.3.10', '2030-01-01T00:00:00.000001Z')",
            row,
        )
    c.commit()
    c.close()


def old_json(setup: Setup, by_target: Any) -> None:
    value = {"by_target": by_target, "by_model": {ID: ["x", "x"]}, "unknown": 1}
    write(setup.layout.link_registry_json, json.dumps(value).encode())


def entry(root: str, **changes: Any) -> dict[str, Any]:
    return {
        "model_id": ID,
        "source": f"{root}/{SOURCE}",
        "target": f"{root}/{TARGET}",
        "link_type": "symlink",
        "created_at": "2030-01-01T00:00:00+00:00",
        "app_id": "comfyui",
        "app_version": "0.3.10",
        **changes,
    }


def stored(setup: Setup) -> list[tuple[str, str, str]]:
    return [(row.source_path, row.target_path, row.link_type) for row in setup.store.all()]


def test_a_registry_with_absolute_paths_is_opened_and_made_relative(setup: Setup) -> None:
    root = setup.store.root
    old_registry(
        setup,
        (ID, f"{root}/{SOURCE}", f"{root}/{TARGET}", "symlink"),
        ("x/y/z", "/elsewhere/z.gguf", f"{root}/{TARGET}2", "copy"),
        ("o/o/o", "/other/o.gguf", "/other/app/o.gguf", "hardlink"),
    )
    assert stored(setup) == [
        ("/other/o.gguf", "/other/app/o.gguf", "hardlink"),
        (SOURCE, TARGET, "symlink"),
        ("/elsewhere/z.gguf", f"{TARGET}2", "copy"),
    ]
    assert setup.store.setting("theirs") == "kept"
    assert {row.state for row in setup.store.all()} == {"made"}
    assert not list(setup.store.put_aside())


def test_its_links_are_ours_and_stay_as_they_are(setup: Setup) -> None:
    setup.model(ID, "a.safetensors")
    target = Path(setup.store.root, TARGET)
    target.parent.mkdir(parents=True)
    target.symlink_to(Path(setup.store.root, SOURCE))  # absolute, as one of the older sidecars made them
    old_registry(setup, (ID, f"{setup.store.root}/{SOURCE}", f"{setup.store.root}/{TARGET}", "symlink"))
    before = setup.tree()
    done = setup.apply()
    assert (done.created, done.skipped, setup.tree()) == (0, 1, before)
    entry = setup.trash.delete(ID)
    assert entry.companions == 1 and setup.tree() == {}
    assert setup.trash.restore(entry.trash_id).companions == 1
    assert target.read_bytes() and not os.path.isabs(os.readlink(target))


def test_rows_that_an_older_sidecar_adds_later_replace_ours_of_the_same_place(setup: Setup) -> None:
    setup.model(ID, "a.safetensors")
    setup.apply()
    setup.close()
    c = sqlite3.connect(setup.store.database.path)
    c.execute(
        "INSERT INTO links (model_id, source_path, target_path, link_type, app_id, app_version, created_at) "
        "VALUES ('n/n/n', ?, ?, 'symlink', 'comfyui', '0.3.10', '2031-01-01T00:00:00Z')",
        (f"{setup.store.root}/n", f"{setup.store.root}/{TARGET}"),
    )
    c.commit()
    c.close()
    again = Setup(setup.layout.root)
    assert [(row.model_id, row.target_path) for row in again.store.all()] == [("n/n/n", TARGET)]


def test_a_root_that_was_moved(tmp_path: Path) -> None:
    old = Setup(tmp_path / "old")
    old.model(ID, "a.safetensors")
    link = Path(old.store.root, TARGET)
    link.parent.mkdir(parents=True)
    link.symlink_to(os.path.relpath(Path(old.store.root, SOURCE), link.parent))
    old_registry(old, (ID, f"{old.store.root}/{SOURCE}", f"{old.store.root}/{TARGET}", "symlink"))
    old.close()
    os.rename(tmp_path / "old", tmp_path / "new")
    setup = Setup(tmp_path / "new")
    assert stored(setup) == [(SOURCE, TARGET, "symlink")]
    assert (setup.apply().created, setup.work.health("comfyui", None).healthy) == (0, 1)


def test_the_json_registry_is_read_and_left_as_it_is(setup: Setup) -> None:
    root = setup.store.root
    old_json(
        setup,
        {
            f"{root}/{TARGET}": entry(root),
            f"{root}/{TARGET}2": entry(root, link_type="HardLink", app_version="v1", created_at=7),
            f"{root}/{TARGET}3": entry(root, link_type="?", app_id="ComfyUI"),
            "relative": entry(root),
            f"{root}/{TARGET}4": "no entry",
            f"{root}/{TARGET}5": entry(root, source=None),
        },
    )
    before = setup.layout.link_registry_json.read_bytes()
    rows = setup.store.all()
    assert [(row.target_path, row.link_type, row.app_id, row.app_version) for row in rows] == [
        (TARGET, "symlink", "comfyui", "0.3.10"),
        (f"{TARGET}2", "hardlink", "comfyui", "1"),
        (f"{TARGET}3", "symlink", "comfyui", "0.3.10"),
    ]
    assert rows[0].created_at == "2030-01-01T00:00:00.000000Z"
    assert setup.layout.link_registry_json.read_bytes() == before


def test_the_json_registry_is_read_again_when_it_changed(setup: Setup) -> None:
    root = setup.store.root
    old_json(setup, {f"{root}/{TARGET}": entry(root)})
    (row,) = setup.store.all()
    setup.store.forget([row.link_id])
    again = Setup(setup.layout.root)
    assert again.store.all() == [], "what was removed since does not come back from an unchanged file"
    old_json(setup, {f"{root}/{TARGET}": entry(root), f"{root}/{TARGET}2": entry(root)})
    third = Setup(setup.layout.root)
    assert len(third.store.all()) == 2


def test_our_own_row_is_not_replaced_by_the_json_registry(setup: Setup) -> None:
    setup.model(ID, "a.safetensors")
    setup.apply()
    root = setup.store.root
    old_json(setup, {f"{root}/{TARGET}": entry(root, model_id="other/x/y")})
    assert [row.model_id for row in Setup(setup.layout.root).store.all()] == [ID]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"by_target": 3}', b"{}", b"\xff\xfe", b"null"])
def test_an_unreadable_json_registry_is_said_and_stays(setup: Setup, data: bytes) -> None:
    write(setup.layout.link_registry_json, data)
    setup.model(ID, "a.safetensors")
    assert setup.apply().created == 1
    assert setup.layout.link_registry_json.read_bytes() == data
    assert [t.kind for t in setup.troubles.list() if t.subject == "link_registry.json"] == ["damaged_registry"]


@pytest.mark.parametrize(
    "schema", ["CREATE TABLE notes (text TEXT);", "CREATE TABLE links (a TEXT);", "CREATE VIEW links AS SELECT 1;"]
)
def test_a_database_of_somebody_else_is_put_aside(setup: Setup, schema: str) -> None:
    old_registry(setup, schema=schema)
    assert setup.store.all() == []
    assert len(list(setup.store.put_aside())) == 1


def spoiled(data: bytes, how: str) -> bytes:
    half = len(data) // 2
    ways = {
        "empty": b"",
        "cut": data[:half],
        "zeroed": b"\0" * len(data),
        "header": b"x" * 100 + data[100:],
        "page": data[:4096] + b"\xff" * 4096 + data[8192:],
        "text": b"not a database",
    }
    return ways[how]


@pytest.mark.parametrize("how", ["empty", "cut", "zeroed", "header", "page", "text"])
@pytest.mark.parametrize("json_too", [False, True])
def test_a_damaged_registry_loses_no_link_and_touches_none_of_others(setup: Setup, how: str, json_too: bool) -> None:
    """Of an older sidecar, with absolute links: what leads where ours would is ours again, all else is left alone."""
    root = setup.store.root
    for name in "ab":
        setup.model(f"diffusion/sdxl/{name}", f"{name}.safetensors")
    place = setup.models / "checkpoints"
    place.mkdir(parents=True)
    (place / "a.safetensors").symlink_to(f"{root}/{SOURCE}")
    (place / "mine").symlink_to(f"{root}/{SOURCE}")
    (place / "elsewhere").symlink_to("/elsewhere")
    (place / "gone").symlink_to(f"{setup.library}/diffusion/sdxl/gone/x.safetensors")
    write(place / "b.safetensors", b"theirs")
    # Enough rows for several pages.
    old_registry(
        setup,
        (ID, f"{root}/{SOURCE}", f"{root}/{TARGET}", "symlink"),
        *(
            (f"x/y/{n}", f"{root}/x/{n}", f"{root}/comfyui-versions/v0/models/{n}" + "x" * 100, "symlink")
            for n in range(400)
        ),
    )
    path = setup.store.database.path
    path.write_bytes(spoiled(path.read_bytes(), how))
    if json_too:
        write(setup.layout.link_registry_json, b'{"by_target": ')
    before = setup.tree()
    done = setup.apply()
    assert (done.created, done.conflicts, setup.tree()) == (0, 1, before)
    assert setup.links() == {"checkpoints/a.safetensors": ID}
    kept = list(setup.store.put_aside())
    assert kept or how == "page", "what was damaged stays beside the new one, or could be read in part"
    subjects = {trouble.subject for trouble in setup.troubles.list()}
    assert ("link_registry.json" in subjects) is json_too
    setup.work.clean_broken()
    setup.work.remove_orphans("comfyui", "v0.3.10", [])
    assert setup.tree() == before
    entry = setup.trash.delete(ID)
    assert (entry.companions, setup.tree().keys()) == (1, before.keys() - {"checkpoints/a.safetensors"})
    assert setup.trash.restore(entry.trash_id).companions == 1
    assert (place / "a.safetensors").exists()
