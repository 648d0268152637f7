//! Which files of which models the rules are about.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use serde_json::Value;

use crate::config::Layout;
use crate::library::metadata::{METADATA, OVERRIDES};
use crate::library::references::{REFERENCES, references};
use crate::library::store::Mappable;
use crate::links::paths::{name as last, text};
use crate::links::places::Place;
use crate::links::planning::is_gone;
use crate::links::rules::{Rule, is_linkable};
use crate::links::version_sets::excluded;
use crate::storage::json_file;
use crate::storage::paths::display_name;
use crate::text::cut;

/// Of a model whose bytes lie in another program's store.
const REFERENCE: &str = "reference";

/// One file that a rule may want.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// Whose.
    pub(super) model: Arc<Mappable>,
    /// In the model's folder, or the one that is referenced.
    pub(super) name: String,
    /// Absolute.
    pub(super) source: String,
    /// Relative to the library, or "" when it lies outside.
    pub(super) inside: String,
    /// `st_dev`.
    pub(super) device: u64,
}

/// What was left out.
#[derive(Default)]
pub(super) struct Notes {
    /// For the user.
    pub(super) warnings: Vec<String>,
    /// Which models are left out, and why.
    pub(super) excluded: Vec<String>,
    /// Of which models it is not known what they have, and so neither which of their links are wanted.
    pub(super) unread: HashSet<String>,
}

/// Finds them, and notes what was left out.
pub(super) struct Files<'a> {
    layout: &'a Layout,
    library: String,
    app_id: &'a str,
    version: &'a str,
    notes: Notes,
}

impl<'a> Files<'a> {
    pub(super) fn new(layout: &'a Layout, place: &'a Place) -> Self {
        Self {
            layout,
            library: text(&layout.library()),
            app_id: &place.app.id,
            version: place.version(),
            notes: Notes::default(),
        }
    }

    pub(super) fn into_notes(self) -> Notes {
        self.notes
    }

    /// `st_dev` of the model's folder; None when that is gone or cannot be looked at.
    pub(super) fn device(&mut self, model: &Mappable) -> Option<u64> {
        match fs::metadata(self.folder(model)) {
            Ok(status) => Some(status.dev()),
            Err(error) => {
                self.leave(model, &error);
                None
            }
        }
    }

    fn folder(&self, model: &Mappable) -> String {
        format!("{}/{}", self.library, model.id)
    }

    fn leave(&mut self, model: &Mappable, error: &io::Error) {
        if !is_gone(error) {
            self.leave_unread(model);
        }
    }

    fn leave_unread(&mut self, model: &Mappable) {
        self.notes.unread.insert(model.id.clone());
        let note = format!("{}: it cannot be read", model.id);
        self.notes.excluded.push(note);
    }

    /// Whether the model's overrides let this version have it. What cannot be understood does not.
    pub(super) fn is_allowed(&mut self, model: &Mappable) -> bool {
        let path = self.layout.library().join(&model.id).join(OVERRIDES);
        if is_empty_object(&path) {
            return true;
        }
        let problem = match json_file::load(&path) {
            Ok(loaded) => excluded(&loaded.value.unwrap_or_default(), self.app_id, self.version),
            Err(_) => Some("its overrides cannot be read".to_owned()),
        };
        let Some(problem) = problem else { return true };
        self.notes.excluded.push(format!("{}: {problem}", model.id));
        false
    }

    /// The model's files that may be linked; `deep` ones below its own folder too.
    pub(super) fn of(&mut self, model: &Arc<Mappable>, device: u64, deep: bool) -> Vec<File> {
        let folder = self.folder(model);
        let names = if deep {
            deep_names(Path::new(&folder))
        } else {
            names(Path::new(&folder))
        };
        let names = match names {
            Ok(names) => names,
            Err(error) => {
                self.leave(model, &error);
                return Vec::new();
            }
        };
        let mut files = Vec::with_capacity(names.len());
        for name in names {
            let Some(name) = name.to_str() else {
                let shown = display_name(&name);
                let text = format!("{}: {} has no usable name.", model.id, cut(&shown, 100));
                self.notes.warnings.push(text);
                continue;
            };
            files.push(File {
                model: Arc::clone(model),
                name: name.to_owned(),
                source: format!("{folder}/{name}"),
                inside: format!("{}/{name}", model.id),
                device,
            });
        }
        if model.storage == REFERENCE {
            files.extend(self.referenced(model));
        }
        files
    }

