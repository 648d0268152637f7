//! What a method's parameters may be, as `contracts/openrpc.json` says, with messages that name the parameter and never
//! quote the caller's value.
//!
//! Both spellings (`snake_case` and `camelCase`; the first wins) are accepted, `null` means the default, unknown keys are
//! refused, types are strict. What comes out is in `snake_case` with the defaults filled in.

use std::collections::HashMap;
use std::sync::OnceLock;

use pumas_core::text::cut;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::wire::{MAX_ECHO, Problem, WireError};

const MAX_PATH: usize = 6;

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

// -- rules -----------------------------------------------------------------------------------------------------------

#[derive(Debug)]
enum Rule {
    Anything,
    Text {
        min: usize,
        max: usize,
    },
    Integer {
        min: i128,
        max: i128,
    },
    Number {
        min: f64,
        max: f64,
    },
    Flag,
    List {
        item: Box<Rule>,
        min: usize,
        max: usize,
    },
    Table {
        key: Box<Rule>,
        value: Box<Rule>,
        max: usize,
    },
    Object(Object),
    OneOf(Vec<Value>),
    Nullable(Box<Rule>),
    Either(Vec<Rule>),
}

#[derive(Debug)]
struct Object {
    fields: Vec<Field>,
    spellings: HashMap<String, String>,
}

#[derive(Debug)]
struct Field {
    name: String,
    required: bool,
    default: Option<Value>,
    rule: Rule,
}

impl Field {
    fn of(name: String, required: bool, schema: &Value, schemas: &Schemas<'_>) -> Self {
        Self {
            name,
            required,
            default: schema.get("default").cloned(),
            rule: Rule::of(schema, schemas),
        }
    }
}

fn length(schema: &Value, key: &str, otherwise: usize) -> usize {
    schema
        .get(key)
        .and_then(Value::as_u64)
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(otherwise)
}

fn whole(schema: &Value, key: &str, otherwise: i128) -> i128 {
    let value = schema.get(key);
    value
        .and_then(|v| v.as_i64().map(i128::from).or_else(|| v.as_u64().map(i128::from)))
        .unwrap_or(otherwise)
}

impl Rule {
    fn of(schema: &Value, schemas: &Schemas<'_>) -> Self {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let name = reference.rsplit('/').next().unwrap_or(reference);
            let named = schemas
                .get(name)
                .and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
            return named.map_or(Self::Anything, |named| Self::of(&named, schemas));
        }
        if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
            return Self::any_of(choices, schemas);
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return Self::OneOf(values.clone());
        }
        if let Some(value) = schema.get("const") {
            return Self::OneOf(vec![value.clone()]);
        }
        Self::of_type(schema, schemas)
    }

    fn any_of(choices: &[Value], schemas: &Schemas<'_>) -> Self {
        let is_null = |choice: &&Value| choice.get("type").and_then(Value::as_str) == Some("null");
        let nullable = choices.iter().any(|choice| is_null(&choice));
        let mut rules: Vec<_> = choices
            .iter()
            .filter(|c| !is_null(c))
            .map(|c| Self::of(c, schemas))
            .collect();
        let rule = match (rules.pop(), rules.is_empty()) {
            (Some(only), true) => only,
            (Some(last), false) => {
                rules.push(last);
                Self::Either(rules)
            }
            (None, _) => Self::Anything,
        };
        if nullable {
            Self::Nullable(Box::new(rule))
        } else {
            rule
        }
    }

    fn of_type(schema: &Value, schemas: &Schemas<'_>) -> Self {
        let part = |key: &str| {
            Box::new(
                schema
                    .get(key)
                    .map_or(Self::Anything, |part| Self::of(part, schemas)),
            )
        };
        match schema.get("type").and_then(Value::as_str) {
            Some("string") => Self::Text {
                min: length(schema, "minLength", 0),
                max: length(schema, "maxLength", usize::MAX),
            },
            Some("integer") => Self::Integer {
                min: whole(schema, "minimum", i128::MIN),
                max: whole(schema, "maximum", i128::MAX),
            },
            Some("number") => {
                let bound =
                    |key: &str, otherwise| schema.get(key).and_then(Value::as_f64).unwrap_or(otherwise);
                Self::Number {
                    min: bound("minimum", f64::MIN),
                    max: bound("maximum", f64::MAX),
                }
            }
            Some("boolean") => Self::Flag,
            Some("array") => Self::List {
                item: part("items"),
                min: length(schema, "minItems", 0),
                max: length(schema, "maxItems", usize::MAX),
            },
            Some("object") if schema.get("properties").is_some() => Self::Object(Object::of(schema, schemas)),
            Some("object") => Self::Table {
                key: part("propertyNames"),
                value: part("additionalProperties"),
                max: length(schema, "maxProperties", usize::MAX),
            },
            _ => Self::Anything,
        }
    }
}

