"""Killed at any moment, an adoption is finished or taken back at the next start, and the owner never notices.

The work runs in a forked child that kills itself at the n-th thing it does to the system (an audit event: open, link,
rename, mkdir, remove, a call into libc, …), for every n until it comes to its end.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .adopting_setup import Job, Setup, snapshot
from .stores import gguf, write

FILES = {"acme/A/a-00001-of-00002.gguf": gguf(1), "acme/A/a-00002-of-00002.gguf": gguf(2)}


def killed_at(point: int, work: Callable[[], object]) -> bool:
    """Whether the child was killed before it came to its end."""
    pid = os.fork()
    if pid == 0:
        left = point

        def count(event: str, _args: object) -> None:
            nonlocal left
            if event.startswith(("os.", "open", "shutil.", "ctypes.", "sqlite3.", "fcntl.")):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        status = 1
        try:
            sys.addaudithook(count)
            work()
            status = 0
        finally:
            os._exit(status)
    _pid, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the work failed in the child"
    return os.WIFSIGNALED(status)


def prepared(root: Path) -> None:
    setup = Setup(root)
    for name, data in FILES.items():
        write(setup.lm_studio / name, data)
    setup.database.open_sync()
    setup.database.close_sync()


def again(root: Path) -> Setup:
    """The same folders after a start: what the sidecar does then."""
    setup = Setup(root)
    setup.trash.recover()
    setup.staging.sweep(lambda _job: False)
    setup.adopter.recover()
    return setup


def whole(setup: Setup, model_id: str) -> bool:
    folder = setup.library / model_id
    data = {name.rpartition("/")[2]: content for name, content in FILES.items()}
    storage = setup.metadata(model_id)["storage"]
    names = list(data) if storage != "reference" else []
    return setup.own_files(model_id) == names and all((folder / n).read_bytes() == data[n] for n in names)


@pytest.mark.parametrize("mode", ["hardlink", "reference"])
def test_adopting(tmp_path: Path, mode: str) -> None:
    points = survived = 0
    for point in range(1, 10_000):
        root = tmp_path / str(point)
        prepared(root)
        before = snapshot(root / "home")
        killed = killed_at(point, lambda root=root: Setup(root).adopt(mode=mode))
        setup = again(root)
        assert snapshot(root / "home") == before
        assert (setup.staged(), setup.journal.unfinished()) == ([], [])
        rows, _total = setup.journal.list(undone=True, limit=9, offset=0)
        ids = setup.index.model_ids()
        assert [row.model_id for row in rows] == ids, "the journal and the library agree"
        assert all(whole(setup, model_id) for model_id in ids)
        survived += bool(ids)
        points += killed
        if not ids:
            ids = [setup.adopted(mode=mode, job=Job("adopt-2"))]
        assert setup.undo(ids[0]).trash_id is None
        assert (setup.index.model_ids(), setup.staged(), snapshot(root / "home")) == ([], [], before)
        if not killed:
            break
    assert points >= 60
    assert 1 < survived < points, "both fates were seen"


@pytest.mark.parametrize("mode", ["hardlink", "reference"])
def test_undoing(tmp_path: Path, mode: str) -> None:
    points = 0
    for point in range(1, 10_000):
        root = tmp_path / str(point)
        prepared(root)
        setup = Setup(root)
        model_id = setup.adopted(mode=mode)
        setup.database.close_sync()
        before = snapshot(root / "home")
        killed = killed_at(point, lambda root=root, model_id=model_id: Setup(root).undo(model_id))
        setup = again(root)
        assert snapshot(root / "home") == before
        assert setup.journal.unfinished() == []
        (row,), _total = setup.journal.list(undone=True, limit=9, offset=0)
        ids, trashed = setup.index.model_ids(), setup.trash.list()
        assert len(ids) + len(trashed) <= 1, "in the library, in the trash, or gone; never two of these"
        assert str(row.state) == ("adopted" if ids else "undone")
        assert all(whole(setup, found) for found in ids)
        points += killed
        for entry in trashed:
            setup.trash.restore(entry.trash_id)
        for found in setup.index.model_ids():
            assert whole(setup, found)
        if not killed:
            break
    assert points >= 30
