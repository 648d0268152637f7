//! The apps that there are. Read when first asked for; the user's files again when somebody wants a list of the apps, or
//! one that is not known.
//!
//! A file of the user's that cannot be used is a trouble and hides no other app; one that takes a shipped app's id is not
//! used. An app whose file goes, or cannot be used any more, stays known as it was: it may run, and has to be stopped.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use indexmap::IndexMap;

use super::AppDescription;
use crate::config::Layout;
use crate::contracts;
use crate::error::{Error, Result};
use crate::storage::files::reason;
use crate::storage::listing::json_files;
use crate::storage::locked;
use crate::storage::troubles::Troubles;

/// What is meant when nobody says which app.
pub const DEFAULT_APP: &str = "comfyui";
const SUBJECT: &str = "launcher-data/apps";
const LARGEST: u64 = 1024 * 1024;

type Found = IndexMap<String, Arc<AppDescription>>;

/// All apps. The first call reads some small files.
pub struct Apps {
    own: PathBuf,
    troubles: Arc<Troubles>,
    found: Mutex<Option<Arc<Found>>>,
    /// What is wrong with the user's files, by name without its ending.
    damaged: Mutex<HashMap<String, String>>,
    /// What the files that are used hold, by app.
    texts: Mutex<HashMap<String, Vec<u8>>>,
    /// What was reported about them.
    troubled: Mutex<HashSet<String>>,
}

impl Apps {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(layout: &Layout, troubles: Arc<Troubles>) -> Self {
        Self {
            own: layout.apps(),
            troubles,
            found: Mutex::default(),
            damaged: Mutex::default(),
            texts: Mutex::default(),
            troubled: Mutex::default(),
        }
    }

    /// Ids ignore case. Blocks.
    ///
    /// # Errors
    /// `UnknownApp`.
    pub fn get(&self, app_id: &str) -> Result<Arc<AppDescription>> {
        let id = app_id.trim().to_lowercase();
        let app = match self.all()?.get(&id) {
            Some(app) => Some(Arc::clone(app)),
            None => self.refreshed()?.get(&id).cloned(),
        };
        app.ok_or_else(|| Error::UnknownApp {
            app_id: app_id.to_owned(),
            damaged: locked(&self.damaged).get(&id).cloned(),
        })
    }

    /// By id, shipped ones first. Blocks.
    ///
    /// # Errors
    /// `Bug`: a shipped description makes no sense.
    pub fn all(&self) -> Result<Arc<IndexMap<String, Arc<AppDescription>>>> {
        let mut found = locked(&self.found);
        if let Some(known) = &*found {
            return Ok(Arc::clone(known));
        }
        let read = Arc::new(self.read(&Found::new())?);
        *found = Some(Arc::clone(&read));
        Ok(read)
    }

    /// As [`Apps::all`], with the user's files as they are now. What did not change is the very same as before. Blocks.
    ///
    /// # Errors
    /// As [`Apps::all`].
    pub fn refreshed(&self) -> Result<Arc<IndexMap<String, Arc<AppDescription>>>> {
        let mut found = locked(&self.found);
        let before = found.clone().unwrap_or_default();
        let read = Arc::new(self.read(&before)?);
        *found = Some(Arc::clone(&read));
        Ok(read)
    }

    /// Whether the app is still known just so. Reads nothing.
    #[must_use]
    pub fn holds(&self, app: &Arc<AppDescription>) -> bool {
        let found = locked(&self.found);
        let known = found.as_ref().and_then(|found| found.get(&app.id));
        known.is_some_and(|known| Arc::ptr_eq(known, app))
    }

    fn read(&self, before: &Found) -> Result<Found> {
        let was_troubled = std::mem::take(&mut *locked(&self.troubled));
        locked(&self.damaged).clear();
        let mut found = Found::new();
        for (name, text) in contracts::APPS {
            if let Some(app) = before.get(name.trim_end_matches(".json")) {
                found.insert(app.id.clone(), Arc::clone(app));
                continue;
            }
            let app = AppDescription::read(name, text.as_bytes())
                .map_err(|error| Error::Bug(format!("contracts/apps: {error}")))?;
            found.insert(app.id.clone(), Arc::new(app));
        }
        found.sort_by(|one, _, other, _| {
            (one != DEFAULT_APP, one.as_str()).cmp(&(other != DEFAULT_APP, other.as_str()))
        });
        for path in self.own_files() {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            match read_own(&path, &name, &found) {
                Ok((app, text)) => {
                    let text_before = locked(&self.texts).insert(app.id.clone(), text.clone());
                    let same = before.get(&app.id).filter(|_| text_before == Some(text));
                    let app = same.map_or_else(|| Arc::new(app), Arc::clone);
                    found.insert(app.id.clone(), app);
                }
                Err(reason) => {
                    let text = format!("This description is not used: {reason}.");
                    self.tell(format!("{SUBJECT}/{name}"), "damaged_app", &text);
                    let id = name.trim_end_matches(".json").to_lowercase();
                    locked(&self.damaged).insert(id, reason);
                }
            }
        }
        for subject in was_troubled.difference(&locked(&self.troubled)) {
            self.troubles.clear(subject);
        }
        for (id, app) in before {
            let is_taken = found.values().any(|other| other.folder == app.folder);
            if !found.contains_key(id) && !is_taken {
                found.insert(id.clone(), Arc::clone(app));
            }
        }
        Ok(found)
    }

