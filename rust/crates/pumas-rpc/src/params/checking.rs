//! Holds a caller's values against the rules: every problem is named by its place, and what is right comes out tidied.

use pumas_core::text::cut;
use serde_json::{Map, Value};

use super::rules::{Field, Object, Rule};
use crate::wire::{MAX_ECHO, Problem};

const MAX_PATH: usize = 6;

/// What is wrong, and where the check is just now.
#[derive(Default)]
pub(super) struct Problems {
    path: Vec<String>,
    pub(super) found: Vec<Problem>,
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
    pub(super) fn check(&self, raw: Map<String, Value>, problems: &mut Problems) -> Map<String, Value> {
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
