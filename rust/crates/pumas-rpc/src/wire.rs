//! The single table from failures to wire codes: `contracts/errors.json`, read once.
//!
//! `kind` names the failure in both forms: `error_code` in a `success:false` reply, `data.kind` in a JSON-RPC error.

use std::collections::HashMap;
use std::sync::OnceLock;

use pumas_core::Error;
use pumas_core::text::cut;
use serde::Serialize;
use serde_json::{Value, json};

/// How much of a caller's text a message may repeat, in characters.
pub const MAX_ECHO: usize = 100;

const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
const INTERNAL_ERROR: i32 = -32603;
const BUSY: i32 = -32000;

/// A JSON-RPC error object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WireError {
    code: i32,
    message: String,
    data: Value,
}

/// What is wrong with one parameter. `param` is its path, "" for the parameters as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The path, parts joined by dots.
    pub param: String,
    /// What is wrong, as the end of a sentence that begins with the parameter.
    pub message: String,
}

impl Problem {
    /// A problem of the parameter at `param`.
    pub fn new(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            param: param.into(),
            message: message.into(),
        }
    }
}

fn code_of(kind: &str) -> i32 {
    #[derive(serde::Deserialize)]
    struct Facts {
        code: i32,
    }
    static TABLE: OnceLock<HashMap<String, Facts>> = OnceLock::new();
    let table = TABLE.get_or_init(|| serde_json::from_str(pumas_core::contracts::ERRORS).unwrap_or_default());
    table.get(kind).map_or(INTERNAL_ERROR, |facts| facts.code)
}

impl WireError {
    fn new(code: i32, message: String, kind: &str) -> Self {
        Self {
            code,
            message,
            data: json!({ "kind": kind }),
        }
    }

    /// The code of the JSON-RPC error.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.code
    }

    /// The failure of a method without an envelope. A bug tells nothing of itself.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Bug(_) => Self::internal(),
            _ => Self::new(code_of(error.kind()), error.to_string(), error.kind()),
        }
    }

    /// The text is not JSON.
    #[must_use]
    pub fn parse(detail: &str) -> Self {
        Self::new(PARSE_ERROR, format!("Parse error: {detail}"), "parse_error")
    }

    /// JSON, but no call.
    #[must_use]
    pub fn invalid_request(detail: &str) -> Self {
        Self::new(
            INVALID_REQUEST,
            format!("Invalid request: {detail}"),
            "invalid_request",
        )
    }

    /// There is no such method.
    #[must_use]
    pub fn method_not_found(name: &str) -> Self {
        Self::new(
            METHOD_NOT_FOUND,
            format!("Method not found: {}", cut(name, MAX_ECHO)),
            "method_not_found",
        )
    }

    /// Parameters that the method does not take. The first five problems make the message, the first twenty the list.
    #[must_use]
    pub fn invalid_params(problems: &[Problem]) -> Self {
        let sentence = |problem: &Problem| match problem.param.as_str() {
            "" => problem.message.clone(),
            name => format!("{name}: {}", problem.message),
        };
        let text = problems
            .iter()
            .take(5)
            .map(sentence)
            .collect::<Vec<_>>()
            .join("; ");
        let errors = &problems[..problems.len().min(20)];
        Self {
            code: INVALID_PARAMS,
            message: format!("Invalid params: {text}"),
            data: json!({ "kind": "invalid_params", "errors": errors }),
        }
    }

    /// A mistake of ours.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            INTERNAL_ERROR,
            "Internal error; the log has the details.".into(),
            "internal_error",
        )
    }

    /// Too much at once, or too slow.
    #[must_use]
    pub fn busy(detail: &str) -> Self {
        Self::new(BUSY, format!("Busy: {detail}"), "busy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_from_the_contract() {
        assert_eq!(WireError::of(&Error::ModelNotFound("x".into())).code(), -32002);
        assert_eq!(WireError::of(&Error::Bug("secret".into())), WireError::internal());
    }

    #[test]
    fn a_long_name_is_cut() {
        assert_eq!(
            WireError::method_not_found(&"n".repeat(5000)).message.len(),
            "Method not found: ".len() + 100
        );
    }
}
