"""The server's title goes into `main.py` and out again, and what was there comes back byte for byte."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumas.errors import CannotPatch
from pumas.processes import patch
from pumas.processes.patch import is_patched, revert

GUARDED = b"import sys\n\nif __name__ == '__main__':\n    print(sys.argv)\n"
SOURCES = {
    "guarded": GUARDED,
    "double quotes": b'x = 1\nif __name__ == "__main__":\n    pass\n',
    "tight": b'if __name__=="__main__":pass\n',
    "without guard": b"print(1)\n",
    "no line end": b"print(1)",
    "empty": b"",
    "crlf": GUARDED.replace(b"\n", b"\r\n"),
    "latin": b"# \xe9\nif __name__ == '__main__':\n    pass\n",
    "two guards": GUARDED + GUARDED,
    "an indented guard": b"def f():\n    if __name__ == '__main__':\n        pass\n",
}
OLDER = b'import setproctitle\nsetproctitle.setproctitle("ComfyUI Server - v0.1")\nprint(1)\n'


def version(folder: Path, source: bytes) -> Path:
    (folder / "main.py").write_bytes(source)
    return folder


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_in_and_out_again(tmp_path: Path, source: bytes) -> None:
    folder = version(tmp_path, source)
    (folder / "main.py").chmod(0o700)
    assert not is_patched(folder)
    assert patch.patch(folder, "v1.2") and is_patched(folder)
    patched = (folder / "main.py").read_bytes()
    assert b'setproctitle.setproctitle("ComfyUI Server - v1.2")' in patched
    if b"\xe9" not in source:
        ast.parse(patched)
    assert patched.count(b"\r\n") == (patched.count(b"\n") if b"\r\n" in source else 0)
    assert (folder / "main.py.bak").read_bytes() == source
    assert not patch.patch(folder, "v1.2"), "it is there already"
    assert revert(folder) and not is_patched(folder)
    restored = (folder / "main.py").read_bytes()
    assert restored == source or (source == b"print(1)" and restored == b"print(1)\n")
    assert (folder / "main.py").stat().st_mode & 0o777 == 0o700
    assert not revert(folder)


@given(st.binary(max_size=200), st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.-]{0,9}", fullmatch=True))
def test_any_source_comes_back(tmp_path_factory: pytest.TempPathFactory, source: bytes, tag: str) -> None:
    folder = version(tmp_path_factory.mktemp("v"), source)
    if patch.patch(folder, tag):
        revert(folder)
        assert (folder / "main.py").read_bytes().removesuffix(b"\n").removesuffix(b"\r") == source.removesuffix(
            b"\n"
        ).removesuffix(b"\r")


def test_it_comes_before_the_server_starts(tmp_path: Path) -> None:
    folder = version(tmp_path, GUARDED)
    patch.patch(folder, "v1")
    text = (folder / "main.py").read_text()
    assert text.index("setproctitle") < text.index("if __name__")


def test_another_versions_title_is_replaced_and_the_first_backup_stays(tmp_path: Path) -> None:
    folder = version(tmp_path, GUARDED)
    assert patch.patch(folder, "v1") and patch.patch(folder, "v2")
    assert (folder / "main.py").read_text().count("setproctitle.setproctitle(") == 1
    assert "ComfyUI Server - v2" in (folder / "main.py").read_text()
    assert (folder / "main.py.bak").read_bytes() == GUARDED
    assert revert(folder) and (folder / "main.py").read_bytes() == GUARDED
    assert not (folder / "main.py.bak").exists()


def test_what_was_changed_since_stays(tmp_path: Path) -> None:
    folder = version(tmp_path, GUARDED)
    patch.patch(folder, "v1")
    path = folder / "main.py"
    path.write_bytes(path.read_bytes() + b"# mine\n")
    assert revert(folder)
    assert path.read_bytes() == GUARDED + b"# mine\n"
    assert (folder / "main.py.bak").read_bytes() == GUARDED, "it is not the same any more, so it is kept"


def test_what_an_older_sidecar_put_in_goes_by_its_backup(tmp_path: Path) -> None:
    folder = version(tmp_path, OLDER)
    assert is_patched(folder)
    with pytest.raises(CannotPatch):
        revert(folder)
    assert (folder / "main.py").read_bytes() == OLDER
    (folder / "main.py.bak").write_bytes(b"print(1)\n")
    assert revert(folder)
    assert (folder / "main.py").read_bytes() == b"print(1)\n"
    assert (folder / "main.py.patched").read_bytes() == OLDER, "nothing is lost"
    assert not (folder / "main.py.bak").exists()


@pytest.mark.parametrize("kind", ["missing", "folder", "link", "fifo", "huge"])
def test_what_is_no_main_py_is_left_alone(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "main.py", tmp_path / "elsewhere.py"
    target.write_bytes(GUARDED)
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(target)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(5 << 20)
    assert not is_patched(tmp_path)
    for act in (lambda: patch.patch(tmp_path, "v1"), lambda: revert(tmp_path)):
        with pytest.raises(CannotPatch):
            act()
    assert target.read_bytes() == GUARDED
    assert not (tmp_path / "main.py.bak").exists()


@pytest.mark.parametrize("way", ["folder", "link"])
def test_a_backup_that_is_none_is_not_written_over(tmp_path: Path, way: str) -> None:
    folder = version(tmp_path, GUARDED)
    (folder / "user.py").write_bytes(b"the user's")
    if way == "folder":
        (folder / "main.py.bak").mkdir()
    else:
        (folder / "main.py.bak").symlink_to("user.py")
    with pytest.raises(CannotPatch):
        patch.patch(folder, "v1")
    assert (folder / "main.py").read_bytes() == GUARDED
    assert (folder / "user.py").read_bytes() == b"the user's"
