//! Tables: the kinds of models, and what the names that files give their own architecture mean.
//!
//! Sources: the architecture list of llama.cpp
//! (<https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py>), the names in GGUF files that image and
//! video programs make, transformers' `model_type`, and `ModelSpec`. What tensors say is in `tensor_names`.

use std::borrow::Cow;
use std::fmt;

use indexmap::IndexMap;

/// What a model is for; the names are those on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ModelType {
    /// Language models.
    Llm,
    /// Images and video, and all parts of programs that make them.
    Diffusion,
    /// Speech, music, sound.
    Audio,
    /// Models that look at pictures.
    Vision,
    /// Models that turn text into vectors.
    Embedding,
    /// The content does not say.
    #[default]
    Unknown,
}

impl ModelType {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Llm => "llm",
            Self::Diffusion => "diffusion",
            Self::Audio => "audio",
            Self::Vision => "vision",
            Self::Embedding => "embedding",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for ModelType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// What a model is: type, subtype (`""` when there is none), family and architecture (`""` when not known).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Kind {
    pub model_type: ModelType,
    pub subtype: Cow<'static, str>,
    pub family: Cow<'static, str>,
    pub architecture: Cow<'static, str>,
}

pub(super) const fn kind(
    model_type: ModelType,
    subtype: &'static str,
    family: &'static str,
    architecture: &'static str,
) -> Kind {
    Kind {
        model_type,
        subtype: Cow::Borrowed(subtype),
        family: Cow::Borrowed(family),
        architecture: Cow::Borrowed(architecture),
    }
}

impl Kind {
    pub(super) fn is_known(&self) -> bool {
        self.model_type != ModelType::Unknown
    }
}

/// Architectures, as GGUF's `general.architecture` and transformers' `model_type` name them, and their families.
static FAMILY_OF: &[(&str, &str)] = &[
    ("codellama", "llama"),
    ("mixtral", "mistral"),
    ("phi2", "phi"),
    ("phi3", "phi"),
    ("qwen2", "qwen"),
    ("starcoder2", "starcoder"),
    ("gptneox", "gpt-neox"),
    ("gpt_neox", "gpt-neox"),
    ("gptj", "gpt-j"),
    ("hyvid", "hunyuan-video"),
    ("hunyuan_video", "hunyuan-video"),
    ("sd1", "stable-diffusion"),
    ("sd2", "stable-diffusion"),
    ("sd", "stable-diffusion"),
    ("aura", "auraflow"),
    ("ltxv", "ltx-video"),
    ("lumina2", "lumina"),
    ("pig", ""),
    ("t5encoder", "t5"),
];
static DIFFUSION: &[&str] = &[
    "aura",
    "auraflow",
    "chroma",
    "cogvideox",
    "cosmos",
    "ernie_image",
    "flux",
    "flux2",
    "hidream",
    "hunyuan_dit",
    "hunyuan_image",
    "hunyuan_video",
    "hyvid",
    "kandinsky5",
    "kolors",
    "ltxv",
    "lumina2",
    "mochi",
    "omnigen",
    "pig",
    "pixart",
    "qwen_image",
    "sana",
    "sd",
    "sd1",
    "sd2",
    "sd3",
    "sd35",
    "sdxl",
    "wan",
    "z_image",
];
static AUDIO: &[&str] = &[
    "ace-step",
    "acestep",
    "audiogen",
    "bark",
    "clap",
    "csm",
    "data2vec-audio",
    "dia",
    "encodec",
    "hubert",
    "kokoro",
    "mimi",
    "moonshine",
    "moshi",
    "musicgen",
    "orpheus-snac",
    "outetts-vocoder",
    "parler",
    "parler-tts",
    "seamless_m4t",
    "snac",
    "speech-encoder-decoder",
    "speecht5",
    "stable-audio",
    "vits",
    "voxtral",
    "wav2vec2",
    "wavlm",
    "wavtokenizer-dec",
    "whisper",
    "xtts",
];
static EMBEDDING: &[&str] = &[
    "albert",
    "bert",
    "camembert",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "eurobert",
    "gemma-embedding",
    "jina-bert-v2",
    "jina-bert-v3",
    "llama-embed",
    "modern-bert",
    "modernbert",
    "mpnet",
    "neo-bert",
    "neobert",
    "new",
    "nomic-bert",
    "nomic-bert-moe",
    "nomic_bert",
    "roberta",
    "t5gemma-encoder",
    "xlm-roberta",
    "xlm_roberta",
];
static VISION: &[&str] = &[
    "beit",
    "blip",
    "blip-2",
    "clip",
    "clip_vision_model",
    "convnext",
    "deit",
    "depth_anything",
    "detr",
    "dinov2",
    "dinov3_vit",
    "efficientnet",
    "florence2",
    "mobilenet_v2",
    "owlvit",
    "resnet",
    "sam",
    "sam2",
    "segformer",
    "siglip",
    "siglip2",
    "siglip_vision_model",
    "swin",
    "vit",
    "yolo",
    "yolos",
];
static FAMILY_WORDS: &[&str] = &[
    "llama",
    "mixtral",
    "mistral",
    "falcon",
    "qwen",
    "gemma",
    "phi",
    "deepseek",
    "yi",
    "starcoder",
    "smollm",
    "granite",
];
/// <https://github.com/Stability-AI/ModelSpec> and the `ss_base_model_version` of kohya: the first fragment that is found.
static SPEC_FAMILIES: &[(&str, &str)] = &[
    ("flux-2", "flux"),
    ("flux", "flux"),
    ("chroma", "chroma"),
    ("stable-diffusion-xl", "sdxl"),
    ("sdxl", "sdxl"),
    ("stable-diffusion-v3", "sd3"),
    ("stable-diffusion-3", "sd3"),
    ("sd3", "sd3"),
    ("stable-diffusion", "stable-diffusion"),
    ("sd_v1", "stable-diffusion"),
    ("sd_v2", "stable-diffusion"),
    ("wan", "wan"),
    ("hunyuan-video", "hunyuan-video"),
    ("qwen-image", "qwen-image"),
    ("lumina", "lumina"),
    ("kolors", "kolors"),
    ("pixart", "pixart"),
    ("ltx", "ltx-video"),
];
static SPEC_SUBTYPES: &[(&str, &str)] = &[
    ("/lora", "loras"),
    ("/textual-inversion", "embeddings"),
    ("/controlnet", "controlnet"),
    ("/control-net", "controlnet"),
    ("/vae", "vae"),
];

