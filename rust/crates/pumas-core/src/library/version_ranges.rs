//! The syntax of Python version specifiers, by which a model is limited to versions of an app.
//!
//! <https://packaging.python.org/en/latest/specifications/version-specifiers/>; what a version means is not known here.

use std::sync::LazyLock;

use regex_lite::Regex;

const RELEASE: &str = r"v?(?:[0-9]+!)?[0-9]+(?:\.[0-9]+)";
const SUFFIXES: &str = r"(?:[-_.]?(?:alpha|beta|preview|pre|a|b|c|rc)[-_.]?[0-9]*)?(?:-[0-9]+|[-_.]?(?:post|rev|r)[-_.]?[0-9]*)?(?:[-_.]?dev[-_.]?[0-9]*)?";
const LOCAL: &str = r"(?:\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?";

static SPECIFIER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let forms = [
        r"===\s*[^\s;)]*".to_owned(),
        format!(r"(?:==|!=)\s*{RELEASE}*(?:\.\*|{SUFFIXES}{LOCAL})"),
        format!(r"~=\s*{RELEASE}+{SUFFIXES}"),
        format!(r"(?:<=|>=|<|>)\s*{RELEASE}*{SUFFIXES}"),
    ];
    Regex::new(&format!("^(?i:{})$", forms.join("|"))).ok()
});

/// Whether `text` is a list of specifiers, such as `>=0.4,<0.9`. The empty one holds for all versions.
#[must_use]
pub fn is_version_range(text: &str) -> bool {
    let Some(specifier) = SPECIFIER.as_ref() else {
        return false;
    };
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .all(|part| specifier.is_match(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_told_from_other_text() {
        assert!(SPECIFIER.is_some());
        for text in [
            "",
            ">=0.4,<0.9",
            " == 1.0.* , !=1.0.post1 ",
            "~=1.2",
            "===foo",
            "==1!2.0rc1+local.1",
            ">1.DEV0",
            "<v2",
        ] {
            assert!(is_version_range(text), "{text}");
        }
        for text in [
            "0.4",
            ">=",
            ">= newest",
            "~=1",
            ">=1.*",
            ">=1+local",
            "=>1",
            "==1 ==2",
            "==1;",
        ] {
            assert!(!is_version_range(text), "{text}");
        }
    }
}
