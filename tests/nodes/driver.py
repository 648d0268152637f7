"""Does one thing with a custom node, as a process of its own that a test disturbs: `driver.py FOLDER URL WHAT`.

When git is killed, this process ends with it, as in a power cut: what it would set right is left to the next start.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from pumas.errors import PumasError
from pumas.nodes import git
from pumas.nodes.work import Nodes

_end = git._end  # pyright: ignore[reportPrivateUsage]


def _end_both(process: subprocess.Popen[bytes]) -> None:
    _end(process)
    if process.returncode == -signal.SIGKILL:
        os.kill(os.getpid(), signal.SIGKILL)


def main(folder: str, url: str, what: str) -> None:
    git._end = _end_both  # pyright: ignore[reportPrivateUsage]
    nodes = Nodes(Path(folder), "v1", "custom_nodes")
    if what == "install":
        nodes.install(url, "sunny", None, None, "job-1")
    elif what == "update":
        nodes.update("sunny", None)
    elif what == "remove":
        nodes.remove("sunny")
    else:
        nodes.restore(nodes.removed()[0].trash_id)


if __name__ == "__main__":
    print("ready", flush=True)
    os.readv(0, [bytearray(1)])  # not read(2), which is traced
    try:
        main(*sys.argv[1:])
    except PumasError:  # not told: writing may be what fails
        sys.exit(3)
