//! How a model's weights are stored, read from file names and from header numbers.
//!
//! A quantisation is a lower-case token with underscores (`q4_k_m`, `iq4_nl`, `fp8_e4m3fn`, `gptq_4bit`). Names follow
//! patterns rather than a list, because new ones appear every few months; both stand in
//! `contracts/tables/quantizations.json`. Used for files on disk and for listings of a hub; knows nothing about either.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::{Captures, Regex, RegexBuilder};
use serde::Deserialize;

use crate::contracts::tables;

/// How weights are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantization {
    /// For example `q4_k_m`.
    pub token: String,
    /// That the name is of another mix of the same kinds (`UD-`, `smol-`); `""` for the usual one.
    pub mark: &'static str,
}

impl Quantization {
    /// What tells two files of one repository apart.
    #[must_use]
    pub fn label(&self) -> String {
        match self.mark {
            "" => self.token.clone(),
            mark => format!("{mark}_{}", self.token),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(bound(deserialize = "'de: 'static"))]
struct Table {
    /// llama.cpp's `general.file_type`: <https://github.com/ggml-org/llama.cpp/blob/master/include/llama.h>
    /// (enum `llama_ftype`).
    gguf_file_types: HashMap<i64, &'static str>,
    /// What a match must contain, the pattern, the token's form. In order of how much a match says: the first pattern
    /// that matches a part of the path wins, its last match counts. They see lower-case text in which every run of other
    /// characters is one underscore, with one at each end. Most texts contain little of what a match must contain, and a
    /// first look at a library asks for every name. A pattern that ends in `$` says itself where in a name it stands:
    /// `half` is a word of names too, so it counts in `model.half.safetensors`, not in `half-life.safetensors`.
    names: Vec<(&'static str, String, &'static str)>,
    /// Publishers' words for mixes that they choose per layer, beside which they often publish the plain one; and how
    /// they stand in such a text.
    marks: Vec<(&'static str, String)>,
    kinds: Vec<&'static str>,
    sizes: Vec<&'static str>,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| serde_json::from_str(tables::QUANTIZATIONS).unwrap_or_default());
/// A flag that llama.cpp adds when it guessed.
const GUESSED: i128 = 1024;

struct Pattern {
    needed: &'static str,
    regex: Regex,
    form: &'static str,
}

static COMPILED: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    let compile = |(needed, pattern, form): &(&'static str, String, &'static str)| {
        let whole = if pattern.ends_with('$') {
            format!("_{pattern}")
        } else {
            format!("_(?:{pattern})_")
        };
        Some(Pattern {
            needed,
            regex: RegexBuilder::new(&whole).unicode(false).build().ok()?,
            form,
        })
    };
    TABLE.names.iter().filter_map(compile).collect()
});
static MARKS: LazyLock<Vec<(&'static str, Regex)>> = LazyLock::new(|| {
    let compile = |(mark, pattern): &(&'static str, String)| {
        Some((*mark, RegexBuilder::new(pattern).unicode(false).build().ok()?))
    };
    TABLE.marks.iter().filter_map(compile).collect()
});
const MAX_PATH: usize = 4096;

/// The quantisation that a path names: its file name decides, then its folders from the innermost outwards.
#[must_use]
pub fn parse_quantization(path: &str) -> Option<Quantization> {
    let (token, text) = named(path)?;
    let mark = mark_of(&text);
    Some(Quantization { token, mark })
}

/// The token, and the plain words of the part of the path that has it.
fn named(path: &str) -> Option<(String, String)> {
    let start = path
        .char_indices()
        .rev()
        .nth(MAX_PATH - 1)
        .map_or(0, |(at, _)| at);
    path[start..].rsplit(['/', '\\']).find_map(|part| {
        let text = plain_words(part);
        best(&text).map(|token| (token, text))
    })
}

/// The words that [`Quantization::mark`] may be.
pub fn marks() -> impl Iterator<Item = &'static str> {
    MARKS.iter().map(|(mark, _)| *mark)
}

fn mark_of(text: &str) -> &'static str {
    let found = MARKS.iter().find(|(_, pattern)| pattern.is_match(text));
    found.map_or("", |(mark, _)| *mark)
}

/// The token of [`parse_quantization`], or `""`.
#[must_use]
pub fn detect_quantization(path: &str) -> String {
    named(path).map(|(token, _)| token).unwrap_or_default()
}

/// Lower-case letters and digits, with one underscore for everything between them and at both ends.
fn plain_words(part: &str) -> String {
    let mut text = String::from("_");
    let mut letters = part;
    let mut before = ' ';
    while let Some(letter) = letters.chars().next() {
        // Older libraries dropped the dots of file names, so a token may be glued to what stood before: `harbor-7bQ4_K_M`.
        if (before.is_ascii_lowercase() || before.is_ascii_digit()) && begins_token(letters) {
            push_underscore(&mut text);
        }
        for lower in letter.to_lowercase() {
            if lower.is_ascii_alphanumeric() {
                text.push(lower);
            } else {
                push_underscore(&mut text);
            }
        }
        before = letter;
        letters = &letters[letter.len_utf8()..];
    }
    push_underscore(&mut text);
    text
}

fn push_underscore(text: &mut String) {
    if !text.ends_with('_') {
        text.push('_');
    }
}

