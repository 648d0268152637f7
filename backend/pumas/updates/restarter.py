"""A program of its own: `python restarter.py PID ROOT LAUNCHER` waits for a sidecar to end and starts the launcher.

A desktop shell starts its sidecar again by itself; then there is nothing left to do.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

GONE_S, OTHERS_S = 60.0, 3.0
_POLL_S = 0.1


def main(pid: int, root: str, launcher: str) -> None:
    from pumas.client import discovery

    ends = time.monotonic() + GONE_S
    # Its parent is the sidecar: when that ends, the parent is another.
    while os.getppid() == pid:
        if time.monotonic() > ends:
            return
        time.sleep(_POLL_S)
    ends = time.monotonic() + OTHERS_S
    while time.monotonic() < ends:
        if discovery.find(Path(root)) is not None:
            return
        time.sleep(_POLL_S)
    environment = os.environ | {"PUMAS_ROOT": root}
    os.execve(sys.executable, [sys.executable, launcher], environment)  # noqa: S606 - our own program


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
