//! The header of a GGUF file: key–values and tensor descriptions, never tensor data.
//!
//! Follows <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md> for versions 1 to 3 in both byte orders. Arrays
//! are passed over and only their first elements kept: a vocabulary would otherwise cost more memory than all the rest.

use std::collections::HashSet;

use indexmap::IndexMap;

use super::reader::{BoundedReader, Budget, OpenedFile};
use super::text::valid_text;
use crate::error::Result;

pub(super) const MAGIC: &[u8; 4] = b"GGUF";

/// The largest known vocabularies make headers of about 20 MB.
const MAX_HEADER_BYTES: u64 = 128 * 1024 * 1024;
const MAX_KEYS: u64 = 10_000;
/// The specification's.
const MAX_KEY_BYTES: u64 = 65_535;
const MAX_TENSORS: u64 = 32_768;
/// Keys, tensors, and strings in arrays; the largest vocabularies need half of it.
const MAX_STEPS: u64 = 1_500_000;
/// Readers of today refuse more than 64 or 128.
const MAX_NAME_BYTES: u64 = 256;
const MAX_DIMS: u32 = 8;
const MAX_ARRAY_DEPTH: u32 = 4;
/// An array inside an array costs about as much as so many strings.
const STEPS_PER_ARRAY: u64 = 8;
/// Of one string value; the rest is cut and said so.
const MAX_TEXT_BYTES: u64 = 64 * 1024;
/// Of all key–values together.
const MAX_KEPT_BYTES: u64 = 8 * 1024 * 1024;
/// Of an array.
const MAX_ITEMS: u64 = 64;
/// Of one string in an array.
const MAX_ITEM_BYTES: u64 = 256;

const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// How a tensor's weights are stored: `block` elements in `bytes` bytes.
#[derive(Debug)]
pub(crate) struct TensorType {
    pub(crate) name: &'static str,
    pub(crate) block: u64,
    pub(crate) bytes: u64,
}

const fn tensor_type(name: &'static str, block: u64, bytes: u64) -> TensorType {
    TensorType { name, block, bytes }
}

/// By number; 4, 5, 31–33 and 36–38 were withdrawn.
/// <https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py>
static TENSOR_TYPES: &[(u32, TensorType)] = &[
    (0, tensor_type("f32", 1, 4)),
    (1, tensor_type("f16", 1, 2)),
    (2, tensor_type("q4_0", 32, 18)),
    (3, tensor_type("q4_1", 32, 20)),
    (6, tensor_type("q5_0", 32, 22)),
    (7, tensor_type("q5_1", 32, 24)),
    (8, tensor_type("q8_0", 32, 34)),
    (9, tensor_type("q8_1", 32, 40)),
    (10, tensor_type("q2_k", 256, 84)),
    (11, tensor_type("q3_k", 256, 110)),
    (12, tensor_type("q4_k", 256, 144)),
    (13, tensor_type("q5_k", 256, 176)),
    (14, tensor_type("q6_k", 256, 210)),
    (15, tensor_type("q8_k", 256, 292)),
    (16, tensor_type("iq2_xxs", 256, 66)),
    (17, tensor_type("iq2_xs", 256, 74)),
    (18, tensor_type("iq3_xxs", 256, 98)),
    (19, tensor_type("iq1_s", 256, 50)),
    (20, tensor_type("iq4_nl", 32, 18)),
    (21, tensor_type("iq3_s", 256, 110)),
    (22, tensor_type("iq2_s", 256, 82)),
    (23, tensor_type("iq4_xs", 256, 136)),
    (24, tensor_type("i8", 1, 1)),
    (25, tensor_type("i16", 1, 2)),
    (26, tensor_type("i32", 1, 4)),
    (27, tensor_type("i64", 1, 8)),
    (28, tensor_type("f64", 1, 8)),
    (29, tensor_type("iq1_m", 256, 56)),
    (30, tensor_type("bf16", 1, 2)),
    (34, tensor_type("tq1_0", 256, 54)),
    (35, tensor_type("tq2_0", 256, 66)),
    (39, tensor_type("mxfp4", 32, 17)),
    (40, tensor_type("nvfp4", 64, 36)),
    (41, tensor_type("q1_0", 128, 18)),
];

/// The storage type with this number; `None` for types that only other programs know.
#[must_use]
pub(crate) fn tensor_type_of(number: u32) -> Option<&'static TensorType> {
    TENSOR_TYPES
        .iter()
        .find(|(known, _)| *known == number)
        .map(|(_, found)| found)
}

/// One value of a key, or one element of an array.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum GgufScalar {
    Integer(i128),
    Float(f64),
    Bool(bool),
    Text(String),
}

