//! Versions of apps as callers see them: which there are, which is active, what they need, removing and going back.
//!
//! Each app has one `VersionState`; `offers` are the releases that can be installed, `installs` puts them in place. Knows
//! apps by their descriptions alone. What a poll asks is answered from memory or from some file stamps, never from the
//! network.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;

use super::dependencies::{Dependencies, Stamp, look_up, stamp};
use super::installs::Installs;
use super::known::{InUse, Known, OneApp};
use super::offers::Offers;
use super::places::{Removed, remove_tree};
use super::rates::{Action, Rates};
use super::recovering::recover;
use super::scratch::left_behind;
use super::setup_links::mend;
use super::state::{InstalledVersion, Validation, VersionState};
use super::tags::check_tag;
use super::undoing;
use crate::apps::{AppDescription, Apps};
use crate::blocking::blocking;
use crate::config::Layout;
use crate::downloads::Bandwidth;
use crate::error::{Error, Result};
use crate::events::EventStream;
use crate::jobs::{Job, JobService};
use crate::net::NetworkClient;
use crate::storage::locked;
use crate::storage::troubles::Troubles;

const NAMED: usize = 5;

/// What another domain does about a version, by app and tag.
pub type OfTag = Arc<dyn Fn(String, String) -> BoxFuture<'static, Result<()>> + Send + Sync>;
/// What another domain does about a version that is there.
pub type OfVersion = Arc<dyn Fn(InstalledVersion) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// One version, with its dependencies as its metadata on disk says.
#[derive(Clone, Debug)]
pub struct OneVersion {
    /// The version.
    pub version: InstalledVersion,
    /// What it has and lacks.
    pub dependencies: Dependencies,
    /// Whether it is in use.
    pub active: bool,
}

/// What is installed of an app.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The tag in use.
    pub active: Option<String>,
    /// The tag that the user prefers.
    pub default: Option<String>,
    /// Newest first.
    pub versions: Vec<OneVersion>,
}

/// One app, with what is installed of it.
#[derive(Clone, Debug)]
pub struct AppOverview {
    /// The app.
    pub app: Arc<AppDescription>,
    /// Tags, newest first.
    pub installed: Vec<String>,
    /// The tag in use.
    pub active: Option<String>,
}

/// What an update leads to.
#[derive(Clone, Debug)]
pub enum Update {
    /// The newest is being installed.
    Installing(Box<Job>),
    /// The newest, of this tag, was installed already: it is active now.
    Active(String),
}

#[derive(Default)]
struct Calls {
    removal: Vec<OfTag>,
    back: Vec<OfVersion>,
    loss: Vec<OfTag>,
}

/// The versions of all apps. Cheap to clone.
#[derive(Clone)]
pub struct VersionService {
    /// Releases that can be installed.
    pub offers: Offers,
    /// Installations.
    pub installs: Installs,
    known: Arc<Known>,
    rates: Arc<Rates>,
    calls: Arc<Mutex<Calls>>,
    dependencies: Arc<Mutex<HashMap<PathBuf, (Stamp, Dependencies)>>>,
}

impl VersionService {
    /// Touches no disk.
    #[must_use]
    pub fn new(
        layout: &Arc<Layout>,
        apps: &Arc<Apps>,
        troubles: &Arc<Troubles>,
        events: EventStream,
        jobs: &JobService,
        network: NetworkClient,
        bandwidth: Arc<Bandwidth>,
    ) -> Self {
        let (layout, apps, troubles) = (Arc::clone(layout), Arc::clone(apps), Arc::clone(troubles));
        let known = Arc::new(Known::new(layout, apps, troubles, events, network, bandwidth));
        let rates = Arc::new(Rates::default());
        Self {
            offers: Offers::new(Arc::clone(&known)),
            installs: Installs::new(Arc::clone(&known), jobs.clone(), Arc::clone(&rates)),
            known,
            rates,
            calls: Arc::default(),
            dependencies: Arc::default(),
        }
    }

    // -- life --------------------------------------------------------------------------------------------------------

    /// Have `call(app_id, tag)` say whether a version runs; such a one is neither removed nor replaced.
    pub fn ask_in_use(&self, call: InUse) {
        self.known.ask_in_use(call);
    }

    /// Have `call` done at the end of each removal (shortcuts, …). What it fails with changes nothing of that.
    pub fn after_removal(&self, call: OfTag) {
        locked(&self.calls).removal.push(call);
    }

    /// Have `call` done when a version comes back, out of the trash or by a rollback (links, …).
    pub fn after_return(&self, call: OfVersion) {
        locked(&self.calls).back.push(call);
    }

