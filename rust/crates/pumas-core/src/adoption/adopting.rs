//! Take stored models into the library without copying a byte: the runner of the job kind `adopt`.
//!
//! One item: read its store again, plan, share the files into staging by clone or hard link (or only name them), write the
//! journal, publish by one rename. A killed item leaves a row in the journal, by which the next start finishes it or takes
//! it back (`settling`), and a resumed job finds what was done. The owner's store is never written.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::adoption::found::{Store, StoreKind, StoredModel};
use crate::adoption::locations::Location;
use crate::adoption::look::Look;
use crate::adoption::planning::{AdoptMode, AdoptRequest, AdoptionPlan, Storage, make_plan};
use crate::adoption::results::{AdoptResult, as_json, checkpoint, failure, object, results_of};
use crate::adoption::scan::Scanner;
use crate::adoption::settling::Settler;
use crate::adoption::store::{Adoption, AdoptionState, Journal};
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::library::copying::{Sharing, can_clone, share_file};
use crate::library::import_source::SourceFile;
use crate::library::importing::Work;
use crate::library::publishing::Publication;
use crate::library::service::LibraryParts;
use crate::storage::clock::now;
use crate::storage::files::{During as _, FOLDER_MODE, PRIVATE_FOLDER_MODE, make_folders, random_hex};
use crate::storage::json_file::JsonObject;
use crate::storage::paths::contained;

const CHECKPOINT_EVERY: Duration = Duration::from_millis(500);
const ID_BYTES: usize = 8;

/// Stores that were read in this job.
type Stores = HashMap<(StoreKind, String), Store>;

/// Calls block; they come from worker threads.
pub struct Adopter {
    layout: Arc<Layout>,
    scanner: Arc<Scanner>,
    journal: Journal,
    settler: Settler,
    library: LibraryParts,
}

impl Adopter {
    /// For the library of `layout`.
    #[must_use]
    pub fn new(layout: Arc<Layout>, scanner: Arc<Scanner>, journal: Journal, library: LibraryParts) -> Self {
        Self {
            settler: Settler::new(layout.library(), layout.staging(), journal.clone()),
            layout,
            scanner,
            journal,
            library,
        }
    }

    /// Do the work of a job. The result is `{success, adopted, failed, size, results}` with an [`AdoptResult`] per request,
    /// in order; what is done so far stands under `results` in the job's checkpoint.
    ///
    /// # Errors
    /// `Cancelled` or `Interrupted` when the job was told to stop; what no single item can be blamed for.
    pub fn run(&self, work: &dyn Work, requests: &[AdoptRequest]) -> Result<JsonObject> {
        let mut results = results_of(&work.checkpoint());
        let done = self.run_rest(work, requests, &mut results);
        let stopped = matches!(done, Err(Error::Cancelled(_) | Error::Interrupted(_)));
        let kept = if stopped {
            work.save_checkpoint(checkpoint(&results))
        } else {
            Ok(())
        };
        // What is staged is used when an interrupted job goes on.
        if done.is_err() && !matches!(done, Err(Error::Interrupted(_))) {
            self.library.staging.discard_job(work.job_id());
        }
        kept.and(done)?;
        let is_adopted = |result: &&Value| result["success"] == true;
        let adopted = results.iter().filter(is_adopted).count();
        let sizes = results
            .iter()
            .filter(is_adopted)
            .filter_map(|result| result["size"].as_u64());
        Ok(object(json!({
            "success": adopted == results.len(),
            "adopted": adopted,
            "failed": results.len() - adopted,
            "size": sizes.sum::<u64>(),
            "results": results,
        })))
    }

    fn run_rest(&self, work: &dyn Work, requests: &[AdoptRequest], results: &mut Vec<Value>) -> Result<()> {
        let mut stores = Stores::new();
        let mut saved = Instant::now();
        let total = requests.len() as u64;
        for (number, request) in requests.iter().enumerate().skip(results.len()) {
            work.check()?;
            work.report("adopting", number as u64, total, &request.name);
            results.push(Value::Object(self.result(work, number, request, &mut stores)?));
            // The journal has each result; the checkpoint grows with all of them and is written now and then.
            if results.len() < requests.len() && saved.elapsed() > CHECKPOINT_EVERY {
                work.save_checkpoint(checkpoint(results))?;
                saved = Instant::now();
            }
        }
        work.report("complete", total, total, "");
        Ok(())
    }

