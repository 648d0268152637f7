"""Gives ComfyUI's server process a title that task managers show, by a few lines in its `main.py`.

What is put in stands between two marks, so that taking it out again needs no backup; one is kept anyway, beside the
file, as older sidecars did. What they put in has no marks and is only ever taken out by way of that backup. Nothing
outside the version's folder is read or written. Blocking; call from a thread.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from pumas.errors import CannotPatch
from pumas.storage.files import disk_errors, fsync_folder, is_odd, remove_stale_temporaries, write_durably

NAME, BACKUP, REPLACED = "main.py", "main.py.bak", "main.py.patched"
TITLE = "ComfyUI Server"
MAX_BYTES = 4 * 1024 * 1024
_BEGIN, _END = b"# >>> pumas: process title", b"# <<< pumas: process title"
_BLOCK = re.compile(re.escape(_BEGIN) + rb"\r?\n.*?" + re.escape(_END) + rb"\r?\n", re.DOTALL)
_CALL = re.compile(rb"""(setproctitle\(\s*(["']))(ComfyUI Server[^"'\r\n]*)(\2)""")
_GUARD = re.compile(rb"""^if\s+__name__\s*==\s*["']__main__["']\s*:""", re.MULTILINE)


def title(tag: str | None) -> str:
    return f"{TITLE} - {tag}" if tag else TITLE


def is_patched(folder: Path) -> bool:
    """Whether the version's server names itself. A version without a readable `main.py` does not."""
    try:
        return _CALL.search(_read(folder / NAME)) is not None
    except CannotPatch:
        return False


def patch(folder: Path, tag: str) -> bool:
    """Put the title in, or the right one in place of another's; False when it is there already.

    Raises:
        CannotPatch: there is no `main.py` that could be changed. DiskError, NotEnoughSpace, ReadOnly: nor written.
    """
    path = folder / NAME
    before = _read(path)
    wanted = title(tag).encode()
    found = _CALL.search(before)
    if found is not None and found[3] == wanted:
        return False
    after = _CALL.sub(lambda m: m[1] + wanted + m[4], before) if found is not None else _inserted(before, wanted)
    with disk_errors(f"Patching {NAME}"):
        remove_stale_temporaries(folder)
        if found is None:  # else the backup is that of the first time
            _copy(path, folder / BACKUP)
        _replace(path, after)
    return True


def revert(folder: Path) -> bool:
    """Take the title out again; False when there is none.

    Raises:
        CannotPatch: an older sidecar put it in and there is no backup. DiskError, NotEnoughSpace, ReadOnly.
    """
    path, backup = folder / NAME, folder / BACKUP
    now = _read(path)
    if _CALL.search(now) is None:
        return False
    clean = _BLOCK.sub(b"", now)
    with disk_errors(f"Restoring {NAME}"):
        remove_stale_temporaries(folder)
        if clean != now:
            _replace(path, clean)
            # A backup with anything else in it is somebody's; the file was changed since.
            if backup.is_file() and not is_odd(backup) and backup.read_bytes() == clean:
                backup.unlink()
                fsync_folder(folder)
            return True
        if not backup.is_file() or is_odd(backup):
            raise CannotPatch(f"There is no {BACKUP} beside {NAME}; install this version again to have the original.")
        _copy(path, folder / REPLACED)
        _replace(path, _read(backup))
        backup.unlink()
        fsync_folder(folder)
    return True


def _inserted(before: bytes, wanted: bytes) -> bytes:
    """Before the first main guard, else at the end."""
    end = b"\r\n" if b"\r\n" in before else b"\n"
    lines = (
        _BEGIN,
        b"try:",
        b"    import setproctitle",
        b'    setproctitle.setproctitle("' + wanted + b'")',
        b"except Exception:",
        b"    pass",
        _END,
        b"",
    )
    block = end.join(lines)
    guard = _GUARD.search(before)
    if guard is not None:
        return before[: guard.start()] + block + before[guard.start() :]
    return before + (b"" if not before or before.endswith(b"\n") else end) + block


def _read(path: Path) -> bytes:
    try:
        if is_odd(path) or path.stat().st_size > MAX_BYTES:
            raise CannotPatch(f"{path.name} is not a file that can be changed.")
        return path.read_bytes()
    except OSError:
        raise CannotPatch(f"This version has no readable {path.name}.") from None


def _copy(path: Path, to: Path) -> None:
    if is_odd(to):
        raise CannotPatch(f"{to.name} is in the way and is not a file.")
    write_durably(to, path.read_bytes())
    shutil.copystat(path, to)


def _replace(path: Path, data: bytes) -> None:
    write_durably(path, data, path.stat().st_mode & 0o777)