    /// The files of a model that lie in another program's store.
    fn referenced(&mut self, model: &Arc<Mappable>) -> Vec<File> {
        let path = self.layout.library().join(&model.id).join(METADATA);
        let Ok(loaded) = json_file::load(&path) else {
            self.leave_unread(model);
            return Vec::new();
        };
        let metadata = loaded.value.unwrap_or_default();
        let file = |reference: crate::library::references::Reference| {
            let device = fs::metadata(&reference.path).ok()?.dev();
            is_linkable(last(&reference.name).as_ref()).then(|| File {
                model: Arc::clone(model),
                name: reference.name,
                source: reference.path,
                inside: String::new(),
                device,
            })
        };
        references(metadata.get(REFERENCES))
            .into_iter()
            .filter_map(file)
            .collect()
    }
}

/// What most models have, read at the least cost.
fn is_empty_object(path: &Path) -> bool {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let Ok(mut file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else {
        return false;
    };
    let mut start = [0; 3];
    matches!(file.read(&mut start), Ok(length) if &start[..length] == b"{}")
}

fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let mut names: Vec<OsString> = entries
        .into_iter()
        .filter(|entry| is_linkable(&entry.file_name()) && entry.path().is_file())
        .map(|entry| entry.file_name())
        .collect();
    names.sort();
    Ok(names)
}

/// Files below a model, but for hidden folders and for models that lie in it. Links to folders are not followed.
fn deep_names(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = vec![folder.to_path_buf()];
    while let Some(at) = waiting.pop() {
        if at != folder && at.join(METADATA).is_file() {
            continue;
        }
        for name in names(&at)? {
            let path = at.join(name);
            if let Ok(name) = path.strip_prefix(folder) {
                found.push(name.as_os_str().to_owned());
            }
        }
        let entries = fs::read_dir(&at)?.flatten();
        let is_folder = |entry: &fs::DirEntry| {
            !entry.file_name().as_encoded_bytes().starts_with(b".")
                && entry.file_type().is_ok_and(|kind| kind.is_dir())
        };
        let mut folders: Vec<PathBuf> = entries.filter(is_folder).map(|entry| entry.path()).collect();
        folders.sort();
        waiting.extend(folders.into_iter().rev());
    }
    Ok(found)
}

/// The rules that want a model. Most models are alike in what rules ask.
pub(super) struct Chooser<'a> {
    rules: &'a [Rule],
    reads_tags: bool,
    known: HashMap<(String, String, String), Vec<&'a Rule>>,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(rules: &'a [Rule]) -> Self {
        Self {
            rules,
            reads_tags: rules.iter().any(Rule::reads_tags),
            known: HashMap::new(),
        }
    }

    pub(super) fn choose(&mut self, model: &Mappable) -> Vec<&'a Rule> {
        if self.reads_tags {
            return self.wanting(model, &tags(&model.tags_json));
        }
        let key = (
            model.model_type.clone(),
            model.subtype.clone(),
            model.family.clone(),
        );
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let chosen = self.wanting(model, &[]);
        self.known.insert(key, chosen.clone());
        chosen
    }

    fn wanting(&self, model: &Mappable, tags: &[String]) -> Vec<&'a Rule> {
        self.rules
            .iter()
            .filter(|rule| rule.wants_model(model, tags))
            .collect()
    }
}

fn tags(text: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .filter_map(|tag| tag.as_str().map(str::to_owned))
        .collect()
}
