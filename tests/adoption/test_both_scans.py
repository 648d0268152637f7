"""Stores that nobody would make, read by both backends: each finds the same models and tells the same problems."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sidecar as running
from contract.replay import differences
from contract.served import rust_is_built
from library.model_disk import make_model
from sidecar import Sidecar

from .stores import COMMIT, environment, gguf, hf_file, ollama_model, sha256, write

Launch = Callable[..., Sidecar]
# Without the Rust backend Python takes its place.
OTHER = "rust" if rust_is_built() else "python"
STORES = 60

FILES = [
    "a.gguf",
    "A.GGUF",
    "a.Q4_K_M.gguf",
    "mmproj-a.gguf",
    "m-00001-of-00002.safetensors",
    "m-00002-of-00002.safetensors",
    "m.safetensors",
    "m.bin",
    "m.v1.ckpt",
    "model.safetensors.index.json",
    "config.json",
    "params.json",
    "README.md",
    ".hidden.gguf",
    "a.gguf.part",
    "x y & ü.gguf",
    "noend",
    "two.",
    "metadata.json",
]
FOLDERS = [
    "acme",
    "X-GGUF",
    "checkpoints",
    "loras",
    "Lora",
    "Stable-diffusion",
    "models",
    "manifests",
    "blobs",
    "hub",
    "models--acme--X",
    "snapshots",
    COMMIT,
    "shared-resources",
    "__pycache__",
    "embeddings",
    "refs",
    "a.gguf",
]
METADATA = [
    "{",
    "[]",
    "{}",
    json.dumps({"official_name": "Harbor", "model_type": "llm", "files": [{"name": "a.gguf", "sha256": "a" * 64}]}),
    json.dumps({"official_name": 5, "hashes": {"sha256": "B" * 64}, "primary_file": "a.gguf", "references": []}),
    json.dumps({"official_name": "R", "hashes": None, "references": [{}]}),
]
MANIFESTS = [
    "{",
    "[]",
    '{"layers": 5}',
    '{"layers": [5, {}, {"mediaType": "application/vnd.ollama.image.model"}]}',
    '{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../x", "size": 1}]}',
    '{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:' + "0" * 64 + '", "size": 1}]}',
]


def tree(rng: random.Random, folder: Path, outside: Path, depth: int = 0) -> None:
    """Files, folders and links as they come."""
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(rng.randrange(1, 7)):
        kind = rng.random()
        if kind < 0.55:
            name = rng.choice(FILES)
            data = rng.choice(METADATA).encode() if name == "metadata.json" else gguf(rng.randrange(6))
            if not os.path.lexists(folder / name):
                (folder / name).write_bytes(data)
        elif kind < 0.85 and depth < 5:
            below = folder / rng.choice(FOLDERS)
            # Nothing is ever written through a link.
            if not os.path.lexists(below) or (below.is_dir() and not below.is_symlink()):
                tree(rng, below, outside, depth + 1)
        else:
            link(rng, folder / rng.choice([*FILES, *FOLDERS]), outside)


def link(rng: random.Random, path: Path, outside: Path) -> None:
    target = rng.choice([".", "..", "../a.gguf", path.name, "/nowhere", str(outside), str(outside / "a.gguf")])
    if not os.path.lexists(path):
        path.symlink_to(target)


def cache(rng: random.Random, folder: Path, outside: Path) -> None:
    """A Hugging Face cache in which something is wrong."""
    for number in range(rng.randrange(1, 4)):
        repo = rng.choice(["acme/X", "gpt2", "acme/Y-GGUF", "a-b/c.d"])
        commit = rng.choice([COMMIT, "b" * 40, "c" * 64])
        name = rng.choice([*FILES[:14], "sub/a.gguf", "sub/config.json"])
        path = folder / f"models--{repo.replace('/', '--')}"
        if not os.path.lexists(path / "snapshots" / commit / name):
            hf_file(folder, repo, name, gguf(number), commit=commit, large=rng.random() < 0.7)
        snapshot = path / "snapshots" / commit
        for place in ("snapshots/odd", "blobs/odd", f"blobs/{'d' * 64}.incomplete", f"blobs/{'e' * 64}", "refs/pr/1"):
            if rng.random() < 0.3:
                write(path / place, rng.choice([b"x", commit.encode(), f"{commit}\n".encode(), b"\xff"]))
        if rng.random() < 0.5:
            link(rng, snapshot / "linked.gguf", outside)
        if rng.random() < 0.3:
            link(rng, path / "blobs" / ("f" * 64), outside)
        if rng.random() < 0.2:
            shared = write(folder / "blobs" / "ab" / ("ab" * 32), gguf(3))
            blob = path / "blobs" / ("1" * 64)
            if not os.path.lexists(blob):
                blob.symlink_to(shared)
                (snapshot / "shared.gguf").symlink_to(blob)
    link(rng, folder / rng.choice(["models--acme--Link", "models--", "models--a b", "models--loop"]), outside)


def ollama(rng: random.Random, folder: Path, _outside: Path) -> None:
    """An Ollama store in which something is wrong."""
    for number in range(rng.randrange(1, 4)):
        registry = rng.choice(["registry.ollama.ai/library", "registry.ollama.ai/acme", "hf.co/acme", "other/ns"])
        extra = {"license": b"MIT", "projector": gguf(9), "params": b"{}", "messages": b"x"}
        chosen = {key: extra[key] for key in extra if rng.random() < 0.5}
        ollama_model(folder, f"{registry}/m{number}/{rng.choice(['latest', '8b', 'q 4'])}", gguf(number), extra=chosen)
    for name in ("r/n/m/t", "r/n/m/u", "r/n/m/deep/er", ".hidden/n/m/t", "r/.n", "r/n/file"):
        if rng.random() < 0.5:
            write(folder / "manifests" / name, rng.choice(MANIFESTS).encode())
    blob = sha256(gguf(0))
    for name in (f"sha256-{blob}-partial", f"sha256-{blob}-partial-1", "sha256-x-partial"):
        if rng.random() < 0.5:
            write(folder / "blobs" / name, b"x")
    if rng.random() < 0.3 and (folder / "blobs" / f"sha256-{blob}").exists():
        (folder / "blobs" / f"sha256-{blob}").write_bytes(b"cut")


def strange(rng: random.Random, folder: Path, outside: Path) -> None:
    make = rng.choice([tree, tree, cache, ollama])
    make(rng, folder, outside)
    if rng.random() < 0.2:
        (Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.gguf"))).write_bytes(b"x")
    if rng.random() < 0.2:
        os.mkfifo(folder / "pipe.gguf")


def found(server: Sidecar, params: dict[str, Any]) -> Any:
    reply = server.result("scan_model_stores", params)
    return {key: value for key, value in reply.items() if key not in ("job_id", "seconds")}


@pytest.fixture
def both(launch: Launch, tmp_path: Path) -> list[Sidecar]:
    """Two launchers that look at one home, whose Pumas libraries are each other's."""
    home = environment(tmp_path / "home")
    return [
        launch(root=tmp_path / f"root-{number}", env={**home, running.RUST_SWITCH: "1" if backend == "rust" else "0"})
        for number, backend in enumerate(("python", OTHER))
    ]


