import gguf
import pytest

from pumas.library.formats.quantization import (
    GGUF_FILE_TYPES,
    Quantization,
    agree,
    detect_quantization,
    gguf_file_type,
    parse_quantization,
    sort_quantizations,
)

# File names as they are published, and the token each stands for.
NAMES = {
    "Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf": "q4_k_m",
    "Meta-Llama-3.1-8B-Instruct-Q4_K_L.gguf": "q4_k_l",
    "Meta-Llama-3.1-8B-Instruct-Q6_K_L.gguf": "q6_k_l",
    "Meta-Llama-3.1-8B-Instruct-Q5_K_L.gguf": "q5_k_l",
    "Meta-Llama-3.1-8B-Instruct-Q3_K_XL.gguf": "q3_k_xl",
    "Meta-Llama-3.1-8B-Instruct-Q2_K_L.gguf": "q2_k_l",
    "Meta-Llama-3.1-8B-Instruct-Q6_K.gguf": "q6_k",
    "Meta-Llama-3.1-8B-Instruct-Q8_0.gguf": "q8_0",
    "Meta-Llama-3.1-8B-Instruct-IQ4_XS.gguf": "iq4_xs",
    "Meta-Llama-3.1-8B-Instruct-IQ4_NL.gguf": "iq4_nl",
    "Meta-Llama-3.1-8B-Instruct-IQ3_M.gguf": "iq3_m",
    "Meta-Llama-3.1-8B-Instruct-IQ2_M.gguf": "iq2_m",
    "Meta-Llama-3.1-8B-Instruct-Q4_0_4_4.gguf": "q4_0_4_4",
    "Meta-Llama-3.1-8B-Instruct-Q4_0_4_8.gguf": "q4_0_4_8",
    "Meta-Llama-3.1-8B-Instruct-Q4_0_8_8.gguf": "q4_0_8_8",
    "Meta-Llama-3.1-8B-Instruct-f32.gguf": "f32",
    "Qwen3-30B-A3B-UD-Q4_K_XL.gguf": "q4_k_xl",
    "GLM-4.6-smol-IQ4_KSS-00001-of-00005.gguf": "iq4_kss",
    "GLM-4.6-MLX-6.5bit/model.safetensors": "mlx_6_5bit",
    "Qwen2.5-4bit-mlx/model.safetensors": "4bit",
    "Qwen3-30B-A3B-UD-IQ1_S.gguf": "iq1_s",
    "Qwen3-30B-A3B-UD-IQ1_M.gguf": "iq1_m",
    "Qwen3-30B-A3B-UD-IQ2_XXS.gguf": "iq2_xxs",
    "Qwen3-30B-A3B-UD-IQ3_XXS.gguf": "iq3_xxs",
    "Qwen3-30B-A3B-UD-Q8_K_XL.gguf": "q8_k_xl",
    "Qwen3-30B-A3B-UD-Q2_K_XL.gguf": "q2_k_xl",
    "Qwen3-30B-A3B-128K-UD-TQ1_0.gguf": "tq1_0",
    "DeepSeek-V3-0324-UD-TQ2_0.gguf": "tq2_0",
    "DeepSeek-R1-UD-IQ1_S-00001-of-00003.gguf": "iq1_s",
    "UD-Q2_K_XL/DeepSeek-V3.1-UD-Q2_K_XL-00001-of-00006.gguf": "q2_k_xl",
    "BF16/DeepSeek-V3.1-BF16-00001-of-00030.gguf": "bf16",
    "BF16/x-00001-of-00002.gguf": "bf16",
    "Q4_K_M/x-00001-of-00002.gguf": "q4_k_m",
    "gpt-oss-20b-mxfp4.gguf": "mxfp4",
    "gpt-oss-120b-mxfp4-00001-of-00003.gguf": "mxfp4",
    "gpt-oss-20b-F16.gguf": "f16",
    "Qwen3-Coder-Next-MXFP4_MOE.gguf": "mxfp4",
    "x-IQ4_NL.gguf": "iq4_nl",
    "x-MXFP4.gguf": "mxfp4",
    "gemma-3-12b-it-q4_0.gguf": "q4_0",
    "gemma-3-12b-it-qat-q4_0-Q4_0.gguf": "q4_0",
    "gemma-2-27b-it.i1-IQ1_S.gguf": "iq1_s",
    "gemma-2-27b-it.i1-IQ2_XS.gguf": "iq2_xs",
    "gemma-2-27b-it.i1-IQ2_S.gguf": "iq2_s",
    "gemma-2-27b-it.i1-IQ3_S.gguf": "iq3_s",
    "gemma-2-27b-it.i1-IQ3_XS.gguf": "iq3_xs",
    "gemma-2-27b-it.i1-Q4_1.gguf": "q4_1",
    "gemma-2-27b-it.i1-Q4_K_S.gguf": "q4_k_s",
    "gemma-2-27b-it.i1-Q2_K_S.gguf": "q2_k_s",
    "phi-2.Q5_K_S.gguf": "q5_k_s",
    "phi-2.Q3_K_L.gguf": "q3_k_l",
    "phi-2.Q3_K_M.gguf": "q3_k_m",
    "phi-2.Q3_K_S.gguf": "q3_k_s",
    "phi-2.Q2_K.gguf": "q2_k",
    "phi-2.Q5_0.gguf": "q5_0",
    "phi-2.Q5_1.gguf": "q5_1",
    "Phi-3-mini-4k-instruct-q4.gguf": "q4",
    "Phi-3-mini-4k-instruct-fp16.gguf": "fp16",
    "mistral-7b-instruct-v0.2.Q4_K_M.gguf": "q4_k_m",
    "ggml-model-q4_0.bin": "q4_0",
    "ggml-model-Q4_K.gguf": "q4_k",
    "llama-2-7b-chat.ggmlv3.q5_K_M.bin": "q5_k_m",
    "ggml-large-v3-turbo-q5_0.bin": "q5_0",
    "ggml-small.en-q8_0.bin": "q8_0",
    "tinyllama-1.1b-chat-v1.0.Q8_0.gguf": "q8_0",
    "Q4KM.gguf": "q4_k_m",
    "Qwen3-32B-NVFP4A16/model-00001-of-00004.safetensors": "nvfp4",
    "flux2_dev_fp8mixed.safetensors": "fp8",
    "z_image_turbo_float8.safetensors": "fp8",
    "wan_e4m3fn.safetensors": "fp8_e4m3fn",
    "Qwen3-4B-int8wo/model.safetensors": "int8",
    "openvino_model_qint8_quantized.bin": "int8",
    "model_quint8_avx2.onnx": "uint8",
    # https://huggingface.co/docs/transformers.js/guides/dtypes: the file of dtype `q8`
    "onnx/model_quantized.onnx": "q8",
    "onnx/decoder_model_merged_quantized.onnx_data_1": "q8",
    "models-quantized/model.onnx": "",
    "quantized.safetensors": "",
    "Lumen-INT4-AWQ/model.safetensors": "awq_4bit",
    "Lumen-int4-AutoRound/model.safetensors": "autoround_4bit",
    "DeepSeek-V3-Q8_0_R8-00001-of-00020.gguf": "q8_0_r8",
    "DeepSeek-V3-Q2_K_R4-00001-of-00008.gguf": "q2_k_r4",
    "DeepSeek-V3-Q4_K_M_R4.gguf": "q4_k_m_r4",
    "ggml-model-i2_s.gguf": "i2_s",
    "bitnet-b1.58-2B-4T/model.safetensors": "",
    "half-life-style.safetensors": "",
    "model.half.safetensors": "fp16",
    "Falcon3-7B-Instruct-1.58bit/model.safetensors": "1_58bit",
    "model-q6k.gguf": "q6_k",
    "model-IQ2XS.gguf": "iq2_xs",
    "harbor-7bQ4_K_M.gguf": "q4_k_m",
    "llama-31-8bQ4_K_M.gguf": "q4_k_m",
    "llama-3_1-8b_q4_k_m.gguf": "q4_k_m",
    "Bonsai-8B-Q1_0_g128.gguf": "q1_0",
    "Kimi-K2-Instruct-IQ4_KS.gguf": "iq4_ks",
    "Kimi-K2-Instruct-IQ2_KL.gguf": "iq2_kl",
    "Kimi-K2-Instruct-IQ1_KT.gguf": "iq1_kt",
    "Kimi-K2-Instruct-IQ4_KSS.gguf": "iq4_kss",
    "DeepSeek-R1-0528-IQ4_KS_R4-00001-of-00010.gguf": "iq4_ks_r4",
    "DeepSeek-V3-0324-IQ2_K_R4.gguf": "iq2_k_r4",
    "model-IQ5_K.gguf": "iq5_k",
    "model-Q8_KV.gguf": "q8_kv",
    "model-IQ3_K_M.gguf": "iq3_k_m",
    "model-IQ1.gguf": "iq1",
    "flux1-dev-Q4_K_S.gguf": "q4_k_s",
    "flux1-schnell-Q8_0.gguf": "q8_0",
    "flux1-dev-fp8.safetensors": "fp8",
    "flux1-dev-fp8-e4m3fn.safetensors": "fp8_e4m3fn",
    "flux1-dev-fp8-e5m2.safetensors": "fp8_e5m2",
    "flux1-dev-bnb-nf4-v2.safetensors": "nf4",
    "svdq-int4_r32-flux.1-dev.safetensors": "int4",
    "svdq-fp4_r32-flux.1-dev.safetensors": "fp4",
    "t5xxl_fp8_e4m3fn_scaled.safetensors": "fp8_e4m3fn",
    "t5xxl_fp16.safetensors": "fp16",
    "t5-v1_1-xxl-encoder-Q5_K_M.gguf": "q5_k_m",
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors": "fp8_e4m3fn",
    "umt5-xxl-encoder-bf16.safetensors": "bf16",
    "wan2.1_t2v_14B_fp8_e5m2.safetensors": "fp8_e5m2",
    "wan2.2_ti2v_5B_fp16.safetensors": "fp16",
    "Wan2_1-I2V-14B-480P_fp8_e4m3fn.safetensors": "fp8_e4m3fn",
    "Wan2.2-I2V-A14B-HighNoise-Q6_K.gguf": "q6_k",
    "qwen_image_fp8_e4m3fn.safetensors": "fp8_e4m3fn",
    "qwen_2.5_vl_7b_fp8_scaled.safetensors": "fp8",
    "hunyuan_video_t2v_720p_bf16.safetensors": "bf16",
    "sd3.5_large_fp8_scaled.safetensors": "fp8",
    "sd_xl_base_1.0_fp16.safetensors": "fp16",
    "v1-5-pruned-emaonly-fp16.safetensors": "fp16",
    "vae-ft-mse-840000-ema-pruned_fp32.safetensors": "fp32",
    "flux-2-klein-nvfp4.safetensors": "nvfp4",
    "Llama-3.3-70B-Instruct-NVFP4/model-00001-of-00009.safetensors": "nvfp4",
    "Qwen2.5-7B-Instruct-GPTQ-Int4/model.safetensors": "gptq_4bit",
    "Qwen2.5-7B-Instruct-GPTQ-Int8/model-00001-of-00003.safetensors": "gptq_8bit",
    "Llama-2-13B-GPTQ/gptq_model-4bit-128g.safetensors": "gptq_4bit",
    "gptq-3bit-128g-actorder_True/model.safetensors": "gptq_3bit",
    "Mistral-7B-Instruct-v0.2-AWQ/model.safetensors": "awq",
    "Qwen2.5-72B-Instruct-AWQ-4bit/model.safetensors": "awq_4bit",
    "Meta-Llama-3.1-8B-Instruct-AWQ-INT4/model.safetensors": "awq_4bit",
    "Llama-3.2-3B-Instruct-bnb-4bit/model.safetensors": "bnb_4bit",
    "gemma-3-4b-it-unsloth-bnb-4bit/model.safetensors": "bnb_4bit",
    "Qwen3-8B-4bit/model.safetensors": "4bit",
    "Qwen3-8B-8bit/model.safetensors": "8bit",
    "Qwen3-8B-4bit-DWQ/model.safetensors": "4bit",
    "Mistral-Small-6bits/model.safetensors": "6bit",
    "x-8bit": "8bit",
    "Llama-3-8B-exl2/4.65bpw/output.safetensors": "4_65bpw",
    "Llama-3-8B-6.0bpw-h6-exl2/output.safetensors": "6_0bpw",
    "Llama-3-8B-exl3/model.safetensors": "exl3",
    "Llama-3.1-8B-quantized.w4a16/model.safetensors": "w4a16",
    "Llama-3.1-8B-quantized.w8a8/model.safetensors": "w8a8",
    "Llama-3.1-8B-FP8-dynamic/model.safetensors": "fp8",
    "Mixtral-8x7B-HQQ-2bit/model.safetensors": "hqq_2bit",
    "Llama-3-8B-q4f16_1-MLC/params_shard_0.bin": "q4f16",
    "onnx/model_q4f16.onnx": "q4f16",
    "onnx/model_int8.onnx": "int8",
    "onnx/model_uint8.onnx": "uint8",
    "onnx/model_bnb4.onnx": "bnb_4bit",
    "onnx/decoder_model_merged_q4.onnx": "q4",
    "mmproj-model-f16.gguf": "f16",
    "mmproj-BF16.gguf": "bf16",
    "nomic-embed-text-v1.5.Q8_0.gguf": "q8_0",
    "bge-m3-F32.gguf": "f32",
    "Q8_0/sub/plain.gguf": "q8_0",
    "Q8_0/sub/other-Q4_0.gguf": "q4_0",
    "model-fp16-Q4_0.gguf": "q4_0",
    "model-Q8_0-requantized-Q4_0.gguf": "q4_0",
    "C:\\models\\Q5_K_M\\plain.gguf": "q5_k_m",
    # and those that only look as if they had one
    "Qwen3-4B.safetensors": "",
    "phi-2.gguf": "",
    "Mixtral-8x7B-v0.1.safetensors": "",
    "sd-v1-5.ckpt": "",
    "f1-score.bin": "",
    "T5-base.bin": "",
    "whisper-large-v3.bin": "",
    "model-00001-of-00002.safetensors": "",
    "x4-upscaler-ema.safetensors": "",
    "q9_99.gguf": "",
    "IQ.gguf": "",
    "fp.safetensors": "",
    "": "",
    "模型.gguf": "",
}


