"""Makes model libraries of any size with the statistics of real ones, the same for the same seed.

Words are made up and used by Zipf's law (few of them often, most of them seldom); names look like those of a hub
(family, two words, size, quantisation); half of the models have a description. Run it to fill a folder:

    python tests/bench/library_maker.py FOLDER COUNT [SEED]
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Model = dict[str, Any]

VOCABULARY = 20_000
MODEL_BYTES = 4096
FAMILIES = ("llama", "qwen", "mistral", "gemma", "phi", "sdxl", "flux", "deepseek", "granite", "wan", "falcon", "yi")
QUANTIZATIONS = ("Q4_K_M", "Q5_K_S", "Q6_K", "Q8_0", "IQ3_XS", "fp8", "fp16", "bf16")
SIZES = (1, 3, 7, 8, 13, 32, 70)
# Type -> (how often, subtype, extension).
TYPES = {
    "llm": (6, "", ".gguf"),
    "diffusion": (3, "checkpoints", ".safetensors"),
    "audio": (1, "", ".safetensors"),
    "vision": (1, "", ".safetensors"),
    "embedding": (1, "", ".safetensors"),
}
_HEADERS = {
    ".gguf": b"GGUF" + struct.pack("<IQQ", 3, 0, 0),
    ".safetensors": struct.pack("<Q", 8) + b"{}      ",
}


class Words:
    """A vocabulary in which the n-th word is met about 1/n as often as the first."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        syllables = ["".join(s) for s in itertools.product("bcdfghklmnprstvwz", "aeiou", ("", "n", "r", "x"))]
        words: dict[str, None] = {}
        while len(words) < VOCABULARY:
            words["".join(rng.choices(syllables, k=rng.randint(2, 3)))] = None
        self.words = list(words)
        self._weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(VOCABULARY)))

    def pick(self, count: int) -> list[str]:
        return self._rng.choices(self.words, cum_weights=self._weights, k=count)


def models(count: int, seed: int = 1) -> Iterator[Model]:
    """The metadata of `count` models. Each has `model_type`, `family` and `cleaned_name`, which make its folder."""
    rng = random.Random(seed)
    words = Words(rng)
    family_weights = [1 / (rank + 1) for rank in range(len(FAMILIES))]
    type_weights = [often for often, _, _ in TYPES.values()]
    for number in range(count):
        [family] = rng.choices(FAMILIES, family_weights)
        [model_type] = rng.choices(list(TYPES), type_weights)
        _, subtype, extension = TYPES[model_type]
        label = f"{rng.choice(SIZES)}B-{rng.choice(QUANTIZATIONS)}"
        name = f"{family}-{'-'.join(words.pick(2))}-{label}-{number:x}"
        day = f"2026-{rng.randint(1, 9):02}-{rng.randint(1, 28):02}"
        yield {
            "model_id": name,
            "family": family,
            "model_type": model_type,
            "subtype": subtype,
            "official_name": name.replace("-", " "),
            "cleaned_name": name,
            "tags": list(dict.fromkeys([*words.pick(rng.randint(0, 12)), family])),
            "description": " ".join(words.pick(rng.randint(5, 80))) if rng.random() < 0.5 else "",
            "base_model": "",
            "release_date": "",
            "download_url": f"https://huggingface.co/{words.pick(1)[0]}/{name}",
            "model_card": {},
            "hashes": {"sha256": hashlib.sha256(name.encode()).hexdigest(), "blake3": ""},
            "added_date": f"{day}T0{rng.randint(0, 9)}:00:00.000001Z",
            "updated_date": "2026-10-01T00:00:00.000001Z",
            "size_bytes": MODEL_BYTES,
            "files": [{"name": name + extension, "original_name": name + extension, "size": MODEL_BYTES}],
        }


def folder_of(model: Model) -> str:
    """The model's id: its folder below the library."""
    return f"{model['model_type']}/{model['family']}/{model['cleaned_name']}"


def write(library: Path, model: Model) -> None:
    """One model as older sidecars leave it: metadata, empty overrides, and a tiny model file."""
    folder = library / folder_of(model)
    folder.mkdir(parents=True)
    name: str = model["files"][0]["name"]
    header = _HEADERS[name[name.rindex(".") :]]
    (folder / name).write_bytes(header.ljust(MODEL_BYTES, b"\0"))
    (folder / "metadata.json").write_text(json.dumps(model, indent=2, ensure_ascii=False), encoding="utf-8")
    (folder / "overrides.json").write_text("{}", encoding="utf-8")


def queries(count: int, seed: int = 1) -> list[str]:
    """One to three words as a person types them: beginnings of 2 to 8 letters, common words more often."""
    rng = random.Random(seed)
    words = Words(rng)
    known = [*FAMILIES, *QUANTIZATIONS]
    chosen: list[str] = []
    for _ in range(count):
        picked = [w if rng.random() < 0.85 else rng.choice(known) for w in words.pick(rng.randint(1, 3))]
        chosen.append(" ".join(word[: rng.randint(2, 8)] for word in picked))
    return chosen


def main() -> None:
    folder, count, *seed = sys.argv[1:]
    for model in models(int(count), int(seed[0]) if seed else 1):
        write(Path(folder), model)


if __name__ == "__main__":
    main()
