//! The JSON header of a safetensors file.
//!
//! The rules are those of the official parser (<https://github.com/huggingface/safetensors>,
//! `safetensors/src/tensor.rs`): known dtypes, sizes that agree, no holes, no data missing. Stricter in two places: a
//! tensor named twice, and fields that hold objects, are refused. Milder in one: bytes after the last tensor are counted,
//! not refused. The text is walked entry by entry, so that a header within the limits never costs much more than itself.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use indexmap::IndexMap;

use super::json_text::{self, Described};
use super::reader::{BoundedReader, Budget, OpenedFile};
use crate::error::{Error, Result};

/// The official parser's.
pub(super) const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Ours: the headers of the largest single files are about a third of this.
const MAX_READ_BYTES: u64 = 16 * 1024 * 1024;
const MAX_TENSORS: usize = 50_000;
/// Tensors whose names and shapes are kept; all of them are counted and checked.
const MAX_LISTED: usize = 20_000;
const MAX_DESCRIPTION_BYTES: usize = 2 * 1024;
const MAX_NAME_BYTES: usize = 4 * 1024;
/// Of `__metadata__`.
const MAX_KEYS: usize = 10_000;
/// Of one metadata value; the rest is cut and said so.
const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Of all listed names.
const MAX_LISTED_CHARS: i64 = 2 * 1024 * 1024;
/// Of all metadata.
const MAX_KEPT_CHARS: i64 = 8 * 1024 * 1024;

