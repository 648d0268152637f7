"""Logging that never stops a call and never tells a secret: stderr and a rotating file, written by a thread.

stdout belongs to the port line alone.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import queue
import re
import select
import sys
from pathlib import Path

from pumas.storage.files import aside_name, is_odd, put_aside

MAX_BYTES = 10_485_760
BACKUPS = 5
MAX_LINE = 4000
MAX_WAITING = 10_000
STDERR_PATIENCE_S = 0.2
STOP_PATIENCE_S = 0.3

_SECRET = re.compile(r"(?i)(bearer\s+|hf_)[A-Za-z0-9._~+/=-]{6,}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u2028\u2029]")


class _Formatter(logging.Formatter):
    """One record, readable, bounded, without control characters or anything that looks like a token."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for secret in self._secrets:
            text = text.replace(secret, "[token]")
        text = _SECRET.sub(r"\1[hidden]", text)
        text = _CONTROL.sub(lambda m: m[0].encode("unicode_escape").decode(), text)
        return text if len(text) <= MAX_LINE * 10 else f"{text[: MAX_LINE * 10]}…"


class _StderrHandler(logging.Handler):
    """Never waits for a reader: a parent that does not read its pipe loses lines, and nothing else."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._stuck = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            data = f"{self.format(record)}\n".encode("utf-8", "backslashreplace")
            # A pipe that can be written takes this much at least without blocking (select(2), pipe(7)).
            for start in range(0, len(data), select.PIPE_BUF):
                patience = 0.0 if self._stuck else STDERR_PATIENCE_S
                self._stuck = not select.select([], [self._fd], [], patience)[1]
                if self._stuck:
                    return
                os.write(self._fd, data[start : start + select.PIPE_BUF])
        except (OSError, ValueError):
            self.handleError(record)


def _stderr_handler() -> logging.Handler | None:
    """None when the process was started without a standard error; its number may then be another file's."""
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison] - it is, when the descriptor was closed
        return None
    if sys.platform == "win32":  # select works on sockets alone there
        return logging.StreamHandler(sys.stderr)
    try:
        return _StderrHandler(sys.stderr.fileno())
    except (OSError, ValueError):
        return logging.StreamHandler(sys.stderr)


class LogWriter(logging.handlers.QueueListener):
    """The writer thread. `stop` waits for it, but not for a disk that hangs."""

    def stop(self) -> None:
        thread = self._thread
        with contextlib.suppress(queue.Full):
            self.enqueue_sentinel()
        if thread is not None:
            thread.join(STOP_PATIENCE_S)
            if not thread.is_alive():
                self._thread = None

    @property
    def stuck(self) -> bool:
        return self._thread is not None


class _QueueHandler(logging.handlers.QueueHandler):
    """Hands the record over unformatted: formatting is the writer thread's work, and nothing leaves the process."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record


def start_logging(folder: Path | None, *, debug: bool, secrets: tuple[str, ...] = ()) -> LogWriter:
    """Send all records to stderr and, where it can be written, to `launcher.log`. Stop the returned listener last."""
    # A dead parent's pipe or a full disk must not raise in whoever logs.
    logging.raiseExceptions = False
    formatter = _Formatter(secrets)
    handlers = [handler for handler in (_stderr_handler(),) if handler is not None]
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / "launcher.log"
            if is_odd(path):
                put_aside(path)
            elif path.exists() and not os.access(path, os.W_OK):
                path.rename(aside_name(path))
            if not os.access(folder, os.W_OK):
                raise PermissionError
            handlers.append(
                logging.handlers.RotatingFileHandler(
                    path,
                    maxBytes=MAX_BYTES,
                    backupCount=BACKUPS,
                    encoding="utf-8",
                    errors="backslashreplace",
                    delay=True,
                )
            )
        except OSError:
            logging.getLogger(__name__).warning("no log file: the log folder cannot be written")
    for handler in handlers:
        handler.setFormatter(formatter)
    records: queue.Queue[logging.LogRecord] = queue.Queue(MAX_WAITING)
    listener = LogWriter(records, *handlers)
    root = logging.getLogger()
    root.handlers[:] = [_QueueHandler(records)]
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    # The dispatcher's library logs exceptions that ours has logged already.
    logging.getLogger("jsonrpcserver").setLevel(logging.CRITICAL)
    listener.start()
    return listener
