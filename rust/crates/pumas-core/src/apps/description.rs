//! The values of a description, read strictly from JSON.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use regex_lite::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::glob;
use crate::error::{Error, Result};
use crate::storage::paths::relative_path;

const PLACEHOLDERS: [&str; 7] = ["folder", "host", "models", "port", "program", "python", "shared"];
const LONGEST_ID: usize = 41;
const LONGEST_REASON: usize = 300;

/// Such as `linux-x86_64`: the key of [`Package::assets`].
#[must_use]
pub fn this_platform() -> String {
    let machine = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}-{machine}", std::env::consts::OS)
}

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

    fn check(&mut self) -> Result<(), String> {
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

    fn check(&self) -> Result<(), String> {
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

/// How a running app shows that it is there: GET `path` answers 200, and where `field` is given, with a JSON object that
/// has it (`a.b` goes inside), `equals` that.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ready {
    /// What is asked for.
    pub path: String,
    field: String,
    equals: String,
    header: String,
    /// Seconds that it may take.
    pub timeout_s: f64,
}

impl Default for Ready {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            field: String::new(),
            equals: String::new(),
            header: String::new(),
            timeout_s: 60.0,
        }
    }
}

impl Ready {
    /// Whether such an answer (`body`: its JSON, `Null` when it is none) shows that the app is ready.
    #[must_use]
    pub fn accepts(&self, status: u16, has_header: impl Fn(&str) -> bool, body: &Value) -> bool {
        if status != 200 || (!self.header.is_empty() && !has_header(&self.header)) {
            return false;
        }
        let mut at = body;
        for name in self.field.split('.').filter(|name| !name.is_empty()) {
            match at.get(name) {
                Some(inner) if at.is_object() => at = inner,
                _ => return false,
            }
        }
        self.equals.is_empty() || at == &self.equals
    }
}

/// How it is started, in the version's folder, with placeholders.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// The words of the command.
    pub command: Vec<String>,
    /// What it uses by itself.
    pub port: u16,
    /// For a short try after an install; empty: as `command`.
    #[serde(default)]
    pub smoke_command: Vec<String>,
    /// Further variables.
    #[serde(default)]
    pub environment: IndexMap<String, String>,
    /// Where its page is, "" when it has none for people.
    #[serde(default = "usual_page")]
    pub page: String,
    /// How it shows that it is there.
    #[serde(default)]
    pub ready: Ready,
}