/// An array value: how many elements there are, and the first of them (none of nested arrays).
///
/// `whole` says that `first` holds all of them, uncut.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GgufArray {
    pub(crate) length: u64,
    pub(crate) first: Vec<GgufScalar>,
    pub(crate) whole: bool,
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum GgufValue {
    Scalar(GgufScalar),
    Array(GgufArray),
}

/// `shape` as stored, fastest dimension first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GgufTensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) kind: u32,
}

/// What the header says. `cut`: key -> real length in bytes of a string that was cut.
#[derive(Debug, Default)]
pub(crate) struct GgufHeader {
    pub(crate) version: u32,
    pub(crate) big_endian: bool,
    pub(crate) metadata: IndexMap<String, GgufValue>,
    pub(crate) cut: IndexMap<String, u64>,
    pub(crate) tensors: Vec<GgufTensor>,
}

impl GgufHeader {
    /// The value of a key that holds text; `""` for any other.
    #[must_use]
    pub(crate) fn text(&self, key: &str) -> &str {
        match self.metadata.get(key) {
            Some(GgufValue::Scalar(GgufScalar::Text(text))) => text,
            _ => "",
        }
    }

    /// The value of a key that holds an integer.
    #[must_use]
    pub(crate) fn integer(&self, key: &str) -> Option<i128> {
        match self.metadata.get(key) {
            Some(GgufValue::Scalar(GgufScalar::Integer(value))) => Some(*value),
            _ => None,
        }
    }

    /// Whether a key is there with a value that is not false, zero or empty.
    #[must_use]
    pub(crate) fn is_set(&self, key: &str) -> bool {
        match self.metadata.get(key) {
            None => false,
            Some(GgufValue::Array(_)) => true,
            Some(GgufValue::Scalar(value)) => match value {
                GgufScalar::Integer(number) => *number != 0,
                GgufScalar::Float(number) => *number != 0.0,
                GgufScalar::Bool(flag) => *flag,
                GgufScalar::Text(text) => !text.is_empty(),
            },
        }
    }

    /// Elements of all tensors in this file (a split model has more files).
    #[must_use]
    pub(crate) fn parameters(&self) -> u64 {
        let total = self
            .tensors
            .iter()
            .fold(0, |sum: u128, tensor| sum.saturating_add(elements(&tensor.shape)));
        u64::try_from(total).unwrap_or(u64::MAX)
    }
}

/// How many elements a tensor of this shape has.
#[must_use]
pub(crate) fn elements(shape: &[u64]) -> u128 {
    if shape.contains(&0) {
        return 0;
    }
    shape
        .iter()
        .fold(1, |product: u128, size| product.saturating_mul(u128::from(*size)))
}

/// Which parts of the header are wanted. Key–values always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tensors {
    /// Described, and checked to lie within the file.
    Checked,
    Skipped,
}

/// Parse the header of `file`.
///
/// # Errors
/// [`crate::error::Error::MalformedModelFile`] when it is not GGUF, damaged, cut short, or beyond the budgets.
pub(crate) fn read_gguf(file: &OpenedFile, tensors: Tensors) -> Result<GgufHeader> {
    let budget = Budget {
        bytes: MAX_HEADER_BYTES,
        steps: MAX_STEPS,
    };
    Parser::new(BoundedReader::new(file, budget))?.header(tensors)
}

struct Parser<'a> {
    reader: BoundedReader<'a>,
    header: GgufHeader,
    kept_left: u64,
}

impl<'a> Parser<'a> {
    fn new(mut reader: BoundedReader<'a>) -> Result<Self> {
        if reader.remaining() < 8 || reader.take(4)? != MAGIC {
            return Err(reader.fail("is not a GGUF file"));
        }
        let raw: [u8; 4] = reader.array()?;
        // The specification has no byte-order mark: a version whose low half is empty was written the other way round.
        let big_endian = u32::from_le_bytes(raw).trailing_zeros() >= 16;
        let version = if big_endian {
            u32::from_be_bytes(raw)
        } else {
            u32::from_le_bytes(raw)
        };
        if !(1..=3).contains(&version) {
            return Err(reader.fail(format!("has GGUF version {version}; versions 1 to 3 are known")));
        }
        let header = GgufHeader {
            version,
            big_endian,
            ..GgufHeader::default()
        };
        Ok(Self {
            reader,
            header,
            kept_left: MAX_KEPT_BYTES,
        })
    }

    fn header(mut self, wanted: Tensors) -> Result<GgufHeader> {
        let (tensor_count, key_count) = (self.size()?, self.size()?);
        let smallest_tensor = 2 * self.size_width() + 8;
        self.reader
            .check_limited("tensors", tensor_count, smallest_tensor, MAX_TENSORS)?;
        self.reader
            .check_limited("keys", key_count, self.size_width() + 5, MAX_KEYS)?;
        for _ in 0..key_count {
            self.key_value()?;
        }
        if wanted == Tensors::Checked {
            self.reader
                .check_count("tensors", tensor_count, smallest_tensor)?;
            self.tensor_infos(tensor_count)?;
        }
        Ok(self.header)
    }

