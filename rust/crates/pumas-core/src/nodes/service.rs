//! Custom nodes of versions, for callers: list, install, update, remove.
//!
//! Installing and updating are jobs of the kind `custom_node`, one at a time, answered when they are quick. A start after a
//! kill takes back what was half done, and lets the job go on.

use std::path::Path;
use std::sync::{Arc, Mutex};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::addresses::{check_ref, check_url};
use super::git::Git;
use super::naming::{check_name, name_of};
use super::record::NAME;
use super::trash::RemovedNode;
use super::work::{InstallRequirements, Node, Nodes, STAGING, TRASH};
use crate::apps::{Apps, DEFAULT_APP};
use crate::blocking::blocking;
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::installed::{Installed, Version};
use crate::jobs::{JobContext, JobService, JobState, Kind, Progress};
use crate::library::service::ANSWER_WITHIN;
use crate::storage::files::exists;
use crate::storage::locked;
use crate::text::cut;
use crate::versions::running::end_noted;

/// The kind of its jobs.
pub const KIND: &str = "custom_node";
const KEPT_FAILURES: usize = 20;

/// What was done, or that it goes on.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The job.
    pub job_id: String,
    /// None while the job is still at it.
    pub done: Option<Changed>,
}

/// What became of a node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Changed {
    /// Its name.
    pub name: String,
    /// The full id that it is at now.
    pub commit: Option<String>,
    /// Before an update.
    pub previous_commit: Option<String>,
}

/// Installs the packages that a node names.
pub trait Requirements: Send + Sync {
    /// Into the environment of a version, blocking; `context` says when to stop.
    ///
    /// # Errors
    /// `Unsupported`: the version has none. `InstallFailed`, `DependencyFailed`, and what the disk refuses.
    fn install(&self, context: &JobContext, version: &Version, requirements: &Path) -> Result<()>;
}

/// What a job is about; the form is that on disk.
#[derive(Debug, Clone, Deserialize, Serialize)]
struct Params {
    #[serde(rename = "do")]
    what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commit: Option<Value>,
    tag: String,
    requirements: bool,
}

const INSTALL: &str = "install";
const UPDATE: &str = "update";

/// What is to be installed.
#[derive(Debug, Clone)]
pub struct InstallNode {
    /// Of the version.
    pub tag: String,
    /// Of the repository.
    pub url: String,
    /// Of its folder; None: the last part of the address.
    pub name: Option<String>,
    /// A full id on its main branch; None: the newest.
    pub commit: Option<String>,
    /// Install its requirements into the version's environment.
    pub requirements: bool,
}

/// What nodes need of other domains.
pub struct NodeParts {
    /// The apps.
    pub apps: Arc<Apps>,
    /// What is installed.
    pub installed: Arc<dyn Installed>,
    /// Long work.
    pub jobs: JobService,
    /// Installs packages.
    pub requirements: Arc<dyn Requirements>,
}

struct Shared {
    layout: Arc<Layout>,
    parts: NodeParts,
    at: Mutex<Option<String>>,
    changing: tokio::sync::Mutex<()>,
    failures: Mutex<IndexMap<String, Error>>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct NodeService {
    shared: Arc<Shared>,
}

impl NodeService {
    /// Registers the job; opens nothing.
    #[must_use]
    pub fn new(layout: &Arc<Layout>, parts: NodeParts) -> Self {
        let jobs = parts.jobs.clone();
        let shared = Shared {
            layout: Arc::clone(layout),
            parts,
            at: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            failures: Mutex::default(),
        };
        let nodes = Self {
            shared: Arc::new(shared),
        };
        let runner = nodes.clone();
        let run = move |context: JobContext, params: Value| {
            let nodes = runner.clone();
            async move { nodes.run(context, params).await }
        };
        jobs.register(KIND, Kind::new(run));
        nodes
    }

    /// Take back what a kill left half done, and go on with it. Call after the jobs and the versions are open.
    ///
    /// # Errors
    /// What reading the jobs or the versions refuses.
    pub async fn open(&self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.tidy()).await?;
        self.shared.parts.jobs.go_on(KIND).await.map(|_| ())
    }

    /// Whether nodes of a version are being changed: it must stay where it is.
    #[must_use]
    pub fn works_on(&self, app_id: &str, tag: &str) -> bool {
        app_id == DEFAULT_APP && locked(&self.shared.at).as_deref() == Some(tag)
    }

