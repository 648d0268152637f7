//! What a method's parameters may be, as `contracts/openrpc.json` says, with messages that name the parameter and never
//! quote the caller's value.
//!
//! Both spellings (`snake_case` and `camelCase`; the first wins) are accepted, `null` means the default, unknown keys are
//! refused, types are strict. What comes out is in `snake_case` with the defaults filled in.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::wire::WireError;

mod checking;
mod rules;

use checking::Problems;
use rules::{Field, Object};

/// Check and tidy the parameters of a method.
///
/// # Errors
/// -32602 with every problem that there is.
pub fn check(method: &str, raw: Map<String, Value>) -> Result<Map<String, Value>, WireError> {
    let Some(object) = table().get(method) else {
        return Ok(raw);
    };
    let mut problems = Problems::default();
    let checked = object.check(raw, &mut problems);
    if problems.found.is_empty() {
        Ok(checked)
    } else {
        Err(WireError::invalid_params(&problems.found))
    }
}

/// Read the contract now, so that the first call need not.
pub fn load() {
    table();
}

// -- the contract ----------------------------------------------------------------------------------------------------

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    methods: Vec<Method<'a>>,
    #[serde(borrow)]
    components: Components<'a>,
}

#[derive(Deserialize)]
struct Components<'a> {
    #[serde(borrow)]
    schemas: HashMap<&'a str, &'a RawValue>,
}

#[derive(Deserialize)]
struct Method<'a> {
    name: &'a str,
    params: Vec<Param>,
    /// The order in which problems are listed, where it is not that of `params`.
    #[serde(rename = "x-order", default)]
    order: Vec<String>,
    /// Further spellings that older clients send: spelling -> parameter.
    #[serde(rename = "x-spellings", default)]
    spellings: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Param {
    name: String,
    required: bool,
    schema: Value,
}

type Schemas<'a> = HashMap<&'a str, &'a RawValue>;

fn table() -> &'static HashMap<String, Object> {
    static TABLE: OnceLock<HashMap<String, Object>> = OnceLock::new();
    TABLE.get_or_init(|| read(pumas_core::contracts::OPENRPC))
}

fn read(text: &str) -> HashMap<String, Object> {
    match serde_json::from_str::<Document<'_>>(text) {
        Ok(document) => {
            let schemas = &document.components.schemas;
            document
                .methods
                .into_iter()
                .map(|method| (method.name.to_owned(), method.object(schemas)))
                .collect()
        }
        Err(error) => {
            tracing::error!("the contract cannot be read: {error}");
            HashMap::new()
        }
    }
}

