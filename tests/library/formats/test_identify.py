import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_models import make_gguf, make_onnx, make_safetensors, make_torch_zip, make_zip, raw_safetensors, tensor

from pumas.errors import FileUnavailable, MalformedModelFile, NotAModel
from pumas.library.formats.detect import FileFormat, SecurityTier
from pumas.library.formats.identify import Identity, identify, identify_folder


def kind(identity: Identity) -> tuple[str, str, str]:
    return identity.model_type.value, identity.subtype, identity.family


GGUF = {
    "llama": ("llm", "", "llama"),
    "codellama": ("llm", "", "llama"),
    "mixtral": ("llm", "", "mistral"),
    "phi2": ("llm", "", "phi"),
    "phi3": ("llm", "", "phi"),
    "qwen2": ("llm", "", "qwen"),
    "qwen3moe": ("llm", "", "qwen3moe"),
    "starcoder2": ("llm", "", "starcoder"),
    "gptneox": ("llm", "", "gpt-neox"),
    "gptj": ("llm", "", "gpt-j"),
    "gemma3": ("llm", "", "gemma3"),
    "gpt-oss": ("llm", "", "gpt-oss"),
    "llada": ("llm", "", "llada"),
    "t5": ("llm", "", "t5"),
    "architecture-of-tomorrow": ("llm", "", "architecture-of-tomorrow"),
    "t5encoder": ("diffusion", "t5", "t5"),
    "flux": ("diffusion", "diffusion_models", "flux"),
    "sd1": ("diffusion", "diffusion_models", "stable-diffusion"),
    "sdxl": ("diffusion", "diffusion_models", "sdxl"),
    "sd3": ("diffusion", "diffusion_models", "sd3"),
    "wan": ("diffusion", "diffusion_models", "wan"),
    "ltxv": ("diffusion", "diffusion_models", "ltx-video"),
    "hyvid": ("diffusion", "diffusion_models", "hunyuan-video"),
    "aura": ("diffusion", "diffusion_models", "auraflow"),
    "qwen_image": ("diffusion", "diffusion_models", "qwen-image"),
    "lumina2": ("diffusion", "diffusion_models", "lumina"),
    "cosmos": ("diffusion", "diffusion_models", "cosmos"),
    "hidream": ("diffusion", "diffusion_models", "hidream"),
    "chroma": ("diffusion", "diffusion_models", "chroma"),
    "pig": ("diffusion", "diffusion_models", ""),
    "whisper": ("audio", "", "whisper"),
    "wavtokenizer-dec": ("audio", "", "wavtokenizer-dec"),
    "bert": ("embedding", "", "bert"),
    "nomic-bert": ("embedding", "", "nomic-bert"),
    "jina-bert-v2": ("embedding", "", "jina-bert-v2"),
    "gemma-embedding": ("embedding", "", "gemma-embedding"),
    "clip": ("vision", "mmproj", "clip"),
}


@pytest.mark.parametrize("architecture", GGUF)
def test_gguf_architectures(tmp_path: Path, architecture: str) -> None:
    # A name that says something else changes nothing.
    found = identify(make_gguf(tmp_path / "llama-sdxl.gguf", architecture, tensors={"t": (2, 3)}))
    assert kind(found) == GGUF[architecture]
    assert found.architecture == architecture
    assert (found.format, found.security_tier, found.parameters) == (FileFormat.GGUF, SecurityTier.SAFE, 6)


GGUF_KEYS: dict[str, tuple[dict[str, Any], tuple[str, str, str]]] = {
    "an embedding model on a language model": ({"llama__pooling_type": 3}, ("embedding", "", "llama")),
    "no pooling": ({"llama__pooling_type": 0}, ("llm", "", "llama")),
    "a projector": ({"general__type": "mmproj"}, ("vision", "mmproj", "llama")),
    "an audio projector": ({"general__type": "mmproj", "clip__has_audio_encoder": True}, ("audio", "mmproj", "llama")),
    "an adapter": ({"general__type": "adapter", "adapter__type": "lora"}, ("llm", "loras", "llama")),
    "an importance matrix": ({"general__type": "imatrix"}, ("unknown", "imatrix", "")),
}


