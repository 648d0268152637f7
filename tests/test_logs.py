"""Logging: never a secret, never a control character, never a reason to wait."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pumas import logs

SECRET = "tok-0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def root_logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process-wide settings as they were; a slow machine is no disk that hangs."""
    monkeypatch.setattr(logs, "STOP_PATIENCE_S", 20.0)
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    levels = {name: logging.getLogger(name).level for name in ("asyncio", "jsonrpcserver")}
    yield
    root.handlers[:], root.level, logging.raiseExceptions = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def written(folder: Path, speak: Callable[[logging.Logger], object], *, debug: bool = False) -> str:
    writer = logs.start_logging(folder, debug=debug, secrets=(SECRET,))
    speak(logging.getLogger("pumas.test"))
    writer.stop()
    assert not writer.stuck
    path = folder / "launcher.log"
    return path.read_text(encoding="utf-8") if path.exists() else ""


@pytest.mark.parametrize(
    ("message", "kept", "gone"),
    [
        ("plain words ü", "plain words ü", "\x00"),
        (f"the token is {SECRET}", "[token]", SECRET),
        ("Authorization: Bearer abcdefghijklmnop", "[hidden]", "abcdefghijklmnop"),
        ("bearer  ABCDEFGHIJ", "[hidden]", "ABCDEFGHIJ"),
        ("hub token hf_abcdefghijKLMNOP", "hf_[hidden]", "abcdefghijKLMNOP"),
        ("fake\x1b[31m line\r\x00\x7f\u2028", "\\x1b", "\x1b"),
        ("x" * 500_000, "xxx…", "x" * 100_000),
        ("half \ud800 of a pair", "of a pair", "\ud800"),
    ],
)
def test_what_reaches_the_file(tmp_path: Path, message: str, kept: str, gone: str) -> None:
    text = written(tmp_path, lambda log: log.info("%s", message))
    assert kept in text
    assert gone not in text


def test_a_traceback_is_cleaned_too(tmp_path: Path) -> None:
    def fail(log: logging.Logger) -> None:
        try:
            raise ValueError(f"Bearer {SECRET}")
        except ValueError:
            log.exception("failed")

    text = written(tmp_path, fail)
    assert "ValueError" in text
    assert SECRET not in text


def test_levels(tmp_path: Path) -> None:
    assert "quiet" not in written(tmp_path / "a", lambda log: log.debug("quiet"))
    assert "quiet" in written(tmp_path / "b", lambda log: log.debug("quiet"), debug=True)


@pytest.mark.parametrize("kind", ["folder", "fifo", "link to nowhere", "device"])
def test_what_is_no_log_file_is_put_aside(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "launcher.log"
    {
        "folder": path.mkdir,
        "fifo": lambda: os.mkfifo(path),
        "link to nowhere": lambda: path.symlink_to(tmp_path / "no" / "where"),
        "device": lambda: path.symlink_to("/dev/full"),
    }[kind]()
    assert "still written" in written(tmp_path, lambda log: log.info("still written"))
    assert len(list(tmp_path.glob("launcher.log.damaged-*"))) + len(list(tmp_path.glob("*/*"))) >= 1


def test_a_place_that_cannot_be_a_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    written(tmp_path / "file" / "logs", lambda log: log.info("to stderr at least"))
    assert "to stderr at least" in capfd.readouterr().err


def test_nobody_waits_for_a_reader_of_stderr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent that never reads its pipe loses lines; the file has them all."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe, os.fdopen(reading, "rb"):
        monkeypatch.setattr(sys, "stderr", pipe)

        def speak(log: logging.Logger) -> None:
            for number in range(2000):
                log.info("line %d %s", number, "x" * 100)

        done = threading.Event()
        texts: list[str] = []

        def work() -> None:
            texts.append(written(tmp_path, speak))
            done.set()

        threading.Thread(target=work, daemon=True).start()
        assert done.wait(20)
    assert texts[0].count("\n") == 2000


def test_a_process_without_stderr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert "still" in written(tmp_path, lambda log: log.info("still here"))


def test_a_disk_that_hangs_holds_up_neither_callers_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(logging.handlers.RotatingFileHandler, "emit", lambda *_: gate.wait(30))
    monkeypatch.setattr(logs, "MAX_WAITING", 100)
    monkeypatch.setattr(logs, "STOP_PATIENCE_S", 0.3)
    writer = logs.start_logging(tmp_path, debug=False)
    for number in range(1000):  # far more than may wait
        logging.getLogger("pumas.test").info("%d", number)
    writer.stop()
    assert writer.stuck
    gate.set()


def test_the_file_is_turned_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_BYTES", 10_000)
    written(tmp_path, lambda log: [log.info("%s", "y" * 1000) for _ in range(100)])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"launcher.log", *(f"launcher.log.{n}" for n in range(1, logs.BACKUPS + 1))}
    assert all(path.stat().st_size <= 11_000 for path in tmp_path.iterdir())
