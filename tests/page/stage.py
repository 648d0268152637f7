"""What surrounds the page in its tests: a prepared library, stores of other programs, a hub and a release server.

    python tests/page/stage.py [--models N] [--empty]

Prints one line of JSON: folders, files to import, the environment for a sidecar, where the hub is steered. Runs until
stdin ends and then removes everything. The sidecar is started by the tests themselves (`electron/e2e/`).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent / "backend")]

from bench import library_maker  # noqa: E402
from fixtures.hub import Hub, HubContent, Options, Repo  # noqa: E402
from fixtures.hub.model_files import gguf_file, safetensors_file, torch_file  # noqa: E402
from fixtures.hub.repositories import usual_content  # noqa: E402
from fixtures.releases import ReleaseServer  # noqa: E402

MB = 10**6
NOW = "2026-10-{:02}T10:00:00.000001Z"
# Bytes per second of each of the hub's connections: a download of the large file takes some seconds.
RATE = 6 * MB
LARGE_REPO = "northwind/Cedar-8B-Instruct-GGUF"


@dataclass(frozen=True)
class Shown:
    """A model of the prepared library. Its files have real headers; the rest of their size is a hole."""

    model_type: str
    family: str
    name: str
    quantization: str
    size: int
    tags: tuple[str, ...] = ()
    description: str = ""
    subtype: str = ""

    @property
    def folder(self) -> str:
        return self.name.lower().replace(" ", "-").replace(".", "_") + f"-{self.quantization.lower()}"

    @property
    def file(self) -> str:
        suffix = ".gguf" if self.model_type == "llm" else ".safetensors"
        return f"{self.name.replace(' ', '-')}-{self.quantization}{suffix}"


LIBRARY = [
    Shown("llm", "llama", "Llama 3.2 1B Instruct", "Q4_K_M", 808 * MB, ("chat", "small"), "A small model for chat."),
    Shown("llm", "llama", "Llama 3.2 3B Instruct", "Q5_K_M", 2322 * MB, ("chat",), "Instruction-tuned, 128k context."),
    Shown("llm", "llama", "Llama 3.1 8B Instruct", "Q4_K_M", 4920 * MB, ("chat", "favourite"), "The everyday model."),
    Shown("llm", "llama", "Llama 3.3 70B Instruct", "IQ3_XS", 29300 * MB, ("chat", "large")),
    Shown("llm", "qwen", "Qwen2.5 7B Instruct", "Q4_K_M", 4683 * MB, ("chat", "multilingual")),
    Shown("llm", "qwen", "Qwen2.5 Coder 14B Instruct", "Q4_K_M", 8988 * MB, ("code", "favourite"), "Writes code."),
    Shown("llm", "qwen", "Qwen2.5 Coder 32B Instruct", "Q5_K_M", 23262 * MB, ("code", "large")),
    Shown("llm", "mistral", "Mistral 7B Instruct v0.3", "Q6_K", 5947 * MB, ("chat",)),
    Shown("llm", "mistral", "Mistral Small 24B Instruct", "Q4_K_M", 14334 * MB, ("chat", "tools")),
    Shown("llm", "gemma", "Gemma 2 9B it", "Q4_K_M", 5761 * MB, ("chat",)),
    Shown("llm", "gemma", "Gemma 2 27B it", "Q4_K_M", 16645 * MB, ("chat", "large")),
    Shown("llm", "phi", "Phi 4", "Q8_0", 15581 * MB, ("reasoning",), "Small, and good at sums."),
    Shown("llm", "deepseek", "DeepSeek R1 Distill Qwen 14B", "Q4_K_M", 8988 * MB, ("reasoning",)),
    Shown("diffusion", "sdxl", "SDXL Base 1.0", "fp16", 6938 * MB, ("base",), "1024 px base model.", "checkpoints"),
    Shown("diffusion", "sdxl", "SDXL Refiner 1.0", "fp16", 6076 * MB, ("refiner",), "", "checkpoints"),
    Shown("diffusion", "flux", "FLUX.1 schnell", "fp8", 11901 * MB, ("fast",), "Four steps are enough.", "checkpoints"),
    Shown("diffusion", "flux", "FLUX.1 dev", "fp8", 11902 * MB, (), "", "checkpoints"),
    Shown("diffusion", "sdxl", "Pixel Art XL", "fp16", 171 * MB, ("style",), "Pixel art for SDXL.", "loras"),
    Shown("diffusion", "sdxl", "SDXL VAE fp16 fix", "fp16", 335 * MB, (), "No black pictures in fp16.", "vae"),
    Shown("audio", "whisper", "Whisper large v3", "fp16", 3087 * MB, ("speech",), "Speech to text, 99 languages."),
    Shown("embedding", "bge", "BGE M3", "fp16", 1135 * MB, ("search", "multilingual")),
    Shown("vision", "clip", "CLIP ViT L 14", "fp16", 855 * MB, ("vision",)),
]


def write_library(library: Path, models: list[Shown]) -> None:
    library.mkdir(parents=True)
    for number, model in enumerate(models):
        folder = library / model.model_type / model.family / model.folder
        folder.mkdir(parents=True)
        _with_hole(folder / model.file, header_of(model, number), model.size)
        facts = metadata_of(model, number)
        (folder / "metadata.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
        (folder / "overrides.json").write_text("{}", encoding="utf-8")


def header_of(model: Shown, seed: int) -> bytes:
    if model.model_type == "llm":
        keys = {"general.architecture": "llama", "general.name": model.name, "llama.context_length": 131_072}
        return gguf_file("Q4_K", keys, seed=seed)
    return safetensors_file({"model.weight": ("F16", (64, 64))}, {"modelspec.title": model.name}, seed)


def metadata_of(model: Shown, number: int) -> dict[str, Any]:
    day = NOW.format(number % 28 + 1)
    return {
        "model_id": model.folder,
        "family": model.family,
        "model_type": model.model_type,
        "subtype": model.subtype,
        "official_name": f"{model.name} {model.quantization}",
        "cleaned_name": model.folder,
        "tags": list(model.tags),
        "description": model.description,
        "added_date": day,
        "updated_date": day,
        "size_bytes": model.size,
        "files": [{"name": model.file, "original_name": model.file, "size": model.size}],
    }


def _with_hole(path: Path, start: bytes, size: int) -> None:
    with path.open("wb") as file:
        file.write(start)
        file.truncate(max(size, len(start)))


def write_many(library: Path, count: int) -> None:
    """Small models without end, for lists that must stay quick."""
    for model in library_maker.models(count):
        library_maker.write(library, model)


def write_imports(folder: Path) -> dict[str, str]:
    """Files that a person drops on the page."""
    shards = {f"Birch-13B-Q4_K_M-{part:05}-of-00002.gguf": _shard(part) for part in (1, 2)}
    files: dict[str, bytes] = {
        "Aspen-3B-Instruct-Q4_K_M.gguf": gguf_file(
            "Q4_K", {"general.architecture": "llama", "general.name": "Aspen 3B Instruct"}, seed=501
        ),
        "old-style.ckpt": torch_file(seed=502),
        **shards,
    }
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: str(folder / name) for name in files}


def _shard(part: int) -> bytes:
    keys = {"general.architecture": "llama", "general.name": "Birch 13B", "split.no": part - 1, "split.count": 2}
    return gguf_file("Q4_K", keys, tensors=(f"blk.{part}.ffn_up.weight",), seed=510 + part)


def write_stores(home: Path) -> None:
    """A cache of the hub's own tools and an Ollama store; one model lies in both."""
    from adoption.stores import hf_file, ollama_model

    shared = gguf_file("Q4_K", {"general.architecture": "llama", "general.name": "Maple 7B"}, seed=601, width=1024)
    other = gguf_file("Q8_0", {"general.architecture": "llama", "general.name": "Willow 1B"}, seed=602, width=512)
    hf_file(home / ".cache/huggingface/hub", "northwind/Maple-7B-GGUF", "maple-7b-Q4_K_M.gguf", shared)
    ollama_model(home / ".ollama/models", "registry.ollama.ai/library/maple/7b", shared)
    ollama_model(home / ".ollama/models", "registry.ollama.ai/library/willow/1b", other)


