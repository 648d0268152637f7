//! The formats before GGUF, known by their magic number.
//!
//! A magic is a 32-bit number, so on disk its letters stand backwards (or forwards, written by a big-endian machine).
//! Values from llama.cpp and whisper.cpp before August 2023. Only the first integers after the magic are looked at.

use super::reader::OpenedFile;
use crate::error::Result;

/// What a file of one of these formats holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    Model,
    Adapter,
    Session,
}

/// Letters of the number, and what such a file holds. `ggml` has no version: llama, gpt-2, gpt-j, whisper, …
const MEANING: [([u8; 4], Holds); 5] = [
    (*b"ggml", Holds::Model),
    (*b"ggmf", Holds::Model),
    (*b"ggjt", Holds::Model),
    (*b"ggla", Holds::Adapter),
    (*b"ggsn", Holds::Session),
];
const WHISPER_VOCABULARIES: std::ops::RangeInclusive<u32> = 51_864..=51_866;
const WHISPER_AUDIO_CONTEXT: u32 = 1_500;

/// What the first bytes say; `whisper` if it is a speech model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GgmlFacts {
    pub(crate) holds: Holds,
    pub(crate) whisper: bool,
}

/// Facts from the first 12 bytes, or `None` when the file is something else.
///
/// # Errors
/// [`crate::error::Error::FileUnavailable`] when the disk fails.
pub(crate) fn read_ggml(file: &OpenedFile) -> Result<Option<GgmlFacts>> {
    let head = file.pread(12, 0)?;
    let Ok([a, b, c, d, rest @ ..]) = <[u8; 12]>::try_from(head) else {
        return Ok(None);
    };
    let (forwards, backwards) = ([a, b, c, d], [d, c, b, a]);
    let Some((name, holds)) = MEANING
        .iter()
        .find(|(name, _)| *name == forwards || *name == backwards)
    else {
        return Ok(None);
    };
    let number = |at: usize| {
        let bytes = [rest[at], rest[at + 1], rest[at + 2], rest[at + 3]];
        if *name == backwards {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        }
    };
    let whisper =
        name == b"ggml" && WHISPER_VOCABULARIES.contains(&number(0)) && number(4) == WHISPER_AUDIO_CONTEXT;
    Ok(Some(GgmlFacts {
        holds: *holds,
        whisper,
    }))
}
