"""Folders of LM Studio, ComfyUI, A1111 and other libraries: which files are one model, and which links are followed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from library.model_disk import make_model
from pumas.adoption.found import MAX_DEPTH, Look, Store, StoreKind
from pumas.adoption.trees import read_tree

from .stores import gguf, kinds, names, sha256, write


def read(root: Path, kind: StoreKind = StoreKind.FOLDER, look: Look | None = None) -> Store:
    return read_tree(look or Look(), kind, os.path.realpath(root))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["acme/X-GGUF/x.Q4.gguf"], {"acme/X-GGUF/x.Q4": 1}),
        (["acme/X/x.Q4.gguf", "acme/X/x.Q8.gguf"], {"acme/X/x.Q4": 1, "acme/X/x.Q8": 1}),
        (["acme/X/x.gguf", "acme/X/mmproj-x.gguf"], {"acme/X/x": 2}),
        (["acme/X/x-00001-of-00002.gguf", "acme/X/x-00002-of-00002.gguf"], {"acme/X/x": 2}),
        (["acme/X/config.json", "acme/X/model.safetensors", "acme/X/vae/v.safetensors"], {"acme/X": 3}),
        (["acme/X/config.json", "acme/X/notes.txt"], {}),
        (["x.safetensors", "x.preview.png", "x.txt"], {"x": 1}),
        (["a/b/c/d/deep.ckpt"], {"a/b/c/d/deep": 1}),
        (["acme/X/x.gguf", "acme/X/x.safetensors"], {"acme/X/x.gguf": 1, "acme/X/x.safetensors": 1}),
        (["acme/X/.hidden/x.gguf", "acme/X/x.gguf.part", "acme/X/x.gguf.lock"], {}),
        (["mmproj-only.gguf"], {"mmproj-only": 1}),
    ],
)
def test_which_files_are_one_model(tmp_path: Path, files: list[str], expected: dict[str, int]) -> None:
    for number, name in enumerate(files):
        write(tmp_path / name, gguf(number))
    store = read(tmp_path)
    assert {model.name: len(model.files) for model in store.models} == expected
    assert len({model.id for model in store.models}) == len(expected)


@pytest.mark.parametrize(
    ("folder", "kind", "subtype", "model_type"),
    [
        ("checkpoints", StoreKind.COMFYUI, "checkpoints", "diffusion"),
        ("loras/flux", StoreKind.COMFYUI, "loras", "diffusion"),
        ("Stable-diffusion", StoreKind.WEBUI, "checkpoints", "diffusion"),
        ("LyCORIS", StoreKind.WEBUI, "loras", "diffusion"),
        ("something", StoreKind.COMFYUI, "", ""),
        ("loras/flux", StoreKind.LM_STUDIO, "", ""),
    ],
)
def test_a_folder_of_an_image_program_says_what_lies_in_it(
    tmp_path: Path, folder: str, kind: StoreKind, subtype: str, model_type: str
) -> None:
    write(tmp_path / folder / "x.safetensors", gguf(1))
    (model,) = read(tmp_path, kind).models
    assert (model.subtype, model.model_type) == (subtype, model_type)


def test_the_owner_and_repository_of_lm_studio_are_kept(tmp_path: Path) -> None:
    write(tmp_path / "acme" / "X-GGUF" / "x.gguf", gguf(1))
    assert read(tmp_path, StoreKind.LM_STUDIO).models[0].repo_id == "acme/X-GGUF"


def test_a_link_to_a_file_is_followed_to_the_file(tmp_path: Path) -> None:
    blob = write(tmp_path / "blobs" / "sha256-x", gguf(1))
    link = tmp_path / "models" / "acme" / "X" / "x.gguf"
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    (model,) = read(tmp_path / "models").models
    assert (model.primary.path, model.primary.shown) == (str(blob), str(link))


def test_a_linked_folder_is_followed_right_below_the_top_only(tmp_path: Path) -> None:
    for name in ("drive", "other"):
        write(tmp_path / name / f"{name}.gguf", gguf(1))
    models = tmp_path / "models"
    (models / "deep").mkdir(parents=True)
    (models / "checkpoints").symlink_to(tmp_path / "drive")
    (models / "deep" / "linked").symlink_to(tmp_path / "other")
    store = read(models)
    assert names(store.models) == ["checkpoints/drive"]
    assert kinds(store) == ["link_to_folder"]


@pytest.mark.parametrize("target", [".", "..", "/"])
def test_a_link_to_where_it_lies_is_no_way_round(tmp_path: Path, target: str) -> None:
    write(tmp_path / "models" / "x.gguf", gguf(1))
    (tmp_path / "models" / "again").symlink_to(target)
    store = read(tmp_path / "models")
    assert (names(store.models), kinds(store)) == (["x"], ["link_to_folder"])


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "gone.gguf").symlink_to("nowhere")
    (tmp_path / "device.gguf").symlink_to("/dev/zero")
    (tmp_path / "passwd.json").symlink_to("/etc/passwd")
    store = read(tmp_path)
    assert store.models == []
    assert kinds(store) == ["broken_link", "special_file", "special_file"]


@pytest.mark.parametrize("control", [".aria2", ".st"])
def test_what_another_program_is_still_writing_is_told_and_not_offered(tmp_path: Path, control: str) -> None:
    for name in ("whole.gguf", "half.gguf", f"half.gguf{control}"):
        write(tmp_path / name, b"GGUF")
    store = read(tmp_path)
    assert (names(store.models), kinds(store)) == (["whole"], ["incomplete"])
    assert f"half.gguf{control}" in store.problems[0].message


def test_depth_and_number_are_bounded(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(MAX_DEPTH + 5):
        deep = deep / "d"
    write(deep / "x.gguf", gguf(1))
    assert kinds(read(tmp_path)) == ["limit"]
    for number in range(20):
        write(tmp_path / "many" / f"{number}.gguf", b"x")
    assert read(tmp_path, look=Look(entries=10)).truncated


def test_another_library_brings_what_it_knows(tmp_path: Path) -> None:
    data = gguf(1)
    make_model(tmp_path, "llm/llama/Rocket", {"rocket.gguf": data, "tokenizer.json": b"{}"}, subtype="", family="llama")
    write(tmp_path / "llm" / "llama" / "Rocket" / "metadata.json.bak", b"{}")
    make_model(tmp_path, "llm/llama/Away", {}, references=[{"name": "x"}])
    write(tmp_path / "llm" / "llama" / "Broken" / "metadata.json", b"{")
    write(tmp_path / ".trash" / "1" / "model" / "old.gguf", gguf(2))
    store = read(tmp_path, StoreKind.PUMAS)
    (model,) = store.models
    assert (model.name, model.title, model.family, model.model_type) == ("llm/llama/Rocket", "Rocket", "llama", "llm")
    assert sorted(file.name for file in model.files) == ["rocket.gguf", "tokenizer.json"]
    assert kinds(store) == ["bad_manifest", "outside"]


@pytest.mark.parametrize(
    ("metadata", "claimed"),
    [
        ({"files": [{"name": "x.gguf", "size": 1, "sha256": "a" * 64}]}, "a" * 64),
        (
            {"files": [{"name": "x.gguf", "size": 1}], "primary_file": "x.gguf", "hashes": {"sha256": "b" * 64}},
            "b" * 64,
        ),
        ({"files": [{"name": "x.gguf", "sha256": "../../etc"}], "hashes": 5}, ""),
    ],
)
def test_what_another_library_hashed_is_a_claim(tmp_path: Path, metadata: dict[str, object], claimed: str) -> None:
    write(tmp_path / "a" / "x.gguf", gguf(1))
    write(
        tmp_path / "a" / "metadata.json", json.dumps({"official_name": "x", "model_type": "llm", **metadata}).encode()
    )
    (model,) = read(tmp_path, StoreKind.PUMAS).models
    assert model.primary.claimed_sha256 == claimed
    assert sha256(gguf(1)) != claimed
