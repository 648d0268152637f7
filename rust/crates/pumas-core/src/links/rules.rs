//! Mapping rules: which of a model's files belong in which folder of an app.
//!
//! Rules are files of the user's, in both formats that older sidecars know, or what the app's description says as long as
//! there are none. A filter that is not understood would let more through than its author wanted, so its rule is left out
//! and said so; so is a file that cannot be read.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use caseless::default_case_fold_str;
use serde_json::{Map, Value, json};

use crate::apps::{AppDescription, MappingRule};
use crate::config::Layout;
use crate::error::Result;
use crate::library::metadata::OWN_FILES;
use crate::library::store::Mappable;
use crate::links::globs::Glob;
use crate::storage::files::{During as _, FOLDER_MODE, TEMP_SUFFIX, make_folders};
use crate::storage::json_file::{self, JsonObject, Readers};
use crate::storage::listing::json_files;
use crate::storage::paths::{display_name, relative_path};
use crate::text::cut;

/// The app's models folder itself.
pub const HERE: &str = ".";
const DEFAULT: &str = "default";
/// The file that is written for the user to change; Windows allows no asterisk in a name.
const ANY_VERSION: [&str; 2] = ["*", "any"];
/// What older sidecars mean by "every weight file".
const WEIGHTS: [&str; 8] = [
    "*.safetensors",
    "*.gguf",
    "*.ggml",
    "*.ckpt",
    "*.pt",
    "*.pth",
    "*.bin",
    "*.onnx",
];
const UNFINISHED: [&str; 3] = [".part", ".tmp", TEMP_SUFFIX];

type Words = HashSet<String>;
/// What a rule may ask of a model.
#[derive(Debug, Clone, Default)]
struct Filters {
    types: Words,
    subtypes: Words,
    families: Words,
    tags: Words,
    exclude_tags: Words,
}

impl Filters {
    fn named(&mut self, key: &str) -> Option<&mut Words> {
        Some(match key {
            "model_type" | "model_types" => &mut self.types,
            "subtype" | "subtypes" => &mut self.subtypes,
            "families" | "family" => &mut self.families,
            "tags" => &mut self.tags,
            "exclude_tags" => &mut self.exclude_tags,
            _ => return None,
        })
    }
}

/// The names of all filters, in the order in which flat rules are looked through.
const FILTERS: [&str; 8] = [
    "model_type",
    "model_types",
    "subtype",
    "subtypes",
    "families",
    "family",
    "tags",
    "exclude_tags",
];

/// One rule. An empty set of words does not restrict.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Below the app's models folder, [`HERE`] that itself.
    pub folder: String,
    /// The smallest comes first.
    pub priority: i64,
    /// It looks below the model's own folder.
    pub deep: bool,
    globs: Vec<Glob>,
    filters: Filters,
    /// Words are compared without case.
    fold: bool,
}

impl Rule {
    fn new(folder: String, patterns: &[String], filters: Filters, priority: i64, fold: bool) -> Self {
        Self {
            folder,
            priority,
            deep: patterns.iter().any(|pattern| pattern.contains('/')),
            globs: patterns.iter().map(|pattern| Glob::new(pattern)).collect(),
            filters,
            fold,
        }
    }

    /// Whether tags decide.
    #[must_use]
    pub fn reads_tags(&self) -> bool {
        !(self.filters.tags.is_empty() && self.filters.exclude_tags.is_empty())
    }

    /// Whether it is about this model.
    #[must_use]
    pub fn wants_model(&self, model: &Mappable, tags: &[String]) -> bool {
        let word = |text: &str| folded(text, self.fold);
        let filters = &self.filters;
        let asked = [
            (&model.model_type, &filters.types),
            (&model.subtype, &filters.subtypes),
            (&model.family, &filters.families),
        ];
        if asked
            .iter()
            .any(|(value, wanted)| !wanted.is_empty() && !wanted.contains(&word(value)))
        {
            return false;
        }
        if !self.reads_tags() {
            return true;
        }
        let found: Words = tags.iter().map(|tag| word(tag)).collect();
        found.is_disjoint(&filters.exclude_tags)
            && (filters.tags.is_empty() || !found.is_disjoint(&filters.tags))
    }

    /// Whether a file is meant, by its path relative to the model.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.globs.iter().any(|glob| glob.matches(name))
    }
}

fn folded(text: &str, fold: bool) -> String {
    if fold {
        default_case_fold_str(text)
    } else {
        text.to_owned()
    }
}

/// The rules for a version.
#[derive(Debug, Default)]
pub struct Rules {
    /// In the order in which they are applied.
    pub rules: Vec<Rule>,
    /// What was not used, and why.
    pub warnings: Vec<String>,
    /// Nobody wrote any, these are the app's own.
    pub from_app: bool,
}

