//! Pieces of JSON text in the header of a safetensors file, taken apart without decoding the whole.

use serde::Deserialize;

/// How many bytes at the beginning of `rest` are what may stand between the quotes of a JSON string.
pub(super) fn run(rest: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match rest.get(at) {
            None | Some(b'"' | 0..=0x1f) => return at,
            Some(b'\\') => match escape_length(&rest[at..]) {
                Some(length) => at += length,
                None => return at,
            },
            Some(_) => at += 1,
        }
    }
}

/// The length of the whole escape that `rest` begins with.
fn escape_length(rest: &[u8]) -> Option<usize> {
    match rest.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' if rest.get(2..6)?.iter().all(u8::is_ascii_hexdigit) => Some(6),
        _ => None,
    }
}

/// The text of a string's bytes, which `run` has found good; `None` when it holds half of a surrogate pair.
///
/// With `cut`, the end may stand in the middle of a character or an escape, which is then left out.
pub(super) fn decode(raw: &[u8], cut: bool) -> Option<String> {
    let whole = if cut { &raw[..run(raw)] } else { raw };
    let mut bytes = Vec::with_capacity(whole.len());
    let mut rest = whole;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        bytes.extend_from_slice(&rest[..at]);
        let (letter, length) = match escaped(&rest[at..]) {
            Some(found) => found,
            None if cut && rest.len() - at <= 6 => break,
            None => return None,
        };
        bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &rest[at + length..];
        if rest.is_empty() {
            return Some(super::text::valid_text(&bytes));
        }
    }
    if memchr::memchr(b'\\', rest).is_none() {
        bytes.extend_from_slice(rest);
    }
    Some(super::text::valid_text(&bytes))
}

/// The character of the escape that `rest` begins with, and the escape's length.
fn escaped(rest: &[u8]) -> Option<(char, usize)> {
    let letter = match rest.get(1)? {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode(rest),
        other => char::from(*other),
    };
    Some((letter, 2))
}

fn unicode(rest: &[u8]) -> Option<(char, usize)> {
    let first = hex(rest.get(2..6)?)?;
    if let Some(letter) = char::from_u32(first) {
        return Some((letter, 6));
    }
    let second = rest
        .get(6..12)
        .filter(|next| next.starts_with(b"\\u"))
        .and_then(|next| hex(&next[2..]))?;
    if first >= 0xDC00 || !(0xDC00..0xE000).contains(&second) {
        return None;
    }
    let letter = char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00))?;
    Some((letter, 12))
}

fn hex(digits: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The object without objects inside that `rest` begins with, if it has at most `limit` bytes.
pub(super) fn flat_object(rest: &[u8], limit: usize) -> Option<&[u8]> {
    if rest.first() != Some(&b'{') {
        return None;
    }
    let (mut in_text, mut at) = (false, 1);
    while at < rest.len().min(limit) {
        match rest[at] {
            b'\\' if in_text => at += 1,
            b'"' => in_text = !in_text,
            b'{' if !in_text => return None,
            b'}' if !in_text => return Some(&rest[..=at]),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The description of one tensor.
pub(super) struct Described {
    pub dtype: String,
    pub shape: Vec<u64>,
    pub offsets: (u64, u64),
}

#[derive(Deserialize)]
struct Raw {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
    #[serde(flatten)]
    _others: serde_json::Map<String, serde_json::Value>,
}

const MAX_DIMS: usize = 64;

impl Described {
    /// `None` when a field is missing, twice there, or of another kind.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let found: Raw = serde_json::from_slice(value).ok()?;
        (found.shape.len() <= MAX_DIMS).then_some(Self {
            dtype: found.dtype,
            shape: found.shape,
            offsets: found.data_offsets,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        assert_eq!(
            decode(br"a\n\u00e9\ud83d\ude00\/", false).as_deref(),
            Some("a\né😀/")
        );
        assert_eq!(decode(br"\ud83d!", false), None);
        assert_eq!(decode(br"\ude00", false), None);
    }

    #[test]
    fn what_a_cut_broke_is_left_out() {
        assert_eq!(
            decode("aé".as_bytes().get(..2).unwrap_or_default(), true).as_deref(),
            Some("a")
        );
        assert_eq!(decode(br"ab\u00", true).as_deref(), Some("ab"));
        assert_eq!(decode(br"ab\ud83d", true).as_deref(), Some("ab"));
    }

    #[test]
    fn descriptions_are_flat_and_have_each_field_once() {
        let good = br#"{"dtype":"F16","shape":[2],"data_offsets":[0,4],"note":"}"} , "#;
        let value = flat_object(good, 2048).unwrap_or_default();
        assert!(value.ends_with(b"\"}"));
        assert!(Described::parse(value).is_some());
        assert!(flat_object(br#"{"a":{}}"#, 2048).is_none());
        assert!(
            Described::parse(br#"{"dtype":"F16","dtype":"F16","shape":[],"data_offsets":[0,2]}"#).is_none()
        );
        assert!(Described::parse(br#"{"dtype":"F16","shape":[-1],"data_offsets":[0,2]}"#).is_none());
    }
}