    fn tell(&self, subject: String, kind: &str, message: &str) {
        self.troubles.report(&subject, kind, message);
        locked(&self.troubled).insert(subject);
    }

    fn own_files(&self) -> Vec<PathBuf> {
        json_files(&self.own).unwrap_or_else(|error| {
            let text = format!("{error} Apps of your own are not known.");
            self.tell(SUBJECT.to_owned(), error.kind(), &text);
            Vec::new()
        })
    }
}

/// A description of the user's and its text, or why it is not used.
fn read_own(
    path: &Path,
    name: &str,
    found: &Found,
) -> std::result::Result<(AppDescription, Vec<u8>), String> {
    let odd = || "it is no file of a sensible size".to_owned();
    let facts = path.metadata().map_err(|_| odd())?;
    if !facts.is_file() || facts.len() > LARGEST {
        return Err(odd());
    }
    let data = fs::read(path).map_err(|error| reason(&error))?;
    let app = AppDescription::read(name, &data).map_err(|error| match error {
        Error::CorruptState { reason, .. } => reason,
        other => other.to_string(),
    })?;
    if found.contains_key(&app.id) || found.values().any(|other| other.folder == app.folder) {
        return Err(format!(
            "the id {} or the folder {} is another app's",
            app.id, app.folder
        ));
    }
    Ok((app, data))
}

#[cfg(test)]
mod tests {
    use super::super::description::tests::minimal;
    use super::*;

    #[test]
    fn a_file_is_an_app_and_one_that_cannot_be_used_hides_nothing() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        fs::create_dir_all(layout.apps()).unwrap();
        fs::write(layout.apps().join("tiny.json"), minimal().to_string()).unwrap();
        fs::write(layout.apps().join("again.json"), "{").unwrap();
        let mut same = minimal();
        same["id"] = "ollama".into();
        fs::write(layout.apps().join("ollama.json"), same.to_string()).unwrap();
        let troubles = Arc::new(Troubles::default());
        let apps = Apps::new(&layout, Arc::clone(&troubles));
        let ids: Vec<String> = apps.all().unwrap().keys().cloned().collect();
        assert_eq!(ids, ["comfyui", "llamacpp", "ollama", "tiny"]);
        assert_eq!(troubles.count(), 2);
        assert_eq!(apps.get(" Tiny ").unwrap().name, "Tiny");
        let said = apps.get("again").unwrap_err().to_string();
        assert!(
            said.starts_with("There is no app 'again'; its description is not used: "),
            "{said}"
        );
        assert!(matches!(
            apps.get("nothing"),
            Err(Error::UnknownApp { damaged: None, .. })
        ));
    }

    #[test]
    fn files_that_come_change_and_go_are_seen_when_asked_for() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let troubles = Arc::new(Troubles::default());
        let apps = Apps::new(&layout, Arc::clone(&troubles));
        assert!(apps.get("tiny").is_err());
        fs::create_dir_all(layout.apps()).unwrap();
        let own = |text: &str| fs::write(layout.apps().join("tiny.json"), text).unwrap();
        own(&minimal().to_string());
        let tiny = apps.get("tiny").unwrap();
        assert!(Arc::ptr_eq(&apps.refreshed().unwrap()["tiny"], &tiny) && apps.holds(&tiny));
        let mut other = minimal();
        other["name"] = "Other".into();
        own(&other.to_string());
        assert_eq!(apps.refreshed().unwrap()["tiny"].name, "Other");
        assert!(!apps.holds(&tiny) && apps.holds(&apps.get("comfyui").unwrap()));
        own("{");
        assert_eq!(apps.refreshed().unwrap()["tiny"].name, "Other");
        assert_eq!(troubles.count(), 1);
        other["id"] = "renamed".into();
        own(&other.to_string());
        let ids: Vec<String> = apps.refreshed().unwrap().keys().cloned().collect();
        assert_eq!(ids, ["comfyui", "llamacpp", "ollama", "renamed"]);
        assert_eq!(troubles.count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_told_and_hides_no_shipped_app() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        fs::create_dir_all(layout.apps().parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("gone", layout.apps()).unwrap();
        let troubles = Arc::new(Troubles::default());
        assert_eq!(Apps::new(&layout, Arc::clone(&troubles)).all().unwrap().len(), 3);
        assert_eq!(troubles.count(), 1);
    }
}