/// Whether a file of a model may ever be linked, by its name.
#[must_use]
pub fn is_linkable(name: &std::ffi::OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    let is_own = OWN_FILES.iter().any(|own| own.as_bytes() == bytes);
    !is_own && !bytes.starts_with(b".") && !UNFINISHED.iter().any(|end| bytes.ends_with(end.as_bytes()))
}

// -- reading ---------------------------------------------------------------------------------------------------------

/// The rules for a version (a tag without leading v) of an app, lowest priority number first.
///
/// # Errors
/// `DiskError`: nobody can say whether the user wrote any.
pub fn load_rules(layout: &Layout, app: &AppDescription, version: &str) -> Result<Rules> {
    let mut files = json_files(&layout.mapping_rules())?;
    files.extend(json_files(&layout.older_mapping_rules())?);
    let mut files: Vec<RuleFile> = files
        .into_iter()
        .filter_map(RuleFile::of)
        .filter(|file| file.app == app.id)
        .collect();
    if files.is_empty() {
        return Ok(Rules {
            rules: app_rules(app),
            from_app: true,
            ..Rules::default()
        });
    }
    files.retain(|file| file.is_for(version));
    files.sort_by_key(|file| std::cmp::Reverse(file.specificity()));
    let mut result = Rules::default();
    for file in &files {
        read(&file.path, &mut result);
    }
    result.rules.sort_by_key(|rule| rule.priority);
    Ok(result)
}

/// `<app>_<version>_<variant>.json`
struct RuleFile {
    path: PathBuf,
    app: String,
    version: String,
    variant: String,
}

impl RuleFile {
    fn of(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().into_owned();
        let mut parts = name.strip_suffix(".json").unwrap_or(&name).splitn(3, '_');
        let (app, version, variant) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            app: app.to_lowercase(),
            version: version.trim_start_matches(['v', 'V']).to_owned(),
            variant: variant.to_owned(),
            path,
        })
    }

    fn is_for_any(&self) -> bool {
        ANY_VERSION.contains(&self.version.as_str())
    }

    fn is_for(&self, version: &str) -> bool {
        self.is_for_any() || self.version == version
    }

    fn specificity(&self) -> u32 {
        100 * u32::from(!self.is_for_any()) + 10 * u32::from(self.variant != DEFAULT)
    }
}

fn read(path: &Path, into: &mut Rules) {
    let name = display_name(path.file_name().unwrap_or_default());
    let value = match json_file::load(path) {
        Ok(loaded) => loaded.value.unwrap_or_default(),
        Err(error) => {
            into.warnings
                .push(format!("The rules in {name} are not used: {error}"));
            return;
        }
    };
    let Some(Value::Array(listed)) = value.get("mappings") else {
        into.warnings.push(format!(
            "The rules in {name} are not used: it has no list named mappings."
        ));
        return;
    };
    for (number, value) in (1..).zip(listed) {
        match rule(value) {
            Ok(found) => into.rules.extend(found),
            Err(reason) => into
                .warnings
                .push(format!("Rule {number} of {name} is not used: {reason}")),
        }
    }
}

/// None for one that is switched off. Fails with the reason why one cannot be used.
fn rule(value: &Value) -> Result<Option<Rule>, String> {
    let Value::Object(raw) = value else {
        return Err("it is no object".to_owned());
    };
    if raw.get("enabled") == Some(&Value::Bool(false)) {
        return Ok(None);
    }
    if raw.get("method").is_some_and(|method| method != "symlink") {
        return Err("only the method symlink is known".to_owned());
    }
    let flat = !raw.contains_key("target_subdir") && raw.contains_key("target_dir");
    let filters = if flat {
        flat_filters(raw)
    } else {
        given_filters(raw)?
    };
    let folder = raw.get(if flat { "target_dir" } else { "target_subdir" });
    let Some(Value::String(folder)) = folder else {
        return Err("it names no target folder".to_owned());
    };
    let folder = checked_folder(folder)?;
    let patterns = if flat {
        WEIGHTS.map(str::to_owned).to_vec()
    } else {
        patterns(raw.get("patterns"))?
    };
    let filters = filter_sets(&filters, flat)?;
    Ok(Some(Rule::new(folder, &patterns, filters, priority(raw), flat)))
}

fn flat_filters(raw: &JsonObject) -> JsonObject {
    FILTERS
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), raw.get(*key)?.clone())))
        .collect()
}

/// What says nothing (`null`, `""`, `[]`, 0, `false`) restricts nothing.
fn given_filters(raw: &JsonObject) -> Result<JsonObject, String> {
    match raw.get("filters") {
        Some(Value::Object(filters)) => Ok(filters.clone()),
        None | Some(Value::Null | Value::Bool(false)) => Ok(Map::new()),
        Some(Value::String(text)) if text.is_empty() => Ok(Map::new()),
        Some(Value::Array(items)) if items.is_empty() => Ok(Map::new()),
        Some(Value::Number(number)) if number.as_f64() == Some(0.0) => Ok(Map::new()),
        Some(_) => Err("its filters are no object".to_owned()),
    }
}

