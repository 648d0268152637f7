"""Ollama's manifests are claims: nothing in one becomes a path before it was matched, and nothing bad ends the scan."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pumas.adoption.found import Look, Store
from pumas.adoption.ollama import read_store

from .stores import gguf, kinds, names, ollama_model, sha256, write

LIBRARY = "registry.ollama.ai/library"
LAYER = "application/vnd.ollama.image.model"


def read(root: Path) -> Store:
    return read_store(Look(), os.path.realpath(root))


@pytest.mark.parametrize(
    ("place", "name", "title", "repo_id"),
    [
        (f"{LIBRARY}/rocket/latest", "rocket:latest", "rocket", None),
        (f"{LIBRARY}/rocket/7b-q4_K_M", "rocket:7b-q4_K_M", "rocket-7b-q4_K_M", None),
        ("registry.ollama.ai/acme/rocket/latest", "acme/rocket:latest", "rocket", None),
        ("hf.co/acme/Rocket-GGUF/Q4_K_M", "hf.co/acme/Rocket-GGUF:Q4_K_M", "Rocket-GGUF-Q4_K_M", "acme/Rocket-GGUF"),
    ],
)
def test_names_as_the_program_shows_them(
    tmp_path: Path, place: str, name: str, title: str, repo_id: str | None
) -> None:
    blob = ollama_model(tmp_path, place, gguf(1))
    (model,) = read(tmp_path).models
    assert (model.name, model.title, model.repo_id) == (name, title, repo_id)
    assert [(f.name, f.path, f.claimed_sha256) for f in model.files] == [(f"{title}.gguf", str(blob), sha256(gguf(1)))]
    assert model.format == "gguf"


def test_layers_become_files_beside_the_model(tmp_path: Path) -> None:
    extra = {"license": b"MIT", "template": b"{{ .Prompt }}", "params": b"{}", "projector": gguf(2), "messages": b"[]"}
    ollama_model(tmp_path, f"{LIBRARY}/rocket/latest", gguf(1), extra=extra)
    (model,) = read(tmp_path).models
    assert sorted(file.name for file in model.files) == [
        "LICENSE",
        "mmproj-rocket.gguf",
        "params.json",
        "rocket.gguf",
        "template.txt",
    ]


def test_two_tags_of_the_same_bytes_are_two_models_of_one_file(tmp_path: Path) -> None:
    for tag in ("latest", "7b"):
        ollama_model(tmp_path, f"{LIBRARY}/rocket/{tag}", gguf(1))
    first, second = read(tmp_path).models
    assert first.primary.inode == second.primary.inode


def layers(*found: Any) -> bytes:
    return json.dumps({"layers": list(found)}).encode()


def digest(text: str, size: object = 1) -> bytes:
    return layers({"mediaType": LAYER, "digest": text, "size": size})


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (b"", ["bad_manifest"]),
        (b"{", ["bad_manifest"]),
        (b"[]", ["bad_manifest"]),
        (b"null", ["bad_manifest"]),
        (b"[" * 100_000, ["bad_manifest"]),
        (b'{"layers": "x"}', ["incomplete"]),
        (b'{"layers": [1, null, "x", [], {}]}', ["incomplete"]),
        (b"{}", ["incomplete"]),
        (digest("sha256:../../../../etc/passwd"), ["bad_manifest", "incomplete"]),
        (digest("sha256:" + "A" * 64), ["bad_manifest", "incomplete"]),
        (digest("sha256:" + "a" * 64 + "\n"), ["bad_manifest", "incomplete"]),
        (digest("sha256:" + "a" * 65), ["bad_manifest", "incomplete"]),
        (digest("sha512:" + "a" * 64), ["bad_manifest", "incomplete"]),
        (digest("sha256:" + "a" * 64), ["broken_link", "incomplete"]),
        (layers({"mediaType": LAYER, "digest": 5, "size": 1}), ["bad_manifest", "incomplete"]),
        (layers({"mediaType": 5, "digest": "x", "size": 1}), ["incomplete"]),
        (layers({"mediaType": "application/vnd.ollama.image.tensor", "digest": "x"}), ["incomplete"]),
        (b" " * (1024 * 1024 + 1), ["bad_manifest"]),
    ],
)
def test_a_bad_manifest_is_told_and_the_others_are_read(tmp_path: Path, manifest: bytes, said: list[str]) -> None:
    ollama_model(tmp_path, f"{LIBRARY}/rocket/latest", gguf(1))
    write(tmp_path / "manifests" / LIBRARY / "bad" / "latest", manifest)
    store = read(tmp_path)
    assert names(store.models) == ["rocket:latest"]
    assert kinds(store) == said


def wrong_size(root: Path) -> None:
    data = gguf(2)
    write(root / "blobs" / f"sha256-{sha256(data)}", data)
    write(root / "manifests" / LIBRARY / "bad" / "latest", digest(f"sha256:{sha256(data)}", len(data) + 1))


def linked_blob(root: Path) -> None:
    secret = write(root.parent / "secret", b"x")
    (root / "blobs" / ("sha256-" + "e" * 64)).symlink_to(secret)
    write(root / "manifests" / LIBRARY / "bad" / "latest", digest("sha256:" + "e" * 64))


def fifo_blob(root: Path) -> None:
    os.mkfifo(root / "blobs" / ("sha256-" + "e" * 64))
    write(root / "manifests" / LIBRARY / "bad" / "latest", digest("sha256:" + "e" * 64, 0))


def partial(root: Path) -> None:
    for ending in ("-partial", "-partial-0"):
        write(root / "blobs" / f"sha256-{'e' * 64}{ending}", b"x")


def fifo_manifest(root: Path) -> None:
    (root / "manifests" / LIBRARY / "bad").mkdir()
    os.mkfifo(root / "manifests" / LIBRARY / "bad" / "latest")


def linked_manifest(root: Path) -> None:
    secret = write(root.parent / "secret", b"{}")
    (root / "manifests" / LIBRARY / "rocket" / "stolen").symlink_to(secret)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (wrong_size, ["incomplete", "wrong_size"]),
        (linked_blob, ["incomplete", "special_file"]),
        (fifo_blob, ["incomplete", "special_file"]),
        (partial, ["incomplete"]),
        (fifo_manifest, ["special_file"]),
        (linked_manifest, ["special_file"]),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, spoil: Callable[[Path], None], said: list[str]) -> None:
    root = tmp_path / "store"
    ollama_model(root, f"{LIBRARY}/rocket/latest", gguf(1))
    spoil(root)
    store = read(root)
    assert kinds(store) == said
    assert names(store.models) == ["rocket:latest"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
layer_values = st.fixed_dictionaries(
    {},
    optional={
        "mediaType": st.sampled_from([LAYER, "application/vnd.ollama.image.license", "x", None]) | json_values,
        "digest": st.from_regex(r"sha256:[0-9a-f/.]{60,66}") | json_values,
        "size": json_values,
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.fixed_dictionaries({"layers": st.lists(layer_values | json_values, max_size=4)}) | json_values)
def test_no_manifest_makes_it_fail_or_look_elsewhere(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    root = tmp_path_factory.mktemp("ollama")
    (root / "blobs").mkdir()
    write(root / "manifests" / LIBRARY / "any" / "latest", json.dumps(value).encode())
    store = read(root)
    assert store.models == []
    assert store.problems
