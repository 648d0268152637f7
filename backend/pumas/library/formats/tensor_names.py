"""What a set of tensor names says about the model that they belong to.

Rules are data: a rule holds when each of its groups has a fragment that stands in some tensor's name, and none of its
exclusions does. A leading `^` ties a fragment to a name's beginning. Layouts are those of the original repositories,
of diffusers and of transformers. Knows nothing about files; `identify` brings the names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from .families import UNKNOWN, Kind, ModelType

_MAX_NAMES: Final = 20_000
_MAX_TEXT: Final = 1_000_000


@dataclass(slots=True)
class TensorNames:
    """Names, and shapes where they are known. Of very many names only the first count."""

    names: Sequence[str]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    _joined: str = ""

    def __post_init__(self) -> None:
        enough = next((n for n, size in enumerate(accumulate(map(len, self.names))) if size > _MAX_TEXT), _MAX_NAMES)
        self.names = self.names[: min(enough, _MAX_NAMES)]
        self._joined = "\n" + "\n".join(self.names) + "\n"

    def has(self, fragment: str) -> bool:
        return fragment.replace("^", "\n") in self._joined

    def any(self, fragments: Iterable[str]) -> bool:
        return any(map(self.has, fragments))

    def share(self, pattern: re.Pattern[str]) -> float:
        """The part of all names that match, 0 to 1."""
        return sum(1 for name in self.names if pattern.search(name)) / max(1, len(self.names))

    def count(self, pattern: re.Pattern[str]) -> int:
        return sum(1 for name in self.names if pattern.search(name))

    def width(self, fragment: str) -> int:
        """The last dimension of the first tensor whose name holds `fragment`; 0 when it is not known."""
        return next((self.shapes[n][-1] for n in self.names if fragment in n and self.shapes.get(n)), 0)

    def inside(self, prefix: str) -> TensorNames:
        """Only the names that begin with `prefix`, which is taken off."""
        names = {name: name[len(prefix) :] for name in self.names if name.startswith(prefix)}
        shapes = {short: self.shapes[name] for name, short in names.items() if name in self.shapes}
        return TensorNames(list(names.values()), shapes)


class Rule:
    """`groups` are fragments, or tuples of which one is enough; `unless` fragments that must not be there."""

    def __init__(self, kind: Kind, *groups: str | tuple[str, ...], unless: tuple[str, ...] = ()) -> None:
        self.kind, self.unless = kind, unless
        self.groups = tuple((group,) if isinstance(group, str) else group for group in groups)

    def holds(self, tensors: TensorNames) -> bool:
        return all(map(tensors.any, self.groups)) and not tensors.any(self.unless)


def _first(rules: Iterable[Rule], tensors: TensorNames) -> Kind | None:
    return next((rule.kind for rule in rules if rule.holds(tensors)), None)


def _image(family: str, architecture: str = "", subtype: str = "diffusion_models") -> Kind:
    return Kind(ModelType.DIFFUSION, subtype, family, architecture or family)


def _part(subtype: str, family: str = "", architecture: str = "") -> Kind:
    """A part of an image program's set of models."""
    return Kind(ModelType.DIFFUSION, subtype, family, architecture or family or subtype)