def test_the_table_is_large_enough_to_mean_something() -> None:
    assert len(NAMES) >= 120


@pytest.mark.parametrize("name", NAMES)
def test_real_names(name: str) -> None:
    assert detect_quantization(name) == NAMES[name]


@pytest.mark.parametrize("name", [name for name, token in NAMES.items() if token])
def test_a_token_names_itself(name: str) -> None:
    assert detect_quantization(f"model-{NAMES[name]}.gguf") == NAMES[name]


def test_mixes_are_told_apart_in_the_label() -> None:
    assert parse_quantization("x-UD-Q4_K_XL.gguf") == Quantization("q4_k_xl", "ud")
    assert parse_quantization("UD-Q4_K_XL/x-00001-of-00002.gguf") == Quantization("q4_k_xl", "ud")
    assert parse_quantization("smol-IQ2_KL/x-smol-IQ2_KL-00001-of-00007.gguf") == Quantization("iq2_kl", "smol")
    assert parse_quantization("Tiny-Smol-7B-Q4_K_M.gguf") == Quantization("q4_k_m")
    assert parse_quantization("x-Q4_K_M.gguf") == Quantization("q4_k_m")
    assert [Quantization("q4_k_m", mark).label for mark in ("", "ud")] == ["q4_k_m", "ud_q4_k_m"]
    assert parse_quantization("plain.gguf") is None


