//! Of what kind a folder is that the user names, and which of the places where programs keep models exist.
//!
//! The programs' own rules are in `programs`. What lies in a store is not known here.

use std::fs;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::adoption::found::StoreKind;
use crate::adoption::programs::{RULES, Surroundings};
use crate::storage::paths::resolved;

const MAX_LOCATIONS: usize = 200;

/// Where a store is; `path` is absolute, its links resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Whose form it has.
    pub kind: StoreKind,
    /// Its root.
    pub path: String,
}

/// The stores that exist where programs put them by themselves.
#[must_use]
pub fn known_locations(around: &Surroundings) -> Vec<Location> {
    let mut found: IndexMap<String, Location> = IndexMap::new();
    for (kind, rule) in RULES {
        for path in rule(around) {
            if let Some(location) = location(kind, &path) {
                found.entry(location.path.clone()).or_insert(location);
            }
        }
    }
    found.into_values().take(MAX_LOCATIONS).collect()
}

fn location(kind: StoreKind, path: &Path) -> Option<Location> {
    let real = fs::canonicalize(path).ok()?;
    let path = real.to_str()?.to_owned();
    real.is_dir().then_some(Location { kind, path })
}

/// A kind, folders of which one must be there, and where the store is then.
type Form = (StoreKind, &'static [&'static str], &'static [&'static str]);

const FORMS: [Form; 6] = [
    (
        StoreKind::Pumas,
        &["shared-resources/models"],
        &["shared-resources/models"],
    ),
    (StoreKind::Ollama, &["manifests"], &["."]),
    (StoreKind::Ollama, &["models/manifests"], &["models"]),
    (
        StoreKind::Ollama,
        &[".ollama/models/manifests"],
        &[".ollama/models"],
    ),
    (
        StoreKind::Comfyui,
        &["models/checkpoints", "models/loras", "models/diffusion_models"],
        &["models"],
    ),
    (
        StoreKind::Webui,
        &["models/Stable-diffusion", "models/Lora"],
        &["models", "embeddings"],
    ),
];

/// The stores in a folder that the user named: itself, or those that it is known to contain.
#[must_use]
pub fn locations_in(folder: &Path) -> Vec<Location> {
    // Of two forms that fit one folder the later says what it is.
    let mut found = IndexMap::new();
    for (kind, marks, inside) in FORMS {
        if marks.iter().any(|mark| folder.join(mark).is_dir()) {
            for location in inside
                .iter()
                .filter_map(|path| location(kind, &folder.join(path)))
            {
                found.insert(location.path.clone(), location);
            }
        }
    }
    let hub = folder.join("hub");
    if kind_of_tree(&hub) == StoreKind::Huggingface {
        let location = as_it_is(StoreKind::Huggingface, &hub);
        found.insert(location.path.clone(), location);
    }
    if found.is_empty() {
        return vec![as_it_is(kind_of_tree(folder), folder)];
    }
    found.into_values().collect()
}

fn as_it_is(kind: StoreKind, folder: &Path) -> Location {
    let path = resolved(folder).to_string_lossy().into_owned();
    Location { kind, path }
}

fn kind_of_tree(folder: &Path) -> StoreKind {
    let paths = folders(folder);
    let names: Vec<&str> = paths
        .iter()
        .filter_map(|path| path.file_name()?.to_str())
        .collect();
    let any = |wanted: [&str; 2]| wanted.iter().any(|name| names.contains(name));
    let above = folder.parent().and_then(Path::file_name);
    if names.iter().any(|name| name.starts_with("models--")) {
        StoreKind::Huggingface
    } else if any(["checkpoints", "loras"]) {
        StoreKind::Comfyui
    } else if any(["Stable-diffusion", "Lora"]) {
        StoreKind::Webui
    } else if above.is_some_and(|name| name == ".lmstudio" || name == "lm-studio") {
        StoreKind::LmStudio
    } else {
        StoreKind::Folder
    }
}

/// The folders in a folder, sorted; none when it cannot be read.
#[must_use]
pub fn folders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> = paths.filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(folders: &[&str], expected: &[(StoreKind, &str)]) {
        let place = tempfile::tempdir().unwrap();
        let top = place.path().canonicalize().unwrap().join("top");
        for folder in folders {
            fs::create_dir_all(top.join(folder)).unwrap();
        }
        let found = locations_in(&top);
        let shown: Vec<(StoreKind, &str)> = found
            .iter()
            .map(|one| {
                let below = one.path.strip_prefix(top.to_str().unwrap()).unwrap();
                (one.kind, below.trim_start_matches('/'))
            })
            .collect();
        assert_eq!(shown, expected, "{folders:?}");
    }

    #[test]
    fn the_kind_of_a_named_folder() {
        check(&["a/b"], &[(StoreKind::Folder, "")]);
        check(&["models--a--b"], &[(StoreKind::Huggingface, "")]);
        check(&["hub/models--a--b"], &[(StoreKind::Huggingface, "hub")]);
        check(&["manifests", "blobs"], &[(StoreKind::Ollama, "")]);
        check(
            &[".ollama/models/manifests"],
            &[(StoreKind::Ollama, ".ollama/models")],
        );
        check(&["loras"], &[(StoreKind::Comfyui, "")]);
        check(&["Lora"], &[(StoreKind::Webui, "")]);
        check(
            &["models/Lora", "embeddings"],
            &[(StoreKind::Webui, "models"), (StoreKind::Webui, "embeddings")],
        );
        check(&["models/loras", "models/Lora"], &[(StoreKind::Webui, "models")]);
        check(
            &["shared-resources/models", "manifests"],
            &[
                (StoreKind::Pumas, "shared-resources/models"),
                (StoreKind::Ollama, ""),
            ],
        );
    }
}