# Transformers that make images and video, most special first.
_IMAGE_TRANSFORMERS: Final = (
    Rule(_image("hunyuan-video"), "^double_blocks.0.", "^txt_in.individual_token_refiner."),
    Rule(_image("chroma"), "^double_blocks.0.", "^distilled_guidance_layer."),
    Rule(_image("flux", "flux2"), "^double_blocks.0.", "^double_stream_modulation_img."),
    Rule(_image("flux"), "^double_blocks.0.img_attn.", "^single_blocks.0."),
    Rule(_image("chroma"), "^single_transformer_blocks.0.", "^distilled_guidance_layer."),
    Rule(_image("auraflow", "aura"), "^single_transformer_blocks.0.", "^joint_transformer_blocks.0."),
    Rule(_image("flux"), "^transformer_blocks.0.", "^single_transformer_blocks.0."),
    Rule(_image("qwen-image", "qwen_image"), "^txt_norm.weight", "^transformer_blocks.0.attn.add_q_proj."),
    Rule(_image("sd3"), "^joint_blocks.0."),
    Rule(_image("sd3"), "^transformer_blocks.0.attn.add_k_proj.", "^pos_embed.proj."),
    Rule(_image("auraflow", "aura"), "^double_layers.0.attn.w1q."),
    Rule(_image("wan"), "^head.modulation", "^blocks.0.cross_attn."),
    Rule(_image("wan"), "^condition_embedder.", "^blocks.0.attn2.", "^scale_shift_table"),
    Rule(_image("lumina", "lumina2"), "^cap_embedder.", "^noise_refiner.0."),
    Rule(_image("hidream"), "^double_stream_blocks.0.", "^caption_projection.0."),
    Rule(_image("pixart"), "^t_block.1.", "^y_embedder."),
    Rule(_image("pixart"), "^adaln_single.", "^pos_embed.proj."),
    Rule(_image("ltx-video", "ltxv"), "^adaln_single.", ("^patchify_proj.", "^proj_in.")),
    Rule(_image("cosmos"), ("^blocks.block0.blocks.0.block.", "^blocks.0.adaln_modulation_cross_attn.")),
    Rule(_image("mochi"), "^t5_yproj."),
    Rule(_image("hunyuan-dit"), "^mlp_t5.0."),
    Rule(_image("cogvideox"), "^patch_embed.proj.", "^transformer_blocks.0.norm1.linear."),
    Rule(_image("sana"), "^caption_norm.", "^transformer_blocks.0.attn2."),
)
_UNETS: Final = (
    Rule(_image("sdxl"), "^input_blocks.0.0.", "^output_blocks.0.", "^label_emb."),
    Rule(_image("stable-diffusion"), "^input_blocks.0.0.", "^output_blocks.0."),
    Rule(_image("sdxl"), "^down_blocks.0.", "^up_blocks.0.", "^time_embedding.", "^add_embedding."),
    Rule(_image("stable-diffusion"), "^down_blocks.0.", "^up_blocks.0.", "^time_embedding."),
)
_WRAPPERS: Final = ("model.diffusion_model.", "diffusion_model.", "module.", "_orig_mod.", "net.", "transformer.")
_IMAGE_WRAPPERS: Final = _WRAPPERS[:2]
_OTHER_PARTS: Final = ("^first_stage_model.", "^vae.", "^cond_stage_model.", "^conditioner.", "^text_encoders.")

_CONTROLNET: Final = Rule(
    _part("controlnet"),
    (
        "^control_model.",
        "controlnet_cond_embedding.",
        "input_hint_block.",
        "^controlnet_blocks.",
        "controlnet_down_blocks.",
        "^controlnet_x_embedder.",
        "^zero_convs.",
        "^control_blocks.0.",
    ),
)
_CLIP: Final = Kind(ModelType.VISION, "clip", "clip", "clip")
_CLIP_VISION: Final = Kind(ModelType.VISION, "clip_vision", "clip", "clip_vision")
_LANGUAGE_PARTS: Final = ("^language_model.", "^model.layers.", "^model.language_model.", "^text_decoder.")

# Whole files with one purpose, most special first.
_PURPOSES: Final = (
    Rule(_part("controlnet", "", "t2i-adapter"), ("^adapter.body.", "^body.0.block1."), ("conv_in.",)),
    Rule(_part("ipadapter"), ("^ip_adapter.",)),
    Rule(_part("upscale", "esrgan"), ("^conv_first.", "^model.0."), (".rdb1.conv1.", ".RDB1.conv1.")),
    Rule(_part("upscale", "swinir"), ".residual_group.blocks.", "^conv_first.", "^conv_after_body."),
    Rule(_part("upscale", "dat"), "^conv_first.", "^before_RG."),
    Rule(_part("upscale", "span"), "^block_1.c1_r.", "^conv_2."),
    Rule(_part("upscale", "srvgg"), "^body.0.weight", "^body.1.weight", "^body.2.weight"),
    Rule(Kind(ModelType.AUDIO, "", "wav2vec2", "wav2vec2"), "^wav2vec2."),
    Rule(
        Kind(ModelType.AUDIO, "", "whisper", "whisper"),
        "encoder.conv1.weight",
        "encoder.conv2.weight",
        ("decoder.layers.0.encoder_attn.", "decoder.blocks.0.cross_attn."),
    ),
    Rule(
        Kind(ModelType.AUDIO),
        (
            "^hubert.",
            "^encodec.",
            "^audio_encoder.",
            "feature_extractor.conv_layers.0.",
            "^genre_embedder.",
            "quantizer.layers.0.codebook",
            "quantizer.vq.layers.0.",
        ),
    ),
    Rule(_part("t5", "t5"), "encoder.block.0.layer.0.SelfAttention.q.", unless=("decoder.block.0.",)),
    Rule(Kind(ModelType.LLM, "", "t5", "t5"), "encoder.block.0.layer.0.SelfAttention.", "decoder.block.0."),
    Rule(_CLIP, "^text_model.encoder.layers.0.", "^vision_model.encoder.layers.0."),
    Rule(_CLIP, "^visual.transformer.resblocks.0.", "^transformer.resblocks.0."),
    Rule(_CLIP_VISION, ("^vision_model.encoder.layers.0.", "^visual.transformer.resblocks.0."), unless=_LANGUAGE_PARTS),
    Rule(
        _part("clip", "clip"),
        ("text_model.encoder.layers.0.", "^transformer.resblocks.0."),
        unless=_LANGUAGE_PARTS,
    ),
    Rule(
        Kind(ModelType.EMBEDDING, "", "bert", "bert"),
        ("embeddings.word_embeddings.", "embeddings.tok_embeddings."),
        ("encoder.layer.0.attention.", "encoder.layers.0.", "transformer.layer.0.attention.", "layers.0.attn.Wqkv."),
    ),
    Rule(
        Kind(ModelType.VISION),
        (
            "^vit.encoder.layer.0.",
            "^vit.embeddings.",
            "^dinov2.",
            "^image_encoder.blocks.0.",
            "^swin.",
            "^resnet.",
            "^backbone.conv_encoder.",
            "^segformer.",
            "^blocks.0.attn.qkv.weight",
            "^model.22.dfl.",
            "^layer1.0.conv1.weight",
            "^embeddings.patch_embeddings.projection.",
        ),
    ),
)
_VAES: Final = tuple(
    Rule(_part("vae"), *groups, unless=("time_embed", "lm_head", "embed_tokens", "_blocks.0.attentions.0.transformer"))
    for groups in (
        (("decoder.up.0.", "decoder.up_blocks.0.", "encoder.down.0.", "encoder.down_blocks.0."),),
        ("decoder.upsamples.", "decoder.middle."),
        ("decoder.conv_in.", "decoder.conv_out."),
        (("^taesd_decoder.", "^taesd_encoder."),),
    )
)