fn begins_token(rest: &str) -> bool {
    let bits = rest
        .strip_prefix('I')
        .unwrap_or(rest)
        .strip_prefix('Q')
        .map(str::as_bytes);
    rest.starts_with("BF16") || rest.starts_with("F16") || matches!(bits, Some([b'1'..=b'8', b'_', ..]))
}

fn best(text: &str) -> Option<String> {
    let possible = COMPILED.iter().filter(|known| text.contains(known.needed));
    possible.into_iter().find_map(|Pattern { regex, form, .. }| {
        let mut at = 0;
        let mut last = None;
        // The underscore that ends one match may begin the next.
        while let Some(found) = regex.captures_at(text, at) {
            at = found.get(0).map_or(text.len(), |whole| whole.end() - 1);
            last = Some(found);
        }
        last.map(|found| filled(form, &found))
    })
}

/// `form` with the groups of a match in the places of `{}`, `{0}` and `{1}`.
fn filled(form: &str, found: &Captures<'_>) -> String {
    let group = |number: usize| found.get(number + 1).map_or("", |text| text.as_str());
    let mut text = form.replace("{0}", group(0)).replace("{1}", group(1));
    let mut number = 0;
    while text.contains("{}") {
        text = text.replacen("{}", group(number), 1);
        number += 1;
    }
    text
}

/// The token for a GGUF file's `general.file_type`, or `""` when it says nothing.
#[must_use]
pub fn gguf_file_type(value: Option<i128>) -> &'static str {
    let number = value.and_then(|value| i64::try_from(value & !GUESSED).ok());
    number
        .and_then(|number| TABLE.gguf_file_types.get(&number).copied())
        .unwrap_or_default()
}

/// Whether a name's token can be a finer word for what the header says: `q4_k_xl` for `q4_k_m`, `fp16` for `f16`.
#[must_use]
pub fn agree(named: &str, stored: &str) -> bool {
    coarse(named) == coarse(stored)
}

fn coarse(token: &str) -> String {
    let token = token.replace("fp16", "f16").replace("fp32", "f32");
    token.split('_').next().unwrap_or_default().to_owned()
}

/// Importance-matrix kinds first, then k-quants and plain ones by bits, then integers, then floating point.
#[must_use]
pub fn sort_quantizations(mut tokens: Vec<String>) -> Vec<String> {
    tokens.sort_by_cached_key(|token| rank(token));
    tokens
}

fn rank(token: &str) -> (usize, u64, usize, String) {
    let plain = match token.split_once('_') {
        Some((mark, rest)) if marks().any(|known| known == mark) => rest,
        _ => token,
    };
    let kind_end = plain
        .find(|letter: char| !letter.is_ascii_lowercase())
        .unwrap_or(plain.len());
    let (kind, rest) = plain.split_at(kind_end);
    let rest = rest.strip_prefix('_').unwrap_or(rest);
    let bits_end = rest
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(rest.len());
    let (bits, rest) = rest.split_at(bits_end);
    let rest = rest.strip_prefix('_').unwrap_or(rest);
    let order = TABLE
        .kinds
        .iter()
        .position(|known| *known == kind)
        .unwrap_or(TABLE.kinds.len());
    let size = TABLE
        .sizes
        .iter()
        .position(|known| *known == rest)
        .map_or(0, |at| at + 1);
    (order, bits.parse().unwrap_or(0), size, token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_how_weights_are_stored() {
        assert!(COMPILED.len() > 30 && COMPILED.len() == TABLE.names.len());
        for (name, token) in [
            ("Llama-8B.Q4_K_M.gguf", "q4_k_m"),
            ("harbor-7bQ4_K_M.gguf", "q4_k_m"),
            ("model-IQ4_XS.gguf", "iq4_xs"),
            ("a/fp16/model.safetensors", "fp16"),
            ("flux-fp8_e4m3fn.safetensors", "fp8_e4m3fn"),
            ("model-4bit-gptq", "gptq_4bit"),
            ("x-4.65bpw-exl2", "4_65bpw"),
            ("Q4_0-Q8_0.gguf", "q8_0"),
            ("plain.gguf", ""),
        ] {
            assert_eq!(detect_quantization(name), token, "{name}");
        }
        for (name, label) in [
            ("M-UD-Q4_K_XL.gguf", "ud_q4_k_xl"),
            ("smol-IQ2_KL/M-smol-IQ2_KL.gguf", "smol_iq2_kl"),
            ("Tiny-Smol-7B-Q4_K_M.gguf", "q4_k_m"),
            ("GLM-4.6-MLX-6.5bit", "mlx_6_5bit"),
        ] {
            let found = parse_quantization(name).map(|found| found.label());
            assert_eq!(found.as_deref(), Some(label));
        }
    }

    #[test]
    fn finer_words_agree() {
        assert!(agree("q4_k_xl", "q4_k_m") && agree("fp16", "f16") && !agree("q8_0", "q4_0"));
        assert_eq!(gguf_file_type(Some(15 + 1024)), "q4_k_m");
        assert_eq!(gguf_file_type(Some(-1)), "");
    }

    #[test]
    fn tokens_are_sorted_by_kind_and_size() {
        let sorted = sort_quantizations(
            ["f16", "q8_0", "q4_k_m", "q4_k_s", "iq4_xs", "bf16"]
                .map(String::from)
                .to_vec(),
        );
        assert_eq!(sorted, ["iq4_xs", "q4_k_s", "q4_k_m", "q8_0", "bf16", "f16"]);
    }
}
