//! How a model's weights are stored, read from file names and from header numbers.
//!
//! A quantisation is a lower-case token with underscores (`q4_k_m`, `iq4_nl`, `fp8_e4m3fn`, `gptq_4bit`). Names follow
//! patterns rather than a list, because new ones appear every few months. Used for files on disk and for listings of a
//! hub; knows nothing about either.

use std::sync::LazyLock;

use regex_lite::Regex;

/// How weights are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantization {
    /// For example `q4_k_m`.
    pub token: String,
    /// Whether the name marks a mix chosen per layer (`UD-`).
    pub dynamic: bool,
}

impl Quantization {
    /// What tells two files of one repository apart.
    #[must_use]
    pub fn label(&self) -> String {
        if self.dynamic {
            format!("ud_{}", self.token)
        } else {
            self.token.clone()
        }
    }
}

/// llama.cpp's `general.file_type`: <https://github.com/ggml-org/llama.cpp/blob/master/include/llama.h>
/// (enum `llama_ftype`).
static GGUF_FILE_TYPES: &[(i128, &str)] = &[
    (0, "f32"),
    (1, "f16"),
    (2, "q4_0"),
    (3, "q4_1"),
    (4, "q4_1_f16"),
    (7, "q8_0"),
    (8, "q5_0"),
    (9, "q5_1"),
    (10, "q2_k"),
    (11, "q3_k_s"),
    (12, "q3_k_m"),
    (13, "q3_k_l"),
    (14, "q4_k_s"),
    (15, "q4_k_m"),
    (16, "q5_k_s"),
    (17, "q5_k_m"),
    (18, "q6_k"),
    (19, "iq2_xxs"),
    (20, "iq2_xs"),
    (21, "q2_k_s"),
    (22, "iq3_xs"),
    (23, "iq3_xxs"),
    (24, "iq1_s"),
    (25, "iq4_nl"),
    (26, "iq3_s"),
    (27, "iq3_m"),
    (28, "iq2_s"),
    (29, "iq2_m"),
    (30, "iq4_xs"),
    (31, "iq1_m"),
    (32, "bf16"),
    (33, "q4_0_4_4"),
    (34, "q4_0_4_8"),
    (35, "q4_0_8_8"),
    (36, "tq1_0"),
    (37, "tq2_0"),
    (38, "mxfp4"),
    (39, "nvfp4"),
    (40, "q1_0"),
];
/// A flag that llama.cpp adds when it guessed.
const GUESSED: i128 = 1024;

/// In order of how much a match says: the first pattern that matches a part of the path wins, its last match counts.
/// They see lower-case text in which every run of other characters is one underscore, with one at each end. What a match
/// must contain stands before it: most texts contain little of that, and a first look at a library asks for every name.
static PATTERNS: &[(&str, &str, &str)] = &[
    ("q", r"q([1-9])_?(0)_(4|8)_(4|8)", "q{}_{}_{}_{}"),
    ("q", r"q([1-9])_(0|1|k|k_s|k_m|k_l)_(r4|r8)", "q{}_{}_{}"),
    (
        "iq",
        r"(iq)([1-9])_?(xxs|xs|xxl|xl|nl|s|m|l|kss|ks|kl|kt|k)_(r4|r8|s|m|l)",
        "{}{}_{}_{}",
    ),
    (
        "iq",
        r"(iq)([1-9])_?(xxs|xs|xxl|xl|nl|s|m|l|kss|ks|kl|kt|k)",
        "{}{}_{}",
    ),
    ("q", r"q([1-9])_?k_?(xxs|xs|xxl|xl|s|m|l|p)", "q{}_k_{}"),
    ("q", r"(t?q)([1-9])_?(0|1)(?:_g\d+)?", "{}{}_{}"),
    ("q8", r"q8_?kv", "q8_kv"),
    ("q", r"q([1-9])_?k", "q{}_k"),
    ("iq", r"iq([1-9])", "iq{}"),
    ("i2", r"i2_?s", "i2_s"),
    ("", r"(mxfp|nvfp|mxint)(4|6|8)(?:_?a16)?", "{}{}"),
    (
        "",
        r"(gptq|awq|autoround|hqq|bnb|quip|aqlm)_(?:marlin_|model_)?(?:int|w)?([2-8])_?(?:bits?)?",
        "{}_{}bit",
    ),
    (
        "bit",
        r"(?:int)?([2-8])_?bits?_(gptq|awq|autoround|hqq|bnb)",
        "{1}_{0}bit",
    ),
    ("", r"(?:int|w)([2-8])_(gptq|awq|autoround|hqq|bnb)", "{1}_{0}bit"),
    ("w", r"w([1-9]|16)_?a([1-9]|16)", "w{}a{}"),
    (
        "8",
        r"(?:fp8|float8)_?(e4m3fnuz|e5m2fnuz|e4m3fn|e4m3|e5m2)",
        "fp8_{}",
    ),
    ("m", r"(e4m3fn|e5m2)(?:_?fp8)?", "fp8_{}"),
    ("q4f", r"q4f(16|32)(?:_[0-2])?", "q4f{}"),
    ("bpw", r"([1-9])_?(\d{1,2})_?bpw", "{}_{}bpw"),
    ("bpw", r"([1-9])_?bpw", "{}_0bpw"),
    ("", r"(gptq|awq|aqlm|hqq|nf4|exl2|exl3)", "{}"),
    ("fp", r"(fp4|fp6|fp8)_?(?:mixed|scaled|wo)?", "{}"),
    ("float8", r"float8", "fp8"),
    ("int", r"q?(u?int[48])(?:wo)?", "{}"),
    ("bnb4", r"bnb4", "bnb_4bit"),
    ("1_58", r"1_58_?bits?", "1_58bit"),
    ("bit", r"([1-8])_?bits?", "{}bit"),
    ("q", r"q([1-8])", "q{}"),
    ("f", r"(bf16|fp16|fp32|f16|f32)", "{}"),
    ("bfloat16", r"bfloat16", "bf16"),
    ("float16", r"float16", "fp16"),
    // A word of names too, so only where precisions stand: `model.half.safetensors`, not `half-life.safetensors`.
    ("half", r"half_[a-z]+_$", "fp16"),
    ("float32", r"float32", "fp32"),
];

