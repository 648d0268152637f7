//! Which container a file is, from its bytes.
//!
//! [`detect_format`] is what `validate_file_type` shows and what import refuses by. It knows the containers, not the
//! models in them (`identify`), and uses a name only to word an error better.

use std::fmt;
use std::path::Path;

use super::ggml::read_ggml;
use super::gguf::{self, GgufHeader, Tensors, read_gguf};
use super::onnx::{OnnxHeader, read_onnx};
use super::pickle_files::{hides_imports, is_pickle, torch_members};
use super::reader::{OpenedFile, open_regular};
use super::safetensors::{MAX_HEADER_BYTES, SafetensorsHeader, read_safetensors};
use crate::error::{Error, Result};
use crate::zip_records::LOCAL_MAGIC;

/// A container of weights; the names are those on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileFormat {
    /// `.safetensors`
    Safetensors,
    /// `.gguf`
    Gguf,
    /// What came before GGUF.
    Ggml,
    /// A pickle, or a torch archive of them.
    Pickle,
    /// `.onnx`
    Onnx,
    /// No model file that we know.
    Unknown,
}

impl FileFormat {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
            Self::Ggml => "ggml",
            Self::Pickle => "pickle",
            Self::Onnx => "onnx",
            Self::Unknown => "unknown",
        }
    }

    /// Whether an app that loads the file may run code from it.
    #[must_use]
    pub fn security_tier(self) -> SecurityTier {
        match self {
            Self::Pickle => SecurityTier::Pickle,
            Self::Unknown => SecurityTier::Unknown,
            _ => SecurityTier::Safe,
        }
    }
}

impl fmt::Display for FileFormat {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Whether loading a file may run code from it; the names are those on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecurityTier {
    /// It cannot.
    Safe,
    /// Not known.
    Unknown,
    /// It can.
    Pickle,
}

impl SecurityTier {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Unknown => "unknown",
            Self::Pickle => "pickle",
        }
    }
}

impl fmt::Display for SecurityTier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// The container, and why it cannot be used (`""` when it can). A damaged file keeps its format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// What it is.
    pub format: FileFormat,
    /// One clause that begins with the file's name.
    pub error: String,
}

impl Detected {
    /// Whether it can be used.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.format != FileFormat::Unknown && self.error.is_empty()
    }
}

/// A file's format together with the header that was read on the way.
#[derive(Debug)]
pub(super) enum Container {
    Gguf(GgufHeader),
    Safetensors(SafetensorsHeader),
    Onnx(OnnxHeader),
    Plain(FileFormat),
}

impl Container {
    pub(super) fn format(&self) -> FileFormat {
        match self {
            Self::Gguf(_) => FileFormat::Gguf,
            Self::Safetensors(_) => FileFormat::Safetensors,
            Self::Onnx(_) => FileFormat::Onnx,
            Self::Plain(format) => *format,
        }
    }
}

/// Name the container and check its header.
///
/// # Errors
/// [`Error::FileUnavailable`] when the file cannot be read.
pub fn detect_format(path: &Path) -> Result<Detected> {
    let file = open_regular(path)?;
    let format = sniff(&file)?;
    let error = match read_container(&file, format) {
        Ok(Container::Plain(FileFormat::Unknown)) => why_unknown(&file)?,
        Ok(_) => String::new(),
        Err(Error::MalformedModelFile(reason)) => reason,
        Err(error) => return Err(error),
    };
    Ok(Detected { format, error })
}

/// The container by its first bytes, without checking the rest of its header.
pub(super) fn sniff(file: &OpenedFile) -> Result<FileFormat> {
    let head = file.pread(16, 0)?;
    if head.starts_with(gguf::MAGIC) {
        return Ok(FileFormat::Gguf);
    }
    if read_ggml(file)?.is_some() {
        return Ok(FileFormat::Ggml);
    }
    if let Some((length, [b'{', ..])) = head.split_first_chunk::<8>()
        && u64::from_le_bytes(*length) <= MAX_HEADER_BYTES
    {
        // The length can be made an opcode that swallows the rest as its operand, and apps go by the file's name.
        return Ok(if hides_imports(file)? {
            FileFormat::Pickle
        } else {
            FileFormat::Safetensors
        });
    }
    if head.starts_with(LOCAL_MAGIC) {
        return Ok(if is_torch_archive(file)? {
            FileFormat::Pickle
        } else {
            FileFormat::Unknown
        });
    }
    if is_pickle(file)? {
        return Ok(FileFormat::Pickle);
    }
    Ok(if is_onnx(file, &head)? {
        FileFormat::Onnx
    } else {
        FileFormat::Unknown
    })
}

/// Read the header that belongs to `format`.
///
/// # Errors
/// [`Error::MalformedModelFile`] when it is damaged.
pub(super) fn read_container(file: &OpenedFile, format: FileFormat) -> Result<Container> {
    match format {
        FileFormat::Gguf => read_gguf(file, Tensors::Checked).map(Container::Gguf),
        FileFormat::Safetensors => read_safetensors(file).map(Container::Safetensors),
        FileFormat::Onnx => read_onnx(file)?.map(Container::Onnx).ok_or_else(|| {
            Error::MalformedModelFile(format!(
                "{}: is named .onnx but is not a whole ONNX model",
                file.name
            ))
        }),
        FileFormat::Pickle => {
            if file.pread(4, 0)?.starts_with(LOCAL_MAGIC) {
                torch_members(file)?;
            }
            Ok(Container::Plain(format))
        }
        FileFormat::Ggml | FileFormat::Unknown => Ok(Container::Plain(format)),
    }
}

fn is_torch_archive(file: &OpenedFile) -> Result<bool> {
    match torch_members(file) {
        Ok(members) => Ok(members.is_some()),
        Err(Error::MalformedModelFile(_)) => Ok(true),
        Err(error) => Err(error),
    }
}

fn is_onnx(file: &OpenedFile, head: &[u8]) -> Result<bool> {
    match read_onnx(file) {
        Ok(found) => {
            Ok(found.is_some() || (head.starts_with(b"\x08") && file.name.to_lowercase().ends_with(".onnx")))
        }
        Err(Error::MalformedModelFile(_)) => Ok(true),
        Err(error) => Err(error),
    }
}

// What a download without Git LFS, or one that was not allowed, leaves in the place of a model.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/";
const WEB_PAGES: [&[u8]; 2] = [b"<!doctype html", b"<html"];

fn why_unknown(file: &OpenedFile) -> Result<String> {
    let head = file.pread(64, 0)?;
    let words = head.trim_ascii_start().to_ascii_lowercase();
    let reason = if file.size == 0 {
        "is empty"
    } else if head.starts_with(LOCAL_MAGIC) {
        "is a ZIP archive, but not one that torch writes"
    } else if head.starts_with(LFS_POINTER) {
        "is a Git LFS pointer, not the model itself; 'git lfs pull' in its folder fetches that"
    } else if WEB_PAGES.iter().any(|page| words.starts_with(page)) {
        "is a web page, not a model; download the model again"
    } else {
        "is not a model file that we know"
    };
    Ok(format!("{}: {reason}", file.name))
}
