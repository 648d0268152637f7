//! The library as its callers see it: find, import, change, delete, bring back, verify.
//!
//! Puts the parts together and moves their blocking work off the async runtime; what each part promises is written
//! there. Knows jobs, nothing of the wire.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::blocking::blocking;
use crate::config::Layout;
use crate::error::Result;
use crate::events::EventStream;
use crate::jobs::{Job, JobContext, JobService, JobState, Kind, ListJobs, Progress};
use crate::library::catalog::Catalog;
use crate::library::companions::Companions;
use crate::library::facets::{FacetCounts, UsedBy};
use crate::library::import_plan::ImportRequest;
use crate::library::importing::{ImportService, Work};
use crate::library::index::Index;
use crate::library::metadata::ModelMetadata;
use crate::library::search::{Filters, Page, Sort};
use crate::library::staging::Staging;
use crate::library::trash::{Trash, TrashEntry};
use crate::library::verify::VerifyService;
use crate::storage::json_file::JsonObject;
use crate::storage::state_lock::StateLock;
use crate::storage::troubles::Troubles;

/// No call takes longer than 10 s; what is not done by then goes on as a job.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(9);

const IMPORT: &str = "import";
const VERIFY: &str = "verify";
const MOST_JOBS: u32 = 10_000;

/// What is done so far.
#[derive(Debug, Clone)]
pub struct ImportAnswer {
    /// The job that did the work, or still does.
    pub job_id: Option<String>,
    /// In the order of the requests.
    pub results: Vec<Value>,
    /// Requests that are not among the results yet.
    pub pending: usize,
}

/// One model's own files.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ModelDetail {
    /// Its path below the library.
    pub model_id: String,
    /// Absolute path.
    pub folder: String,
    /// `metadata.json` as it is on disk.
    pub metadata: JsonObject,
    /// `overrides.json` as it is on disk.
    pub overrides: JsonObject,
}

/// What another domain needs that brings models in by itself. Calls block.
#[derive(Clone)]
pub struct LibraryParts {
    /// The index.
    pub index: Arc<dyn Index>,
    /// Where models are put together.
    pub staging: Arc<Staging>,
    /// Imports, with the publisher and the holdings.
    pub imports: Arc<ImportService>,
    /// Models' own files.
    pub models: ModelMetadata,
    /// Where deleted models go.
    pub trash: Trash,
}

/// The library. Cheap to clone.
#[derive(Clone)]
pub struct LibraryService {
    /// Finds models.
    pub catalog: Catalog,
    /// For domains that bring models in by themselves.
    pub parts: LibraryParts,
    companions: Arc<dyn Companions>,
    layout: Arc<Layout>,
    jobs: JobService,
    troubles: Arc<Troubles>,
}

impl LibraryService {
    /// Registers the jobs of the library; opens nothing.
    #[must_use]
    pub fn new(
        layout: &Arc<Layout>,
        events: EventStream,
        troubles: &Arc<Troubles>,
        jobs: &JobService,
        companions: Arc<dyn Companions>,
    ) -> Self {
        let catalog = Catalog::new(Arc::clone(layout), events, Arc::clone(troubles));
        let index: Arc<dyn Index> = catalog.index();
        let lock = StateLock::new(layout.state_lock());
        let staging = Arc::new(Staging::new(layout.library(), layout.staging()));
        let models = ModelMetadata::new(layout.library(), lock.clone(), Arc::clone(&index));
        let trash = Trash::new(
            layout.library(),
            layout.trash(),
            lock.clone(),
            Arc::clone(&index),
            Arc::clone(&companions),
        );
        let imports = ImportService::new(Arc::clone(layout), lock, Arc::clone(&staging), Arc::clone(&index));
        let imports = Arc::new(imports);
        let verify = VerifyService::new(layout, models.clone(), Arc::clone(&index), Arc::clone(troubles));
        jobs.register(
            IMPORT,
            runner(Arc::clone(&imports), ImportService::run).at_once(2),
        );
        jobs.register(VERIFY, runner(Arc::new(verify), VerifyService::run));
        Self {
            catalog,
            parts: LibraryParts {
                index,
                staging,
                imports,
                models,
                trash,
            },
            companions,
            layout: Arc::clone(layout),
            jobs: jobs.clone(),
            troubles: Arc::clone(troubles),
        }
    }

    /// Finishes what a killed process left half done. Call after the jobs are open.
    ///
    /// # Errors
    /// The jobs cannot be read. A library on a drive that is away or read-only is no error: nothing is lost, the next
    /// start tries again.
    pub async fn open(&self) -> Result<()> {
        let states = vec![JobState::Paused, JobState::Failed];
        let wanted = ListJobs {
            states,
            limit: MOST_JOBS,
            ..ListJobs::default()
        };
        let unfinished: HashSet<String> = self
            .jobs
            .list(wanted)
            .await?
            .into_iter()
            .map(|job| job.id)
            .collect();
        let (parts, troubles) = (self.parts.clone(), Arc::clone(&self.troubles));
        blocking(move || {
            if let Err(error) = parts.trash.recover() {
                tracing::warn!("not everything left by an earlier run could be finished: {error}");
            }
            parts.staging.sweep(|job_id| unfinished.contains(job_id));
            for leftover in parts.staging.leftovers() {
                troubles.report(&leftover.path, "leftover", leftover.message);
            }
            Ok(())
        })
        .await
    }