struct Pattern {
    needed: &'static str,
    regex: Regex,
    form: &'static str,
}

static COMPILED: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    let compile = |(needed, pattern, form): &(&'static str, &str, &'static str)| {
        let whole = if pattern.ends_with('$') {
            format!("_{pattern}")
        } else {
            format!("_(?:{pattern})_")
        };
        Some(Pattern {
            needed,
            regex: Regex::new(&whole).ok()?,
            form,
        })
    };
    PATTERNS.iter().filter_map(compile).collect()
});
const MAX_PATH: usize = 4096;

/// The quantisation that a path names: its file name decides, then its folders from the innermost outwards.
#[must_use]
pub fn parse_quantization(path: &str) -> Option<Quantization> {
    let start = path
        .char_indices()
        .rev()
        .nth(MAX_PATH - 1)
        .map_or(0, |(at, _)| at);
    path[start..].rsplit(['/', '\\']).find_map(|part| {
        let text = plain_words(part);
        best(&text).map(|token| Quantization {
            token,
            dynamic: text.contains("_ud_"),
        })
    })
}

/// The token of [`parse_quantization`], or `""`.
#[must_use]
pub fn detect_quantization(path: &str) -> String {
    parse_quantization(path)
        .map(|found| found.token)
        .unwrap_or_default()
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
fn filled(form: &str, found: &regex_lite::Captures<'_>) -> String {
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
    let Some(value) = value.filter(|value| *value >= 0) else {
        return "";
    };
    GGUF_FILE_TYPES
        .iter()
        .find(|(number, _)| *number == value & !GUESSED)
        .map_or("", |(_, token)| token)
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

const KINDS: [&str; 12] = [
    "iq", "tq", "q", "gptq", "awq", "int", "nf", "mxfp", "nvfp", "fp", "bf", "f",
];
const SIZES: [&str; 13] = [
    "xxs", "xs", "ks", "s", "k_s", "k", "nl", "m", "k_m", "l", "k_l", "xl", "k_xl",
];

/// Importance-matrix kinds first, then k-quants and plain ones by bits, then integers, then floating point.
#[must_use]
pub fn sort_quantizations(mut tokens: Vec<String>) -> Vec<String> {
    tokens.sort_by_cached_key(|token| rank(token));
    tokens
}

fn rank(token: &str) -> (usize, u64, usize, String) {
    let plain = token.strip_prefix("ud_").unwrap_or(token);
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
    let order = KINDS
        .iter()
        .position(|known| *known == kind)
        .unwrap_or(KINDS.len());
    let size = SIZES
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
        assert_eq!(COMPILED.len(), PATTERNS.len());
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
        assert_eq!(
            parse_quantization("M-UD-Q4_K_XL.gguf")
                .map(|found| found.label())
                .as_deref(),
            Some("ud_q4_k_xl")
        );
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
