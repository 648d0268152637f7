//! Adoption as its callers see it: scan other programs' stores, take models in without copying, list, undo.
//!
//! Scans and adoptions are jobs that are answered at once when they are quick. The last scans are kept in memory, so that
//! an id from them is found again without another look; older ids are looked up by a new scan. The work itself is `work`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::adoption::planning::{AdoptMode, AdoptRequest};
use crate::adoption::programs::Surroundings;
use crate::adoption::results::{AdoptResult, results_of};
use crate::adoption::scan::{Around, Scan};
use crate::adoption::store::Journal;
use crate::adoption::undoing::{Meant, Undone};
use crate::adoption::work::{AdoptionWork, ListedAdoption, Wanted, given_folders};
use crate::blocking::blocking;
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::jobs::{Job, JobContext, JobService, JobState, Kind, Progress};
use crate::library::importing::Work;
use crate::library::service::{ANSWER_WITHIN, LibraryParts};
use crate::storage::json_file::JsonObject;
use crate::storage::locked;
use crate::storage::troubles::Troubles;

/// The kind of the jobs that scan.
pub const SCAN: &str = "scan_stores";
/// The kind of the jobs that adopt.
pub const ADOPT: &str = "adopt";
const KEPT_SCANS: usize = 2;
/// Finding what to adopt and then answering with what is done must not take longer than a call may.
const FIND_WITHIN: Duration = Duration::from_secs(4);
const ADOPT_WITHIN: Duration = Duration::from_secs(5);

/// What a job that scans is about; the form is that on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ScanParams {
    folders: Vec<String>,
    known: bool,
}

/// What a job that adopts is about; the form is that on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct AdoptParams {
    requests: Vec<AdoptRequest>,
}

/// What a scan found, once it is done.
#[derive(Debug, Clone)]
pub struct ScanAnswer {
    /// The job that looks.
    pub job_id: String,
    /// None while it still does.
    pub scan: Option<Arc<Scan>>,
}

/// What is done so far.
#[derive(Debug, Clone, Default)]
pub struct AdoptAnswer {
    /// None when there was nothing to do.
    pub job_id: Option<String>,
    /// In the order of the requests, each an [`AdoptResult`].
    pub results: Vec<Value>,
    /// Requests that are not among the results yet.
    pub pending: usize,
}

struct Shared {
    jobs: JobService,
    journal: Journal,
    work: AdoptionWork,
    scans: Mutex<IndexMap<String, Arc<Scan>>>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct AdoptionService {
    shared: Arc<Shared>,
}

impl AdoptionService {
    /// Registers the jobs; opens nothing.
    ///
    /// # Errors
    /// `Bug`: the schema of the journal cannot be used.
    pub fn new(
        layout: &Arc<Layout>,
        parts: LibraryParts,
        jobs: &JobService,
        troubles: &Arc<Troubles>,
    ) -> Result<Self> {
        let launcher = Arc::clone(layout);
        let around: Around = Arc::new(move || Surroundings::real(&launcher));
        Self::with_around(layout, parts, jobs, troubles, around)
    }

    /// As [`AdoptionService::new`]; `around` says where programs keep their models.
    ///
    /// # Errors
    /// As there.
    pub fn with_around(
        layout: &Arc<Layout>,
        parts: LibraryParts,
        jobs: &JobService,
        troubles: &Arc<Troubles>,
        around: Around,
    ) -> Result<Self> {
        let journal = Journal::new(layout, troubles)?;
        let shared = Arc::new(Shared {
            jobs: jobs.clone(),
            work: AdoptionWork::new(layout, parts, journal.clone(), around),
            journal,
            scans: Mutex::default(),
        });
        let service = Self { shared };
        let scanning = service.clone();
        jobs.register(
            SCAN,
            Kind::new(move |context, params| scanning.clone().run_scan(context, params)),
        );
        let adopting = service.clone();
        jobs.register(
            ADOPT,
            Kind::new(move |context, params| adopting.clone().run_adopt(context, params)),
        );
        Ok(service)
    }

