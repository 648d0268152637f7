//! Links as their callers see them: plan, apply, resolve, look after.
//!
//! Applying is a job that is answered when it is quick. The work itself is `work`; what must be right from the start, the
//! registry and what happens to links when models go and come back, is `keeping`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::apps::Apps;
use crate::blocking::blocking;
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::events::EventStream;
use crate::installed::Installed;
use crate::jobs::{JobContext, JobService, JobState, Kind, Progress};
use crate::library::catalog::Catalog;
use crate::library::service::ANSWER_WITHIN;
use crate::links::applying::Watch;
use crate::links::health::Health;
use crate::links::keeping::{Changes, LinkKeeper};
use crate::links::paths::text;
use crate::links::rows::Link;
use crate::links::store::LinkStore;
use crate::links::values::{Allowed, Applied, Plan};
use crate::links::work::{LinkWork, Removed, resolutions_of};
use crate::storage::locked;

/// The kind of its jobs.
pub const APPLY: &str = "apply_links";
const KEPT_PLANS: usize = 4;
/// Planning takes a share of the ten seconds that a call may take.
const PLANNING: Duration = Duration::from_secs(3);

/// What a caller may say about an application.
#[derive(Debug, Clone, Default)]
pub struct ApplyOptions {
    /// Only if that is still the plan.
    pub plan_id: Option<String>,
    /// These models only.
    pub model_ids: Option<Vec<String>>,
    /// By model id: `skip`, `overwrite` or `rename`.
    pub resolutions: IndexMap<String, String>,
    /// What may be done beside links.
    pub allowed: Allowed,
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct ApplyAnswer {
    /// None when there was nothing to do.
    pub job_id: Option<String>,
    /// By tag; those of which nothing is there are still under way in the job.
    pub applied: IndexMap<String, Applied>,
    /// The job goes on.
    pub pending: bool,
}

impl ApplyAnswer {
    /// Of the one version that was applied; nothing yet while that is under way.
    #[must_use]
    pub fn only(mut self) -> (Applied, Option<String>, bool) {
        let done = self.applied.shift_remove_index(0).map(|(_, done)| done);
        (done.unwrap_or_default(), self.job_id, self.pending)
    }
}

/// What a job is about; the form is that on disk.
#[derive(Debug, Clone, Deserialize, Serialize)]
struct Params {
    app_id: String,
    tags: Vec<String>,
    model_ids: Option<Vec<String>>,
    resolutions: IndexMap<String, String>,
    allow_copy: bool,
    #[serde(default)]
    replace_models_link: bool,
    #[serde(default)]
    plan_ids: Vec<String>,
}

impl Params {
    fn allowed(&self) -> Allowed {
        Allowed {
            copy: self.allow_copy,
            replace_models_link: self.replace_models_link,
        }
    }
}

struct Shared {
    layout: Arc<Layout>,
    apps: Arc<Apps>,
    catalog: Catalog,
    jobs: JobService,
    events: EventStream,
    store: Arc<LinkStore>,
    keeper: LinkKeeper,
    work: LinkWork,
    at: Mutex<Vec<(String, String)>>,
    /// Plans that a job is about to carry out, and why one could not be, for the caller who still waits.
    plans: Mutex<IndexMap<String, Arc<Plan>>>,
    failures: Mutex<IndexMap<String, Error>>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct LinkService {
    shared: Arc<Shared>,
}

/// What links need of other domains.
pub struct LinkParts {
    /// The apps.
    pub apps: Arc<Apps>,
    /// What is installed.
    pub installed: Arc<dyn Installed>,
    /// The models.
    pub catalog: Catalog,
    /// Long work.
    pub jobs: JobService,
    /// What happens.
    pub events: EventStream,
    /// The registry.
    pub store: Arc<LinkStore>,
    /// Who keeps it.
    pub keeper: LinkKeeper,
}

impl LinkService {
    /// Registers the job; opens nothing.
    #[must_use]
    pub fn new(layout: &Arc<Layout>, parts: LinkParts) -> Self {
        let work = LinkWork::new(
            layout,
            Arc::clone(&parts.apps),
            parts.installed,
            &parts.store,
            parts.keeper.clone(),
            parts.catalog.index(),
        );
        let events = parts.events.clone();
        parts
            .keeper
            .tell(move |made, removed| tell_all(&events, made, removed));
        let shared = Shared {
            layout: Arc::clone(layout),
            apps: parts.apps,
            catalog: parts.catalog,
            jobs: parts.jobs.clone(),
            events: parts.events,
            store: parts.store,
            keeper: parts.keeper,
            work,
            at: Mutex::default(),
            plans: Mutex::default(),
            failures: Mutex::default(),
        };
        let links = Self {
            shared: Arc::new(shared),
        };
        let runner = links.clone();
        let run = move |context: JobContext, params: Value| {
            let links = runner.clone();
            async move { links.run_apply(context, params).await }
        };
        parts.jobs.register(APPLY, Kind::new(run));
        links
    }

