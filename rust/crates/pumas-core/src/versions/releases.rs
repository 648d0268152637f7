//! The releases of one app: kept in memory and on disk, asked for anew when they are old, offered when they are stale.
//!
//! Reads the caches of older sidecars (`lastFetched` with or without a zone, reduced entries, null keys). Only `refresh`
//! touches the network; several that want fresh data at once cause one fetch.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::github::{GitHub, PAGE, Page};
use super::tags::{check_tag, offered};
use crate::apps::AppDescription;
use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::library::moments::utc_moment;
use crate::storage::clock;
use crate::storage::files::{During as _, FOLDER_MODE, make_folders};
use crate::storage::json_file::{self, JsonObject, Readers};
use crate::storage::locked;

/// Seconds for which a list is fresh.
const TTL_S: i64 = 3600;
const LONGEST_TTL_S: i64 = 86_400;

/// One release; `raw` is the API's object, with both spellings of an asset's address.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its tag.
    pub tag: String,
    /// As GitHub lists it.
    pub raw: JsonObject,
}

impl Release {
    /// When, in the words of GitHub.
    #[must_use]
    pub fn published_at(&self) -> &str {
        text(self.raw.get("published_at"))
    }

    /// Whether it is meant for testers.
    #[must_use]
    pub fn is_prerelease(&self) -> bool {
        self.raw.get("prerelease") == Some(&Value::Bool(true))
    }

    pub(super) fn assets(&self) -> impl Iterator<Item = &JsonObject> {
        let assets = self.raw.get("assets").and_then(Value::as_array);
        assets.into_iter().flatten().filter_map(Value::as_object)
    }
}

/// How old the list of releases is.
#[derive(Clone, Debug, Default)]
pub struct CacheStatus {
    /// Whether there is one.
    pub has_cache: bool,
    /// Whether it is fresh.
    pub is_valid: bool,
    /// Whether it is being fetched.
    pub is_fetching: bool,
    /// Seconds; None when nothing was ever fetched.
    pub age_s: Option<i64>,
    /// When.
    pub last_fetched: Option<String>,
    /// Seconds for which it is fresh.
    pub ttl: i64,
    /// Releases in it.
    pub count: usize,
    /// GitHub wants no call so long.
    pub limited: Duration,
    /// Why the last fetch failed.
    pub error: Option<String>,
}

#[derive(Debug)]
struct Cache {
    fetched: Timestamp,
    pages: Vec<Page>,
    releases: Vec<Arc<Release>>,
    offered: Vec<Arc<Release>>,
    ttl: i64,
}

impl Cache {
    /// One of each tag: what is published between two pages moves the last of the one to the other. Drafts, which only
    /// their authors are shown, are none.
    fn new(app: &AppDescription, fetched: Timestamp, pages: Vec<Page>, ttl: i64) -> Self {
        let mut known = HashSet::new();
        let releases = pages.iter().flat_map(|page| &page.releases);
        let releases: Vec<_> = releases
            .filter(|raw| raw.get("draft") != Some(&Value::Bool(true)))
            .map(filled)
            .filter(|release| known.insert(release.tag.clone()))
            .map(Arc::new)
            .collect();
        Self {
            offered: offered_of(app, &releases),
            releases,
            fetched,
            pages,
            ttl,
        }
    }

    fn age_s(&self) -> f64 {
        Timestamp::now().duration_since(self.fetched).as_secs_f64()
    }

    /// A time in the future is one of a clock that was wrong.
    fn is_fresh(&self) -> bool {
        (0.0..self.ttl as f64).contains(&self.age_s())
    }
}

#[derive(Default)]
struct Kept {
    was_read: bool,
    cache: Option<Arc<Cache>>,
    limited_until: Option<Timestamp>,
    error: Option<String>,
}

/// The list of one app.
pub(super) struct ReleaseList {
    app: Arc<AppDescription>,
    folder: PathBuf,
    github: GitHub,
    kept: Mutex<Kept>,
    fetching: tokio::sync::Mutex<()>,
}

