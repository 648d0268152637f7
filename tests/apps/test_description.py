"""Descriptions are read strictly, and say what an app's tags, assets, processes and answers mean."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pumas.apps.catalog import shipped_folder
from pumas.apps.description import AppDescription, Processes, Ready, Releases, read
from pumas.errors import CorruptState

MINIMAL: dict[str, Any] = {
    "id": "tiny",
    "name": "Tiny",
    "folder": "tiny-versions",
    "releases": {"repository": "someone/tiny"},
    "package": {"kind": "source", "complete": ["app.py"]},
    "launch": {"command": ["{python}", "app.py", "--port", "{port}"], "port": 9000},
}


def described(**changes: Any) -> AppDescription:
    return read("tiny.json", orjson.dumps(MINIMAL | changes))


def shipped(app_id: str) -> AppDescription:
    return read(app_id, (shipped_folder() / f"{app_id}.json").read_bytes())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"unknown": 1}, "unknown"),
        ({"id": "Tiny"}, "id must"),
        ({"id": 5}, "valid string"),
        ({"folder": "../other"}, "folder"),
        ({"folder": "/abs"}, "folder"),
        ({"releases": {"repository": "no-slash"}}, "owner/name"),
        ({"releases": {"repository": "a/b", "tag": "v.*"}}, "group named version"),
        ({"releases": {"repository": "a/b", "tag": "("}}, "tiny.json"),
        ({"package": {"kind": "image", "complete": ["x"]}}, "kind"),
        ({"package": {"kind": "source", "complete": []}}, "at least one"),
        ({"package": {"kind": "source", "complete": ["../x"]}}, "package"),
        ({"package": {"kind": "bundle", "complete": ["x"]}}, "assets and programs"),
        ({"launch": {"command": ["{shell}"], "port": 1}}, "placeholder"),
        ({"launch": {"command": ["{port!r}"], "port": 1}}, "placeholder"),
        ({"launch": {"command": [], "port": 1}}, "command and a port"),
        ({"launch": {"command": ["x"], "port": "8080"}}, "valid integer"),
        ({"links": [{"name": "../x", "target": "{shared}"}]}, "links"),
        ({"models": {"folder": "models", "mappings": [{"name": "x", "target_subdir": "../.."}]}}, "target_subdir"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CorruptState, match=says):
        described(**changes)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"\xff"])
def test_what_is_no_description_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptState):
        read("x.json", data)


@pytest.mark.parametrize(
    ("app_id", "names"),
    [
        ("comfyui", ("versions.json", ".active-version", "installation-state.json", "comfyui.pid")),
        ("ollama", ("versions-ollama.json", ".active-version-ollama", "installation-state-ollama.json", "ollama.pid")),
    ],
)
def test_state_files_have_the_names_that_older_sidecars_use(app_id: str, names: tuple[str, ...]) -> None:
    app = shipped(app_id)
    assert (app.versions_file, app.active_file, app.progress_file, app.pid_file) == names


def test_release_caches_have_the_names_that_older_sidecars_use() -> None:
    assert shipped("ollama").release_caches == ("github-releases-ollama-ollama.json",)
    assert shipped("comfyui").release_caches[0] == "github-releases.json"


OLLAMA = [
    "ollama-darwin.tgz",
    "ollama-linux-amd64-rocm.tar.zst",
    "ollama-linux-amd64.tar.zst",
    "ollama-linux-arm64.tar.zst",
    "OllamaSetup.exe",
    "ollama-windows-amd64.zip",
    "sha256sum.txt",
]
LLAMACPP = [
    "llama-b7001-bin-ubuntu-vulkan-x64.tar.gz",
    "llama-b7001-bin-ubuntu-x64.tar.gz",
    "llama-b7001-bin-macos-arm64.tar.gz",
    "cudart-llama-bin-win-cuda-12.4-x64.zip",
    "llama-b7001-bin-win-cpu-x64.zip",
]


@pytest.mark.parametrize(
    ("app_id", "place", "names", "chosen"),
    [
        ("ollama", "linux-x86_64", OLLAMA, "ollama-linux-amd64.tar.zst"),
        ("ollama", "linux-arm64", OLLAMA, "ollama-linux-arm64.tar.zst"),
        ("ollama", "macos-arm64", OLLAMA, "ollama-darwin.tgz"),
        ("ollama", "windows-x86_64", OLLAMA, "ollama-windows-amd64.zip"),
        ("ollama", "windows-arm64", OLLAMA, None),
        ("ollama", "freebsd-riscv64", OLLAMA, None),
        ("ollama", "linux-x86_64", ["ollama-linux-amd64.tgz", "ollama-linux-amd64-rocm.tgz"], "ollama-linux-amd64.tgz"),
        ("llamacpp", "linux-x86_64", LLAMACPP, "llama-b7001-bin-ubuntu-x64.tar.gz"),
        ("llamacpp", "macos-arm64", LLAMACPP, "llama-b7001-bin-macos-arm64.tar.gz"),
        ("llamacpp", "windows-x86_64", LLAMACPP, "llama-b7001-bin-win-cpu-x64.zip"),
    ],
)
def test_the_asset_of_the_machine_is_chosen(app_id: str, place: str, names: list[str], chosen: str | None) -> None:
    assert shipped(app_id).package.choose(names, place) == chosen


@pytest.mark.parametrize(
    ("tag", "version"), [("v0.3.10", "0.3.10"), ("V1.2", "1.2"), ("0.1", "0.1"), ("latest", None), ("v", None)]
)
def test_the_version_inside_a_tag(tag: str, version: str | None) -> None:
    assert Releases("a/b").version_text(tag) == version


@pytest.mark.parametrize(
    ("ready", "status", "body", "accepted"),
    [
        (Ready("/"), 200, None, True),
        (Ready("/"), 503, None, False),
        (Ready("/", field="system"), 200, {"system": {}}, True),
        (Ready("/", field="system"), 200, {"other": {}}, False),
        (Ready("/", field="system"), 200, None, False),
        (Ready("/", field="a.b"), 200, {"a": {"b": 0}}, True),
        (Ready("/", field="a.b"), 200, {"a": "b"}, False),
        (Ready("/", field="status", equals="ok"), 200, {"status": "ok"}, True),
        (Ready("/", field="status", equals="ok"), 200, {"status": "loading model"}, False),
        (Ready("/", header="X-App"), 200, None, False),
    ],
)
def test_what_counts_as_ready(ready: Ready, status: int, body: object, accepted: bool) -> None:
    assert ready.accepts(status, {}, body) is accepted


@pytest.mark.parametrize(
    ("line", "alike"),
    [("python main.py /x/ComfyUI", True), ("ComfyUI Server", True), ("vim main.py", False), ("", False)],
)
def test_what_an_apps_processes_look_like(line: str, alike: bool) -> None:
    assert shipped("comfyui").processes.looks_like(line) is alike
    assert not Processes(((),)).looks_like(line)
