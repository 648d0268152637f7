//! What model a file or a folder holds: type, family, architecture, quantisation, size.
//!
//! Content decides. A name is asked only to choose between layouts that look alike, or when the content says nothing, and
//! then a note says so. Knows nothing about where models are kept or what a caller claimed about them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::Value;

use super::detect::{Container, FileFormat, SecurityTier, read_container, sniff};
use super::families::{Kind, ModelType, family_in_text, family_of, kind, kind_of_metadata, type_of};
use super::ggml::{Holds, read_ggml};
use super::gguf::{GgufHeader, GgufScalar, GgufValue, elements, tensor_type_of};
use super::pickle_files::pickled_names;
use super::quantization::{agree, detect_quantization, gguf_file_type};
use super::reader::{OpenedFile, open_regular};
use super::safetensors::SafetensorsHeader;
use super::shards::{ShardGroup, detect_sharded_sets};
use super::tensor_names::{TensorNames, kind_of_tensors};
use super::text::{message_name, one_line};
use crate::error::{Error, Result};

const MAX_CONFIG_BYTES: u64 = 1024 * 1024;
/// What makes a folder a pipeline of diffusers.
const PIPELINE_INDEX: &str = "model_index.json";
const PIPELINE_CORES: [&str; 4] = ["transformer", "unet", "prior", "decoder"];
const PACKED_NAMES: [&str; 6] = [
    ".qweight",
    ".quant_state",
    ".weight_packed",
    ".absmax",
    ".qzeros",
    ".codebooks",
];
/// Several weights in one element; plain weights are never of these.
const PACKING_DTYPES: [&str; 3] = ["U8", "I32", "U32"];
const STORED_AS: [(&str, &str); 7] = [
    ("F32", "fp32"),
    ("F16", "fp16"),
    ("BF16", "bf16"),
    ("F8_E4M3", "fp8_e4m3fn"),
    ("F8_E5M2", "fp8_e5m2"),
    ("F64", "fp64"),
    ("I8", "int8"),
];

/// Facts about one model; `""` and `None` mean that the content does not say.
///
/// `base_model`, `name`, `repo_url` and `license` are what the file claims about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The container.
    pub format: FileFormat,
    /// What it is for.
    pub model_type: ModelType,
    /// `loras`, `vae`, …
    pub subtype: String,
    /// `llama`, `sdxl`, …
    pub family: String,
    /// As the file or its layout names it.
    pub architecture: String,
    /// `q4_k_m`, `fp16`, …
    pub quantization: String,
    /// Weights that were seen; `None` for packed or partial ones.
    pub parameters: Option<u64>,
    /// The model's own name.
    pub name: String,
    /// What it was made from.
    pub base_model: String,
    /// Where it is from.
    pub repo_url: String,
    /// Its licence.
    pub license: String,
    /// Whether loading it may run code.
    pub security_tier: SecurityTier,
    /// Sentences for a person.
    pub notes: Vec<String>,
}

impl Identity {
    /// Of what is no model file that we know.
    #[must_use]
    pub fn unknown() -> Self {
        Draft::default().finish(FileFormat::Unknown)
    }
}

/// An identity while it is put together.
#[derive(Default)]
struct Draft {
    kind: Kind,
    quantization: String,
    parameters: Option<u64>,
    claims: Claims,
    notes: Vec<String>,
}

/// What a file says about itself.
#[derive(Default)]
struct Claims {
    name: String,
    base_model: String,
    repo_url: String,
    license: String,
}

impl Draft {
    fn finish(self, format: FileFormat) -> Identity {
        Identity {
            format,
            model_type: self.kind.model_type,
            subtype: self.kind.subtype.into_owned(),
            family: one_line(&self.kind.family, 64),
            architecture: one_line(&self.kind.architecture, 64),
            quantization: self.quantization,
            parameters: self.parameters,
            name: one_line(&self.claims.name, 256),
            base_model: one_line(&self.claims.base_model, 256),
            repo_url: one_line(&self.claims.repo_url, 256),
            license: one_line(&self.claims.license, 256),
            security_tier: format.security_tier(),
            notes: self.notes,
        }
    }
}

