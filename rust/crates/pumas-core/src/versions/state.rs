//! What is installed, by `versions.json` and by the disk: one object per app.
//!
//! Reads both older forms (`path` is not used: a version lies in the app's folder under its tag) and keeps keys that are
//! not ours. A file that cannot be read is never "nothing installed": then the disk alone is asked and nothing is changed
//! until `rebuild`. Calls block.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::places::entries_of;
use super::tags::{check_tag, newest_first};
use super::turn::{Held, Turn};
use crate::apps::{AppDescription, VENV, is_complete, missing_of};
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::storage::files::{During as _, FILE_MODE, FOLDER_MODE, make_folders, sweep, write_durably};
use crate::storage::json_file::{self, JsonObject, Readers, backup_path};
use crate::storage::locked;
use crate::storage::paths::{contained, display_name};
use crate::storage::state_lock::StateLock;
use crate::storage::troubles::Troubles;

/// In the folder of each version that we installed: what it is. Lets a start after a crash tell ours from others'.
pub(super) const MARKER: &str = ".pumas-version.json";

const HISTORY_KEPT: usize = 10;
const LONGEST_TAG: u64 = 200;

/// One that is listed and whole on disk.
#[derive(Clone, Debug)]
pub struct InstalledVersion {
    /// Its app.
    pub app_id: String,
    /// Its tag.
    pub tag: String,
    /// Absolute.
    pub folder: PathBuf,
    /// What the list holds about it, older sidecars' keys included.
    pub info: JsonObject,
}

/// The list compared with the disk.
#[derive(Clone, Debug, Default)]
pub struct Validation {
    /// Listed and whole.
    pub valid: Vec<String>,
    /// Listed, not whole on disk.
    pub incomplete: Vec<String>,
    /// Listed, not there at all.
    pub missing: Vec<String>,
    /// Folders that are not listed.
    pub unknown: Vec<String>,
}

type Stamp = Option<(u64, u64, i64, i64)>;

#[derive(Debug)]
struct State {
    value: JsonObject,
    /// False: rebuilt from the disk because the file cannot be read.
    trusted: bool,
}

impl State {
    /// What is known of one version; the rest of a long list is not looked at.
    fn entry(&self, tag: &str) -> Option<JsonObject> {
        installed_of(&self.value)?.get(tag).map(facts)
    }
}

#[derive(Debug, Default)]
struct Cache {
    state: Option<((Stamp, Stamp), Arc<State>)>,
    active: Option<String>,
    /// Subjects of those that are not whole.
    told: Vec<String>,
}

/// What is installed of one app.
pub struct VersionState {
    /// The app.
    pub app: Arc<AppDescription>,
    /// Of its versions.
    pub folder: PathBuf,
    path: PathBuf,
    active_path: PathBuf,
    file_lock: StateLock,
    troubles: Arc<Troubles>,
    changing: Turn,
    cache: Mutex<Cache>,
}

impl VersionState {
    /// `lock` is that of the launcher root.
    pub(super) fn new(
        layout: &Layout,
        app: Arc<AppDescription>,
        lock: StateLock,
        troubles: Arc<Troubles>,
    ) -> Self {
        Self {
            folder: layout.root().join(&app.folder),
            path: layout.data().join("metadata").join(app.versions_file()),
            active_path: layout.root().join(app.active_file()),
            file_lock: lock,
            troubles,
            changing: Turn::default(),
            cache: Mutex::default(),
            app,
        }
    }

    // -- reading -----------------------------------------------------------------------------------------------------

    /// Those that are listed and whole on disk, newest first.
    ///
    /// # Errors
    /// `DiskError`: the list says nothing of versions, and nobody can say what is on disk. So fails all that asks it.
    pub fn installed(&self) -> Result<Vec<InstalledVersion>> {
        let mut known = entries(&self.load()?.value);
        let incomplete: Vec<String> = known
            .extract_if(.., |tag, _| !self.is_whole(tag))
            .map(|(tag, _)| tag)
            .collect();
        self.tell_of(&incomplete);
        let tags = newest_first(&self.app, known.keys().cloned().collect());
        let versions = tags
            .into_iter()
            .filter_map(|tag| self.version(&tag, known.swap_remove(&tag)?).ok());
        Ok(versions.collect())
    }