    /// Stops a look at the disk that is under way, and closes the index.
    pub async fn close(&self) {
        self.catalog.close().await;
    }

    /// The absolute path of an indexed model's folder.
    #[must_use]
    pub fn folder_of(&self, model_id: &str) -> String {
        format!("{}/{model_id}", self.layout.library().display())
    }

    /// Whether a verification runs or waits.
    #[must_use]
    pub fn is_verifying(&self) -> bool {
        self.jobs.is_active(VERIFY)
    }

    // -- finding -----------------------------------------------------------------------------------------------------

    /// See [`Catalog::search`]; with `apps` only among the models that one of these apps uses.
    ///
    /// # Errors
    /// `TimedOut` after one second.
    pub async fn search(
        &self,
        text: String,
        filters: Filters,
        apps: Vec<String>,
        limit: i64,
        offset: i64,
        sort: Sort,
    ) -> Result<Page> {
        let filters = self.among(filters, apps).await?;
        self.catalog
            .search(text, filters, Some(limit), offset, sort)
            .await
    }

    /// See [`Catalog::facets`].
    ///
    /// # Errors
    /// `TimedOut`.
    pub async fn facets(
        &self,
        text: String,
        filters: Filters,
        apps: Vec<String>,
    ) -> Result<Arc<FacetCounts>> {
        let used_by = self.used_by().await?;
        let filters = self.among(filters, apps).await?;
        self.catalog.facets(text, filters, used_by).await
    }

    async fn among(&self, mut filters: Filters, apps: Vec<String>) -> Result<Filters> {
        if !apps.is_empty() {
            let mut used_by = self.used_by().await?;
            let ids: BTreeSet<String> = apps
                .iter()
                .filter_map(|app| used_by.remove(app))
                .flatten()
                .collect();
            filters.ids = Some(ids.into_iter().collect());
        }
        Ok(filters)
    }

    async fn used_by(&self) -> Result<UsedBy> {
        let companions = Arc::clone(&self.companions);
        blocking(move || companions.used_by()).await
    }

    // -- one model ---------------------------------------------------------------------------------------------------

    /// One model's metadata and overrides.
    ///
    /// # Errors
    /// `ModelNotFound`, `UnsafePath`, `CorruptState`.
    pub async fn detail(&self, model_id: String) -> Result<ModelDetail> {
        self.with_models(move |models| {
            Ok(ModelDetail {
                folder: models.folder(&model_id)?.to_string_lossy().into_owned(),
                metadata: models.load(&model_id)?,
                overrides: models.overrides(&model_id)?,
                model_id,
            })
        })
        .await
    }

    /// Which versions of an app a model is limited to.
    ///
    /// # Errors
    /// `ModelNotFound`, `UnsafePath`, `CorruptState`.
    pub async fn overrides(&self, model_id: String) -> Result<JsonObject> {
        self.with_models(move |models| models.overrides(&model_id)).await
    }

    /// See [`ModelMetadata::update_overrides`].
    ///
    /// # Errors
    /// As there.
    pub async fn update_overrides(&self, model_id: String, overrides: JsonObject) -> Result<()> {
        self.with_models(move |models| models.update_overrides(&model_id, overrides))
            .await
    }

    /// See [`ModelMetadata::mark_manual`].
    ///
    /// # Errors
    /// As there.
    pub async fn mark_manual(&self, model_id: String) -> Result<()> {
        self.with_models(move |models| models.mark_manual(&model_id))
            .await
    }

    /// See [`ModelMetadata::edit`].
    ///
    /// # Errors
    /// As there.
    pub async fn edit(&self, model_id: String, changes: JsonObject) -> Result<()> {
        self.with_models(move |models| models.edit(&model_id, changes))
            .await
    }