def hub_content() -> HubContent:
    """The usual repositories, and one whose files are large enough to watch."""
    repo = Repo(
        LARGE_REPO,
        pipeline_tag="text-generation",
        library_name="gguf",
        license="apache-2.0",
        tags=("gguf", "llama", "conversational"),
        downloads=480_000,
        likes=1200,
        gguf={"total": 8_030_261_312, "architecture": "llama", "context_length": 131_072},
        last_modified=datetime(2026, 9, 1, 12, tzinfo=UTC),
    )
    keys = {"general.architecture": "llama", "general.name": "Cedar 8B Instruct"}
    files = {
        f"Cedar-8B-Instruct-{quant}.gguf": gguf_file(kind, keys, width=width, seed=seed)
        for seed, (quant, kind, width) in enumerate(
            [("Q2_K", "Q2_K", 256), ("Q4_K_M", "Q4_K", 4096), ("Q8_0", "Q8_0", 4096)], 701
        )
    }
    repo.commit({**files, "README.md": repo.readme()}, "Upload files")
    usual = usual_content(MB)
    return HubContent.of(*usual.repos.values(), repo)


def sidecar_environment(home: Path, hub: Hub, releases: ReleaseServer) -> dict[str, str]:
    """Nothing of this machine, and nothing outside it."""
    return {
        **hub.env(home=home / ".cache" / "huggingface"),
        **releases.environment(),
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local" / "share"),
        "UV_CACHE_DIR": str(home / ".cache" / "uv"),
        "OLLAMA_MODELS": "",
        "PUMAS_OPENER": "true",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=0, help="so many small models beside those that are shown")
    parser.add_argument("--empty", action="store_true", help="a library with no model in it")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the folder is removed then, too
    with (
        tempfile.TemporaryDirectory(prefix="pumas-stage-", ignore_cleanup_errors=True) as name,
        Hub(hub_content(), Options(connection_rate=RATE), steered=True) as hub,
        ReleaseServer() as releases,
    ):
        folder = Path(name)
        root, home = folder / "root", folder / "home"
        library = root / "shared-resources" / "models"
        home.mkdir()
        shown = [] if given.empty else LIBRARY
        write_library(library, shown)
        write_many(library, given.models)
        write_stores(home)
        facts = {
            "folder": str(folder),
            "root": str(root),
            "home": str(home),
            "hub": hub.url,
            "files": write_imports(folder / "Downloads"),
            "environment": sidecar_environment(home, hub, releases),
            "python": sys.executable,
            "models": len(shown) + given.models,
            "largeRepo": LARGE_REPO,
            "pid": os.getpid(),
        }
        print(json.dumps(facts), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
