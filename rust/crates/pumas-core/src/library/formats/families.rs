//! The kinds of models, and what the names that files give their own architecture mean.
//!
//! The names stand in `contracts/tables/families.json`; their sources: the architecture list of llama.cpp
//! (<https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py>), the names in GGUF files that image and
//! video programs make, transformers' `model_type`, and `ModelSpec`. What tensors say is in `tensor_names`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use indexmap::IndexMap;
use serde::Deserialize;

use crate::contracts::tables;

/// What a model is for; the names are those on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
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

type Pair = (&'static str, &'static str);

/// Architectures are named as by `general.architecture` of GGUF and by transformers' `model_type`. The trainers' are
/// those of <https://github.com/Stability-AI/ModelSpec> and of kohya's `ss_base_model_version`: the first fragment that
/// is found.
#[derive(Deserialize, Default)]
#[serde(bound(deserialize = "'de: 'static"))]
struct Names {
    families: HashMap<&'static str, &'static str>,
    types: HashMap<ModelType, Vec<&'static str>>,
    family_words: Vec<&'static str>,
    trainers_families: Vec<Pair>,
    trainers_subtypes: Vec<Pair>,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| serde_json::from_str(tables::FAMILIES).unwrap_or_default());

/// The family that an architecture belongs to; an unknown one is its own family.
#[must_use]
pub fn family_of(architecture: &str) -> String {
    if let Some(family) = NAMES.families.get(architecture) {
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
    NAMES
        .types
        .iter()
        .find(|(_, known)| known.contains(&architecture))
        .map(|(found, _)| *found)
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
    NAMES
        .family_words
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
    let mut families = NAMES.trainers_families.iter();
    let Some((_, family)) = families.find(|(fragment, _)| text.contains(fragment)) else {
        return Kind::default();
    };
    let mut subtype = NAMES
        .trainers_subtypes
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
