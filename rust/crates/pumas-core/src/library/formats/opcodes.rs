//! The opcodes of pickle protocols 0 to 5, as Python's `pickletools` describes them, and a walk over them.
//!
//! Nothing is executed: an opcode's operands are read, texts are decoded, and everything else is passed over.
//! <https://github.com/python/cpython/blob/main/Lib/pickletools.py>

use super::text::valid_text;

/// How the operand of an opcode is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    Nothing,
    /// So many bytes whose meaning does not matter here.
    Fixed(u64),
    /// An unsigned little-endian number of so many bytes.
    Uint(u64),
    DecimalLine,
    LongLine,
    FloatLine,
    /// An unsigned length of so many bytes, and that many bytes.
    Counted(u64),
    /// A signed length of four bytes, and that many bytes.
    SignedCounted,
    /// As `Counted`, holding Latin-1 (four bytes of length are signed) …
    Latin(u64),
    /// … or UTF-8.
    Utf8(u64),
    QuotedLine,
    UnicodeLine,
    Line,
    LinePair,
}

/// `before` and `after` are how many values it takes from the stack and puts there; `to_mark`: it takes all down to
/// the newest mark.
#[derive(Debug)]
pub(super) struct Opcode {
    pub name: &'static str,
    argument: Argument,
    pub before: usize,
    pub to_mark: bool,
    pub after: usize,
}

const fn opcode(
    name: &'static str,
    argument: Argument,
    before: usize,
    to_mark: bool,
    after: usize,
) -> Opcode {
    Opcode {
        name,
        argument,
        before,
        to_mark,
        after,
    }
}

