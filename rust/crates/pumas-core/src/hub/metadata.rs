//! What the hub's words about a repository become in a model's `metadata.json`: type, family, tags.
//!
//! Only what the hub says stands here. The keys are those of the library.

use serde_json::{Map, Value, json};

use super::kinds;
use super::model::{Described, HUB, HubModel};
use super::selection::Choice;
use crate::library::formats::families::{ModelType, family_in_text, family_of, type_of};
use crate::library::formats::shards::PIPELINE_INDEX;
use crate::library::formats::text::one_line;

const MAX_DESCRIPTION: usize = 1000;
const MAX_CARD_BYTES: usize = 16 * 1024;
const MAX_TAGS: usize = 100;
const UNWANTED_IN_CARD: [&str; 5] = [
    "model-index",
    "model_index",
    "eval_results",
    "widget",
    "extra_gated_fields",
];
/// How tags begin that say how the hub files a repository, not what the model is.
const FILING: [&str; 9] = [
    "base_model",
    "license",
    "region",
    "arxiv",
    "doi",
    "dataset",
    "deploy",
    "endpoints_compatible",
    "autotrain",
];
/// <https://huggingface.co/tasks>
static TASKS: &[(ModelType, &[&str])] = &[
    (
        ModelType::Llm,
        &[
            "text-generation",
            "text2text-generation",
            "conversational",
            "image-text-to-text",
            "any-to-any",
            "translation",
            "summarization",
            "question-answering",
            "video-text-to-text",
            "audio-text-to-text",
            "visual-question-answering",
            "document-question-answering",
            "fill-mask",
            "table-question-answering",
        ],
    ),
    (
        ModelType::Diffusion,
        &[
            "text-to-image",
            "image-to-image",
            "text-to-video",
            "image-to-video",
            "unconditional-image-generation",
            "text-to-3d",
            "image-to-3d",
            "video-to-video",
            "image-text-to-image",
            "image-text-to-video",
        ],
    ),
    (
        ModelType::Audio,
        &[
            "automatic-speech-recognition",
            "text-to-speech",
            "text-to-audio",
            "audio-to-audio",
            "audio-classification",
            "voice-activity-detection",
        ],
    ),
    (
        ModelType::Vision,
        &[
            "image-classification",
            "object-detection",
            "image-segmentation",
            "depth-estimation",
            "image-to-text",
            "mask-generation",
            "zero-shot-image-classification",
            "zero-shot-object-detection",
            "keypoint-detection",
            "video-classification",
            "image-feature-extraction",
        ],
    ),
    (
        ModelType::Embedding,
        &[
            "feature-extraction",
            "sentence-similarity",
            "text-ranking",
            "text-classification",
            "token-classification",
            "zero-shot-classification",
            "visual-document-retrieval",
        ],
    ),
];
/// Fragments of the names that publishers give, and the family; the first decides.
static IMAGE_FAMILIES: &[(&str, &str)] = &[
    ("flux", "flux"),
    ("sdxl", "sdxl"),
    ("stable-diffusion-xl", "sdxl"),
    ("sd_xl", "sdxl"),
    ("sd-xl", "sdxl"),
    ("stable-diffusion-3", "sd3"),
    ("sd3", "sd3"),
    ("qwen-image", "qwen-image"),
    ("z-image", "z-image"),
    ("hunyuanvideo", "hunyuan-video"),
    ("hunyuan-video", "hunyuan-video"),
    ("ltx-video", "ltx-video"),
    ("wan2", "wan"),
    ("wan-", "wan"),
    ("kolors", "kolors"),
    ("pixart", "pixart"),
    ("chroma", "chroma"),
    ("lumina", "lumina"),
    ("auraflow", "auraflow"),
    ("mochi", "mochi"),
    ("sana", "sana"),
    ("hidream", "hidream"),
    ("cogvideo", "cogvideox"),
    ("stable-diffusion", "stable-diffusion"),
    ("sd-v1", "stable-diffusion"),
];
/// Word in a tag, and the subtype under which apps look for such a file.
static SUBTYPES: &[(&str, &str)] = &[
    ("lora", "loras"),
    ("controlnet", "controlnet"),
    ("textual_inversion", "embeddings"),
    ("vae", "vae"),
    ("upscaler", "upscale_models"),
];

/// The part of `metadata.json` that the hub's words fill, for the files of `choice`. Names of files, their digests, sizes
/// and dates are added by whoever has fetched and hashed them.
#[must_use]
pub fn describe(model: &HubModel, choice: &Choice) -> Map<String, Value> {
    let (kind, said) = (Kind::of(model, choice), &model.said);
    let summary = ["description", "model_summary"]
        .iter()
        .find_map(|key| model.card.get(*key)?.as_str().filter(|text| !text.is_empty()));
    let described = json!({
        "official_name": said.name(),
        "family": kind.family,
        "model_type": kind.model_type.as_str(),
        "subtype": kind.subtype,
        "architecture": kind.architecture,
        "quantization": choice.quant.as_deref().unwrap_or_default(),
        "tags": tags_of(said).collect::<Vec<_>>(),
        "base_model": said.base_model,
        "license": said.license,
        "gated": said.gated,
        "description": one_line(summary.unwrap_or_default(), MAX_DESCRIPTION),
        "model_card": card_of(model),
        "release_date": said.last_modified,
        "download_url": format!("{HUB}/{}", said.repo_id),
        "repo_id": said.repo_id,
        "revision": said.commit,
        "pipeline_tag": said.pipeline_tag,
        "library_name": said.library_name,
        "preview_image": "",
        "inference_settings": {},
        "compatible_apps": [],
        "notes": "",
        "match_source": "hf",
        "match_method": "hash",
        "match_confidence": 1.0,
        "pending_online_lookup": false,
        "lookup_attempts": 0,
    });
    match described {
        Value::Object(described) => described,
        _ => Map::new(),
    }
}

