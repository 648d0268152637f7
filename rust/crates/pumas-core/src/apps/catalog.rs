//! The apps that there are. Read when first asked for.
//!
//! A file of the user's that cannot be used is a trouble and hides no other app; one that takes a shipped app's id is not
//! used.

use std::collections::HashMap;
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
const LARGEST: u64 = 1024 * 1024;

type Found = IndexMap<String, Arc<AppDescription>>;

/// All apps. The first call reads some small files.
pub struct Apps {
    own: PathBuf,
    troubles: Arc<Troubles>,
    found: Mutex<Option<Arc<Found>>>,
    /// What is wrong with the user's files, by name without its ending.
    damaged: Mutex<HashMap<String, String>>,
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
        }
    }

    /// Ids ignore case. Blocks.
    ///
    /// # Errors
    /// `UnknownApp`.
    pub fn get(&self, app_id: &str) -> Result<Arc<AppDescription>> {
        let id = app_id.trim().to_lowercase();
        let app = self.all()?.get(&id).cloned();
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
        let read = Arc::new(self.read()?);
        *found = Some(Arc::clone(&read));
        Ok(read)
    }

    fn read(&self) -> Result<Found> {
        let mut found = Found::new();
        for (name, text) in contracts::APPS {
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
                Ok(app) => {
                    found.insert(app.id.clone(), Arc::new(app));
                }
                Err(reason) => {
                    let subject = format!("launcher-data/apps/{name}");
                    let text = format!("This app is not known: {reason}.");
                    self.troubles.report(&subject, "damaged_app", &text);
                    let id = name.trim_end_matches(".json").to_lowercase();
                    locked(&self.damaged).insert(id, reason);
                }
            }
        }
        Ok(found)
    }

    fn own_files(&self) -> Vec<PathBuf> {
        json_files(&self.own).unwrap_or_else(|error| {
            let text = format!("{error} Apps of your own are not known.");
            self.troubles.report("launcher-data/apps", error.kind(), &text);
            Vec::new()
        })
    }
}

/// A description of the user's, or why it is not used.
fn read_own(path: &Path, name: &str, found: &Found) -> std::result::Result<AppDescription, String> {
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
    Ok(app)
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