static OPCODES: &[(u8, Opcode)] = &[
    (b'I', opcode("INT", Argument::DecimalLine, 0, false, 1)),
    (b'J', opcode("BININT", Argument::Fixed(4), 0, false, 1)),
    (b'K', opcode("BININT1", Argument::Uint(1), 0, false, 1)),
    (b'M', opcode("BININT2", Argument::Uint(2), 0, false, 1)),
    (b'L', opcode("LONG", Argument::LongLine, 0, false, 1)),
    (0x8a, opcode("LONG1", Argument::Counted(1), 0, false, 1)),
    (0x8b, opcode("LONG4", Argument::SignedCounted, 0, false, 1)),
    (b'S', opcode("STRING", Argument::QuotedLine, 0, false, 1)),
    (b'T', opcode("BINSTRING", Argument::Latin(4), 0, false, 1)),
    (b'U', opcode("SHORT_BINSTRING", Argument::Latin(1), 0, false, 1)),
    (b'B', opcode("BINBYTES", Argument::Counted(4), 0, false, 1)),
    (b'C', opcode("SHORT_BINBYTES", Argument::Counted(1), 0, false, 1)),
    (0x8e, opcode("BINBYTES8", Argument::Counted(8), 0, false, 1)),
    (0x96, opcode("BYTEARRAY8", Argument::Counted(8), 0, false, 1)),
    (0x97, opcode("NEXT_BUFFER", Argument::Nothing, 0, false, 1)),
    (0x98, opcode("READONLY_BUFFER", Argument::Nothing, 1, false, 1)),
    (b'N', opcode("NONE", Argument::Nothing, 0, false, 1)),
    (0x88, opcode("NEWTRUE", Argument::Nothing, 0, false, 1)),
    (0x89, opcode("NEWFALSE", Argument::Nothing, 0, false, 1)),
    (b'V', opcode("UNICODE", Argument::UnicodeLine, 0, false, 1)),
    (0x8c, opcode("SHORT_BINUNICODE", Argument::Utf8(1), 0, false, 1)),
    (b'X', opcode("BINUNICODE", Argument::Utf8(4), 0, false, 1)),
    (0x8d, opcode("BINUNICODE8", Argument::Utf8(8), 0, false, 1)),
    (b'F', opcode("FLOAT", Argument::FloatLine, 0, false, 1)),
    (b'G', opcode("BINFLOAT", Argument::Fixed(8), 0, false, 1)),
    (b']', opcode("EMPTY_LIST", Argument::Nothing, 0, false, 1)),
    (b'a', opcode("APPEND", Argument::Nothing, 2, false, 1)),
    (b'e', opcode("APPENDS", Argument::Nothing, 0, true, 1)),
    (b'l', opcode("LIST", Argument::Nothing, 0, true, 1)),
    (b')', opcode("EMPTY_TUPLE", Argument::Nothing, 0, false, 1)),
    (b't', opcode("TUPLE", Argument::Nothing, 0, true, 1)),
    (0x85, opcode("TUPLE1", Argument::Nothing, 1, false, 1)),
    (0x86, opcode("TUPLE2", Argument::Nothing, 2, false, 1)),
    (0x87, opcode("TUPLE3", Argument::Nothing, 3, false, 1)),
    (b'}', opcode("EMPTY_DICT", Argument::Nothing, 0, false, 1)),
    (b'd', opcode("DICT", Argument::Nothing, 0, true, 1)),
    (b's', opcode("SETITEM", Argument::Nothing, 3, false, 1)),
    (b'u', opcode("SETITEMS", Argument::Nothing, 0, true, 1)),
    (0x8f, opcode("EMPTY_SET", Argument::Nothing, 0, false, 1)),
    (0x90, opcode("ADDITEMS", Argument::Nothing, 0, true, 1)),
    (0x91, opcode("FROZENSET", Argument::Nothing, 0, true, 1)),
    (b'0', opcode("POP", Argument::Nothing, 1, false, 0)),
    (b'2', opcode("DUP", Argument::Nothing, 1, false, 2)),
    (b'(', opcode("MARK", Argument::Nothing, 0, false, 1)),
    (b'1', opcode("POP_MARK", Argument::Nothing, 0, true, 0)),
    (b'g', opcode("GET", Argument::DecimalLine, 0, false, 1)),
    (b'h', opcode("BINGET", Argument::Uint(1), 0, false, 1)),
    (b'j', opcode("LONG_BINGET", Argument::Uint(4), 0, false, 1)),
    (b'p', opcode("PUT", Argument::DecimalLine, 0, false, 0)),
    (b'q', opcode("BINPUT", Argument::Uint(1), 0, false, 0)),
    (b'r', opcode("LONG_BINPUT", Argument::Uint(4), 0, false, 0)),
    (0x94, opcode("MEMOIZE", Argument::Nothing, 1, false, 1)),
    (0x82, opcode("EXT1", Argument::Uint(1), 0, false, 1)),
    (0x83, opcode("EXT2", Argument::Uint(2), 0, false, 1)),
    (0x84, opcode("EXT4", Argument::Fixed(4), 0, false, 1)),
    (b'c', opcode("GLOBAL", Argument::LinePair, 0, false, 1)),
    (0x93, opcode("STACK_GLOBAL", Argument::Nothing, 2, false, 1)),
    (b'R', opcode("REDUCE", Argument::Nothing, 2, false, 1)),
    (b'b', opcode("BUILD", Argument::Nothing, 2, false, 1)),
    (b'i', opcode("INST", Argument::LinePair, 0, true, 1)),
    (b'o', opcode("OBJ", Argument::Nothing, 0, true, 1)),
    (0x81, opcode("NEWOBJ", Argument::Nothing, 2, false, 1)),
    (0x92, opcode("NEWOBJ_EX", Argument::Nothing, 3, false, 1)),
    (0x80, opcode("PROTO", Argument::Uint(1), 0, false, 0)),
    (b'.', opcode("STOP", Argument::Nothing, 1, false, 0)),
    (0x95, opcode("FRAME", Argument::Fixed(8), 0, false, 0)),
    (b'P', opcode("PERSID", Argument::Line, 0, false, 1)),
    (b'Q', opcode("BINPERSID", Argument::Nothing, 1, false, 1)),
];

impl Opcode {
    pub(super) fn is_text(&self) -> bool {
        matches!(
            self.argument,
            Argument::Latin(_) | Argument::Utf8(_) | Argument::QuotedLine | Argument::UnicodeLine
        )
    }

    pub(super) fn puts_memo(&self) -> bool {
        matches!(self.name, "MEMOIZE" | "PUT" | "BINPUT" | "LONG_BINPUT")
    }

    pub(super) fn gets_memo(&self) -> bool {
        matches!(self.name, "GET" | "BINGET" | "LONG_BINGET")
    }

    pub(super) fn names_import(&self) -> bool {
        matches!(self.name, "GLOBAL" | "INST")
    }
}

/// The operand of one opcode; only texts and numbers are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operand {
    Other,
    Number(i128),
    Text(String),
}

/// Where opcodes are read from. Fewer bytes than asked for mean the end.
pub(super) trait Bytes {
    /// Why reading had to stop: not the bytes' fault.
    type Stop;

    fn read(&mut self, count: u64) -> Result<Vec<u8>, Self::Stop>;

    /// Up to and with the next newline.
    fn line(&mut self) -> Result<Vec<u8>, Self::Stop>;
}

/// Why there is no next opcode.
#[derive(Debug)]
pub(super) enum Halt<S> {
    /// The bytes are not a pickle.
    NotPickle,
    Stopped(S),
}

impl<S> From<S> for Halt<S> {
    fn from(stop: S) -> Self {
        Self::Stopped(stop)
    }
}