/// What kind of model this is: a guess that the files' own content may overrule.
pub(super) struct Kind {
    pub architecture: String,
    pub model_type: ModelType,
    pub subtype: &'static str,
    pub family: String,
}

impl Kind {
    pub(super) fn of(model: &HubModel, choice: &Choice) -> Self {
        let architecture = architecture_of(model);
        let task = &model.said.pipeline_tag;
        let model_type = type_of(&architecture)
            .or_else(|| type_of_task(task))
            .unwrap_or_else(|| type_by_signs(model, &architecture, choice));
        Self {
            subtype: subtype(model, model_type, choice),
            family: family(&model.said, model_type, &architecture),
            architecture,
            model_type,
        }
    }
}

/// What models of a task are.
pub(super) fn type_of_task(task: &str) -> Option<ModelType> {
    let found = TASKS.iter().find(|(_, tasks)| tasks.contains(&task));
    found.map(|(model_type, _)| *model_type)
}

/// The family of a repository of which only the listing is known.
pub(super) fn family_of_listing(said: &Described, model_type: ModelType) -> String {
    family(said, model_type, "")
}

/// As a GGUF header or a config names it, `""` when neither was seen by the hub.
fn architecture_of(model: &HubModel) -> String {
    let line = |object: &Map<String, Value>, key: &str| {
        one_line(object.get(key).and_then(Value::as_str).unwrap_or_default(), 64)
    };
    let gguf = line(&model.gguf, "architecture");
    if gguf.is_empty() {
        line(&model.config, "model_type")
    } else {
        gguf
    }
}

fn type_by_signs(model: &HubModel, architecture: &str, choice: &Choice) -> ModelType {
    let library = model.said.library_name.as_str();
    let pipeline = choice.files.iter().any(|file| file.path == PIPELINE_INDEX);
    if pipeline
        || matches!(library, "diffusers" | "diffusion-single-file")
        || !image_family(&model.said).is_empty()
    {
        return ModelType::Diffusion;
    }
    if library == "sentence-transformers" {
        return ModelType::Embedding;
    }
    let mut weights = choice.weights().peekable();
    let all_gguf = weights.peek().is_some() && weights.all(|file| kinds::extension(&file.path) == "gguf");
    let speaks = matches!(library, "transformers" | "mlx" | "vllm" | "llama.cpp" | "gguf");
    if !architecture.is_empty() || speaks || all_gguf {
        ModelType::Llm
    } else {
        ModelType::Unknown
    }
}

fn subtype(model: &HubModel, model_type: ModelType, choice: &Choice) -> &'static str {
    let adapter = choice
        .files
        .iter()
        .any(|file| file.path.ends_with("adapter_config.json"));
    let otherwise = |plain| if adapter { "loras" } else { plain };
    if model_type != ModelType::Diffusion {
        return otherwise("");
    }
    let named = model.said.name().to_lowercase();
    let tagged = |word: &str| model.said.tags.iter().any(|tag| tag.to_lowercase() == word);
    let found = SUBTYPES
        .iter()
        .find(|(word, _)| tagged(word) || named.contains(word));
    found.map_or_else(|| otherwise("checkpoints"), |(_, subtype)| subtype)
}

/// `unknown` when neither the architecture nor a name tells.
fn family(said: &Described, model_type: ModelType, architecture: &str) -> String {
    let image = image_family(said);
    if model_type == ModelType::Diffusion && !image.is_empty() {
        return image.to_owned();
    }
    let found = if architecture.is_empty() {
        let named = family_in_text(&names(said));
        if named.is_empty() { image.to_owned() } else { named }
    } else {
        one_line(&family_of(architecture), 64)
    };
    if found.is_empty() {
        "unknown".to_owned()
    } else {
        found
    }
}

fn image_family(said: &Described) -> &'static str {
    let names = names(said).to_lowercase();
    IMAGE_FAMILIES
        .iter()
        .find(|(fragment, _)| names.contains(fragment))
        .map_or("", |(_, family)| family)
}

/// Where a family may be named: the repository, what it was made from, and tags, which often are architectures.
fn names(said: &Described) -> String {
    let tags = tags_of(said);
    let all = [said.name()]
        .into_iter()
        .chain(said.base_model.iter().map(String::as_str))
        .chain(tags);
    all.collect::<Vec<_>>().join(" ")
}

/// The tags that say something about the model.
fn tags_of(said: &Described) -> impl Iterator<Item = &str> {
    let tags = said.tags.iter().map(String::as_str);
    tags.filter(|tag| !FILING.iter().any(|filing| tag.starts_with(filing)))
        .take(MAX_TAGS)
}

/// The card's data without what is long, and without its largest entries when it is still too long.
pub(super) fn card_of(model: &HubModel) -> Map<String, Value> {
    let mut card = model.card.clone();
    card.retain(|key, _| !UNWANTED_IN_CARD.contains(&key.as_str()));
    let size = |(key, value): (&String, &Value)| key.chars().count() + value.to_string().len();
    while card.iter().map(size).sum::<usize>() > MAX_CARD_BYTES {
        let largest = card
            .iter()
            .rev()
            .max_by_key(|entry| size(*entry))
            .map(|(key, _)| key.clone());
        card.shift_remove(&largest.unwrap_or_default());
    }
    card
}
