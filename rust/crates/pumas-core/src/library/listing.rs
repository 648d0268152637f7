//! The list of all models as one JSON text, kept compressed: so it takes a fifth of the memory, and nothing is made
//! again before a model changes.

use std::io::{self, Cursor, Read, Write as _};
use std::sync::Arc;

use lz4_flex::frame::{FrameDecoder, FrameEncoder};
use rusqlite::Connection;

use crate::error::{Error, Result};
use crate::library::store;

const MODELS_PER_PIECE: i64 = 500;

/// An object of id to `{path, size, addedDate, modelType, officialName, …}`. Cheap to clone.
#[derive(Clone)]
pub struct Listing {
    revision: i64,
    length: usize,
    packed: Arc<[u8]>,
}

impl Listing {
    /// Reads the index.
    pub(crate) fn read(c: &Connection) -> rusqlite::Result<Result<Self>> {
        let mut packer = FrameEncoder::new(Vec::new());
        let mut length = 0;
        let mut put = |text: &str| {
            length += text.len();
            packer.write_all(text.as_bytes())
        };
        let mut failed = put("{").err();
        let (mut after, mut separator) = (String::new(), "");
        while let Some((members, last)) = store::entry_objects(c, &after, MODELS_PER_PIECE)? {
            failed = failed.or_else(|| put(separator).and_then(|()| put(&members)).err());
            (after, separator) = (last, ",");
        }
        failed = failed.or_else(|| put("}").err());
        let revision = store::state(c)?.revision;
        let packed = match failed {
            Some(error) => Err(error),
            None => packer.finish().map_err(io::Error::other),
        };
        let listing = packed.map(|packed| Self {
            revision,
            length,
            packed: packed.into(),
        });
        Ok(listing.map_err(|error| Error::Bug(error.to_string())))
    }

    /// Of the library when this was its list.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// Bytes of the text.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The text, which is unpacked as it is read.
    #[must_use]
    pub fn text(&self) -> impl Read + Send + 'static {
        FrameDecoder::new(Cursor::new(Arc::clone(&self.packed)))
    }
}
