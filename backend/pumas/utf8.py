"""Names of files are UTF-8 to us, as to the other backend and to the wire, whatever the locale says of them.

Imports nothing that starting would have to wait for.
"""

from __future__ import annotations

import os
import sys

_VARIABLE = "PYTHONUTF8"


def ensure() -> None:
    """Begin this program anew in UTF-8 mode (PEP 540) where names would be read in another encoding.

    The process stays the same, and so do its arguments and its parent. Who ignores the environment goes on as it is.
    """
    if sys.getfilesystemencoding().lower() == "utf-8" or os.environ.get(_VARIABLE) == "1":
        return
    os.environ[_VARIABLE] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves, with our own arguments