/// Identify one file. A file of no known format has the format `unknown`.
///
/// # Errors
/// [`Error::FileUnavailable`] when it cannot be read, [`Error::MalformedModelFile`] when it is damaged, cut short or
/// hostile.
pub fn identify(path: &Path) -> Result<Identity> {
    let file = open_regular(path)?;
    let container = read_container(&file, sniff(&file)?)?;
    let format = container.format();
    let mut draft = draft(&file, container)?;
    let named = detect_quantization(&last_parts(path, "/"));
    if !named.is_empty() {
        if draft.quantization.is_empty() || agree(&named, &draft.quantization) {
            draft.quantization = named;
        } else {
            draft.notes.push(format!(
                "The name says {named}, the content says {}.",
                draft.quantization
            ));
        }
    }
    if format != FileFormat::Unknown {
        ask_name(path, &mut draft);
    }
    Ok(draft.finish(format))
}

/// The file's name and its folder's.
fn last_parts(path: &Path, between: &str) -> String {
    let parts: Vec<_> = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy())
        .collect();
    parts[parts.len().saturating_sub(2)..].join(between)
}

/// Identify the model that the files of one folder make up; the largest model file, or its set of shards, decides.
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
    let config = main.with_file_name("config.json");
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

fn draft(file: &OpenedFile, container: Container) -> Result<Draft> {
    match container {
        Container::Gguf(header) => Ok(from_gguf(&header, file.size)),
        Container::Safetensors(header) => Ok(from_safetensors(header, file.size)),
        Container::Onnx(header) => {
            let producer = one_line(&header.producer, 64);
            let notes = if header.producer.is_empty() {
                Vec::new()
            } else {
                vec![format!("Made by {producer}.")]
            };
            Ok(Draft {
                notes,
                ..Draft::default()
            })
        }
        Container::Plain(FileFormat::Ggml) => from_ggml(file),
        Container::Plain(FileFormat::Pickle) => from_pickle(file),
        Container::Plain(_) => Ok(Draft::default()),
    }
}

fn from_gguf(header: &GgufHeader, size: u64) -> Draft {
    let mut quantization = gguf_file_type(header.integer("general.file_type")).to_owned();
    if quantization.is_empty() {
        commonest_type(header).clone_into(&mut quantization);
    }
    let partial = header.integer("split.count").unwrap_or(0) > 1;
    let first_text = |keys: &[&str]| {
        keys.iter()
            .map(|key| header.text(key))
            .find(|text| !text.is_empty())
            .unwrap_or_default()
            .to_owned()
    };
    let base_repo = repo_id(header.text("general.base_model.0.repo_url"));
    let base_name = || header.text("general.base_model.0.name").to_owned();
    Draft {
        kind: gguf_kind(header, size),
        quantization,
        parameters: (!partial && !header.tensors.is_empty()).then(|| header.parameters()),
        claims: Claims {
            name: first_text(&["general.name", "general.basename"]),
            base_model: if base_repo.is_empty() {
                base_name()
            } else {
                base_repo
            },
            repo_url: first_text(&["general.repo_url", "general.source.repo_url", "general.url"]),
            license: first_text(&["general.license"]),
        },
        notes: if header.version == 1 {
            vec!["GGUF version 1; most programs of today refuse it.".to_owned()]
        } else {
            Vec::new()
        },
    }
}

fn gguf_kind(header: &GgufHeader, size: u64) -> Kind {
    let architecture = header.text("general.architecture");
    let role = header.text("general.type");
    let family = family_of(architecture);
    let of = |model_type, subtype: &'static str, family: &str| Kind {
        family: family.to_owned().into(),
        architecture: architecture.to_owned().into(),
        ..kind(model_type, subtype, "", "")
    };
    if matches!(architecture, "clip" | "mmproj") || role == "mmproj" {
        let audio = Some(&GgufValue::Scalar(GgufScalar::Bool(true)));
        let only_audio = header.metadata.get("clip.has_audio_encoder") == audio
            && !header.is_set("clip.has_vision_encoder");
        let model_type = if only_audio {
            ModelType::Audio
        } else {
            ModelType::Vision
        };
        let named = |text: &str| {
            if text.is_empty() {
                "clip".to_owned()
            } else {
                text.to_owned()
            }
        };
        return Kind {
            family: named(&family).into(),
            architecture: named(architecture).into(),
            ..kind(model_type, "mmproj", "", "")
        };
    }
    let special = type_of(architecture);
    if role == "adapter" || header.text("adapter.type") == "lora" {
        let image = special == Some(ModelType::Diffusion);
        return of(
            if image {
                ModelType::Diffusion
            } else {
                ModelType::Llm
            },
            "loras",
            &family,
        );
    }
    if architecture == "controlvector" {
        return of(
            ModelType::Llm,
            "control_vector",
            header.text("controlvector.model_hint"),
        );
    }
    if role == "imatrix" || architecture == "imatrix" {
        return kind(ModelType::Unknown, "imatrix", "", "");
    }
    if special == Some(ModelType::Diffusion) {
        let seen = kind_of_tensors(&gguf_tensors(header), size);
        let mut found = of(ModelType::Diffusion, "diffusion_models", &family);
        if seen.model_type == ModelType::Diffusion && !seen.subtype.is_empty() {
            found.subtype = seen.subtype;
        }
        if family.is_empty() {
            found.family = seen.family;
        }
        return found;
    }
    if let Some(special) = special {
        return of(special, "", &family);
    }
    if architecture == "t5encoder" {
        return of(ModelType::Diffusion, "t5", &family);
    }
    let named = !architecture.is_empty();
    if named
        && header
            .integer(&format!("{architecture}.pooling_type"))
            .unwrap_or(0)
            > 0
    {
        return of(ModelType::Embedding, "", &family);
    }
    if named && (speaks(header, architecture) || header.tensors.is_empty()) {
        return of(ModelType::Llm, "", &family);
    }
    // Programs for images also write files without an architecture, or with one of their own.
    let seen = kind_of_tensors(&gguf_tensors(header), size);
    if seen.is_known() {
        let architecture = if named {
            architecture.to_owned().into()
        } else {
            seen.architecture
        };
        return Kind { architecture, ..seen };
    }
    of(
        if named { ModelType::Llm } else { ModelType::Unknown },
        "",
        &family,
    )
}