    /// Finish what a killed process left half done. Call after the library is open.
    ///
    /// # Errors
    /// The registry cannot be read or written.
    pub async fn open(&self) -> Result<()> {
        let keeper = self.shared.keeper.clone();
        blocking(move || keeper.recover()).await
    }

    /// Go on with what a kill interrupted. Call after the library and the versions are open.
    ///
    /// # Errors
    /// The list of jobs cannot be read or written.
    pub async fn go_on(&self) -> Result<()> {
        self.shared.jobs.go_on(APPLY).await.map(|_| ())
    }

    /// Close the file, last of all.
    pub fn close_files_sync(&self) {
        self.shared.store.database.close_sync();
    }

    /// Whether links of a version are being made: it must stay where it is.
    #[must_use]
    pub fn works_on(&self, app_id: &str, tag: &str) -> bool {
        locked(&self.shared.at)
            .iter()
            .any(|(app, version)| app == app_id && version == tag)
    }

    async fn with_work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let links = self.clone();
        blocking(move || work(&links)).await
    }

    // -- plan and apply ----------------------------------------------------------------------------------------------

    /// See [`LinkWork::plan`].
    ///
    /// # Errors
    /// See there.
    pub async fn plan(&self, app_id: String, tag: String, allowed: Allowed) -> Result<Plan> {
        self.shared.catalog.fresh().await?;
        self.with_work(move |links| links.shared.work.plan(&app_id, &tag, None, allowed))
            .await
    }

    /// Carry out the plan for a version as it is now, or the one with `plan_id` if that is still the same.
    ///
    /// # Errors
    /// `PlanOutdated`: it is another one; nothing was changed. `InvalidInput`: a resolution that is none. `UnknownApp`,
    /// `VersionNotFound`. `LibraryOffline`, and what the disk refuses: what was done stays and is registered.
    pub async fn apply(&self, app_id: String, tag: String, options: ApplyOptions) -> Result<ApplyAnswer> {
        self.shared.catalog.fresh().await?;
        let params = Params {
            app_id,
            tags: vec![tag.clone()],
            model_ids: options.model_ids,
            resolutions: options.resolutions,
            allow_copy: options.allowed.copy,
            replace_models_link: options.allowed.replace_models_link,
            plan_ids: Vec::new(),
        };
        let (asked, plan_id) = (params.clone(), options.plan_id);
        let plan = self
            .with_work(move |links| {
                resolutions_of(&asked.resolutions)?;
                links.planned(&asked, &tag, plan_id.as_deref())
            })
            .await?;
        self.carry_out(vec![plan], params).await
    }

    fn planned(&self, params: &Params, tag: &str, plan_id: Option<&str>) -> Result<Plan> {
        let ids = params.model_ids.as_deref();
        self.shared
            .work
            .plan_for_apply(&params.app_id, tag, plan_id, ids, params.allowed())
    }

    /// Look at the library anew and apply the plans of all installed versions.
    ///
    /// # Errors
    /// As [`LinkService::apply`].
    pub async fn refresh(&self, app_id: String) -> Result<ApplyAnswer> {
        self.shared.catalog.reconcile().await?;
        let app = app_id.clone();
        let plans = self
            .with_work(move |links| {
                let places = links.shared.work.places.of_app(&app)?;
                let with_models = places.iter().filter(|place| !place.models.is_empty());
                with_models
                    .map(|place| {
                        links
                            .shared
                            .work
                            .plan_for_apply(&app, &place.tag, None, None, Allowed::default())
                    })
                    .collect::<Result<Vec<Plan>>>()
            })
            .await?;
        let params = Params {
            app_id,
            tags: plans.iter().map(|plan| plan.place.tag.clone()).collect(),
            model_ids: None,
            resolutions: IndexMap::new(),
            allow_copy: false,
            replace_models_link: false,
            plan_ids: Vec::new(),
        };
        self.carry_out(plans, params).await
    }