    async fn asked<T: Send + 'static>(
        &self,
        tag: String,
        ask: impl FnOnce(Nodes) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        blocking(move || ask(shared.nodes(&shared.version(&tag)?, Git::default())?)).await
    }

    /// By name.
    ///
    /// # Errors
    /// `InvalidInput`, `VersionNotFound`, `CorruptState`.
    pub async fn list(&self, tag: String) -> Result<Vec<Node>> {
        self.asked(tag, |nodes| nodes.list()).await
    }

    /// Clone a repository into a version's nodes.
    ///
    /// # Errors
    /// `InvalidInput`, `VersionNotFound`, `AlreadyExists`, `GitFailed`, `InstallFailed`, `CorruptState`, and what the disk
    /// refuses.
    pub async fn install(&self, wish: InstallNode) -> Result<Answer> {
        if let Some(commit) = &wish.commit {
            check_ref(commit, "commit")?;
        }
        let url = check_url(&wish.url, "git_url")?.to_owned();
        let name = match &wish.name {
            Some(name) => check_name(name)?.to_owned(),
            None => name_of(&wish.url)?,
        };
        let title = format!("Install {name}");
        let params = Params {
            what: INSTALL.to_owned(),
            url: Some(url),
            name,
            commit: Some(json!(wish.commit)),
            tag: wish.tag,
            requirements: wish.requirements,
        };
        self.carry_out(params, &title).await
    }

    /// Go forward to the newest commit of a node's branch.
    ///
    /// # Errors
    /// `NodeNotFound`, `NotOurCheckout`, `LocalChanges`, and as [`NodeService::install`].
    pub async fn update(&self, tag: String, name: String, requirements: bool) -> Result<Answer> {
        let title = format!("Update {}", cut(&name, 100));
        let params = Params {
            what: UPDATE.to_owned(),
            url: None,
            name,
            commit: None,
            tag,
            requirements,
        };
        self.carry_out(params, &title).await
    }

    /// Move a node to the version's trash; its name there.
    ///
    /// # Errors
    /// `InvalidInput`, `VersionNotFound`, `NodeNotFound`, `CorruptState`, and what the disk refuses.
    pub async fn remove(&self, tag: String, name: String) -> Result<String> {
        self.changed(tag, move |nodes| nodes.remove(&name)).await
    }

    /// What lies in a version's trash, newest first.
    ///
    /// # Errors
    /// `InvalidInput`, `VersionNotFound`, `CorruptState`.
    pub async fn removed(&self, tag: String) -> Result<Vec<RemovedNode>> {
        self.asked(tag, |nodes| nodes.removed()).await
    }

    /// Put a node back; its name.
    ///
    /// # Errors
    /// `TrashEntryNotFound`, `AlreadyExists`, and as [`NodeService::remove`].
    pub async fn restore(&self, tag: String, trash_id: String) -> Result<String> {
        self.changed(tag, move |nodes| nodes.restore(&trash_id)).await
    }

    /// Remove a node from the trash for good.
    ///
    /// # Errors
    /// `TrashEntryNotFound`, and as [`NodeService::remove`].
    pub async fn purge(&self, tag: String, trash_id: String) -> Result<()> {
        self.changed(tag, move |nodes| nodes.purge(&trash_id)).await
    }

    async fn changed<T: Send + 'static>(
        &self,
        tag: String,
        change: impl FnOnce(Nodes) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        let version = blocking(move || shared.version(&tag)).await?;
        let _turn = self.shared.changing.lock().await;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let _at = shared.at(&version.tag);
            // It may have gone while others had their turn.
            let version = shared.version(&version.tag)?;
            change(shared.nodes(&version, Git::default())?)
        })
        .await
    }

    async fn carry_out(&self, mut params: Params, title: &str) -> Result<Answer> {
        let (shared, tag) = (Arc::clone(&self.shared), params.tag.clone());
        params.tag = blocking(move || Ok(shared.version(&tag)?.tag)).await?;
        let title = format!("{title} for ComfyUI {}", params.tag);
        let params = serde_json::to_value(&params).map_err(|error| Error::Bug(error.to_string()))?;
        let jobs = &self.shared.parts.jobs;
        let job = jobs.start(KIND, params, &title).await?;
        let job = jobs.wait(&job.id, ANSWER_WITHIN).await?;
        let done = match job.state {
            JobState::Queued | JobState::Running => None,
            JobState::Completed => {
                let done = serde_json::from_value(job.result.unwrap_or_default());
                Some(done.map_err(|error| Error::Bug(error.to_string()))?)
            }
            state => {
                let failure = locked(&self.shared.failures).shift_remove(&job.id);
                return Err(failure.unwrap_or_else(|| {
                    let text = format!("{}: the job is {}.", job.title, state.as_str());
                    Error::OperationFailed(job.error.unwrap_or(text))
                }));
            }
        };
        Ok(Answer { job_id: job.id, done })
    }

    async fn run(&self, context: JobContext, params: Value) -> Result<Value> {
        let params: Params = serde_json::from_value(params)
            .map_err(|error| Error::Bug(format!("a job of {KIND} cannot be read: {error}")))?;
        let job_id = context.job_id();
        let _turn = self.shared.changing.lock().await;
        let shared = Arc::clone(&self.shared);
        let done = blocking(move || shared.run(&context, &params)).await;
        done.inspect_err(|error| {
            let mut failures = locked(&self.shared.failures);
            while failures.len() >= KEPT_FAILURES {
                failures.shift_remove_index(0);
            }
            failures.insert(job_id, error.clone());
        })
    }
}

