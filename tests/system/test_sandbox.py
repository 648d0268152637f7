from pathlib import Path

import pytest

from pumas.system.sandbox import LIMITATIONS, SandboxKind, detect

FLATPAK, SNAP, DOCKER, APPIMAGE, NONE = (
    SandboxKind.FLATPAK,
    SandboxKind.SNAP,
    SandboxKind.DOCKER,
    SandboxKind.APPIMAGE,
    SandboxKind.NONE,
)
OF_DOCKER = {"proc/1/cgroup": "0::/\n12:cpu:/docker/0123abcd\n"}
OF_CONTAINERD = {"proc/1/cgroup": "0::/system.slice/containerd.service/kubepods\n"}
OF_INIT = {"proc/1/cgroup": "0::/init.scope\n"}


@pytest.mark.parametrize(
    ("files", "environ", "kind", "also"),
    [
        ({}, {}, NONE, None),
        (OF_INIT, {"HOME": "/srv/ada", "SNAP": "", "APPIMAGE": "", "FLATPAK_ID": ""}, NONE, None),
        ({".flatpak-info": ""}, {}, FLATPAK, None),
        ({}, {"FLATPAK_ID": "org.example.App"}, FLATPAK, None),
        ({}, {"SNAP": "/snap/app/1"}, SNAP, None),
        ({".dockerenv": ""}, {}, DOCKER, None),
        (OF_DOCKER, {}, DOCKER, None),
        (OF_CONTAINERD, {}, DOCKER, None),
        # the order
        ({".flatpak-info": "", ".dockerenv": ""}, {"SNAP": "/snap/app/1"}, FLATPAK, None),
        ({".dockerenv": ""}, {"SNAP": "/snap/app/1"}, SNAP, None),
        # an AppImage gives the name, the rest stays true
        ({}, {"APPIMAGE": "/a.AppImage"}, APPIMAGE, NONE),
        ({".dockerenv": ""}, {"APPIMAGE": "/a.AppImage"}, APPIMAGE, DOCKER),
        (OF_DOCKER, {"APPIMAGE": "/a.AppImage", "SNAP": "/snap/app/1"}, APPIMAGE, SNAP),
    ],
)
def test_detect(
    tmp_path: Path, files: dict[str, str], environ: dict[str, str], kind: SandboxKind, also: SandboxKind | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = detect(tmp_path, environ)
    assert found.kind is kind
    assert found.is_sandboxed is (kind is not NONE)
    assert found.limitations == (LIMITATIONS[also] if also else ()) + LIMITATIONS[kind]


def test_every_sandbox_says_what_it_takes_from_the_user() -> None:
    assert set(LIMITATIONS) == set(SandboxKind)
    assert [kind for kind, sentences in LIMITATIONS.items() if not sentences] == [NONE]
    assert all(sentence.endswith(".") for sentences in LIMITATIONS.values() for sentence in sentences)


@pytest.mark.parametrize("make", [lambda p: p.mkdir(parents=True), lambda p: p.parent.mkdir(parents=True)])
def test_a_cgroup_file_that_cannot_be_read_means_no_container(tmp_path: Path, make) -> None:
    make(tmp_path / "proc/1/cgroup")
    assert detect(tmp_path, {}).kind is NONE


def test_bytes_that_are_no_text_are_read_past(tmp_path: Path) -> None:
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/cgroup").write_bytes(b"\xff\xfe\x00 9:x:/docker/1\n")
    assert detect(tmp_path, {}).kind is DOCKER


def test_the_environment_of_the_process_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APPIMAGE", raising=False)
    monkeypatch.setenv("FLATPAK_ID", "org.example.App")
    assert detect(tmp_path).kind is FLATPAK