fn gguf_tensors(header: &GgufHeader) -> TensorNames {
    let names = header.tensors.iter().map(|tensor| tensor.name.clone()).collect();
    let reversed = |shape: &[u64]| shape.iter().rev().copied().collect();
    let shapes: HashMap<_, _> = header
        .tensors
        .iter()
        .map(|tensor| (tensor.name.clone(), reversed(&tensor.shape)))
        .collect();
    TensorNames::new(names, shapes)
}

/// Whether the header has what every language model has.
fn speaks(header: &GgufHeader, architecture: &str) -> bool {
    let own = |key: &str| header.metadata.contains_key(&format!("{architecture}.{key}"));
    header.metadata.contains_key("tokenizer.ggml.model") || own("context_length") || own("block_count")
}

/// The type that most weights are stored in; `""` when there are none.
fn commonest_type(header: &GgufHeader) -> &'static str {
    let mut sums: IndexMap<u32, u128> = IndexMap::new();
    for tensor in header.tensors.iter().filter(|tensor| tensor.shape.len() > 1) {
        let sum = sums.entry(tensor.kind).or_default();
        *sum = sum.saturating_add(elements(&tensor.shape));
    }
    let most = sums.into_iter().rev().max_by_key(|(_, sum)| *sum);
    most.and_then(|(number, _)| tensor_type_of(number))
        .map_or("", |found| found.name)
}

fn from_safetensors(header: SafetensorsHeader, size: u64) -> Draft {
    let names = header.tensors.iter().map(|tensor| tensor.name.clone()).collect();
    let shapes = header
        .tensors
        .into_iter()
        .map(|tensor| (tensor.name, tensor.shape))
        .collect();
    let tensors = TensorNames::new(names, shapes);
    let kind = with_metadata(kind_of_tensors(&tensors, size), &header.metadata);
    let all: u64 = header.elements.values().sum();
    let integers: u64 = PACKING_DTYPES
        .iter()
        .filter_map(|dtype| header.elements.get(dtype))
        .sum();
    let packed = tensors.any(&PACKED_NAMES) || integers as f64 > 0.05 * all as f64;
    let mut notes = Vec::new();
    if packed {
        notes.push("Weights are packed, so they were not counted.".to_owned());
    }
    if header.trailing > 0 {
        notes.push(format!(
            "{} bytes follow the last tensor; some programs will refuse the file.",
            header.trailing
        ));
    }
    let main = header
        .elements
        .iter()
        .rev()
        .max_by_key(|(_, count)| **count)
        .map_or("", |(dtype, _)| *dtype);
    let stored = STORED_AS
        .iter()
        .find(|(dtype, _)| *dtype == main && !packed)
        .map_or("", |(_, token)| *token);
    Draft {
        parameters: (!packed && kind.subtype != "loras" && header.tensor_count > 0).then_some(all),
        kind,
        quantization: stored.to_owned(),
        claims: safetensors_claims(&header.metadata),
        notes,
    }
}

