//! What a file in a repository is for, from its path alone: weights, something that belongs beside them, or neither.
//!
//! Lists of what is taken, not of what is left out: a repository may hold anything.

use std::sync::LazyLock;

use regex_lite::Regex;

use crate::library::formats::quantization::parse_quantization;

/// What a file is for. `Foreign` weights are the same model for another framework; a `Helper` stays on the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A model's.
    Weights,
    /// The same for another framework.
    Foreign,
    /// Lets a model see or hear.
    Projector,
    /// Configuration, tokenizer, terms.
    Companion,
    /// Everything else.
    Helper,
}

impl Role {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Foreign => "foreign",
            Self::Projector => "projector",
            Self::Companion => "companion",
            Self::Helper => "helper",
        }
    }
}

/// Extension -> the format's name in search results.
static NATIVE: &[(&str, &str)] = &[
    ("safetensors", "safetensors"),
    ("sft", "safetensors"),
    ("gguf", "gguf"),
    ("ggml", "ggml"),
    ("ckpt", "ckpt"),
    ("pt", "pt"),
    ("pth", "pth"),
    ("bin", "bin"),
];
static FOREIGN: &[(&str, &str)] = &[
    ("onnx", "onnx"),
    ("onnx_data", "onnx"),
    ("tflite", "tflite"),
    ("mlmodel", "mlmodel"),
    ("pb", "pb"),
    ("h5", "h5"),
    ("msgpack", "msgpack"),
    ("ot", "ot"),
    ("task", "task"),
    ("litertlm", "litertlm"),
    ("engine", "engine"),
];
static COMPANION: &[&str] = &[
    "bpe", "codes", "jinja", "json", "jsonl", "merges", "model", "npy", "npz", "params", "py", "spm",
    "template", "tiktoken", "toml", "txt", "vocab", "wts", "yaml", "yml",
];
/// Terms travel with the weights; the other three are Ollama's.
static COMPANION_NAMES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^(?:(?:licen[cs]e|notice|use_policy)[^/]*|modelfile|template|params)$").ok()
});
/// Left behind by training and quantising, or read by people alone.
static HELPERS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^(?:readme.*|\.git.*|.*\.(?:md|png|jpe?g|gif|webp|svg|bmp|pdf|mp4|webm|mov|wav|mp3|flac|ipynb|log|html?|csv|tsv|parquet|arrow|zip|tar|gz|7z|sh|bat|ps1|c|cpp|h|exe|dll|so|lock|imatrix|dat|gguf_file|gguf\.part.*|out|tmp|part|incomplete|metadata|aria2|crdownload|download|pumas-tmp|bak)|(?:optimizer|scheduler|scaler|rng_state|training_args|random_states|zero_pp_rank|mp_rank|global_step|trainer_state|all_results|train_results|eval_results|runs|events\.out)[-_.\d]*.*\.?(?:pt|pth|bin|json|safetensors|pkl|txt)?|.*(?:imatrix|importance_matrix).*|requirements.*\.txt|setup\.py|thumbs\.db|desktop\.ini|\.ds_store|(?:results|measurement|benchmark.*|test_.*|example.*|sample.*)\.(?:json|txt|py))$").ok()
});
static NOT_HELPERS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(?:scheduler_config\.json|tokenizer.*|preprocessor_config\.json)$").ok());
static OPENVINO: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(?:openvino.*\.(?:bin|xml))$").ok());

fn is_all(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

/// (folder, file name)
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Lower case, without its dot; `""` when there is none. External data of ONNX files counts as one kind.
pub(super) fn extension(name: &str) -> String {
    let lowered = name.to_lowercase();
    let suffix = lowered.rsplit_once('.').map_or("", |(_, suffix)| suffix);
    if suffix.starts_with("onnx_data") || lowered.ends_with(".onnx.data") {
        "onnx_data".to_owned()
    } else {
        suffix.to_owned()
    }
}

/// What the file is, by its name. A hidden file or folder is a helper.
pub(super) fn role(path: &str) -> Role {
    let lowered = path.to_lowercase();
    let (_, name) = split(&lowered);
    let suffix = extension(name);
    let first = lowered.split('/').next().unwrap_or_default();
    if lowered.split('/').any(|part| part.starts_with('.'))
        || matches!(first, "runs" | "logs" | "assets" | "images")
    {
        return Role::Helper;
    }
    if is_all(&COMPANION_NAMES, name) {
        return Role::Companion;
    }
    if is_all(&HELPERS, name) && !is_all(&NOT_HELPERS, name) {
        return Role::Helper;
    }
    if suffix == "gguf" && is_projector(name) {
        return Role::Projector;
    }
    if FOREIGN.iter().any(|(known, _)| *known == suffix) || is_all(&OPENVINO, name) {
        return Role::Foreign;
    }
    if NATIVE.iter().any(|(known, _)| *known == suffix) {
        return Role::Weights;
    }
    if COMPANION.contains(&suffix.as_str()) {
        Role::Companion
    } else {
        Role::Helper
    }
}

fn is_projector(name: &str) -> bool {
    let edge = |letter: Option<char>| letter.is_none_or(|letter| "-_.".contains(letter));
    let word = "projector";
    name.contains("mmproj")
        || name.match_indices(word).any(|(at, _)| {
            edge(name[..at].chars().next_back()) && edge(name[at + word.len()..].chars().next())
        })
}

/// The format's name in search results, `""` for a file without weights.
pub(super) fn format_of(path: &str) -> &'static str {
    if !matches!(role(path), Role::Weights | Role::Foreign | Role::Projector) {
        return "";
    }
    let suffix = extension(path);
    NATIVE
        .iter()
        .chain(FOREIGN)
        .find(|(known, _)| *known == suffix)
        .map_or("", |(_, format)| format)
}

/// The quantisation that the path names, as it tells files of one repository apart; `""` when it names none.
pub(super) fn label(path: &str) -> String {
    parse_quantization(path)
        .map(|found| found.label())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_names() {
        assert!(
            HELPERS.is_some() && COMPANION_NAMES.is_some() && NOT_HELPERS.is_some() && OPENVINO.is_some()
        );
        for (path, expected) in [
            ("model.safetensors", Role::Weights),
            ("onnx/model.onnx_data", Role::Foreign),
            ("mmproj-model-f16.gguf", Role::Projector),
            ("tokenizer.json", Role::Companion),
            ("LICENSE.md", Role::Companion),
            ("README.md", Role::Helper),
            ("optimizer.pt", Role::Helper),
            ("scheduler/scheduler_config.json", Role::Companion),
            (".gitattributes", Role::Helper),
            ("runs/model.safetensors", Role::Helper),
            ("openvino_model.bin", Role::Foreign),
        ] {
            assert_eq!(role(path), expected, "{path}");
        }
        assert_eq!(
            (
                format_of("a/M.GGUF"),
                format_of("tf_model.h5"),
                format_of("x.json")
            ),
            ("gguf", "h5", "")
        );
    }
}
