//! How a method's value becomes its reply, and how a failure does: `contracts/response_wrappers.json`, nothing else.
//!
//! Kinds: `pass` (an object, plus `success: true`), `list:K` / `dict:K` / `value:K` (the value under key K),
//! `bool` (an object or nothing, plus `success`), `opt` (an object with `success`, or null), `raw` and `builtin` (the bare
//! value). All but the last two have an envelope, in which a failure is `success: false` with `error`, `error_code` and
//! the method's empty keys; without one a failure is a JSON-RPC error.

use std::collections::HashMap;
use std::sync::OnceLock;

use pumas_core::Error;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::reply::{Long, Text};

/// What to do with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Merged,
    MergedOrNull,
    Keyed,
    Bare,
    Builtin,
}

/// How one method answers.
#[derive(Clone, Debug)]
pub struct Wrapper {
    form: Form,
    key: String,
    failure: Map<String, Value>,
}

#[derive(Deserialize)]
struct Entry {
    kind: String,
    #[serde(default)]
    failure: Map<String, Value>,
}

impl Wrapper {
    fn of(entry: Entry) -> Self {
        let (kind, key) = entry.kind.split_once(':').unwrap_or((&entry.kind, ""));
        let mut failure = Map::new();
        match kind {
            "list" => failure.insert(key.into(), json!([])),
            "dict" => failure.insert(key.into(), json!({})),
            _ => None,
        };
        failure.extend(entry.failure);
        let form = match (kind, key) {
            ("raw", _) => Form::Bare,
            ("builtin", _) => Form::Builtin,
            ("opt", "") => Form::MergedOrNull,
            (_, "") => Form::Merged,
            _ => Form::Keyed,
        };
        Self {
            form,
            key: key.into(),
            failure,
        }
    }

    /// Whether this is a method of the server itself, which answers however much is going on.
    #[must_use]
    pub fn is_builtin(&self) -> bool {
        self.form == Form::Builtin
    }

    /// Whether a failure is a `success: false` reply.
    #[must_use]
    pub fn has_envelope(&self) -> bool {
        !matches!(self.form, Form::Bare | Form::Builtin)
    }

    /// The reply to a call that worked, as JSON text.
    pub fn success(&self, value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
        match self.form {
            Form::Bare | Form::Builtin => serde_json::to_vec(value),
            Form::Keyed => {
                let mut out = self.before_value()?;
                serde_json::to_writer(&mut out, value)?;
                out.push(b'}');
                Ok(out)
            }
            Form::Merged | Form::MergedOrNull => self.merged(&serde_json::to_vec(value)?),
        }
    }

    /// As [`Wrapper::success`], for a value that has a key of its own or stands alone.
    pub fn long(&self, value: Long) -> serde_json::Result<Text> {
        match self.form {
            Form::Bare | Form::Builtin => Ok(value.into()),
            Form::Keyed => {
                let mut out = Text::from(self.before_value()?);
                out.append(value.into());
                out.push(b"}");
                Ok(out)
            }
            Form::Merged | Form::MergedOrNull => {
                Err(serde::ser::Error::custom("a long text is not looked into"))
            }
        }
    }

    fn before_value(&self) -> serde_json::Result<Vec<u8>> {
        let mut out = b"{\"success\":true,".to_vec();
        serde_json::to_writer(&mut out, &self.key)?;
        out.push(b':');
        Ok(out)
    }

    fn merged(&self, text: &[u8]) -> serde_json::Result<Vec<u8>> {
        if text == b"null" {
            let missing = self.form == Form::MergedOrNull;
            return Ok(if missing {
                text.to_vec()
            } else {
                b"{\"success\":true}".to_vec()
            });
        }
        // A value that knows better than "it worked" says so itself (a batch with failed items).
        if text.windows(SUCCESS.len()).any(|part| part == SUCCESS) {
            let mut reply = Map::from_iter([("success".to_owned(), Value::Bool(true))]);
            reply.extend(serde_json::from_slice::<Map<String, Value>>(text)?);
            return serde_json::to_vec(&reply);
        }
        let mut out = b"{\"success\":true".to_vec();
        if text != b"{}" {
            out.push(b',');
        }
        out.extend_from_slice(text.strip_prefix(b"{").unwrap_or(text));
        Ok(out)
    }

    /// The reply to a call that failed, for methods with an envelope.
    #[must_use]
    pub fn failed(&self, error: &Error) -> Value {
        let mut reply = Map::new();
        reply.insert("success".into(), Value::Bool(false));
        reply.insert("error".into(), error.to_string().into());
        reply.insert("error_code".into(), error.kind().into());
        reply.extend(self.failure.clone());
        Value::Object(reply)
    }
}

const SUCCESS: &[u8] = b"\"success\":";

/// The wrapper of a method; None when the contract does not know it.
#[must_use]
pub fn wrapper(name: &str) -> Option<&'static Wrapper> {
    static TABLE: OnceLock<HashMap<String, Wrapper>> = OnceLock::new();
    let read = || -> HashMap<String, Entry> {
        serde_json::from_str(pumas_core::contracts::RESPONSE_WRAPPERS).unwrap_or_default()
    };
    TABLE
        .get_or_init(|| {
            read()
                .into_iter()
                .map(|(name, entry)| (name, Wrapper::of(entry)))
                .collect()
        })
        .get(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(kind: &str, value: &Value) -> String {
        let entry = Entry {
            kind: kind.into(),
            failure: Map::new(),
        };
        String::from_utf8(Wrapper::of(entry).success(value).unwrap()).unwrap()
    }

    #[test]
    fn values_become_replies() {
        for (kind, value, expected) in [
            ("pass", json!({"a": 1}), r#"{"success":true,"a":1}"#),
            ("pass", json!({}), r#"{"success":true}"#),
            ("pass", json!(null), r#"{"success":true}"#),
            (
                "pass",
                json!({"a": 1, "success": false}),
                r#"{"success":false,"a":1}"#,
            ),
            (
                "pass",
                json!({"a": {"success": 2}}),
                r#"{"success":true,"a":{"success":2}}"#,
            ),
            (
                "bool",
                json!({"x": "\"success\":"}),
                r#"{"success":true,"x":"\"success\":"}"#,
            ),
            ("opt", json!(null), "null"),
            ("opt", json!({"a": 1}), r#"{"success":true,"a":1}"#),
            ("list:models", json!([1]), r#"{"success":true,"models":[1]}"#),
            ("value:path", json!(null), r#"{"success":true,"path":null}"#),
            ("raw", json!(true), "true"),
            ("builtin", json!({"status": "ok"}), r#"{"status":"ok"}"#),
        ] {
            assert_eq!(made(kind, &value), expected, "{kind}");
        }
    }

    #[test]
    fn failures_have_the_empty_keys() {
        let wrapper = wrapper("get_models").unwrap();
        let reply = wrapper.failed(&Error::TimedOut("late".into()));
        assert_eq!(
            reply.to_string(),
            r#"{"success":false,"error":"late","error_code":"timed_out","models":{}}"#
        );
        assert!(!super::wrapper("check_git").unwrap().has_envelope());
    }
}