def test_header_numbers_are_those_of_the_official_library() -> None:
    for kind in gguf.LlamaFileType:
        if kind is not gguf.LlamaFileType.GUESSED:
            name = kind.name.lower().removeprefix("mostly_").removeprefix("all_").removesuffix("_moe")
            assert gguf_file_type(int(kind)) == name
            assert gguf_file_type(int(kind) | 1024) == name
    assert [gguf_file_type(value) for value in (None, -1, 999, 2**70)] == [""] * 4
    for token in GGUF_FILE_TYPES.values():
        assert detect_quantization(f"model-{token}.gguf") == token or token == "q4_1_f16"


def test_finer_words_for_the_same_thing_agree() -> None:
    assert agree("q4_k_xl", "q4_k_m")
    assert agree("fp16", "f16")
    assert agree("iq4_nl", "iq4_xs")
    assert not agree("q8_0", "q4_k_m")
    assert not agree("bf16", "f16")


def test_order_goes_from_few_bits_to_many() -> None:
    order = [
        "iq1_s",
        "iq2_xxs",
        "iq2_xs",
        "iq2_m",
        "iq3_xxs",
        "iq4_xs",
        "q2_k",
        "q3_k_s",
        "q3_k_m",
        "q3_k_l",
        "q4_0",
        "q4_k_s",
        "q4_k_m",
        "q5_k_m",
        "q6_k",
        "q8_0",
        "fp16",
        "bf16",
        "f16",
        "f32",
    ]
    assert sort_quantizations(reversed(order)) == order


@pytest.mark.parametrize("text", ["q4_" * 100_000, "a/" * 100_000, "-" * 1_000_000, "Q" * 100_000 + ".gguf"])
def test_long_names_cost_little(text: str) -> None:
    assert detect_quantization(text) in ("", "q4")
