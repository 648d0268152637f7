//! Where an app's releases are listed, which of them count, and what one of them brings for this machine.

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde::Deserialize;

use super::check_path;
use crate::apps::glob;

/// Such as `linux-x86_64`: the key of [`Package::assets`].
#[must_use]
pub fn this_platform() -> String {
    let machine = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}-{machine}", std::env::consts::OS)
}

/// Which of the releases are offered.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum NewestPer {
    /// The highest of each major.minor.
    Minor,
    /// All.
    #[default]
    Release,
}

/// Where releases are listed: a GitHub repository, and the tags that count.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Releases {
    /// `owner/name`.
    pub repository: String,
    #[serde(default = "usual_tag")]
    tag: String,
    /// Which are offered.
    #[serde(default)]
    pub newest_per: NewestPer,
    /// At most so many pages of 100 are read.
    #[serde(default = "usual_pages")]
    pub pages: u32,
    #[serde(skip)]
    pattern: Option<Regex>,
}

fn usual_tag() -> String {
    r"v?(?P<version>\d.*)".to_owned()
}

fn usual_pages() -> u32 {
    10
}

impl Releases {
    /// The version inside a tag; None when the tag is none of an app's release.
    #[must_use]
    pub fn version_text<'a>(&self, tag: &'a str) -> Option<&'a str> {
        let found = self.pattern.as_ref()?.captures(tag)?;
        found.name("version").map(|version| version.as_str())
    }

    pub(super) fn check(&mut self) -> Result<(), String> {
        let is_name = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name
                    .chars()
                    .all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'))
        };
        if !self
            .repository
            .split_once('/')
            .is_some_and(|(owner, name)| is_name(owner) && is_name(name))
        {
            return Err("repository must be owner/name".to_owned());
        }
        let pattern = Regex::new(&format!("(?i)^(?:{})$", self.tag))
            .map_err(|_| "tag must be a regular expression".to_owned())?;
        if !pattern.capture_names().flatten().any(|name| name == "version") {
            return Err("tag must have a group named version".to_owned());
        }
        self.pattern = Some(pattern);
        Ok(())
    }
}

/// What a release brings.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum PackageKind {
    /// The archive of the repository.
    Source,
    /// The asset for this machine.
    Bundle,
}

/// What a release brings, and what must be there once it is installed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Source or asset.
    pub kind: PackageKind,
    /// What must be in a version's folder; `a|b` means either.
    pub complete: Vec<String>,
    /// Platform -> shell patterns of asset names, best first.
    #[serde(default)]
    pub assets: BTreeMap<String, Vec<String>>,
    /// The places where the program may lie in the version's folder.
    #[serde(default)]
    pub programs: Vec<String>,
}

impl Package {
    /// The asset for this machine; None when the release has none for it.
    #[must_use]
    pub fn choose<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        let patterns = self.assets.get(&this_platform())?;
        patterns
            .iter()
            .find_map(|pattern| names.iter().find(|name| glob::matches(pattern, name)).copied())
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for name in self
            .complete
            .iter()
            .chain(&self.programs)
            .flat_map(|choice| choice.split('|'))
        {
            check_path(name, "package")?;
        }
        if self.complete.is_empty() {
            return Err("complete must name at least one file".to_owned());
        }
        if self.kind == PackageKind::Bundle && (self.assets.is_empty() || self.programs.is_empty()) {
            return Err("a bundle needs assets and programs".to_owned());
        }
        Ok(())
    }
}