fn safetensors_claims(metadata: &IndexMap<String, String>) -> Claims {
    let first_text = |keys: [&str; 2]| {
        keys.iter()
            .filter_map(|key| metadata.get(*key))
            .find(|text| !text.is_empty())
            .cloned()
            .unwrap_or_default()
    };
    let implementation = metadata
        .get("modelspec.implementation")
        .filter(|text| text.contains("huggingface.co"));
    Claims {
        name: first_text(["modelspec.title", "ss_output_name"]),
        base_model: first_text(["ss_sd_model_name", "base_model"]),
        repo_url: implementation.cloned().unwrap_or_default(),
        license: first_text(["modelspec.license", "license"]),
    }
}

/// Trainers' own words fill what the tensors leave open; they never overrule the tensors.
fn with_metadata(seen: Kind, metadata: &IndexMap<String, String>) -> Kind {
    let told = kind_of_metadata(metadata);
    if !told.is_known() || !matches!(seen.model_type, ModelType::Unknown | ModelType::Diffusion) {
        return seen;
    }
    let architecture = if seen.family.is_empty() && !told.architecture.is_empty() {
        told.architecture
    } else {
        seen.architecture
    };
    Kind {
        model_type: told.model_type,
        subtype: if seen.subtype.is_empty() {
            told.subtype
        } else {
            seen.subtype
        },
        family: if seen.family.is_empty() {
            told.family
        } else {
            seen.family
        },
        architecture,
    }
}

fn from_ggml(file: &OpenedFile) -> Result<Draft> {
    let noted = |kind, note: &str| Draft {
        kind,
        notes: vec![note.to_owned()],
        ..Draft::default()
    };
    let old = "A format older than GGUF; most programs of today refuse it.";
    Ok(match read_ggml(file)? {
        None => noted(
            Kind::default(),
            "A saved session of a language model, not a model.",
        ),
        Some(facts) if facts.holds == Holds::Session => noted(
            Kind::default(),
            "A saved session of a language model, not a model.",
        ),
        Some(facts) if facts.whisper => Draft {
            kind: kind(ModelType::Audio, "", "whisper", "whisper"),
            ..Draft::default()
        },
        Some(facts) if facts.holds == Holds::Adapter => noted(kind(ModelType::Llm, "loras", "", ""), old),
        Some(_) => noted(kind(ModelType::Llm, "", "", ""), old),
    })
}

fn from_pickle(file: &OpenedFile) -> Result<Draft> {
    let tensors = TensorNames::new(pickled_names(file)?, HashMap::new());
    Ok(Draft {
        kind: kind_of_tensors(&tensors, file.size),
        notes: vec!["A pickle can run code when an app loads it.".to_owned()],
        ..Draft::default()
    })
}

/// Let the name choose a language model's family when the layout is one that several share.
fn ask_name(path: &Path, draft: &mut Draft) {
    if draft.kind.model_type != ModelType::Llm || !draft.kind.family.is_empty() {
        return;
    }
    let family = family_in_text(&last_parts(path, " "));
    if !family.is_empty() {
        draft.notes.push(format!(
            "The family {family} is taken from the name: the content fits several."
        ));
        draft.kind.family = family.into();
    }
}

/// `org/name` of a Hugging Face address, or `""`.
fn repo_id(url: &str) -> String {
    let rest = url
        .split_once("huggingface.co/")
        .map_or("", |(_, rest)| rest)
        .trim_matches('/');
    let parts: Vec<&str> = rest.split('/').take(2).collect();
    if parts.len() == 2 {
        parts.join("/")
    } else {
        String::new()
    }
}

/// The `model_type` of transformers' `config.json`; `""` when the file is not usable.
fn read_config(path: &Path) -> String {
    let raw = open_regular(path).and_then(|file| file.pread(MAX_CONFIG_BYTES + 1, 0));
    let Some(raw) = raw.ok().filter(|raw| raw.len() as u64 <= MAX_CONFIG_BYTES) else {
        return String::new();
    };
    let value: Value = serde_json::from_slice(&raw).unwrap_or_default();
    one_line(
        value
            .get("model_type")
            .and_then(Value::as_str)
            .unwrap_or_default(),
        64,
    )
}

fn ask_config(identity: &mut Identity, architecture: &str) {
    if architecture.is_empty() || identity.format == FileFormat::Gguf {
        return;
    }
    let told = type_of(architecture).unwrap_or(ModelType::Llm);
    if identity.model_type == ModelType::Unknown {
        identity.model_type = told;
    } else if identity.model_type != told {
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
            assert_eq!(read_config(&config), expected, "{depth}");
        }
    }
}