    fn u32(&mut self) -> Result<u32> {
        let raw = self.reader.array()?;
        Ok(if self.header.big_endian {
            u32::from_be_bytes(raw)
        } else {
            u32::from_le_bytes(raw)
        })
    }

    fn u64(&mut self) -> Result<u64> {
        let raw = self.reader.array()?;
        Ok(if self.header.big_endian {
            u64::from_be_bytes(raw)
        } else {
            u64::from_le_bytes(raw)
        })
    }

    /// A length or count: 32 bit in version 1, 64 bit since.
    fn size(&mut self) -> Result<u64> {
        if self.header.version == 1 {
            self.u32().map(u64::from)
        } else {
            self.u64()
        }
    }

    fn size_width(&self) -> u64 {
        if self.header.version == 1 { 4 } else { 8 }
    }

    fn keep(&mut self, size: u64) -> Result<()> {
        match self.kept_left.checked_sub(size + 64) {
            Some(left) => self.kept_left = left,
            None => return Err(self.reader.fail("holds more metadata than any real model")),
        }
        Ok(())
    }

    fn name(&mut self, what: &str, limit: u64) -> Result<String> {
        let length = self.size()?;
        if length > limit {
            return Err(self
                .reader
                .fail(format!("has {what} of {length} bytes; {limit} are allowed")));
        }
        let raw = self.reader.take(length)?.to_vec();
        String::from_utf8(raw).map_err(|_| self.reader.fail(format!("has {what} that is not UTF-8")))
    }

    fn key_value(&mut self) -> Result<()> {
        self.reader.spend(1)?;
        let key = self.name("a key", MAX_KEY_BYTES)?;
        self.keep(key.chars().count() as u64)?;
        if self.header.metadata.contains_key(&key) {
            return Err(self.reader.fail("has the same key twice"));
        }
        let kind = self.u32()?;
        let value = match kind {
            STRING => {
                let (value, length) = self.cut_string(MAX_TEXT_BYTES)?;
                if length > MAX_TEXT_BYTES {
                    self.header.cut.insert(key.clone(), length);
                }
                GgufValue::Scalar(GgufScalar::Text(value))
            }
            ARRAY => GgufValue::Array(self.array(1)?),
            _ => GgufValue::Scalar(self.scalar(kind)?),
        };
        self.header.metadata.insert(key, value);
        Ok(())
    }

    fn scalar(&mut self, kind: u32) -> Result<GgufScalar> {
        let Some(width) = scalar_width(kind) else {
            return Err(self.reader.fail(format!("has a value of unknown type {kind}")));
        };
        self.keep(0)?;
        let big_endian = self.header.big_endian;
        Ok(scalar_value(kind, self.reader.take(width)?, big_endian))
    }

    /// The string's first `limit` bytes and its real length.
    fn cut_string(&mut self, limit: u64) -> Result<(String, u64)> {
        let length = self.size()?;
        if length > self.reader.remaining() {
            return Err(self
                .reader
                .fail("is cut short: a string reaches beyond the end of the file"));
        }
        let kept = length.min(limit);
        self.keep(kept)?;
        let raw = self.reader.take(kept)?;
        let text = if kept < length {
            valid_text(raw)
        } else {
            String::from_utf8_lossy(raw).into_owned()
        };
        self.reader.skip(length - kept)?;
        Ok((text, length))
    }

    fn array(&mut self, depth: u32) -> Result<GgufArray> {
        if depth > MAX_ARRAY_DEPTH {
            return Err(self.reader.fail("nests arrays too deeply"));
        }
        let (kind, length) = (self.u32()?, self.size()?);
        let Some(smallest) = self.smallest(kind) else {
            return Err(self.reader.fail(format!("has an array of unknown type {kind}")));
        };
        self.reader.check_count("array elements", length, smallest)?;
        if kind == ARRAY {
            self.reader.spend(STEPS_PER_ARRAY.saturating_mul(length))?;
            for _ in 0..length {
                self.array(depth + 1)?;
            }
            return Ok(GgufArray {
                length,
                first: Vec::new(),
                whole: length == 0,
            });
        }
        let shown = if depth == 1 { length.min(MAX_ITEMS) } else { 0 };
        if kind == STRING {
            return self.strings(length, shown);
        }
        let first = (0..shown)
            .map(|_| self.scalar(kind))
            .collect::<Result<Vec<_>>>()?;
        self.reader.skip((length - shown) * smallest)?;
        Ok(GgufArray {
            length,
            first,
            whole: shown == length,
        })
    }

