//! Which files of a folder are one model, from names alone.
//!
//! A folder with a mark (`config.json` and the like) is one model with everything in it, unless it holds several GGUF
//! files, each of which is a model. Without a mark each file, or each set of shards, is a model of its own; a projector
//! goes with each of them.

use std::collections::HashMap;

use crate::adoption::found::{StoredFile, base_name, is_weights};
use crate::library::entry::extension;
use crate::library::formats::shards::{ShardGroup, detect_sharded_sets, is_projector};
use crate::library::import_source::{is_junk, is_mark};

/// The files of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Tells it from others in the folder, `""` when it is the only one there.
    pub stem: String,
    /// Its files.
    pub files: Vec<StoredFile>,
    /// Why it is not whole.
    pub problem: String,
}

/// The models among `files`, whose names are relative to one folder; none when none has weights.
#[must_use]
pub fn groups(mut files: Vec<StoredFile>) -> Vec<Group> {
    files.retain(|file| !file.name.split('/').any(is_junk));
    let weights: Vec<&StoredFile> = files.iter().filter(|file| is_weights(&file.name)).collect();
    let names: Vec<String> = weights.iter().map(|file| file.name.clone()).collect();
    let sets: Vec<ShardGroup> = detect_sharded_sets(&names).into_values().collect();
    let is_main = |set: &&ShardGroup| !set.files.iter().all(|name| is_projector(name));
    let mut mains: Vec<&ShardGroup> = sets.iter().filter(is_main).collect();
    let only_projectors = mains.is_empty();
    if only_projectors {
        mains = sets.iter().collect();
    }
    let ggufs = names.iter().all(|name| extension(name) == "gguf");
    let marked = files.iter().any(|file| is_mark(&file.name));
    if marked && !weights.is_empty() && !(ggufs && mains.len() > 1) {
        let wrong = sets.iter().find(|set| !set.validation.complete);
        let problem = wrong.map_or_else(String::new, |set| set.validation.error.clone());
        return vec![Group {
            stem: String::new(),
            files,
            problem,
        }];
    }
    let by_name: HashMap<&str, &StoredFile> =
        weights.iter().map(|file| (file.name.as_str(), *file)).collect();
    let projectors: Vec<&StoredFile> = weights
        .iter()
        .filter(|file| !only_projectors && is_projector(&file.name))
        .copied()
        .collect();
    mains
        .into_iter()
        .map(|set| group(set, &by_name, &projectors))
        .collect()
}

fn group(set: &ShardGroup, by_name: &HashMap<&str, &StoredFile>, projectors: &[&StoredFile]) -> Group {
    let mut files: Vec<StoredFile> = set
        .files
        .iter()
        .filter_map(|name| by_name.get(name.as_str()).copied().cloned())
        .collect();
    let others = projectors.iter().filter(|file| !set.files.contains(&file.name));
    files.extend(others.copied().cloned());
    let problem = if set.validation.complete {
        String::new()
    } else {
        set.validation.error.clone()
    };
    Group {
        stem: without_number(stem(set.files.first().map_or("", String::as_str))).to_owned(),
        files,
        problem,
    }
}

/// A file's name without its ending.
fn stem(name: &str) -> &str {
    let name = base_name(name);
    match name.rfind('.') {
        Some(at) if at > 0 && at + 1 < name.len() => &name[..at],
        _ => name,
    }
}

/// Without `-00001-of-00005` at the end.
fn without_number(stem: &str) -> &str {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let cut = stem.rsplit_once("-of-").and_then(|(rest, total)| {
        let (base, number) = rest.rsplit_once('-')?;
        (digits(number) && digits(total)).then_some(base)
    });
    cut.unwrap_or(stem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adoption::testing::file;

    fn check(names: &[&str], expected: &[(&str, &[&str])]) {
        let found = groups(names.iter().map(|name| file(name)).collect());
        let shown: Vec<(&str, Vec<&str>)> = found
            .iter()
            .map(|group| {
                let names = group.files.iter().map(|file| file.name.as_str());
                (group.stem.as_str(), names.collect())
            })
            .collect();
        let expected: Vec<(&str, Vec<&str>)> = expected
            .iter()
            .map(|(stem, names)| (*stem, names.to_vec()))
            .collect();
        assert_eq!(shown, expected, "{names:?}");
    }

    #[test]
    fn what_is_one_model() {
        check(&[], &[]);
        check(&["README.md", "config.json"], &[]);
        check(&["a.gguf", "b.gguf"], &[("a", &["a.gguf"]), ("b", &["b.gguf"])]);
        check(
            &["a.gguf", "mmproj-a.gguf"],
            &[("a", &["a.gguf", "mmproj-a.gguf"])],
        );
        check(&["mmproj-a.gguf"], &[("mmproj-a", &["mmproj-a.gguf"])]);
        check(
            &["config.json", "m.safetensors", "notes.txt"],
            &[("", &["config.json", "m.safetensors", "notes.txt"])],
        );
        check(
            &["config.json", "a.gguf", "b.gguf"],
            &[("a", &["a.gguf"]), ("b", &["b.gguf"])],
        );
        check(
            &["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"],
            &[("m", &["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"])],
        );
        check(&["sub/.cache/a.gguf", "b.v1.gguf"], &[("b.v1", &["b.v1.gguf"])]);
    }

    #[test]
    fn what_is_not_whole_says_why() {
        for names in [
            vec!["m-00001-of-00002.gguf"],
            vec!["config.json", "m-00001-of-00002.safetensors"],
        ] {
            let found = groups(names.into_iter().map(file).collect());
            assert!(!found[0].problem.is_empty());
        }
    }
}
