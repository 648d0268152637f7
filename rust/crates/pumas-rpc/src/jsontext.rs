//! JSON in, strict: UTF-8 only, no NaN or Infinity, no lone surrogates, numbers of at most 64 bits, bounded nesting
//! ([RFC 8259](https://www.rfc-editor.org/rfc/rfc8259)).
//!
//! `serde_json` turns integers beyond 64 bits into floats and has a nesting limit of its own, so the reading is done
//! here, without recursion; its sentences are those of Python's parser, as the other backend answers.

use serde_json::{Map, Number, Value};

/// How deep lists and objects may be nested.
pub const MAX_DEPTH: usize = 64;
/// Where reading ends at once instead of telling what else is wrong.
const HOPELESS_DEPTH: usize = 900;
/// 2^64 has 20 digits.
const MAX_INT_CHARS: usize = 21;

/// Why a text is not read. The sentence never quotes it.
#[derive(Debug, PartialEq)]
pub enum Refused {
    /// It is not JSON as this server reads it.
    Text(String),
    /// Well-formed JSON with a number that no 64 bits hold: refused as a parameter, not as a parse error.
    Number {
        /// The sentence.
        reason: &'static str,
        /// The message with null for each such number, to find the id of the call in it.
        without_numbers: Value,
    },
}

/// Parse one JSON text.
///
/// # Errors
/// [`Refused`] says why it is not taken.
pub fn decode(body: &[u8]) -> Result<Value, Refused> {
    let Ok(text) = std::str::from_utf8(body) else {
        return Err(Refused::Text("the text is not UTF-8".into()));
    };
    if text.starts_with('\u{feff}') {
        return Err(Refused::Text("the text starts with a byte order mark".into()));
    }
    let mut reader = Reader {
        text: text.as_bytes(),
        at: 0,
        too_large: None,
        deepest: 0,
        half_pair: false,
    };
    let value = reader.document().map_err(|trouble| trouble.told(text))?;
    if let Some(reason) = reader.too_large {
        return Err(Refused::Number {
            reason,
            without_numbers: value,
        });
    }
    if reader.deepest > MAX_DEPTH {
        return Err(Trouble::TooDeep.told(text));
    }
    if reader.half_pair {
        return Err(Refused::Text("a string holds half of a surrogate pair".into()));
    }
    Ok(value)
}

