//! Releases that can be installed, and how much they weigh, for callers: from memory or disk, and asked for behind.
//!
//! Each app's list keeps itself (`releases`), and sizes are found out by `sizes`; this decides when somebody is asked and who
//! waits for it. No poll ever causes a request.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::known::{Known, OneApp};
use super::releases::{CacheStatus, Release};
use super::sizes::{ReleaseSize, Sizes};
use crate::apps::DEFAULT_APP;
use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::storage::locked;

/// How long a call waits for a list of releases; the fetch goes on after that.
const FETCH: Duration = Duration::from_secs(8);
/// When lists of releases are looked at behind: soon after the start, then now and then.
const FIRST_LOOK: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_mins(10);
/// How long a call waits for the size of a release.
const SIZE: Duration = Duration::from_secs(8);

/// A release as it is shown.
#[derive(Clone, Debug)]
pub struct Offered {
    /// The release.
    pub release: Arc<Release>,
    /// Bytes.
    pub total_size: Option<u64>,
    /// Bytes.
    pub archive_size: Option<u64>,
    /// Bytes.
    pub dependencies_size: Option<u64>,
    /// At this moment.
    pub installing: bool,
    /// Where a person reads about it, when the release does not say.
    pub page: String,
}

/// The releases of all apps. Cheap to clone.
#[derive(Clone)]
pub struct Offers {
    known: Arc<Known>,
    shared: Arc<Shared>,
}

struct Shared {
    fetched: AtomicBool,
    sizes: Arc<Sizes>,
    sizing: Mutex<HashSet<String>>,
}

impl Offers {
    pub(super) fn new(known: Arc<Known>) -> Self {
        let shared = Shared {
            fetched: AtomicBool::new(false),
            sizes: Arc::new(Sizes::new(Arc::clone(&known.layout), known.network.clone())),
            sizing: Mutex::default(),
        };
        Self {
            known,
            shared: Arc::new(shared),
        }
    }

    pub(super) fn open(&self) {
        let offers = self.clone();
        self.known.spawn(async move {
            tokio::time::sleep(FIRST_LOOK).await;
            loop {
                offers.keep_fresh().await;
                tokio::time::sleep(LOOK).await;
            }
        });
    }

    // -- lists -------------------------------------------------------------------------------------------------------

    /// What can be installed, newest first. Without `force` from memory or disk; a stale list is refreshed behind.
    ///
    /// # Errors
    /// `RateLimited`, those of the network, `ReleaseNotFound`, `TimedOut`: asked by force, and nothing is known.
    /// `UnknownApp`.
    pub async fn offered(&self, app_id: &str, force: bool) -> Result<Vec<Offered>> {
        let one = self.known.of(app_id).await?;
        if force {
            self.refresh_now(&one).await?;
        } else {
            self.refresh_if_stale(&one).await?;
        }
        let sizes = Arc::clone(&self.shared.sizes);
        blocking(move || Ok(shown(&one, &sizes))).await
    }

    /// How old the list is.
    ///
    /// # Errors
    /// `UnknownApp`.
    pub async fn cache_status(&self, app_id: &str) -> Result<CacheStatus> {
        self.known.with(app_id, |one| Ok(one.releases.status())).await
    }

    /// Whether the default app's releases were fetched in the background since the last reset.
    #[must_use]
    pub fn fetched_behind(&self) -> bool {
        self.shared.fetched.load(Ordering::Acquire)
    }

    /// Forget that they were.
    pub fn reset_fetched_behind(&self) {
        self.shared.fetched.store(false, Ordering::Release);
    }

    /// The newest release's tag as far as it is known; asks nobody.
    ///
    /// # Errors
    /// `UnknownApp`.
    pub async fn newest(&self, app_id: &str) -> Result<Option<String>> {
        self.known.with(app_id, |one| Ok(newest_of(one))).await
    }

    // -- sizes -------------------------------------------------------------------------------------------------------

    /// How much a release weighs; an estimate when that is not found out within seconds.
    ///
    /// # Errors
    /// `UnknownApp`, `InvalidInput`, `ReleaseNotFound`.
    pub async fn size(&self, tag: &str, app_id: &str, force: bool) -> Result<ReleaseSize> {
        let one = self.known.of(app_id).await?;
        let (list, tag) = (Arc::clone(&one), tag.to_owned());
        let release = blocking(move || list.releases.get(&tag)).await?;
        let (sizes, app, of) = (
            Arc::clone(&self.shared.sizes),
            Arc::clone(&one.app),
            Arc::clone(&release),
        );
        let work = tokio::spawn(async move { sizes.calculate(&app, &of, force).await });
        match tokio::time::timeout(SIZE, work).await {
            Ok(done) => done.map_err(|error| Error::Bug(format!("a size: {error}")))?,
            Err(_) => {
                let sizes = Arc::clone(&self.shared.sizes);
                blocking(move || Ok(sizes.leave_estimate(&one.app, &release))).await
            }
        }
    }

