//! A file that is a model, or the set of shards that it is a part of.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::names::{is_unfinished, part_number, stem, without_part_number};
use super::{Source, last, no_model, require_complete, source_file, text, texts, unreadable};
use crate::error::{Error, Result};
use crate::library::formats::shards::{ShardGroup, detect_sharded_sets};
use crate::storage::json_file::JsonObject;
use crate::storage::paths::display_name;

pub(super) fn read_file(path: &Path, real: &Path) -> Result<Source> {
    if is_unfinished(&last(path).to_string_lossy()) {
        return Err(Error::NotAModel(format!(
            "{} is named like a download that is not finished; rename it if it is whole; nothing was imported.",
            display_name(last(path))
        )));
    }
    let parts = shards_beside(path);
    let mut files = parts
        .iter()
        .map(|part| source_file(part, Path::new(last(part))))
        .collect::<Result<Vec<_>>>()?;
    if let Some(file) = files.iter().find(|file| file.format.is_none()) {
        return Err(no_model(file)?);
    }
    require_complete(parts.iter())?;
    let stem = stem(path);
    let title = if parts.len() > 1 {
        without_part_number(&stem)
    } else {
        stem
    };
    for data in data_beside(path)? {
        files.push(source_file(&data, Path::new(last(&data)))?);
    }
    Ok(Source {
        path: real.to_path_buf(),
        title,
        files,
        skipped: Vec::new(),
        metadata: JsonObject::new(),
        overrides: JsonObject::new(),
    })
}

/// Where the weights of an ONNX file lie that are not in it, by the names that exporters give: `model.onnx_data`.
fn data_beside(path: &Path) -> Result<Vec<PathBuf>> {
    let is_onnx = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
    let Some(folder) = path.parent().filter(|_| is_onnx) else {
        return Ok(Vec::new());
    };
    let entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(|error| unreadable(last(folder), &error))?; // whether there are any, nobody can say
    let model = last(path);
    let mut found: Vec<PathBuf> = entries
        .iter()
        .map(fs::DirEntry::path)
        .filter(|data| is_onnx_data(last(data), model) && data.is_file())
        .collect();
    found.sort();
    Ok(found)
}

/// Whether a file holds weights of the ONNX file `model` beside it.
fn is_onnx_data(name: &OsStr, model: &OsStr) -> bool {
    let rest = name.as_encoded_bytes().strip_prefix(model.as_encoded_bytes());
    rest.is_some_and(|rest| {
        let ending = rest
            .strip_prefix(b"_data")
            .or_else(|| rest.strip_prefix(b".data"));
        ending.is_some_and(|ending| {
            ending.is_empty()
                || ending
                    .strip_prefix(b"_")
                    .is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
        })
    })
}

/// The whole set that a file named `…-00002-of-00005.…` belongs to: a part of a model is of no use.
fn shards_beside(path: &Path) -> Vec<PathBuf> {
    let alone = || vec![path.to_path_buf()];
    let is_part = |name: &OsStr| part_number(&name.to_string_lossy()).is_some();
    let Some(folder) = path.parent().filter(|_| is_part(last(path))) else {
        return alone();
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return alone();
    };
    let mut names: Vec<OsString> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .collect();
    names.retain(|name| is_part(name));
    names.sort();
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    let groups = detect_sharded_sets(&texts(&paths));
    let mine = path.to_string_lossy();
    let set = groups
        .into_values()
        .find(|group| group.files.iter().any(|file| *file == mine));
    let members = |group: &ShardGroup| {
        paths
            .into_iter()
            .filter(|path| group.files.contains(&text(path)))
            .collect()
    };
    set.as_ref().map_or_else(alone, members)
}