enum Trouble {
    At(&'static str, usize),
    TooDeep,
    Constant,
}

impl Trouble {
    fn told(&self, text: &str) -> Refused {
        Refused::Text(match *self {
            Self::At(what, offset) => {
                let bytes = &text.as_bytes()[..offset.min(text.len())];
                let characters = bytes.iter().filter(|byte| !is_continuation(**byte)).count();
                format!("{what} at character {characters}")
            }
            Self::TooDeep => format!("nested deeper than {MAX_DEPTH}"),
            Self::Constant => "NaN and Infinity are not JSON".into(),
        })
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

/// A list or object that is not closed yet; an object with the name of the value to come.
enum Open {
    List(Vec<Value>),
    Object(Map<String, Value>, String),
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    too_large: Option<&'static str>,
    deepest: usize,
    half_pair: bool,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<Value, Trouble> {
        self.skip_space();
        let value = self.value()?;
        self.skip_space();
        if self.at < self.text.len() {
            Err(Trouble::At("Extra data", self.at))
        } else {
            Ok(value)
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Result<Value, Trouble> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            let Some(mut value) = self.begin(&mut open)? else {
                continue;
            };
            // The value is whole: it goes into what is open, and may be the last of it.
            loop {
                let Some(innermost) = open.pop() else {
                    return Ok(value);
                };
                match self.put(innermost, value)? {
                    Put::Open(still) => {
                        open.push(still);
                        break;
                    }
                    Put::Closed(whole) => value = whole,
                }
            }
        }
    }

    /// Read a value that is whole at once, or open a list or object: then there is none yet.
    fn begin(&mut self, open: &mut Vec<Open>) -> Result<Option<Value>, Trouble> {
        match self.peek() {
            Some(b'"') => self.string().map(|text| Some(Value::String(text))),
            Some(b'[') => {
                self.deeper(open.len())?;
                self.skip_space();
                if self.peek() == Some(b']') {
                    self.at += 1;
                    return Ok(Some(Value::Array(Vec::new())));
                }
                open.push(Open::List(Vec::new()));
                Ok(None)
            }
            Some(b'{') => {
                self.deeper(open.len())?;
                self.skip_space();
                if self.peek() == Some(b'}') {
                    self.at += 1;
                    return Ok(Some(Value::Object(Map::new())));
                }
                let name = self.name()?;
                open.push(Open::Object(Map::new(), name));
                Ok(None)
            }
            _ => self.scalar().map(Some),
        }
    }

    fn deeper(&mut self, depth: usize) -> Result<(), Trouble> {
        self.at += 1;
        self.deepest = self.deepest.max(depth + 1);
        if depth >= HOPELESS_DEPTH {
            Err(Trouble::TooDeep)
        } else {
            Ok(())
        }
    }

    fn put(&mut self, innermost: Open, value: Value) -> Result<Put, Trouble> {
        self.skip_space();
        let next = self.peek();
        match innermost {
            Open::List(mut items) => {
                items.push(value);
                match next {
                    Some(b']') => {
                        self.at += 1;
                        Ok(Put::Closed(Value::Array(items)))
                    }
                    Some(b',') => {
                        self.at += 1;
                        self.skip_space();
                        Ok(Put::Open(Open::List(items)))
                    }
                    _ => Err(Trouble::At("Expecting ',' delimiter", self.at)),
                }
            }
            Open::Object(mut members, name) => {
                members.insert(name, value);
                match next {
                    Some(b'}') => {
                        self.at += 1;
                        Ok(Put::Closed(Value::Object(members)))
                    }
                    Some(b',') => {
                        self.at += 1;
                        self.skip_space();
                        let name = self.name()?;
                        Ok(Put::Open(Open::Object(members, name)))
                    }
                    _ => Err(Trouble::At("Expecting ',' delimiter", self.at)),
                }
            }
        }
    }

    /// A member's name, its colon, and the space before its value.
    fn name(&mut self) -> Result<String, Trouble> {
        if self.peek() != Some(b'"') {
            return Err(Trouble::At(
                "Expecting property name enclosed in double quotes",
                self.at,
            ));
        }
        let name = self.string()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(Trouble::At("Expecting ':' delimiter", self.at));
        }
        self.at += 1;
        self.skip_space();
        Ok(name)
    }

    fn scalar(&mut self) -> Result<Value, Trouble> {
        let rest = &self.text[self.at..];
        for constant in [b"NaN".as_slice(), b"Infinity", b"-Infinity"] {
            if rest.starts_with(constant) {
                return Err(Trouble::Constant);
            }
        }
        for (word, value) in [
            ("null", Value::Null),
            ("true", true.into()),
            ("false", false.into()),
        ] {
            if rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(value);
            }
        }
        self.number()
    }