@pytest.mark.parametrize("name", GGUF_KEYS)
def test_gguf_keys(tmp_path: Path, name: str) -> None:
    keys, expected = GGUF_KEYS[name]
    assert kind(identify(make_gguf(tmp_path / "m.gguf", "llama", **keys))) == expected


def test_gguf_without_an_architecture_is_known_by_its_tensors(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    names = ["double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight"]
    infos = b"".join(
        struct.pack("<Q", len(n)) + n.encode() + struct.pack("<IQQIQ", 2, 4, 4, 0, 64 * i) for i, n in enumerate(names)
    )
    head = b"GGUF" + struct.pack("<IQQ", 3, 2, 0) + infos
    path.write_bytes(head.ljust(-(-len(head) // 32) * 32, b"\0") + bytes(128))
    assert kind(identify(path)) == ("diffusion", "diffusion_models", "flux")


def test_what_a_gguf_file_claims_about_itself(tmp_path: Path) -> None:
    path = make_gguf(
        tmp_path / "x-UD-Q4_K_XL.gguf",
        general__name="My\nModel\u202e",
        general__file_type=15,
        general__license="mit",
        general__repo_url="https://huggingface.co/example/My-Model-GGUF",
        general__base_model__0__repo_url="https://huggingface.co/example/My-Model",
    )
    found = identify(path)
    assert (found.name, found.license, found.quantization) == ("My Model", "mit", "q4_k_xl")
    assert (found.base_model, found.repo_url) == ("example/My-Model", "https://huggingface.co/example/My-Model-GGUF")
    assert found.notes == ()


def test_the_header_wins_over_a_name_that_lies_about_the_quantisation(tmp_path: Path) -> None:
    found = identify(make_gguf(tmp_path / "x-Q8_0.gguf", general__file_type=15))
    assert found.quantization == "q4_k_m"
    assert found.notes == ("The name says q8_0, the content says q4_k_m.",)


def test_one_file_of_a_split_model_does_not_count_its_weights(tmp_path: Path) -> None:
    found = identify(make_gguf(tmp_path / "x.gguf", split__count=3, tensors={"t": (2, 2)}))
    assert found.parameters is None


def layers(pattern: str, *parts: str, count: int = 3) -> list[str]:
    return [pattern.format(n) + "." + part for n in range(count) for part in parts]


ATTENTION = ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "mlp.up_proj.weight", "input_layernorm.weight")
LLAMA = ["model.embed_tokens.weight", "lm_head.weight", *layers("model.layers.{}", *ATTENTION, "mlp.gate_proj.weight")]
UNET = [
    "input_blocks.0.0.weight",
    "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight",
    "output_blocks.0.0.weight",
]
FLUX = ["double_blocks.0.img_attn.qkv.weight", "double_blocks.0.txt_attn.qkv.weight", "single_blocks.0.linear1.weight"]
VAE = [
    "encoder.down.0.block.0.conv1.weight",
    "decoder.up.0.block.0.conv1.weight",
    "decoder.conv_in.weight",
    "quant_conv.weight",
]
DIFFUSERS = [
    "conv_in.weight",
    "down_blocks.0.resnets.0.conv1.weight",
    "up_blocks.0.resnets.0.conv1.weight",
    "time_embedding.linear_1.weight",
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight",
]
CLIP = layers("text_model.encoder.layers.{}", "self_attn.q_proj.weight", "mlp.fc1.weight")
CLIP_VISION = layers("vision_model.encoder.layers.{}", "self_attn.q_proj.weight", "mlp.fc1.weight")
DOWN, UP = "lora_down.weight", "lora_up.weight"


def under(prefix: str, names: list[str]) -> list[str]:
    return [prefix + name for name in names]


TENSORS: dict[str, tuple[list[str], tuple[str, str, str]]] = {
    "llama": (LLAMA, ("llm", "", "")),
    "qwen 2": ([*LLAMA, "model.layers.0.self_attn.q_proj.bias"], ("llm", "", "qwen")),
    "qwen 3": (
        [*LLAMA, "model.layers.0.self_attn.q_norm.weight", "model.layers.0.self_attn.k_norm.weight"],
        ("llm", "", "qwen"),
    ),
    "gemma": ([*LLAMA, "model.layers.0.pre_feedforward_layernorm.weight"], ("llm", "", "gemma")),
    "mixtral": ([*LLAMA, "model.layers.0.block_sparse_moe.experts.0.w1.weight"], ("llm", "", "mistral")),
    "deepseek": ([*LLAMA, "model.layers.0.self_attn.kv_a_proj_with_mqa.weight"], ("llm", "", "deepseek")),
    "phi": ([*LLAMA, "model.layers.0.self_attn.dense.weight"], ("llm", "", "phi")),
    "falcon": (
        layers("transformer.h.{}", "self_attention.query_key_value.weight", "mlp.dense.weight"),
        ("llm", "", "falcon"),
    ),
    "gpt-neox": (
        layers("gpt_neox.layers.{}", "attention.query_key_value.weight", "mlp.dense.weight"),
        ("llm", "", "gpt-neox"),
    ),
    "gpt2": (layers("h.{}", "attn.c_attn.weight", "mlp.c_fc.weight"), ("llm", "", "gpt2")),
    "mamba": (layers("backbone.layers.{}", "mixer.A_log", "mixer.D"), ("llm", "", "mamba")),
    "flan-t5": (
        ["encoder.block.0.layer.0.SelfAttention.q.weight", "decoder.block.0.layer.0.SelfAttention.q.weight"],
        ("llm", "", "t5"),
    ),
    "bert": (
        ["bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.attention.self.query.weight"],
        ("embedding", "", "bert"),
    ),
    "e5": (
        ["embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight"],
        ("embedding", "", "bert"),
    ),
    "whisper": (
        [
            "model.encoder.conv1.weight",
            "model.encoder.conv2.weight",
            "model.decoder.layers.0.encoder_attn.q_proj.weight",
        ],
        ("audio", "", "whisper"),
    ),
    "wav2vec2": (["wav2vec2.feature_extractor.conv_layers.0.conv.weight"], ("audio", "", "wav2vec2")),
    "vit": (["vit.embeddings.cls_token", "vit.encoder.layer.0.attention.attention.query.weight"], ("vision", "", "")),
    "clip": ([*CLIP, *CLIP_VISION], ("vision", "clip", "clip")),
    "clip vision": ([*CLIP_VISION, "visual_projection.weight"], ("vision", "clip_vision", "clip")),
    "clip text": (CLIP, ("diffusion", "clip", "clip")),
    "t5 encoder": (["encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"], ("diffusion", "t5", "t5")),
    "sd 1 checkpoint": (
        [
            *under("model.diffusion_model.", UNET),
            *under("first_stage_model.", VAE),
            *under("cond_stage_model.transformer.", CLIP),
        ],
        ("diffusion", "checkpoints", "stable-diffusion"),
    ),
    "sdxl checkpoint": (
        [
            *under("model.diffusion_model.", [*UNET, "label_emb.0.0.weight"]),
            *under("first_stage_model.", VAE),
            "conditioner.embedders.0.transformer.x",
        ],
        ("diffusion", "checkpoints", "sdxl"),
    ),
    "checkpoint of an unknown family": (
        [*under("model.diffusion_model.", ["stem.0.weight", "stem.1.weight"]), *under("first_stage_model.", VAE)],
        ("diffusion", "checkpoints", ""),
    ),
    "flux checkpoint": (
        [*under("model.diffusion_model.", FLUX), *under("vae.", VAE)],
        ("diffusion", "checkpoints", "flux"),
    ),
    "unet alone": (under("model.diffusion_model.", UNET), ("diffusion", "diffusion_models", "stable-diffusion")),
    "diffusers unet": (DIFFUSERS, ("diffusion", "diffusion_models", "stable-diffusion")),
    "diffusers sdxl": ([*DIFFUSERS, "add_embedding.linear_1.weight"], ("diffusion", "diffusion_models", "sdxl")),
    "flux": (FLUX, ("diffusion", "diffusion_models", "flux")),
    "flux of diffusers": (
        ["transformer_blocks.0.attn.to_q.weight", "single_transformer_blocks.0.attn.to_q.weight"],
        ("diffusion", "diffusion_models", "flux"),
    ),
    "chroma": ([*FLUX, "distilled_guidance_layer.in_proj.weight"], ("diffusion", "diffusion_models", "chroma")),
    "hunyuan video": (
        [*FLUX, "txt_in.individual_token_refiner.blocks.0.norm1.weight"],
        ("diffusion", "diffusion_models", "hunyuan-video"),
    ),
    "sd 3": (
        ["joint_blocks.0.x_block.attn.qkv.weight", "x_embedder.proj.weight"],
        ("diffusion", "diffusion_models", "sd3"),
    ),
    "wan": (
        ["head.modulation", "blocks.0.cross_attn.q.weight", "blocks.0.self_attn.q.weight", "patch_embedding.weight"],
        ("diffusion", "diffusion_models", "wan"),
    ),
    "qwen image": (
        ["txt_norm.weight", "transformer_blocks.0.attn.add_q_proj.weight"],
        ("diffusion", "diffusion_models", "qwen-image"),
    ),
    "lumina 2": (
        ["cap_embedder.1.weight", "noise_refiner.0.attention.qkv.weight"],
        ("diffusion", "diffusion_models", "lumina"),
    ),
    "ltx": (
        ["adaln_single.linear.weight", "patchify_proj.weight", "transformer_blocks.0.attn1.to_k.weight"],
        ("diffusion", "diffusion_models", "ltx-video"),
    ),
    "vae": (VAE, ("diffusion", "vae", "")),
    "vae with its quantising layer": (
        ["encoder.conv_in.weight", "decoder.conv_in.weight", "quant_conv.weight"],
        ("diffusion", "vae", ""),
    ),
    "sdxl with layers of its own": (
        ["model.diffusion_model.other.weight", "conditioner.embedders.1.model.ln_final.weight"],
        ("diffusion", "checkpoints", "sdxl"),
    ),
    "diffusers vae": (
        ["encoder.down_blocks.0.resnets.0.conv1.weight", "decoder.up_blocks.0.resnets.0.conv1.weight"],
        ("diffusion", "vae", ""),
    ),
    "wan vae": (
        ["decoder.upsamples.0.residual.0.gamma", "decoder.middle.0.residual.0.gamma", "conv1.weight"],
        ("diffusion", "vae", ""),
    ),
    "controlnet": (
        ["control_model.input_hint_block.0.weight", "control_model.zero_convs.0.0.weight"],
        ("diffusion", "controlnet", ""),
    ),
    "diffusers controlnet": (["controlnet_cond_embedding.conv_in.weight", *DIFFUSERS], ("diffusion", "controlnet", "")),
    "esrgan": (
        ["model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight", "model.10.weight"],
        ("diffusion", "upscale", "esrgan"),
    ),
    "real-esrgan": (
        ["conv_first.weight", "body.0.rdb1.conv1.weight", "conv_last.weight"],
        ("diffusion", "upscale", "esrgan"),
    ),
    "swinir": (
        ["conv_first.weight", "layers.0.residual_group.blocks.0.attn.qkv.weight", "conv_after_body.weight"],
        ("diffusion", "upscale", "swinir"),
    ),
    "inversion": (["emb_params"], ("diffusion", "embeddings", "")),
    "sdxl inversion": (["clip_l", "clip_g"], ("diffusion", "embeddings", "")),
    "flux lora": (layers("lora_unet_double_blocks_{}_img_attn_qkv", DOWN, UP, "alpha"), ("diffusion", "loras", "flux")),
    "flux lora of diffusers": (
        layers("transformer.single_transformer_blocks.{}.attn.to_q", "lora_A.weight", "lora_B.weight"),
        ("diffusion", "loras", "flux"),
    ),
    "sdxl lora": (
        [*layers("lora_unet_input_blocks_{}_1_proj_in", DOWN, UP), "lora_te2_text_model_x.lora_down.weight"],
        ("diffusion", "loras", "sdxl"),
    ),
    "wan lora": (
        layers("diffusion_model.blocks.0.cross_attn.{}", "lora_A.weight", "lora_B.weight"),
        ("diffusion", "loras", "wan"),
    ),
    "lokr": (layers("lora_unet_double_blocks_{}_x", "lokr_w1", "lokr_w2", "alpha"), ("diffusion", "loras", "flux")),
    "language lora": (
        layers("base_model.model.model.layers.{}.self_attn.q_proj", "lora_A.weight", "lora_B.weight"),
        ("llm", "loras", ""),
    ),
    "a model with one trace of a lora": ([*LLAMA, "model.layers.0.lora_A.weight"], ("llm", "", "")),
    "nothing known": (["alpha_beta", "gamma"], ("unknown", "", "")),
    "no tensors": ([], ("unknown", "", "")),
}


@pytest.mark.parametrize("name", TENSORS)
def test_safetensors_layouts(tmp_path: Path, name: str) -> None:
    names, expected = TENSORS[name]
    folder = tmp_path / "plain"
    folder.mkdir()
    path = make_safetensors(folder / "gguf-vae-lora-Q4_K_M.safetensors", dict.fromkeys(names, (2, 2)))
    found = identify(path)
    assert kind(found) == expected
    assert found.security_tier is SecurityTier.SAFE
    # The same names in a pickle, read without loading it.
    if names and name not in ("sdxl inversion", "inversion"):
        pickled = identify(make_torch_zip(folder / "m.ckpt", dict.fromkeys(names, 0)))
        assert kind(pickled) == expected
        assert (pickled.security_tier, pickled.parameters) == (SecurityTier.PICKLE, None)


WIDTHS = {
    768: ("stable-diffusion", "sd1"),
    1024: ("stable-diffusion", "sd2"),
    2048: ("sdxl", "sdxl"),
    1280: ("sdxl", "sdxl"),
}


@pytest.mark.parametrize("width", WIDTHS)
def test_the_width_of_the_text_tells_stable_diffusions_apart(tmp_path: Path, width: int) -> None:
    found = identify(make_safetensors(tmp_path / "m", dict.fromkeys(DIFFUSERS, (1, width))))
    assert (found.family, found.architecture) == WIDTHS[width]
    key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k."
    lora = identify(make_safetensors(tmp_path / "m", {key + DOWN: (4, width), key + UP: (320, 4)}))
    assert kind(lora) == ("diffusion", "loras", WIDTHS[width][0])


def test_trainers_metadata_fills_what_tensors_leave_open(tmp_path: Path) -> None:
    lora = dict.fromkeys(layers("lora_unet_x_{}", DOWN, UP), (2, 2))
    spec = {
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.title": "My style",
        "ss_sd_model_name": "base.safetensors",
    }
    found = identify(make_safetensors(tmp_path / "m", lora, spec))
    assert kind(found) == ("diffusion", "loras", "sdxl")
    assert (found.name, found.base_model) == ("My style", "base.safetensors")
    assert (
        kind(identify(make_safetensors(tmp_path / "m", lora, {"ss_base_model_version": "sd_v1"})))[2]
        == "stable-diffusion"
    )
    llm = identify(make_safetensors(tmp_path / "m", dict.fromkeys(LLAMA, (2, 2)), spec))
    assert kind(llm) == ("llm", "", "")
    alone = identify(make_safetensors(tmp_path / "m", {"a": (2, 2)}, {"modelspec.architecture": "Flux.1-dev"}))
    assert kind(alone) == ("diffusion", "", "flux")


def test_a_name_only_chooses_between_families_that_look_alike(tmp_path: Path) -> None:
    same = dict.fromkeys(LLAMA, (2, 2))
    for name, family in {"Mistral-7B": "mistral", "Llama-3.1-8B": "llama", "Mixtral": "mistral", "harbor": ""}.items():
        found = identify(make_safetensors(tmp_path / f"{name}.safetensors", same))
        assert kind(found) == ("llm", "", family)
        assert bool(found.notes) == bool(family)
    vae = identify(make_safetensors(tmp_path / "Mistral.safetensors", dict.fromkeys(VAE, (2, 2))))
    assert kind(vae) == ("diffusion", "vae", "")


@pytest.mark.parametrize(
    ("dtype", "token"),
    [("F32", "fp32"), ("F16", "fp16"), ("BF16", "bf16"), ("F8_E4M3", "fp8_e4m3fn"), ("F8_E5M2", "fp8_e5m2")],
)
def test_weights_are_counted_and_their_type_named(tmp_path: Path, dtype: str, token: str) -> None:
    size = {"F32": 4, "F16": 2, "BF16": 2}.get(dtype, 1) * 600
    header = {"lm_head.weight": tensor(dtype, [20, 30], 0, size), "scale": tensor("F32", [1], size, size + 4)}
    found = identify(raw_safetensors(tmp_path / "m.safetensors", header, bytes(size + 4)))
    assert (found.quantization, found.parameters) == (token, 601)


def test_packed_weights_are_not_counted(tmp_path: Path) -> None:
    path = make_safetensors(
        tmp_path / "x-GPTQ-Int4.safetensors", {"a.qweight": (8, 8), "a.scales": (8, 1)}, dtype=np.int32
    )
    found = identify(path)
    assert (found.quantization, found.parameters) == ("gptq_4bit", None)


def test_bytes_that_hold_several_weights_each_are_not_counted(tmp_path: Path) -> None:
    header = {"mlp.experts.gate_up_proj_blocks": tensor("U8", [30], 0, 30), "norm": tensor("U8", [2], 30, 32)}
    assert identify(raw_safetensors(tmp_path / "m", header, bytes(32))).parameters is None
    header = {"lm_head.weight": tensor("F16", [100], 0, 200), "steps": tensor("I32", [1], 200, 204)}
    assert identify(raw_safetensors(tmp_path / "m", header, bytes(204))).parameters == 101


def test_other_containers(tmp_path: Path) -> None:
    whisper = tmp_path / "ggml-small.en-q8_0.bin"
    whisper.write_bytes(b"lmgg" + struct.pack("<II", 51864, 1500) + bytes(64))
    found = identify(whisper)
    assert (*kind(found), found.quantization) == ("audio", "", "whisper", "q8_0")
    whisper.write_bytes(b"ggml" + struct.pack(">II", 51864, 1500) + bytes(64))
    assert kind(identify(whisper)) == ("audio", "", "whisper")
    whisper.write_bytes(b"tjgg" + struct.pack("<II", 3, 32000) + bytes(64))
    assert kind(identify(whisper)) == ("llm", "", "")
    whisper.write_bytes(b"algg" + struct.pack("<II", 1, 8) + bytes(64))
    assert kind(identify(whisper)) == ("llm", "loras", "")
    assert identify(make_onnx(tmp_path / "m.onnx")).format is FileFormat.ONNX
    plain = identify(make_zip(tmp_path / "m.zip", {"a": b"b"}))
    assert (plain.format, plain.security_tier) == (FileFormat.UNKNOWN, SecurityTier.UNKNOWN)
    assert any("run code" in note for note in identify(make_torch_zip(tmp_path / "m.pt", {})).notes)


def test_damaged_and_unreadable_files_are_exceptions(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF\3\0\0\0")
    with pytest.raises(MalformedModelFile):
        identify(tmp_path / "m.gguf")
    with pytest.raises(FileUnavailable):
        identify(tmp_path)


def test_a_folder_is_the_model_that_most_of_it_holds(tmp_path: Path) -> None:
    paths = [
        make_safetensors(tmp_path / f"model-{n}-of-2.safetensors", dict.fromkeys(LLAMA[n::2], (8, 8))) for n in (1, 2)
    ]
    paths.append(tmp_path / "config.json")
    paths[-1].write_text(json.dumps({"model_type": "mistral"}))
    paths.append(tmp_path / "readme.md")
    paths[-1].write_text("Just words.")
    found = identify_folder(paths)
    assert kind(found) == ("llm", "", "mistral")
    assert found.parameters == 64 * (len(LLAMA) - 1)
    alone = identify_folder([paths[0], *paths[2:]])
    assert alone.parameters is None
    assert any("1 of 2 parts are missing" in note for note in alone.notes)


@pytest.mark.parametrize(
    ("architectures", "expected"),
    [(["Qwen2ForCausalLM"], "llm"), (["Qwen2Model"], "unknown"), ("Qwen2ForCausalLM", "unknown"), ([5], "unknown")],
)
def test_a_config_tells_what_few_tensors_do_not(tmp_path: Path, architectures: object, expected: str) -> None:
    part = make_safetensors(tmp_path / "model-00002-of-00002.safetensors", {"model.layers.9.self_attn.o_proj": (2, 2)})
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "qwen2", "architectures": architectures}))
    assert kind(identify_folder([part, config])) == (expected, "", "qwen")


def test_a_pipeline_is_its_image_model_even_beside_a_larger_text_encoder(tmp_path: Path) -> None:
    for part, names, width in (("text_encoder", TENSORS["t5 encoder"][0], 64), ("transformer", FLUX, 2)):
        (tmp_path / part).mkdir()
        make_safetensors(tmp_path / part / "model.safetensors", dict.fromkeys(names, (width, width)))
        (tmp_path / part / "config.json").write_text(json.dumps({"model_type": "t5"} if width == 64 else {}))
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert kind(identify_folder(files)) == ("diffusion", "t5", "t5")
    (tmp_path / "model_index.json").write_text("{}")
    assert kind(identify_folder([*files, tmp_path / "model_index.json"])) == ("diffusion", "checkpoints", "flux")


def test_what_is_odd_in_a_folder_is_noted(tmp_path: Path) -> None:
    model = make_safetensors(tmp_path / "model.safetensors", dict.fromkeys(VAE, (8, 8)))
    (tmp_path / "training.bin").write_bytes(pickle.dumps([1]))
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    os.mkfifo(tmp_path / "pipe")
    found = identify_folder(sorted(tmp_path.iterdir()))
    assert kind(found) == ("diffusion", "vae", "")
    assert (found.format, found.security_tier) == (FileFormat.SAFETENSORS, SecurityTier.PICKLE)
    assert identify_folder([model]).security_tier is SecurityTier.SAFE
    cut = make_torch_zip(tmp_path / "cut.pt", {"a": 1})
    cut.write_bytes(cut.read_bytes()[:100])
    assert identify_folder([model, cut]).security_tier is SecurityTier.PICKLE
    text = " ".join(found.notes)
    assert all(word in text for word in ("broken.gguf", "pipe", "pickle"))
    assert str(tmp_path) not in text
    assert model.exists()


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("words")
    with pytest.raises(NotAModel):
        identify_folder([tmp_path / "readme.md"])
    with pytest.raises(NotAModel):
        identify_folder([])


@pytest.mark.parametrize(("depth", "is_read"), [(127, True), (128, False)])
def test_a_config_is_read_down_to_the_depth_at_which_json_ends(tmp_path: Path, depth: int, is_read: bool) -> None:
    config = tmp_path / "config.json"
    config.write_bytes(b'{"model_type": "mistral", "x": %s%s}' % (b"[" * (depth - 1), b"]" * (depth - 1)))
    model = make_safetensors(tmp_path / "model.safetensors", dict.fromkeys(LLAMA, (8, 8)))
    assert (identify_folder([model, config]).family == "mistral") is is_read


@pytest.mark.parametrize(
    "config",
    [b"", b"[]", b"{", b"[" * 100_000, b'{"model_type": 5}', b'{"model_type": "\\ud800"}', b"\xff", b"9" * 9000],
)
def test_a_strange_config_changes_nothing(tmp_path: Path, config: bytes) -> None:
    (tmp_path / "config.json").write_bytes(config)
    model = make_safetensors(tmp_path / "model.safetensors", dict.fromkeys(FLUX, (2, 2)))
    assert kind(identify_folder([model, tmp_path / "config.json"])) == ("diffusion", "diffusion_models", "flux")