/// The next opcode with its operand.
pub(super) fn next<B: Bytes>(source: &mut B) -> Result<(&'static Opcode, Operand), Halt<B::Stop>> {
    let code = source.read(1)?;
    let Some((_, found)) = code
        .first()
        .and_then(|code| OPCODES.iter().find(|(known, _)| known == code))
    else {
        return Err(Halt::NotPickle);
    };
    Ok((found, operand(source, found.argument)?))
}

fn operand<B: Bytes>(source: &mut B, argument: Argument) -> Result<Operand, Halt<B::Stop>> {
    let read = match argument {
        Argument::Nothing => Some(Operand::Other),
        Argument::Fixed(width) => (source.read(width)?.len() as u64 == width).then_some(Operand::Other),
        Argument::Uint(width) => number(source, width)?.map(|value| Operand::Number(value.into())),
        Argument::DecimalLine => line(source)?.and_then(|raw| decimal(&raw)).map(Operand::Number),
        Argument::LongLine => line(source)?
            .and_then(|raw| integer(raw.strip_suffix(b"L").unwrap_or(&raw)))
            .map(|_| Operand::Other),
        Argument::FloatLine => line(source)?.filter(|raw| is_float(raw)).map(|_| Operand::Other),
        Argument::Counted(width) => counted(source, width)?.map(|_| Operand::Other),
        Argument::SignedCounted => counted_signed(source)?.map(|_| Operand::Other),
        Argument::Latin(4) => counted_signed(source)?.map(|raw| Operand::Text(latin(&raw))),
        Argument::Latin(width) => counted(source, width)?.map(|raw| Operand::Text(latin(&raw))),
        Argument::Utf8(width) => counted(source, width)?
            .and_then(|raw| utf8(&raw))
            .map(Operand::Text),
        Argument::QuotedLine => line(source)?.and_then(|raw| unquoted(&raw)).map(Operand::Text),
        Argument::UnicodeLine => line(source)?.and_then(|raw| raw_unicode(&raw)).map(Operand::Text),
        Argument::Line => line(source)?.and_then(|raw| unescaped(&raw)).map(Operand::Text),
        Argument::LinePair => {
            let first = line(source)?.and_then(|raw| unescaped(&raw));
            let Some(first) = first else {
                return Err(Halt::NotPickle);
            };
            line(source)?
                .and_then(|raw| unescaped(&raw))
                .map(|second| Operand::Text(format!("{first} {second}")))
        }
    };
    read.ok_or(Halt::NotPickle)
}

fn number<B: Bytes>(source: &mut B, width: u64) -> Result<Option<u64>, B::Stop> {
    let raw = source.read(width)?;
    if raw.len() as u64 != width {
        return Ok(None);
    }
    let mut wide = [0; 8];
    wide[..raw.len()].copy_from_slice(&raw);
    Ok(Some(u64::from_le_bytes(wide)))
}

fn counted<B: Bytes>(source: &mut B, width: u64) -> Result<Option<Vec<u8>>, B::Stop> {
    let Some(length) = number(source, width)?.filter(|length| i64::try_from(*length).is_ok()) else {
        return Ok(None);
    };
    let data = source.read(length)?;
    Ok((data.len() as u64 == length).then_some(data))
}

fn counted_signed<B: Bytes>(source: &mut B) -> Result<Option<Vec<u8>>, B::Stop> {
    let Some(length) = number(source, 4)?.filter(|length| *length < 1 << 31) else {
        return Ok(None);
    };
    let data = source.read(length)?;
    Ok((data.len() as u64 == length).then_some(data))
}

/// A line without its newline; `None` when it does not end.
fn line<B: Bytes>(source: &mut B) -> Result<Option<Vec<u8>>, B::Stop> {
    let mut line = source.line()?;
    Ok((line.pop() == Some(b'\n')).then_some(line))
}

/// As Python's `int`, with the old spelling of booleans.
fn decimal(raw: &[u8]) -> Option<i128> {
    match raw {
        b"00" => Some(0),
        b"01" => Some(1),
        _ => integer(raw),
    }
}

/// As Python's `int`: white space around, a sign, single underscores between digits. Saturates.
fn integer(raw: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(raw).ok()?.trim_matches(is_python_space);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = without_underscores(digits)?;
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let value = digits.bytes().fold(0_i128, |sum, digit| {
        sum.saturating_mul(10).saturating_add((digit - b'0').into())
    });
    Some(if negative { -value } else { value })
}

fn is_float(raw: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(raw) else {
        return false;
    };
    without_underscores(text.trim_matches(is_python_space)).is_some_and(|text| text.parse::<f64>().is_ok())
}

fn is_python_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

