//! The launcher's own version: look for a newer one, go to it, start again.
//!
//! Updating is a job of the kind `update_launcher`, answered when it is quick. One that was cut off while it changed the
//! checkout is finished after the next start.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::checkout::{Applied, Checkout, Commit, Current, Workplace, journal, newest, place};
use super::restarter;
use crate::blocking::blocking;
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::jobs::{JobContext, JobService, JobState, Kind, Progress};
use crate::library::service::ANSWER_WITHIN;
use crate::net::NetworkClient;
use crate::storage::clock;
use crate::storage::files::{FOLDER_MODE, make_folders, sweep};
use crate::storage::json_file::{self, JsonObject, Readers};
use crate::storage::locked;

const KIND: &str = "update_launcher";
const FRESH_S: f64 = 3600.0;

/// What is newer. `commits` are those that came after the current one, newest first; `stale`: of an earlier look.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the words say it")]
pub struct Check {
    pub has_update: bool,
    pub current: String,
    pub latest: String,
    pub branch: String,
    pub commits: Vec<Commit>,
    pub error: Option<String>,
    pub stale: bool,
}

impl Check {
    fn compared(commits: &[Commit], current: &Current) -> Self {
        let at = commits.iter().position(|commit| commit.sha == current.commit);
        let behind = at.unwrap_or(commits.len());
        Self {
            has_update: behind > 0,
            current: current.commit.clone(),
            latest: commits
                .first()
                .map(|commit| commit.sha.clone())
                .unwrap_or_default(),
            branch: current.branch.clone(),
            commits: commits[..behind].to_vec(),
            ..Self::default()
        }
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct UpdateService {
    layout: Arc<Layout>,
    jobs: JobService,
    network: NetworkClient,
    /// What ended a job, for who waits for it.
    failures: Arc<Mutex<HashMap<String, Error>>>,
}

impl UpdateService {
    /// Touches no disk.
    #[must_use]
    pub fn new(layout: &Arc<Layout>, jobs: &JobService, network: NetworkClient) -> Self {
        let service = Self {
            layout: Arc::clone(layout),
            jobs: jobs.clone(),
            network,
            failures: Arc::default(),
        };
        let runner = service.clone();
        let run = move |context, _params| {
            let runner = runner.clone();
            async move { runner.run(context).await }
        };
        service.jobs.register(KIND, Kind::new(run));
        service
    }

    fn cache(&self, name: &str) -> PathBuf {
        self.layout.cache().join(name)
    }

    fn workplace(&self) -> Workplace {
        Workplace {
            staging: self.cache("launcher-update"),
            note: self.cache("launcher-update-runs.json"),
            log: self.layout.logs().join("update-launcher.log"),
        }
    }

    /// Finish an update that a kill cut off, or take it back. Call after the jobs are open.
    ///
    /// # Errors
    /// The list of jobs cannot be read.
    pub async fn open(&self) -> Result<()> {
        let at = self.workplace();
        let (is_begun, is_prepared) = blocking(move || {
            let journal = journal(&place());
            sweep(journal.parent());
            Ok((journal.exists(), at.staging.exists() || at.note.exists()))
        })
        .await?;
        let goes_on = is_begun && self.jobs.go_on(KIND).await?;
        if (is_begun || is_prepared) && !goes_on {
            // What was only prepared is thrown away.
            let at = self.workplace();
            blocking(move || {
                if let Err(error) = Checkout::here().undo(&at) {
                    tracing::error!("an update of the launcher that was cut off: {error}");
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Which version of the launcher runs.
    ///
    /// # Errors
    /// `Bug`.
    pub async fn current(&self) -> Result<Current> {
        blocking(|| Ok(Checkout::here().current())).await
    }

    /// Compare with the newest commits of the branch; at most an hour old, older when nobody answers.
    ///
    /// What cannot be found out stands in `error`: a launcher that is no checkout, or a network that is away.
    ///
    /// # Errors
    /// `Bug`.
    pub async fn check(&self, force: bool) -> Result<Check> {
        let path = self.cache("launcher-update-check.json");
        let (current, known, url) = blocking(move || {
            let checkout = Checkout::here();
            let current = checkout.current();
            let known = kept(&path, &current);
            Ok((current, known, checkout.list_url()))
        })
        .await?;
        if let Some((known, age_s)) = &known
            && !force
            && (0.0..FRESH_S).contains(age_s)
        {
            return Ok(known.clone());
        }
        let asked = match url {
            Ok(url) => newest(&self.network, &url).await,
            Err(error) => Err(error),
        };
        let commits = match (asked, known) {
            (Ok(commits), _) => commits,
            (Err(_), Some((known, _))) => return Ok(Check { stale: true, ..known }),
            (Err(error), None) => {
                return Ok(Check {
                    current: current.commit,
                    branch: current.branch,
                    error: Some(error.to_string()),
                    ..Check::default()
                });
            }
        };
        let (service, of, listed) = (self.clone(), current.clone(), commits.clone());
        blocking(move || {
            service.keep(&of, &listed);
            Ok(())
        })
        .await?;
        Ok(Check::compared(&commits, &current))
    }

    /// A cache: when it cannot be written the next look asks anew.
    fn keep(&self, current: &Current, commits: &[Commit]) {
        let path = self.cache("launcher-update-check.json");
        let value = JsonObject::from_iter([
            ("lastChecked".to_owned(), json!(clock::now())),
            ("checkedAt".to_owned(), json!(now_s())),
            ("branch".to_owned(), json!(current.branch)),
            ("commits".to_owned(), json!(commits)),
        ]);
        if make_folders(path.parent().unwrap_or(&path), FOLDER_MODE).is_ok() {
            let _ = json_file::save(&path, &value, Readers::Anybody);
        }
    }

    /// (job, what was done; None while the job is at it).
    ///
    /// # Errors
    /// `NotOurCheckout`, `LocalChanges`, `GitFailed`, `UpdateFailed`, the disk's failures: all is as it was.
    pub async fn update(&self) -> Result<(String, Option<Applied>)> {
        let job = self.jobs.start(KIND, json!({}), "Update the launcher").await?;
        let job = self.jobs.wait(&job.id, ANSWER_WITHIN).await?;
        let failure = locked(&self.failures).remove(&job.id);
        match job.state {
            JobState::Queued | JobState::Running => Ok((job.id, None)),
            JobState::Completed => {
                let done = serde_json::from_value(job.result.unwrap_or_default());
                let done = done.map_err(|error| Error::Bug(format!("the result of an update: {error}")))?;
                Ok((job.id, Some(done)))
            }
            state => Err(failure.unwrap_or_else(|| {
                let text = job
                    .error
                    .unwrap_or_else(|| format!("{}: the job is {state}.", job.title));
                Error::OperationFailed(text)
            })),
        }
    }

    /// Have the launcher started once this process has ended.
    ///
    /// # Errors
    /// `Unsupported`: there is none.
    pub async fn prepare_restart(&self) -> Result<()> {
        let root = self.layout.root().to_path_buf();
        blocking(move || restarter::prepare(&root, &place())).await
    }

    async fn run(&self, context: JobContext) -> Result<Value> {
        let (at, job_id) = (self.workplace(), context.job_id());
        let outcome = blocking(move || {
            let told = Progress::new("update", 0, 1).item("launcher").unit("updates");
            context.report(told);
            let checkout = Checkout::new(place(), Arc::new(move || context.check()));
            Ok(json!(checkout.update(&at)?))
        })
        .await;
        if let Err(error) = &outcome {
            *locked(&self.failures) = HashMap::from([(job_id, error.clone())]);
        }
        outcome
    }
}

fn now_s() -> f64 {
    Timestamp::now().as_duration().as_secs_f64()
}

/// What an earlier look says about the commit that is checked out now, and how many seconds ago it was; None when it was of
/// another kind.
fn kept(path: &std::path::Path, current: &Current) -> Option<(Check, f64)> {
    let mut value = json_file::load(path).ok()?.value?;
    if value.get("branch")?.as_str()? != current.branch {
        return None;
    }
    let checked = value.get("checkedAt")?.as_f64()?;
    let commits: Vec<Commit> = serde_json::from_value(value.remove("commits")?).ok()?;
    Some((Check::compared(&commits, current), now_s() - checked))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(sha: &str) -> Commit {
        Commit {
            sha: sha.to_owned(),
            message: String::new(),
            author: String::new(),
            date: String::new(),
        }
    }

    #[test]
    fn how_far_behind() {
        let commits = ["c", "b", "a"].map(commit);
        for (at, behind) in [("c", 0), ("b", 1), ("a", 2), ("gone", 3)] {
            let current = Current {
                commit: at.to_owned(),
                ..Current::default()
            };
            let found = Check::compared(&commits, &current);
            assert_eq!((found.commits.len(), found.has_update), (behind, behind > 0));
            assert_eq!(found.latest, "c");
        }
    }

    #[test]
    fn a_damaged_or_older_note_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("check.json");
        let current = Current {
            branch: "main".to_owned(),
            ..Current::default()
        };
        for (text, is_kept) in [
            ("{", false),
            (r#"{"branch": "main", "checkedAt": 1, "commits": [3]}"#, false),
            (
                r#"{"branch": "main", "checkedAt": 1, "commits": [{"sha": "a"}]}"#,
                false,
            ),
            (
                r#"{"branch": "main", "checkedAt": null, "commits": {"a": 1}}"#,
                false,
            ),
            (r#"{"branch": "other", "checkedAt": 1, "commits": []}"#, false),
            (
                r#"{"branch": "main", "checkedAt": 1, "commits": [{"sha": "a", "message": "", "author": "", "date": ""}]}"#,
                true,
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(kept(&path, &current).is_some(), is_kept, "{text}");
        }
    }
}
