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

/// Ends of one word that are indexed, at most.
const MOST_ENDS: usize = 32;

/// What has to stand in the index beside a text with these words, so that what a person types finds it:
///
/// - words that are not ASCII, as the tokenizer folds some in its own way (it keeps the accents of Greek and Cyrillic);
/// - their ends, where the script puts nothing between words: a query finds only beginnings;
/// - `3` of `qwen3`, so that "qwen 3" finds it as well as `Qwen-3`.
#[must_use]
pub fn further(folded: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for word in folded {
        if let Some((_, number)) = name_and_number(word) {
            found.push(number.to_owned());
        } else if !word.is_ascii() {
            found.push(word.clone());
            let ends = word.char_indices().skip(1).filter(|&(_, c)| is_undivided(c));
            found.extend(ends.take(MOST_ENDS).map(|(start, _)| word[start..].to_owned()));
        }
    }
    found
}

/// The folded words of which names are put together: "deep seek" finds `DeepSeek`, "llama" finds `TinyLlama`.
#[must_use]
pub fn humps(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for word in text
        .split(|c| !is_word_to_sqlite(c))
        .filter(|word| word.is_ascii())
    {
        let bytes = word.as_bytes();
        let starts: Vec<usize> = (1..bytes.len()).filter(|&at| is_hump(bytes, at)).collect();
        if starts.is_empty() {
            continue;
        }
        let ends = starts.iter().copied().chain([word.len()]);
        let parts = std::iter::once(0).chain(starts.iter().copied()).zip(ends);
        found.extend(parts.map(|(start, end)| word[start..end].to_ascii_lowercase()));
    }
    found
}

/// A capital behind a small letter, or the last of several before one.
fn is_hump(word: &[u8], at: usize) -> bool {
    let (before, here) = (word[at - 1], word[at]);
    let small_follows = word.get(at + 1).is_some_and(u8::is_ascii_lowercase);
    here.is_ascii_uppercase() && (before.is_ascii_lowercase() || small_follows)
}

/// The same words with names and the numbers behind them as words of their own: `llama3` is `llama`, `3`.
#[must_use]
pub fn apart(folded: &[String]) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for word in folded {
        let (name, number) = name_and_number(word).map_or((word.as_str(), None), |(n, m)| (n, Some(m)));
        for part in std::iter::once(name).chain(number) {
            if !parts.iter().any(|known| known == part) {
                parts.push(part.to_owned());
            }
        }
    }
    parts
}

/// `qwen` and `3b` of `qwen3b`; a name has three letters or more, so that `fp16` is none.
fn name_and_number(word: &str) -> Option<(&str, &str)> {
    let letters = word.bytes().take_while(u8::is_ascii_lowercase).count();
    let (name, number) = word.split_at(letters);
    let is_number = number.starts_with(|c: char| c.is_ascii_digit())
        && number
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (letters >= 3 && is_number).then_some((name, number))
}

/// Thai to Khmer, kana, Han: whole sentences are one word to the tokenizer.
fn is_undivided(c: char) -> bool {
    matches!(
        c,
        '\u{e00}'..='\u{eff}'
            | '\u{1000}'..='\u{109f}'
            | '\u{1780}'..='\u{17ff}'
            | '\u{3040}'..='\u{30ff}'
            | '\u{3400}'..='\u{9fff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{3ffff}'
    )
}

/// The index word for one property, such as (`tag`, `chat`); compared exactly, so apply [`same`] first.
#[must_use]
pub fn facet(kind: &str, value: &str) -> String {
    let mut digest = Blake2b::<U6>::new();
    digest.update(kind.as_bytes());
    digest.update([0]);
    digest.update(value.as_bytes());
    [FACET, &hex(&digest.finalize())].concat()
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
    fn what_stands_in_the_index_too() {
        for (text, expected) in [
            ("Llama 3.1 8B", ""),
            ("Qwen3-8B phi4mini x3 c3po fp16", "3 4mini"),
            ("Ёлка qwen3 7B", "елка 3"),
            ("通义千问 x", "通义千问 义千问 千问 问"),
        ] {
            assert_eq!(further(&words(text)).join(" "), expected, "{text:?}");
        }
        assert_eq!(apart(&words("llama3.1 llama 8b")), ["llama", "3", "1", "8b"]);
    }

    #[test]
    fn names_are_put_together() {
        for (text, expected) in [
            ("DeepSeek-R1 TinyLlama", "deep seek tiny llama"),
            ("epiCRealism RealVisXL2Turbo", "epi c realism real vis xl2 turbo"),
            ("llama 3.1 8B Q4_K_M SDXL GGUF gpt-oss", ""),
            ("ÉcoleDeParis MiniCPM", "mini cpm"),
        ] {
            assert_eq!(humps(text).join(" "), expected, "{text:?}");
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
