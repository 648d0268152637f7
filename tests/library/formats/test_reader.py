import os
import socket
from pathlib import Path

import pytest

from pumas.errors import FileUnavailable, MalformedModelFile
from pumas.library.formats import reader as reading
from pumas.library.formats.reader import BoundedReader, display_name, open_regular


def refused(path: Path | str, reason: str) -> None:
    with pytest.raises(FileUnavailable, match=reason) as caught, open_regular(path):
        pass
    assert str(Path(path).parent) + "/" not in str(caught.value)


def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "to-pipe").symlink_to(tmp_path / "pipe.gguf")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name, reason in {
            "pipe.gguf": "not a regular file",
            "to-pipe": "not a regular file",
            "socket": "not a regular file",
            "folder.gguf": "folder",
            "loop": "cannot be opened",
            "dangling": "does not exist",
            "missing": "does not exist",
            "nul\0byte": "not a usable path",
            "x" * 300: "cannot be opened",
        }.items():
            refused(tmp_path / name, reason)
    refused("/dev/null", "not a regular file")
    refused("/dev/zero", "not a regular file")


def test_links_to_regular_files_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("real")
    with open_regular(tmp_path / "link") as file:
        assert (file.name, file.size, file.pread(9, 1)) == ("link", 3, b"bc")


def test_a_file_that_was_swapped_for_a_pipe_after_the_first_look_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain").write_bytes(b"abc")
    os.mkfifo(tmp_path / "pipe")
    plain = os.stat(tmp_path / "plain")
    monkeypatch.setattr(reading.os, "stat", lambda _path: plain)
    refused(tmp_path / "pipe", "not a regular file")


def test_names_in_messages_are_printable_and_bounded(tmp_path: Path) -> None:
    assert display_name(b"/a/b\xff\xfe.gguf".decode("utf-8", "surrogateescape")) == "b\\xff\\xfe.gguf"
    assert display_name("/a/evil\nname\x1b[31m") == "evil\\x0aname\\x1b[31m"
    assert display_name("/a/folder/") == "folder"
    assert len(display_name("/" + "n" * 5000)) == 255


def test_a_name_that_is_not_utf8_can_be_opened(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"m\xff.gguf")
    Path(os.fsdecode(path)).write_bytes(b"abc")
    with open_regular(os.fsdecode(path)) as file:
        assert file.name == "m\\xff.gguf"


def test_reading_goes_forward_over_windows_and_skips(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    (tmp_path / "f").write_bytes(data)
    with open_regular(tmp_path / "f") as file:
        reader = BoundedReader(file, max_bytes=len(data) * 2)
        at = 0
        for count in (1, 7, reading.WINDOW - 3, 300, reading.WINDOW + 5, 0, 11):
            assert reader.take(count) == data[at : at + count]
            reader.skip(13)
            at += count + 13
        assert reader.remaining == len(data) - at


def over(tmp_path: Path, reason: str, size: int, **budgets: float) -> BoundedReader:
    (tmp_path / "f").write_bytes(bytes(size))
    with open_regular(tmp_path / "f") as file, pytest.raises(MalformedModelFile, match=reason):
        reader = BoundedReader(file, **{"max_bytes": 10**9, **budgets})  # type: ignore[arg-type]
        while True:
            reader.spend(1)
            reader.take(reading.WINDOW)
    return reader


def test_every_budget_ends_the_reading(tmp_path: Path) -> None:
    over(tmp_path, "cut short", 3 * reading.WINDOW)
    over(tmp_path, "larger than any real", 9 * reading.WINDOW, max_bytes=2 * reading.WINDOW)
    over(tmp_path, "more elements", 9 * reading.WINDOW, max_steps=3)
    over(tmp_path, "takes too long", 9 * reading.WINDOW, seconds=-1)


def test_a_file_that_shrinks_while_it_is_read_is_an_error_of_that_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(3 * reading.WINDOW))
    with open_regular(path) as file:
        reader = BoundedReader(file, max_bytes=10**9)
        reader.take(reading.WINDOW)
        os.truncate(path, reading.WINDOW + 10)
        with pytest.raises(MalformedModelFile, match="became shorter"):
            reader.take(reading.WINDOW)