@pytest.mark.parametrize("seed", range(3))
def test_any_folder_holds_the_same_for_both(both: list[Sidecar], tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    outside = tmp_path / "outside"
    tree(rng, outside, outside / "none", depth=4)
    models = problems = 0
    for number in range(STORES):
        folder = tmp_path / "stores" / str(number)
        strange(rng, folder, outside)
        python, other = (found(server, {"folders": [str(folder)], "known": False}) for server in both)
        assert differences(python, other) == [], f"store {number} of seed {seed}"
        models += sum(len(store["models"]) for store in python["stores"])
        problems += sum(len(store["problems"]) for store in python["stores"])
    folders = [str(tmp_path / "stores" / str(number)) for number in range(STORES)]
    python, other = (found(server, {"folders": folders, "known": False}) for server in both)
    assert differences(python, other) == [], f"all stores of seed {seed} at once"
    assert models > STORES, "there was something to find"
    assert problems > STORES, "there was something wrong"
    assert python["repeated"]


EXTRA = """
drive:
  base_path: {drive}
  is_default: true
  checkpoints: sd
  loras: |
    l1
    l2
again: &again
  base_path: drive
  vae: v
merged:
  <<: *again
  clip: "c"
"""


def test_programs_are_found_by_the_same_rules(both: list[Sidecar], tmp_path: Path) -> None:
    home = tmp_path / "home"
    hf_file(home / ".cache/huggingface/hub", "acme/Rocket", "rocket.gguf", gguf(1))
    ollama_model(home / ".ollama/models", "registry.ollama.ai/library/rocket/latest", gguf(1))
    write(home / ".lmstudio-home-pointer", f"{home}/lms\n".encode())
    write(home / "lms/settings.json", json.dumps({"downloadsFolder": str(home / "downloads")}).encode())
    for name in (
        "lms/models/acme/A/a.gguf",
        "downloads/acme/B/b.gguf",
        "ComfyUI/models/loras/l.safetensors",
        "ComfyUI/drive/v/v.safetensors",
        "ComfyUI/drive/c/c.safetensors",
        "drive/sd/s.ckpt",
        "drive/l1/l.safetensors",
        "drive/l2/l.safetensors",
        "stable-diffusion-webui/models/Lora/x.safetensors",
        "stable-diffusion-webui/embeddings/e.pt",
        "d/pumas/shared-resources/models/llm/a/A/a.gguf",
    ):
        write(home / name, gguf(len(name)))
    write(home / "ComfyUI/extra_model_paths.yaml", EXTRA.format(drive=home / "drive").encode())
    python, other = (found(server, {}) for server in both)
    assert differences(python, other) == []
    kinds = [store["kind"] for store in python["stores"] if store["path"].startswith(str(tmp_path))]
    assert kinds == [
        *("huggingface", "ollama", "lm_studio", "lm_studio"),
        *["comfyui"] * 6,
        *("webui", "webui", "pumas"),
    ]


def test_what_a_version_of_ours_has_from_the_library_is_a_find_for_neither(both: list[Sidecar], tmp_path: Path) -> None:
    def own_versions(server: Sidecar) -> list[list[str]]:
        stores = [store for store in found(server, {})["stores"] if "comfyui-versions" in store["path"]]
        return [[model["name"] for model in store["models"]] for store in stores]

    for number, server in enumerate(both):
        root = tmp_path / f"root-{number}"
        library = root / "shared-resources" / "models"
        make_model(library, "llm/a/mine", {"mine.safetensors": gguf(1)}, primary_file="mine.safetensors")
        server.result("refresh_model_index", {})
        folder = root / "comfyui-versions" / "v1" / "models" / "checkpoints"
        folder.mkdir(parents=True)
        (folder / "mine.safetensors").symlink_to(library / "llm/a/mine/mine.safetensors")
        assert own_versions(server) == []
        write(folder / "own.safetensors", gguf(2))
        assert own_versions(server) == [["checkpoints/own"]]
