//! What parameters may be, made of the schemas of the contract. How a value is held against it stands in
//! [`super::checking`].

use std::collections::HashMap;

use serde_json::Value;

use super::Schemas;

/// What one value may be. Bounds are part of it.
#[derive(Debug)]
pub(super) enum Rule {
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

/// An object with known fields; `spellings` are further names of them.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) fields: Vec<Field>,
    pub(super) spellings: HashMap<String, String>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) required: bool,
    pub(super) default: Option<Value>,
    pub(super) rule: Rule,
}

impl Field {
    pub(super) fn of(name: String, required: bool, schema: &Value, schemas: &Schemas<'_>) -> Self {
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

    fn text(schema: &Value) -> Self {
        Self::Text {
            min: length(schema, "minLength", 0),
            max: length(schema, "maxLength", usize::MAX),
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
            Some("string") => Self::text(schema),
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
                // Names are texts: their schema need not say so.
                key: Box::new(schema.get("propertyNames").map_or(Self::Anything, Self::text)),
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

    pub(super) fn with_camel_case(mut self) -> Self {
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
