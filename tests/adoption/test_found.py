"""The bounded look: small files only, nothing but regular ones, and an end to every folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pumas.adoption.found import (
    MAX_MANIFEST_BYTES,
    MAX_PROBLEMS,
    LimitReached,
    Look,
    Store,
    StoredModel,
    StoreKind,
    stored,
)

from .stores import write


def store(path: Path) -> Store:
    return Store(StoreKind.FOLDER, str(path))


def largest(path: Path) -> None:
    write(path, b"x" * MAX_MANIFEST_BYTES)


def too_large(path: Path) -> None:
    write(path, b"x" * (MAX_MANIFEST_BYTES + 1))


def sparse(path: Path) -> None:
    os.truncate(write(path, b""), 2**40)


def link(path: Path) -> None:
    path.symlink_to(write(path.with_name("other"), b"x"))


@pytest.mark.parametrize(
    ("make", "readable"),
    [
        (largest, True),
        (too_large, False),
        (sparse, False),
        (link, False),
        (lambda path: os.mkfifo(path), False),
        (lambda path: path.mkdir(), False),
        (lambda path: None, False),
    ],
)
def test_only_small_regular_files_are_read(tmp_path: Path, make: Callable[[Path], object], readable: bool) -> None:
    path = tmp_path / "manifest"
    make(path)
    if readable:
        assert len(Look().text(str(path))) == MAX_MANIFEST_BYTES
    else:
        with pytest.raises((ValueError, OSError)):
            Look().text(str(path))


@pytest.mark.parametrize(("depth", "is_read"), [(127, True), (128, False)])
def test_a_manifest_is_read_down_to_the_depth_at_which_json_ends(tmp_path: Path, depth: int, is_read: bool) -> None:
    text = b'{"a": %s%s}' % (b"[" * (depth - 1), b"]" * (depth - 1))
    path = str(write(tmp_path / "manifest", text))
    if is_read:
        assert list(Look().manifest(path)) == ["a"]
    else:
        with pytest.raises(ValueError, match="not valid JSON"):
            Look().manifest(path)


def test_the_limit_counts_over_all_folders(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        for number in range(5):
            write(tmp_path / folder / str(number), b"")
    look = Look(entries=8)
    assert len(look.names(store(tmp_path), str(tmp_path / "a"))) == 5
    with pytest.raises(LimitReached):
        look.names(store(tmp_path), str(tmp_path / "b"))


def test_a_folder_that_cannot_be_read_is_a_problem_and_no_end(tmp_path: Path) -> None:
    found = store(tmp_path)
    assert Look().names(found, str(tmp_path / "none")) == []
    assert [(problem.path, problem.kind) for problem in found.problems] == [("none", "unreadable")]


def test_problems_are_bounded_and_shown_relative(tmp_path: Path) -> None:
    found = store(tmp_path)
    for number in range(MAX_PROBLEMS + 7):
        found.problem(str(tmp_path / f"bad\n{number}"), "broken_link", "x")
    found.problem("/elsewhere/secret/name", "outside", "x")
    assert (len(found.problems), found.more_problems) == (MAX_PROBLEMS, 8)
    assert found.problems[0].path == "bad\\n0"
    other = store(tmp_path)
    other.problem("/elsewhere/secret/name", "outside", "x")
    assert other.problems[0].path == "name"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x.gguf", ("gguf", "")),
        ("x.Q4_K_M.gguf", ("gguf", "q4_k_m")),
        ("x.safetensors", ("safetensors", "")),
        ("x.ckpt", ("pickle", "")),
        ("x-fp8_e4m3fn.safetensors", ("safetensors", "fp8_e4m3fn")),
    ],
)
def test_what_a_name_says(tmp_path: Path, name: str, expected: tuple[str, str]) -> None:
    path = write(tmp_path / name, b"x")
    model = StoredModel(StoreKind.FOLDER, "/s", "m", "m", (stored(name, str(path), path.stat()),))
    assert (model.format, model.quantization) == expected


def test_an_id_tells_stores_names_and_revisions_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gguf", b"x")
    file = stored("x.gguf", str(path), path.stat())
    variants = [
        StoredModel(kind, where, name, "t", (file,), revision=revision)
        for kind in (StoreKind.FOLDER, StoreKind.PUMAS)
        for where in ("/a", "/b")
        for name in ("m", "n")
        for revision in (None, "c" * 40)
    ]
    assert len({model.id for model in variants}) == 16