impl Method<'_> {
    fn object(self, schemas: &Schemas<'_>) -> Object {
        let place = |name: &str| self.order.iter().position(|listed| listed == name);
        let mut params = self.params;
        params.sort_by_key(|param| place(&param.name));
        let fields = params
            .into_iter()
            .map(|p| Field::of(p.name, p.required, &p.schema, schemas))
            .collect();
        Object {
            fields,
            spellings: self.spellings,
        }
        .with_camel_case()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CONTRACT: &str = r##"{
        "methods": [{
            "name": "echo",
            "params": [
                {"name": "search_text", "required": true, "schema": {"type": "string", "minLength": 1, "maxLength": 10}},
                {"name": "limit", "required": false, "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}},
                {"name": "scale", "required": false, "schema": {"anyOf": [{"type": "number"}, {"type": "null"}], "default": null}},
                {"name": "kind", "required": false, "schema": {"enum": ["a", "b", "c"], "type": "string", "default": "a"}},
                {"name": "tags", "required": false, "schema": {"type": "array", "items": {"type": "string"}, "maxItems": 3, "default": []}},
                {"name": "inner", "required": false, "schema": {"anyOf": [{"$ref": "#/components/schemas/Inner"}, {"type": "null"}], "default": null}}
            ],
            "x-spellings": {"q": "search_text"}
        }],
        "components": {"schemas": {"Inner": {
            "type": "object",
            "properties": {"file_path": {"type": "string"}, "deep_flag": {"type": "boolean", "default": true}},
            "required": ["file_path"]
        }}}
    }"##;

    fn ask(params: &Value) -> Result<Value, Vec<(String, String)>> {
        let mut problems = Problems::default();
        let checked = read(CONTRACT)["echo"].check(params.as_object().unwrap().clone(), &mut problems);
        if problems.found.is_empty() {
            return Ok(Value::Object(checked));
        }
        Err(problems.found.into_iter().map(|p| (p.param, p.message)).collect())
    }

    #[test]
    fn good_parameters_are_tidied() {
        for (params, expected) in [
            (
                json!({"search_text": "x"}),
                json!({"search_text": "x", "limit": 20, "kind": "a", "tags": []}),
            ),
            (json!({"searchText": "x"}), json!({"search_text": "x"})),
            (json!({"q": "x"}), json!({"search_text": "x"})),
            (
                json!({"searchText": "camel", "search_text": "snake"}),
                json!({"search_text": "snake"}),
            ),
            (json!({"q": "1", "searchText": "2"}), json!({"search_text": "1"})),
            (
                json!({"q": "x", "limit": null, "inner": null}),
                json!({"limit": 20, "inner": null}),
            ),
            (json!({"q": "x", "scale": 1}), json!({"scale": 1})),
            (
                json!({"q": "x", "inner": {"filePath": "/a", "deepFlag": null}}),
                json!({"inner": {"file_path": "/a", "deep_flag": true}}),
            ),
        ] {
            let checked = ask(&params).unwrap();
            for (key, value) in expected.as_object().unwrap() {
                assert_eq!(&checked[key], value, "{params}");
            }
        }
    }

    #[test]
    fn bad_parameters_are_named() {
        for (params, name, reason) in [
            (json!({}), "search_text", "is required"),
            (json!({"search_text": null}), "search_text", "must be a string"),
            (json!({"q": ""}), "search_text", "must have at least 1 characters"),
            (
                json!({"q": "üüüüüüüüüüü"}),
                "search_text",
                "must have at most 10 characters",
            ),
            (json!({"q": "x", "limit": 5.0}), "limit", "must be an integer"),
            (json!({"q": "x", "limit": true}), "limit", "must be an integer"),
            (json!({"q": "x", "limit": 0}), "limit", "must be at least 1"),
            (
                json!({"q": "x", "limit": u64::MAX}),
                "limit",
                "must be at most 100",
            ),
            (json!({"q": "x", "scale": "1"}), "scale", "must be a number"),
            (
                json!({"q": "x", "kind": "d"}),
                "kind",
                "must be one of 'a', 'b' or 'c'",
            ),
            (json!({"q": "x", "tags": {}}), "tags", "must be a list"),
            (
                json!({"q": "x", "tags": [1, 1, 1, 1]}),
                "tags",
                "must have at most 3 items",
            ),
            (json!({"q": "x", "tags": ["a", 1]}), "tags.1", "must be a string"),
            (json!({"q": "x", "inner": []}), "inner", "must be an object"),
            (json!({"q": "x", "inner": {}}), "inner.file_path", "is required"),
            (
                json!({"q": "x", "inner": {"file_path": "a", "x": 1}}),
                "inner.x",
                "is not a parameter of this method",
            ),
            (
                json!({"q": "x", "": null}),
                "",
                "is not a parameter of this method",
            ),
        ] {
            assert_eq!(
                ask(&params).unwrap_err(),
                [(name.to_owned(), reason.to_owned())],
                "{params}"
            );
        }
    }

    #[test]
    fn every_problem_is_listed_in_the_order_of_the_fields() {
        let problems = ask(&json!({"zz": 1, "tags": 1, "limit": "a"})).unwrap_err();
        let names: Vec<_> = problems.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["search_text", "limit", "tags", "zz"]);
    }

    #[test]
    fn the_contract_can_be_read() {
        assert!(table().len() > 100);
    }
}
