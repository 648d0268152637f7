//! Finds the repository that a file on disk is from: asks for candidates, has the file hashed, lets `lookup` judge.
//!
//! A file is hashed by a job, once, and only when a candidate holds a file of its size. What takes longer than a call may is
//! answered by name, and a later call finds the digest.

use std::path::Path;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::answers::Deadline;
use super::client::Listing;
use super::lookup::{Candidate, LocalFile, described, matched, ranked, read_local, to_look_into};
use super::model::{HubListing, HubModel};
use super::names;
use super::service::HubService;
use super::store::HubStore;
use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::jobs::{JobContext, JobService, JobState, Kind, Progress};
use crate::library::formats::reader::open_regular;
use crate::library::hashing::{Stamp, digest_open, open_file};
use crate::storage::files::During as _;

const HASH: &str = "hash_file";
const SEARCH_TTL: Duration = Duration::from_hours(24);
const FOREVER: Duration = Duration::from_hours(365 * 24);
const LISTED: u32 = 10;
const AT_ONCE: usize = 5;

/// Registers the job that hashes a file: `{path}` in, `{sha256, blake3, size}` out; the digest is kept for look-ups.
pub(super) fn register(jobs: &JobService, store: &HubStore) {
    let store = store.clone();
    let kind = Kind::new(move |context, params: Value| {
        let store = store.clone();
        async move { blocking(move || hash(&store, &context, &params)).await }
    });
    jobs.register(HASH, kind);
}

fn hash(store: &HubStore, context: &JobContext, params: &Value) -> Result<Value> {
    let path = Path::new(params["path"].as_str().unwrap_or_default());
    let opened = open_regular(path)?;
    let file = open_file(&opened)?;
    let stamp = Stamp::of(&file.metadata().during("Looking at the file")?);
    let mut done = 0;
    let mut advance = |count| {
        context.check()?;
        done += count;
        context.report(Progress::new("hashing", done, stamp.size).item(&opened.name));
        Ok(())
    };
    let digests = digest_open(&opened.name, file, &mut advance, &mut |_, _| Ok(()))?;
    store.keep_digest(stamp, &digests.sha256);
    Ok(json!({"sha256": digests.sha256, "blake3": digests.blake3, "size": digests.size}))
}

impl HubService {
    /// The repository that a file is from, as far as that can be told within ten seconds; in wire form.
    ///
    /// # Errors
    /// `UnsafePath`, `FileUnavailable`: about the path. `InvalidInput`: neither a name nor a path was given. Those of the
    /// network, `TokenRefused`, `TimedOut`: the hub could not be asked.
    pub async fn origin(&self, filename: &str, file_path: Option<String>) -> Result<Option<Value>> {
        let deadline = Deadline::of_call();
        let local = match file_path.filter(|path| !path.is_empty()) {
            Some(path) => Some(blocking(move || read_local(&path)).await?),
            None => None,
        };
        let given = filename.trim().replace('\\', "/");
        let given = given.rsplit('/').next().unwrap_or_default();
        let of_file = local.as_ref().map(LocalFile::name).unwrap_or_default();
        let name = if given.is_empty() { of_file.as_str() } else { given };
        if name.is_empty() {
            let reason = "must not be empty when no file_path is given";
            return Err(Error::invalid("filename", reason));
        }
        let candidates = self.candidates(name, local.as_ref(), deadline).await?;
        let (sha256, job_id) = match &local {
            Some(local)
                if candidates
                    .iter()
                    .any(|one| one.of_size(local.stamp.size).next().is_some()) =>
            {
                self.digest(local, deadline).await?
            }
            _ => (String::new(), None),
        };
        let found = matched(name, &candidates, local.as_ref(), sha256, job_id);
        let shown = if filename.is_empty() { &of_file } else { filename };
        Ok(found.map(|found| described(&found, shown, local.as_ref())))
    }

    /// Most alike first, the likeliest of them with their files' digests.
    async fn candidates(
        &self,
        name: &str,
        local: Option<&LocalFile>,
        deadline: Deadline,
    ) -> Result<Vec<Candidate>> {
        // A file whose name says nothing is searched for by its folder's.
        let meant = match local {
            Some(local) if names::title(name).is_empty() => format!("{}.x", local.folder()),
            _ => name.to_owned(),
        };
        let mut found = Vec::new();
        for text in names::searches(&meant) {
            found = ranked(&meant, self.alike(text, deadline).await?);
            if !found.is_empty() {
                break;
            }
        }
        let looked = to_look_into(name, &found).into_iter().map(|place| {
            let said = found[place].listing.said.clone();
            async move {
                (
                    place,
                    self.with_files(&said.repo_id, &said.commit, deadline).await,
                )
            }
        });
        let looked: Vec<_> = stream::iter(looked).buffer_unordered(AT_ONCE).collect().await;
        for (place, model) in looked {
            found[place].model = model;
        }
        Ok(found)
    }

    async fn alike(&self, text: String, deadline: Deadline) -> Result<Vec<HubListing>> {
        let key = self.key(&["candidates", &text.to_lowercase()])?;
        let client = self.client.clone();
        let ask = async move {
            let wanted = Listing {
                search: text,
                limit: LISTED,
                sort: "downloads",
                ..Listing::default()
            };
            Ok(json!(client.models(wanted).await?))
        };
        self.answers.get(key, SEARCH_TTL, deadline, ask).await?.value()
    }

    /// `None` when the hub does not give its files now.
    async fn with_files(&self, repo_id: &str, commit: &str, deadline: Deadline) -> Option<HubModel> {
        // At the commit of the listing: what was asked once need never be asked again.
        let found = self.model_for(repo_id, commit, FOREVER, deadline).await;
        let found = found.inspect_err(|error| tracing::info!("{repo_id} could not be looked into: {error}"));
        found.ok().map(|(model, _)| model)
    }

    /// The file's SHA-256, or "" and the id of the job that still computes it.
    async fn digest(&self, local: &LocalFile, deadline: Deadline) -> Result<(String, Option<String>)> {
        let (store, stamp) = (self.store.clone(), local.stamp);
        if let Some(known) = blocking(move || Ok(store.digest(stamp))).await? {
            return Ok((known, None));
        }
        let job_id = {
            let mut hashing = self.hashing.lock().await;
            let under_way = hashing.iter().find(|(known, _)| *known == stamp);
            match under_way.map(|(_, job_id)| job_id.clone()) {
                Some(job_id) => job_id,
                None => {
                    let params = json!({"path": local.path.to_string_lossy()});
                    let title = format!("Hash {}", local.name());
                    let job = self.jobs.start(HASH, params, &title).await?;
                    hashing.push((stamp, job.id.clone()));
                    job.id
                }
            }
        };
        let job = self.jobs.wait(&job_id, deadline.left()).await?;
        if !job.state.is_final() {
            return Ok((String::new(), Some(job_id)));
        }
        self.hashing.lock().await.retain(|(known, _)| *known != stamp);
        let result = job.result.filter(|_| job.state == JobState::Completed);
        let sha256 = result.and_then(|result| result["sha256"].as_str().map(str::to_owned));
        Ok((sha256.unwrap_or_default(), None))
    }
}