    /// Finish or take back what a killed process left half done. Call after the library is open.
    ///
    /// # Errors
    /// None of the disk: what cannot be looked after now is at the next start.
    pub async fn open(&self) -> Result<()> {
        let recovered = self.with_work(AdoptionWork::recover).await;
        if let Err(error) = recovered {
            tracing::warn!("not every adoption of an earlier run could be looked after: {error}");
        }
        Ok(())
    }

    /// Close the file, last of all.
    pub fn close_files_sync(&self) {
        self.shared.journal.close_sync();
    }

    async fn with_work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AdoptionWork) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        blocking(move || work(&shared.work)).await
    }

    // -- scan --------------------------------------------------------------------------------------------------------

    /// Look at the stores in `folders` and, with `known`, at those where programs keep theirs.
    ///
    /// # Errors
    /// `UnsafePath`: one of the folders is no absolute path. `InvalidInput`: one of them is no folder.
    pub async fn scan(&self, folders: Vec<String>, known: bool) -> Result<ScanAnswer> {
        let paths = blocking(move || given_folders(&folders, "folders")).await?;
        let folders = paths.iter().map(|path| path.to_string_lossy().into_owned());
        let params = ScanParams {
            folders: folders.collect(),
            known,
        };
        let title = "Scan the model stores of other programs";
        let job = self.shared.jobs.start(SCAN, json!(params), title).await?;
        self.scanned(&job.id).await
    }

    /// The scan of a job, waiting for it for some seconds.
    ///
    /// # Errors
    /// `JobNotFound`: no such scan, or it was too long ago. `OperationFailed`: it failed or was cancelled.
    pub async fn scanned(&self, job_id: &str) -> Result<ScanAnswer> {
        let job = self.shared.jobs.wait(job_id, ANSWER_WITHIN).await?;
        if job.kind != SCAN {
            return Err(Error::JobNotFound(job_id.to_owned()));
        }
        let scan = locked(&self.shared.scans).get(&job.id).cloned();
        let is_under_way = matches!(job.state, JobState::Queued | JobState::Running);
        match (&scan, job.state) {
            (None, JobState::Completed) => Err(Error::JobNotFound(job_id.to_owned())),
            (None, state) if !is_under_way => {
                let text = job.error.unwrap_or_else(|| format!("The scan is {state}."));
                Err(Error::OperationFailed(text))
            }
            _ => Ok(ScanAnswer {
                job_id: job.id,
                scan: scan.filter(|_| !is_under_way),
            }),
        }
    }

    async fn run_scan(self, context: JobContext, params: Value) -> Result<Value> {
        let params: ScanParams = read_params(params)?;
        let job_id = context.job_id();
        let look = move |work: &AdoptionWork| work.scan(&params.folders, params.known, &|| context.check());
        let scan = self.with_work(look).await?;
        let summary = json!({
            "stores": scan.stores.len(),
            "models": scan.models().count(),
            "freed_bytes": scan.duplicates.freed_bytes,
            "seconds": scan.took.as_secs_f64(),
        });
        let mut scans = locked(&self.shared.scans);
        while scans.len() >= KEPT_SCANS {
            scans.shift_remove_index(0);
        }
        scans.insert(job_id, Arc::new(scan));
        Ok(summary)
    }

    // -- adopt -------------------------------------------------------------------------------------------------------

    /// Take models in and answer with what is done within ten seconds; the job goes on with the rest. `folders` are where
    /// else to look for ids, as they were given to the scan.
    ///
    /// # Errors
    /// `StoredModelNotFound`, `InvalidInput`, `UnsafePath`, `TimedOut`: one of `wanted` cannot be found; nothing was done.
    pub async fn adopt(
        &self,
        wanted: Vec<Wanted>,
        mode: AdoptMode,
        folders: Vec<String>,
        dry_run: bool,
    ) -> Result<AdoptAnswer> {
        if wanted.is_empty() {
            return Ok(AdoptAnswer::default());
        }
        let scans: Vec<Arc<Scan>> = locked(&self.shared.scans).values().cloned().collect();
        let find = move |work: &AdoptionWork| work.requests(wanted, mode, &folders, &scans, dry_run);
        let found = tokio::time::timeout(FIND_WITHIN, self.with_work(find)).await;
        let Ok(requests) = found else {
            let text = "Finding these models took too long; scan first, then adopt by stored_id.";
            return Err(Error::TimedOut(text.to_owned()));
        };
        let params = AdoptParams { requests: requests? };
        let title = match &params.requests[..] {
            [only] => format!("Adopt {}", only.name),
            several => format!("Adopt {} models", several.len()),
        };
        let job = self.shared.jobs.start(ADOPT, json!(params), &title).await?;
        let job = self.shared.jobs.wait(&job.id, ADOPT_WITHIN).await?;
        Ok(answer(job, &params.requests))
    }

    async fn run_adopt(self, context: JobContext, params: Value) -> Result<Value> {
        let params: AdoptParams = read_params(params)?;
        let work = ModelsWork {
            id: context.job_id(),
            context,
        };
        let done = self.with_work(move |adoption| adoption.adopt(&work, &params.requests));
        done.await.map(Value::Object)
    }

    // -- adoptions ---------------------------------------------------------------------------------------------------

    /// (newest first, number of all).
    ///
    /// # Errors
    /// What the disk refuses.
    pub async fn adoptions(
        &self,
        undone: bool,
        limit: i64,
        offset: i64,
    ) -> Result<(Vec<ListedAdoption>, i64)> {
        self.with_work(move |work| work.adoptions(undone, limit, offset))
            .await
    }

    /// See [`crate::adoption::undoing::Undoer::undo`].
    ///
    /// # Errors
    /// See there; `InvalidInput` unless exactly one of the two is given.
    pub async fn undo(
        &self,
        adoption_id: Option<String>,
        model_id: Option<String>,
        dry_run: bool,
    ) -> Result<Undone> {
        let meant = match (adoption_id, model_id) {
            (Some(id), None) => Meant::Adoption(id),
            (None, Some(id)) => Meant::Model(id),
            _ => {
                return Err(Error::invalid(
                    "adoption_id",
                    "give either adoption_id or model_id",
                ));
            }
        };
        self.with_work(move |work| work.undo(&meant, dry_run)).await
    }
}

