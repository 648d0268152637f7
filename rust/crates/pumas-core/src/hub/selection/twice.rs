//! Weights that a repository holds twice: in the publisher's own form, as pickles, in further precisions.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use regex_lite::Regex;

use super::names::{base, is_pickle, twin};
use crate::hub::kinds;
use crate::library::formats::quantization::parse_quantization;

static LONG_WORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[a-z]{5,}").ok());
const VARIANTS: [&str; 7] = [
    "non_ema",
    "ema",
    "quantized",
    "no_variant",
    "fp16",
    "fp32",
    "bf16",
];

/// Without the publisher's own form (`original/`, `consolidated…`) of weights that are there in the usual one.
pub(super) fn without_originals(weights: Vec<String>) -> Vec<String> {
    let is_original = |path: &String| {
        let lowered = path.to_lowercase();
        let (folder, name) = kinds::split(&lowered);
        folder.split('/').next() == Some("original") || name.starts_with("consolidated")
    };
    let usual: Vec<String> = weights
        .iter()
        .filter(|path| !is_original(path))
        .cloned()
        .collect();
    let covered = usual.iter().any(|path| kinds::extension(path) == "safetensors");
    if covered { usual } else { weights }
}

/// Without pickles whose weights the same folder also holds as safetensors.
pub(super) fn one_container(weights: Vec<String>) -> Vec<String> {
    let key = |path: &String| {
        let (folder, name) = kinds::split(path);
        (folder.to_owned(), twin(name))
    };
    let safe: HashSet<_> = weights
        .iter()
        .filter(|path| kinds::extension(path) == "safetensors")
        .map(key)
        .collect();
    weights
        .into_iter()
        .filter(|path| !is_pickle(path) || !safe.contains(&key(path)))
        .collect()
}

/// Without variants (`model.fp16`, `model_q4`) of weights that the same folder holds plainly.
pub(super) fn plain_forms(mut weights: Vec<String>) -> Vec<String> {
    let place = |path: &str| {
        let suffix = kinds::extension(path);
        (
            kinds::split(path).0.to_owned(),
            if suffix == "onnx_data" {
                "onnx".to_owned()
            } else {
                suffix
            },
        )
    };
    let mut beside: HashMap<(String, String), HashSet<String>> = HashMap::new();
    for path in &weights {
        beside
            .entry(place(path))
            .or_default()
            .insert(base(kinds::split(path).1));
    }
    let is_variant = |path: &String| {
        let own = base(kinds::split(path).1);
        let near = beside.get(&place(path));
        near.is_some_and(|near| near.iter().any(|plain| is_variant_of(&own, plain)))
    };
    weights.retain(|path| !is_variant(path));
    weights
}

/// Whether the one base name is the other with a precision behind it: `model.fp16` and `model`.
fn is_variant_of(candidate: &str, plain: &str) -> bool {
    let Some(rest) = candidate
        .strip_prefix(plain)
        .and_then(|rest| rest.strip_prefix(['.', '-', '_']))
    else {
        return false;
    };
    if plain.is_empty() || VARIANTS.contains(&rest) {
        return !plain.is_empty();
    }
    let words = rest.replace("quant", "");
    parse_quantization(rest).is_some() && !LONG_WORD.as_ref().is_some_and(|word| word.is_match(&words))
}