    fn strings(&mut self, length: u64, shown: u64) -> Result<GgufArray> {
        let mut first = Vec::new();
        let mut whole = shown == length;
        for _ in 0..shown {
            let (text, size) = self.cut_string(MAX_ITEM_BYTES)?;
            whole &= size <= MAX_ITEM_BYTES;
            first.push(GgufScalar::Text(text));
        }
        let big_endian = self.header.big_endian;
        self.reader
            .skip_strings(length - shown, self.size_width(), |raw| {
                let mut wide = [0; 8];
                if big_endian {
                    wide[8 - raw.len()..].copy_from_slice(raw);
                    u64::from_be_bytes(wide)
                } else {
                    wide[..raw.len()].copy_from_slice(raw);
                    u64::from_le_bytes(wide)
                }
            })?;
        Ok(GgufArray { length, first, whole })
    }

    /// Bytes that an array element of this type has at least; `None` for unknown types.
    fn smallest(&self, kind: u32) -> Option<u64> {
        match kind {
            STRING => Some(self.size_width()),
            ARRAY => Some(4 + self.size_width()),
            _ => scalar_width(kind),
        }
    }

    fn tensor_infos(&mut self, count: u64) -> Result<()> {
        let mut names = HashSet::new();
        let mut data_end: u128 = 0;
        for _ in 0..count {
            self.reader.spend(1)?;
            let name = self.name("a tensor name", MAX_NAME_BYTES)?;
            if !names.insert(name.clone()) {
                return Err(self.reader.fail("has the same tensor twice"));
            }
            let dims = self.u32()?;
            if dims > MAX_DIMS {
                return Err(self.reader.fail(format!("has a tensor of {dims} dimensions")));
            }
            let shape = (0..dims).map(|_| self.size()).collect::<Result<Vec<_>>>()?;
            let (kind, offset) = (self.u32()?, self.u64()?);
            let bytes = self.data_bytes(&shape, kind)?;
            data_end = data_end.max(bytes.saturating_add(u128::from(offset)));
            self.header.tensors.push(GgufTensor { name, shape, kind });
        }
        if count > 0 {
            self.check_data(data_end)
        } else {
            Ok(())
        }
    }

    /// Bytes of a tensor's data; 0 for types that only other programs know.
    fn data_bytes(&self, shape: &[u64], kind: u32) -> Result<u128> {
        let Some(known) = tensor_type_of(kind) else {
            return Ok(0);
        };
        if shape.first().is_some_and(|row| row % known.block != 0) {
            return Err(self.reader.fail("has a tensor whose rows are not whole blocks"));
        }
        let size = elements(shape).saturating_mul(u128::from(known.bytes));
        Ok(size / u128::from(known.block))
    }

    fn check_data(&self, data_end: u128) -> Result<()> {
        let alignment = match self.header.metadata.get("general.alignment") {
            None => Some(32),
            Some(GgufValue::Scalar(GgufScalar::Integer(number))) => Some(*number),
            Some(GgufValue::Scalar(GgufScalar::Bool(flag))) => Some(i128::from(*flag)),
            Some(_) => None,
        };
        let Some(alignment) = alignment
            .and_then(|number| u128::try_from(number).ok())
            .filter(|number| number.is_power_of_two())
        else {
            return Err(self.reader.fail("has an alignment that is not a power of two"));
        };
        let start = u128::from(self.reader.pos).div_ceil(alignment) * alignment;
        let size = u128::from(self.reader.file.size);
        let missing = match start.checked_sub(size) {
            Some(beyond) => data_end.saturating_add(beyond),
            None => data_end.saturating_sub(size - start),
        };
        if missing > 0 {
            return Err(self.reader.fail(format!(
                "is cut short: {missing} bytes of tensor data are missing"
            )));
        }
        Ok(())
    }
}

fn scalar_width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// The value in `raw`, which has the width of `kind`.
fn scalar_value(kind: u32, raw: &[u8], big_endian: bool) -> GgufScalar {
    let mut wide = [0; 8];
    for (at, byte) in raw.iter().enumerate() {
        wide[if big_endian { raw.len() - 1 - at } else { at }] = *byte;
    }
    let unsigned = u64::from_le_bytes(wide);
    let signed = |bits: u32| i128::from((unsigned << (64 - bits)).cast_signed() >> (64 - bits));
    match kind {
        1 => GgufScalar::Integer(signed(8)),
        3 => GgufScalar::Integer(signed(16)),
        5 => GgufScalar::Integer(signed(32)),
        11 => GgufScalar::Integer(signed(64)),
        6 => GgufScalar::Float(f64::from(f32::from_bits(unsigned as u32))),
        12 => GgufScalar::Float(f64::from_bits(unsigned)),
        7 => GgufScalar::Bool(unsigned != 0),
        _ => GgufScalar::Integer(i128::from(unsigned)),
    }
}
