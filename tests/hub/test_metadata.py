from __future__ import annotations

from typing import Any

import orjson
import pytest

from fixtures.hub import Hub
from fixtures.hub import repositories as R
from pumas.hub.client import HubClient
from pumas.hub.metadata import MAX_CARD_BYTES, card_of, describe
from pumas.hub.model import HubFile, HubModel
from pumas.hub.selection import choose
from pumas.library.entry import from_metadata


def model(*paths: str, repo_id: str = "acme/Lumen-7B", **fields: Any) -> HubModel:
    files = tuple(HubFile(path, 1, "0" * 40, None) for path in paths or ("model.safetensors",))
    return HubModel(repo_id, "c" * 40, files, **fields)


KINDS: list[tuple[HubModel, tuple[str, str, str]]] = [
    (model(pipeline_tag="text-generation", config={"model_type": "qwen2"}), ("llm", "", "qwen")),
    (model(pipeline_tag="text-generation", tags=("llama",)), ("llm", "", "llama")),
    (model("m-Q8_0.gguf", gguf={"architecture": "llama"}), ("llm", "", "llama")),
    (model("m-Q8_0.gguf", gguf={"architecture": "flux"}), ("diffusion", "checkpoints", "flux")),
    (model("m-Q8_0.gguf", repo_id="a/Mistral-7B-GGUF"), ("llm", "", "mistral")),
    (model("m-Q8_0.gguf", repo_id="city/FLUX.1-dev-gguf"), ("diffusion", "checkpoints", "flux")),
    (model(pipeline_tag="text-to-image", tags=("stable-diffusion-xl",)), ("diffusion", "checkpoints", "sdxl")),
    (model(pipeline_tag="text-to-image", tags=("lora",), base_model=("a/FLUX.1-dev",)), ("diffusion", "loras", "flux")),
    (model(repo_id="a/flux-controlnet", pipeline_tag="text-to-image"), ("diffusion", "controlnet", "flux")),
    (model(repo_id="a/sd-vae-ft", library_name="diffusers"), ("diffusion", "vae", "unknown")),
    (model("model_index.json", "unet/m.safetensors"), ("diffusion", "checkpoints", "unknown")),
    (model(pipeline_tag="automatic-speech-recognition", config={"model_type": "whisper"}), ("audio", "", "whisper")),
    (model(pipeline_tag="feature-extraction", config={"model_type": "bert"}), ("embedding", "", "bert")),
    (model(pipeline_tag="image-classification"), ("vision", "", "unknown")),
    (model("adapter_config.json", "a.safetensors", pipeline_tag="text-generation"), ("llm", "loras", "unknown")),
    (model(), ("unknown", "", "unknown")),
    (model(pipeline_tag="robotics"), ("unknown", "", "unknown")),
]


@pytest.mark.parametrize(("given", "kind"), KINDS, ids=lambda value: str(value)[-60:])
def test_type_subtype_and_family(given: HubModel, kind: tuple[str, str, str]) -> None:
    said = describe(given, choose(given))
    assert (said["model_type"], said["subtype"], said["family"]) == kind


def test_what_is_said_fits_the_librarys_own_metadata(hub: Hub, client: HubClient) -> None:
    for repo_id in (R.GGUF, R.LLM, R.DIFFUSERS, R.LORA, R.EMBEDDING, R.GATED):
        found = client.model(repo_id)
        said = describe(found, choose(found))
        entry = from_metadata("llm/x/y", said)  # raises when a field has a type that the library refuses
        assert entry.repo_id == repo_id
        assert said["revision"] == found.commit
        assert said["match_source"] == "hf"
        assert said["pending_online_lookup"] is False
        orjson.dumps(said)


def test_the_quantisation_is_the_choices() -> None:
    both = model("a-Q8_0.gguf", "a-Q4_K_M.gguf")
    assert describe(both, choose(both, quant="Q8_0"))["quantization"] == "q8_0"
    assert describe(both, choose(both))["quantization"] == ""


def test_tags_that_only_file_a_repository_are_left_out() -> None:
    tags = ("gguf", "license:mit", "region:us", "base_model:a/b", "arxiv:2401.1", "en", "dataset:x/y")
    assert describe(given := model(tags=tags), choose(given))["tags"] == ["gguf", "en"]


def test_a_long_card_loses_its_longest_entries() -> None:
    card = {"license": "mit", "long": "x" * 20_000, "longer": ["y" * 100] * 300, "model-index": [1], "language": ["en"]}
    assert card_of(model(card=card)) == {"license": "mit", "language": ["en"]}
    many = card_of(model(card={str(number): "x" * 1000 for number in range(100)}))
    assert 10 <= len(many) < 100
    assert len(orjson.dumps(many)) <= MAX_CARD_BYTES + 1000
