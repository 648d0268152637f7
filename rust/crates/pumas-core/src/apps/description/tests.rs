use serde_json::{Value, json};

use super::*;

pub(crate) fn minimal() -> Value {
    json!({
        "id": "tiny",
        "name": "Tiny",
        "folder": "tiny-versions",
        "releases": {"repository": "someone/tiny"},
        "package": {"kind": "source", "complete": ["app.py"]},
        "launch": {"command": ["{python}", "app.py", "--port", "{port}"], "port": 9000},
    })
}

fn described(changes: &Value) -> Result<AppDescription> {
    let mut whole = minimal();
    for (key, value) in changes.as_object().unwrap() {
        whole[key] = value.clone();
    }
    AppDescription::read("tiny.json", whole.to_string().as_bytes())
}

#[test]
fn what_cannot_be_meant_is_refused() {
    assert!(described(&json!({})).is_ok());
    for (changes, says) in [
        (json!({"unknown": 1}), "unknown"),
        (json!({"id": "Tiny"}), "id must"),
        (json!({"id": 5}), "string"),
        (json!({"folder": "../other"}), "folder"),
        (json!({"folder": "/abs"}), "folder"),
        (json!({"releases": {"repository": "no-slash"}}), "owner/name"),
        (
            json!({"releases": {"repository": "a/b", "tag": "v.*"}}),
            "group named version",
        ),
        (json!({"releases": {"repository": "a/b", "tag": "("}}), "regular"),
        (json!({"package": {"kind": "image", "complete": ["x"]}}), "image"),
        (
            json!({"package": {"kind": "source", "complete": []}}),
            "at least one",
        ),
        (
            json!({"package": {"kind": "source", "complete": ["../x"]}}),
            "package",
        ),
        (
            json!({"package": {"kind": "bundle", "complete": ["x"]}}),
            "assets and programs",
        ),
        (
            json!({"launch": {"command": ["{shell}"], "port": 1}}),
            "placeholder",
        ),
        (
            json!({"launch": {"command": ["{port!r}"], "port": 1}}),
            "placeholder",
        ),
        (
            json!({"launch": {"command": [], "port": 1}}),
            "command and a port",
        ),
        (json!({"launch": {"command": ["x"], "port": "8080"}}), "8080"),
        (
            json!({"links": [{"name": "../x", "target": "{shared}"}]}),
            "links",
        ),
    ] {
        let error = described(&changes).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.kind(), "corrupt_state");
    }
    for data in [&b""[..], b"[]", b"null", b"{", b"\xff"] {
        assert!(AppDescription::read("x.json", data).is_err());
    }
}

#[test]
fn the_version_inside_a_tag() {
    let app = described(&json!({})).unwrap();
    assert_eq!(app.releases.version_text("V1.2"), Some("1.2"));
    assert_eq!(app.releases.version_text("latest"), None);
}

#[test]
fn what_counts_as_ready() {
    let ready = |value: Value| serde_json::from_value::<Ready>(value).unwrap();
    for (one, status, body, expected) in [
        (json!({}), 200, json!(null), true),
        (json!({}), 404, json!(null), false),
        (json!({"field": "a.b"}), 200, json!({"a": {"b": null}}), true),
        (json!({"field": "a.b"}), 200, json!({"a": 1}), false),
        (
            json!({"field": "s", "equals": "ok"}),
            200,
            json!({"s": "ok"}),
            true,
        ),
        (
            json!({"field": "s", "equals": "ok"}),
            200,
            json!({"s": "no"}),
            false,
        ),
        (json!({"header": "x-app"}), 200, json!(null), false),
    ] {
        assert_eq!(ready(one).accepts(status, |_| false, &body), expected, "{body}");
    }
}

#[test]
fn templates_are_filled() {
    assert_eq!(
        fill("{{{port}}}:{host}", &|name| name.to_uppercase()),
        "{PORT}:HOST"
    );
}