    /// What was calculated before.
    ///
    /// # Errors
    /// `UnknownApp`.
    pub async fn known_size(&self, tag: &str, app_id: &str) -> Result<Option<ReleaseSize>> {
        let (sizes, tag) = (Arc::clone(&self.shared.sizes), tag.trim().to_owned());
        self.known
            .with(app_id, move |one| Ok(sizes.kept(&one.app, &tag)))
            .await
    }

    /// What is known of all releases that are offered, and the tags that are calculated from now on, those that are not
    /// installed first.
    ///
    /// # Errors
    /// `UnknownApp`.
    pub async fn all_sizes(&self, app_id: &str) -> Result<(Vec<ReleaseSize>, Vec<String>)> {
        let one = self.known.of(app_id).await?;
        let (sizes, list) = (Arc::clone(&self.shared.sizes), Arc::clone(&one));
        let (known, unknown) = blocking(move || {
            let (mut known, mut unknown) = (Vec::new(), Vec::new());
            for release in list.releases.offered() {
                match sizes.kept(&list.app, &release.tag) {
                    Some(size) => known.push(size),
                    None => unknown.push(release),
                }
            }
            let listed = list.state.listed()?;
            unknown.sort_by_key(|release| listed.contains(&release.tag));
            Ok((known, unknown))
        })
        .await?;
        let tags = unknown.iter().map(|release| release.tag.clone()).collect();
        if !unknown.is_empty() && locked(&self.shared.sizing).insert(one.app.id.clone()) {
            let offers = self.clone();
            self.known
                .spawn(async move { offers.size_all(&one, unknown).await });
        }
        Ok((known, tags))
    }

    // -- inside ------------------------------------------------------------------------------------------------------

    async fn size_all(&self, one: &OneApp, releases: Vec<Arc<Release>>) {
        for release in releases {
            // One that has nothing for this machine hides no other.
            if let Err(error) = self.shared.sizes.calculate(&one.app, &release, false).await {
                tracing::info!("{} {} not sized: {error}", one.app.id, release.tag);
            }
        }
        locked(&self.shared.sizing).remove(&one.app.id);
        self.tell_changed(one);
    }

    fn tell_changed(&self, one: &OneApp) {
        self.known.tell_of_releases(&one.app.id);
    }

    /// Refresh the releases of every app whose list is missing or old.
    async fn keep_fresh(&self) {
        let known = Arc::clone(&self.known);
        let all = blocking(move || {
            known
                .apps
                .all()?
                .keys()
                .map(|id| known.app(id))
                .collect::<Result<Vec<_>>>()
        });
        for one in all.await.unwrap_or_default() {
            let _ = self.refresh_if_stale(&one).await;
        }
    }

    /// Wait a while for fresh releases; old ones are good enough when that fails.
    async fn refresh_now(&self, one: &Arc<OneApp>) -> Result<()> {
        let list = Arc::clone(&one.releases);
        let work = tokio::spawn(async move { list.refresh(false).await });
        let failure = match tokio::time::timeout(FETCH, work).await {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(failure))) => failure,
            Ok(Err(error)) => return Err(Error::Bug(format!("a fetch: {error}"))),
            Err(_) => Error::TimedOut(
                "GitHub has not answered yet; its list is still awaited, ask again.".to_owned(),
            ),
        };
        let list = Arc::clone(&one.releases);
        if blocking(move || Ok(list.status().has_cache)).await? {
            return Ok(());
        }
        Err(failure)
    }

    async fn refresh_if_stale(&self, one: &Arc<OneApp>) -> Result<()> {
        let list = Arc::clone(&one.releases);
        let is_due = blocking(move || Ok(list.is_stale() && !list.is_fetching())).await?;
        if is_due {
            let (offers, one) = (self.clone(), Arc::clone(one));
            self.known.spawn(async move {
                if let Err(error) = one.releases.refresh(true).await {
                    tracing::info!("releases of {} not refreshed: {error}", one.app.id);
                    return;
                }
                if one.app.id == DEFAULT_APP {
                    offers.shared.fetched.store(true, Ordering::Release);
                }
                offers.tell_changed(&one);
            });
        }
        Ok(())
    }
}

fn shown(one: &OneApp, sizes: &Sizes) -> Vec<Offered> {
    let busy = one.busy();
    let weight = sizes.weights(&one.app);
    let repository = &one.app.releases.repository;
    let offered = one.releases.offered().into_iter();
    offered
        .map(|release| {
            let (archive_size, dependencies_size, total_size) = weight(&release);
            Offered {
                total_size,
                archive_size,
                dependencies_size,
                installing: busy.as_ref() == Some(&release.tag),
                page: format!("https://github.com/{repository}/releases/tag/{}", release.tag),
                release,
            }
        })
        .collect()
}

/// The newest release that is no prerelease, as far as it is known. Blocks.
pub(super) fn newest_of(one: &OneApp) -> Option<String> {
    let mut releases = one.releases.offered().into_iter();
    let newest = releases.find(|release| !release.is_prerelease())?;
    Some(newest.tag.clone())
}
