"""What is installed, active and preferred, over older forms of the list and over damaged ones."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from apps.test_description import shipped
from pumas.config import Layout
from pumas.errors import CorruptState, DiskError, NoActiveVersion, VersionNotFound
from pumas.storage.json_file import StateLock
from pumas.storage.troubles import Troubles
from pumas.versions import places as places_module
from pumas.versions import state as state_module
from pumas.versions.places import Places
from pumas.versions.state import VersionState


def entry(tag: str) -> dict[str, Any]:
    return {"path": f"ollama-versions/{tag}", "installedDate": "2030-01-01T00:00:00Z", "releaseTag": tag}


def listed(*tags: str, **more: Any) -> dict[str, Any]:
    return {"installed": {tag: entry(tag) for tag in tags}, "lastSelectedVersion": None, "defaultVersion": None, **more}


class Place:
    def __init__(self, root: Path, *tags: str) -> None:
        self.root, self.layout, self.troubles = root, Layout(root), Troubles()
        self.list = self.layout.data / "metadata" / "versions-ollama.json"
        self.list.parent.mkdir(parents=True)
        for tag in tags:
            self.whole(tag)

    def whole(self, tag: str) -> Path:
        program = self.root / "ollama-versions" / tag / "ollama"
        program.parent.mkdir(parents=True)
        program.touch()
        return program

    def write(self, value: Any, *, backup: bool = False) -> None:
        path = self.list.with_name(self.list.name + ".bak") if backup else self.list
        path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())

    def read(self) -> dict[str, Any]:
        return json.loads(self.list.read_text())

    def state(self) -> VersionState:
        return VersionState(self.layout, shipped("ollama"), StateLock(self.layout.state_lock), self.troubles)


@pytest.mark.parametrize("damaged", [True, False])
def test_a_folder_that_cannot_be_read_is_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    place = Place(tmp_path, "v0.2")
    if damaged:
        place.write(b"{")
    scan = os.scandir

    def refuses(path: os.PathLike[str]) -> Any:
        if Path(path).name == "ollama-versions":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return scan(path)

    monkeypatch.setattr(state_module.os, "scandir", refuses)
    for look in (lambda one: one.rebuild() if damaged else one.installed(), lambda one: one.validate(set())):
        with pytest.raises(DiskError):
            look(place.state())
    assert not damaged or place.list.read_bytes() == b"{", "nothing was listed anew"
    monkeypatch.undo()
    assert tags(place.state()) == ["v0.2"]


def test_a_trash_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(Place(tmp_path, "v0.2").root / "ollama-versions")
    assert places.trash() == [] and places.leftovers() == set(), "there is none yet"
    places.remove(places.folder / "v0.2", "v0.2-00", "v0.2", "removed", {})

    def refuses(_path: object) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(places_module.os, "listdir", refuses)
    for look in (places.trash, places.leftovers, places.half_done, places.tidy):
        with pytest.raises(DiskError):
            look()
    monkeypatch.undo()
    assert [one.tag for one in places.trash()] == ["v0.2"]


def tags(state: VersionState) -> list[str]:
    return [version.tag for version in state.installed()]


@pytest.mark.parametrize("path", ["ollama-versions/v0.2", "v0.2", "/elsewhere", None, 7])
def test_both_older_forms_of_a_path_are_read(tmp_path: Path, path: Any) -> None:
    place = Place(tmp_path, "v0.2")
    place.write({"installed": {"v0.2": {"path": path, "gitCommit": None}}})
    found = place.state().get("v0.2")
    assert found.folder == tmp_path / "ollama-versions" / "v0.2"
    assert found.info == {"path": path, "gitCommit": None}


def test_only_what_is_listed_and_whole_is_installed_newest_first(tmp_path: Path) -> None:
    place = Place(tmp_path, "v0.9", "v0.10", "unlisted")
    (tmp_path / "ollama-versions" / "v0.8").mkdir()
    place.write(listed("v0.9", "v0.10", "v0.8", "v0.7"))
    state = place.state()
    assert tags(state) == ["v0.10", "v0.9"]
    assert place.read()["installed"].keys() == {"v0.9", "v0.10", "v0.8", "v0.7"}
    found = state.validate({"v0.8"})
    assert (found.valid, found.incomplete, found.missing, found.unknown) == (
        ["v0.10", "v0.9"], [], ["v0.7"], ["unlisted"],
    )  # fmt: skip
    assert state.validate(set()).incomplete == ["v0.8"]


@pytest.mark.parametrize("value", [None, {}, {"installed": None}, {"installed": None, "mine": 7}])
def test_without_a_list_what_is_on_disk_counts(tmp_path: Path, value: dict[str, Any] | None) -> None:
    place = Place(tmp_path, "v0.9")
    if value is not None:
        place.write(value)
    state = place.state()
    assert tags(state) == ["v0.9"]
    state.set_default("v0.9")
    assert place.read()["installed"].keys() == {"v0.9"}
    assert place.read().get("mine") == (value or {}).get("mine")
    assert place.troubles.count == 0


DAMAGED: list[Any] = [b"", b"[]", b"null", b"123", b'"x"', b"{", b'{"installed": {', b"\x00" * 50, b"\xff\xfe"]
DAMAGED += [{"installed": []}, {"installed": 5}]


@pytest.mark.parametrize("damage", DAMAGED, ids=str)
def test_a_damaged_list_is_never_nothing_installed(tmp_path: Path, damage: Any) -> None:
    place = Place(tmp_path, "v0.9", "v0.10")
    place.write(damage)
    before = place.list.read_bytes()
    state = place.state()
    assert tags(state) == ["v0.10", "v0.9"]
    assert state.active() == "v0.10"
    for change in (
        lambda: state.switch("v0.9"),
        lambda: state.set_default("v0.9"),
        lambda: state.drop("v0.9"),
        lambda: state.add("v0.9", {}),
        state.require_trusted,
    ):
        with pytest.raises(CorruptState):
            change()
    assert place.list.read_bytes() == before
    assert [trouble.kind for trouble in place.troubles.list()] == ["corrupt_state"]
    state.rebuild()
    state.switch("v0.9")
    assert place.read()["installed"].keys() == {"v0.9", "v0.10"}
    kept = [path.read_bytes() for path in place.list.parent.glob("*.damaged-*")]
    assert before in kept or damage in ({"installed": []}, {"installed": 5})
    assert place.troubles.count == 0


@pytest.mark.parametrize("damage", DAMAGED, ids=str)
def test_a_damaged_list_is_recovered_from_its_backup(tmp_path: Path, damage: Any) -> None:
    place = Place(tmp_path, "v0.9", "v0.10")
    place.write(damage)
    place.write(listed("v0.9", theirs=1), backup=True)
    state = place.state()
    assert tags(state) == ["v0.9"]
    assert [trouble.kind for trouble in place.troubles.list()] == ["recovered_state"]
    state.set_default("v0.9")
    assert place.read()["defaultVersion"] == "v0.9"
    assert place.read()["theirs"] == 1


def test_one_entry_of_a_wrong_kind_hides_no_other(tmp_path: Path) -> None:
    place = Place(tmp_path, "v0.9", "v0.10")
    place.write({"installed": {"v0.9": 5, "v0.10": None, "../x": {}, "": {}}})
    assert tags(place.state()) == ["v0.10", "v0.9"]


def test_unknown_keys_stay(tmp_path: Path) -> None:
    place = Place(tmp_path, "v0.9")
    place.write(listed("v0.9", theirs={"a": [1]}))
    state = place.state()
    state.add("v0.9", {"size": 5})
    state.switch("v0.9")
    assert place.read()["theirs"] == {"a": [1]}
    assert place.read()["installed"]["v0.9"] == {**entry("v0.9"), "size": 5}


@pytest.mark.parametrize(
    ("more", "written", "active"),
    [
        ({"defaultVersion": "v0.1", "lastSelectedVersion": "v0.2"}, "v0.3", "v0.1"),
        ({"lastSelectedVersion": "v0.2"}, "v0.3", "v0.2"),
        ({}, "v0.3", "v0.3"),
        ({"defaultVersion": "gone", "lastSelectedVersion": 5}, "v0.10\n", "v0.10"),
        ({}, "another app's", "v0.10"),
        ({}, None, "v0.10"),
    ],
)
def test_which_version_is_active_at_start(tmp_path: Path, more: Any, written: str | None, active: str) -> None:
    place = Place(tmp_path, "v0.1", "v0.2", "v0.3", "v0.10")
    place.write(listed("v0.1", "v0.2", "v0.3", "v0.10", **more))
    file = tmp_path / ".active-version-ollama"
    if written is not None:
        file.write_text(written)
    assert place.state().active() == active
    assert file.read_text().strip() == active
    assert place.read().get("lastSelectedVersion") == more.get("lastSelectedVersion")


def test_the_choice_holds_until_the_version_is_gone(tmp_path: Path) -> None:
    place = Place(tmp_path, "v0.1", "v0.2")
    place.write(listed("v0.1", "v0.2"))
    state = place.state()
    state.switch("v0.1")
    state.set_default("v0.2")
    assert state.active() == "v0.1"
    assert (tmp_path / ".active-version-ollama").read_text() == "v0.1"
    (tmp_path / "ollama-versions/v0.1/ollama").unlink()
    assert state.active() == "v0.2"
    (tmp_path / "ollama-versions/v0.2/ollama").unlink()
    assert state.active() is None
    assert not (tmp_path / ".active-version-ollama").exists()


def test_what_is_dropped_is_referred_to_by_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path, "v0.1", "v0.2")
    place.write(listed("v0.1", "v0.2", defaultVersion="v0.1", lastSelectedVersion="v0.1"))
    state = place.state()
    state.switch("v0.2", remember={"kind": "switched", "tag": "v0.1"})
    assert state.drop("v0.1") == entry("v0.1")
    assert place.read() == listed("v0.2", lastSelectedVersion="v0.2", history=[])


@pytest.mark.parametrize("tag", ["v0.9", "unlisted", "half"])
def test_what_is_not_installed_cannot_be_chosen(tmp_path: Path, tag: str) -> None:
    place = Place(tmp_path, "v0.1", "unlisted")
    (tmp_path / "ollama-versions/half").mkdir()
    place.write(listed("v0.1", "half"))
    state = place.state()
    for choose in (state.switch, state.set_default, state.get):
        with pytest.raises(VersionNotFound):
            choose(tag)


def test_what_another_program_wrote_is_seen(tmp_path: Path) -> None:
    place = Place(tmp_path, "v0.1", "v0.2")
    place.write(listed("v0.1"))
    state = place.state()
    assert tags(state) == ["v0.1"]
    place.write(listed("v0.1", "v0.2"))
    assert tags(state) == ["v0.2", "v0.1"]


# -- the version in use, or why there is none -------------------------------------------------------------------------


def why_none(place: Place) -> str:
    with pytest.raises(NoActiveVersion) as caught:
        place.state().require_active()
    return str(caught.value)


def test_the_version_in_use_is_had(tmp_path: Path) -> None:
    place = Place(tmp_path, "v0.1", "v0.2")
    place.write(listed("v0.1", "v0.2"))
    assert place.state().require_active().tag == "v0.2"


def test_without_any_version_the_advice_is_to_install_one(tmp_path: Path) -> None:
    for value in (listed(), {"installed": {"../x": {}}}):
        place = Place(tmp_path / str(len(value)))
        place.write(value)
        assert why_none(place) == "No version of Ollama is installed; install_version installs one."


@pytest.mark.parametrize(
    ("more", "tag"),
    [({}, "v0.3"), ({"lastSelectedVersion": "v0.2"}, "v0.2"), ({"defaultVersion": "v0.1"}, "v0.1")],
)
def test_of_versions_that_are_not_whole_the_wanted_one_is_named(tmp_path: Path, more: dict[str, str], tag: str) -> None:
    place = Place(tmp_path, "v0.1", "v0.2", "v0.3")
    place.write(listed("v0.1", "v0.2", "v0.3", **more))
    for one in ("v0.1", "v0.2", "v0.3"):
        (tmp_path / "ollama-versions" / one / "ollama").unlink()
    assert why_none(place) == f"Ollama {tag!r} is not whole: it has no ollama; install_version builds it anew."


def test_a_version_whose_folder_is_away_is_named_with_its_folder(tmp_path: Path) -> None:
    """As when the disk with it is not mounted."""
    place = Place(tmp_path)
    place.write(listed("v0.1"))
    folder = tmp_path / "ollama-versions/v0.1"
    said = why_none(place)
    assert said.startswith(f"Ollama 'v0.1' is listed, but its folder {folder} is not there; bring it back, or install_")
    with pytest.raises(VersionNotFound, match="bring it back"):
        place.state().get("v0.1")
    folder.mkdir(parents=True)
    (folder / "ollama").touch()
    assert place.state().require_active().tag == "v0.1"
