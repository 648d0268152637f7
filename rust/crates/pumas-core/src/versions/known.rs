//! What all parts of this domain share: the state of each app, made when it is first asked for, the question whether a
//! version runs, and the word that a version changed. Does no work itself.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use indexmap::IndexMap;
use serde_json::json;

use super::github::GitHub;
use super::places::Places;
use super::progress::Progress;
use super::releases::ReleaseList;
use super::state::VersionState;
use crate::apps::{AppDescription, Apps};
use crate::blocking::blocking;
use crate::config::Layout;
use crate::downloads::Bandwidth;
use crate::error::Result;
use crate::events::EventStream;
use crate::net::NetworkClient;
use crate::stop::Stop;
use crate::storage::locked;
use crate::storage::state_lock::StateLock;
use crate::storage::troubles::Troubles;

/// Whether a version, by app and tag, is being used now.
pub type InUse = Box<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// What goes on in an app.
#[derive(Clone, Default)]
pub(super) struct Now {
    /// Of the newest installation.
    pub(super) progress: Option<Arc<Progress>>,
    /// Of the installation under way.
    pub(super) job_id: Option<String>,
}

/// `installing` is held while an installation is accepted or a version changes its place.
pub(super) struct OneApp {
    pub(super) app: Arc<AppDescription>,
    pub(super) state: Arc<VersionState>,
    pub(super) places: Places,
    pub(super) releases: Arc<ReleaseList>,
    pub(super) now: Mutex<Now>,
    pub(super) installing: tokio::sync::Mutex<()>,
}

impl OneApp {
    pub(super) fn now(&self) -> Now {
        locked(&self.now).clone()
    }

    /// Whether something is installed, or changes its place.
    fn is_busy(&self) -> bool {
        self.now().job_id.is_some() || self.installing.try_lock().is_err()
    }

    /// The tag that is being worked on.
    pub(super) fn busy(&self) -> Option<String> {
        let progress = self.now().progress?;
        (!progress.is_finished()).then(|| progress.tag().to_owned())
    }
}

pub(super) struct Known {
    pub(super) layout: Arc<Layout>,
    pub(super) apps: Arc<Apps>,
    pub(super) troubles: Arc<Troubles>,
    pub(super) events: EventStream,
    pub(super) network: NetworkClient,
    pub(super) bandwidth: Arc<Bandwidth>,
    file_lock: StateLock,
    made: Mutex<IndexMap<String, Arc<OneApp>>>,
    in_use: Mutex<Vec<InUse>>,
    changes: AtomicU64,
    closed: Stop,
}

impl Known {
    pub(super) fn new(
        layout: Arc<Layout>,
        apps: Arc<Apps>,
        troubles: Arc<Troubles>,
        events: EventStream,
        network: NetworkClient,
        bandwidth: Arc<Bandwidth>,
    ) -> Self {
        Self {
            file_lock: StateLock::new(layout.state_lock()),
            layout,
            apps,
            troubles,
            events,
            network,
            bandwidth,
            made: Mutex::default(),
            in_use: Mutex::default(),
            changes: AtomicU64::default(),
            closed: Stop::default(),
        }
    }

    /// Blocks.
    ///
    /// # Errors
    /// `UnknownApp`.
    pub(super) fn app(&self, app_id: &str) -> Result<Arc<OneApp>> {
        let app = self.apps.get(app_id)?;
        let mut made = locked(&self.made);
        let mut now = Now::default();
        if let Some(one) = made.get(&app.id) {
            // What is under way in an app goes on as it began; its new description counts after that.
            if Arc::ptr_eq(&one.app, &app) || one.is_busy() {
                return Ok(Arc::clone(one));
            }
            now = one.now();
        }
        let (lock, troubles) = (self.file_lock.clone(), Arc::clone(&self.troubles));
        let state = VersionState::new(&self.layout, Arc::clone(&app), lock, troubles);
        let cache = self.layout.cache();
        let releases = ReleaseList::new(Arc::clone(&app), cache, GitHub::new(self.network.clone()));
        let one = Arc::new(OneApp {
            places: Places::new(state.folder.clone()),
            state: Arc::new(state),
            releases: Arc::new(releases),
            now: Mutex::new(now),
            installing: tokio::sync::Mutex::default(),
            app: Arc::clone(&app),
        });
        made.insert(app.id.clone(), Arc::clone(&one));
        Ok(one)
    }

    /// Those that were asked for so far.
    pub(super) fn made(&self) -> Vec<Arc<OneApp>> {
        locked(&self.made).values().cloned().collect()
    }

    /// # Errors
    /// `UnknownApp`.
    pub(super) async fn of(self: &Arc<Self>, app_id: &str) -> Result<Arc<OneApp>> {
        let made = locked(&self.made).get(app_id).cloned();
        if let Some(one) = made.filter(|one| self.apps.holds(&one.app)) {
            return Ok(one);
        }
        let (known, app_id) = (Arc::clone(self), app_id.to_owned());
        blocking(move || known.app(&app_id)).await
    }

    /// Some file work on an app's state.
    ///
    /// # Errors
    /// `UnknownApp`, and what `work` fails with.
    pub(super) async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        app_id: &str,
        work: impl FnOnce(&OneApp) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (known, app_id) = (Arc::clone(self), app_id.to_owned());
        blocking(move || work(&*known.app(&app_id)?)).await
    }

    /// Have it done behind, until `close`.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let closed = self.closed.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = work => {}
                () = closed.asked() => {}
            }
        });
    }

    pub(super) fn ask_in_use(&self, call: InUse) {
        locked(&self.in_use).push(call);
    }

    /// May block.
    pub(super) fn runs(&self, app_id: &str, tag: &str) -> bool {
        locked(&self.in_use).iter().any(|asked| asked(app_id, tag))
    }

    /// `what` happened to a version: `installed`, `removed` or `active`.
    pub(super) fn tell(&self, app_id: &str, what: &str, tag: &str) {
        let app_id = app_id.trim().to_lowercase();
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.events.publish(
            "version.changed",
            &json!({"app_id": app_id, "what": what, "tag": tag}),
        );
    }

    /// The list of an app's releases, or what is known of their sizes, is newer.
    pub(super) fn tell_of_releases(&self, app_id: &str) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.events
            .publish("releases.changed", &json!({"app_id": app_id}));
    }

    /// How often something was told.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        self.closed.ask();
    }
}