    fn digits(&self, from: usize) -> usize {
        self.text[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    }

    fn number(&mut self) -> Result<Value, Trouble> {
        let start = self.at;
        let mut end = start + usize::from(self.peek() == Some(b'-'));
        end += match self.text.get(end) {
            Some(b'0') => 1,
            Some(b'1'..=b'9') => self.digits(end),
            _ => return Err(Trouble::At("Expecting value", start)),
        };
        let integer_end = end;
        if self.text.get(end) == Some(&b'.') && self.digits(end + 1) > 0 {
            end += 1 + self.digits(end + 1);
        }
        if let Some(b'e' | b'E') = self.text.get(end) {
            let sign = usize::from(matches!(self.text.get(end + 1), Some(b'+' | b'-')));
            let from = (end + 1 + sign).min(self.text.len());
            if self.digits(from) > 0 {
                end = from + self.digits(from);
            }
        }
        self.at = end;
        let text = std::str::from_utf8(&self.text[start..end]).unwrap_or_default();
        let number = if end == integer_end {
            integer(text)
        } else {
            float(text)
        };
        Ok(number.map_or_else(
            |reason| {
                self.too_large.get_or_insert(reason);
                Value::Null
            },
            Value::Number,
        ))
    }

    fn string(&mut self) -> Result<String, Trouble> {
        let begin = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let plain = self.at;
            while self
                .peek()
                .is_some_and(|byte| byte != b'"' && byte != b'\\' && byte > 0x1F)
            {
                self.at += 1;
            }
            // Quotes and backslashes are never part of a longer character, so this is whole UTF-8.
            out.push_str(std::str::from_utf8(&self.text[plain..self.at]).unwrap_or_default());
            match self.peek() {
                None => return Err(Trouble::At("Unterminated string starting at", begin)),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => self.escape(begin, &mut out)?,
                Some(_) => return Err(Trouble::At("Invalid control character at", self.at)),
            }
        }
    }

    fn escape(&mut self, begin: usize, out: &mut String) -> Result<(), Trouble> {
        let backslash = self.at;
        let plain = match self.text.get(backslash + 1) {
            None => return Err(Trouble::At("Unterminated string starting at", begin)),
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(backslash + 1, out),
            Some(_) => return Err(Trouble::At("Invalid \\escape", backslash)),
        };
        self.at += 2;
        out.push(plain);
        Ok(())
    }

    fn unicode_escape(&mut self, letter: usize, out: &mut String) -> Result<(), Trouble> {
        let unit = self.hex(letter)?;
        self.at = letter + 5;
        let mut code = u32::from(unit);
        if (0xD800..0xDC00).contains(&unit)
            && self.text[self.at..].starts_with(b"\\u")
            && self.at + 6 < self.text.len()
        {
            let low = self.hex(self.at + 1)?;
            if (0xDC00..0xE000).contains(&low) {
                code = 0x10000 + ((u32::from(unit) - 0xD800) << 10) + (u32::from(low) - 0xDC00);
                self.at += 6;
            }
        }
        out.push(char::from_u32(code).unwrap_or_else(|| {
            self.half_pair = true;
            char::REPLACEMENT_CHARACTER
        }));
        Ok(())
    }

    /// The four digits behind the `u` at `letter`; a closing quote must still fit behind them.
    fn hex(&self, letter: usize) -> Result<u16, Trouble> {
        let digits = self
            .text
            .get(letter + 1..letter + 5)
            .filter(|_| letter + 5 < self.text.len());
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let text = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        text.and_then(|text| u16::from_str_radix(text, 16).ok())
            .ok_or(Trouble::At("Invalid \\uXXXX escape", letter))
    }
}

enum Put {
    Open(Open),
    Closed(Value),
}

fn integer(text: &str) -> Result<Number, &'static str> {
    let fits = Some(text).filter(|text| text.len() <= MAX_INT_CHARS);
    let number = fits.and_then(|t| {
        t.parse::<i64>()
            .map(Number::from)
            .or_else(|_| t.parse::<u64>().map(Number::from))
            .ok()
    });
    number.ok_or("an integer does not fit into 64 bits")
}