    fn version(&self, tag: &str, info: JsonObject) -> Result<InstalledVersion> {
        Ok(InstalledVersion {
            app_id: self.app.id.clone(),
            tag: tag.to_owned(),
            folder: self.place(tag)?,
            info,
        })
    }

    /// Tags in the list, whole on disk or not.
    ///
    /// # Errors
    /// As `installed`.
    pub fn listed(&self) -> Result<HashSet<String>> {
        Ok(entries(&self.load()?.value).into_keys().collect())
    }

    /// # Errors
    /// `VersionNotFound`, `InvalidInput`, and as `installed`.
    pub fn get(&self, tag: &str) -> Result<InstalledVersion> {
        let found = self.get_listed(tag)?;
        let Some(lacks) = missing_of(&self.app, &found.folder).next() else {
            return Ok(found);
        };
        let first = lacks.split('|').next().unwrap_or(lacks);
        let helps = if self.lacks_environment(&found) {
            "install_version_dependencies"
        } else {
            "install_version"
        };
        let why = format!("is not whole: it has no {first}; {helps} builds it anew");
        Err(self.not_found(&found.tag, why))
    }

    /// Those that are there and not whole would go without a word.
    fn tell_of(&self, incomplete: &[String]) {
        if incomplete.is_empty() && locked(&self.cache).told.is_empty() {
            return;
        }
        let mut now = HashMap::new();
        for tag in incomplete {
            if self.place(tag).is_ok_and(|place| place.is_dir())
                && let Err(error @ Error::VersionNotFound { .. }) = self.get(tag)
            {
                now.insert(format!("{}/{tag}", self.app.folder), error.to_string());
            }
        }
        let mut cache = locked(&self.cache);
        for subject in cache.told.iter().filter(|subject| !now.contains_key(*subject)) {
            self.troubles.clear(subject);
        }
        for (subject, message) in &now {
            self.troubles.report(subject, "incomplete_version", message);
        }
        cache.told = now.into_keys().collect();
    }

    /// Also one that is there and not whole.
    ///
    /// # Errors
    /// As `get`.
    pub(super) fn get_listed(&self, tag: &str) -> Result<InstalledVersion> {
        let tag = check_tag(tag)?;
        match self.load()?.entry(tag) {
            Some(info) if self.place(tag)?.is_dir() => self.version(tag, info),
            Some(_) => {
                let folder = display_name(self.place(tag)?.as_os_str());
                let helps = "bring it back, or install_version installs it anew";
                let why = format!("is listed, but its folder {folder} is not there; {helps}");
                Err(self.not_found(tag, why))
            }
            None => Err(self.not_installed(tag)),
        }
    }

    /// Whether all that it lacks is its Python environment, as after the system's Python has gone.
    pub(super) fn lacks_environment(&self, version: &InstalledVersion) -> bool {
        let mut lacks = missing_of(&self.app, &version.folder).peekable();
        self.app.python.is_some() && lacks.peek().is_some() && lacks.all(|one| one.starts_with(VENV))
    }

    /// That a version is not there at all.
    pub(super) fn not_installed(&self, tag: &str) -> Error {
        let why = "is not installed; get_installed_versions shows what is";
        self.not_found(tag, why.to_owned())
    }

    fn not_found(&self, tag: &str, why: String) -> Error {
        Error::VersionNotFound {
            app: self.app.name.clone(),
            tag: tag.to_owned(),
            why,
        }
    }

