"""What kind of model both backends take what they find for: config.json and model_index.json are asked too, and a
projector is never the model, however large it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sidecar as running
from contract.served import rust_is_built
from fixtures.hub.model_files import gguf_file, safetensors_file
from sidecar import Sidecar

from .stores import environment, hf_file, write

BACKENDS = ("python", *(("rust",) if rust_is_built() else ()))

ENCODER = {f"model.encoder.layers.{number}.self_attn.q_proj.weight": ("F32", (16, 16)) for number in range(3)}
TEXT = {f"encoder.layer.{number}.attention.self.query.weight": ("F32", (64, 64)) for number in range(3)}
IMAGE = {"conv_in.weight": ("F32", (16, 16)), "down_blocks.0.resnets.0.conv1.weight": ("F32", (16, 16))}


def model(seed: int = 0) -> bytes:
    return gguf_file("Q4_K", {"general.architecture": "llama"}, seed=seed)


def projector() -> bytes:
    """Of a small model, so larger than that."""
    return gguf_file("F16", {"general.architecture": "clip"}, width=512)


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest, launch: Callable[..., Sidecar], tmp_path: Path) -> Sidecar:
    switch = "1" if request.param == "rust" else "0"
    return launch(env={**environment(tmp_path / "home"), running.RUST_SWITCH: switch})


def adopted(server: Sidecar, home: Path) -> dict[str, Any]:
    """All that the stores hold, by name: (its label, the folder that it is adopted into)."""
    scan = server.result("scan_model_stores", {})
    assert not scan["pending"]
    models = [one for store in scan["stores"] for one in store["models"]]
    done = server.result("adopt_models", {"items": [{"stored_id": one["stored_id"]} for one in models]})
    places = {result["name"]: result["model_id"] for result in done["results"]}
    return {one["name"]: (one["quantization"], places[one["name"]]) for one in models}


def test_a_config_tells_what_tensors_leave_open(server: Sidecar, tmp_path: Path) -> None:
    cache = tmp_path / "home/.cache/huggingface/hub"
    hf_file(cache, "openai/whisper-tiny", "model.safetensors", safetensors_file(ENCODER))
    hf_file(cache, "openai/whisper-tiny", "config.json", b'{"model_type":"whisper"}', large=False)
    hf_file(cache, "acme/odd", "model.safetensors", safetensors_file(ENCODER, seed=1))
    hf_file(cache, "acme/odd", "config.json", b'{"model_type":"of_tomorrow"}', large=False)
    hf_file(cache, "acme/pipe", "text_encoder/model.safetensors", safetensors_file(TEXT))
    hf_file(cache, "acme/pipe", "unet/diffusion_pytorch_model.safetensors", safetensors_file(IMAGE))
    hf_file(cache, "acme/pipe", "model_index.json", b'{"_class_name":"StableDiffusionPipeline"}', large=False)
    places = {name: place.rpartition("/")[0] for name, (_, place) in adopted(server, tmp_path / "home").items()}
    assert places == {
        "openai/whisper-tiny": "audio/whisper",
        "acme/odd": "unknown/of_tomorrow",
        "acme/pipe": "diffusion/unknown",
    }


def test_an_imported_folder_is_asked_for_its_config_too(server: Sidecar, tmp_path: Path) -> None:
    write(tmp_path / "tiny/model.safetensors", safetensors_file(ENCODER))
    write(tmp_path / "tiny/config.json", b'{"model_type":"whisper"}')
    order = {"local_path": str(tmp_path / "tiny"), "family": "", "official_name": "tiny"}
    assert server.result("import_model", order)["model_path"].endswith("/audio/whisper/tiny")


def test_a_projector_is_not_the_model(server: Sidecar, tmp_path: Path) -> None:
    write(tmp_path / "home/.lmstudio/models/acme/Small-GGUF/Small-Q4_K_M.gguf", model())
    write(tmp_path / "home/.lmstudio/models/acme/Small-GGUF/mmproj-Small-f16.gguf", projector())
    found = adopted(server, tmp_path / "home")
    assert list(found.values()) == [("q4_k_m", "llm/llama/Small-Q4_K_M")]

    write(tmp_path / "mine/Mine-Q4_K_M.gguf", model(1))
    write(tmp_path / "mine/mmproj-F16.gguf", projector())
    order = {"local_path": str(tmp_path / "mine"), "family": "", "official_name": "mine", "allow_duplicate": True}
    place = Path(server.result("import_model", order)["model_path"])
    assert place.parts[-3:-1] == ("llm", "llama")
    assert json.loads((place / "metadata.json").read_bytes())["primary_file"] == "Mine-Q4_K_M.gguf"

    # As well where nobody wrote metadata.
    bare = server.root / "shared-resources/models/llm/llama/bare"
    write(bare / "Bare-Q4_K_M.gguf", model(2))
    write(bare / "mmproj-F16.gguf", projector())
    server.result("scan_shared_storage", {})
    found = running.eventually(lambda: server.result("get_models")["models"].get("llm/llama/bare"))
    assert found["modelType"] == "llm"
