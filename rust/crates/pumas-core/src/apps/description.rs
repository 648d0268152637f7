//! The values of a description, read strictly from JSON.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::storage::paths::relative_path;

mod launch;
mod releases;
mod template;

pub use launch::{Launch, Ready};
pub use releases::{NewestPer, Package, PackageKind, Releases, this_platform};
use template::check_template;
pub use template::fill;

const LONGEST_ID: usize = 41;
const LONGEST_REASON: usize = 300;

/// Names of an app's state files, as older sidecars have them; empty ones follow from the app's id.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Files {
    versions: String,
    active: String,
    progress: String,
    releases: Vec<String>,
    pid: String,
}

/// A virtual environment in `venv`, with what the requirements file and `extra` name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Python {
    /// In the version's folder.
    #[serde(default = "usual_requirements")]
    pub requirements: String,
    /// Further packages.
    #[serde(default)]
    pub extra: Vec<String>,
    /// What the file lists below a comment that begins so may be missing.
    #[serde(default)]
    pub optional_after: String,
}

fn usual_requirements() -> String {
    "requirements.txt".to_owned()
}

/// A relative symbolic link in the version's folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetupLink {
    /// Its name.
    pub name: String,
    /// Where it leads, with placeholders.
    pub target: String,
    /// A missing target folder is made; otherwise a link without a target is left out.
    #[serde(default)]
    pub make: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Processes {
    contains: Vec<Vec<String>>,
}

/// Which models go to which folder below the app's models (`.`: itself). Empty lists do not restrict.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the words say it")]
pub struct MappingRule {
    pub name: String,
    pub target_subdir: String,
    #[serde(default = "all_names")]
    pub patterns: Vec<String>,
    #[serde(default)]
    pub model_types: Vec<String>,
    #[serde(default)]
    pub subtypes: Vec<String>,
    #[serde(default)]
    pub families: Vec<String>,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub exclude_tags: Vec<String>,
    #[serde(default)]
    pub priority: i64,
}

fn all_names() -> Vec<String> {
    vec!["*".to_owned()]
}

/// The folder of a version that takes models, and the rules that hold until the user writes others.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// In the version's folder.
    pub folder: String,
    /// In the order they are written.
    #[serde(default)]
    pub mappings: Vec<MappingRule>,
}

/// One app.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppDescription {
    /// Made of a-z, 0-9 and -.
    pub id: String,
    /// For people.
    pub name: String,
    /// Of its versions, below the launcher root.
    pub folder: String,
    /// Where releases are listed.
    pub releases: Releases,
    /// What a release brings.
    pub package: Package,
    /// How it is started.
    pub launch: Launch,
    /// One sentence.
    #[serde(default)]
    pub description: String,
    /// Its page.
    #[serde(default)]
    pub homepage: String,
    #[serde(default)]
    files: Files,
    /// None: it has no Python environment.
    #[serde(default)]
    pub python: Option<Python>,
    /// Links that a version's folder needs.
    #[serde(default)]
    pub links: Vec<SetupLink>,
    #[serde(default)]
    processes: Processes,
    /// None: it takes no models.
    #[serde(default)]
    pub models: Option<Models>,
    /// A folder of git clones in the version's folder.
    #[serde(default)]
    pub custom_nodes: Option<String>,
}

impl AppDescription {
    /// Reads a description strictly: no unknown keys, no odd types. `name` is the file's.
    ///
    /// # Errors
    /// `CorruptState`: it cannot be used, and why.
    pub fn read(name: &str, data: &[u8]) -> Result<Self> {
        let refused = |reason: String| Error::CorruptState {
            name: name.to_owned(),
            reason: crate::text::cut(&reason, LONGEST_REASON).to_owned(),
        };
        let mut app: Self = serde_json::from_slice(data).map_err(|error| refused(error.to_string()))?;
        app.check().map_err(refused)?;
        Ok(app)
    }

    fn check(&mut self) -> Result<(), String> {
        self.releases.check()?;
        self.package.check()?;
        let id = self.id.as_bytes();
        let is_id = id.first().is_some_and(u8::is_ascii_lowercase)
            && id.len() <= LONGEST_ID
            && id
                .iter()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-');
        if !is_id {
            return Err("id must be made of a-z, 0-9 and -".to_owned());
        }
        check_path(&self.folder, "folder")?;
        if let Some(nodes) = &self.custom_nodes {
            check_path(nodes, "folder")?;
        }
        let files = &self.files;
        let named = [&files.versions, &files.active, &files.progress, &files.pid];
        for name in named
            .into_iter()
            .chain(&files.releases)
            .filter(|name| !name.is_empty())
        {
            check_path(name, "files")?;
        }
        if let Some(python) = &self.python {
            check_path(&python.requirements, "python")?;
        }
        for link in &self.links {
            check_path(&link.name, "links")?;
            check_template(&link.target)?;
        }
        if let Some(models) = &self.models {
            check_path(&models.folder, "models")?;
            for rule in models.mappings.iter().filter(|rule| rule.target_subdir != ".") {
                check_path(&rule.target_subdir, "target_subdir")?;
            }
        }
        self.launch.check()
    }

    /// In `launcher-data/metadata`: what is installed.
    #[must_use]
    pub fn versions_file(&self) -> String {
        given(&self.files.versions, || format!("versions-{}.json", self.id))
    }

    /// In the root: which version is active.
    #[must_use]
    pub fn active_file(&self) -> String {
        given(&self.files.active, || format!(".active-version-{}", self.id))
    }

    /// In `launcher-data/cache`: how far an installation is.
    #[must_use]
    pub fn progress_file(&self) -> String {
        given(&self.files.progress, || {
            format!("installation-state-{}.json", self.id)
        })
    }

    /// In `launcher-data/cache`: lists of releases. The first is written, all are read.
    #[must_use]
    pub fn release_caches(&self) -> Vec<String> {
        if self.files.releases.is_empty() {
            let repository = self.releases.repository.replace('/', "-");
            return vec![format!("github-releases-{repository}.json")];
        }
        self.files.releases.clone()
    }

    /// In a version's folder.
    #[must_use]
    pub fn pid_file(&self) -> String {
        given(&self.files.pid, || format!("{}.pid", self.id))
    }

    /// Whether a process with this command line looks like one of the app's. Never a reason to end a process.
    #[must_use]
    pub fn looks_like(&self, command_line: &str) -> bool {
        let text = command_line.to_lowercase();
        let fits = |words: &Vec<String>| !words.is_empty() && words.iter().all(|word| text.contains(word));
        self.processes.contains.iter().any(fits)
    }
}

fn given(name: &str, usual: impl FnOnce() -> String) -> String {
    if name.is_empty() { usual() } else { name.to_owned() }
}

fn check_path(name: &str, field: &str) -> Result<(), String> {
    relative_path(name, field)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

#[cfg(test)]
pub(crate) mod tests;
