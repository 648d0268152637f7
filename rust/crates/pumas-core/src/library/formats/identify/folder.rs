//! The model that the files of one folder make up.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::Value;

use super::{Identity, identify};
use crate::error::{Error, Result};
use crate::library::formats::detect::{FileFormat, SecurityTier, sniff};
use crate::library::formats::families::{ModelType, family_of, type_of};
use crate::library::formats::reader::open_regular;
use crate::library::formats::shards::{PIPELINE_INDEX, ShardGroup, detect_sharded_sets, is_projector};
use crate::library::formats::text::{message_name, one_line};

const MAX_CONFIG_BYTES: u64 = 1024 * 1024;
/// Of transformers.
const CONFIG: &str = "config.json";
/// What makes a folder a pipeline of diffusers.
/// Files without weights that [`identify_folder`] learns from.
pub const CONFIGURATIONS: [&str; 2] = [CONFIG, PIPELINE_INDEX];
const PIPELINE_CORES: [&str; 4] = ["transformer", "unet", "prior", "decoder"];

/// Identify the model that the files of one folder make up; the largest model file, or its set of shards, decides, and
/// a projector only where there is nothing else.
///
/// `config.json` beside it names the architecture where tensors leave it open. Files that cannot be read are passed over
/// and noted. One pickle among them, damaged or not, makes the whole folder's tier `pickle`.
///
/// # Errors
/// [`Error::NotAModel`] when none of the files is a model file.
pub fn identify_folder(paths: &[PathBuf]) -> Result<Identity> {
    let mut notes = Vec::new();
    let mut found = IndexMap::new();
    let mut pickles = Vec::new();
    for path in paths {
        match look_at(path, &mut pickles) {
            Ok(Some(known)) => {
                found.insert(path.to_string_lossy().into_owned(), known);
            }
            Ok(None) => {}
            Err(error @ (Error::FileUnavailable { .. } | Error::MalformedModelFile(_))) => {
                notes.push(error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    if found.is_empty() {
        let said = notes.join(" ");
        let plain = "None of the files is a model file that we know.".to_owned();
        return Err(Error::NotAModel(if said.is_empty() { plain } else { said }));
    }
    let pipeline = paths
        .iter()
        .any(|path| path.file_name().is_some_and(|name| name == PIPELINE_INDEX));
    let Some(group) = main_group(&found, pipeline) else {
        return Err(Error::Bug("files of a folder belong to no group".to_owned()));
    };
    let members: Vec<&Identity> = group
        .files
        .iter()
        .filter_map(|path| found.get(path))
        .map(|(_, it)| it)
        .collect();
    let mut chosen = merged(&members, group.validation.complete)?;
    let main = Path::new(&group.files[0]);
    if !group.validation.error.is_empty() {
        notes.push(format!("{}: {}.", message_name(main), group.validation.error));
    }
    let config = main.with_file_name(CONFIG);
    if paths.contains(&config) {
        ask_config(&mut chosen, &read_config(&config));
    }
    if pipeline {
        chosen.model_type = ModelType::Diffusion;
        "checkpoints".clone_into(&mut chosen.subtype);
    }
    if !pickles.is_empty() {
        if chosen.format != FileFormat::Pickle {
            let names: Vec<String> = pickles.iter().take(5).map(|path| message_name(path)).collect();
            notes.push(format!(
                "The folder also holds pickle files: {}.",
                names.join(", ")
            ));
        }
        chosen.security_tier = SecurityTier::Pickle;
    }
    chosen.notes.append(&mut notes);
    Ok(chosen)
}

/// Size and identity of a model file; `None` for other files.
fn look_at<'a>(path: &'a Path, pickles: &mut Vec<&'a Path>) -> Result<Option<(u64, Identity)>> {
    let (size, format) = {
        let file = open_regular(path)?;
        (file.size, sniff(&file)?)
    };
    if format == FileFormat::Pickle {
        pickles.push(path);
    }
    if format == FileFormat::Unknown {
        Ok(None)
    } else {
        Ok(Some((size, identify(path)?)))
    }
}

/// The largest file or set; in a diffusers pipeline a text encoder may be larger than the model that it serves.
fn main_group(found: &IndexMap<String, (u64, Identity)>, pipeline: bool) -> Option<ShardGroup> {
    let paths: Vec<String> = found.keys().cloned().collect();
    let mut groups: Vec<ShardGroup> = detect_sharded_sets(&paths).into_values().collect();
    let is_model = |group: &ShardGroup| !is_projector(&group.files[0]);
    if groups.iter().any(is_model) {
        groups.retain(is_model);
    }
    let is_core = |group: &ShardGroup| {
        let folder = Path::new(&group.files[0]).parent().and_then(Path::file_name);
        folder.is_some_and(|name| PIPELINE_CORES.iter().any(|core| name == *core))
    };
    if pipeline && groups.iter().any(is_core) {
        groups.retain(is_core);
    }
    let size = |group: &ShardGroup| {
        group
            .files
            .iter()
            .filter_map(|path| found.get(path))
            .map(|(size, _)| *size)
            .sum::<u64>()
    };
    // Of equal ones the first.
    groups.into_iter().rev().max_by_key(size)
}

/// One identity for the parts of a set: what most parts with a type agree on, and the sum of their weights.
fn merged(members: &[&Identity], whole: bool) -> Result<Identity> {
    let Some(first) = members.first() else {
        return Err(Error::Bug("a set without parts".to_owned()));
    };
    let mut facts: IndexMap<(ModelType, &str, &str, &str), usize> = IndexMap::new();
    for member in members
        .iter()
        .filter(|member| member.model_type != ModelType::Unknown)
    {
        let kind = (
            member.model_type,
            &*member.subtype,
            &*member.family,
            &*member.architecture,
        );
        *facts.entry(kind).or_default() += 1;
    }
    let mut one = (*first).clone();
    if let Some(((model_type, subtype, family, architecture), _)) =
        facts.iter().rev().max_by_key(|(_, count)| **count)
    {
        one.model_type = *model_type;
        (*subtype).clone_into(&mut one.subtype);
        (*family).clone_into(&mut one.family);
        (*architecture).clone_into(&mut one.architecture);
    }
    let total: Option<u64> = members.iter().map(|member| member.parameters).sum();
    one.parameters = total.filter(|_| whole);
    Ok(one)
}

/// What transformers' `config.json` says; empty when the file is not usable.
#[derive(Default)]
struct Config {
    /// `model_type`
    architecture: String,
    /// Transformers would load the folder as a language model: its class is `...ForCausalLM`.
    writes_text: bool,
}

fn read_config(path: &Path) -> Config {
    let raw = open_regular(path).and_then(|file| file.pread(MAX_CONFIG_BYTES + 1, 0));
    let Some(raw) = raw.ok().filter(|raw| raw.len() as u64 <= MAX_CONFIG_BYTES) else {
        return Config::default();
    };
    let value: Value = serde_json::from_slice(&raw).unwrap_or_default();
    let classes = value.get("architectures").and_then(Value::as_array);
    let model_type = value.get("model_type").and_then(Value::as_str);
    Config {
        architecture: one_line(model_type.unwrap_or_default(), 64),
        writes_text: classes.is_some_and(|classes| {
            let mut names = classes.iter().filter_map(Value::as_str);
            names.any(|name| name.ends_with("ForCausalLM"))
        }),
    }
}

fn ask_config(identity: &mut Identity, config: &Config) {
    let architecture = &config.architecture;
    if architecture.is_empty() || identity.format == FileFormat::Gguf {
        return;
    }
    let told = type_of(architecture);
    if identity.model_type == ModelType::Unknown {
        identity.model_type = match told {
            None if config.writes_text => ModelType::Llm,
            told => told.unwrap_or(ModelType::Unknown),
        };
    } else if identity.model_type != told.unwrap_or(ModelType::Llm) {
        return;
    }
    identity.family = family_of(architecture);
    architecture.clone_into(&mut identity.architecture);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_read_down_to_the_depth_at_which_json_ends() {
        let place = tempfile::tempdir().unwrap();
        let config = place.path().join("config.json");
        for (depth, expected) in [(127, "mistral"), (128, "")] {
            let (open, shut) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
            let text = format!("{{\"model_type\": \"mistral\", \"x\": {open}{shut}}}");
            std::fs::write(&config, text).unwrap();
            assert_eq!(read_config(&config).architecture, expected, "{depth}");
        }
    }
}
