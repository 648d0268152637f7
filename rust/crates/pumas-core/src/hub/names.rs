//! What the name of a file on disk says about the repository it may be from, and how sure that is.
//!
//! Pure text: candidates come from a search, proof only from comparing digests (`lookup`).

use std::sync::LazyLock;

use regex_lite::Regex;

use super::kinds;
use crate::library::formats::quantization::parse_quantization;

pub(super) const EXACT: f64 = 0.9;
pub(super) const PLAUSIBLE: f64 = 0.6;
pub(super) const NOT_WORTH_SHOWING: f64 = 0.4;
const MAX_SEARCHES: usize = 4;
/// The most that names can prove: a repository that lists a file of exactly this name.
const CERTAIN: f64 = 0.95;
/// What the likeness of names counts for when the repository is known to hold no file of this name.
const LACKS_IT: f64 = 0.85;
const GAPS: [char; 4] = ['-', '_', '.', ' '];

type Pattern = LazyLock<Option<Regex>>;

/// Names that every second repository has: they say nothing.
static COMMON: Pattern = LazyLock::new(|| {
    Regex::new(
        r"(?i)^(?:(?:pytorch_|diffusion_pytorch_|tf_|adapter_|ggml-|open_clip_)?model|consolidated(?:[._]\d+)?|weights|checkpoint|last|best|latest|final|output|pytorch_lora_weights|lora|unet|vae|ae|text_encoder|clip_[lg]|file|download)$",
    )
    .ok()
});
static SHARD: Pattern = LazyLock::new(|| Regex::new(r"[-_.]\d{5}(?:-of-\d{5})?$").ok());
/// What browsers and file managers put behind the name of a second copy.
static COPY: Pattern =
    LazyLock::new(|| Regex::new(r"(?i)(?: ?\(\d{1,3}\)| - copy(?: ?\(\d{1,3}\))?| copy(?: \d{1,3})?)$").ok());
static TRAILING: Pattern = LazyLock::new(|| {
    Regex::new(
        r"(?i)[-_. ](?:fp16|fp32|bf16|f16|f32|fp8|int[48]|gguf|ggml|ggmlv3|awq|gptq|exl[23]|imat|i1|ud|full|fixed|pruned|ema|emaonly|ema[-_]only|safetensors|merged|scaled|quantized)$",
    )
    .ok()
});
static QUANT: Pattern = LazyLock::new(|| {
    Regex::new(
        r"(?i)[-_. ](?:ud[-_])?(?:i?t?q\d[a-z0-9_]*|mxfp\d[a-z_]*|nvfp\d|[bf]?fp?(?:8|16|32)(?:[-_]e\dm\d(?:fn)?)?|(?:awq|gptq|bnb)[-_]?(?:int)?\d?(?:bit)?|\d[-_]?bits?|w\d+a\d+|\d(?:\.\d+)?bpw)$",
    )
    .ok()
});
static VERSION: Pattern = LazyLock::new(|| Regex::new(r"(?i)[-_. ]v\d+(?:[._]\d+)*$").ok());
static SIZE: Pattern = LazyLock::new(|| Regex::new(r"(?i)[-_. ]\d+(?:\.\d+)?[bm]$").ok());
static LAST_WORD: Pattern = LazyLock::new(|| Regex::new(r"[-_. ]+[^-_. ]*$").ok());

fn without(pattern: &Pattern, text: &str) -> String {
    pattern
        .as_ref()
        .map_or_else(|| text.to_owned(), |regex| regex.replace(text, "").into_owned())
}

/// The name without extension, shard number and the words for how weights are stored; `""` for a common name.
///
/// What it is called stays whole: `Lumen-7B-Instruct-v0.3-Q4_K_M.gguf` gives `Lumen-7B-Instruct-v0.3`.
pub(super) fn title(filename: &str) -> String {
    let mut text = without(&SHARD, &stem(filename));
    loop {
        let shorter = without(&QUANT, &without(&TRAILING, &text));
        let shorter = shorter.trim_end_matches(GAPS);
        if shorter == text {
            break;
        }
        shorter.clone_into(&mut text);
    }
    if COMMON.as_ref().is_some_and(|common| common.is_match(&text)) {
        String::new()
    } else {
        text
    }
}

/// The name without what a second download or copy added to it: `a (1).gguf` gives `a.gguf`.
pub(super) fn original(filename: &str) -> String {
    match filename.rsplit_once('.') {
        Some((stem, suffix)) => format!("{}.{suffix}", without(&COPY, stem)),
        None => filename.to_owned(),
    }
}

