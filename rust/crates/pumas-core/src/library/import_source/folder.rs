//! Which files of a folder make one model, and whether they are one; with what another library of ours knew about it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use indexmap::IndexSet;

use super::hugging_face::{repository_of, snapshot_around};
use super::names::{is_mark, plain_text};
use super::walk::{Found, MAX_DEPTH, TOO_DEEP, walk};
use super::{Skipped, Source, SourceFile, last, no_model, require_complete, source_file, text, texts};
use crate::error::{Error, Result};
use crate::library::entry::is_model_file;
use crate::library::formats::shards::{detect_sharded_sets, is_projector};
use crate::library::metadata::{METADATA, OVERRIDES, check_overrides};
use crate::storage::json_file::{self, JsonObject};
use crate::storage::paths::display_name;

const METADATA_KEYS: [&str; 5] = [
    "official_name",
    "model_type",
    "hashes",
    "cleaned_name",
    "model_id",
];

pub(super) fn read_folder(path: &Path, real: &Path) -> Result<Source> {
    let mut skipped = Vec::new();
    let mut found = walk(real, &mut skipped)?;
    let own: Vec<&str> = [METADATA, OVERRIDES]
        .into_iter()
        .filter(|own| found.iter().any(|(name, _)| name == Path::new(own)))
        .collect();
    let (metadata, overrides) = carried(real, &own, &mut skipped)?;
    found.retain(|(name, _)| name != Path::new(METADATA) && name != Path::new(OVERRIDES));
    let found = without_metadata_inside(real, found, &mut skipped)?;
    let files = named_files(&found, &mut skipped)?;
    let title = if last(path).is_empty() {
        plain_text(last(real))
    } else {
        repository_of(path).unwrap_or_else(|| plain_text(last(path)))
    };
    if !files.iter().any(|file| file.format.is_some()) {
        if let Some(file) = files
            .iter()
            .find(|file| is_model_file(&last(&file.found).to_string_lossy()))
        {
            return Err(no_model(file)?);
        }
        let name = display_name(last(path));
        let depth = if skipped.iter().any(|item| item.reason == TOO_DEEP) {
            format!(" in its first {MAX_DEPTH} levels")
        } else {
            String::new()
        };
        return Err(Error::NotAModel(format!(
            "{name} holds no model file that we know{depth}; nothing was imported."
        )));
    }
    let weights: Vec<&PathBuf> = files
        .iter()
        .filter(|file| file.format.is_some())
        .map(|file| &file.found)
        .collect();
    if metadata.is_empty()
        && !found.iter().any(|(name, _)| is_mark(&name.to_string_lossy()))
        && let Some(inner) = only_marked(real, &weights)?
    {
        return read_folder(inner, inner);
    }
    require_complete(weights)?;
    Ok(Source {
        path: real.to_path_buf(),
        title,
        files,
        skipped,
        metadata,
        overrides,
    })
}

fn named_files(found: &[Found], skipped: &mut Vec<Skipped>) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    let mut taken = HashSet::new();
    for (name, path) in found {
        let file = source_file(path, name)?;
        if taken.insert(file.name.clone()) {
            files.push(file);
        } else {
            let reason = "another file has the same name once it is cleaned".to_owned();
            skipped.push(Skipped {
                path: display_name(name),
                reason,
            });
        }
    }
    Ok(files)
}

/// Refuse a folder of models of another library. Any other `metadata.json` would look like a model of ours.
fn without_metadata_inside(root: &Path, found: Vec<Found>, skipped: &mut Vec<Skipped>) -> Result<Vec<Found>> {
    let is_nested = |name: &Path| name.components().count() > 1 && last(name) == METADATA;
    let (nested, others): (Vec<Found>, Vec<Found>) = found.into_iter().partition(|(name, _)| is_nested(name));
    let describes = |path: &Path| json_file::parse_object(path).is_ok_and(|value| is_ours(&value));
    let mut models: Vec<String> = nested
        .iter()
        .filter(|(_, path)| describes(path))
        .filter_map(|(_, path)| Some(display_name(path.parent()?)))
        .collect();
    if !models.is_empty() {
        models.sort();
        return Err(Error::SeveralModels {
            name: display_name(last(root)),
            candidates: models,
        });
    }
    let reason = "its name would mark a model of its own";
    skipped.extend(nested.iter().map(|(name, _)| Skipped {
        path: display_name(name),
        reason: reason.to_owned(),
    }));
    Ok(others)
}

