use proptest::prelude::*;
use serde_json::json;

use super::values::{clean, integer};
use super::*;

fn object(value: &Value) -> JsonObject {
    value.as_object().cloned().unwrap()
}

fn read(value: &Value) -> IndexEntry {
    from_metadata("llm/llama/Llama-8B", &object(value)).unwrap()
}

#[test]
fn the_path_says_what_the_metadata_does_not() {
    let entry = read(&json!({}));
    assert_eq!(
        (
            &*entry.model_type,
            &*entry.family,
            &*entry.official_name,
            &*entry.name_key
        ),
        ("llm", "llama", "Llama-8B", "llama 8b")
    );
    let entry = from_metadata("Alone", &JsonObject::new()).unwrap();
    assert_eq!((&*entry.model_type, &*entry.family), ("unknown", ""));
}

#[test]
fn values_of_a_wrong_type_are_damage_and_nulls_are_not() {
    for (field, value) in [
        ("tags", json!({})),
        ("size_bytes", json!(true)),
        ("size_bytes", json!("7")),
        ("hashes", json!([])),
        ("official_name", json!(7)),
        ("base_model", json!(1)),
    ] {
        let metadata = object(&json!({field: value}));
        assert_eq!(from_metadata("a/b", &metadata), Err(DamagedMetadata { field }));
        assert!(from_metadata("a/b", &object(&json!({field: null}))).is_ok());
    }
}

#[test]
fn the_primary_file_is_the_largest_that_can_be_loaded() {
    let entry = read(&json!({"files": [
        {"name": "readme.txt", "size": 900}, {"name": "b.GGUF", "size": 5}, {"name": "a.bin", "size": 5},
        {"name": "x.gguf"}, {"size": 3}, 7,
    ]}));
    assert_eq!(
        (&*entry.primary_file, entry.primary_size, &*entry.security_tier),
        ("a.bin", Some(5), "pickle")
    );
    assert_eq!(entry.size_bytes, Some(910));
    assert_eq!(entry.kinds, " bin gguf");
}

#[test]
fn tags_are_one_of_each() {
    let entry = read(&json!({"tags": ["Chat", "code", "CHAT", "", 7, "new\nline"]}));
    assert_eq!(entry.tags_json, r#"["code","Chat","new line"]"#);
    assert_eq!(read(&json!({"tags": "one"})).tags_json, r#"["one"]"#);
}

#[test]
fn texts_are_clean_lines() {
    assert_eq!(clean(" a\u{202e}\u{200b}b\n", MAX_TEXT), "a b");
    assert_eq!(clean(&"é".repeat(600), MAX_TEXT).chars().count(), MAX_TEXT);
}

#[test]
fn numbers_are_counts() {
    for (value, expected) in [
        (json!(7), Some(7)),
        (json!(7.9), Some(7)),
        (json!(-1), None),
        (json!(1e300), None),
        (json!(u64::MAX), None),
        (json!(i64::MAX), Some(i64::MAX)),
        (json!("7"), None),
    ] {
        assert_eq!(integer(&value), expected, "{value}");
    }
}

#[test]
fn kinds_name_formats_and_quantisations() {
    let entry = read(
        &json!({"subtype": "loras", "files": [{"name": "x-Q4_K_M.gguf", "size": 1}, {"name": "y.bin"}]}),
    );
    assert_eq!(entry.kinds, "loras bin gguf q4_k_m");
    let (formats, quants) = formats_and_quantizations(&entry.kinds);
    assert_eq!(
        (formats, quants),
        (
            vec!["bin".to_owned(), "gguf".to_owned()],
            vec!["Q4_K_M".to_owned()]
        )
    );
    assert_eq!(read(&json!({"subtype": "loras"})).kinds, "loras");
}

#[test]
fn pending_until_somebody_says_manual() {
    assert!(read(&json!({"pending_online_lookup": true})).pending_lookup);
    assert!(!read(&json!({"pending_online_lookup": true, "match_source": "manual"})).pending_lookup);
    assert!(!read(&json!({"pending_online_lookup": 1})).pending_lookup);
}

#[test]
fn related_needs_a_repository_and_a_family() {
    assert!(read(&json!({"base_model": "o/n"})).related_available);
    assert!(read(&json!({"base_model": [{"repo_id": "o/n"}]})).related_available);
    assert!(!read(&json!({"base_model": "o/n", "family": "Imported"})).related_available);
    assert!(!read(&json!({"base_model": "none"})).related_available);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::hash_map("name|size|repo_id|.{0,3}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_metadata_makes_a_row_or_is_damaged(values in proptest::collection::vec(any_json(), 12)) {
        let keys = ["tags", "files", "hashes", "base_model", "official_name", "size_bytes", "added_date",
                    "download_url", "model_card", "security_tier", "storage", "repo_id"];
        let metadata: JsonObject = keys.into_iter().map(str::to_owned).zip(values).collect();
        if let Ok(entry) = from_metadata("a/b/c", &metadata) {
            prop_assert!(entry.size_bytes.is_none_or(|size| size >= 0));
            prop_assert!(entry.official_name.chars().count() <= MAX_TEXT);
        }
    }
}