/// Texts to search for, most exact first: the title, without its version, its size, then without its last words.
pub(super) fn searches(filename: &str) -> Vec<String> {
    let mut text = title(filename);
    let mut texts = vec![text.clone()];
    let shorter = [&VERSION, &SIZE].into_iter().chain([&LAST_WORD; MAX_SEARCHES]);
    for pattern in shorter {
        text = without(pattern, &text);
        if !texts.contains(&text) {
            texts.push(text.clone());
        }
    }
    texts.retain(|text| text.chars().count() > 2);
    texts.truncate(MAX_SEARCHES);
    texts
}

/// How much a repository looks like the one that the file is from, 0.0 to 1.0. Its listed files count.
pub(super) fn likeness(filename: &str, repo_id: &str, paths: &[String]) -> f64 {
    let lowered = original(filename).to_lowercase();
    let text = title(filename).to_lowercase();
    if text.is_empty() {
        return 0.0;
    }
    if paths
        .iter()
        .any(|path| kinds::split(path).1.to_lowercase() == lowered)
    {
        return CERTAIN;
    }
    let name = title(&format!("{}.x", kinds::split(repo_id).1)).to_lowercase();
    let ratio = ratio(&words(&text), &words(&name));
    let counted = if paths.is_empty() { ratio } else { ratio * LACKS_IT };
    counted.min(CERTAIN)
}

/// `ema`, `pruned`, `full`, or what the container says.
pub(super) fn variant(filename: &str) -> &'static str {
    let lowered = filename.to_lowercase();
    let words: Vec<&str> = lowered.split(GAPS).collect();
    let told = ["ema", "emaonly", "pruned", "full"]
        .into_iter()
        .find(|word| words.contains(word));
    let container = if kinds::extension(filename) == "safetensors" {
        "safetensors"
    } else {
        "standard"
    };
    told.unwrap_or(container)
}

/// The quantisation or number format that the name says, `unknown` if none.
pub(super) fn precision(filename: &str) -> String {
    parse_quantization(filename).map_or_else(|| "unknown".to_owned(), |found| found.label())
}

fn stem(filename: &str) -> String {
    let name = original(kinds::split(filename).1.trim());
    match name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem.to_owned(),
        _ => name,
    }
}

fn words(text: &str) -> Vec<char> {
    let words: Vec<&str> = text.split(GAPS).filter(|word| !word.is_empty()).collect();
    words.join("-").chars().collect()
}

/// Twice the characters in matching blocks over all characters (Ratcliff and Obershelp), as Python's `difflib` counts.
fn ratio(a: &[char], b: &[char]) -> f64 {
    match a.len() + b.len() {
        0 => 1.0,
        all => 2.0 * matching(a, b) as f64 / all as f64,
    }
}

fn matching(a: &[char], b: &[char]) -> usize {
    let (first, second, size) = longest(a, b);
    if size == 0 {
        return 0;
    }
    let before = matching(&a[..first], &b[..second]);
    before + size + matching(&a[first + size..], &b[second + size..])
}

/// The longest block that both have, the earliest of several: where it begins in each, and its length.
fn longest(a: &[char], b: &[char]) -> (usize, usize, usize) {
    let mut best = (0, 0, 0);
    let mut before = vec![0; b.len() + 1];
    for (i, one) in a.iter().enumerate() {
        let mut lengths = vec![0; b.len() + 1];
        for (j, _) in b.iter().enumerate().filter(|(_, other)| *other == one) {
            let length = before[j] + 1;
            lengths[j + 1] = length;
            if length > best.2 {
                best = (i + 1 - length, j + 1 - length, length);
            }
        }
        before = lengths;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_what_the_model_is_called() {
        for (name, expected) in [
            ("Lumen-7B-Instruct-v0.3-Q4_K_M.gguf", "Lumen-7B-Instruct-v0.3"),
            ("lumen-00001-of-00003.safetensors", "lumen"),
            ("Lumen-7B-Q4_K_M (1).gguf", "Lumen-7B"),
            ("Lumen-7B-Q4_K_M - Copy.gguf", "Lumen-7B"),
            ("Lumen-7B-Q4_K_M copy 2.gguf", "Lumen-7B"),
            ("model.safetensors", ""),
            ("sd_xl_base_1.0_fp16.safetensors", "sd_xl_base_1.0"),
            (".gguf", ""),
        ] {
            assert_eq!(title(name), expected, "{name}");
        }
        assert_eq!(
            searches("Lumen-7B-v0.3-Q8_0.gguf"),
            ["Lumen-7B-v0.3", "Lumen-7B", "Lumen"]
        );
    }

    #[test]
    fn ratios_are_those_of_difflib() {
        let of = |a: &str, b: &str| ratio(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        for (a, b, expected) in [
            ("abcd", "bcde", 0.75),
            ("lumen-7b", "lumen-7b-instruct", 0.64),
            ("", "x", 0.0),
            ("tide", "diet", 0.25),
            ("diet", "tide", 0.5),
        ] {
            assert!((of(a, b) - expected).abs() < 1e-9, "{a} {b} {}", of(a, b));
        }
    }
}
