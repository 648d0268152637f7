//! Which files of a repository make the model that somebody wants.
//!
//! Is a file part of the form that was chosen: a quantisation, files by name, or by default everything that is not the same
//! weights once more? Nothing is fetched here and nothing joins a path.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

use indexmap::{IndexMap, IndexSet};
use regex_lite::Regex;

use super::contents::{Contents, shown};
use super::kinds::{self, Role};
use super::model::{HubFile, HubModel};
use crate::error::{Error, Result};
use crate::library::formats::quantization::parse_quantization;
use crate::library::formats::shards::detect_sharded_sets;
use crate::text::{cut, quoted};

/// What makes a repository a pipeline of diffusers: one folder per component.
pub(super) const PIPELINE_INDEX: &str = "model_index.json";
/// A loader may run code from these.
const PICKLES: [&str; 4] = ["ckpt", "pt", "pth", "bin"];
const SHOWN: usize = 40;

static SHARD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"-\d{1,10}-of-\d{1,10}").ok());
static FRAMEWORK: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(?:pytorch|tf|flax|rust)_(model|lora|adapter)").ok());
static INDEX: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(.+)\.(safetensors|bin)\.index(?:\.([^.]+))?\.json$").ok());
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

/// What to fetch.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// As the hub orders them.
    pub files: Vec<HubFile>,
    /// The label that was chosen or that all weights share.
    pub quant: Option<String>,
    /// The files' sizes together.
    pub total_bytes: u64,
    /// Projectors that could be named in addition.
    pub offered: Vec<String>,
    /// Files that cannot be used here, as they may be shown, and why.
    pub refused: IndexMap<String, String>,
}

impl Choice {
    /// The files that hold weights.
    pub fn weights(&self) -> impl Iterator<Item = &HubFile> {
        self.files
            .iter()
            .filter(|file| !kinds::format_of(&file.path).is_empty())
    }

    /// Files that can run code when an app loads them.
    pub fn pickles(&self) -> impl Iterator<Item = &str> {
        self.weights()
            .map(|file| file.path.as_str())
            .filter(|path| is_pickle(path))
    }
}

/// One way to take a repository.
#[derive(Debug, Clone)]
pub struct DownloadOption {
    /// `quant`, `all` (no quant given), `projector` or `file` (by its name).
    pub kind: &'static str,
    /// Which.
    pub quant: Option<String>,
    /// All paths that it fetches.
    pub files: Vec<String>,
    /// Those with weights.
    pub weights: Vec<String>,
    /// Bytes of all.
    pub size_bytes: u64,
}

/// The files for a quantisation, or for names (shell patterns allowed), or for both together; else all that count.
///
/// A quantisation brings the configuration and tokenizer files along; names bring only themselves and the other parts of
/// their sets.
///
/// # Errors
/// `InvalidInput`: there is nothing of the kind, or a set on the hub lacks parts; the message lists what there is.
pub fn choose(model: &HubModel, quant: Option<&str>, filenames: &[String]) -> Result<Choice> {
    let contents = contents_of(model);
    let quant = quant.filter(|quant| !quant.is_empty());
    let mut wanted: HashSet<String> = HashSet::new();
    if let Some(quant) = quant {
        wanted.extend(contents.of_quant(quant)?);
    }
    if !filenames.is_empty() {
        wanted.extend(contents.of_names(filenames)?);
    }
    if quant.is_none() && filenames.is_empty() {
        wanted.extend(contents.default_files()?);
    }
    let by_path: HashMap<&str, &HubFile> = model
        .files
        .iter()
        .map(|file| (file.path.as_str(), file))
        .collect();
    let chosen: Vec<HubFile> = contents
        .paths
        .iter()
        .filter(|path| wanted.contains(*path))
        .filter_map(|path| by_path.get(path.as_str()).map(|file| (*file).clone()))
        .collect();
    let weights = contents.weights_in(chosen.iter().map(|file| &file.path));
    require_complete(&weights)?;
    Ok(Choice {
        quant: match quant {
            Some(quant) => Some(contents.meant(quant)),
            None => contents.common_label(&weights),
        },
        total_bytes: chosen.iter().map(|file| file.size).sum(),
        offered: contents
            .of_role(Role::Projector)
            .into_iter()
            .filter(|path| !wanted.contains(path))
            .collect(),
        refused: refusals(model, &contents),
        files: chosen,
    })
}

