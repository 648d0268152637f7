"""A Hugging Face cache is read as huggingface-hub lays it out, and no link in it leads anywhere else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pumas.adoption.found import Look, Store
from pumas.adoption.huggingface import read_cache

from .stores import COMMIT, gguf, hf_file, kinds, names, sha256, write

OTHER = "b" * 40
REPO = "models--acme--Rocket"


def read(cache: Path) -> Store:
    return read_cache(Look(), os.path.realpath(cache))


def test_a_repository_with_everything(tmp_path: Path) -> None:
    data, config = gguf(1), b'{"model_type": "llama"}'
    blob = hf_file(tmp_path, "acme/Rocket", "model.safetensors", data)
    hf_file(tmp_path, "acme/Rocket", "config.json", config, large=False)
    hf_file(tmp_path, "acme/Rocket", "tokenizer/vocab.txt", b"a b", large=False)
    hf_file(tmp_path, "acme/Rocket", ".gitattributes", b"*.gguf lfs", large=False)
    store = read(tmp_path)
    (model,) = store.models
    assert (model.name, model.repo_id, model.title) == ("acme/Rocket", "acme/Rocket", "Rocket")
    assert (model.revision, model.refs, model.problem, store.problems) == (COMMIT, ("main",), "", [])
    assert {file.name: file.claimed_sha256 for file in model.files} == {
        "config.json": "",  # named by its git id
        "model.safetensors": sha256(data),
        "tokenizer/vocab.txt": "",
    }
    assert model.primary.path == str(blob)
    assert model.primary.shown.endswith(f"snapshots/{COMMIT}/model.safetensors")


def test_each_quantisation_is_a_model_and_a_projector_goes_with_each(tmp_path: Path) -> None:
    for number, name in enumerate(["x.Q4_K_M.gguf", "x.Q8_0-00001-of-00002.gguf", "x.Q8_0-00002-of-00002.gguf"]):
        hf_file(tmp_path, "acme/X-GGUF", name, gguf(number))
    hf_file(tmp_path, "acme/X-GGUF", "mmproj-F16.gguf", gguf(9))
    hf_file(tmp_path, "acme/X-GGUF", "config.json", b"{}", large=False)
    found = {model.name: sorted(file.name for file in model.files) for model in read(tmp_path).models}
    assert found == {
        "acme/X-GGUF/x.Q4_K_M": ["mmproj-F16.gguf", "x.Q4_K_M.gguf"],
        "acme/X-GGUF/x.Q8_0": ["mmproj-F16.gguf", "x.Q8_0-00001-of-00002.gguf", "x.Q8_0-00002-of-00002.gguf"],
    }


def test_revisions_share_blobs_and_keep_their_names(tmp_path: Path) -> None:
    for commit in (COMMIT, OTHER):
        hf_file(tmp_path, "acme/Rocket", "rocket.gguf", gguf(1), commit=commit)
    write(tmp_path / REPO / "refs" / "pr" / "1", COMMIT.encode())
    first, second = read(tmp_path).models
    assert (first.refs, second.refs) == (("pr/1",), ("main",))
    assert first.primary.inode == second.primary.inode
    assert first.id != second.id


def test_a_set_of_shards_that_is_not_whole_says_so(tmp_path: Path) -> None:
    hf_file(tmp_path, "acme/Rocket", "model-00001-of-00003.safetensors", gguf(1))
    hf_file(tmp_path, "acme/Rocket", "config.json", b"{}", large=False)
    (model,) = read(tmp_path).models
    assert model.problem == "2 of 3 parts are missing"


def test_the_id_stays_when_the_store_grows(tmp_path: Path) -> None:
    hf_file(tmp_path, "acme/Rocket", "rocket.gguf", gguf(1))
    before = read(tmp_path).models[0].id
    hf_file(tmp_path, "acme/Anvil", "anvil.gguf", gguf(2))
    assert before in {model.id for model in read(tmp_path).models}


def test_a_repository_that_was_moved_to_another_drive_is_read(tmp_path: Path) -> None:
    hf_file(tmp_path / "drive", "acme/Rocket", "rocket.gguf", gguf(1))
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / REPO).symlink_to(tmp_path / "drive" / REPO)
    assert names(read(tmp_path / "hub").models) == ["acme/Rocket"]


def test_without_links_the_files_are_taken_and_nothing_is_claimed(tmp_path: Path) -> None:
    write(tmp_path / REPO / "snapshots" / COMMIT / "rocket.gguf", gguf(1))
    (model,) = read(tmp_path).models
    assert model.primary.claimed_sha256 == ""


def shared_blob(cache: Path, name: str, data: bytes, *, at: str | None = None) -> None:
    """As huggingface-hub 2 does: the repository's blob is a link into the cache-wide store, named by another hash."""
    blob = hf_file(cache, "acme/Rocket", name, data)
    xet = "c" * 64
    blob.unlink()
    store = write(cache / (at or f"blobs/{xet[:2]}/{xet}"), data)
    blob.symlink_to(os.path.relpath(store, blob.parent))


def test_a_blob_in_the_cache_wide_store_keeps_the_claim_of_its_own_name(tmp_path: Path) -> None:
    shared_blob(tmp_path, "rocket.gguf", gguf(1))
    (model,) = read(tmp_path).models
    assert model.primary.claimed_sha256 == sha256(gguf(1))
    assert model.primary.path == str(tmp_path / "blobs" / "cc" / ("c" * 64))


def link_out(cache: Path) -> None:
    secret = write(cache.parent / "secret.gguf", gguf(7))
    link = cache / REPO / "snapshots" / COMMIT / "stolen.gguf"
    link.symlink_to(os.path.relpath(secret, link.parent))


