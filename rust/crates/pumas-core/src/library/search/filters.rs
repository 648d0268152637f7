//! What a search may be narrowed to, as words of the search table.
//!
//! How the words are asked for is known to [`super::look`], how they came there to [`crate::library::words`].

use crate::library::facets::{Chosen, Kind};
use crate::library::formats::quantization::detect_quantization;
use crate::library::words::{facet, same};

const MAX_FILTERS: usize = 64;

/// What the models must be. Several types, families, formats, quantisations or sizes mean any of them; all tags must be
/// there. Types and formats are compared exactly, the rest without case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    /// `llm`, `diffusion`, …
    pub model_types: Vec<String>,
    /// All of these.
    pub tags: Vec<String>,
    /// `checkpoints`, `loras`, …
    pub subtype: Option<String>,
    /// `llama`, `sdxl`, …
    pub families: Vec<String>,
    /// `gguf`, …
    pub formats: Vec<String>,
    /// `Q4_K_M`, …
    pub quants: Vec<String>,
    /// Bands, see [`crate::library::words::size_band`].
    pub sizes: Vec<String>,
    /// Only models of these ids are looked at.
    pub ids: Option<Vec<String>>,
}

impl Filters {
    /// Groups of facets: of each group at least one must be there.
    pub(super) fn facets(&self) -> Vec<Vec<String>> {
        let folded = |text: &String| same(text.trim());
        let of = |kind: &str, values: &[String], form: &dyn Fn(&String) -> String| -> Vec<String> {
            values
                .iter()
                .take(MAX_FILTERS)
                .map(|value| facet(kind, &form(value)))
                .collect()
        };
        let tags = self
            .tags
            .iter()
            .take(MAX_FILTERS)
            .map(|tag| vec![facet("tag", &folded(tag))]);
        let subtype: Vec<String> = self.subtype.iter().cloned().collect();
        let any_of = [
            of("type", &self.model_types, &String::clone),
            of("subtype", &subtype, &String::clone),
            of("family", &self.families, &folded),
            of("format", &self.formats, &String::clone),
            of("quant", &self.quants, &|text| quantization(text)),
            of("size", &self.sizes, &String::clone),
        ];
        tags.chain(any_of.into_iter().filter(|group| !group.is_empty()))
            .collect()
    }

    /// The filters of which each is left out where its own kind is counted.
    pub(super) fn chosen(&self) -> Chosen {
        let trimmed = |text: &String| text.trim().to_owned();
        [
            (Kind::Type, self.model_types.clone()),
            (Kind::Family, self.families.iter().map(trimmed).collect()),
            (Kind::Format, self.formats.clone()),
            (
                Kind::Quant,
                self.quants.iter().map(|text| quantization(text)).collect(),
            ),
            (Kind::Size, self.sizes.clone()),
        ]
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(kind, values)| {
            let forms = values.iter().take(MAX_FILTERS).map(|value| kind.form(value));
            (kind, forms.collect())
        })
        .collect()
    }

    pub(super) fn of_any_app(&self) -> Self {
        Self {
            ids: None,
            ..self.clone()
        }
    }

    pub(super) fn without_chosen(&self) -> Self {
        Self {
            tags: self.tags.clone(),
            subtype: self.subtype.clone(),
            ids: self.ids.clone(),
            ..Self::default()
        }
    }
}

fn quantization(text: &str) -> String {
    let known = detect_quantization(text);
    if known.is_empty() {
        same(text.trim())
    } else {
        known
    }
}