fn priority(raw: &JsonObject) -> i64 {
    match raw.get("priority") {
        Some(Value::Bool(true)) => 1,
        Some(Value::Number(number)) => number.as_i64().unwrap_or_default(),
        _ => 0,
    }
}

fn patterns(value: Option<&Value>) -> Result<Vec<String>, String> {
    let mut patterns = words(value.unwrap_or(&Value::Null), "patterns")?;
    patterns.retain(|pattern| !pattern.trim_matches('/').is_empty());
    let leads_out =
        |pattern: &String| pattern.starts_with('/') || pattern.split('/').any(|part| part == "..");
    if patterns.iter().any(leads_out) {
        return Err("a pattern leads out of the model".to_owned());
    }
    if patterns.is_empty() {
        patterns.push("*".to_owned());
    }
    Ok(patterns)
}

fn filter_sets(filters: &JsonObject, fold: bool) -> Result<Filters, String> {
    let mut sets = Filters::default();
    for (key, value) in filters {
        if value.is_null() || value.as_array().is_some_and(Vec::is_empty) {
            continue;
        }
        let Some(set) = sets.named(key) else {
            return Err(format!("the filter {} is not known", cut(key, 60)));
        };
        *set = words(value, key)?.iter().map(|word| folded(word, fold)).collect();
    }
    Ok(sets)
}

/// A text is a list of one.
fn words(value: &Value, name: &str) -> Result<Vec<String>, String> {
    let refused = || format!("{} holds something that is no text", cut(name, 60));
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(refused);
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => items.iter().map(text).collect(),
        one => Ok(vec![text(one)?]),
    }
}

fn checked_folder(text: &str) -> Result<String, String> {
    let folder = text.trim().trim_matches('/');
    if folder.is_empty() || folder == HERE {
        return Ok(HERE.to_owned());
    }
    relative_path(folder, "target_subdir")
        .map(str::to_owned)
        .map_err(|error| error.to_string())
}

// -- the app's own ---------------------------------------------------------------------------------------------------

/// What the app's description says.
#[must_use]
pub fn app_rules(app: &AppDescription) -> Vec<Rule> {
    let mut rules: Vec<Rule> = mappings(app).iter().map(of_app).collect();
    rules.sort_by_key(|rule| rule.priority);
    rules
}

fn mappings(app: &AppDescription) -> &[MappingRule] {
    app.models
        .as_ref()
        .map_or(&[], |models| models.mappings.as_slice())
}

fn of_app(mapping: &MappingRule) -> Rule {
    let words = |list: &[String]| list.iter().cloned().collect();
    let filters = Filters {
        types: words(&mapping.model_types),
        subtypes: words(&mapping.subtypes),
        families: words(&mapping.families),
        tags: words(&mapping.tags),
        exclude_tags: words(&mapping.exclude_tags),
    };
    Rule::new(
        mapping.target_subdir.clone(),
        &mapping.patterns,
        filters,
        mapping.priority,
        false,
    )
}

/// Write the app's own rules as a file that the user can change and older sidecars can read. Never over one.
///
/// # Errors
/// `DiskError`, `DiskFull`, `ReadOnly`: nothing was written.
pub fn write_default(layout: &Layout, app: &AppDescription, moment: &str) -> Result<()> {
    let name = format!(
        "{}_{}_{DEFAULT}.json",
        app.id,
        ANY_VERSION[usize::from(cfg!(windows))]
    );
    let folder = layout.mapping_rules();
    let path = folder.join(&name);
    if mappings(app).is_empty() || path.exists() {
        return Ok(());
    }
    make_folders(&folder, FOLDER_MODE).during(&format!("Writing {name}"))?;
    let value = json!({
        "app": app.id,
        "version": "*",
        "variant": DEFAULT,
        "description": format!("Where {} looks for models. Change it as you like; it is not written again.", app.name),
        "created_at": moment,
        "updated_at": moment,
        "mappings": mappings(app).iter().map(as_file).collect::<Vec<_>>(),
    });
    match value {
        Value::Object(value) => json_file::save(&path, &value, Readers::Anybody),
        _ => Ok(()),
    }
}

fn as_file(mapping: &MappingRule) -> Value {
    let filters = [
        ("model_types", &mapping.model_types),
        ("subtypes", &mapping.subtypes),
        ("families", &mapping.families),
        ("tags", &mapping.tags),
        ("exclude_tags", &mapping.exclude_tags),
    ];
    let filters: JsonObject = filters
        .into_iter()
        .filter(|(_, words)| !words.is_empty())
        .map(|(key, words)| (key.to_owned(), json!(words)))
        .collect();
    json!({
        "name": mapping.name,
        "method": "symlink",
        "target_subdir": mapping.target_subdir,
        "patterns": mapping.patterns,
        "filters": filters,
        "enabled": true,
        "priority": mapping.priority,
    })
}
