//! Text as the index sees it: folded words, and the facets by which models are filtered.
//!
//! The index's tokenizer (FTS5 `unicode61 remove_diacritics 2`, <https://www.sqlite.org/fts5.html#unicode61_tokenizer>)
//! splits at everything that is neither letter nor number, and folds case and diacritics. [`words`] does the same to a
//! query and to names that are compared outside of SQLite. Nothing here knows SQL.

use blake2::digest::consts::U6;
use blake2::{Blake2b, Digest as _};
use caseless::Caseless as _;
use unicode_normalization::UnicodeNormalization as _;

use crate::storage::files::hex;
use crate::storage::unicode::is_alphanumeric;

/// A private-use character is a letter to unicode61, and [`words`] never yields one: no query can reach a facet. All
/// begin alike, so that the prefix indexes hold one beginning for each model, not four for each of its facets.
const FACET: &str = "\u{e000}000";

/// The folded words of `text`, in order.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    if text.is_ascii() {
        let split = text.split(|c: char| !c.is_ascii_alphanumeric());
        return split
            .filter(|word| !word.is_empty())
            .map(str::to_ascii_lowercase)
            .collect();
    }
    let bare = text.nfd().filter(|c| !('\u{300}'..='\u{36f}').contains(c));
    let folded = bare.nfc().collect::<String>().to_lowercase();
    folded
        .split(|c| !is_word_to_sqlite(c))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Letters that unicode61 nevertheless takes for separators: New Tai Lue and Vedic vowel signs that changed category.
fn is_word_to_sqlite(c: char) -> bool {
    !matches!(
        c,
        '\u{19b0}'..='\u{19c0}' | '\u{19c8}' | '\u{19c9}' | '\u{1cf2}' | '\u{1cf3}'
    ) && is_alphanumeric(c)
}

/// The index word for one property, such as (`tag`, `chat`); compared exactly, so apply [`same`] first.
#[must_use]
pub fn facet(kind: &str, value: &str) -> String {
    let mut digest = Blake2b::<U6>::new();
    digest.update(kind.as_bytes());
    digest.update([0]);
    digest.update(value.as_bytes());
    format!("{FACET}{}", hex(&digest.finalize()))
}

/// Lower bounds in GiB of the bands by which models are filtered by size.
const SIZE_BANDS: [i64; 7] = [64, 32, 16, 8, 4, 1, 0];

/// The lower bound in GiB, as text, of the band that a size in bytes falls into: `0`, `1`, `4`, … `64`.
#[must_use]
pub fn size_band(size: i64) -> String {
    SIZE_BANDS
        .into_iter()
        .find(|bound| size >= bound << 30)
        .unwrap_or(0)
        .to_string()
}

/// The form in which two tags are equal: composed, without case.
#[must_use]
pub fn same(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.nfc().default_case_fold().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_folded() {
        for (text, expected) in [
            ("Llama-3.1_8B/GGUF", "llama 3 1 8b gguf"),
            ("Café ÉCOLE", "cafe ecole"),
            ("Ἀθῆνα", "αθηνα"),
            ("日本語 モデル", "日本語 モデル"),
            ("!!", ""),
            ("ΣΑΣ", "σας"),
            ("\u{f0000}x", "x"),
        ] {
            assert_eq!(words(text).join(" "), expected, "{text:?}");
        }
    }

    #[test]
    fn facets_are_those_that_are_in_existing_indexes() {
        assert_eq!(facet("tag", "chat"), "\u{e000}0002d9a11a9466a");
        assert_eq!(facet("family", "straße"), "\u{e000}0000cca532c5e29");
    }

    #[test]
    fn tags_are_equal_without_case() {
        assert_eq!(same("Straße"), "strasse");
        assert_eq!(same("CHAT"), "chat");
        assert_eq!(same("E\u{301}"), "é");
    }

    #[test]
    fn sizes_fall_into_bands() {
        let shown = [0, (1 << 30) - 1, 1 << 30, 5 << 30, i64::MAX].map(size_band);
        assert_eq!(shown, ["0", "0", "1", "4", "64"]);
    }

    proptest! {
        #[test]
        fn no_text_yields_a_facet(text in any::<String>()) {
            for word in words(&text) {
                prop_assert!(word.chars().all(|c| !(0xF_0000..0x10_0000).contains(&u32::from(c))));
            }
        }
    }
}
