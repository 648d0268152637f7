"""Each thing that adopting and undoing ask of the disk may be refused: nothing is lost, nothing half done is shown."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from pumas.errors import PumasError

from .adopting_setup import Job, Setup, snapshot
from .stores import gguf, write

CALLS = ("open", "link", "mkdir", "fsync", "replace", "rename", "unlink", "rmdir", "write", "scandir")
# At least so many of them happen while a model is adopted: else nothing was tested.
LEAST = {"open": 8, "link": 2, "mkdir": 3, "fsync": 6, "replace": 2}
FILES = {"acme/A/a-00001-of-00002.gguf": gguf(1), "acme/A/a-00002-of-00002.gguf": gguf(2)}


class Refusal:
    """The `at`-th call of one kind fails with `code`."""

    def __init__(self, name: str, at: int, code: int) -> None:
        self.name, self.left, self.code = name, at, code
        self.hit = False

    @contextlib.contextmanager
    def active(self) -> Generator[None]:
        real: Callable[..., Any] = getattr(os, self.name)

        def refuse(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                self.hit = True
                raise OSError(self.code, os.strerror(self.code))
            return real(*args, **options)

        setattr(os, self.name, refuse)
        try:
            yield
        finally:
            setattr(os, self.name, real)


def prepared(root: Path) -> Setup:
    setup = Setup(root)
    for name, data in FILES.items():
        write(setup.lm_studio / name, data)
    setup.database.open_sync()
    return setup


def whole(setup: Setup, model_id: str) -> bool:
    names = setup.own_files(model_id)
    return [(setup.library / model_id / name).read_bytes() for name in names] in ([], list(FILES.values()))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("name", CALLS)
def test_adopting(tmp_path: Path, name: str, code: int) -> None:
    for at in range(1, 200):
        setup = prepared(tmp_path / str(at))
        before = snapshot(setup.home)
        (model,) = setup.scan().models()
        refusal = Refusal(name, at, code)
        with refusal.active():
            result = setup.adopt(model)
        ids = setup.index.model_ids()
        assert snapshot(setup.home) == before
        assert all(whole(setup, model_id) for model_id in ids)
        if result["success"]:
            assert ids == [result["model_id"]]
        else:
            assert result["error_code"] in ("disk_full", "disk_error", "file_unavailable", "stored_model_not_found"), (
                result
            )
            assert ids == []
        setup.staging.sweep(lambda _job: False)
        setup.adopter.recover()
        assert (setup.staged(), setup.journal.unfinished()) == ([], [])
        if not ids:
            ids = [setup.adopted(job=Job("adopt-2"))]
        setup.undo(ids[0])
        setup.database.close_sync()
        assert snapshot(setup.home) == before
        if not refusal.hit:
            assert at > LEAST.get(name, 0)
            return
    pytest.fail("the calls never came to an end")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("name", CALLS)
def test_undoing(tmp_path: Path, name: str, code: int) -> None:
    for at in range(1, 200):
        setup = prepared(tmp_path / str(at))
        model_id = setup.adopted()
        before = snapshot(setup.home)
        refusal = Refusal(name, at, code)
        with refusal.active(), contextlib.suppress(PumasError):
            setup.undo(model_id)
        setup.trash.recover()
        setup.adopter.recover()
        assert snapshot(setup.home) == before
        assert setup.journal.unfinished() == []
        here, trashed = setup.index.model_ids(), setup.trash.list()
        assert len(here) + len(trashed) <= 1
        for entry in trashed:
            setup.trash.restore(entry.trash_id)
        assert all(whole(setup, found) for found in setup.index.model_ids())
        setup.database.close_sync()
        if not refusal.hit:
            return
    pytest.fail("the calls never came to an end")
