//! What a model file is, read from its own bytes.
//!
//! [`detect`] names the container, [`identify`] the model inside it, [`embedded`] shows what the file says about
//! itself, [`shards`] groups the parts of one model, [`quantization`] reads names. Everything here blocks and is bounded
//! (bytes, elements, processor time), made to be called from worker threads on files that nobody has vouched for. Nothing
//! here loads a pickle, maps a file into memory, or knows about the index, jobs or the wire.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "sizes are bounded far below the widths"
)]

pub mod detect;
pub mod embedded;
pub mod families;
mod ggml;
mod gguf;
pub mod identify;
mod json_text;
mod onnx;
mod opcodes;
pub mod pickle_files;
mod pickle_globals;
pub mod quantization;
pub(crate) mod reader;
mod safetensors;
pub mod shards;
mod tensor_names;
mod tensor_rules;
pub(crate) mod text;
mod zip_directory;
