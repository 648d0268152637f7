//! Bring the user's model files into the library without ever risking them.
//!
//! One item: plan, make room, stage (hashed on the way), compare digests with what the library has, write the metadata into
//! the staging folder, publish by one rename, tell the index, and only then, and only for `move`, remove the source files
//! that are still what was imported. The checkpoint names the id before the rename, so a killed import that had published
//! is finished, not repeated. `batch` does this for the requests of a job, in order. Which files make one model is known to
//! `import_source`, what it is to `import_plan`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::config::Layout;
use crate::error::{Error, Result};
use crate::library::copying::can_clone;
use crate::library::hashing::Digests;
use crate::library::holdings::Holdings;
use crate::library::import_plan::{ImportPlan, ImportRequest, candidates, make_plan};
use crate::library::import_source::SourceFile;
use crate::library::index::Index;
use crate::library::publishing::Publisher;
use crate::library::staging::Staging;
use crate::storage::files::{MARGIN, require_space};
use crate::storage::json_file::JsonObject;
use crate::storage::state_lock::StateLock;

mod batch;
mod kept_paths;
mod moving;
mod results;

use batch::Batch;
pub use results::ItemResult;

/// What an import needs of its job. Calls come from the worker thread.
pub trait Work {
    /// The job's id, which also names its staging folders.
    fn job_id(&self) -> &str;

    /// What was saved last, `{}` at the first start.
    fn checkpoint(&self) -> JsonObject;

    /// # Errors
    /// `Cancelled` or `Interrupted` when the job should stop.
    fn check(&self) -> Result<()>;

    /// Say how far the work is, in bytes.
    fn report(&self, stage: &str, done: u64, total: u64, item: &str);

    /// Keep `state` durably.
    ///
    /// # Errors
    /// What the disk refuses.
    fn save_checkpoint(&self, state: JsonObject) -> Result<()>;
}

/// Imports models; [`ImportService::run`] is the runner of the job kind `import`.
pub struct ImportService {
    layout: Arc<Layout>,
    staging: Arc<Staging>,
    /// Gives staged models their places; downloads use it too.
    pub publisher: Arc<Publisher>,
    /// What is there already.
    pub holdings: Arc<Holdings>,
    index: Arc<dyn Index>,
}

impl ImportService {
    /// For the library of `layout`.
    pub fn new(layout: Arc<Layout>, lock: StateLock, staging: Arc<Staging>, index: Arc<dyn Index>) -> Self {
        let library = layout.library();
        Self {
            publisher: Arc::new(Publisher::new(
                library.clone(),
                lock,
                staging.clone(),
                index.clone(),
            )),
            holdings: Arc::new(Holdings::new(library, index.clone())),
            layout,
            staging,
            index,
        }
    }

    /// What an import would do. Blocks.
    ///
    /// # Errors
    /// As [`make_plan`].
    pub fn plan(&self, request: ImportRequest) -> Result<ImportPlan> {
        make_plan(&self.layout, request, &|size| self.index.find_by_size(size))
    }

    /// The paths to import for everything in `path`. Blocks.
    ///
    /// # Errors
    /// As [`make_plan`].
    pub fn candidates(&self, path: &str) -> Result<Vec<String>> {
        candidates(&self.layout, path)
    }

    /// The parameters of the job that imports these.
    #[must_use]
    pub fn job_params(requests: &[ImportRequest]) -> JsonObject {
        JsonObject::from_iter([("requests".to_owned(), json!(requests))])
    }

    /// Do the work of a job; blocks. The result is `{success, imported, failed, results}` with an [`ItemResult`] per
    /// request, in order. What is done so far stands under `results` in the job's checkpoint.
    ///
    /// # Errors
    /// `Cancelled` or `Interrupted` when the job was told to stop; what no single item can be blamed for.
    pub fn run(&self, work: &dyn Work, params: &JsonObject) -> Result<JsonObject> {
        let done = self.run_all(work, params);
        // What is staged is used when an interrupted job goes on.
        if matches!(&done, Err(error) if !matches!(error, Error::Interrupted(_))) {
            self.staging.discard_job(work.job_id());
        }
        let results = done?;
        let failed = results.iter().filter(|result| !result.success).count();
        let summary = json!({
            "success": failed == 0,
            "imported": results.len() - failed,
            "failed": failed,
            "results": results,
        });
        Ok(object(summary))
    }

    fn run_all(&self, work: &dyn Work, params: &JsonObject) -> Result<Vec<ItemResult>> {
        let requests = params.get("requests").cloned().unwrap_or_default();
        let requests: Vec<ImportRequest> = serde_json::from_value(requests)
            .map_err(|error| Error::Bug(format!("the parameters of an import cannot be read: {error}")))?;
        work.check()?;
        Batch::new(self, work, requests)?.run()
    }

    /// Answer `NotEnoughSpace` before the first byte, unless the file system can share the source's blocks.
    fn make_room(&self, plan: &ImportPlan, staging_id: &str, staged: u64) -> Result<()> {
        let enough = require_space(
            &self.layout.library(),
            plan.new_bytes.saturating_sub(staged),
            MARGIN,
        );
        match enough {
            Err(full @ Error::NotEnoughSpace { .. }) if plan.new_bytes > 0 => {
                let folder = self.staging.folder(staging_id)?;
                if can_clone(&plan.source.primary()?.path, &folder)? {
                    Ok(())
                } else {
                    Err(full)
                }
            }
            enough => enough,
        }
    }

    /// Answer `DuplicateModel` when one model of the library holds all the weights of `plan`.
    fn require_new(&self, plan: &ImportPlan, digests: &HashMap<String, Digests>) -> Result<()> {
        if plan.request.allow_duplicate {
            return Ok(());
        }
        let held = |file: &SourceFile| Some((digests.get(&file.name)?.sha256.clone(), file.stamp.size));
        let weights: HashSet<_> = plan.source.weights().filter_map(held).collect();
        match self.holdings.model_with(&weights)? {
            Some(model_id) => Err(Error::DuplicateModel { model_id }),
            None => Ok(()),
        }
    }
}

fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    }
}
