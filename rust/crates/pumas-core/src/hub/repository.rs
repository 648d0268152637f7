//! One repository, the ways to take it, and what a choice from it would fetch.

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::answers::Answer;
use super::contents::{Contents, shown};
use super::metadata::{Kind, card_of};
use super::model::HubModel;
use super::selection::{Choice, DownloadOption, choose, contents_of, lacking, options, refusals};
use crate::error::Result;

/// What the hub shows of a repository, and what we make of it.
#[derive(Debug)]
pub struct RepoView {
    /// As the hub describes it.
    pub model: HubModel,
    /// As asked.
    pub revision: String,
    /// How old that is.
    pub answer: Answer,
    /// Its paths by what they are for.
    pub contents: Contents,
    /// The ways to take it; none when it holds no model file.
    pub options: Vec<DownloadOption>,
    /// What the wish would fetch; `None` when nothing was wished and not everything can be taken: there is no model file,
    /// or a set on the hub lacks parts.
    pub choice: Option<Choice>,
    /// Files that cannot be taken, as they may be shown, and why.
    pub refused: IndexMap<String, String>,
    /// As a GGUF header or a config names it.
    pub architecture: String,
    /// A guess that the files' own content may overrule.
    pub model_type: &'static str,
    /// The same.
    pub subtype: &'static str,
    /// The same.
    pub family: String,
    /// The card's data without what is long.
    pub card_data: Map<String, Value>,
    /// On the library's disk.
    pub free_bytes: u64,
    /// What a download may take of that.
    pub room_bytes: u64,
    /// Models of the library that are from this repository.
    pub held: Vec<String>,
    /// The card's text, cut; `None` when it was not asked for or could not be had.
    pub card: Option<String>,
}

impl RepoView {
    /// Everything but what the library, the disk and the card's own file tell.
    pub(super) fn of(
        model: HubModel,
        revision: String,
        answer: Answer,
        quant: Option<&str>,
        filenames: &[String],
    ) -> Result<Self> {
        let contents = contents_of(&model);
        let mut options = options(&model)?;
        options.retain(|option| lacking(&option.weights).is_empty());
        let whole = options.iter().any(|option| option.kind == "all");
        let wished = quant.is_some_and(|quant| !quant.is_empty()) || !filenames.is_empty() || whole;
        let choice = if wished {
            Some(choose(&model, quant, filenames)?)
        } else {
            None
        };
        let nothing = Choice::default();
        let kind = Kind::of(&model, choice.as_ref().unwrap_or(&nothing));
        Ok(Self {
            refused: refused(&model, &contents),
            card_data: card_of(&model),
            architecture: kind.architecture,
            model_type: kind.model_type.as_str(),
            subtype: kind.subtype,
            family: kind.family,
            free_bytes: 0,
            room_bytes: 0,
            held: Vec::new(),
            card: None,
            model,
            revision,
            answer,
            contents,
            options,
            choice,
        })
    }

    /// Whether a download of that size would be started.
    #[must_use]
    pub fn fits(&self, bytes: u64) -> bool {
        bytes <= self.room_bytes
    }

    /// A path as it may be shown.
    #[must_use]
    pub fn shown(path: &str) -> String {
        shown(path)
    }

    /// Number of weights, where the hub has counted them.
    #[must_use]
    pub fn parameters(&self) -> Option<i64> {
        let counted: i64 = self.model.parameters.values().filter_map(Value::as_i64).sum();
        if counted > 0 {
            Some(counted)
        } else {
            self.model.gguf.get("total").and_then(Value::as_i64)
        }
    }

    /// Bytes per quantisation, and under `""` those of everything that a download without one takes.
    pub(super) fn sizes(&self) -> IndexMap<String, u64> {
        let counted = self
            .options
            .iter()
            .filter(|option| matches!(option.kind, "quant" | "all"));
        counted
            .map(|option| (option.quant.clone().unwrap_or_default(), option.size_bytes))
            .collect()
    }
}

/// What cannot be taken, as it may be shown, and why.
fn refused(model: &HubModel, contents: &Contents) -> IndexMap<String, String> {
    let mut found = refusals(model, contents);
    found.extend(lacking(&contents.weights_in(contents.paths.iter())));
    found
}

/// The card's text without its data in YAML, which the repository's description holds already.
pub(super) fn without_front_matter(text: &str) -> &str {
    let Some(rest) = text
        .strip_prefix("---\n")
        .or_else(|| text.strip_prefix("---\r\n"))
    else {
        return text;
    };
    let mut at = 0;
    for line in rest.split_inclusive('\n') {
        at += line.len();
        if line.ends_with('\n') && line.trim_end_matches(['\n', '\r']).trim_end_matches([' ', '\t']) == "---"
        {
            return &rest[at..];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cards_data_is_left_out() {
        assert_eq!(without_front_matter("---\na: b\n--- \n# Title\n"), "# Title\n");
        assert_eq!(without_front_matter("---\na: b\n"), "---\na: b\n");
        assert_eq!(without_front_matter("# Title\n---\n"), "# Title\n---\n");
    }
}
