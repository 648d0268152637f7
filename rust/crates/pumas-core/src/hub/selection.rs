//! Which files of a repository make the model that somebody wants.
//!
//! Is a file part of the form that was chosen: a quantisation, files by name, or by default everything that is not the same
//! weights once more? Nothing is fetched here and nothing joins a path.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use super::contents::{Contents, shown};
use super::kinds::{self, Role};
use super::model::{HubFile, HubModel};
use crate::error::{Error, Result};
use crate::library::formats::shards::detect_sharded_sets;

mod forms;
mod names;
mod twice;

use names::is_pickle;

/// What to fetch.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// As the hub orders them.
    pub files: Vec<HubFile>,
    /// The label that was chosen or that all weights share.
    pub quant: Option<String>,
    /// The files' sizes together.
    pub total_bytes: u64,
    /// Projectors that could be named in addition.
    pub offered: Vec<String>,
    /// Files that cannot be used here, as they may be shown, and why.
    pub refused: IndexMap<String, String>,
}

impl Choice {
    /// The files that hold weights.
    pub fn weights(&self) -> impl Iterator<Item = &HubFile> {
        self.files
            .iter()
            .filter(|file| !kinds::format_of(&file.path).is_empty())
    }

    /// Files that can run code when an app loads them.
    pub fn pickles(&self) -> impl Iterator<Item = &str> {
        self.weights()
            .map(|file| file.path.as_str())
            .filter(|path| is_pickle(path))
    }
}

/// One way to take a repository.
#[derive(Debug, Clone)]
pub struct DownloadOption {
    /// `quant`, `all` (no quant given), `projector` or `file` (by their names).
    pub kind: &'static str,
    /// Which.
    pub quant: Option<String>,
    /// All paths that it fetches.
    pub files: Vec<String>,
    /// Those with weights.
    pub weights: Vec<String>,
    /// Bytes of all.
    pub size_bytes: u64,
}

/// The files for a quantisation, or for names (shell patterns allowed), or for both together; else all that count.
///
/// A quantisation brings the configuration and tokenizer files along; names bring only themselves and the other parts of
/// their sets.
///
/// # Errors
/// `InvalidInput`: there is nothing of the kind, or a set on the hub lacks parts; the message lists what there is.
pub fn choose(model: &HubModel, quant: Option<&str>, filenames: &[String]) -> Result<Choice> {
    let contents = contents_of(model);
    let quant = quant.filter(|quant| !quant.is_empty());
    let mut wanted: HashSet<String> = HashSet::new();
    if let Some(quant) = quant {
        wanted.extend(contents.of_quant(quant)?);
    }
    if !filenames.is_empty() {
        wanted.extend(contents.of_names(filenames)?);
    }
    if quant.is_none() && filenames.is_empty() {
        wanted.extend(contents.default_files()?);
    }
    let by_path: HashMap<&str, &HubFile> = model
        .files
        .iter()
        .map(|file| (file.path.as_str(), file))
        .collect();
    let chosen: Vec<HubFile> = contents
        .paths
        .iter()
        .filter(|path| wanted.contains(*path))
        .filter_map(|path| by_path.get(path.as_str()).map(|file| (*file).clone()))
        .collect();
    let weights = contents.weights_in(chosen.iter().map(|file| &file.path));
    require_complete(&weights)?;
    Ok(Choice {
        quant: match quant {
            Some(quant) => Some(contents.meant(quant)),
            None => contents.common_label(&weights),
        },
        total_bytes: chosen.iter().map(|file| file.size).sum(),
        offered: contents
            .of_role(Role::Projector)
            .into_iter()
            .filter(|path| !wanted.contains(path))
            .collect(),
        refused: refusals(model, &contents),
        files: chosen,
    })
}

pub(super) fn contents_of(model: &HubModel) -> Contents {
    let paths: Vec<String> = model.files.iter().map(|file| file.path.clone()).collect();
    Contents::new(&paths, &model.said.repo_id)
}

/// Every file of the repository that cannot be used here, as it may be shown, and why.
pub(super) fn refusals(model: &HubModel, contents: &Contents) -> IndexMap<String, String> {
    let odd = model
        .unusable
        .iter()
        .map(|path| (shown(path), "the hub gives no usable size or digest".to_owned()));
    contents.refused.clone().into_iter().chain(odd).collect()
}

/// The ways to take the repository, quantisations first and by bits; none when it holds no model file.
///
/// # Errors
/// None that the repository's own names could cause.
pub(super) fn options(model: &HubModel) -> Result<Vec<DownloadOption>> {
    let contents = contents_of(model);
    let sizes: HashMap<&str, u64> = model
        .files
        .iter()
        .map(|file| (file.path.as_str(), file.size))
        .collect();
    let option = |kind, quant: Option<String>, files: Vec<String>| DownloadOption {
        kind,
        quant,
        weights: contents.weights_in(files.iter()),
        size_bytes: files.iter().filter_map(|path| sizes.get(path.as_str())).sum(),
        files,
    };
    let label = |path: &str| Some(contents.label(path).to_owned()).filter(|label| !label.is_empty());
    if contents.usable_weights().is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for quant in contents.quants() {
        let files = contents.of_quant(&quant)?;
        found.push(option("quant", Some(quant), files));
    }
    found.push(option("all", None, contents.default_files()?));
    for paths in contents.taken_by_name() {
        found.push(option("file", label(&paths[0]), paths));
    }
    for path in contents.of_role(Role::Projector) {
        found.push(option("projector", label(&path), vec![path]));
    }
    Ok(found)
}

/// The first file of each set that is not whole, as it may be shown, and why nobody can take it.
pub(super) fn lacking(weights: &[String]) -> IndexMap<String, String> {
    let mut found = IndexMap::new();
    for group in detect_sharded_sets(weights).into_values() {
        if !group.validation.complete {
            let reason = match group.validation.error.as_str() {
                "" => "parts are missing",
                error => error,
            };
            found.insert(shown(&group.files[0]), format!("on the hub, {reason}"));
        }
    }
    found
}

fn require_complete(weights: &[String]) -> Result<()> {
    match lacking(weights).first() {
        None => Ok(()),
        Some((path, reason)) => Err(Error::invalid("filenames", format!("{path}: {reason}"))),
    }
}

#[cfg(test)]
mod tests;
