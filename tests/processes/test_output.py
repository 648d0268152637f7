"""The end of a log, and what is new in it, compared with reading all of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pumas.errors import FileUnavailable
from pumas.processes import output
from pumas.processes.output import MAX_LINE, Follower, clean, tail


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain", "plain"),
        (b"", ""),
        (b"tab\tstays", "tab\tstays"),
        (b"crlf\r", "crlf"),
        (b"10%\r50%\r100%", "100%"),
        (b"10%\r50%\r", "50%"),
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07text", "text"),
        (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1b[2J\x1b[1;1Hgone", "gone"),
        (b"bell\x07 back\x08 nul\x00", "bell back nul"),
        ("ümläut ☃".encode(), "ümläut ☃"),
        (b"broken \xff\xfe", "broken \ufffd\ufffd"),
        ("c1 \x9b31m ls\u2028ps\u2029".encode(), "c1 31m lsps"),
        (b"x" * 5000, "x" * MAX_LINE + "…"),
    ],
)
def test_lines_are_fit_for_a_terminal(raw: bytes, shown: str) -> None:
    assert clean(raw) == shown


@settings(max_examples=200, deadline=None)
@given(
    files=st.lists(st.lists(st.text("ab ", max_size=30), max_size=40), min_size=1, max_size=3),
    count=st.integers(1, 60),
    ended=st.booleans(),
    block=st.integers(1, 200),
)
def test_the_tail_is_what_reading_all_would_give(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[str]], count: int, ended: bool, block: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    path = folder / "launch-x.log"
    for number, lines in enumerate(files):
        name = path if number == 0 else folder / f"launch-x.log.{number}"
        text = "".join(f"{line}\n" for line in lines)
        name.write_text(text if ended or number else text.rstrip("\n"))
    whole = "".join(
        (folder / f"launch-x.log{'' if n == 0 else f'.{n}'}").read_text() for n in reversed(range(len(files)))
    )
    lines = whole.split("\n")
    expected = lines[:-1] if not lines[-1] else lines
    before, output._BLOCK = output._BLOCK, block
    try:
        found = tail(path, count)
    finally:
        output._BLOCK = before
    assert list(found.lines) == expected[-count:]
    assert found.cut == (len(expected) > count)


def test_a_log_that_is_put_aside_meanwhile_is_not_shown_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    path.write_text("1\n2\n")
    (tmp_path / "log.1").write_text("0\n")
    pread = os.pread

    def turned(fd: int, size: int, at: int) -> bytes:
        data = pread(fd, size, at)
        if path.exists():
            (tmp_path / "log.1").rename(tmp_path / "log.2")
            path.rename(tmp_path / "log.1")
        return data

    monkeypatch.setattr(os, "pread", turned)
    assert tail(path, 10).lines == ("0", "1", "2")


def test_only_the_end_of_a_big_log_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.truncate(50 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + b"".join(b"line %d\n" % n for n in range(100)))
    asked: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: (asked.append(size), pread(fd, size, at))[1])
    assert tail(path, 100).lines == tuple(f"line {n}" for n in range(100))
    assert sum(asked) <= 128 * 1024
    assert len(tail(path, 2000).lines) == 101
    assert sum(asked) <= 2 * 1024 * 1024


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "link"])
def test_what_is_no_log(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        (tmp_path / "secret").write_text("secret")
        path.symlink_to("secret")
    with pytest.raises((FileUnavailable, output.DiskError)) as caught:
        tail(path, 10)
    assert "secret" not in str(caught.value)
    follower = Follower(path, from_start=True)
    assert follower.news().lines == ()
    follower.close()


def test_news_are_whole_lines_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old\n")
    follower = Follower(path, from_start=False)
    assert follower.news().lines == ()
    with path.open("ab", buffering=0) as file:
        file.write(b"on")
        assert follower.news().lines == ()
        file.write(b"e\ntwo\nthr")
        assert follower.news().lines == ("one", "two")
        file.write(b"ee\n")
        assert follower.news().lines == ("three",)
        file.write(b"y" * 10_000)
        assert follower.news().lines == ("y" * MAX_LINE + "…",), "a line without end does not pile up"
    follower.close()
    from_start = Follower(path, from_start=True)
    assert from_start.news().lines[:2] == ("old", "one")
    from_start.close()


def test_news_go_on_when_the_log_is_put_aside_or_cut(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"1\n")
    follower = Follower(path, from_start=True)
    with path.open("ab") as file:
        file.write(b"2\n")
    path.rename(tmp_path / "log.1")
    with (tmp_path / "log.1").open("ab") as file:
        file.write(b"3\n")
    path.write_bytes(b"4\n")
    assert follower.news().lines == ("1", "2", "3", "4")
    path.write_bytes(b"")
    assert follower.news().lines == ()
    path.write_bytes(b"5\n")
    assert follower.news().lines == ("5",)
    path.unlink()
    assert follower.news().lines == ()
    path.write_bytes(b"6\n")
    assert follower.news().lines == ("6",)
    follower.close()


def test_a_flood_is_cut_and_told(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"")
    follower = Follower(path, from_start=True)
    with path.open("ab") as file:
        file.write(b"".join(b"%07d\n" % n for n in range(100_000)))
    news = follower.news()
    assert news.lines[-1] == "0099999" and len(news.lines) < 10_000
    assert news.skipped >= 700_000
    assert follower.news() == output.News((), 0)
    follower.close()