impl ReleaseList {
    /// `folder` is `launcher-data/cache`.
    pub(super) fn new(app: Arc<AppDescription>, folder: PathBuf, github: GitHub) -> Self {
        Self {
            app,
            folder,
            github,
            kept: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    /// What is known, newest first, without asking anybody; empty when nothing is. Blocks.
    pub(super) fn offered(&self) -> Vec<Arc<Release>> {
        self.known()
            .map(|cache| cache.offered.clone())
            .unwrap_or_default()
    }

    /// Any release that is known, offered or not. Blocks.
    ///
    /// # Errors
    /// `ReleaseNotFound`, `InvalidInput`.
    pub(super) fn get(&self, tag: &str) -> Result<Arc<Release>> {
        let tag = check_tag(tag)?;
        let cache = self.known();
        let mut releases = cache.iter().flat_map(|cache| &cache.releases);
        releases
            .find(|release| release.tag == tag)
            .cloned()
            .ok_or_else(|| not_found(&self.app.name, tag, "is not among the releases that are known"))
    }

    /// Blocks.
    pub(super) fn status(&self) -> CacheStatus {
        let cache = self.known();
        let kept = locked(&self.kept);
        let status = CacheStatus {
            is_fetching: self.is_fetching(),
            ttl: TTL_S,
            limited: kept.limited(),
            error: kept.error.clone(),
            ..CacheStatus::default()
        };
        let Some(cache) = cache else { return status };
        #[expect(clippy::cast_possible_truncation, reason = "an age in seconds")]
        let age_s = cache.age_s().max(0.0) as i64;
        CacheStatus {
            has_cache: true,
            is_valid: cache.is_fresh(),
            age_s: Some(age_s),
            last_fetched: Some(clock::text(cache.fetched)),
            ttl: cache.ttl,
            count: cache.releases.len(),
            ..status
        }
    }

    pub(super) fn is_fetching(&self) -> bool {
        self.fetching.try_lock().is_err()
    }

    /// Whether it is time to ask, and nobody forbids it. Blocks.
    pub(super) fn is_stale(&self) -> bool {
        let is_old = self.known().is_none_or(|cache| !cache.is_fresh());
        is_old && locked(&self.kept).limited().is_zero()
    }

    /// Ask GitHub, or wait for who is asking already.
    ///
    /// # Errors
    /// `RateLimited`, those of the network, `ReleaseNotFound`: what is known stays, beside what came before that.
    pub(super) async fn refresh(self: &Arc<Self>, only_stale: bool) -> Result<()> {
        let before = locked(&self.kept).cache.clone();
        let _fetching = self.fetching.lock().await;
        let list = Arc::clone(self);
        let (known, is_stale) = blocking(move || Ok((list.known(), list.is_stale()))).await?;
        let was_fetched = match (&before, &known) {
            (Some(one), Some(other)) => !Arc::ptr_eq(one, other),
            _ => false,
        };
        if was_fetched || (only_stale && !is_stale) {
            return Ok(());
        }
        let left = locked(&self.kept).limited();
        if !left.is_zero() {
            return Err(Error::RateLimited {
                host: "GitHub".to_owned(),
                retry_after_s: left.as_secs_f64(),
            });
        }
        let fetched = self.fetch(known).await;
        let mut kept = locked(&self.kept);
        kept.error = fetched.as_ref().err().map(ToString::to_string);
        if let Err(Error::RateLimited { retry_after_s, .. }) = &fetched {
            let wait = Duration::from_secs_f64(retry_after_s.max(0.0));
            kept.limited_until = Timestamp::now().checked_add(wait).ok();
        }
        fetched
    }

    // -- inside ------------------------------------------------------------------------------------------------------

    async fn fetch(self: &Arc<Self>, known: Option<Arc<Cache>>) -> Result<()> {
        let releases = &self.app.releases;
        let before = known.as_ref().map_or(&[][..], |cache| &cache.pages);
        let mut pages = Vec::new();
        let asked = self
            .github
            .pages(&releases.repository, before, releases.pages, &mut pages)
            .await;
        let now = Timestamp::now();
        let fetched = match &asked {
            Ok(()) => now,
            Err(_) if pages.is_empty() => return asked,
            Err(_) => {
                pages.extend_from_slice(before.get(pages.len()..).unwrap_or_default());
                let expired = now
                    .checked_sub(SignedDuration::from_secs(TTL_S + 1))
                    .unwrap_or(now);
                known.as_ref().map_or(expired, |cache| cache.fetched)
            }
        };
        let fresh = Arc::new(Cache::new(&self.app, fetched, pages, TTL_S));
        locked(&self.kept).cache = Some(Arc::clone(&fresh));
        let list = Arc::clone(self);
        if let Err(error) = blocking(move || list.save(&fresh)).await {
            tracing::warn!("releases of {} not kept: {error}", self.app.id);
        }
        asked
    }

    fn known(&self) -> Option<Arc<Cache>> {
        let mut kept = locked(&self.kept);
        if !kept.was_read {
            kept.was_read = true;
            let found = self.app.release_caches().into_iter();
            let found = found.filter_map(|name| load(&self.app, &self.folder.join(name)));
            let now = Timestamp::now();
            let trusted = |cache: &Cache| {
                if cache.fetched <= now {
                    cache.fetched
                } else {
                    Timestamp::UNIX_EPOCH
                }
            };
            // Of equals the first counts.
            let newest = found.reduce(|one, other| {
                if trusted(&other) > trusted(&one) {
                    other
                } else {
                    one
                }
            });
            kept.cache = newest.map(Arc::new);
        }
        kept.cache.clone()
    }

    fn save(&self, cache: &Cache) -> Result<()> {
        make_folders(&self.folder, FOLDER_MODE).during("Writing the list of releases")?;
        let releases: Vec<&JsonObject> = cache.pages.iter().flat_map(|page| &page.releases).collect();
        let etags: Vec<&String> = cache.pages.iter().map(|page| &page.etag).collect();
        let value = JsonObject::from_iter([
            ("lastFetched".to_owned(), json!(clock::text(cache.fetched))),
            ("ttl".to_owned(), json!(cache.ttl)),
            ("releases".to_owned(), json!(releases)),
            ("etags".to_owned(), json!(etags)),
        ]);
        let name = self.app.release_caches().swap_remove(0);
        json_file::save(&self.folder.join(name), &value, Readers::Anybody)
    }
}

impl Kept {
    fn limited(&self) -> Duration {
        let left = self
            .limited_until
            .map(|until| until.duration_since(Timestamp::now()));
        left.and_then(|left| Duration::try_from(left).ok())
            .unwrap_or_default()
    }
}

/// That a release is not there, or why it is of no use.
pub(super) fn not_found(app: &str, tag: &str, reason: &str) -> Error {
    Error::ReleaseNotFound {
        app: app.to_owned(),
        tag: tag.to_owned(),
        reason: reason.to_owned(),
    }
}

/// A bundle that has nothing for this machine yet hides none that has; where none has, all are shown.
fn offered_of(app: &AppDescription, releases: &[Arc<Release>]) -> Vec<Arc<Release>> {
    let is_ready = |release: &&Arc<Release>| {
        let names = release.assets().filter_map(|asset| asset.get("name")?.as_str());
        app.package.choose(&names.collect::<Vec<_>>()).is_some()
    };
    let mut known: Vec<_> = releases.iter().filter(is_ready).collect();
    if known.is_empty() {
        known.extend(releases);
    }
    let by_tag: HashMap<_, _> = known
        .iter()
        .map(|release| (release.tag.as_str(), *release))
        .collect();
    let tags = known
        .iter()
        .map(|release| (release.tag.as_str(), release.is_prerelease()));
    offered(app, tags)
        .into_iter()
        .map(|tag| Arc::clone(by_tag[tag]))
        .collect()
}

/// A cache that cannot be read is none.
fn load(app: &AppDescription, path: &Path) -> Option<Cache> {
    let mut value = json_file::parse_object(path).ok()?;
    let fetched = utc_moment(value.get("lastFetched")?.as_str()?)?;
    let Some(Value::Array(listed)) = value.remove("releases") else {
        return None;
    };
    let releases: Vec<JsonObject> = listed
        .into_iter()
        .filter_map(|one| match one {
            Value::Object(one) if one.get("tag_name").is_some_and(Value::is_string) => Some(one),
            _ => None,
        })
        .collect();
    let etags = value.get("etags").and_then(Value::as_array);
    let etags: Vec<&str> = etags.into_iter().flatten().map(|etag| text(Some(etag))).collect();
    let whole = etags.len() == releases.len().div_ceil(PAGE).max(1);
    let mut chunks: Vec<Vec<JsonObject>> = releases.chunks(PAGE).map(<[JsonObject]>::to_vec).collect();
    if chunks.is_empty() {
        chunks.push(Vec::new());
    }
    let page = |(number, releases): (usize, Vec<JsonObject>)| Page {
        etag: if whole {
            etags[number].to_owned()
        } else {
            String::new()
        },
        releases,
    };
    let pages = chunks.into_iter().enumerate().map(page).collect();
    let ttl = value.get("ttl").and_then(Value::as_i64);
    let ttl = ttl
        .filter(|ttl| (1..=LONGEST_TTL_S).contains(ttl))
        .unwrap_or(TTL_S);
    Some(Cache::new(app, fetched, pages, ttl))
}

/// Nothing that a reader needs is missing or null; an asset that is still being uploaded is none.
fn filled(raw: &JsonObject) -> Release {
    let tag = text(raw.get("tag_name")).to_owned();
    let given = raw.get("assets").and_then(Value::as_array);
    let assets = given
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .filter(|asset| {
            asset
                .get("state")
                .is_none_or(|state| state.is_null() || state == "uploaded")
        })
        .map(|asset| {
            let mut asset = asset.clone();
            let url = asset.get("browser_download_url").cloned().unwrap_or_default();
            asset.insert("download_url".to_owned(), url);
            Value::Object(asset)
        });
    let assets: Vec<Value> = assets.collect();
    let mut raw = raw.clone();
    let name = match text(raw.get("name")) {
        "" => tag.clone(),
        name => name.to_owned(),
    };
    let prerelease = raw.get("prerelease") == Some(&Value::Bool(true));
    raw.insert("name".to_owned(), json!(name));
    raw.insert("prerelease".to_owned(), json!(prerelease));
    raw.insert("assets".to_owned(), Value::Array(assets));
    Release { tag, raw }
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_of_older_sidecars_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let layout = crate::config::Layout::new("/nowhere");
        let app = crate::apps::Apps::new(&layout, Arc::default())
            .get("ollama")
            .unwrap();
        let path = folder.path().join("x.json");
        for (text, releases) in [
            (
                r#"{"lastFetched": "2026-01-02T03:04:05.678", "releases": [{"tag_name": "v1", "assets": null}, 7, {}]}"#,
                Some(1),
            ),
            (
                r#"{"lastFetched": "2026-01-02T03:04:05Z", "releases": [{"tag_name": "v2"}, {"tag_name": "v2"}]}"#,
                Some(1),
            ),
            (
                r#"{"lastFetched": "2026-01-02T03:04:05Z", "ttl": 0, "releases": [], "etags": ["a"]}"#,
                Some(0),
            ),
            (r#"{"lastFetched": "yesterday", "releases": []}"#, None),
            (r#"{"lastFetched": "2026-01-02T03:04:05Z", "releases": {}}"#, None),
            ("{", None),
        ] {
            std::fs::write(&path, text).unwrap();
            let found = load(&app, &path).map(|cache| cache.releases.len());
            assert_eq!(found, releases, "{text}");
        }
    }

    #[test]
    fn nothing_that_a_reader_needs_is_missing() {
        let raw = json!({"tag_name": "v1", "name": null, "assets": [{"browser_download_url": "u"}, 1]});
        let release = filled(raw.as_object().unwrap());
        let expected = json!({"tag_name": "v1", "name": "v1", "prerelease": false,
            "assets": [{"browser_download_url": "u", "download_url": "u"}]});
        assert_eq!(Value::Object(release.raw), expected);
    }
}