def _llm(family: str) -> Kind:
    return Kind(ModelType.LLM, "", family, family)


# Layouts of language models that only one family has; Llama, Mistral and others share theirs.
_LANGUAGE_FAMILIES: Final = (
    Rule(_llm("gpt-neox"), "gpt_neox."),
    Rule(_llm("bloom"), "self_attention.query_key_value", "word_embeddings_layernorm"),
    Rule(_llm("chatglm"), "self_attention.query_key_value", "rotary_pos_emb"),
    Rule(_llm("falcon"), "self_attention.query_key_value"),
    Rule(_llm("deepseek"), "kv_a_proj_with_mqa"),
    Rule(_llm("mistral"), "block_sparse_moe.experts", ".w1."),
    Rule(_llm("gemma"), "pre_feedforward_layernorm"),
    Rule(_llm("phi"), (".self_attn.dense.", ".self_attn.qkv_proj.", ".mixer.Wqkv.")),
    Rule(_llm("qwen"), ".self_attn.q_proj.bias", ".mlp.gate_proj."),
    Rule(_llm("qwen"), ".self_attn.q_norm.", ".self_attn.k_norm.", ".input_layernorm."),
    Rule(_llm("mamba"), "mixer.A_log"),
    Rule(_llm("rwkv"), ("att.time_decay", "att.time_maa_x", "attention.time_decay")),
    Rule(_llm("gpt2"), "h.0.attn.c_attn."),
    Rule(_llm("mpt"), "transformer.blocks.0.attn.Wqkv"),
    Rule(_llm("internlm"), "attention.wqkv."),
)
_CERTAIN_LAYOUTS: Final = frozenset({"gpt-neox", "bloom", "falcon", "mamba", "rwkv", "gpt2", "mpt", "chatglm"})

_ADAPTED: Final = re.compile(
    r"\.lora_(?:A|B|up|down|a|b|linear_layer|embedding_A|embedding_B|magnitude_vector)\b|[._]lora\.(?:up|down)\."
    r"|\.(?:hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t2|oft_blocks|oft_diag|boft_blocks|dora_scale"
    r"|diff_b|diff|glora_[ab][12])\b|\.alpha$"
)
_ADAPTED_IMAGE: Final = re.compile(
    r"lora_unet_|lora_te|lora_transformer_|transformer_blocks|text_model|unet\.|diffusion_model\.|double_blocks|down_blocks"
)
_ADAPTED_LANGUAGE: Final = re.compile(
    r"(?:^|\.)(?:layers|h|blk)\.\d+\.(?:self_attn|mlp|attn|attention|linear_attn|block_sparse_moe)\b"
)
_ADAPTED_FAMILIES: Final = (
    Rule(_image("flux"), ("double_blocks", "single_transformer_blocks")),
    Rule(_image("sd3"), ("joint_blocks", "joint_transformer_blocks")),
    Rule(_image("sdxl"), ("lora_te2_", "add_embedding", "label_emb", "text_encoder_2.")),
    Rule(_image("wan"), ("blocks.0.cross_attn.", "blocks_0_cross_attn_")),
)
_CONTEXT_KEYS: Final = ("attn2_to_k.lora_down", "attn2.to_k.lora_down", "attn2.to_k.lora_A", "attn2.to_k.lora.down")
# Width of the text that an image model listens to.
_FAMILY_OF_WIDTH: Final = {768: "stable-diffusion", 1024: "stable-diffusion", 1280: "sdxl", 2048: "sdxl"}

