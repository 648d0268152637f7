//! Numbers as they were written: rewriting a file of JSON loses no digit of a number that nobody changed.
//!
//! Both backends read integers beyond 64 bits and long fractions as doubles, and RFC 8259 §6 lets them. A user's own
//! keys may hold such numbers, and these have to come out of a rewrite as they went in.

use std::collections::HashMap;

use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::storage::json_file::JsonObject;

/// Every shorter number of decimal digits comes back out of a double, or an integer of 64 bits, as it was.
const LONG: usize = 17;

/// `value` in two spaces of indent, each number written as in `before` where the same place of that holds the same.
/// What is no JSON object decides nothing.
#[must_use]
pub(super) fn pretty(value: &JsonObject, before: &[u8]) -> Vec<u8> {
    let was = if has_long_number(before) {
        serde_json::from_slice::<HashMap<String, &RawValue>>(before).unwrap_or_default()
    } else {
        HashMap::new()
    };
    // Keys are strings and a Vec takes everything: there is nothing that could fail.
    serde_json::to_vec_pretty(&Fields {
        now: value,
        was: &was,
    })
    .unwrap_or_default()
}

fn has_long_number(data: &[u8]) -> bool {
    data.split(|byte| !byte.is_ascii_digit() && *byte != b'.')
        .any(|run| run.len() >= LONG)
}

struct Fields<'a> {
    now: &'a JsonObject,
    was: &'a HashMap<String, &'a RawValue>,
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.now.len()))?;
        for (key, now) in self.now {
            map.serialize_entry(
                key,
                &Kept {
                    now,
                    was: self.was.get(key).copied(),
                },
            )?;
        }
        map.end()
    }
}

struct Kept<'a> {
    now: &'a Value,
    was: Option<&'a RawValue>,
}

impl Serialize for Kept<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(was) = self.was else {
            return self.now.serialize(serializer);
        };
        match self.now {
            Value::Number(now) if was.get().parse().is_ok_and(|was: serde_json::Number| was == *now) => {
                was.serialize(serializer)
            }
            Value::Object(now) => match serde_json::from_str(was.get()) {
                Ok(was) => Fields { now, was: &was }.serialize(serializer),
                Err(_) => self.now.serialize(serializer),
            },
            Value::Array(now) => {
                let was: Vec<&RawValue> = serde_json::from_str(was.get()).unwrap_or_default();
                let mut list = serializer.serialize_seq(Some(now.len()))?;
                for (index, now) in now.iter().enumerate() {
                    list.serialize_element(&Kept {
                        now,
                        was: was.get(index).copied(),
                    })?;
                }
                list.end()
            }
            _ => self.now.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn rewritten(before: &str, change: impl FnOnce(&mut JsonObject)) -> String {
        let mut value: JsonObject = serde_json::from_str(before).unwrap();
        change(&mut value);
        String::from_utf8(pretty(&value, before.as_bytes())).unwrap()
    }

    #[test]
    fn a_number_that_nobody_changed_keeps_its_digits() {
        let before = r#"{"id": 123456789012345678901234567890, "at": {"\u0061": [0.10000000000000000555, 1.10, -7]}, "n": 1}"#;
        let after = rewritten(before, |value| {
            value.insert("n".to_owned(), json!(2));
        });
        let compact: String = after.split_whitespace().collect();
        assert_eq!(
            compact,
            r#"{"id":123456789012345678901234567890,"at":{"a":[0.10000000000000000555,1.10,-7]},"n":2}"#
        );
        assert!(
            after.contains("\n    \"a\": [\n      0.10000000000000000555,"),
            "{after}"
        );
    }

    #[test]
    fn a_number_that_was_changed_is_the_new_one() {
        let before = r#"{"id": 123456789012345678901234567890, "other": [98765432109876543210987]}"#;
        let after = rewritten(before, |value| {
            value.insert("id".to_owned(), json!(5));
            value.insert("other".to_owned(), json!({"0": 1.5}));
        });
        assert_eq!(after, "{\n  \"id\": 5,\n  \"other\": {\n    \"0\": 1.5\n  }\n}");
    }

    proptest! {
        #[test]
        fn any_digits_come_back(digits in "-?[1-9]([0-9]{17,60}(\\.[0-9]{1,40})?|\\.[0-9]{16,40})", other in any::<f64>()) {
            let before = format!("{{\n  \"kept\": {digits},\n  \"list\": [\n    {digits}\n  ]\n}}");
            prop_assert_eq!(rewritten(&before, |_| ()), before.clone());
            let after = rewritten(&before, |value| { value.insert("kept".to_owned(), json!(other)); });
            let value: JsonObject = serde_json::from_str(&after).unwrap();
            prop_assert_eq!(&value["kept"], &json!(other));
        }
    }
}