pub(super) fn contents_of(model: &HubModel) -> Contents {
    let paths: Vec<String> = model.files.iter().map(|file| file.path.clone()).collect();
    Contents::new(&paths, &model.said.repo_id)
}

/// Every file of the repository that cannot be used here, as it may be shown, and why.
pub(super) fn refusals(model: &HubModel, contents: &Contents) -> IndexMap<String, String> {
    let odd = model
        .unusable
        .iter()
        .map(|path| (shown(path), "the hub gives no usable size or digest".to_owned()));
    contents.refused.clone().into_iter().chain(odd).collect()
}

/// The ways to take the repository, quantisations first and by bits; none when it holds no model file.
///
/// # Errors
/// None that the repository's own names could cause.
pub(super) fn options(model: &HubModel) -> Result<Vec<DownloadOption>> {
    let contents = contents_of(model);
    let sizes: HashMap<&str, u64> = model
        .files
        .iter()
        .map(|file| (file.path.as_str(), file.size))
        .collect();
    let option = |kind, quant: Option<String>, files: Vec<String>| DownloadOption {
        kind,
        quant,
        weights: contents.weights_in(files.iter()),
        size_bytes: files.iter().filter_map(|path| sizes.get(path.as_str())).sum(),
        files,
    };
    let label = |path: &str| Some(contents.label(path).to_owned()).filter(|label| !label.is_empty());
    if contents.usable_weights().is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for quant in contents.quants() {
        let files = contents.of_quant(&quant)?;
        found.push(option("quant", Some(quant), files));
    }
    found.push(option("all", None, contents.default_files()?));
    for path in contents.single_files() {
        found.push(option("file", label(&path), vec![path]));
    }
    for path in contents.of_role(Role::Projector) {
        found.push(option("projector", label(&path), vec![path]));
    }
    Ok(found)
}

impl Contents {
    fn of_role(&self, role: Role) -> Vec<String> {
        self.paths
            .iter()
            .filter(|path| self.role(path) == Some(role))
            .cloned()
            .collect()
    }