fn float(text: &str) -> Result<Number, &'static str> {
    text.parse()
        .ok()
        .and_then(Number::from_f64)
        .ok_or("a number does not fit into 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn refused(body: &[u8]) -> String {
        match decode(body) {
            Err(Refused::Text(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn says_where_as_python_does() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "Expecting value at character 0"),
            (b"[1,]", "Expecting value at character 3"),
            (
                b"{\"a\":1,}",
                "Expecting property name enclosed in double quotes at character 7",
            ),
            (b"\"\\x\"", "Invalid \\escape at character 1"),
            (b"\"\\u12\"", "Invalid \\uXXXX escape at character 2"),
            (b"\"\\u12zz\"", "Invalid \\uXXXX escape at character 2"),
            (b"\"a\x01\"", "Invalid control character at at character 2"),
            (b"\"abc", "Unterminated string starting at at character 0"),
            (b"\"ab\\", "Unterminated string starting at at character 0"),
            (b"[1 2]", "Expecting ',' delimiter at character 3"),
            (b"{\"a\" 1}", "Expecting ':' delimiter at character 5"),
            (
                b"{a:1}",
                "Expecting property name enclosed in double quotes at character 1",
            ),
            (b"01", "Extra data at character 1"),
            (b"1.", "Extra data at character 1"),
            (b"1e", "Extra data at character 1"),
            (b"1e+", "Extra data at character 1"),
            (b"- 1", "Expecting value at character 0"),
            ("\"ü\",x".as_bytes(), "Extra data at character 3"),
            (b"[", "Expecting value at character 1"),
            (b"[1", "Expecting ',' delimiter at character 2"),
            (b"{\"a\":", "Expecting value at character 5"),
            (b"\"\\u1234", "Invalid \\uXXXX escape at character 2"),
            (b"\"\\ud800\\u12\"", "Invalid \\uXXXX escape at character 8"),
            (b"-Infinity", "NaN and Infinity are not JSON"),
            (b"\xef\xbb\xbf{}", "the text starts with a byte order mark"),
            (b"\xff", "the text is not UTF-8"),
            (b"\"\\udc00\\ud800\"", "a string holds half of a surrogate pair"),
            (b"{\"\\ud800\":1}", "a string holds half of a surrogate pair"),
        ];
        for (body, expected) in cases {
            assert_eq!(refused(body), *expected, "{}", String::from_utf8_lossy(body));
        }
        assert_eq!(refused(&b"[".repeat(70)), "Expecting value at character 70");
        assert_eq!(refused(&b"[".repeat(100_000)), "nested deeper than 64");
        assert_eq!(
            refused(&[b"[".repeat(65), b"]".repeat(65)].concat()),
            "nested deeper than 64"
        );
    }

    #[test]
    fn numbers_that_no_64_bits_hold() {
        for number in [
            "18446744073709551616",
            "-9223372036854775809",
            &"9".repeat(5000),
            "1e309",
            "-1e309",
        ] {
            let body = format!("{{\"id\":7,\"params\":[1,{number}]}}");
            let Err(Refused::Number { without_numbers, .. }) = decode(body.as_bytes()) else {
                panic!("{number}")
            };
            assert_eq!(without_numbers, json!({"id": 7, "params": [1, null]}));
        }
    }

    #[test]
    fn accepted() {
        for (body, value) in [
            ("18446744073709551615", json!(u64::MAX)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("-0", json!(0)),
            ("1e-999", json!(0.0)),
            (" \t\r\n{\"a\" : 1 }\n", json!({"a": 1})),
            ("{\"a\":1,\"a\":2}", json!({"a": 2})),
            ("\"\\ud83d\\ude00\"", json!("😀")),
            ("\"\\\\ud800\"", json!("\\ud800")),
            ("[[],[1]]", json!([[], [1]])),
        ] {
            assert_eq!(decode(body.as_bytes()).unwrap(), value, "{body}");
        }
        assert!(decode(&[b"[".repeat(64), b"]".repeat(64)].concat()).is_ok());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_filter_map("finite", |f| Number::from_f64(f).map(Value::Number)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in any_json()) {
            prop_assert_eq!(decode(value.to_string().as_bytes()).unwrap(), value);
        }

        #[test]
        fn any_bytes_are_read_as_the_standard_says_or_refused(body in "[\\[\\]{}\",:\\\\u0dc8123eE.tfn -]{0,60}") {
            if let Ok(value) = decode(body.as_bytes()) {
                prop_assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), value);
            }
        }
    }
}