_INVERSION_NAMES: Final = {"emb_params", "clip_l", "clip_g", "t5xxl"}

_LANGUAGE_MARKS: Final = re.compile(
    r"self_attn|lm_head|embed_tokens|model\.layers\.|transformer\.h\.|gpt_neox|mlp\.up_proj|mlp\.down_proj"
    r"|input_layernorm|post_attention_layernorm|rotary_emb"
)
_IMAGE_MARKS: Final = re.compile(
    r"down_blocks|up_blocks|mid_block|time_embedding|time_emb_proj|conv_in|conv_out|unet|vae|encoder\.down|decoder\.up|quant_conv"
)
_ENOUGH_MARKS: Final = 5
_LARGE_BYTES: Final = 1_000_000_000


def kind_of_tensors(tensors: TensorNames, size: int) -> Kind:
    """What the names say; `size` of the file in bytes. `UNKNOWN` when they say nothing."""
    if tensors.share(_ADAPTED) >= 0.5:
        return _adapter(tensors)
    if _is_inversion(tensors):
        width = tensors.shapes[tensors.names[0]][-1] if tensors.shapes.get(tensors.names[0]) else 0
        return _part("embeddings", _FAMILY_OF_WIDTH.get(width, ""), "textual-inversion")
    if _CONTROLNET.holds(tensors):
        return _CONTROLNET.kind
    return _image_model(tensors) or _first(_PURPOSES, tensors) or _first(_VAES, tensors) or _by_counting(tensors, size)


def _image_model(tensors: TensorNames) -> Kind | None:
    prefix = next((wrapper for wrapper in _WRAPPERS if tensors.has(f"^{wrapper}")), "")
    inner = tensors.inside(prefix) if prefix else tensors
    if _CONTROLNET.holds(inner):
        return _CONTROLNET.kind
    kind = _first(_IMAGE_TRANSFORMERS, inner) or _unet(inner, tensors)
    if kind is None and prefix in _IMAGE_WRAPPERS:
        kind = _image("")  # of a family that we do not know
    if kind and prefix and tensors.any(_OTHER_PARTS):
        return kind._replace(subtype="checkpoints")
    return kind


def _unet(inner: TensorNames, checkpoint: TensorNames) -> Kind | None:
    kind = _first(_UNETS, inner)
    if kind is None or kind.family == "sdxl":
        return kind
    width = inner.width("attn2.to_k.")
    if width in (1280, 2048) or checkpoint.has("^conditioner.embedders."):
        return _image("sdxl")
    second = width == 1024 or checkpoint.has("^cond_stage_model.model.")
    return kind._replace(architecture="sd2" if second else "sd1")


def _adapter(tensors: TensorNames) -> Kind:
    images = tensors.count(_ADAPTED_IMAGE) > 0
    if not images and tensors.count(_ADAPTED_LANGUAGE):
        found = _first(_LANGUAGE_FAMILIES, tensors)
        return Kind(ModelType.LLM, "loras", found.family if found else "", "lora")
    found = _first(_ADAPTED_FAMILIES, tensors)
    width = next((width for key in _CONTEXT_KEYS if (width := tensors.width(key))), 0)
    family = found.family if found else _FAMILY_OF_WIDTH.get(width, "")
    return Kind(ModelType.DIFFUSION if images or family else ModelType.UNKNOWN, "loras", family, "lora")


def _is_inversion(tensors: TensorNames) -> bool:
    """A textual inversion: a few vectors under one of the names that trainers give them."""
    if not tensors.names:
        return False
    if set(tensors.names) <= _INVERSION_NAMES:
        return True
    first = tensors.names[0]
    vector = len(tensors.shapes.get(first, ())) in (1, 2) and tensors.shapes[first][-1] in _FAMILY_OF_WIDTH
    return len(tensors.names) == 1 and first.startswith("<") and vector


def _by_counting(tensors: TensorNames, size: int) -> Kind:
    found = _first(_LANGUAGE_FAMILIES, tensors)
    language, images = tensors.count(_LANGUAGE_MARKS), tensors.count(_IMAGE_MARKS)
    if language > images and (language > _ENOUGH_MARKS or size > _LARGE_BYTES):
        return found or _llm("")
    if images > language and images > _ENOUGH_MARKS:
        return _image("stable-diffusion", subtype="checkpoints")
    return found if found and found.family in _CERTAIN_LAYOUTS else UNKNOWN
