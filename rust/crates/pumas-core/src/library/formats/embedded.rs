//! What a model file says about itself, as values that every JSON reader takes.
//!
//! Chosen by content, not by name. Large arrays and texts are cut, and `truncated` says which and how long they really are.

use std::path::Path;

use indexmap::IndexMap;
use serde_json::{Map, Number, Value};

use super::detect::{FileFormat, sniff};
use super::gguf::{GgufHeader, GgufScalar, GgufValue, Tensors, read_gguf};
use super::reader::open_regular;
use super::safetensors::read_safetensors;
use crate::error::{Error, Result};

/// Whether and how a file describes itself; the names are those on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmbeddedType {
    /// `.gguf`
    Gguf,
    /// `.safetensors`
    Safetensors,
    /// Files of this format hold no description.
    Unsupported,
    /// The file cannot be read.
    Unknown,
}

impl EmbeddedType {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gguf => "gguf",
            Self::Safetensors => "safetensors",
            Self::Unsupported => "unsupported",
            Self::Unknown => "unknown",
        }
    }
}

/// What a file says about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddedMetadata {
    /// What was read.
    pub file_type: EmbeddedType,
    /// `None` exactly when there is an `error`.
    pub metadata: Option<Map<String, Value>>,
    /// Key -> real number of elements or bytes of a value that was cut.
    pub truncated: IndexMap<String, u64>,
    /// Why there is none; `""` when there is.
    pub error: String,
}

/// Read the metadata inside a GGUF or safetensors file. What the file is or holds is never an error.
#[must_use]
pub fn embedded_metadata(path: &Path) -> EmbeddedMetadata {
    let mut found = EmbeddedType::Unknown;
    let read = read(path, &mut found);
    let without = |file_type, error: &Error| EmbeddedMetadata {
        file_type,
        metadata: None,
        truncated: IndexMap::new(),
        error: error.to_string(),
    };
    match read {
        Ok((metadata, truncated)) => EmbeddedMetadata {
            file_type: found,
            metadata: Some(metadata),
            truncated,
            error: String::new(),
        },
        Err(error @ Error::MalformedModelFile(_)) => without(found, &error),
        Err(error) => without(EmbeddedType::Unknown, &error),
    }
}

type Described = (Map<String, Value>, IndexMap<String, u64>);

fn read(path: &Path, found: &mut EmbeddedType) -> Result<Described> {
    let file = open_regular(path)?;
    match sniff(&file)? {
        FileFormat::Gguf => {
            *found = EmbeddedType::Gguf;
            Ok(of_gguf(read_gguf(&file, Tensors::Skipped)?))
        }
        FileFormat::Safetensors => {
            *found = EmbeddedType::Safetensors;
            let header = read_safetensors(&file)?;
            let metadata = header
                .metadata
                .into_iter()
                .map(|(key, value)| (key, Value::String(value)))
                .collect();
            Ok((metadata, header.cut))
        }
        _ => {
            *found = EmbeddedType::Unsupported;
            let reason = format!(
                "{}: only GGUF and safetensors files describe themselves",
                file.name
            );
            Err(Error::MalformedModelFile(reason))
        }
    }
}

fn of_gguf(header: GgufHeader) -> Described {
    let mut metadata = Map::new();
    let mut truncated = header.cut;
    for (key, value) in header.metadata {
        let shown = match value {
            GgufValue::Scalar(value) => json(value),
            GgufValue::Array(array) => {
                if !array.whole {
                    truncated.insert(key.clone(), array.length);
                }
                Value::Array(array.first.into_iter().map(json).collect())
            }
        };
        metadata.insert(key, shown);
    }
    (metadata, truncated)
}

/// Integers beyond 64 bit become text; NaN and infinities null.
fn json(value: GgufScalar) -> Value {
    match value {
        GgufScalar::Text(text) => Value::String(text),
        GgufScalar::Bool(flag) => Value::Bool(flag),
        GgufScalar::Float(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        GgufScalar::Integer(number) => {
            i64::try_from(number).map_or_else(|_| Value::String(number.to_string()), Value::from)
        }
    }
}