impl Object {
    fn of(schema: &Value, schemas: &Schemas<'_>) -> Self {
        let required: Vec<&str> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let properties = schema["properties"].as_object().into_iter().flatten();
        let fields =
            properties.map(|(n, s)| Field::of(n.clone(), required.contains(&n.as_str()), s, schemas));
        Self {
            fields: fields.collect(),
            spellings: HashMap::new(),
        }
        .with_camel_case()
    }

    fn with_camel_case(mut self) -> Self {
        for field in &self.fields {
            let camel = camel_case(&field.name);
            if camel != field.name {
                self.spellings.entry(camel).or_insert_with(|| field.name.clone());
            }
        }
        self
    }
}

/// As pydantic's `to_camel` writes it.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut out = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}

// -- checking --------------------------------------------------------------------------------------------------------

#[derive(Default)]
struct Problems {
    path: Vec<String>,
    found: Vec<Problem>,
}

impl Problems {
    fn add(&mut self, message: impl Into<String>) {
        let parts: Vec<_> = self
            .path
            .iter()
            .take(MAX_PATH)
            .map(|part| cut(part, MAX_ECHO))
            .collect();
        self.found.push(Problem::new(parts.join("."), message));
    }

    fn at<T>(&mut self, part: &str, check: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(part.to_owned());
        let value = check(self);
        self.path.pop();
        value
    }
}

impl Object {
    fn check(&self, raw: Map<String, Value>, problems: &mut Problems) -> Map<String, Value> {
        let mut given = self.tidied(raw);
        let mut checked = Map::new();
        for field in &self.fields {
            match (given.shift_remove(&field.name), &field.default) {
                (Some(value), _) => {
                    let value = problems.at(&field.name, |problems| field.rule.check(value, problems));
                    checked.insert(field.name.clone(), value);
                }
                (None, _) if field.required => {
                    problems.at(&field.name, |problems| problems.add("is required"));
                }
                (None, Some(default)) => {
                    checked.insert(field.name.clone(), default.clone());
                }
                (None, None) => {}
            }
        }
        for name in given.keys() {
            problems.at(name, |problems| problems.add("is not a parameter of this method"));
        }
        checked
    }

    /// One spelling per parameter, and none where null means the default.
    fn tidied(&self, raw: Map<String, Value>) -> Map<String, Value> {
        let snake: Vec<String> = self
            .fields
            .iter()
            .map(|f| f.name.clone())
            .filter(|n| raw.contains_key(n))
            .collect();
        let mut given = Map::new();
        for (key, value) in raw {
            let name = match self.spellings.get(&key) {
                Some(name) if snake.contains(name) || given.contains_key(name) => continue,
                Some(name) => name.clone(),
                None => key,
            };
            let optional = |field: &&Field| field.name == name && !field.required;
            if !(value.is_null() && self.fields.iter().any(|field| optional(&field))) {
                given.insert(name, value);
            }
        }
        given
    }
}

impl Rule {
    fn check(&self, value: Value, problems: &mut Problems) -> Value {
        match (self, value) {
            (Self::Anything, value)
            | (Self::Nullable(_), value @ Value::Null)
            | (Self::Flag, value @ Value::Bool(_)) => value,
            (Self::Nullable(rule), value) => rule.check(value, problems),
            (Self::OneOf(values), value) => {
                if !values.contains(&value) {
                    problems.add(format!("must be one of {}", listed(values)));
                }
                value
            }
            (Self::Either(rules), value) => either(rules, value, problems),
            (Self::Text { min, max }, Value::String(text)) => {
                check_text(&text, *min, *max, problems);
                Value::String(text)
            }
            (Self::Integer { min, max }, Value::Number(number)) if !number.is_f64() => {
                check_integer(&number, *min, *max, problems);
                Value::Number(number)
            }
            (Self::Number { min, max }, Value::Number(number)) => {
                check_number(&number, *min, *max, problems);
                Value::Number(number)
            }
            (Self::List { item, min, max }, Value::Array(items)) => {
                check_list(item, *min, *max, items, problems)
            }
            (Self::Table { key, value, max }, Value::Object(given)) => {
                check_table(key, value, *max, given, problems)
            }
            (Self::Object(object), Value::Object(given)) => Value::Object(object.check(given, problems)),
            (rule, value) => {
                problems.add(rule.wanted());
                value
            }
        }
    }

