from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumas.hub.names import CERTAIN, EXACT, PLAUSIBLE, likeness, precision, searches, title, variant

TITLES = {
    "Lumen-7B-Instruct-v0.3-Q4_K_M.gguf": "Lumen-7B-Instruct-v0.3",
    "Lumen-7B-Instruct.Q5_K_S.gguf": "Lumen-7B-Instruct",
    "Lumen-7B-Instruct-UD-IQ1_S-00001-of-00003.gguf": "Lumen-7B-Instruct",
    "lumen-27b-it.i1-IQ4_XS.gguf": "lumen-27b-it",
    "gpt-oss-20b-mxfp4.gguf": "gpt-oss-20b",
    "Lumen-7B-Q4_K_M (1).gguf": "Lumen-7B",
    "Lumen-7B-Q4_K_M(12).gguf": "Lumen-7B",
    "Lumen-7B-Q4_K_M - Copy.gguf": "Lumen-7B",
    "Lumen-7B-Q4_K_M copy 2.gguf": "Lumen-7B",
    "sd_xl_base_1.0_fp16.safetensors": "sd_xl_base_1.0",
    "flux1-dev-fp8.safetensors": "flux1-dev",
    "flux1-dev-fp8_e4m3fn.safetensors": "flux1-dev",
    "t5xxl_fp8_e4m3fn_scaled.safetensors": "t5xxl",
    "v1-5-pruned-emaonly.ckpt": "v1-5",
    "Llama-3-8B-4.65bpw-exl2.safetensors": "Llama-3-8B",
    "Lumen-7B-GPTQ-Int4.safetensors": "Lumen-7B",
    "model.safetensors": "",
    "model-00001-of-00002.safetensors": "",
    "pytorch_model.bin": "",
    "diffusion_pytorch_model.fp16.safetensors": "",
    "consolidated.00.pth": "",
    "ggml-model-q4_0.bin": "",
    "Q4_K_M.gguf": "Q4_K_M",
    "noextension": "noextension",
    "": "",
}


@pytest.mark.parametrize(("filename", "expected"), TITLES.items())
def test_the_title_is_what_the_model_is_called(filename: str, expected: str) -> None:
    assert title(filename) == expected


def test_searches_become_less_exact() -> None:
    assert searches("Lumen-7B-v0.3-Q4_K_M.gguf") == ["Lumen-7B-v0.3", "Lumen-7B", "Lumen"]
    assert searches("lumen-instruct-mine-v2.gguf") == [
        "lumen-instruct-mine-v2",
        "lumen-instruct-mine",
        "lumen-instruct",
        "lumen",
    ]
    assert searches("a-b-c-d-e-f-g-h.gguf") == ["a-b-c-d-e-f-g-h", "a-b-c-d-e-f-g", "a-b-c-d-e-f", "a-b-c-d-e"]
    assert searches("model.safetensors") == []


@pytest.mark.parametrize(
    ("filename", "repo_id", "paths", "low", "high"),
    [
        ("Lumen-7B-Q4_K_M.gguf", "q/Lumen-7B-GGUF", ("Lumen-7B-Q4_K_M.gguf",), CERTAIN, CERTAIN),
        ("Lumen-7B-Q4_K_M.gguf", "q/Lumen-7B-GGUF", ("sub/LUMEN-7B-Q4_K_M.GGUF",), CERTAIN, CERTAIN),
        ("Lumen-7B-Q4_K_M (1).gguf", "q/Lumen-7B-GGUF", ("Lumen-7B-Q4_K_M.gguf",), CERTAIN, CERTAIN),
        ("Lumen-7B-Q4_K_M.gguf", "q/other-name", ("Lumen-7B-Q4_K_M.gguf",), CERTAIN, CERTAIN),
        ("Lumen-7B-Q4_K_M.gguf", "acme/Lumen-7B", ("model.safetensors",), PLAUSIBLE, EXACT),
        ("Lumen-7B-Q4_K_M.gguf", "acme/Lumen-7B", (), EXACT, CERTAIN),
        ("Lumen-7B-Q4_K_M.gguf", "acme/Shadow-70B-Coder-Instruct", ("x.gguf",), 0.0, PLAUSIBLE),
        ("model.safetensors", "acme/Lumen-7B", ("model.safetensors",), 0.0, 0.0),
    ],
)
def test_how_alike(filename: str, repo_id: str, paths: tuple[str, ...], low: float, high: float) -> None:
    assert low <= likeness(filename, repo_id, paths) <= high


@pytest.mark.parametrize(
    ("filename", "which"),
    [("v1-5-pruned.ckpt", "pruned"), ("a-ema.ckpt", "ema"), ("a.safetensors", "safetensors"), ("a.gguf", "standard")],
)
def test_the_variant(filename: str, which: str) -> None:
    assert variant(filename) == which


def test_the_precision_is_the_quantisation() -> None:
    assert precision("a-UD-Q4_K_XL.gguf") == "ud_q4_k_xl"
    assert precision("a.gguf") == "unknown"


@given(st.text(max_size=80), st.text(max_size=30))
def test_any_name_is_looked_at_without_harm(filename: str, repo: str) -> None:
    assert len(title(filename)) <= len(filename)
    assert all(len(text) > 2 for text in searches(filename))
    assert len(searches(filename)) <= 4
    assert 0.0 <= likeness(filename, f"a/{repo}") <= CERTAIN
    assert variant(filename)
    assert precision(filename)
