//! The forms in which a repository's files can be taken: everything once, one quantisation, files by their names.

use std::collections::{BTreeSet, HashMap, HashSet};

use indexmap::{IndexMap, IndexSet};

use super::names::{base, fits, indexed_set, is_shard};
use super::twice::{one_container, plain_forms, without_originals};
use crate::error::{Error, Result};
use crate::hub::contents::{Contents, shown};
use crate::hub::kinds::{self, Role};
use crate::library::formats::identify::CONFIGURATIONS;
use crate::library::formats::quantization::{marks, parse_quantization};
use crate::library::formats::shards::PIPELINE_INDEX;
use crate::text::quoted;

const SHOWN: usize = 40;
const ADAPTER: &str = "adapter_config.json";
const MOST_BY_NAME: usize = 500;

impl Contents {
    pub(super) fn of_role(&self, role: Role) -> Vec<String> {
        self.paths
            .iter()
            .filter(|path| self.role(path) == Some(role))
            .cloned()
            .collect()
    }

    pub(in crate::hub) fn weights_in<'a>(&self, paths: impl Iterator<Item = &'a String>) -> Vec<String> {
        let holds = |path: &&String| !matches!(self.role(path), None | Some(Role::Companion | Role::Helper));
        paths.filter(holds).cloned().collect()
    }

    /// The label that all of them share, projectors aside.
    pub(super) fn common_label(&self, weights: &[String]) -> Option<String> {
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
    pub(super) fn usable_weights(&self) -> Vec<String> {
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

    /// Whole models that no quantisation brings alone, as it has no label or shares it; each with all of its parts.
    ///
    /// Beside a pipeline these are checkpoints at the root, the same model once more. Where a configuration tells of one
    /// model, other weights than GGUF files are parts of it.
    pub(super) fn taken_by_name(&self) -> Vec<Vec<String>> {
        let weights = self.of_role(Role::Weights);
        if self.has_components() {
            let whole = weights.into_iter().filter(|path| !path.contains('/'));
            return whole.map(|path| vec![path]).collect();
        }
        let of_one_model = CONFIGURATIONS
            .iter()
            .chain([&ADAPTER])
            .any(|name| self.role(name).is_some());
        let mut models: IndexMap<_, Vec<String>> = IndexMap::new();
        for path in weights {
            if kinds::extension(&path) == "gguf" || !of_one_model {
                models.entry(set_of(&path)).or_default().push(path);
            }
        }
        if models.len() < 2 {
            return Vec::new();
        }
        let mut labels: HashMap<&str, usize> = HashMap::new();
        for paths in models.values() {
            *labels.entry(self.label(&paths[0])).or_default() += 1;
        }
        let alone = |paths: &&Vec<String>| {
            let label = self.label(&paths[0]);
            label.is_empty() || labels[label] > 1
        };
        models
            .values()
            .filter(alone)
            .take(MOST_BY_NAME)
            .cloned()
            .collect()
    }

    /// Everything, but no weights twice: one container, one framework, and the plain form where there is one.
    pub(super) fn default_files(&self) -> Result<Vec<String>> {
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
    pub(super) fn of_quant(&self, quant: &str) -> Result<Vec<String>> {
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
    pub(super) fn meant(&self, quant: &str) -> String {
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
        let mixes: Vec<String> = marks()
            .flat_map(|mark| spellings.iter().map(move |text| format!("{mark}_{text}")))
            .collect();
        spellings.extend(mixes);
        spellings
            .into_iter()
            .find(|text| known.contains(text))
            .unwrap_or(asked)
    }

    /// The named files and the other parts of their sets.
    pub(super) fn of_names(&self, names: &[String]) -> Result<Vec<String>> {
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
        let sets: HashSet<_> = found
            .iter()
            .filter(|path| is_shard(path))
            .map(|path| set_of(path))
            .collect();
        let wanted = |path: &&String| {
            found.contains(path.as_str()) || (is_shard(path) && sets.contains(&set_of(path)))
        };
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

/// Equal for the parts of one set: folder, name without its number, extension.
fn set_of(path: &str) -> (String, String, String) {
    let (folder, _) = kinds::split(path);
    (folder.to_owned(), base(path), kinds::extension(path))
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