def absolute_link_out(cache: Path) -> None:
    secret = write(cache.parent / "secret.gguf", gguf(7))
    (cache / REPO / "snapshots" / COMMIT / "stolen.gguf").symlink_to(secret)


def link_to_another_repository(cache: Path) -> None:
    blob = hf_file(cache, "acme/Anvil", "anvil.gguf", gguf(7))
    link = cache / REPO / "snapshots" / COMMIT / "stolen.gguf"
    link.symlink_to(os.path.relpath(blob, link.parent))


def blob_that_links_out(cache: Path) -> None:
    secret = write(cache.parent / "secret.gguf", gguf(7))
    blob = cache / REPO / "blobs" / sha256(gguf(7))
    blob.symlink_to(secret)
    link = cache / REPO / "snapshots" / COMMIT / "stolen.gguf"
    link.symlink_to(os.path.relpath(blob, link.parent))


def shared_blob_elsewhere(cache: Path) -> None:
    shared_blob(cache, "stolen.gguf", gguf(7), at="blobs/dd/" + "c" * 64)


def fifo_blob(cache: Path) -> None:
    blob = hf_file(cache, "acme/Rocket", "stolen.gguf", gguf(7))
    blob.unlink()
    os.mkfifo(blob)


def folder_blob(cache: Path) -> None:
    blob = hf_file(cache, "acme/Rocket", "stolen.gguf", gguf(7))
    blob.unlink()
    blob.mkdir()


def broken_link(cache: Path) -> None:
    hf_file(cache, "acme/Rocket", "stolen.gguf", gguf(7)).unlink()


def link_to_folder(cache: Path) -> None:
    (cache.parent / "elsewhere").mkdir()
    write(cache.parent / "elsewhere" / "stolen.gguf", gguf(7))
    (cache / REPO / "snapshots" / COMMIT / "sub").symlink_to(cache.parent / "elsewhere")


def loop(cache: Path) -> None:
    (cache / REPO / "snapshots" / COMMIT / "stolen.gguf").symlink_to("stolen.gguf")


def incomplete(cache: Path) -> None:
    write(cache / REPO / "blobs" / f"{'d' * 64}.incomplete", b"half")


def unused(cache: Path) -> None:
    write(cache / REPO / "blobs" / ("d" * 64), b"x" * 1000)


def odd_blob_name(cache: Path) -> None:
    write(cache / REPO / "blobs" / "not-a-digest", b"x")


def not_a_commit(cache: Path) -> None:
    write(cache / REPO / "snapshots" / "main" / "stolen.gguf", gguf(7))


def bad_ref(cache: Path) -> None:
    write(cache / REPO / "refs" / "other", b"../../etc/passwd")


def huge_ref(cache: Path) -> None:
    with write(cache / REPO / "refs" / "other", b"").open("wb") as file:
        file.truncate(2**40)


def not_utf8(cache: Path) -> None:
    snapshot = os.fsencode(cache / REPO / "snapshots" / COMMIT)
    os.symlink(b"../../blobs/x", snapshot + b"/stolen-\xff.gguf")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (link_out, ["outside"]),
        (absolute_link_out, ["outside"]),
        (link_to_another_repository, ["outside"]),
        (blob_that_links_out, ["broken_link", "outside"]),
        (shared_blob_elsewhere, ["broken_link", "outside"]),
        (fifo_blob, ["broken_link", "special_file"]),
        (folder_blob, ["broken_link", "special_file"]),
        (broken_link, ["broken_link"]),
        (link_to_folder, ["outside"]),
        (loop, ["outside"]),
        (incomplete, ["incomplete"]),
        (unused, ["unused"]),
        (odd_blob_name, ["unusable_name"]),
        (not_a_commit, ["bad_manifest"]),
        (bad_ref, ["bad_manifest"]),
        (huge_ref, ["bad_manifest"]),
        (not_utf8, ["unusable_name"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_is_wrong_is_told_and_never_followed(
    tmp_path: Path, spoil: Callable[[Path], None], said: list[str]
) -> None:
    cache = tmp_path / "hub"
    hf_file(cache, "acme/Rocket", "rocket.gguf", gguf(1))
    spoil(cache)
    store = read(cache)
    assert kinds(store) == said
    rocket = next(model for model in store.models if model.repo_id == "acme/Rocket")
    assert [file.name for file in rocket.files] == ["rocket.gguf"]
    assert all(problem.message.isprintable() and problem.path.isprintable() for problem in store.problems)


@pytest.mark.parametrize("name", ["models--", "models--..", "models---x", "models--a b", "datasets--x"])
def test_odd_folders_are_no_repositories(tmp_path: Path, name: str) -> None:
    write(tmp_path / name / "snapshots" / COMMIT / "rocket.gguf", gguf(1))
    assert read(tmp_path).models == []


def test_a_repository_that_leads_to_itself_hides_nothing(tmp_path: Path) -> None:
    hf_file(tmp_path, "acme/Rocket", "rocket.gguf", gguf(1))
    (tmp_path / "models--acme--Loop").symlink_to("models--acme--Loop")
    assert [model.repo_id for model in read(tmp_path).models] == ["acme/Rocket"]


SAFE = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=30).filter(
    lambda text: text not in (".", "..")
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    repo=SAFE, file=SAFE, target=st.one_of(SAFE, st.sampled_from(["../../blobs/x", "/etc/passwd", "../../../..", "."]))
)
def test_no_name_and_no_link_makes_it_fail(
    tmp_path_factory: pytest.TempPathFactory, repo: str, file: str, target: str
) -> None:
    cache = tmp_path_factory.mktemp("hub")
    snapshot = cache / f"models--{repo}" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    os.symlink(target, snapshot / file)
    store = read(cache)
    assert store.models == []
    assert all(problem.path.isprintable() for problem in store.problems)