/// The family that an architecture belongs to; an unknown one is its own family.
#[must_use]
pub fn family_of(architecture: &str) -> String {
    if let Some((_, family)) = FAMILY_OF.iter().find(|(known, _)| *known == architecture) {
        return (*family).to_owned();
    }
    if type_of(architecture).is_some() {
        architecture.replace('_', "-")
    } else {
        architecture.to_owned()
    }
}

/// The type of an architecture that is not a language model.
#[must_use]
pub fn type_of(architecture: &str) -> Option<ModelType> {
    let types = [
        (DIFFUSION, ModelType::Diffusion),
        (AUDIO, ModelType::Audio),
        (EMBEDDING, ModelType::Embedding),
        (VISION, ModelType::Vision),
    ];
    types
        .into_iter()
        .find(|(known, _)| known.contains(&architecture))
        .map(|(_, found)| found)
}

/// A language model's family named in a text, to choose among families whose tensors look alike; `""` if none.
#[must_use]
pub fn family_in_text(text: &str) -> String {
    let words = text.to_lowercase();
    let letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_lowercase);
    let stands_alone = |word: &&&str| {
        words.match_indices(**word).any(|(at, _)| {
            let bytes = words.as_bytes();
            !letter(at.checked_sub(1).and_then(|before| bytes.get(before)))
                && !letter(bytes.get(at + word.len()))
        })
    };
    FAMILY_WORDS
        .iter()
        .find(stands_alone)
        .map(|word| family_of(word))
        .unwrap_or_default()
}

/// What trainers wrote about an image model; unknown when they wrote nothing.
pub(super) fn kind_of_metadata(metadata: &IndexMap<String, String>) -> Kind {
    let lower = |key: &str| {
        metadata
            .get(key)
            .map(|text| text.to_lowercase())
            .unwrap_or_default()
    };
    let spec = lower("modelspec.architecture");
    let text = if spec.is_empty() {
        lower("ss_base_model_version")
    } else {
        spec.clone()
    };
    let Some((_, family)) = SPEC_FAMILIES.iter().find(|(fragment, _)| text.contains(fragment)) else {
        return Kind::default();
    };
    let mut subtype = SPEC_SUBTYPES
        .iter()
        .find(|(fragment, _)| spec.contains(fragment))
        .map_or("", |(_, found)| found);
    if subtype.is_empty() && metadata.contains_key("ss_network_module") {
        subtype = "loras";
    }
    let architecture: String = spec
        .split('/')
        .next()
        .unwrap_or_default()
        .chars()
        .take(64)
        .collect();
    Kind {
        architecture: architecture.into(),
        ..kind(ModelType::Diffusion, subtype, family, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_have_families_and_types() {
        assert_eq!(family_of("mixtral"), "mistral");
        assert_eq!(family_of("qwen_image"), "qwen-image");
        assert_eq!(family_of("something_new"), "something_new");
        assert_eq!(type_of("whisper"), Some(ModelType::Audio));
        assert_eq!(type_of("llama"), None);
    }

    #[test]
    fn families_are_found_as_words() {
        assert_eq!(family_in_text("My-Mixtral-8x7B"), "mistral");
        assert_eq!(family_in_text("codellamas"), "");
        assert_eq!(family_in_text("qwen2"), "qwen");
    }
}
