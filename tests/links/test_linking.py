"""`links/linking.py`: one link, what it holds, and whether it is ours."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from library.model_disk import write
from pumas.errors import AlreadyExists
from pumas.links import linking
from pumas.links.linking import Unsupported
from pumas.links.store import Link, new_link


def row(kind: str, **values: object) -> Link:
    return new_link("m", "s", "t", kind, "comfyui", "1", external=False)._replace(**values)  # type: ignore[arg-type]


@pytest.fixture
def source(tmp_path: Path) -> str:
    return str(write(tmp_path / "library" / "m" / "a.gguf", b"bytes"))


@pytest.fixture
def target(tmp_path: Path) -> str:
    (tmp_path / "app").mkdir()
    return str(tmp_path / "app" / "a.gguf")


def test_the_text_of_a_symlink(tmp_path: Path) -> None:
    real = tmp_path / "real"
    (real / "app").mkdir(parents=True)
    (tmp_path / "root").symlink_to(real)
    root, folder = str(tmp_path / "root"), str(real / "app")
    text = linking.symlink_text
    assert text(root, f"{root}/lib/m/a", folder, external=False) == "../lib/m/a"
    assert text(root, f"{root}/lib/m/a", folder, external=True) == f"{real}/lib/m/a"
    assert text(root, "/hub/blob", folder, external=False) == "/hub/blob"


@pytest.mark.parametrize("relative", [True, False])
def test_a_symlink_is_ours_by_what_it_holds_or_where_it_leads(source: str, target: str, relative: bool) -> None:
    text = os.path.relpath(source, os.path.dirname(target)) if relative else source
    os.symlink(text, target)
    assert linking.is_ours(row("symlink", link_text=text), target, source)
    assert linking.is_ours(row("symlink"), target, source), "an older sidecar wrote no text down"
    assert not linking.is_ours(row("symlink"), target, f"{source}2")
    assert not linking.is_ours(row("hardlink"), target, source)
    assert not linking.is_ours(row("copy", inode=os.lstat(target).st_ino), target, source)


def test_a_dangling_symlink_is_still_ours(source: str, target: str) -> None:
    os.symlink(source, target)
    os.unlink(source)
    assert linking.is_ours(row("symlink"), target, source)
    assert linking.take_away(row("symlink"), target, source)
    assert not os.path.lexists(target)


def test_a_link_whose_root_was_moved_is_ours_by_its_text(target: str) -> None:
    os.symlink("/old/root/lib/a.gguf", target)
    assert linking.is_ours(row("symlink", link_text="/old/root/lib/a.gguf"), target, "/new/root/lib/a.gguf")


@pytest.mark.parametrize("kind", ["symlink", "hardlink", "copy"])
def test_what_somebody_else_put_there_is_not_taken_away(source: str, target: str, kind: str) -> None:
    Path(target).write_bytes(b"bytes")
    link = row(kind, inode=os.stat(source).st_ino, size=5)
    assert not linking.is_ours(link, target, source)
    assert not linking.take_away(link, target, source)
    assert Path(target).read_bytes() == b"bytes"


def test_a_hard_link(source: str, target: str) -> None:
    link = row("hardlink", inode=os.stat(source).st_ino)
    linking.make(link, target, source)
    assert os.path.samefile(source, target)
    assert linking.is_ours(link, target, source) and linking.is_ours(row("hardlink"), target, source)
    os.unlink(source)
    assert not linking.take_away(link, target, source), "it is the last name of its bytes"
    assert Path(target).read_bytes() == b"bytes"


def test_a_copy_is_ours_until_it_is_changed(source: str, target: str) -> None:
    temporary, status = linking.prepare_copy(source, target)
    assert not os.path.lexists(target)
    linking.publish_copy(temporary, target)
    link = row("copy", inode=status.st_ino, size=status.st_size, mtime_ns=status.st_mtime_ns)
    assert linking.is_ours(link, target, source)
    assert not linking.is_ours(row("copy"), target, source), "nobody wrote down what it was"
    with open(target, "ab") as file:
        file.write(b"more")
    assert not linking.take_away(link, target, source)


def test_a_taken_name_is_never_replaced(source: str, target: str) -> None:
    Path(target).write_bytes(b"theirs")
    for link in (row("symlink", link_text=source), row("hardlink")):
        with pytest.raises(FileExistsError):
            linking.make(link, target, source)
    temporary, _ = linking.prepare_copy(source, target)
    with pytest.raises(AlreadyExists):
        linking.publish_copy(temporary, target)
    assert Path(target).read_bytes() == b"theirs" and os.listdir(os.path.dirname(target)) == ["a.gguf"]


def test_a_place_without_such_links_says_so(source: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(os, "symlink", refuse)
    monkeypatch.setattr(os, "link", refuse)
    for link in (row("symlink", link_text=source), row("hardlink")):
        with pytest.raises(Unsupported):
            linking.make(link, target, source)


def test_a_failed_copy_leaves_nothing(source: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no"):
        linking.prepare_copy(source, target)
    assert os.listdir(os.path.dirname(target)) == []


def test_places_that_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to("real")
    same = linking.same_place
    assert same(f"{tmp_path}/real/a", f"{tmp_path}/alias/a")
    assert not same(f"{tmp_path}/real/a", f"{tmp_path}/alias/b")
    assert linking.leads_to(f"{tmp_path}/alias/x", "../real/a") == f"{tmp_path}/real/a"
