//! What a file's name tells of the set that it is a part of.

use std::sync::LazyLock;

use regex_lite::Regex;

use crate::hub::kinds;

/// A loader may run code from these.
const PICKLES: [&str; 4] = ["ckpt", "pt", "pth", "bin"];

static SHARD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"-\d{1,10}-of-\d{1,10}").ok());
static FRAMEWORK: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(?:pytorch|tf|flax|rust)_(model|lora|adapter)").ok());
static INDEX: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(.+)\.(safetensors|bin)\.index(?:\.([^.]+))?\.json$").ok());

pub(super) fn is_pickle(path: &str) -> bool {
    PICKLES.contains(&kinds::extension(path).as_str())
}

/// Whether a path fits a shell pattern; `*` and `?` stand for any characters, `/` too.
pub(super) fn fits(path: &str, pattern: &str) -> bool {
    let mut whole = String::from("^(?s:");
    for letter in pattern.chars() {
        match letter {
            '*' => whole.push_str(".*"),
            '?' => whole.push('.'),
            _ => whole.push_str(&regex_lite::escape(letter.encode_utf8(&mut [0; 4]))),
        }
    }
    whole.push_str(")$");
    Regex::new(&whole).is_ok_and(|pattern| pattern.is_match(path))
}

/// The name without shard numbers and extension, in lower case: equal for all parts of one set.
pub(super) fn base(name: &str) -> String {
    let plain = SHARD.as_ref().map_or_else(
        || name.to_owned(),
        |shard| shard.replace_all(name, "").into_owned(),
    );
    let stem = plain.to_lowercase();
    match stem.rsplit_once('.') {
        Some((base, _)) if !base.is_empty() => base.to_owned(),
        _ => stem,
    }
}

pub(super) fn is_shard(path: &str) -> bool {
    let name = kinds::split(path).1;
    let lowered = name.to_lowercase();
    base(name) != lowered.rsplit_once('.').map_or("", |(base, _)| base)
}

/// As `base`, and equal for the forms in which different frameworks save the same weights.
pub(super) fn twin(name: &str) -> String {
    let base = base(name);
    FRAMEWORK.as_ref().map_or_else(
        || base.clone(),
        |framework| framework.replace(&base, "$1").into_owned(),
    )
}

/// For an index of shards: (base, extension) of the set that it lists.
pub(super) fn indexed_set(name: &str) -> Option<(String, String)> {
    let lowered = name.to_lowercase();
    let found = INDEX.as_ref()?.captures(&lowered)?;
    let base = found.get(1)?.as_str();
    let base = found.get(3).map_or_else(
        || base.to_owned(),
        |variant| format!("{base}.{}", variant.as_str()),
    );
    Some((base, found.get(2)?.as_str().to_owned()))
}