    async fn carry_out(&self, plans: Vec<Plan>, mut params: Params) -> Result<ApplyAnswer> {
        let is_work =
            |plan: &Plan| plan.changes() || (!params.resolutions.is_empty() && plan.has_conflicts());
        let plans: Vec<Arc<Plan>> = plans.into_iter().map(Arc::new).collect();
        if !plans.iter().any(|plan| is_work(plan)) {
            let applied = self
                .with_work(move |links| links.carry_out_now(&plans, &params, None))
                .await?;
            return Ok(ApplyAnswer {
                applied,
                ..ApplyAnswer::default()
            });
        }
        let title = title(&plans);
        params.plan_ids = self.keep_plans(plans);
        let params = serde_json::to_value(&params).map_err(|error| Error::Bug(error.to_string()))?;
        let job = self.shared.jobs.start(APPLY, params, &title).await?;
        let job = self
            .shared
            .jobs
            .wait(&job.id, ANSWER_WITHIN.saturating_sub(PLANNING))
            .await?;
        match job.state {
            JobState::Completed => {
                let applied = job.result.as_ref().and_then(|result| result.get("applied"));
                let applied = serde_json::from_value(applied.cloned().unwrap_or_default());
                Ok(ApplyAnswer {
                    job_id: Some(job.id),
                    applied: applied.map_err(|error| Error::Bug(error.to_string()))?,
                    pending: false,
                })
            }
            JobState::Queued | JobState::Running => Ok(ApplyAnswer {
                job_id: Some(job.id),
                applied: IndexMap::new(),
                pending: true,
            }),
            state => Err(locked(&self.shared.failures)
                .shift_remove(&job.id)
                .unwrap_or_else(|| {
                    let text = job
                        .error
                        .unwrap_or_else(|| format!("Linking is {}.", state.as_str()));
                    Error::OperationFailed(text)
                })),
        }
    }

    fn keep_plans(&self, new: Vec<Arc<Plan>>) -> Vec<String> {
        let mut plans = locked(&self.shared.plans);
        while plans.len() > KEPT_PLANS {
            plans.shift_remove_index(0);
        }
        let with_ids = new.into_iter().map(|plan| (plan.id(), plan));
        let mut ids = Vec::new();
        for (id, plan) in with_ids {
            ids.push(id.clone());
            plans.insert(id, plan);
        }
        ids
    }

    /// Also after a restart: the plans are made anew then, and what was done is not done again.
    async fn run_apply(&self, context: JobContext, params: Value) -> Result<Value> {
        let params: Params = serde_json::from_value(params)
            .map_err(|error| Error::Bug(format!("a job of {APPLY} cannot be read: {error}")))?;
        let job_id = context.job_id();
        let is_known = |id: &String| locked(&self.shared.plans).contains_key(id);
        if !params.plan_ids.iter().all(is_known) {
            self.shared.catalog.fresh().await?;
        }
        let done = self
            .with_work(move |links| links.run_apply_sync(&context, &params))
            .await;
        match done {
            Ok(applied) => Ok(json!({ "applied": applied })),
            Err(error) => {
                let mut failures = locked(&self.shared.failures);
                while failures.len() > KEPT_PLANS {
                    failures.shift_remove_index(0);
                }
                failures.insert(job_id, error.clone());
                Err(error)
            }
        }
    }

    fn run_apply_sync(&self, context: &JobContext, params: &Params) -> Result<IndexMap<String, Applied>> {
        let mut plans = Vec::new();
        for (tag, plan_id) in params.tags.iter().zip(&params.plan_ids) {
            let known = locked(&self.shared.plans).shift_remove(plan_id);
            plans.push(match known {
                Some(plan) => plan,
                None => Arc::new(self.planned(params, tag, None)?),
            });
        }
        self.carry_out_now(&plans, params, Some(context))
    }

    fn carry_out_now(
        &self,
        plans: &[Arc<Plan>],
        params: &Params,
        context: Option<&JobContext>,
    ) -> Result<IndexMap<String, Applied>> {
        let resolutions = resolutions_of(&params.resolutions)?;
        let mut done = IndexMap::new();
        for plan in plans {
            let place = &plan.place;
            let watch = Watching {
                context,
                tag: &place.tag,
            };
            let _at = self.at(&place.app.id, &place.tag);
            let one = self
                .shared
                .work
                .apply(plan, &resolutions, params.allow_copy, &watch)?;
            let version = Some((place.app.id.as_str(), place.version()));
            tell(&self.shared.events, version, one.created, one.removed);
            done.insert(place.tag.clone(), one);
        }
        Ok(done)
    }

    fn at(&self, app_id: &str, tag: &str) -> At<'_> {
        let place = (app_id.to_owned(), tag.to_owned());
        locked(&self.shared.at).push(place.clone());
        At {
            places: &self.shared.at,
            place,
        }
    }

    /// A version came, or came back: bring its links to what the library and the rules are now.
    ///
    /// Links that went with models meanwhile go, those of models that returned meanwhile are made again.
    ///
    /// # Errors
    /// As [`LinkService::apply`].
    pub async fn follow_version(&self, app_id: String, tag: String) -> Result<()> {
        self.open().await?;
        self.apply(app_id, tag, ApplyOptions::default()).await.map(|_| ())
    }

    /// A version is gone for good, and its links with it.
    ///
    /// # Errors
    /// What the registry refused.
    pub async fn forget_version(&self, app_id: String, tag: String) -> Result<()> {
        self.with_work(move |links| {
            let app = links.shared.apps.get(&app_id)?;
            let folder = links.shared.layout.root().join(&app.folder).join(tag);
            links.shared.keeper.version_lost(&text(&folder))
        })
        .await
    }

