//! The rules of `contracts/tables/tensor_names.json`: which fragments in tensor names mean which kind of model.
//!
//! A rule holds when each of its groups has a fragment that stands in some tensor's name, and none of its exclusions does;
//! of several the first that holds decides, so the most special come first. A leading `^` ties a fragment to a name's
//! beginning. Layouts are those of the original repositories, of diffusers and of transformers.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::families::{Kind, ModelType, kind};
use crate::contracts::tables;

type Words = Vec<&'static str>;

/// `all`: one fragment of each group must be there; `unless` names the exclusions, of which none may.
#[derive(Deserialize)]
pub(super) struct Rule {
    kind: (ModelType, &'static str, &'static str, &'static str),
    pub all: Vec<Words>,
    unless: Option<&'static str>,
}

impl Rule {
    pub(super) fn kind(&self) -> Kind {
        let (model_type, subtype, family, architecture) = self.kind;
        kind(model_type, subtype, family, architecture)
    }

    pub(super) fn unless(&self) -> &'static [&'static str] {
        self.unless
            .and_then(|name| RULES.exclusions.get(name))
            .map_or(&[], Vec::as_slice)
    }
}

#[derive(Deserialize, Default)]
#[serde(bound(deserialize = "'de: 'static"))]
pub(super) struct Rules {
    pub image_transformers: Vec<Rule>,
    pub unets: Vec<Rule>,
    pub controlnets: Vec<Rule>,
    /// Whole files with one purpose.
    pub purposes: Vec<Rule>,
    pub vaes: Vec<Rule>,
    /// Layouts of language models that only one family has; Llama, Mistral and others share theirs.
    pub language_models: Vec<Rule>,
    pub adapted_image_models: Vec<Rule>,
    exclusions: HashMap<&'static str, Words>,
    pub image_wrappers: Words,
    pub other_wrappers: Words,
    pub other_parts: Words,
    pub certain_layouts: Words,
    pub adapted_image_words: Words,
    pub text_keys: Words,
    /// Width of the text that an image model listens to.
    pub families_of_text_width: HashMap<u64, &'static str>,
    pub inversion_names: Words,
    pub language_words: Words,
    pub image_words: Words,
}

pub(super) static RULES: LazyLock<Rules> =
    LazyLock::new(|| serde_json::from_str(tables::TENSOR_NAMES).unwrap_or_default());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exclusion_that_is_named_is_there() {
        let lists = [&RULES.purposes, &RULES.vaes, &RULES.image_transformers];
        let rules: Vec<&Rule> = lists.into_iter().flatten().collect();
        assert!(rules.len() > 40);
        assert!(
            rules
                .iter()
                .all(|rule| rule.unless.is_some() != rule.unless().is_empty())
        );
    }
}