/// The text without underscores, each of which must stand between two digits.
fn without_underscores(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let proper =
        |(at, byte): (usize, &u8)| *byte != b'_' || (digit(at.checked_sub(1)) && digit(Some(at + 1)));
    bytes
        .iter()
        .enumerate()
        .all(proper)
        .then(|| text.replace('_', ""))
}

fn latin(raw: &[u8]) -> String {
    raw.iter().map(|byte| char::from(*byte)).collect()
}

/// UTF-8 in which surrogates may stand, as Python writes them; those become a character that no name has.
fn utf8(raw: &[u8]) -> Option<String> {
    if let Ok(text) = std::str::from_utf8(raw) {
        return Some(text.to_owned());
    }
    let mut text = String::new();
    let mut rest = raw;
    while !rest.is_empty() {
        let valid = rest.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        text.push_str(valid);
        rest = &rest[valid.len()..];
        match rest {
            [] => {}
            [0xED, 0xA0..=0xBF, 0x80..=0xBF, after @ ..] => {
                text.push(char::REPLACEMENT_CHARACTER);
                rest = after;
            }
            _ => return None,
        }
    }
    Some(text)
}

/// A quoted text with its escapes undone.
fn unquoted(raw: &[u8]) -> Option<String> {
    let quote = raw
        .first()
        .copied()
        .filter(|quote| matches!(quote, b'"' | b'\''))?;
    if raw.last() != Some(&quote) {
        return None;
    }
    unescaped(raw.get(1..raw.len() - 1).unwrap_or_default())
}

/// Python's byte escapes undone; `None` when one is broken or the result is not ASCII.
fn unescaped(raw: &[u8]) -> Option<String> {
    let mut plain = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        let (&escape, after) = rest.split_first()?;
        rest = after;
        match escape {
            b'\n' => {}
            b'\\' | b'\'' | b'"' => plain.push(escape),
            b'b' => plain.push(8),
            b'f' => plain.push(12),
            b't' => plain.push(b'\t'),
            b'n' => plain.push(b'\n'),
            b'r' => plain.push(b'\r'),
            b'v' => plain.push(11),
            b'a' => plain.push(7),
            b'0'..=b'7' => {
                let more = rest
                    .iter()
                    .take(2)
                    .take_while(|digit| matches!(digit, b'0'..=b'7'))
                    .count();
                let digits = std::iter::once(&escape).chain(&rest[..more]);
                let value = digits.fold(0_u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
                plain.push((value & 0xFF) as u8);
                rest = &rest[more..];
            }
            b'x' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                plain.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &rest[2..];
            }
            other => plain.extend([b'\\', other]),
        }
    }
    plain.is_ascii().then(|| valid_text(&plain))
}

/// Latin-1 in which `\uXXXX` and `\UXXXXXXXX` stand for characters.
fn raw_unicode(raw: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut at = 0;
    while at < raw.len() {
        if raw[at] != b'\\' {
            text.push(char::from(raw[at]));
            at += 1;
            continue;
        }
        let slashes = raw[at..].iter().take_while(|byte| **byte == b'\\').count();
        let width = match raw.get(at + slashes) {
            Some(b'u') if slashes % 2 == 1 => 4,
            Some(b'U') if slashes % 2 == 1 => 8,
            _ => {
                text.extend(std::iter::repeat_n('\\', slashes));
                at += slashes;
                continue;
            }
        };
        text.extend(std::iter::repeat_n('\\', slashes - 1));
        let start = at + slashes + 1;
        let digits = std::str::from_utf8(raw.get(start..start + width)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let value = u32::from_str_radix(digits, 16)
            .ok()
            .filter(|value| *value <= 0x10_FFFF)?;
        text.push(char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER));
        at = start + width;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_python_reads_them() {
        assert_eq!(decimal(b"01"), Some(1));
        assert_eq!(decimal(b" +1_000 "), Some(1000));
        assert_eq!(decimal(b"1__0"), None);
        assert_eq!(decimal(b"12L"), None);
        assert_eq!(integer(b"-12"), Some(-12));
        assert!(is_float(b"1e5") && is_float(b"nan") && !is_float(b"x"));
    }

    #[test]
    fn texts_are_read_as_python_reads_them() {
        assert_eq!(unquoted(br"'a\n\\b\x41'").as_deref(), Some("a\n\\bA"));
        assert_eq!(unquoted(b"'a"), None);
        assert_eq!(unescaped(br"os\x6"), None);
        assert_eq!(raw_unicode(br"a\u0041\\u0041\q").as_deref(), Some(r"aA\\u0041\q"));
        assert_eq!(utf8(b"a\xed\xa0\x80").as_deref(), Some("a\u{fffd}"));
        assert_eq!(utf8(b"\xff"), None);
    }
}
