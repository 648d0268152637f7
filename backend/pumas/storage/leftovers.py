"""What killed writes left beside the state files, removed at each start by the owner of the root.

Temporary names alone, of our form and of processes that are gone. Folders whose content is a domain's own (the library,
versions of apps) are swept by that domain.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pumas.config import Layout
from pumas.storage.files import sweep

_DEPTH: Final = 2
"""How far below `launcher-data` state files lie."""


def remove_leftovers(layout: Layout) -> None:
    """Blocks; looks at a dozen folders."""
    # Below these lie trees of others: packages, profiles of browsers, what a page hands over.
    foreign = {layout.cache, layout.logs, layout.uploads}
    sweep((layout.root, *_folders(layout.data, foreign, _DEPTH)))


def _folders(folder: Path, foreign: set[Path], depth: int) -> Iterator[Path]:
    yield folder
    if depth == 0 or folder in foreign:
        return
    below: list[Path] = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        below = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    for one in below:
        yield from _folders(one, foreign, depth - 1)