    fn weights_in<'a>(&self, paths: impl Iterator<Item = &'a String>) -> Vec<String> {
        let holds = |path: &&String| !matches!(self.role(path), None | Some(Role::Companion | Role::Helper));
        paths.filter(holds).cloned().collect()
    }

    /// The label that all of them share, projectors aside.
    fn common_label(&self, weights: &[String]) -> Option<String> {
        let own = weights
            .iter()
            .filter(|path| self.role(path) != Some(Role::Projector));
        let labels: BTreeSet<&str> = own.map(|path| self.label(path)).collect();
        let mut labels = labels.into_iter();
        match (labels.next(), labels.next()) {
            (Some(label), None) if !label.is_empty() => Some(label.to_owned()),
            _ => None,
        }
    }

    /// Weights of the frameworks that local apps use, or if there are none, those of any other.
    fn usable_weights(&self) -> Vec<String> {
        let weights = self.of_role(Role::Weights);
        if weights.is_empty() {
            self.of_role(Role::Foreign)
        } else {
            weights
        }
    }

    fn labelled_weights(&self) -> Vec<String> {
        [self.of_role(Role::Weights), self.of_role(Role::Foreign)].concat()
    }

    fn has_components(&self) -> bool {
        self.role(PIPELINE_INDEX).is_some()
            && self.of_role(Role::Weights).iter().any(|path| path.contains('/'))
    }

    /// Beside a pipeline: whole checkpoints at the root, the same model once more.
    fn single_files(&self) -> Vec<String> {
        if !self.has_components() {
            return Vec::new();
        }
        self.of_role(Role::Weights)
            .into_iter()
            .filter(|path| !path.contains('/'))
            .collect()
    }

    /// Everything, but no weights twice: one container, one framework, and the plain form where there is one.
    fn default_files(&self) -> Result<Vec<String>> {
        let mut weights = self.usable_weights();
        if self.has_components() {
            weights.retain(|path| path.contains('/'));
        }
        let weights = plain_forms(one_container(without_originals(weights)));
        if weights.is_empty() {
            let there = self.what_there_is();
            let reason = format!("names a repository without a model file that we know{there}");
            return Err(Error::invalid("repo_id", reason));
        }
        Ok(self.with_companions(&weights))
    }

    /// The files of one quantisation and what belongs beside them.
    fn of_quant(&self, quant: &str) -> Result<Vec<String>> {
        let wanted = self.meant(quant);
        let mut weights: Vec<String> = self
            .labelled_weights()
            .into_iter()
            .filter(|path| self.label(path) == wanted)
            .collect();
        if weights.is_empty() {
            let there = self.what_there_is();
            let reason = format!(
                "{} is not among what the repository holds{there}",
                quoted(quant, 60)
            );
            return Err(Error::invalid("quant", reason));
        }
        if self.has_components() {
            weights = self.whole_pipeline(weights);
        }
        Ok(self.with_companions(&one_container(weights)))
    }

    /// The label that a caller's spelling stands for: `Q4_K_M`, `fp16` for `f16`, a `UD-` mix without that mark.
    fn meant(&self, quant: &str) -> String {
        let known = self.quants();
        let asked = quant.trim().to_lowercase().replace('-', "_");
        let parsed =
            parse_quantization(&format!("{asked}.gguf")).map_or_else(|| asked.clone(), |found| found.label());
        let mut spellings = vec![asked.clone(), parsed];
        let others: Vec<String> = spellings
            .iter()
            .filter_map(|text| same(text))
            .map(str::to_owned)
            .collect();
        spellings.extend(others);
        let mixes: Vec<String> = spellings.iter().map(|text| format!("ud_{text}")).collect();
        spellings.extend(mixes);
        spellings
            .into_iter()
            .find(|text| known.contains(text))
            .unwrap_or(asked)
    }

    /// The named files and the other parts of their sets.
    fn of_names(&self, names: &[String]) -> Result<Vec<String>> {
        let mut found: HashSet<&str> = HashSet::new();
        for name in names.iter().collect::<IndexSet<_>>() {
            let exact = self.paths.iter().filter(|path| *path == name);
            let mut matching: Vec<&String> = exact.collect();
            if matching.is_empty() {
                matching = self.paths.iter().filter(|path| fits(path, name)).collect();
            }
            if matching.is_empty() {
                let safe = shown(name);
                let listed = listed(self.labelled_weights().iter().map(|path| shown(path)));
                let there = format!("fits no file of the repository; there is {listed}");
                let why = self.refused.get(&safe).cloned().unwrap_or(there);
                return Err(Error::invalid(
                    "filenames",
                    format!("{} {why}", quoted(&safe, 200)),
                ));
            }
            found.extend(matching.into_iter().map(String::as_str));
        }
        let key = |path: &str| {
            (
                kinds::split(path).0.to_owned(),
                base(path),
                kinds::extension(path),
            )
        };
        let sets: HashSet<_> = found
            .iter()
            .filter(|path| is_shard(path))
            .map(|path| key(path))
            .collect();
        let wanted =
            |path: &&String| found.contains(path.as_str()) || (is_shard(path) && sets.contains(&key(path)));
        Ok(self.paths.iter().filter(wanted).cloned().collect())
    }

    /// A component that does not come in the wanted precision is taken as it is.
    fn whole_pipeline(&self, weights: Vec<String>) -> Vec<String> {
        let folders: HashSet<String> = weights
            .iter()
            .map(|path| kinds::split(path).0.to_owned())
            .collect();
        let inside: Vec<String> = weights
            .iter()
            .filter(|path| path.contains('/'))
            .cloned()
            .collect();
        if inside.is_empty() {
            return weights;
        }
        let other = |path: &String| path.contains('/') && !folders.contains(kinds::split(path).0);
        let others = self.of_role(Role::Weights).into_iter().filter(other).collect();
        [inside, plain_forms(one_container(others))].concat()
    }

    /// Add configuration and tokenizers: those beside chosen weights, and those in folders without any weights.
    fn with_companions(&self, weights: &[String]) -> Vec<String> {
        let folder = |path: &String| kinds::split(path).0.to_owned();
        let with_weights: HashSet<String> = self.labelled_weights().iter().map(folder).collect();
        let mut chosen: HashSet<String> = weights.iter().map(folder).collect();
        chosen.insert(String::new());
        let others: HashSet<&String> = with_weights.difference(&chosen).collect();
        let sets: HashSet<(String, String, String)> = weights
            .iter()
            .map(|path| (folder(path), base(kinds::split(path).1), kinds::extension(path)))
            .collect();
        let belongs = |path: &String| {
            let (folder, name) = kinds::split(path);
            if let Some((base, suffix)) = indexed_set(name) {
                return sets.contains(&(folder.to_owned(), base, suffix));
            }
            let parents = folder.match_indices('/').map(|(at, _)| &folder[..at]);
            let mut above = parents.chain([folder]);
            chosen.contains(folder) || !above.any(|folder| others.contains(&folder.to_owned()))
        };
        let taken: HashSet<&String> = weights.iter().collect();
        let wanted = |path: &&String| {
            taken.contains(path) || (self.role(path) == Some(Role::Companion) && belongs(path))
        };
        self.paths.iter().filter(wanted).cloned().collect()
    }

    fn what_there_is(&self) -> String {
        let quants = self.quants();
        if !quants.is_empty() {
            return format!("; there is {}", listed(quants.into_iter()));
        }
        let weights = [self.usable_weights(), self.of_role(Role::Projector)].concat();
        if weights.is_empty() {
            String::new()
        } else {
            format!("; there is {}", listed(weights.iter().map(|path| shown(path))))
        }
    }
}