/// What a runner that counts models sees of its job.
struct ModelsWork {
    id: String,
    context: JobContext,
}

impl Work for ModelsWork {
    fn job_id(&self) -> &str {
        &self.id
    }

    fn checkpoint(&self) -> JsonObject {
        match self.context.checkpoint() {
            Value::Object(kept) => kept,
            _ => JsonObject::new(),
        }
    }

    fn check(&self) -> Result<()> {
        self.context.check()
    }

    fn report(&self, stage: &str, done: u64, total: u64, item: &str) {
        let progress = Progress::new(stage, done, total).item(item).unit("models");
        self.context.report(progress);
    }

    fn save_checkpoint(&self, state: JsonObject) -> Result<()> {
        self.context.save_checkpoint_sync(Value::Object(state))
    }
}

fn read_params<T: serde::de::DeserializeOwned>(params: Value) -> Result<T> {
    serde_json::from_value(params)
        .map_err(|error| Error::Bug(format!("the parameters of a job cannot be read: {error}")))
}

fn answer(job: Job, requests: &[AdoptRequest]) -> AdoptAnswer {
    let of = |kept: &Value| kept.as_object().map(results_of).unwrap_or_default();
    let mut answer = AdoptAnswer {
        job_id: Some(job.id),
        results: of(&job.checkpoint),
        pending: 0,
    };
    match job.state {
        JobState::Completed => answer.results = job.result.as_ref().map(of).unwrap_or_default(),
        JobState::Queued | JobState::Running => {
            answer.pending = requests.len().saturating_sub(answer.results.len());
        }
        state => {
            // The job itself ended early (cancelled, interrupted, a full disk): the items it had not reached say why.
            let error = job.error.unwrap_or_else(|| format!("The adoption is {state}."));
            let code = job.error_code.unwrap_or_else(|| state.as_str().to_owned());
            let reached = answer.results.len();
            answer
                .results
                .extend(requests.iter().skip(reached).map(|request| {
                    json!(AdoptResult {
                        store: request.store.clone(),
                        name: request.name.clone(),
                        error: Some(error.clone()),
                        error_code: Some(code.clone()),
                        ..AdoptResult::default()
                    })
                }));
        }
    }
    answer
}