fn is_ours(value: &JsonObject) -> bool {
    METADATA_KEYS
        .iter()
        .filter(|key| value.contains_key(**key))
        .count()
        >= 2
}

/// A folder without a mark must hold one file or one set; a projector beside a model belongs to it. With more than that it
/// may be a folder around a model: that one is returned, and so is a snapshot of the hub's cache.
fn only_marked<'a>(root: &Path, weights: &[&'a PathBuf]) -> Result<Option<&'a Path>> {
    let groups = detect_sharded_sets(&texts(weights.iter().copied()));
    let firsts: HashSet<&String> = groups.values().map(|group| &group.files[0]).collect();
    let order = |path: &Path| groups.values().position(|group| group.files[0] == text(path));
    let mut firsts: Vec<&'a Path> = weights
        .iter()
        .map(|path| path.as_path())
        .filter(|path| firsts.contains(&text(path)))
        .collect();
    firsts.sort_by_key(|path| order(path));
    let (projectors, mains): (Vec<_>, Vec<_>) = firsts
        .into_iter()
        .partition(|path| is_projector(&last(path).to_string_lossy()));
    if mains.len() <= 1 {
        return Ok(mains.first().and_then(|main| snapshot_around(root, main)));
    }
    let found: IndexSet<&Path> = mains.into_iter().map(|main| candidate(root, main)).collect();
    if found.len() > 1 {
        // A projector beside several of them is of none alone: who imports each would not hear that it stayed behind.
        let beside = projectors.into_iter().map(|projector| candidate(root, projector));
        let shown: IndexSet<String> = found.into_iter().chain(beside).map(display_name).collect();
        return Err(Error::SeveralModels {
            name: display_name(last(root)),
            candidates: shown.into_iter().collect(),
        });
    }
    Ok(found.first().copied())
}

/// The outermost folder below `root` that is marked as one model, else the file itself.
fn candidate<'a>(root: &Path, weight: &'a Path) -> &'a Path {
    let mut folders: Vec<&Path> = weight
        .ancestors()
        .skip(1)
        .filter(|folder| *folder != root && folder.starts_with(root))
        .collect();
    folders.reverse();
    for folder in folders {
        let Ok(entries) = fs::read_dir(folder) else { break };
        let mut names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
        if names.any(|name| is_mark(&name.to_string_lossy())) {
            return folder;
        }
    }
    weight
}

/// What another library of ours knew about the model. A file of that name from elsewhere stays behind.
fn carried(folder: &Path, own: &[&str], skipped: &mut Vec<Skipped>) -> Result<(JsonObject, JsonObject)> {
    let (mut metadata, mut overrides) = (JsonObject::new(), JsonObject::new());
    for name in own {
        let loaded = json_file::load(&folder.join(name)).map(|loaded| loaded.value.unwrap_or_default());
        let reason = match loaded {
            Ok(value) if *name == METADATA && is_ours(&value) => {
                metadata = value;
                "rewritten for this library; what it says about the model was kept"
            }
            Ok(value) if *name == OVERRIDES => match check_overrides(&value) {
                Ok(()) => {
                    overrides = value;
                    "rewritten for this library with the same content"
                }
                Err(Error::InvalidInput { .. }) => "damaged",
                Err(error) => return Err(error),
            },
            Ok(_) => "its place is taken by this library's own file",
            Err(Error::CorruptState { .. }) => "damaged",
            Err(error) => return Err(error),
        };
        skipped.push(Skipped {
            path: (*name).to_owned(),
            reason: reason.to_owned(),
        });
    }
    Ok((metadata, overrides))
}