    fn result(
        &self,
        work: &dyn Work,
        number: usize,
        request: &AdoptRequest,
        stores: &mut Stores,
    ) -> Result<JsonObject> {
        let staging_id = staging_id(work.job_id(), number);
        if self.journal.exists()
            && let Some(done) = self.journal.of_item(work.job_id(), number)?
        {
            // Published before a kill.
            self.library.staging.discard(&staging_id);
            return Ok(done.result());
        }
        match self.adopted(work, number, request, stores) {
            Err(stop @ (Error::Cancelled(_) | Error::Interrupted(_) | Error::Bug(_))) => Err(stop),
            Err(error) => {
                self.library.staging.discard(&staging_id);
                Ok(as_json(&failure(request, &error)))
            }
            done => done,
        }
    }

    fn adopted(
        &self,
        work: &dyn Work,
        number: usize,
        request: &AdoptRequest,
        stores: &mut Stores,
    ) -> Result<JsonObject> {
        let model = self.model(work, request, stores)?;
        let find_by_size = |size| self.library.index.find_by_size(size);
        let plan = make_plan(&self.layout, model, request, &find_by_size)?;
        if !request.allow_duplicate {
            self.require_new(&plan.model)?;
        }
        if request.dry_run {
            let storage = self.likely(&plan, request)?;
            let model_id = plan.plan.model_id();
            return Ok(as_json(&self.success(&plan, request, storage, None, &model_id)));
        }
        self.adopt(work.job_id(), number, &plan, request)
    }

    fn model(&self, work: &dyn Work, request: &AdoptRequest, stores: &mut Stores) -> Result<StoredModel> {
        let key = (request.kind, request.store.clone());
        if !stores.contains_key(&key) {
            let location = Location {
                kind: request.kind,
                path: request.store.clone(),
            };
            let store = self.scanner.read(&Look::new(|| work.check()), &location)?;
            stores.insert(key.clone(), store);
        }
        let models = stores.get(&key).map(|store| &*store.models).unwrap_or_default();
        find_model(models, &request.name, request.revision.as_deref()).cloned()
    }

    fn require_new(&self, model: &StoredModel) -> Result<()> {
        match self.scanner.holder(model)? {
            Some(model_id) => Err(Error::DuplicateModel { model_id }),
            None => Ok(()),
        }
    }

    // -- one item ----------------------------------------------------------------------------------------------------

    fn adopt(
        &self,
        job_id: &str,
        number: usize,
        plan: &AdoptionPlan,
        request: &AdoptRequest,
    ) -> Result<JsonObject> {
        let staging_id = staging_id(job_id, number);
        let storage = self.share(&staging_id, job_id, plan, request)?;
        let mut row = Adoption {
            id: format!("adoption-{}", random_hex(ID_BYTES)),
            state: AdoptionState::Begun,
            model_id: plan.plan.model_id(),
            mode: storage.as_str().to_owned(),
            kind: plan.model.kind.as_str().to_owned(),
            store: plan.model.store.clone(),
            name: plan.model.name.clone(),
            revision: plan.model.revision.clone(),
            size: plan.plan.source.size(),
            job_id: job_id.to_owned(),
            item: number,
            result_json: "{}".to_owned(),
            trash_id: None,
            created_at: now(),
            updated_at: String::new(),
        };
        let adoption_id = row.id.clone();
        let mut announce = |model_id: &str| {
            let id = Some(row.id.clone());
            let result = self.success(plan, request, storage, id, model_id);
            model_id.clone_into(&mut row.model_id);
            row.result_json = json!(result).to_string();
            row = self.journal.save(row.clone())?;
            Ok(())
        };
        let wanted_id = plan.plan.model_id();
        let mut publication = Publication {
            wanted_id: &wanted_id,
            metadata: &|model_id| plan.metadata(model_id, &adoption_id, storage).unwrap_or_default(),
            overrides: &JsonObject::new(),
            announce: &mut announce,
            require_new: &|| {
                if request.allow_duplicate {
                    Ok(())
                } else {
                    self.require_new(&plan.model)
                }
            },
        };
        let published = self
            .library
            .imports
            .publisher
            .publish(&staging_id, &mut publication);
        if let Err(error) = published {
            // The next start asks again.
            let _ = self.settler.settle(row);
            return Err(error);
        }
        let result = row.result();
        row.state = AdoptionState::Adopted;
        // It is in the library; the next start completes the row.
        let _ = self.journal.save(row);
        self.library.staging.discard(&staging_id);
        Ok(result)
    }