/// dtype and bits of an element.
const DTYPES: &[(&str, u64)] = &[
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
    ("I16", 16),
    ("U16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("U32", 32),
    ("F32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

/// One tensor's name and shape.
#[derive(Debug, Clone)]
pub(crate) struct TensorInfo {
    pub(crate) name: String,
    pub(crate) shape: Vec<u64>,
}

/// What the header says. `tensors` lists the first ones only; counts cover all.
#[derive(Debug, Default)]
pub(crate) struct SafetensorsHeader {
    pub(crate) metadata: IndexMap<String, String>,
    /// Metadata key -> real length in bytes of a value that was cut.
    pub(crate) cut: IndexMap<String, u64>,
    pub(crate) tensors: Vec<TensorInfo>,
    pub(crate) tensor_count: usize,
    /// Per dtype, in the order of their first tensors.
    pub(crate) elements: IndexMap<&'static str, u64>,
    /// Bytes after the last tensor, which the format does not allow.
    pub(crate) trailing: u64,
}

/// Parse and check the header.
///
/// # Errors
/// [`Error::MalformedModelFile`] when the official parser would refuse the file.
pub(crate) fn read_safetensors(file: &OpenedFile) -> Result<SafetensorsHeader> {
    let mut reader = BoundedReader::new(file, Budget::bytes(8 + MAX_READ_BYTES + 256 * 1024));
    if reader.remaining() < 8 {
        return Err(reader.fail("is cut short: it has no header"));
    }
    let length = u64::from_le_bytes(reader.array()?);
    if length > MAX_HEADER_BYTES {
        return Err(reader.fail("is not a safetensors file: its header would be larger than 100 MB"));
    }
    if length > reader.remaining() {
        return Err(reader.fail("is cut short: its header is longer than the file"));
    }
    if length > MAX_READ_BYTES {
        return Err(reader.fail("its header is larger than any real model's (16 MiB)"));
    }
    reader.end = reader.pos + length;
    let text = reader.take(length)?.to_vec();
    Parser::new(&reader, &text).header()
}

struct Parser<'a> {
    reader: &'a BoundedReader<'a>,
    text: &'a [u8],
    at: usize,
    result: SafetensorsHeader,
    kept_left: i64,
    names_left: i64,
    /// 64 bits of a keyed hash do not collide by accident.
    seen: HashSet<u64>,
    keys: RandomState,
    metadata_seen: bool,
    places: Vec<(u64, u64)>,
}

impl<'a> Parser<'a> {
    fn new(reader: &'a BoundedReader<'a>, text: &'a [u8]) -> Self {
        Self {
            reader,
            text,
            at: 0,
            result: SafetensorsHeader::default(),
            kept_left: MAX_KEPT_CHARS,
            names_left: MAX_LISTED_CHARS,
            seen: HashSet::new(),
            keys: RandomState::new(),
            metadata_seen: false,
            places: Vec::new(),
        }
    }

    fn header(mut self) -> Result<SafetensorsHeader> {
        self.expect(b'{')?;
        if self.peek() != Some(b'}') {
            self.entry()?;
            while self.peek() == Some(b',') {
                self.at += 1;
                self.entry()?;
            }
        }
        self.expect(b'}')?;
        if self.peek().is_some() {
            return Err(self.fail("there is text after the header's end"));
        }
        self.check_offsets()?;
        Ok(self.result)
    }

    fn fail(&self, reason: &str) -> Error {
        self.reader.fail(format!("has a damaged header: {reason}"))
    }

    /// The next byte that is not white space, left in place.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn expect(&mut self, token: u8) -> Result<()> {
        if self.peek() != Some(token) {
            return Err(self.fail(&format!("a {} is missing", char::from(token))));
        }
        self.at += 1;
        Ok(())
    }

    /// A JSON string: its first `limit` bytes decoded, and its length in the file.
    fn string(&mut self, limit: usize) -> Result<(String, usize)> {
        self.expect(b'"')?;
        let rest = &self.text[self.at..];
        let length = json_text::run(rest);
        let raw = &rest[..length];
        let ended = rest.get(length) == Some(&b'"');
        if let Err(error) = std::str::from_utf8(raw)
            && (ended || error.error_len().is_some())
        {
            return Err(self.fail("a text is not UTF-8"));
        }
        if !ended {
            return Err(self.fail("a text does not end or holds a forbidden character"));
        }
        self.at += length + 1;
        match json_text::decode(&raw[..length.min(limit)], length > limit) {
            Some(text) => Ok((text, length)),
            None => Err(self.fail("a text holds half of a surrogate pair")),
        }
    }

    fn entry(&mut self) -> Result<()> {
        let (name, length) = self.string(MAX_NAME_BYTES)?;
        if length > MAX_NAME_BYTES {
            return Err(self.fail("a tensor name is too long"));
        }
        self.expect(b':')?;
        if name == "__metadata__" {
            self.metadata()
        } else {
            self.tensor(name)
        }
    }

    fn tensor(&mut self, name: String) -> Result<()> {
        self.peek();
        let rest = &self.text[self.at..];
        let described = json_text::flat_object(rest, MAX_DESCRIPTION_BYTES)
            .and_then(|value| Described::parse(value).map(|found| (found, value.len())));
        let Some((described, length)) = described else {
            return Err(self.fail("a tensor has no usable description"));
        };
        self.at += length;
        if !self.seen.insert(self.keys.hash_one(&name)) {
            return Err(self.fail("it names the same tensor twice"));
        }
        self.result.tensor_count += 1;
        if self.result.tensor_count > MAX_TENSORS {
            return Err(self
                .reader
                .fail(format!("has more tensors than any real model ({MAX_TENSORS})")));
        }
        if self.result.tensor_count.is_multiple_of(1024) {
            self.reader.check_time()?;
        }
        self.count(&described)?;
        if self.result.tensor_count <= MAX_LISTED && self.names_left > 0 {
            self.names_left -= name.chars().count() as i64;
            self.result.tensors.push(TensorInfo {
                name,
                shape: described.shape,
            });
        }
        Ok(())
    }

    /// Check a tensor's own numbers and remember its place.
    fn count(&mut self, described: &Described) -> Result<()> {
        let Some((dtype, bits)) = DTYPES.iter().find(|(dtype, _)| *dtype == described.dtype) else {
            return Err(self.fail("a tensor has an unknown dtype"));
        };
        let (start, end) = described.offsets;
        if end > i64::MAX.unsigned_abs() || start > end {
            return Err(self.fail("a tensor's place is impossible"));
        }
        let elements = super::gguf::elements(&described.shape);
        let size = elements.saturating_mul(u128::from(*bits));
        let counted = u64::try_from(elements)
            .ok()
            .filter(|_| size == u128::from(end - start) * 8);
        let Some(elements) = counted else {
            return Err(self.fail("a tensor's size disagrees with its shape"));
        };
        let sum = self.result.elements.entry(dtype).or_insert(0);
        *sum = sum.saturating_add(elements);
        self.places.push((start, end));
        Ok(())
    }

    fn metadata(&mut self) -> Result<()> {
        if self.metadata_seen {
            return Err(self.fail("it has two __metadata__ objects"));
        }
        self.metadata_seen = true;
        if self.peek() == Some(b'n') {
            if !self.text[self.at..].starts_with(b"null") {
                return Err(self.fail("__metadata__ is not an object"));
            }
            self.at += 4;
            return Ok(());
        }
        self.expect(b'{')?;
        if self.peek() != Some(b'}') {
            self.metadata_pair()?;
            while self.peek() == Some(b',') {
                self.at += 1;
                self.metadata_pair()?;
            }
        }
        self.expect(b'}')
    }

    fn metadata_pair(&mut self) -> Result<()> {
        let (key, key_length) = self.string(MAX_NAME_BYTES)?;
        self.expect(b':')?;
        let (value, length) = self.string(MAX_TEXT_BYTES)?;
        self.kept_left -= (key.chars().count() + value.chars().count() + 64) as i64;
        if self.kept_left < 0 {
            return Err(self.fail("it holds more text than any real model's"));
        }
        if key_length > MAX_NAME_BYTES || self.result.metadata.len() >= MAX_KEYS {
            return Err(self.fail("its __metadata__ is larger than any real model's"));
        }
        if length > MAX_TEXT_BYTES {
            self.result.cut.insert(key.clone(), length as u64);
        }
        self.result.metadata.insert(key, value);
        Ok(())
    }

    /// The tensors must cover the data part exactly, in any order of entries.
    fn check_offsets(&mut self) -> Result<()> {
        self.places.sort_unstable();
        let mut end = 0;
        for (start, next_end) in &self.places {
            if *start != end {
                return Err(self.fail("its tensors overlap or leave holes"));
            }
            end = *next_end;
        }
        let have = self.reader.file.size - self.reader.end;
        if have < end {
            let missing = end - have;
            return Err(self.reader.fail(format!(
                "is cut short: {missing} bytes of tensor data are missing"
            )));
        }
        // The official library refuses such a file too, but nothing of the model is missing.
        self.result.trailing = have - end;
        Ok(())
    }
}