fn is_pickle(path: &str) -> bool {
    PICKLES.contains(&kinds::extension(path).as_str())
}

/// Another spelling of the same storage type.
fn same(token: &str) -> Option<&'static str> {
    match token {
        "fp16" => Some("f16"),
        "f16" | "float16" => Some("fp16"),
        "fp32" => Some("f32"),
        "f32" | "float32" => Some("fp32"),
        _ => None,
    }
}

fn listed(words: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = words.collect();
    let more = if items.len() > SHOWN {
        format!(" and {} more", items.len() - SHOWN)
    } else {
        String::new()
    };
    items[..items.len().min(SHOWN)].join(", ") + &more
}

/// Whether a path fits a shell pattern; `*` and `?` stand for any characters, `/` too.
fn fits(path: &str, pattern: &str) -> bool {
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
fn base(name: &str) -> String {
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

fn is_shard(path: &str) -> bool {
    let name = kinds::split(path).1;
    let lowered = name.to_lowercase();
    base(name) != lowered.rsplit_once('.').map_or("", |(base, _)| base)
}

/// As `base`, and equal for the forms in which different frameworks save the same weights.
fn twin(name: &str) -> String {
    let base = base(name);
    FRAMEWORK.as_ref().map_or_else(
        || base.clone(),
        |framework| framework.replace(&base, "$1").into_owned(),
    )
}

/// For an index of shards: (base, extension) of the set that it lists.
fn indexed_set(name: &str) -> Option<(String, String)> {
    let lowered = name.to_lowercase();
    let found = INDEX.as_ref()?.captures(&lowered)?;
    let base = found.get(1)?.as_str();
    let base = found.get(3).map_or_else(
        || base.to_owned(),
        |variant| format!("{base}.{}", variant.as_str()),
    );
    Some((base, found.get(2)?.as_str().to_owned()))
}

/// Without the publisher's own form (`original/`, `consolidated…`) of weights that are there in the usual one.
fn without_originals(weights: Vec<String>) -> Vec<String> {
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
fn one_container(weights: Vec<String>) -> Vec<String> {
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
fn plain_forms(mut weights: Vec<String>) -> Vec<String> {
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

fn require_complete(weights: &[String]) -> Result<()> {
    for group in detect_sharded_sets(weights).into_values() {
        if !group.validation.complete {
            let reason = if group.validation.error.is_empty() {
                "parts are missing"
            } else {
                &group.validation.error
            };
            let first = shown(&group.files[0]);
            return Err(Error::invalid(
                "filenames",
                format!("{}: on the hub, {reason}", cut(&first, 300)),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(paths: &[&str]) -> HubModel {
        let files = paths.iter().map(|path| HubFile {
            path: (*path).to_owned(),
            size: 10,
            git_oid: "a".repeat(40),
            sha256: None,
        });
        let empty = serde_json::Map::new();
        HubModel {
            said: super::super::model::Described {
                repo_id: "acme/Lumen".to_owned(),
                ..Default::default()
            },
            files: files.collect(),
            unusable: Vec::new(),
            private: false,
            card: empty.clone(),
            config: empty.clone(),
            gguf: empty.clone(),
            parameters: empty,
        }
    }

    fn chosen(paths: &[&str], quant: Option<&str>, names: &[&str]) -> Vec<String> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let choice = choose(&model(paths), quant, &names);
        choice.map_or_else(
            |error| vec![error.to_string()],
            |choice| choice.files.into_iter().map(|file| file.path).collect(),
        )
    }

    #[test]
    fn no_weights_are_taken_twice() {
        let all = [
            "config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "model.fp16.safetensors",
            "tf_model.h5",
            "README.md",
        ];
        assert_eq!(chosen(&all, None, &[]), ["config.json", "model.safetensors"]);
    }

    #[test]
    fn quantisations_and_names_choose() {
        let all = [
            "m-Q4_K_M.gguf",
            "m-Q8_0-00001-of-00002.gguf",
            "m-Q8_0-00002-of-00002.gguf",
            "mmproj-f16.gguf",
        ];
        assert_eq!(chosen(&all, Some("q4-k-m"), &[]), ["m-Q4_K_M.gguf"]);
        assert_eq!(chosen(&all, None, &["*00001*"]), all[1..3]);
        let missing = chosen(&all, Some("q2"), &[]);
        assert_eq!(
            missing,
            ["quant: 'q2' is not among what the repository holds; there is q4_k_m, q8_0"]
        );
        let kinds: Vec<&str> = options(&model(&all))
            .unwrap()
            .into_iter()
            .map(|option| option.kind)
            .collect();
        assert_eq!(kinds, ["quant", "quant", "all", "projector"]);
    }

    #[test]
    fn a_pipeline_is_taken_whole() {
        let all = [
            "model_index.json",
            "unet/m.safetensors",
            "unet/m.fp16.safetensors",
            "vae/m.safetensors",
            "sd.safetensors",
        ];
        assert_eq!(
            chosen(&all, None, &[]),
            ["model_index.json", "unet/m.safetensors", "vae/m.safetensors"]
        );
        assert_eq!(
            chosen(&all, Some("fp16"), &[]),
            ["model_index.json", "unet/m.fp16.safetensors", "vae/m.safetensors"]
        );
    }
}