    async fn with_models<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ModelMetadata) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let models = self.parts.models.clone();
        blocking(move || work(&models)).await
    }

    // -- import and verify -------------------------------------------------------------------------------------------

    /// Starts an import and answers with what is done within `wait`; the job goes on with the rest.
    ///
    /// # Errors
    /// The job cannot be written down.
    pub async fn import_models(&self, requests: Vec<ImportRequest>, wait: Duration) -> Result<ImportAnswer> {
        let Some(first) = requests.first() else {
            return Ok(ImportAnswer {
                job_id: None,
                results: Vec::new(),
                pending: 0,
            });
        };
        let title = match requests.len() {
            1 => format!(
                "Import {}",
                first
                    .path
                    .trim_end_matches('/')
                    .rsplit('/')
                    .next()
                    .unwrap_or_default()
            ),
            several => format!("Import {several} items"),
        };
        let params = Value::Object(ImportService::job_params(&requests));
        let job = self.jobs.start(IMPORT, params, &title).await?;
        if wait.is_zero() {
            return Ok(answer(job, &requests)); // nothing is done yet, however fast it is
        }
        Ok(answer(self.jobs.wait(&job.id, wait).await?, &requests))
    }

    /// Starts hashing all models, or these.
    ///
    /// # Errors
    /// `ModelNotFound`, `UnsafePath`: one of them does not exist.
    pub async fn verify(&self, model_ids: Option<Vec<String>>) -> Result<Job> {
        let title = match &model_ids {
            None => "Verify the library".to_owned(),
            Some(ids) => format!("Verify {} models", ids.len()),
        };
        let params = VerifyService::job_params(model_ids.as_deref());
        if let Some(ids) = model_ids {
            self.with_models(move |models| ids.iter().try_for_each(|id| models.folder(id).map(|_| ())))
                .await?;
        }
        self.jobs.start(VERIFY, params, &title).await
    }

    // -- trash -------------------------------------------------------------------------------------------------------

    /// See [`Trash::delete`].
    ///
    /// # Errors
    /// As there.
    pub async fn delete(&self, model_id: String, dry_run: bool) -> Result<TrashEntry> {
        self.with_trash(move |trash| trash.delete(&model_id, dry_run))
            .await
    }

    /// See [`Trash::list`].
    ///
    /// # Errors
    /// As there.
    pub async fn trash(&self) -> Result<Vec<TrashEntry>> {
        self.with_trash(Trash::list).await
    }

    /// See [`Trash::restore`].
    ///
    /// # Errors
    /// As there.
    pub async fn restore(&self, trash_id: String, dry_run: bool) -> Result<TrashEntry> {
        self.with_trash(move |trash| trash.restore(&trash_id, dry_run))
            .await
    }

    /// See [`Trash::empty`].
    ///
    /// # Errors
    /// As there.
    pub async fn empty_trash(
        &self,
        trash_ids: Option<Vec<String>>,
        older_than_days: f64,
        dry_run: bool,
    ) -> Result<Vec<TrashEntry>> {
        self.with_trash(move |trash| trash.empty(trash_ids.as_deref(), Some(older_than_days), dry_run))
            .await
    }

    async fn with_trash<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Trash) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let trash = self.parts.trash.clone();
        blocking(move || work(&trash)).await
    }
}

/// What a blocking runner sees of its job.
struct JobWork {
    id: String,
    context: JobContext,
}

impl Work for JobWork {
    fn job_id(&self) -> &str {
        &self.id
    }

    fn checkpoint(&self) -> JsonObject {
        object(self.context.checkpoint())
    }

    fn check(&self) -> Result<()> {
        self.context.check()
    }

    fn report(&self, stage: &str, done: u64, total: u64, item: &str) {
        self.context.report(Progress::new(stage, done, total).item(item));
    }

    fn save_checkpoint(&self, state: JsonObject) -> Result<()> {
        self.context.save_checkpoint_sync(Value::Object(state))
    }
}

/// Runs a service's blocking work as jobs.
fn runner<S: Send + Sync + 'static>(
    service: Arc<S>,
    run: fn(&S, &dyn Work, &JsonObject) -> Result<JsonObject>,
) -> Kind {
    Kind::new(move |context, params| {
        let service = Arc::clone(&service);
        let work = JobWork {
            id: context.job_id(),
            context,
        };
        async move { blocking(move || run(&service, &work, &object(params)).map(Value::Object)).await }
    })
}

fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn results_of(value: &Value) -> Vec<Value> {
    value
        .get("results")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default()
}

fn answer(job: Job, requests: &[ImportRequest]) -> ImportAnswer {
    let job_id = Some(job.id);
    if job.state == JobState::Completed {
        return ImportAnswer {
            job_id,
            results: job.result.as_ref().map(results_of).unwrap_or_default(),
            pending: 0,
        };
    }
    let mut results = results_of(&job.checkpoint);
    if matches!(job.state, JobState::Queued | JobState::Running) {
        let pending = requests.len() - results.len();
        return ImportAnswer {
            job_id,
            results,
            pending,
        };
    }
    // The job itself ended early (cancelled, interrupted, a full disk): the items it had not reached say why.
    let error = job
        .error
        .unwrap_or_else(|| format!("The import is {}.", job.state.as_str()));
    let error_code = job.error_code.unwrap_or_else(|| job.state.as_str().to_owned());
    for request in &requests[results.len().min(requests.len())..] {
        results
            .push(json!({"path": request.path, "success": false, "error": error, "error_code": error_code}));
    }
    ImportAnswer {
        job_id,
        results,
        pending: 0,
    }
}
