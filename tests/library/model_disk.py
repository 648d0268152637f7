"""Model files and libraries for tests, an index that reads the disk, and the walk that says what is where."""

from __future__ import annotations

import hashlib
import json
import os
import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pumas.storage.files import disk_errors


def gguf(seed: int = 1, size: int = 4096, architecture: str = "llama") -> bytes:
    """A small GGUF file with one metadata key and no tensors, filled up with bytes that depend on `seed`."""
    key, value = b"general.architecture", architecture.encode()
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)
    head += struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(value)) + value
    return head + random.Random(seed).randbytes(max(0, size - len(head)))


def safetensors(
    seed: int = 1, size: int = 4096, names: Sequence[str] = ("model.layers.0.self_attn.q_proj.weight",)
) -> bytes:
    """A valid safetensors file whose last tensor takes what is left of `size`."""
    data = random.Random(seed).randbytes(max(8, size - 512))
    share = len(data) // len(names)
    header: dict[str, Any] = {}
    for i, name in enumerate(names):
        end = len(data) if i == len(names) - 1 else (i + 1) * share
        header[name] = {"dtype": "U8", "shape": [end - i * share], "data_offsets": [i * share, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def pickle_bytes(seed: int = 1, size: int = 2048) -> bytes:
    import pickle

    return pickle.dumps({"weight": random.Random(seed).randbytes(size)}, protocol=2)


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_model(library: Path, model_id: str, files: dict[str, bytes] | None = None, /, **metadata: Any) -> Path:
    """A model as an older sidecar leaves it, unless `metadata` says more."""
    folder = library / model_id
    files = {"model.gguf": gguf(hash(model_id) % 1000)} if files is None else files
    for name, data in files.items():
        write(folder / name, data)
    largest = max(files.values(), key=len, default=b"")
    kind, family, name = (*model_id.split("/"), "", "")[:3]
    value = {
        "model_id": name,
        "family": family,
        "model_type": kind,
        "official_name": name,
        "cleaned_name": name,
        "tags": ["old"],
        "hashes": {"sha256": sha256(largest), "blake3": ""},
        "size_bytes": sum(map(len, files.values())),
        "files": [{"name": n, "original_name": n, "size": len(d)} for n, d in files.items()],
        "x_unknown": {"kept": [1, 2, 3]},
    }
    write(folder / "metadata.json", json.dumps({**value, **metadata}, indent=2).encode())
    write(folder / "overrides.json", b"{}")
    return folder


def tree(root: Path) -> dict[str, str]:
    """Every file and link below `root`, dot folders included: relative path -> SHA-256, or `-> target`."""
    found: dict[str, str] = {}
    for folder, folders, names in os.walk(root):
        for name in [*names, *(f for f in folders if os.path.islink(os.path.join(folder, f)))]:
            path = Path(folder, name)
            key = os.fsencode(path.relative_to(root)).decode("utf-8", "backslashreplace")
            if path.is_symlink():
                found[key] = f"-> {os.readlink(path)}"
            else:
                found[key] = sha256(path.read_bytes()) if path.is_file() else "special"
    return found


class DiskIndex:
    """Answers from the metadata files themselves, and remembers what it was told."""

    def __init__(self, library: Path) -> None:
        self.library = library
        self.refreshed: list[str] = []
        self.removed: list[str] = []

    def refresh(self, model_ids: Sequence[str]) -> None:
        self.refreshed += model_ids

    def remove(self, model_ids: Sequence[str]) -> None:
        self.removed += model_ids

    def model_ids(self) -> list[str]:
        with disk_errors("Reading the library"):
            return sorted(
                path.parent.relative_to(self.library).as_posix()
                for path in self.library.rglob("metadata.json")
                if not any(part.startswith(".") for part in path.relative_to(self.library).parts)
            )

    def contains(self, model_id: str) -> bool:
        return model_id in self.model_ids()

    def find_by_sha256(self, digest: str) -> list[str]:
        return [i for i in self.model_ids() if self._metadata(i).get("hashes", {}).get("sha256") == digest]

    def find_by_size(self, primary_size: int) -> list[str]:
        return [
            i
            for i in self.model_ids()
            if any(f.get("size") in (primary_size, None) for f in self._metadata(i).get("files", []))
        ]

    def duplicated(self) -> list[str]:
        digests = {i: self._metadata(i).get("hashes", {}).get("sha256") for i in self.model_ids()}
        return [i for i, digest in digests.items() if digest and list(digests.values()).count(digest) > 1]

    def _metadata(self, model_id: str) -> dict[str, Any]:
        try:
            return json.loads((self.library / model_id / "metadata.json").read_bytes())
        except (OSError, ValueError):
            return {}
