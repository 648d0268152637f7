//! Which versions of an app may have a model: `version_ranges` of its overrides.
//!
//! <https://packaging.python.org/en/latest/specifications/version-specifiers/>

use std::str::FromStr as _;

use pep440_rs::{Version, VersionSpecifiers};
use serde_json::Value;

use crate::library::version_ranges::is_version_range;
use crate::storage::json_file::JsonObject;
use crate::text::cut;

/// Why a model with these overrides is not for this version of an app; None when it is. What cannot be understood lets
/// nothing through.
#[must_use]
pub fn excluded(overrides: &JsonObject, app_id: &str, version: &str) -> Option<String> {
    let ranges = match overrides.get("version_ranges") {
        None | Some(Value::Null) => return None,
        Some(Value::Object(ranges)) => ranges,
        Some(_) => return Some("its version ranges cannot be understood".to_owned()),
    };
    let mut asked = ranges.iter().filter(|(app, _)| app.to_lowercase() == app_id);
    asked.find_map(|(app, specifier)| refused(app, specifier, version))
}

fn refused(app: &str, specifier: &Value, version: &str) -> Option<String> {
    let unclear = || format!("its version range for {app} cannot be understood");
    let text = match specifier {
        Value::Null => return None,
        Value::String(text) if text.is_empty() || text == "*" => return None,
        Value::String(text) => text,
        _ => return Some(unclear()),
    };
    let Some(specifiers) = parsed(text) else {
        return Some(unclear());
    };
    let shown = cut(text, 60);
    match Version::from_str(version) {
        Err(_) => Some(format!(
            "it is for {app} {shown}, and {} is no version number",
            cut(version, 60)
        )),
        Ok(version) if specifiers.contains(&version) => None,
        Ok(_) => Some(format!("it is for {app} {shown}")),
    }
}

fn parsed(text: &str) -> Option<VersionSpecifiers> {
    if !is_version_range(text) {
        return None;
    }
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    VersionSpecifiers::from_str(&parts.collect::<Vec<_>>().join(",")).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(ranges: &Value, version: &str, expected: Option<&str>) {
        let overrides = json!({ "version_ranges": ranges });
        let found = excluded(overrides.as_object().unwrap(), "comfyui", version);
        assert_eq!(found.as_deref(), expected, "{ranges} {version}");
    }

    #[test]
    fn ranges_decide() {
        for (specifier, version, expected) in [
            (json!(">=0.3,<0.4"), "0.3.10", None),
            (json!(">=0.4"), "0.3.10", Some("it is for ComfyUI >=0.4")),
            (json!(">=0.3.11rc1"), "0.3.11rc2", None),
            (json!("==0.3.*"), "0.3.10", None),
            (json!("*"), "x", None),
            (json!(""), "x", None),
            (json!(null), "x", None),
            (
                json!(">=1"),
                "main",
                Some("it is for ComfyUI >=1, and main is no version number"),
            ),
            (
                json!("newest"),
                "1",
                Some("its version range for ComfyUI cannot be understood"),
            ),
            (
                json!(5),
                "1",
                Some("its version range for ComfyUI cannot be understood"),
            ),
        ] {
            check(&json!({"ComfyUI": specifier, "other": ">9"}), version, expected);
        }
        check(&json!([]), "1", Some("its version ranges cannot be understood"));
        check(&json!(null), "1", None);
    }
}
