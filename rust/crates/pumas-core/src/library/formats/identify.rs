//! What model a file or a folder holds: type, family, architecture, quantisation, size.
//!
//! Content decides. A name is asked only to choose between layouts that look alike, or when the content says nothing, and
//! then a note says so. Knows nothing about where models are kept or what a caller claimed about them.

use std::collections::HashMap;
use std::path::Path;

use super::detect::{Container, FileFormat, SecurityTier, read_container, sniff};
use super::families::{Kind, ModelType, family_in_text, kind};
use super::ggml::{Holds, read_ggml};
use super::pickle_files::pickled_names;
use super::quantization::{agree, detect_quantization};
use super::reader::{OpenedFile, open_regular};
use super::tensor_names::{TensorNames, kind_of_tensors};
use super::text::one_line;
use crate::error::Result;

mod folder;
mod gguf;
mod safetensors;

pub use folder::{CONFIGURATIONS, identify_folder};
use gguf::from_gguf;
use safetensors::from_safetensors;

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
/// [`crate::error::Error::FileUnavailable`] when it cannot be read, [`crate::error::Error::MalformedModelFile`] when it is
/// damaged, cut short or hostile.
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