    /// Where a version lies, whether it is there or not.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub fn place(&self, tag: &str) -> Result<PathBuf> {
        contained(&self.folder, check_tag(tag)?, "tag")
    }

    /// Whether all that it needs is there.
    pub fn is_whole(&self, tag: &str) -> bool {
        self.place(tag).is_ok_and(|place| is_complete(&self.app, &place))
    }

    /// The tag in use. When it is gone: the default, the last selected, what was active before, or the newest.
    ///
    /// # Errors
    /// As `installed`.
    pub fn active(&self) -> Result<Option<String>> {
        let _held = self.held();
        let state = self.load()?;
        let remembered = locked(&self.cache).active.clone();
        let is_known = |tag: &String| state.entry(tag).is_some() && self.is_whole(tag);
        if let Some(tag) = remembered.filter(is_known) {
            return Ok(Some(tag));
        }
        let tags: Vec<String> = self.installed()?.into_iter().map(|version| version.tag).collect();
        let text = |key: &str| state.value.get(key).and_then(Value::as_str).map(str::to_owned);
        let wishes = [
            text("defaultVersion"),
            text("lastSelectedVersion"),
            self.written_active(),
        ];
        let chosen = wishes
            .into_iter()
            .flatten()
            .find(|wish| tags.contains(wish))
            .or_else(|| tags.first().cloned());
        self.set_active(chosen.clone());
        Ok(chosen)
    }

    /// The version in use.
    ///
    /// # Errors
    /// `NoActiveVersion`: none is listed, or none of those is whole; then it says why not of the one that would be used.
    /// And as `installed`.
    pub fn require_active(&self) -> Result<InstalledVersion> {
        if let Some(tag) = self.active()? {
            return self.get(&tag);
        }
        let state = self.load()?;
        let text = |key: &str| state.value.get(key).and_then(Value::as_str).map(str::to_owned);
        let wishes = [text("defaultVersion"), text("lastSelectedVersion")];
        let rank = |tag: &String| wishes.iter().position(|wish| wish.as_ref() == Some(tag));
        let mut listed = newest_first(&self.app, self.listed()?.into_iter().collect());
        listed.sort_by_key(|tag| rank(tag).unwrap_or(wishes.len()));
        for tag in listed {
            match self.get(&tag) {
                Err(error @ Error::VersionNotFound { .. }) => {
                    return Err(Error::NoActiveVersion(error.to_string()));
                }
                // No name for a folder; nobody could use it.
                Err(Error::InvalidInput { .. }) => {}
                other => return other,
            }
        }
        Err(Error::NoActiveVersion(format!(
            "No version of {} is installed; install_version installs one.",
            self.app.name
        )))
    }

    /// The tag that the user prefers, installed or not.
    ///
    /// # Errors
    /// As `installed`.
    pub fn default(&self) -> Result<Option<String>> {
        let state = self.load()?;
        let preferred = state.value.get("defaultVersion").and_then(Value::as_str);
        Ok(preferred.filter(|tag| !tag.is_empty()).map(str::to_owned))
    }

    /// What `rollback` can take back, oldest first.
    ///
    /// # Errors
    /// As `installed`.
    pub(super) fn history(&self) -> Result<Vec<JsonObject>> {
        Ok(history_of(&self.load()?.value))
    }

    // -- changing ----------------------------------------------------------------------------------------------------

    /// Make a version active. `remember` becomes the newest of the history, `forget` leaves it.
    ///
    /// # Errors
    /// `VersionNotFound`, `CorruptState`, and the disk's failures; nothing was changed.
    pub(super) fn switch(
        &self,
        tag: &str,
        remember: Option<JsonObject>,
        forget: &[JsonObject],
    ) -> Result<()> {
        let _held = self.held();
        let chosen = self.get(tag)?.tag;
        self.change(|value| {
            value.insert("lastSelectedVersion".to_owned(), json!(chosen));
            rewrite_history(value, remember.into_iter().collect(), forget);
        })?;
        self.set_active(Some(chosen));
        Ok(())
    }

    /// None clears it.
    ///
    /// # Errors
    /// As `switch`.
    pub(super) fn set_default(&self, tag: Option<&str>) -> Result<()> {
        let tag = tag
            .map(|tag| self.get(tag))
            .transpose()?
            .map(|version| version.tag);
        self.change(|value| {
            value.insert("defaultVersion".to_owned(), json!(tag));
        })
    }

    /// List a version that is whole on disk now, and with `select` use it, by one change. Keys of an earlier entry that
    /// are not given stay.
    ///
    /// # Errors
    /// `CorruptState`, and the disk's failures; nothing was changed.
    pub(super) fn add(
        &self,
        tag: &str,
        info: JsonObject,
        remember: Vec<JsonObject>,
        select: bool,
    ) -> Result<()> {
        let _held = self.held();
        self.change(|value| {
            if let Some(listed) = installed_mut(value) {
                match listed.get_mut(tag) {
                    Some(Value::Object(entry)) => entry.extend(info),
                    _ => drop(listed.insert(tag.to_owned(), Value::Object(info))),
                }
            }
            rewrite_history(value, remember, &[]);
            if select {
                value.insert("lastSelectedVersion".to_owned(), json!(tag));
            }
        })?;
        if select {
            self.set_active(Some(tag.to_owned()));
        }
        Ok(())
    }

    /// List the former build of a version instead of the newer one, and forget that it can be had back.
    ///
    /// # Errors
    /// As `add`.
    pub(super) fn put_back(&self, tag: &str, info: JsonObject, forget: &[JsonObject]) -> Result<()> {
        self.change(|value| {
            if let Some(listed) = installed_mut(value) {
                listed.insert(tag.to_owned(), Value::Object(info));
            }
            rewrite_history(value, Vec::new(), forget);
        })
    }

    /// Take entries from the history.
    ///
    /// # Errors
    /// As `add`.
    pub(super) fn forget(&self, past: &[JsonObject]) -> Result<()> {
        self.change(|value| rewrite_history(value, Vec::new(), past))
    }

    /// Take a version from the list; nothing refers to it then.
    ///
    /// # Errors
    /// As `add`.
    pub(super) fn unlist(&self, tag: &str) -> Result<()> {
        self.change(|value| {
            if let Some(listed) = installed_mut(value) {
                listed.shift_remove(tag);
            }
            for key in ["defaultVersion", "lastSelectedVersion"] {
                if value.get(key).and_then(Value::as_str) == Some(tag) {
                    value.insert(key.to_owned(), Value::Null);
                }
            }
            if value.contains_key("history") {
                let kept = history_of(value)
                    .into_iter()
                    .filter(|past| past.get("tag").and_then(Value::as_str) != Some(tag));
                let kept: Vec<JsonObject> = kept.collect();
                value.insert("history".to_owned(), json!(kept));
            }
        })
    }

    /// Nobody else changes what is installed or active meanwhile.
    pub(super) fn held(&self) -> Held<'_> {
        self.changing.take()
    }

    /// # Errors
    /// `CorruptState` while the list cannot be read, and as `installed`.
    pub(super) fn require_trusted(&self) -> Result<()> {
        self.trusted().map(drop)
    }

    fn trusted(&self) -> Result<Arc<State>> {
        let state = self.load()?;
        if state.trusted {
            return Ok(state);
        }
        Err(Error::CorruptState {
            name: file_name(&self.path),
            reason: "it is damaged".to_owned(),
        })
    }

    /// Load, change, save.
    fn change(&self, change: impl FnOnce(&mut JsonObject)) -> Result<()> {
        let _held = self.held();
        let _file = self.file_lock.hold()?;
        let state = self.trusted()?;
        let mut value = JsonObject::from_iter([
            ("installed".to_owned(), json!({})),
            ("lastSelectedVersion".to_owned(), Value::Null),
            ("defaultVersion".to_owned(), Value::Null),
        ]);
        value.extend(state.value.clone());
        if !value["installed"].is_object() {
            value["installed"] = json!({});
        }
        change(&mut value);
        self.save(&value)
    }

    /// List anew what is whole on disk. The damaged file stays under a dated name.
    ///
    /// # Errors
    /// The disk's failures.
    pub(super) fn rebuild(&self) -> Result<()> {
        let _held = self.held();
        let _file = self.file_lock.hold()?;
        let state = self.load()?;
        if state.trusted {
            return Ok(());
        }
        let mut value = JsonObject::from_iter([
            ("lastSelectedVersion".to_owned(), Value::Null),
            ("defaultVersion".to_owned(), Value::Null),
        ]);
        value.extend(state.value.clone());
        self.save(&value)
    }

    /// Compare the list with the disk. A `busy` tag is being worked on and left out.
    ///
    /// # Errors
    /// The disk's failures.
    pub(super) fn validate(&self, busy: Option<&str>) -> Result<Validation> {
        let known = entries(&self.load()?.value);
        let there: HashSet<String> = self.folders()?.into_iter().collect();
        let is_busy = |tag: &str| busy == Some(tag);
        let mut found = Validation::default();
        for tag in known.keys() {
            if self.is_whole(tag) {
                found.valid.push(tag.clone());
            } else if is_busy(tag) {
            } else if there.contains(tag) {
                found.incomplete.push(tag.clone());
            } else {
                found.missing.push(tag.clone());
            }
        }
        found.unknown = there
            .into_iter()
            .filter(|tag| !known.contains_key(tag) && !is_busy(tag))
            .collect();
        for list in [&mut found.incomplete, &mut found.missing, &mut found.unknown] {
            list.sort_unstable();
        }
        found.valid = newest_first(&self.app, found.valid);
        Ok(found)
    }

    // -- inside ------------------------------------------------------------------------------------------------------

    fn subject(&self) -> String {
        format!("launcher-data/metadata/{}", file_name(&self.path))
    }

    fn load(&self) -> Result<Arc<State>> {
        let stamps = (stamp(&self.path), stamp(&backup_path(&self.path)));
        if let Some((known, state)) = &locked(&self.cache).state
            && *known == stamps
            && state.trusted
        {
            return Ok(Arc::clone(state));
        }
        let state = Arc::new(self.read()?);
        locked(&self.cache).state = Some((stamps, Arc::clone(&state)));
        Ok(state)
    }

    fn read(&self) -> Result<State> {
        let (mut value, trusted) = match self.parsed() {
            Ok(value) => (value.unwrap_or_default(), true),
            Err(error) => {
                let message = format!(
                    "{error} What is on disk is shown; validate_installations with rebuild lists it anew."
                );
                self.troubles.report(&self.subject(), error.kind(), &message);
                (JsonObject::new(), false)
            }
        };
        // Who says nothing of versions does not say that there are none.
        if installed_of(&value).is_none() {
            value.insert("installed".to_owned(), Value::Object(self.on_disk()?));
        }
        Ok(State { value, trusted })
    }

    /// The file's content, or that of its backup; None when there is neither.
    fn parsed(&self) -> Result<Option<JsonObject>> {
        let loaded = json_file::load(&self.path)?;
        let (mut value, mut recovered) = (loaded.value, loaded.recovered);
        if value.as_ref().is_some_and(|value| !is_state(value)) {
            let reason = "its entries are of the wrong kind".to_owned();
            let backup = json_file::parse_object(&backup_path(&self.path))
                .ok()
                .filter(is_state);
            value = Some(backup.ok_or_else(|| Error::CorruptState {
                name: file_name(&self.path),
                reason: reason.clone(),
            })?);
            recovered = Some(reason);
        }
        if let Some(reason) = recovered {
            let name = file_name(&self.path);
            let message = format!("{name} was damaged ({reason}); its backup is used.");
            self.troubles.report(&self.subject(), "recovered_state", &message);
        }
        Ok(value)
    }

    fn save(&self, value: &JsonObject) -> Result<()> {
        let folder = self.path.parent().unwrap_or(&self.path);
        make_folders(folder, FOLDER_MODE).during("Writing the list of versions")?;
        json_file::save(&self.path, value, Readers::Anybody)?;
        locked(&self.cache).state = None;
        self.troubles.clear(&self.subject());
        Ok(())
    }

    fn on_disk(&self) -> Result<JsonObject> {
        let whole = self.folders()?.into_iter().filter(|tag| self.is_whole(tag));
        let marked = |tag: String| {
            let info = Self::marker(&self.folder.join(&tag));
            (tag, Value::Object(info))
        };
        Ok(whole.map(marked).collect())
    }

    /// Names of folders that could be versions. Hidden ones, links and files are none.
    ///
    /// # Errors
    /// `DiskError`: nobody can say; that is not the same as none.
    pub(super) fn folders(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in entries_of(&self.folder)? {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let name = entry.file_name().into_string();
            names.extend(
                name.into_iter()
                    .filter(|name| is_folder && !name.starts_with('.')),
            );
        }
        Ok(names)
    }

    /// Remove what killed writes left, those of custom nodes in each version too.
    ///
    /// # Errors
    /// As [`VersionState::folders`].
    pub(super) fn sweep(&self) -> Result<()> {
        sweep([&self.folder]);
        sweep(self.folders()?.iter().map(|name| self.folder.join(name)));
        Ok(())
    }

    /// What the list holds about a version, whole on disk or not; empty when nothing.
    ///
    /// # Errors
    /// As `installed`.
    pub(super) fn info(&self, tag: &str) -> Result<JsonObject> {
        Ok(self.load()?.entry(tag).unwrap_or_default())
    }

    /// What we wrote into a version's folder; empty when it is not ours.
    pub(super) fn marker(folder: &Path) -> JsonObject {
        match marked(folder).remove("info") {
            Some(Value::Object(info)) => info,
            _ => JsonObject::new(),
        }
    }

    /// (tag, id of the installation) of a folder that we built for this app; None for any other.
    pub(super) fn built_by(&self, folder: &Path) -> Option<(String, String)> {
        let value = marked(folder);
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        if text("app").as_ref() != Some(&self.app.id) {
            return None;
        }
        Some((text("tag")?, text("job")?))
    }

    fn written_active(&self) -> Option<String> {
        if !self.active_path.is_file() {
            return None; // a pipe would be waited for
        }
        let mut data = Vec::new();
        let file = fs::File::open(&self.active_path).ok()?;
        file.take(LONGEST_TAG).read_to_end(&mut data).ok()?;
        let text = String::from_utf8_lossy(&data).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// Remember it, also for older sidecars; a disk that does not take the file does not matter.
    fn set_active(&self, tag: Option<String>) {
        if tag != self.written_active() {
            let _ = match &tag {
                None => fs::remove_file(&self.active_path),
                Some(tag) => write_durably(&self.active_path, tag.as_bytes(), FILE_MODE),
            };
        }
        locked(&self.cache).active = tag;
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn marked(folder: &Path) -> JsonObject {
    json_file::parse_object(&folder.join(MARKER)).unwrap_or_default()
}

fn is_state(value: &JsonObject) -> bool {
    value
        .get("installed")
        .is_none_or(|installed| installed.is_null() || installed.is_object())
}

/// Tag -> what is known; an entry that is no object says nothing, but its tag counts.
fn entries(value: &JsonObject) -> IndexMap<String, JsonObject> {
    let Some(installed) = installed_of(value) else {
        return IndexMap::new();
    };
    installed
        .iter()
        .map(|(tag, info)| (tag.clone(), facts(info)))
        .collect()
}

fn facts(info: &Value) -> JsonObject {
    info.as_object().cloned().unwrap_or_default()
}

fn installed_of(value: &JsonObject) -> Option<&JsonObject> {
    value.get("installed").and_then(Value::as_object)
}

fn installed_mut(value: &mut JsonObject) -> Option<&mut JsonObject> {
    value.get_mut("installed").and_then(Value::as_object_mut)
}

fn history_of(value: &JsonObject) -> Vec<JsonObject> {
    let all = value.get("history").and_then(Value::as_array);
    let objects = all.into_iter().flatten().filter_map(Value::as_object);
    objects.cloned().collect()
}

fn rewrite_history(value: &mut JsonObject, remember: Vec<JsonObject>, forget: &[JsonObject]) {
    if remember.is_empty() && forget.is_empty() {
        return;
    }
    let mut kept = history_of(value);
    kept.retain(|past| !forget.contains(past));
    kept.extend(remember);
    kept.drain(..kept.len().saturating_sub(HISTORY_KEPT));
    value.insert("history".to_owned(), json!(kept));
}

fn stamp(path: &Path) -> Stamp {
    let facts = path.symlink_metadata().ok()?;
    Some((facts.ino(), facts.size(), facts.mtime(), facts.mtime_nsec()))
}
