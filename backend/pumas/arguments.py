"""What the sidecar is told on its command line, whoever starts it: `backend/rpc_server.py` and `cli/serve.py`.

Knows no option by name, and imports nothing that starting would have to wait for.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def port_number(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text[:40]!r} is no port: give a number from 0 to 65535")


def given(text: str) -> str:
    """An empty address would be all of the machine's, an empty folder the working directory: nobody means that."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def folder(text: str) -> Path:
    return Path(given(text))
