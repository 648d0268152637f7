"""How much of a download an earlier run left in its staging folder: whole files, and blocks of partial ones.

Who writes there is `downloading.py`. Nothing here is loaded with the sidecar that would make it larger.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from pathlib import Path

from pumas.downloads.part import PartFile
from pumas.downloads.wanted import WantedFile
from pumas.errors import PumasError
from pumas.library.staging import Staging

_PARTS = "parts"


def parts_of(staging: Staging, job_id: str) -> Path:
    """The folder of a download's partial files."""
    return staging.folder(job_id) / _PARTS


def arrived(files: Sequence[WantedFile], done: Collection[str], parts: Path) -> int:
    """Bytes that need not be fetched again; `done` are the paths of whole files. Blocks for a few small reads."""
    whole = sum(file.size for file in files if file.path in done)
    missing = {file.expected: file for file in files if file.path not in done}
    return whole + sum(_recorded(parts, file) for file in missing.values())


def _recorded(parts: Path, file: WantedFile) -> int:
    with contextlib.suppress(PumasError, OSError):
        if (parts / f"{file.expected}.blocks").is_file():
            part = PartFile(parts, file.expected, file.size, file.expected)
            part.close()
            return part.arrived()
    return 0
