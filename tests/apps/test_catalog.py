"""Three apps are shipped; a further one is a further file."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from pumas.apps.catalog import Apps
from pumas.config import Layout
from pumas.errors import UnknownApp
from pumas.storage.troubles import Troubles

from .test_description import MINIMAL


def own(root: Path, name: str, data: bytes) -> None:
    folder = Layout(root).apps
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def test_files_that_come_and_change_are_seen_when_asked_for(tmp_path: Path) -> None:
    apps = Apps(Layout(tmp_path))
    with pytest.raises(UnknownApp):
        apps.get("tiny")
    own(tmp_path, "tiny.json", orjson.dumps(MINIMAL))
    tiny = apps.get("tiny")
    assert apps.refreshed()["tiny"] is tiny and apps.holds(tiny)
    own(tmp_path, "tiny.json", orjson.dumps(MINIMAL | {"name": "Other"}))
    assert apps.all()["tiny"].name == "Tiny"
    assert apps.refreshed()["tiny"].name == "Other"
    assert not apps.holds(tiny) and apps.holds(apps.get("comfyui"))


@pytest.mark.parametrize("change", ["gone", "damaged"])
def test_an_app_whose_description_goes_stays_as_it_was(tmp_path: Path, change: str) -> None:
    own(tmp_path, "tiny.json", orjson.dumps(MINIMAL))
    troubles = Troubles()
    apps = Apps(Layout(tmp_path), troubles)
    tiny = apps.get("tiny")
    own(tmp_path, "tiny.json", b"{")
    if change == "gone":
        (Layout(tmp_path).apps / "tiny.json").unlink()
    assert apps.refreshed()["tiny"] is tiny
    assert troubles.count == (change == "damaged")
    own(tmp_path, "tiny.json", orjson.dumps(MINIMAL | {"id": "renamed"}))
    assert list(apps.refreshed()) == ["comfyui", "llamacpp", "ollama", "renamed"]
    assert troubles.count == 0


def test_shipped_apps_are_there_without_any_file_of_the_users(tmp_path: Path) -> None:
    assert list(Apps(Layout(tmp_path)).all()) == ["comfyui", "llamacpp", "ollama"]


def test_a_file_is_an_app(tmp_path: Path) -> None:
    own(tmp_path, "tiny.json", orjson.dumps(MINIMAL))
    apps = Apps(Layout(tmp_path))
    assert apps.get("tiny").folder == "tiny-versions"
    assert apps.get(" Tiny ").name == "Tiny"


@pytest.mark.parametrize("data", [b"{", orjson.dumps(MINIMAL | {"id": "comfyui"}), orjson.dumps({})])
def test_a_file_that_cannot_be_used_is_told_and_hides_nothing(tmp_path: Path, data: bytes) -> None:
    own(tmp_path, "bad.json", data)
    own(tmp_path, "tiny.json", orjson.dumps(MINIMAL))
    troubles = Troubles()
    apps = Apps(Layout(tmp_path), troubles)
    assert list(apps.all()) == ["comfyui", "llamacpp", "ollama", "tiny"]
    assert [(trouble.subject, trouble.kind) for trouble in troubles.list()] == [
        ("launcher-data/apps/bad.json", "damaged_app")
    ]
    assert apps.get("comfyui").folder == "comfyui-versions"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "Invalid JSON"),
        (orjson.dumps(MINIMAL | {"launch": {"command": ["{shell}"], "port": 1}}), "launch: unknown placeholder"),
        (orjson.dumps(MINIMAL | {"id": "Bad"}), ": id must be made of a-z"),
    ],
)
def test_who_asks_for_an_app_whose_file_cannot_be_used_is_told_why(tmp_path: Path, data: bytes, says: str) -> None:
    own(tmp_path, "Bad.json", data)
    troubles = Troubles()
    with pytest.raises(UnknownApp, match="There is no app 'bad'; its description is not used: ") as raised:
        Apps(Layout(tmp_path), troubles).get("bad")
    told = [str(raised.value), *(trouble.message for trouble in troubles.list())]
    assert len(told) == 2
    assert all(says in text and "Value error" not in text and "backup" not in text for text in told)


def test_a_folder_that_cannot_be_read_is_told_and_hides_no_shipped_app(tmp_path: Path) -> None:
    folder = Layout(tmp_path).apps
    folder.parent.mkdir(parents=True)
    folder.symlink_to("gone")
    troubles = Troubles()
    assert list(Apps(Layout(tmp_path), troubles).all()) == ["comfyui", "llamacpp", "ollama"]
    assert [(trouble.subject, trouble.kind) for trouble in troubles.list()] == [("launcher-data/apps", "disk_error")]


def test_no_two_apps_share_a_folder(tmp_path: Path) -> None:
    own(tmp_path, "tiny.json", orjson.dumps(MINIMAL | {"folder": "ollama-versions"}))
    troubles = Troubles()
    assert "tiny" not in Apps(Layout(tmp_path), troubles).all()
    assert troubles.count == 1


@pytest.mark.parametrize("name", ["", "nothing", "../comfyui", "x" * 5000])
def test_an_unknown_app_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnknownApp):
        Apps(Layout(tmp_path)).get(name)