    // -- health and questions ----------------------------------------------------------------------------------------

    /// See [`LinkWork::health`].
    ///
    /// # Errors
    /// See there.
    pub async fn health(&self, app_id: String, tag: Option<String>) -> Result<Health> {
        self.shared.catalog.fresh().await?;
        self.with_work(move |links| links.shared.work.health(&app_id, tag.as_deref()))
            .await
    }

    /// See [`LinkWork::clean_broken`].
    ///
    /// # Errors
    /// See there.
    pub async fn clean_broken(&self) -> Result<u64> {
        let cleaned = self.with_work(|links| links.shared.work.clean_broken()).await?;
        tell(&self.shared.events, None, 0, cleaned);
        Ok(cleaned)
    }

    /// See [`LinkWork::remove_orphans`].
    ///
    /// # Errors
    /// See there.
    pub async fn remove_orphans(&self, app_id: String, tag: String, paths: Vec<String>) -> Result<Removed> {
        self.shared.catalog.fresh().await?;
        self.with_work(move |links| {
            let done = links.shared.work.remove_orphans(&app_id, &tag, &paths)?;
            let (app, version) = (app_id.trim().to_lowercase(), without_v(tag.trim()));
            tell(&links.shared.events, Some((&app, version)), 0, done.removed);
            Ok(done)
        })
        .await
    }

    /// All links of a model.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub async fn of_model(&self, model_id: String) -> Result<Vec<Link>> {
        self.with_work(move |links| links.shared.store.of_models(&[model_id]))
            .await
    }

    /// (in order of their paths, number of all)
    ///
    /// # Errors
    /// The registry cannot be read.
    pub async fn list(
        &self,
        app_id: Option<String>,
        tag: Option<String>,
        limit: i64,
        offset: i64,
    ) -> Result<(Vec<Link>, i64)> {
        self.with_work(move |links| {
            let app = app_id.map(|app| app.trim().to_lowercase());
            let version = tag.as_deref().map(without_v);
            links.shared.store.page(app.as_deref(), version, limit, offset)
        })
        .await
    }

    /// See [`LinkWork::across`].
    ///
    /// # Errors
    /// See there.
    pub async fn across(&self, app_id: String, tag: String) -> Result<Option<(String, String)>> {
        self.with_work(move |links| links.shared.work.across(&app_id, &tag))
            .await
    }

    /// A path of a registered link, absolute.
    #[must_use]
    pub fn absolute(&self, kept: &str) -> String {
        self.shared.store.absolute(kept)
    }
}

/// A version whose links are being made.
struct At<'a> {
    places: &'a Mutex<Vec<(String, String)>>,
    place: (String, String),
}

impl Drop for At<'_> {
    fn drop(&mut self) {
        let mut places = locked(self.places);
        if let Some(number) = places.iter().position(|place| *place == self.place) {
            places.remove(number);
        }
    }
}

/// A job that follows the work; None when there is none.
struct Watching<'a> {
    context: Option<&'a JobContext>,
    tag: &'a str,
}

impl Watch for Watching<'_> {
    fn check(&self) -> Result<()> {
        self.context.map_or(Ok(()), JobContext::check)
    }

    fn report(&self, done: usize, total: usize) {
        if let Some(context) = self.context {
            let progress = Progress::new("link", done as u64, total as u64);
            context.report(progress.item(self.tag).unit("links"));
        }
    }
}

fn without_v(tag: &str) -> &str {
    tag.trim_start_matches(['v', 'V'])
}

fn tell_all(events: &EventStream, made: &Changes, removed: &Changes) {
    let count = |changes: &Changes, key| changes.get(key).copied().unwrap_or_default();
    let more = removed.keys().filter(|key| !made.contains_key(key));
    for key in made.keys().chain(more) {
        tell(
            events,
            Some((&key.0, &key.1)),
            count(made, key),
            count(removed, key),
        );
    }
}

/// `links.changed`: no version means that it may be any.
fn tell(events: &EventStream, version: Option<(&str, &str)>, made: u64, removed: u64) {
    if made + removed == 0 {
        return;
    }
    let (app_id, app_version) = version.unzip();
    let changed = json!({"app_id": app_id, "app_version": app_version, "made": made, "removed": removed});
    events.publish("links.changed", &changed);
}

fn title(plans: &[Arc<Plan>]) -> String {
    let Some(place) = plans.first().map(|plan| &plan.place) else {
        return String::new();
    };
    if plans.len() == 1 {
        format!("Link models to {} {}", place.app.name, place.tag)
    } else {
        format!("Link models to {} ({} versions)", place.app.name, plans.len())
    }
}