    /// Put the files into staging in the first way that works for all of them.
    fn share(
        &self,
        staging_id: &str,
        job_id: &str,
        plan: &AdoptionPlan,
        request: &AdoptRequest,
    ) -> Result<Storage> {
        for storage in request.mode.storages() {
            // Without what another way left.
            let folder = self.library.staging.open(staging_id, job_id, &HashSet::new())?;
            let Some(sharing) = storage.sharing() else {
                return Ok(*storage);
            };
            let mut shared = true;
            for file in plan.files() {
                shared = shared && share_one(&folder, file, sharing)?;
            }
            if shared {
                return Ok(*storage);
            }
        }
        let how = if request.mode == AdoptMode::Reflink {
            "cloned"
        } else {
            "hard-linked"
        };
        let reason = format!("the files cannot be {how} into the library's volume; use auto or reference");
        Err(Error::invalid("mode", reason))
    }

    /// What a dry run promises: asks the volumes, with a file that is removed at once.
    fn likely(&self, plan: &AdoptionPlan, request: &AdoptRequest) -> Result<Storage> {
        let staging = self.layout.staging();
        let device = make_folders(&staging, PRIVATE_FOLDER_MODE)
            .and_then(|_| staging.metadata())
            .during("Looking at the library's volume")?
            .dev();
        for storage in request.mode.storages() {
            let is_possible = match storage.sharing() {
                None => true,
                _ if plan.files().iter().any(|file| file.stamp.device != device) => false,
                Some(Sharing::Hardlink) => true,
                Some(Sharing::Reflink) => can_clone(&plan.plan.source.primary()?.path, &staging)?,
            };
            if is_possible {
                return Ok(*storage);
            }
        }
        let reason = "the files lie on another volume than the library; use auto or reference";
        Err(Error::invalid("mode", reason))
    }

    fn success(
        &self,
        plan: &AdoptionPlan,
        request: &AdoptRequest,
        storage: Storage,
        adoption_id: Option<String>,
        model_id: &str,
    ) -> AdoptResult {
        let mut warnings = plan.warnings(storage, request.mode);
        let skipped = plan.plan.source.skipped.iter();
        warnings.extend(skipped.map(|one| format!("{} was left out: {}", one.path, one.reason)));
        let folder = self.layout.library().join(model_id);
        AdoptResult {
            store: plan.model.store.clone(),
            name: plan.model.name.clone(),
            success: true,
            adoption_id,
            model_id: Some(model_id.to_owned()),
            model_path: Some(folder.to_string_lossy().into_owned()),
            mode: Some(storage.as_str()),
            size: plan.plan.source.size(),
            security_tier: Some(plan.plan.security_tier.as_str()),
            security_findings: plan.plan.security_findings.clone(),
            warnings,
            dry_run: request.dry_run,
            ..AdoptResult::default()
        }
    }
}

fn share_one(folder: &Path, file: &SourceFile, sharing: Sharing) -> Result<bool> {
    let target = contained(folder, &file.name, "file name")?;
    make_folders(target.parent().unwrap_or(folder), FOLDER_MODE)
        .during(&format!("Staging {}", file.original_name))?;
    share_file(&file.path, &target, sharing, file.stamp)
}

/// The model of that name; of several revisions the one that a branch or tag points to.
///
/// # Errors
/// `StoredModelNotFound`: there is none. `InvalidInput`: several would do.
pub fn find_model<'a>(
    models: &'a [StoredModel],
    name: &str,
    revision: Option<&str>,
) -> Result<&'a StoredModel> {
    let is_meant = |model: &&StoredModel| {
        model.name == name && (revision.is_none() || model.revision.as_deref() == revision)
    };
    let mut named: Vec<&StoredModel> = models.iter().filter(is_meant).collect();
    if named.is_empty() {
        return Err(Error::StoredModelNotFound(name.to_owned()));
    }
    if named.len() > 1 {
        named.retain(|model| model.refs.iter().any(|name| name == "main"));
    }
    match named[..] {
        [model] => Ok(model),
        _ => {
            let name = crate::text::cut(name, 200);
            let reason = format!("{name} is there in several revisions; say which");
            Err(Error::invalid("revision", reason))
        }
    }
}

fn staging_id(job_id: &str, number: usize) -> String {
    format!("{job_id}.{number}")
}
