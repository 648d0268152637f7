//! Rules as data: which fragments in tensor names mean which kind of model.
//!
//! A rule holds when each of its groups has a fragment that stands in some tensor's name, and none of its exclusions does.
//! A leading `^` ties a fragment to a name's beginning. Layouts are those of the original repositories, of diffusers and
//! of transformers.

use super::families::{Kind, ModelType, kind};

/// `groups`: one fragment of each must be there; `unless`: none of these may.
pub(super) struct Rule {
    pub kind: Kind,
    pub groups: &'static [&'static [&'static str]],
    pub unless: &'static [&'static str],
}

const fn rule(
    kind: Kind,
    groups: &'static [&'static [&'static str]],
    unless: &'static [&'static str],
) -> Rule {
    Rule { kind, groups, unless }
}

/// Transformers that make images and video, most special first.
pub(super) static IMAGE_TRANSFORMERS: &[Rule] = &[
    rule(
        kind(
            ModelType::Diffusion,
            "diffusion_models",
            "hunyuan-video",
            "hunyuan-video",
        ),
        &[&["^double_blocks.0."], &["^txt_in.individual_token_refiner."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "chroma", "chroma"),
        &[&["^double_blocks.0."], &["^distilled_guidance_layer."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "flux", "flux2"),
        &[&["^double_blocks.0."], &["^double_stream_modulation_img."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "flux", "flux"),
        &[&["^double_blocks.0.img_attn."], &["^single_blocks.0."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "chroma", "chroma"),
        &[
            &["^single_transformer_blocks.0."],
            &["^distilled_guidance_layer."],
        ],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "auraflow", "aura"),
        &[
            &["^single_transformer_blocks.0."],
            &["^joint_transformer_blocks.0."],
        ],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "flux", "flux"),
        &[&["^transformer_blocks.0."], &["^single_transformer_blocks.0."]],
        &[],
    ),
    rule(
        kind(
            ModelType::Diffusion,
            "diffusion_models",
            "qwen-image",
            "qwen_image",
        ),
        &[&["^txt_norm.weight"], &["^transformer_blocks.0.attn.add_q_proj."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "sd3", "sd3"),
        &[&["^joint_blocks.0."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "sd3", "sd3"),
        &[&["^transformer_blocks.0.attn.add_k_proj."], &["^pos_embed.proj."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "auraflow", "aura"),
        &[&["^double_layers.0.attn.w1q."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "wan", "wan"),
        &[&["^head.modulation"], &["^blocks.0.cross_attn."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "wan", "wan"),
        &[
            &["^condition_embedder."],
            &["^blocks.0.attn2."],
            &["^scale_shift_table"],
        ],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "lumina", "lumina2"),
        &[&["^cap_embedder."], &["^noise_refiner.0."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "hidream", "hidream"),
        &[&["^double_stream_blocks.0."], &["^caption_projection.0."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "pixart", "pixart"),
        &[&["^t_block.1."], &["^y_embedder."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "pixart", "pixart"),
        &[&["^adaln_single."], &["^pos_embed.proj."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "ltx-video", "ltxv"),
        &[&["^adaln_single."], &["^patchify_proj.", "^proj_in."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "cosmos", "cosmos"),
        &[&[
            "^blocks.block0.blocks.0.block.",
            "^blocks.0.adaln_modulation_cross_attn.",
        ]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "mochi", "mochi"),
        &[&["^t5_yproj."]],
        &[],
    ),
    rule(
        kind(
            ModelType::Diffusion,
            "diffusion_models",
            "hunyuan-dit",
            "hunyuan-dit",
        ),
        &[&["^mlp_t5.0."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "cogvideox", "cogvideox"),
        &[&["^patch_embed.proj."], &["^transformer_blocks.0.norm1.linear."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "sana", "sana"),
        &[&["^caption_norm."], &["^transformer_blocks.0.attn2."]],
        &[],
    ),
];
pub(super) static UNETS: &[Rule] = &[
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "sdxl", "sdxl"),
        &[&["^input_blocks.0.0."], &["^output_blocks.0."], &["^label_emb."]],
        &[],
    ),
    rule(
        kind(
            ModelType::Diffusion,
            "diffusion_models",
            "stable-diffusion",
            "stable-diffusion",
        ),
        &[&["^input_blocks.0.0."], &["^output_blocks.0."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "sdxl", "sdxl"),
        &[
            &["^down_blocks.0."],
            &["^up_blocks.0."],
            &["^time_embedding."],
            &["^add_embedding."],
        ],
        &[],
    ),
    rule(
        kind(
            ModelType::Diffusion,
            "diffusion_models",
            "stable-diffusion",
            "stable-diffusion",
        ),
        &[&["^down_blocks.0."], &["^up_blocks.0."], &["^time_embedding."]],
        &[],
    ),
];
pub(super) static WRAPPERS: &[&str] = &[
    "model.diffusion_model.",
    "diffusion_model.",
    "module.",
    "_orig_mod.",
    "net.",
    "transformer.",
];
pub(super) static OTHER_PARTS: &[&str] = &[
    "^first_stage_model.",
    "^vae.",
    "^cond_stage_model.",
    "^conditioner.",
    "^text_encoders.",
];
pub(super) static CONTROLNET: Rule = rule(
    kind(ModelType::Diffusion, "controlnet", "", "controlnet"),
    &[&[
        "^control_model.",
        "controlnet_cond_embedding.",
        "input_hint_block.",
        "^controlnet_blocks.",
        "controlnet_down_blocks.",
        "^controlnet_x_embedder.",
        "^zero_convs.",
        "^control_blocks.0.",
    ]],
    &[],
);
/// Whole files with one purpose, most special first.
pub(super) static PURPOSES: &[Rule] = &[
    rule(
        kind(ModelType::Diffusion, "controlnet", "", "t2i-adapter"),
        &[&["^adapter.body.", "^body.0.block1."], &["conv_in."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "ipadapter", "", "ipadapter"),
        &[&["^ip_adapter."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "upscale", "esrgan", "esrgan"),
        &[&["^conv_first.", "^model.0."], &[".rdb1.conv1.", ".RDB1.conv1."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "upscale", "swinir", "swinir"),
        &[
            &[".residual_group.blocks."],
            &["^conv_first."],
            &["^conv_after_body."],
        ],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "upscale", "dat", "dat"),
        &[&["^conv_first."], &["^before_RG."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "upscale", "span", "span"),
        &[&["^block_1.c1_r."], &["^conv_2."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "upscale", "srvgg", "srvgg"),
        &[&["^body.0.weight"], &["^body.1.weight"], &["^body.2.weight"]],
        &[],
    ),
    rule(
        kind(ModelType::Audio, "", "wav2vec2", "wav2vec2"),
        &[&["^wav2vec2."]],
        &[],
    ),
    rule(
        kind(ModelType::Audio, "", "whisper", "whisper"),
        &[
            &["encoder.conv1.weight"],
            &["encoder.conv2.weight"],
            &["decoder.layers.0.encoder_attn.", "decoder.blocks.0.cross_attn."],
        ],
        &[],
    ),
    rule(
        kind(ModelType::Audio, "", "", ""),
        &[&[
            "^hubert.",
            "^encodec.",
            "^audio_encoder.",
            "feature_extractor.conv_layers.0.",
            "^genre_embedder.",
            "quantizer.layers.0.codebook",
            "quantizer.vq.layers.0.",
        ]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "t5", "t5", "t5"),
        &[&["encoder.block.0.layer.0.SelfAttention.q."]],
        &["decoder.block.0."],
    ),
    rule(
        kind(ModelType::Llm, "", "t5", "t5"),
        &[&["encoder.block.0.layer.0.SelfAttention."], &["decoder.block.0."]],
        &[],
    ),
    rule(
        kind(ModelType::Vision, "clip", "clip", "clip"),
        &[
            &["^text_model.encoder.layers.0."],
            &["^vision_model.encoder.layers.0."],
        ],
        &[],
    ),
    rule(
        kind(ModelType::Vision, "clip", "clip", "clip"),
        &[
            &["^visual.transformer.resblocks.0."],
            &["^transformer.resblocks.0."],
        ],
        &[],
    ),
    rule(
        kind(ModelType::Vision, "clip_vision", "clip", "clip_vision"),
        &[&[
            "^vision_model.encoder.layers.0.",
            "^visual.transformer.resblocks.0.",
        ]],
        &[
            "^language_model.",
            "^model.layers.",
            "^model.language_model.",
            "^text_decoder.",
        ],
    ),
    rule(
        kind(ModelType::Diffusion, "clip", "clip", "clip"),
        &[&["text_model.encoder.layers.0.", "^transformer.resblocks.0."]],
        &[
            "^language_model.",
            "^model.layers.",
            "^model.language_model.",
            "^text_decoder.",
        ],
    ),
    rule(
        kind(ModelType::Embedding, "", "bert", "bert"),
        &[
            &["embeddings.word_embeddings.", "embeddings.tok_embeddings."],
            &[
                "encoder.layer.0.attention.",
                "encoder.layers.0.",
                "transformer.layer.0.attention.",
                "layers.0.attn.Wqkv.",
            ],
        ],
        &[],
    ),
    rule(
        kind(ModelType::Vision, "", "", ""),
        &[&[
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
        ]],
        &[],
    ),
];
pub(super) static VAES: &[Rule] = &[
    rule(
        kind(ModelType::Diffusion, "vae", "", "vae"),
        &[&[
            "decoder.up.0.",
            "decoder.up_blocks.0.",
            "encoder.down.0.",
            "encoder.down_blocks.0.",
        ]],
        &[
            "time_embed",
            "lm_head",
            "embed_tokens",
            "_blocks.0.attentions.0.transformer",
        ],
    ),
    rule(
        kind(ModelType::Diffusion, "vae", "", "vae"),
        &[&["decoder.upsamples."], &["decoder.middle."]],
        &[
            "time_embed",
            "lm_head",
            "embed_tokens",
            "_blocks.0.attentions.0.transformer",
        ],
    ),
    rule(
        kind(ModelType::Diffusion, "vae", "", "vae"),
        &[&["decoder.conv_in."], &["decoder.conv_out."]],
        &[
            "time_embed",
            "lm_head",
            "embed_tokens",
            "_blocks.0.attentions.0.transformer",
        ],
    ),
    rule(
        kind(ModelType::Diffusion, "vae", "", "vae"),
        &[&["^taesd_decoder.", "^taesd_encoder."]],
        &[
            "time_embed",
            "lm_head",
            "embed_tokens",
            "_blocks.0.attentions.0.transformer",
        ],
    ),
];
/// Layouts of language models that only one family has; Llama, Mistral and others share theirs.
pub(super) static LANGUAGE_FAMILIES: &[Rule] = &[
    rule(
        kind(ModelType::Llm, "", "gpt-neox", "gpt-neox"),
        &[&["gpt_neox."]],
        &[],
    ),
    rule(
        kind(ModelType::Llm, "", "bloom", "bloom"),
        &[
            &["self_attention.query_key_value"],
            &["word_embeddings_layernorm"],
        ],
        &[],
    ),
    rule(
        kind(ModelType::Llm, "", "chatglm", "chatglm"),
        &[&["self_attention.query_key_value"], &["rotary_pos_emb"]],
        &[],
    ),
    rule(
        kind(ModelType::Llm, "", "falcon", "falcon"),
        &[&["self_attention.query_key_value"]],
        &[],
    ),
    rule(
        kind(ModelType::Llm, "", "deepseek", "deepseek"),
        &[&["kv_a_proj_with_mqa"]],
        &[],
    ),
    rule(
        kind(ModelType::Llm, "", "mistral", "mistral"),
        &[&["block_sparse_moe.experts"], &[".w1."]],
        &[],
    ),
    rule(
        kind(ModelType::Llm, "", "gemma", "gemma"),
        &[&["pre_feedforward_layernorm"]],
        &[],
    ),
    rule(
        kind(ModelType::Llm, "", "phi", "phi"),
        &[&[".self_attn.dense.", ".self_attn.qkv_proj.", ".mixer.Wqkv."]],
        &[],
    ),
    rule(
        kind(ModelType::Llm, "", "qwen", "qwen"),
        &[&[".self_attn.q_proj.bias"], &[".mlp.gate_proj."]],
        &[],
    ),
    rule(
        kind(ModelType::Llm, "", "qwen", "qwen"),
        &[
            &[".self_attn.q_norm."],
            &[".self_attn.k_norm."],
            &[".input_layernorm."],
        ],
        &[],
    ),
    rule(
        kind(ModelType::Llm, "", "mamba", "mamba"),
        &[&["mixer.A_log"]],
        &[],
    ),
    rule(
        kind(ModelType::Llm, "", "rwkv", "rwkv"),
        &[&["att.time_decay", "att.time_maa_x", "attention.time_decay"]],
        &[],
    ),
    rule(
        kind(ModelType::Llm, "", "gpt2", "gpt2"),
        &[&["h.0.attn.c_attn."]],
        &[],
    ),
    rule(
        kind(ModelType::Llm, "", "mpt", "mpt"),
        &[&["transformer.blocks.0.attn.Wqkv"]],
        &[],
    ),
    rule(
        kind(ModelType::Llm, "", "internlm", "internlm"),
        &[&["attention.wqkv."]],
        &[],
    ),
];
pub(super) static ADAPTED_FAMILIES: &[Rule] = &[
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "flux", "flux"),
        &[&["double_blocks", "single_transformer_blocks"]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "sd3", "sd3"),
        &[&["joint_blocks", "joint_transformer_blocks"]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "sdxl", "sdxl"),
        &[&["lora_te2_", "add_embedding", "label_emb", "text_encoder_2."]],
        &[],
    ),
    rule(
        kind(ModelType::Diffusion, "diffusion_models", "wan", "wan"),
        &[&["blocks.0.cross_attn.", "blocks_0_cross_attn_"]],
        &[],
    ),
];
pub(super) static CERTAIN_LAYOUTS: &[&str] = &[
    "bloom", "chatglm", "falcon", "gpt-neox", "gpt2", "mamba", "mpt", "rwkv",
];