    /// Have `call` done when the last of a tag is removed for good (links, …).
    pub fn after_loss(&self, call: OfTag) {
        locked(&self.calls).loss.push(call);
    }

    /// How often something was told of a version or of releases: what was read before is old when it has grown.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.known.changes()
    }

    /// Finish or go on with what a stop or a kill interrupted. Call after the jobs are open.
    ///
    /// # Errors
    /// The list of jobs cannot be read.
    pub async fn open(&self) -> Result<()> {
        let kept = self.installs.unfinished().await?;
        let known = Arc::clone(&self.known);
        let swept = blocking(move || recover_all(&known, &kept)).await?;
        self.installs.go_on().await?;
        // Environments have tens of thousands of files; a start does not wait for that.
        self.known.spawn(async move {
            let _ = blocking(move || {
                for folder in &swept {
                    remove_tree(folder);
                }
                Ok(())
            })
            .await;
        });
        self.offers.open();
        Ok(())
    }

    /// End what goes on behind.
    pub fn close(&self) {
        self.known.close();
    }

    /// All apps, with what is installed.
    ///
    /// # Errors
    /// `Bug`.
    pub async fn apps(&self) -> Result<Vec<AppOverview>> {
        let known = Arc::clone(&self.known);
        blocking(move || {
            let look = |app: &Arc<AppDescription>| {
                let one = known.app(&app.id)?;
                Ok(AppOverview {
                    app: Arc::clone(app),
                    installed: one
                        .state
                        .installed()?
                        .into_iter()
                        .map(|version| version.tag)
                        .collect(),
                    active: one.state.active()?,
                })
            };
            known.apps.refreshed()?.values().map(look).collect()
        })
        .await
    }

    // -- what is installed -------------------------------------------------------------------------------------------

    /// Newest first.
    ///
    /// # Errors
    /// `UnknownApp`.
    pub async fn installed(&self, app_id: &str) -> Result<Vec<InstalledVersion>> {
        self.known.with(app_id, |one| one.state.installed()).await
    }

    /// The version in use; None when none is installed.
    ///
    /// # Errors
    /// `UnknownApp`.
    pub async fn active(&self, app_id: &str) -> Result<Option<InstalledVersion>> {
        let active = |one: &OneApp| one.state.active()?.map(|tag| one.state.get(&tag)).transpose();
        self.known.with(app_id, active).await
    }

    /// The version in use.
    ///
    /// # Errors
    /// `UnknownApp`, `NoActiveVersion`.
    pub async fn require_active(&self, app_id: &str) -> Result<InstalledVersion> {
        self.known.with(app_id, |one| one.state.require_active()).await
    }

    /// The tag that the user prefers.
    ///
    /// # Errors
    /// `UnknownApp`.
    pub async fn default(&self, app_id: &str) -> Result<Option<String>> {
        self.known.with(app_id, |one| one.state.default()).await
    }

    /// # Errors
    /// `UnknownApp`, `InvalidInput`, `VersionNotFound`.
    pub async fn get(&self, tag: &str, app_id: &str) -> Result<InstalledVersion> {
        let tag = tag.to_owned();
        self.known.with(app_id, move |one| one.state.get(&tag)).await
    }

    /// What is installed of an app, for worker threads. Blocks.
    ///
    /// # Errors
    /// `UnknownApp`.
    pub fn state(&self, app_id: &str) -> Result<Arc<VersionState>> {
        Ok(Arc::clone(&self.known.app(app_id)?.state))
    }

    /// Whether a version of that tag lies in the trash. Blocks.
    ///
    /// # Errors
    /// `UnknownApp`.
    pub fn is_removed(&self, app_id: &str, tag: &str) -> Result<bool> {
        let trash = self.known.app(app_id)?.places.trash()?;
        Ok(trash.iter().any(|removed| removed.tag == tag))
    }

    /// What is installed, with its dependencies; starts no program.
    ///
    /// # Errors
    /// `UnknownApp`.
    pub async fn overview(&self, app_id: &str) -> Result<Overview> {
        let service = self.clone();
        self.known
            .with(app_id, move |one| {
                let active = one.state.active()?;
                let of = |version: InstalledVersion| OneVersion {
                    dependencies: service.dependencies_of(&one.app, &version),
                    active: Some(&version.tag) == active.as_ref(),
                    version,
                };
                Ok(Overview {
                    versions: one.state.installed()?.into_iter().map(of).collect(),
                    default: one.state.default()?,
                    active: active.clone(),
                })
            })
            .await
    }

    /// Compare the list with the disk and change nothing; `rebuild` lists anew what is whole when the list cannot be read.
    ///
    /// # Errors
    /// `UnknownApp`, and the disk's failures.
    pub async fn validate(&self, app_id: &str, rebuild: bool) -> Result<Validation> {
        let validate = move |one: &OneApp| {
            if rebuild {
                one.state.rebuild()?;
            }
            one.state.validate(one.busy().as_deref())
        };
        self.known.with(app_id, validate).await
    }

    // -- what a version needs ----------------------------------------------------------------------------------------

    /// Which packages are there and which are missing, from metadata on disk.
    ///
    /// # Errors
    /// As `get`.
    pub async fn dependencies(&self, tag: &str, app_id: &str) -> Result<Dependencies> {
        let (service, tag) = (self.clone(), tag.to_owned());
        let look = move |one: &OneApp| Ok(service.dependencies_of(&one.app, &one.state.get(&tag)?));
        self.known.with(app_id, look).await
    }

    /// What must hold before a version is started: its packages are there, its links lead somewhere.
    ///
    /// A package of another version than is asked for hinders nobody; users change them for their custom nodes.
    ///
    /// # Errors
    /// `DependencyFailed`: packages are missing; the message names them and what brings them. As `get`, and the disk's
    /// failures: a link cannot be made.
    pub async fn prepare(&self, tag: &str, app_id: &str) -> Result<()> {
        let (service, tag) = (self.clone(), tag.to_owned());
        let prepare = move |one: &OneApp| {
            let version = one.state.get(&tag)?;
            let absent = service.dependencies_of(&one.app, &version).absent;
            if !absent.is_empty() {
                let named = absent[..absent.len().min(NAMED)].join(", ");
                let more = match absent.len() {
                    0..=NAMED => String::new(),
                    all => format!(" and {} more", all - NAMED),
                };
                return Err(Error::DependencyFailed {
                    stage: "dependencies".to_owned(),
                    reason: format!(
                        "{} {} lacks {named}{more}; install its dependencies first (install_version_dependencies).",
                        one.app.name, version.tag
                    ),
                });
            }
            let root = service.known.layout.root();
            one.app
                .links
                .iter()
                .try_for_each(|link| mend(link, &version.folder, root))
        };
        self.known.with(app_id, prepare).await
    }

    /// Looked up again when the environment or the requirements changed.
    fn dependencies_of(&self, app: &AppDescription, version: &InstalledVersion) -> Dependencies {
        let fresh = stamp(app, &version.folder);
        if let Some((known, found)) = locked(&self.dependencies).get(&version.folder)
            && *known == fresh
        {
            return found.clone();
        }
        let found = look_up(app, &version.folder, &version.tag);
        locked(&self.dependencies).insert(version.folder.clone(), (fresh, found.clone()));
        found
    }

    // -- choosing ----------------------------------------------------------------------------------------------------

    /// Make a version active and the last selected.
    ///
    /// # Errors
    /// As `get`, `CorruptState` and the disk's failures.
    pub async fn switch(&self, tag: &str, app_id: &str) -> Result<()> {
        let tag = tag.to_owned();
        let wanted = self
            .known
            .with(app_id, move |one| undoing::switch(one, &tag))
            .await?;
        self.known.tell(app_id, "active", &wanted);
        Ok(())
    }

    /// None clears it.
    ///
    /// # Errors
    /// As `switch`.
    pub async fn set_default(&self, tag: Option<String>, app_id: &str) -> Result<()> {
        self.known
            .with(app_id, move |one| one.state.set_default(tag.as_deref()))
            .await
    }

    /// Install the newest release that is offered, and use it.
    ///
    /// # Errors
    /// As [`Installs::install`]; `ReleaseNotFound` when no release is known.
    pub async fn update(&self, app_id: &str) -> Result<Update> {
        let newest = self.installs.newest(app_id).await?;
        if self
            .installed(app_id)
            .await?
            .iter()
            .any(|version| version.tag == newest)
        {
            self.switch(&newest, app_id).await?;
            return Ok(Update::Active(newest));
        }
        let job = self.installs.install(&newest, app_id, false, true).await?;
        Ok(Update::Installing(Box::new(job)))
    }

    /// Take the last switch, update or new build back; the tag that is active then.
    ///
    /// # Errors
    /// `NothingToRollBack`, `Busy`, `CorruptState`, and the disk's failures.
    pub async fn rollback(&self, app_id: &str) -> Result<String> {
        let one = self.known.of(app_id).await?;
        let tag = {
            let _installing = one.installing.lock().await;
            if one.now().job_id.is_some() {
                let name = &one.app.name;
                let text = format!("A version of {name} is being installed; wait for it or cancel it.");
                return Err(Error::Busy(text));
            }
            let (known, one) = (Arc::clone(&self.known), Arc::clone(&one));
            blocking(move || undoing::roll_back(&one, |app_id, tag| known.runs(app_id, tag))).await?
        };
        self.known.tell(app_id, "active", &tag);
        self.returned(&one, &tag).await;
        Ok(tag)
    }

    // -- removing ----------------------------------------------------------------------------------------------------

    /// Move a version to the trash; the active one only when it is the last one, and that is meant.
    ///
    /// # Errors
    /// `TooManyCalls`, `VersionInUse`: it is active, runs or is being installed. `VersionNotFound`, `InvalidInput`,
    /// `UnknownApp`, `CorruptState`, and the disk's failures.
    pub async fn remove(&self, tag: &str, app_id: &str, last: bool) -> Result<Removed> {
        let one = self.known.of(app_id).await?;
        check_tag(tag)?;
        self.rates.count(Action::Remove)?;
        let removed = {
            let _installing = one.installing.lock().await;
            let (known, one, tag) = (Arc::clone(&self.known), Arc::clone(&one), tag.to_owned());
            blocking(move || undoing::remove(&one, &tag, last, |app_id, tag| known.runs(app_id, tag))).await?
        };
        let calls = locked(&self.calls).removal.clone();
        for call in calls {
            if let Err(error) = call(one.app.id.clone(), removed.tag.clone()).await {
                tracing::warn!("after removing {} {}: {error}", one.app.id, removed.tag);
            }
        }
        self.known.tell(app_id, "removed", &removed.tag);
        Ok(removed)
    }

    /// What is in the trash, newest first.
    ///
    /// # Errors
    /// `UnknownApp`.
    pub async fn removed(&self, app_id: &str) -> Result<Vec<Removed>> {
        self.known.with(app_id, |one| one.places.trash()).await
    }

    /// Put a version from the trash back; its tag.
    ///
    /// # Errors
    /// `TrashEntryNotFound`, `AlreadyExists`, `CorruptState`, and the disk's failures.
    pub async fn restore(&self, trash_id: &str, app_id: &str) -> Result<String> {
        let one = self.known.of(app_id).await?;
        let tag = {
            let _installing = one.installing.lock().await;
            let (one, trash_id) = (Arc::clone(&one), trash_id.to_owned());
            blocking(move || undoing::restore(&one, &trash_id)).await?
        };
        self.returned(&one, &tag).await;
        self.known.tell(app_id, "installed", &tag);
        Ok(tag)
    }

    async fn returned(&self, one: &Arc<OneApp>, tag: &str) {
        let calls = locked(&self.calls).back.clone();
        for call in calls {
            let (state, tag) = (Arc::clone(&one.state), tag.to_owned());
            let done = match blocking(move || state.get(&tag)).await {
                Ok(version) => call(version).await,
                // Not whole: the list of what is installed tells of that.
                Err(Error::VersionNotFound { .. }) => Ok(()),
                Err(error) => Err(error),
            };
            self.report(one, done);
        }
    }

    fn report(&self, one: &OneApp, done: Result<()>) {
        if let Err(error) = done {
            self.known
                .troubles
                .report(&one.app.folder, error.kind(), &error.to_string());
        }
    }

    /// Remove a version from the trash for good.
    ///
    /// # Errors
    /// `TrashEntryNotFound`, and the disk's failures.
    pub async fn purge(&self, trash_id: &str, app_id: &str) -> Result<()> {
        let one = self.known.of(app_id).await?;
        let lost = {
            let _installing = one.installing.lock().await;
            let (one, trash_id) = (Arc::clone(&one), trash_id.to_owned());
            blocking(move || undoing::purge(&one, &trash_id)).await?
        };
        if let Some(tag) = lost {
            let calls = locked(&self.calls).loss.clone();
            for call in calls {
                let done = call(one.app.id.clone(), tag.clone()).await;
                self.report(&one, done);
            }
        }
        Ok(())
    }
}

/// The folders that are to be removed for good.
fn recover_all(known: &Known, kept: &HashSet<String>) -> Result<Vec<PathBuf>> {
    let mut swept = left_behind(&known.layout.cache());
    for app in known.apps.all()?.values() {
        if !known.layout.root().join(&app.folder).is_dir() {
            continue;
        }
        let one = known.app(&app.id)?;
        let report = |error: Error| {
            // The list of versions says that itself, until it can be read again.
            if !matches!(error, Error::CorruptState { .. }) {
                known
                    .troubles
                    .report(&app.folder, error.kind(), &error.to_string());
            }
        };
        for step in [one.state.sweep(), recover(&one, kept)] {
            step.unwrap_or_else(report);
        }
        match one.places.tidy() {
            Ok(gone) => swept.extend(gone),
            Err(error) => report(error),
        }
    }
    Ok(swept)
}
