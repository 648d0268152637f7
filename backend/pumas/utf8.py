"""Names of files are UTF-8 to us, as to the other backend and to the wire, whatever the locale says of them.

Imports nothing that starting would have to wait for.
"""

from __future__ import annotations

import os
import sys
from typing import Final

OPTION: Final = ("-X", "utf8")
"""For each Python of ours that gets names of files as text."""


def ensure() -> None:
    """Begin this program anew in UTF-8 mode (PEP 540) where names would be read in another encoding.

    The process stays the same, and so do its arguments and its parent.
    """
    if sys.getfilesystemencoding().lower() != "utf-8" and tuple(sys.orig_argv[1:3]) != OPTION:
        os.execv(sys.executable, [sys.executable, *OPTION, *sys.orig_argv[1:]])  # noqa: S606 - ourselves
