"""Where the launcher's own checkout is, and whether an update of it is half done. Light: asked at every start."""

from __future__ import annotations

import os
from pathlib import Path

CHECKOUT_VARIABLE = "PUMAS_CHECKOUT"
"""Another folder than the one that this program lies in, for tests."""
_JOURNAL = "pumas-update"


def place() -> Path:
    return Path(os.environ.get(CHECKOUT_VARIABLE) or Path(__file__).resolve().parents[3])


def journal(folder: Path) -> Path:
    """In git's own folder, while files change and dependencies are installed: the commits before and after."""
    return folder / ".git" / _JOURNAL
