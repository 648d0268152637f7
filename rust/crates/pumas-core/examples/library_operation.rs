//! One operation on a library, begun when told to: so a test can attach to the process first, and then kill it, or make
//! its system calls fail, at any call of the operation and at no other.
//!
//! ```text
//! library_operation '{"op": "delete", "root": "/launcher", "model_id": "llm/llama/x"}'
//! ```
//!
//! says `ready`, waits for a byte, and says `{"result": …}` or `{"error_code": …, "error": …}`. It hears and speaks by
//! readv(2) and writev(2), which no operation uses, so that faults of read(2) and write(2) do not meet it.

use std::error::Error as StdError;
use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pumas_core::Error;
use pumas_core::config::Layout;
use pumas_core::error::Result;
use pumas_core::library::companions::NoCompanions;
use pumas_core::library::importing::{ImportService, Work};
use pumas_core::library::index::Index;
use pumas_core::library::metadata::ModelMetadata;
use pumas_core::library::staging::Staging;
use pumas_core::library::trash::Trash;
use pumas_core::storage::files::{During as _, write_durably};
use pumas_core::storage::json_file::JsonObject;
use pumas_core::storage::state_lock::StateLock;
use rustix::process::{PTracer, set_ptracer};
use serde_json::{Value, json};

fn main() -> std::result::Result<(), Box<dyn StdError>> {
    let command: JsonObject = serde_json::from_str(&std::env::args().nth(1).unwrap_or_default())?;
    // Where Yama restricts ptrace to descendants, the tracer is a sibling.
    let _ = set_ptracer(PTracer::Any);
    rustix::io::writev(rustix::stdio::stdout(), &[IoSlice::new(b"ready\n")])?;
    rustix::io::readv(rustix::stdio::stdin(), &mut [IoSliceMut::new(&mut [0])])?;
    let said = match operation(&command) {
        Ok(result) => json!({ "result": result }),
        Err(Error::Bug(text)) => json!({ "bug": text }),
        Err(error) => json!({"error_code": error.kind(), "error": error.to_string()}),
    };
    rustix::io::writev(
        rustix::stdio::stdout(),
        &[IoSlice::new(said.to_string().as_bytes())],
    )?;
    Ok(())
}

fn operation(command: &JsonObject) -> Result<Value> {
    let text = |key: &str| command.get(key).and_then(Value::as_str).unwrap_or_default();
    let layout = Arc::new(Layout::new(Path::new(text("root"))));
    let (library, lock) = (layout.library(), StateLock::new(layout.state_lock()));
    let index = Arc::new(DiskIndex(library.clone()));
    let trash = Trash::new(
        library.clone(),
        layout.trash(),
        lock.clone(),
        index.clone(),
        Arc::new(NoCompanions),
    );
    let models = ModelMetadata::new(library.clone(), lock.clone(), index.clone());
    match text("op") {
        "import" => {
            let staging = Arc::new(Staging::new(library, layout.staging()));
            let imports = ImportService::new(layout, lock, staging, index);
            Ok(imports.run(&FileJob(text("job").into()), command)?.into())
        }
        "delete" => Ok(trash.delete(text("model_id"), false)?.trash_id.into()),
        "restore" => Ok(trash.restore(text("trash_id"), false)?.trash_id.into()),
        "empty" => Ok(trash
            .empty(Some(&[text("trash_id").to_owned()]), None, false)?
            .len()
            .into()),
        "metadata" => Ok(models.mark_manual(text("model_id"))?.into()),
        "overrides" => {
            let overrides = JsonObject::from_iter([("new".to_owned(), json!([1, 2, 3]))]);
            Ok(models.update_overrides(text("model_id"), overrides)?.into())
        }
        other => Err(Error::Bug(format!("there is no operation {other}"))),
    }
}

/// A job whose checkpoint is a file: what the jobs database is to the sidecar.
struct FileJob(PathBuf);

impl Work for FileJob {
    fn job_id(&self) -> &'static str {
        "import-1"
    }

    fn checkpoint(&self) -> JsonObject {
        let saved = fs::read(&self.0).unwrap_or_default();
        serde_json::from_slice(&saved).unwrap_or_default()
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn report(&self, _: &str, _: u64, _: u64, _: &str) {}

    fn save_checkpoint(&self, state: JsonObject) -> Result<()> {
        write_durably(&self.0, Value::Object(state).to_string().as_bytes(), 0o600).during("Saving the job")
    }
}

/// Answers from the metadata files themselves.
struct DiskIndex(PathBuf);

impl DiskIndex {
    fn metadata(&self, model_id: &str) -> Value {
        let text = fs::read(self.0.join(model_id).join("metadata.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn sha256(&self, model_id: &str) -> Option<String> {
        let metadata = self.metadata(model_id);
        let digest = metadata.pointer("/hashes/sha256").and_then(Value::as_str);
        digest.filter(|digest| !digest.is_empty()).map(str::to_owned)
    }

    fn has_file_of(&self, model_id: &str, size: u64) -> bool {
        let metadata = self.metadata(model_id);
        let files = metadata.get("files").and_then(Value::as_array);
        files.into_iter().flatten().any(|file| {
            file.get("size")
                .is_none_or(|known| known.is_null() || known.as_u64() == Some(size))
        })
    }

    fn matching(&self, fits: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let mut ids = self.model_ids()?;
        ids.retain(|id| fits(id));
        Ok(ids)
    }
}

impl Index for DiskIndex {
    fn refresh(&self, _: &[String]) -> Result<()> {
        Ok(())
    }

    fn remove(&self, _: &[String]) -> Result<()> {
        Ok(())
    }

    fn find_by_sha256(&self, digest: &str) -> Result<Vec<String>> {
        self.matching(|id| self.sha256(id).as_deref() == Some(digest))
    }

    fn find_by_size(&self, primary_size: u64) -> Result<Vec<String>> {
        self.matching(|id| self.has_file_of(id, primary_size))
    }

    fn duplicated(&self) -> Result<Vec<String>> {
        let digests: Vec<String> = self
            .model_ids()?
            .iter()
            .filter_map(|id| self.sha256(id))
            .collect();
        let is_twice = |digest: &String| digests.iter().filter(|other| *other == digest).count() > 1;
        self.matching(|id| self.sha256(id).as_ref().is_some_and(is_twice))
    }

    fn contains(&self, model_id: &str) -> Result<bool> {
        Ok(self.model_ids()?.iter().any(|id| id == model_id))
    }

    fn model_ids(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut waiting = vec![self.0.clone()];
        while let Some(folder) = waiting.pop() {
            for entry in fs::read_dir(&folder).during("Reading the library")? {
                let entry = entry.during("Reading the library")?;
                let name = entry.file_name();
                if name.as_encoded_bytes().starts_with(b".") {
                    continue;
                }
                if entry.file_type().during("Reading the library")?.is_dir() {
                    waiting.push(entry.path());
                } else if name == "metadata.json"
                    && let Ok(id) = folder.strip_prefix(&self.0)
                {
                    found.push(id.to_string_lossy().into_owned());
                }
            }
        }
        found.sort();
        Ok(found)
    }
}
