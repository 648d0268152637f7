"""`library/staging.py`: only what is ours and ownerless is removed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import psutil
import pytest

from library.model_disk import gguf, make_model, tree, write
from pumas.errors import UnsafePath
from pumas.library.staging import Staging


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def staging(library: Path) -> Staging:
    return Staging(library, library / ".staging")


def owner(library: Path, staging_id: str, **changes: object) -> None:
    path = library / f".staging/{staging_id}.json"
    path.write_bytes(json.dumps({**json.loads(path.read_bytes()), **changes}).encode())


def test_the_folder_is_private_marked_and_gone_after_use(library: Path, staging: Staging) -> None:
    folder = staging.open("job.0", "job")
    write(folder / "a/b.gguf", gguf())
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert (library / ".staging").stat().st_mode & 0o777 == 0o700
    marker = json.loads((library / ".staging/job.0.json").read_bytes())
    assert (marker["job_id"], marker["pid"]) == ("job", os.getpid()) and marker["since"].endswith("Z")
    staging.seal("job.0")
    write(folder / "a/cut.gguf", gguf()[:100])
    write(folder / "metadata.json.1.0123abcd.pumas-tmp", b"{")
    assert staging.open("job.0", "job", {"a/b.gguf"}) == folder, "a job that goes on finds what it had finished"
    assert list(tree(folder)) == ["a/b.gguf"]
    staging.discard("job.0")
    assert os.listdir(library / ".staging") == []


@pytest.mark.parametrize("staging_id", ["..", "../x", "/etc", "a/../../b", "", "a\0"])
def test_ids_stay_inside(staging: Staging, staging_id: str) -> None:
    with pytest.raises(UnsafePath):
        staging.open(staging_id, "job")


@pytest.mark.parametrize(
    ("changes", "job_open", "removed"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"pid": 999_999_999}, False, True),
        ({"pid": 999_999_999}, True, False),
        ({"pid": "1"}, False, True),
        ({"pid": 10**30}, False, True),
        ({"process_started": None}, False, True),
    ],
)
def test_sweeping(library: Path, staging: Staging, changes: dict[str, object], job_open: bool, removed: bool) -> None:
    write(staging.open("job.0", "job") / "m.gguf", gguf())
    owner(library, "job.0", **changes)
    assert staging.sweep(lambda _job: job_open) == (["job.0"] if removed else [])
    assert (library / ".staging/job.0").exists() is not removed


def test_a_folder_of_a_process_that_lives_is_kept_and_one_with_its_number_only_is_not(
    library: Path, staging: Staging
) -> None:
    with subprocess.Popen(["sleep", "60"]) as living:
        try:
            started = psutil.Process(living.pid).create_time()
            for name, moment in (("same", started), ("recycled", started - 1000)):
                staging.open(name, "job")
                owner(library, name, pid=living.pid, process_started=moment)
            assert staging.sweep(lambda _job: False) == ["recycled"]
        finally:
            living.kill()


def test_what_is_not_marked_as_ours_is_listed_and_never_removed(library: Path, staging: Staging) -> None:
    staging.open("job.0", "job")
    keep = [
        ".staging/strange/m.gguf",
        ".staging/damaged/m.gguf",
        ".staging/note.txt",
        ".tmp_import_0f/m.gguf",
        "llm/.tmp_import_y/m.gguf",
        "llm/llama/.tmp_import_x/m.gguf",
        ".downloads/abc/m.gguf",
    ]
    for name in keep:
        write(library / name, gguf())
    write(library / ".staging/damaged.json", b"{")
    write(library / ".staging/odd.json", b"[]")
    make_model(library, "llm/llama/one")
    target = write(library / "outside/m.gguf", gguf())
    (library / ".staging/job.0/model/link").symlink_to(target.parent)
    assert staging.sweep(lambda _job: False) == ["job.0"]
    assert all((library / name).is_file() for name in keep) and target.is_file()
    found = {leftover.path: leftover.kind for leftover in staging.leftovers()}
    assert found == {
        ".staging/strange": "unknown_staging",
        ".staging/damaged": "unknown_staging",
        ".tmp_import_0f": "older_import",
        "llm/.tmp_import_y": "older_import",
        "llm/llama/.tmp_import_x": "older_import",
        ".downloads/abc": "older_download",
    }


def test_a_staging_folder_that_is_a_link_is_not_followed(library: Path, staging: Staging) -> None:
    staging.open("job.0", "job")
    victim = write(library / "victim/m.gguf", gguf())
    (library / ".staging/job.0/model").rmdir()
    (library / ".staging/job.0").rmdir()
    (library / ".staging/job.0").symlink_to(victim.parent)
    staging.sweep(lambda _job: False)
    assert victim.is_file()


def test_without_a_staging_folder_there_is_nothing_to_do(library: Path, staging: Staging) -> None:
    before = tree(library)
    assert staging.sweep(lambda _job: False) == [] and staging.leftovers() == []
    staging.discard_job("job")
    assert tree(library) == before
