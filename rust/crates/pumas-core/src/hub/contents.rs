//! A repository's paths, sorted by what they are for, and which of them may become names here. Knows names alone.

use std::collections::{BTreeSet, HashMap, HashSet};

use caseless::Caseless as _;
use indexmap::IndexMap;
use unicode_normalization::UnicodeNormalization as _;

use super::kinds::{self, Role};
use crate::library::formats::quantization::{parse_quantization, sort_quantizations};
use crate::storage::paths::{display_name, relative_path};
use crate::storage::unicode::is_printable;
use crate::text::cut;

/// The library keeps files of its own under these names beside a model; a file of the same name would pass for one.
const OURS: [&str; 2] = ["metadata.json", "overrides.json"];
/// Words that are too often part of a model's name to speak for files that do not carry them.
const WEAK: [&str; 4] = ["q4", "q8", "f16", "f32"];

/// What a repository holds.
#[derive(Debug)]
pub struct Contents {
    /// The usable paths, sorted.
    pub paths: Vec<String>,
    /// The others, shown safely, and one clause why not.
    pub refused: IndexMap<String, String>,
    roles: HashMap<String, Role>,
    of_repo: String,
    labels: HashMap<String, String>,
}

impl Contents {
    /// The name of the repository speaks for files whose own say nothing.
    #[must_use]
    pub fn new(paths: &[String], repo_id: &str) -> Self {
        let (paths, refused) = usable_paths(paths);
        let roles: HashMap<String, Role> = paths
            .iter()
            .map(|path| (path.clone(), kinds::role(path)))
            .collect();
        let with_label = |path: &&String| !matches!(roles.get(*path), Some(Role::Companion | Role::Helper));
        let labels = paths
            .iter()
            .filter(with_label)
            .map(|path| (path.clone(), kinds::label(path)))
            .collect();
        Self {
            of_repo: repo_label(repo_id),
            labels,
            paths,
            refused,
            roles,
        }
    }

    /// What a path is for; `None` for a refused one.
    #[must_use]
    pub fn role(&self, path: &str) -> Option<Role> {
        self.roles.get(path).copied()
    }

    /// What tells the file from its siblings; `""` when nothing does.
    #[must_use]
    pub fn label(&self, path: &str) -> &str {
        self.labels
            .get(path)
            .filter(|label| !label.is_empty())
            .unwrap_or(&self.of_repo)
    }

    /// The formats that files of the repository really have, sorted.
    #[must_use]
    pub fn formats(&self) -> Vec<&'static str> {
        let found: BTreeSet<&str> = self.paths.iter().map(|path| kinds::format_of(path)).collect();
        found.into_iter().filter(|format| !format.is_empty()).collect()
    }

    /// The quantisations that its weights come in, in the usual order.
    #[must_use]
    pub fn quants(&self) -> Vec<String> {
        let weights = self
            .paths
            .iter()
            .filter(|path| matches!(self.role(path), Some(Role::Weights | Role::Foreign)));
        let labels: BTreeSet<&str> = weights
            .map(|path| self.label(path))
            .filter(|label| !label.is_empty())
            .collect();
        sort_quantizations(labels.into_iter().map(str::to_owned).collect())
    }
}

/// (the paths that may become names here, as given; the others, shown safely -> one clause why not).
///
/// Two names that some file system takes for one (case, composed letters) are both refused after the first, and so is a
/// file where another path has a folder.
fn usable_paths(paths: &[String]) -> (Vec<String>, IndexMap<String, String>) {
    let mut good = Vec::new();
    let mut refused = IndexMap::new();
    let mut taken: HashSet<String> = HashSet::new();
    let mut folders: HashSet<String> = HashSet::new();
    for path in paths.iter().collect::<BTreeSet<_>>() {
        match why_not(path, &taken, &folders) {
            Some(reason) => {
                refused.insert(shown(path), reason);
            }
            None => {
                let folded = folded(path);
                folders.extend(parents(&folded));
                taken.insert(folded);
                good.push(path.clone());
            }
        }
    }
    (good, refused)
}

fn why_not(path: &str, taken: &HashSet<String>, folders: &HashSet<String>) -> Option<String> {
    if let Err(error) = relative_path(path, "name") {
        return Some(error.to_string().trim_start_matches("name: ").to_owned());
    }
    let folded = folded(path);
    let name = path.rsplit('/').next().unwrap_or_default().to_lowercase();
    let reason = if !path.chars().all(is_printable) {
        "has characters that cannot be seen"
    } else if OURS.contains(&name.as_str()) {
        "has the name of a file that the library keeps for itself"
    } else if taken.contains(&folded)
        || folders.contains(&folded)
        || parents(&folded).iter().any(|one| taken.contains(one))
    {
        "is the same name as another file's on some file systems"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

fn folded(path: &str) -> String {
    path.nfc().default_case_fold().nfc().collect()
}

fn parents(path: &str) -> Vec<String> {
    path.match_indices('/')
        .map(|(at, _)| path[..at].to_owned())
        .collect()
}

/// A hub's path as it may be shown: without control characters, of a bounded length.
pub(super) fn shown(path: &str) -> String {
    cut(&display_name(path), 300).to_owned()
}

fn repo_label(repo_id: &str) -> String {
    let found = parse_quantization(repo_id.rsplit('/').next().unwrap_or_default());
    found
        .filter(|found| !WEAK.contains(&found.token.as_str()))
        .map(|found| found.label())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(paths: &[&str]) -> Contents {
        Contents::new(
            &paths.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "acme/Lumen-GGUF",
        )
    }

    #[test]
    fn names_that_clash_or_lead_out_are_refused() {
        let found = contents(&[
            "a.gguf",
            "A.gguf",
            "../x",
            "sub/metadata.json",
            "a.gguf/b",
            "ok/b.bin",
        ]);
        assert_eq!(found.paths, ["A.gguf", "ok/b.bin"]);
        assert_eq!(
            found.refused["a.gguf"],
            "is the same name as another file's on some file systems"
        );
        assert!(found.refused["../x"].starts_with("must be made of plain"));
    }

    #[test]
    fn forms_are_listed_in_the_usual_order() {
        let found = contents(&["m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-UD-Q4_K_XL.gguf", "config.json"]);
        assert_eq!(found.quants(), ["q4_k_m", "ud_q4_k_xl", "q8_0"]);
        assert_eq!(found.formats(), ["gguf"]);
    }
}