fn usual_page() -> String {
    "/".to_owned()
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

impl Launch {
    fn check(&self) -> Result<(), String> {
        if self.command.is_empty() || self.port == 0 {
            return Err("launch needs a command and a port".to_owned());
        }
        if !self.ready.path.starts_with('/') {
            return Err("ready.path must begin with /".to_owned());
        }
        for text in self
            .command
            .iter()
            .chain(&self.smoke_command)
            .chain(self.environment.values())
        {
            check_template(text)?;
        }
        Ok(())
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

/// The parts of a template: plain text, and names in braces. A doubled brace is one of the text.
fn parts(template: &str) -> Result<Vec<Result<String, String>>, String> {
    let mut found = Vec::new();
    let mut text = String::new();
    let mut rest = template.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '{' | '}' if rest.next_if_eq(&c).is_some() => text.push(c),
            '{' => {
                found.push(Ok(std::mem::take(&mut text)));
                let mut name = String::new();
                loop {
                    match rest.next() {
                        Some('}') => break,
                        Some(c) => name.push(c),
                        None => return Err("a brace is not closed".to_owned()),
                    }
                }
                found.push(Err(name));
            }
            '}' => return Err("a brace is not opened".to_owned()),
            _ => text.push(c),
        }
    }
    found.push(Ok(text));
    Ok(found)
}

fn check_template(template: &str) -> Result<(), String> {
    for name in parts(template)?.into_iter().filter_map(Result::err) {
        if !PLACEHOLDERS.contains(&name.as_str()) {
            let known = PLACEHOLDERS.join(", ");
            return Err(format!("unknown placeholder {{{name}}}; known are {known}"));
        }
    }
    Ok(())
}

/// The template with its placeholders replaced.
#[must_use]
pub fn fill(template: &str, value: &dyn Fn(&str) -> String) -> String {
    let parts = parts(template).unwrap_or_default();
    parts
        .into_iter()
        .map(|part| part.unwrap_or_else(|name| value(&name)))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn minimal() -> Value {
        json!({
            "id": "tiny",
            "name": "Tiny",
            "folder": "tiny-versions",
            "releases": {"repository": "someone/tiny"},
            "package": {"kind": "source", "complete": ["app.py"]},
            "launch": {"command": ["{python}", "app.py", "--port", "{port}"], "port": 9000},
        })
    }

    fn described(changes: &Value) -> Result<AppDescription> {
        let mut whole = minimal();
        for (key, value) in changes.as_object().unwrap() {
            whole[key] = value.clone();
        }
        AppDescription::read("tiny.json", whole.to_string().as_bytes())
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert!(described(&json!({})).is_ok());
        for (changes, says) in [
            (json!({"unknown": 1}), "unknown"),
            (json!({"id": "Tiny"}), "id must"),
            (json!({"id": 5}), "string"),
            (json!({"folder": "../other"}), "folder"),
            (json!({"folder": "/abs"}), "folder"),
            (json!({"releases": {"repository": "no-slash"}}), "owner/name"),
            (
                json!({"releases": {"repository": "a/b", "tag": "v.*"}}),
                "group named version",
            ),
            (json!({"releases": {"repository": "a/b", "tag": "("}}), "regular"),
            (json!({"package": {"kind": "image", "complete": ["x"]}}), "image"),
            (
                json!({"package": {"kind": "source", "complete": []}}),
                "at least one",
            ),
            (
                json!({"package": {"kind": "source", "complete": ["../x"]}}),
                "package",
            ),
            (
                json!({"package": {"kind": "bundle", "complete": ["x"]}}),
                "assets and programs",
            ),
            (
                json!({"launch": {"command": ["{shell}"], "port": 1}}),
                "placeholder",
            ),
            (
                json!({"launch": {"command": ["{port!r}"], "port": 1}}),
                "placeholder",
            ),
            (
                json!({"launch": {"command": [], "port": 1}}),
                "command and a port",
            ),
            (json!({"launch": {"command": ["x"], "port": "8080"}}), "8080"),
            (
                json!({"links": [{"name": "../x", "target": "{shared}"}]}),
                "links",
            ),
        ] {
            let error = described(&changes).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(error.kind(), "corrupt_state");
        }
        for data in [&b""[..], b"[]", b"null", b"{", b"\xff"] {
            assert!(AppDescription::read("x.json", data).is_err());
        }
    }

    #[test]
    fn the_version_inside_a_tag() {
        let app = described(&json!({})).unwrap();
        assert_eq!(app.releases.version_text("V1.2"), Some("1.2"));
        assert_eq!(app.releases.version_text("latest"), None);
    }

    #[test]
    fn what_counts_as_ready() {
        let ready = |value: Value| serde_json::from_value::<Ready>(value).unwrap();
        for (one, status, body, expected) in [
            (json!({}), 200, json!(null), true),
            (json!({}), 404, json!(null), false),
            (json!({"field": "a.b"}), 200, json!({"a": {"b": null}}), true),
            (json!({"field": "a.b"}), 200, json!({"a": 1}), false),
            (
                json!({"field": "s", "equals": "ok"}),
                200,
                json!({"s": "ok"}),
                true,
            ),
            (
                json!({"field": "s", "equals": "ok"}),
                200,
                json!({"s": "no"}),
                false,
            ),
            (json!({"header": "x-app"}), 200, json!(null), false),
        ] {
            assert_eq!(ready(one).accepts(status, |_| false, &body), expected, "{body}");
        }
    }

    #[test]
    fn templates_are_filled() {
        assert_eq!(
            fill("{{{port}}}:{host}", &|name| name.to_uppercase()),
            "{PORT}:HOST"
        );
    }
}