impl Shared {
    fn version(&self, tag: &str) -> Result<Version> {
        self.parts.installed.get(DEFAULT_APP, tag)
    }

    fn nodes(&self, version: &Version, git: Git) -> Result<Nodes> {
        let app = self.parts.apps.get(DEFAULT_APP)?;
        let place = app.custom_nodes.as_deref().unwrap_or("custom_nodes");
        Nodes::new(&version.folder, &version.tag, place, git)
    }

    fn note(&self) -> std::path::PathBuf {
        self.layout.data().join("cache/custom-node-git.json")
    }

    fn at<'a>(&'a self, tag: &str) -> At<'a> {
        *locked(&self.at) = Some(tag.to_owned());
        At(&self.at)
    }

    fn tidy(&self) -> Result<()> {
        if self.note().exists() {
            end_noted(&self.note());
        }
        for version in self.parts.installed.installed(DEFAULT_APP)? {
            // Where something was ever done here.
            if ![NAME, STAGING, TRASH]
                .iter()
                .any(|name| exists(&version.folder.join(name)))
            {
                continue;
            }
            let tidied = self
                .nodes(&version, Git::default())
                .and_then(|nodes| nodes.tidy());
            if let Err(error) = tidied {
                tracing::warn!("custom nodes of {}: {error}", version.tag);
            }
        }
        Ok(())
    }

    fn run(&self, context: &JobContext, params: &Params) -> Result<Value> {
        let version = self.version(&params.tag)?;
        let _at = self.at(&version.tag);
        let asked = context.clone();
        let git = Git::new(Box::new(move || asked.check()), Some(self.note()));
        let nodes = self.nodes(&version, git)?;
        let install = |requirements: &Path| {
            let name = requirements.file_name().unwrap_or_default().to_string_lossy();
            context.report(Progress::new("dependencies", 0, 1).item(&name).unit("files"));
            self.parts.requirements.install(context, &version, requirements)
        };
        let install: Option<InstallRequirements<'_>> =
            if params.requirements { Some(&install) } else { None };
        let progress = Progress::new("git", 0, 1).item(&params.name);
        context.report(progress.unit("repositories"));
        if params.what == INSTALL {
            let (url, commit) = (
                params.url.as_deref().unwrap_or_default(),
                params.commit.as_ref().and_then(Value::as_str),
            );
            let node = nodes.install(url, &params.name, commit, install, &context.job_id())?;
            return Ok(
                json!({"name": node.name, "commit": node.commit, "previous_commit": null, "node": node}),
            );
        }
        let (before, after) = nodes.update(&params.name, install)?;
        Ok(json!({"name": params.name, "commit": after, "previous_commit": before}))
    }
}

/// A version whose nodes are being changed.
struct At<'a>(&'a Mutex<Option<String>>);

impl Drop for At<'_> {
    fn drop(&mut self) {
        *locked(self.0) = None;
    }
}
