//! A library in a temporary folder, and an index that writes down what it is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::error::Result;
use crate::library::index::Index;
use crate::library::metadata::ModelMetadata;
use crate::storage::locked;
use crate::storage::state_lock::StateLock;

#[derive(Default)]
pub(crate) struct Told {
    calls: Mutex<Vec<String>>,
    pub(crate) known: Mutex<Vec<String>>,
}

impl Told {
    pub(crate) fn told(&self) -> Vec<String> {
        locked(&self.calls).clone()
    }

    fn note(&self, call: &str, ids: &[String]) {
        locked(&self.calls).push(format!("{call} {}", ids.join(" ")));
    }
}

impl Index for Told {
    fn refresh(&self, model_ids: &[String]) -> Result<()> {
        self.note("refresh", model_ids);
        Ok(())
    }

    fn remove(&self, model_ids: &[String]) -> Result<()> {
        self.note("remove", model_ids);
        Ok(())
    }

    fn find_by_sha256(&self, _digest: &str) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn find_by_size(&self, _primary_size: u64) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn duplicated(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn contains(&self, model_id: &str) -> Result<bool> {
        Ok(locked(&self.known).iter().any(|known| known == model_id))
    }

    fn model_ids(&self) -> Result<Vec<String>> {
        Ok(locked(&self.known).clone())
    }
}

pub(crate) struct Library {
    folder: tempfile::TempDir,
    pub(crate) index: Arc<Told>,
    root: PathBuf,
}

impl Library {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("shared-resources/models");
        fs::create_dir_all(&root).unwrap();
        Self {
            folder,
            index: Arc::default(),
            root,
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn lock(&self) -> StateLock {
        StateLock::new(self.folder.path().join("launcher-data/state.lock"))
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn model(&self, id: &str, metadata: &Value) {
        self.file(&format!("{id}/metadata.json"), metadata.to_string());
    }

    pub(crate) fn metadata(&self) -> ModelMetadata {
        ModelMetadata::new(self.root.clone(), self.lock(), self.index.clone())
    }
}
