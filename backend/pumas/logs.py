"""Logging that never stops a call and never tells a secret: stderr and a rotating file, written by a thread.

stdout belongs to the port line alone.
"""

from __future__ import annotations

import logging
import logging.handlers
import queue
import re
import sys
from pathlib import Path

MAX_BYTES = 10_485_760
BACKUPS = 5
MAX_LINE = 4000

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


class _QueueHandler(logging.handlers.QueueHandler):
    """Hands the record over unformatted: formatting is the writer thread's work, and nothing leaves the process."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record


def start_logging(folder: Path | None, *, debug: bool, secrets: tuple[str, ...] = ()) -> logging.handlers.QueueListener:
    """Send all records to stderr and, where it can be written, to `launcher.log`. Stop the returned listener last."""
    # A dead parent's pipe or a full disk must not raise in whoever logs.
    logging.raiseExceptions = False
    formatter = _Formatter(secrets)
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handlers.append(
                logging.handlers.RotatingFileHandler(
                    folder / "launcher.log", maxBytes=MAX_BYTES, backupCount=BACKUPS, encoding="utf-8", delay=True
                )
            )
        except OSError:
            logging.getLogger(__name__).warning("no log file: the log folder cannot be written")
    for handler in handlers:
        handler.setFormatter(formatter)
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(records, *handlers)
    root = logging.getLogger()
    root.handlers[:] = [_QueueHandler(records)]
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    # The dispatcher's library logs exceptions that ours has logged already.
    logging.getLogger("jsonrpcserver").setLevel(logging.CRITICAL)
    listener.start()
    return listener