    fn wanted(&self) -> &'static str {
        match self {
            Self::Text { .. } => "must be a string",
            Self::Integer { .. } => "must be an integer",
            Self::Number { .. } => "must be a number",
            Self::Flag => "must be true or false",
            Self::List { .. } => "must be a list",
            _ => "must be an object",
        }
    }

    /// The word by which a problem says which of several forms it is about.
    fn label(&self) -> String {
        match self {
            Self::OneOf(values) => format!("literal[{}]", listed(values)),
            Self::Text { .. } => "constrained-str".into(),
            Self::Integer { .. } => "constrained-int".into(),
            Self::Number { .. } => "constrained-float".into(),
            Self::Flag => "bool".into(),
            Self::List { .. } => "list".into(),
            _ => "dict".into(),
        }
    }
}

fn check_text(text: &str, min: usize, max: usize, problems: &mut Problems) {
    let characters = text.chars().count();
    if characters < min {
        problems.add(format!("must have at least {min} characters"));
    } else if characters > max {
        problems.add(format!("must have at most {max} characters"));
    }
}

fn check_integer(number: &serde_json::Number, min: i128, max: i128, problems: &mut Problems) {
    let value = number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from))
        .unwrap_or_default();
    if value > max {
        problems.add(format!("must be at most {max}"));
    } else if value < min {
        problems.add(format!("must be at least {min}"));
    }
}

fn check_number(number: &serde_json::Number, min: f64, max: f64, problems: &mut Problems) {
    let value = number.as_f64().unwrap_or_default();
    if value > max {
        problems.add(format!("must be at most {max:?}"));
    } else if value < min {
        problems.add(format!("must be at least {min:?}"));
    }
}

fn check_list(item: &Rule, min: usize, max: usize, items: Vec<Value>, problems: &mut Problems) -> Value {
    if items.len() > max {
        problems.add(format!("must have at most {max} items"));
        return Value::Null;
    }
    let before = problems.found.len();
    let count = items.len();
    let check =
        |(place, value)| problems.at(&usize::to_string(&place), |problems| item.check(value, problems));
    let checked: Vec<Value> = items.into_iter().enumerate().map(check).collect();
    if count < min && problems.found.len() == before {
        problems.add(format!("must have at least {min} items"));
    }
    Value::Array(checked)
}

fn check_table(
    key: &Rule,
    value: &Rule,
    max: usize,
    given: Map<String, Value>,
    problems: &mut Problems,
) -> Value {
    let before = problems.found.len();
    let mut checked = Map::new();
    for (name, item) in given {
        problems.at(&name, |problems| {
            problems.at("[key]", |problems| {
                key.check(Value::String(name.clone()), problems)
            });
            checked.insert(name.clone(), value.check(item, problems));
        });
    }
    if checked.len() > max && problems.found.len() == before {
        problems.add(format!("must have at most {max} items"));
    }
    Value::Object(checked)
}

fn either(rules: &[Rule], value: Value, problems: &mut Problems) -> Value {
    let mut refused = Vec::new();
    for rule in rules {
        let mut own = Problems {
            path: problems.path.clone(),
            found: Vec::new(),
        };
        let checked = own.at(&rule.label(), |own| rule.check(value.clone(), own));
        if own.found.is_empty() {
            return checked;
        }
        refused.extend(own.found);
    }
    problems.found.extend(refused);
    value
}

/// `'a', 'b' or 'c'`
fn listed(values: &[Value]) -> String {
    let word = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), |text| pumas_core::text::quoted(text, 1000))
    };
    let words: Vec<_> = values.iter().map(word).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
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
