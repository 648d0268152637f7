//! States one by one: starting, pausing, resuming, cancelling, failing, closing and opening again.

use super::*;
use crate::config::Layout;
use crate::jobs::Progress;
use crate::storage::troubles::Troubles;

/// A service on a real file, with one kind of job whose end the test decides by opening its gate.
struct Bench {
    folder: tempfile::TempDir,
    jobs: JobService,
    events: EventStream,
    gates: Arc<Mutex<HashMap<String, tokio::sync::watch::Sender<bool>>>>,
    failures: Arc<Mutex<HashMap<String, Error>>>,
    cleaned: Arc<Mutex<Vec<String>>>,
    ended: Arc<Mutex<Vec<(String, JobState)>>>,
}

impl Bench {
    async fn new() -> Self {
        Self::in_folder(tempfile::tempdir().unwrap()).await
    }

    async fn in_folder(folder: tempfile::TempDir) -> Self {
        let layout = Layout::new(folder.path());
        std::fs::create_dir_all(layout.data()).unwrap();
        let events = EventStream::starting_at(0);
        let jobs = JobService::new(
            JobStore::new(&layout, Arc::new(Troubles::default())).unwrap(),
            events.clone(),
        );
        let bench = Self {
            folder,
            jobs,
            events,
            gates: Arc::default(),
            failures: Arc::default(),
            cleaned: Arc::default(),
            ended: Arc::default(),
        };
        bench.register();
        bench.jobs.open().await.unwrap();
        bench
    }

    fn register(&self) {
        let (gates, failures, cleaned) = (self.gates.clone(), self.failures.clone(), self.cleaned.clone());
        let run = move |context: JobContext, params: Value| {
            let name = params["name"].as_str().unwrap().to_owned();
            let mut gate = gate(&gates, &name).subscribe();
            let failure = locked(&failures).get(&name).cloned();
            let cleaned = cleaned.clone();
            async move {
                let steps = context.checkpoint()["steps"].as_i64().unwrap_or(0) + 1;
                tokio::select! {
                    _ = gate.wait_for(|open| *open) => {}
                    () = context.stopped() => {}
                }
                if let Err(stopped) = context.check() {
                    locked(&cleaned).push(name);
                    return Err(stopped);
                }
                context.save_checkpoint(json!({"steps": steps})).await?;
                context.report(Progress::new("work", 1, 1).unit("steps"));
                failure.map_or(Ok(json!({"steps": steps})), Err)
            }
        };
        let ended = self.ended.clone();
        let note = move |job: Job| {
            locked(&ended).push((job.params["name"].as_str().unwrap().to_owned(), job.state));
            std::future::ready(())
        };
        self.jobs.register("test", Kind::new(run).ended(note));
    }

    fn open_gate(&self, name: &str) {
        gate(&self.gates, name).send_replace(true);
    }

    async fn start(&self, name: &str) -> String {
        self.jobs
            .start("test", json!({"name": name}), name)
            .await
            .unwrap()
            .id
    }

    async fn until(&self, id: &str, state: JobState) -> Job {
        for _ in 0..5000 {
            let job = self.jobs.get(id).await.unwrap();
            if job.state == state {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{id} did not become {state}");
    }

    async fn settled(&self, id: &str) -> Job {
        self.jobs.wait(id, Duration::from_secs(5)).await.unwrap()
    }

    async fn reopened(self) -> Self {
        self.jobs.close().await;
        self.jobs.close_files_sync();
        Self::in_folder(self.folder).await
    }
}

fn gate(
    gates: &Mutex<HashMap<String, tokio::sync::watch::Sender<bool>>>,
    name: &str,
) -> tokio::sync::watch::Sender<bool> {
    locked(gates)
        .entry(name.to_owned())
        .or_insert_with(|| tokio::sync::watch::Sender::new(false))
        .clone()
}

#[tokio::test]
async fn a_job_that_works() {
    let bench = Bench::new().await;
    let mut reader = bench.events.subscribe(vec!["job.state".into()], None);
    let id = bench.start("a").await;
    bench.until(&id, JobState::Running).await;
    bench.open_gate("a");
    let done = bench.settled(&id).await;
    assert_eq!(
        (done.state, done.result.clone(), done.progress()),
        (JobState::Completed, Some(json!({"steps": 1})), 1.0)
    );
    assert!(done.finished_at.is_some());
    let states: Vec<String> = reader
        .pending()
        .iter()
        .map(|e| String::from_utf8_lossy(&e.data).into_owned())
        .collect();
    for (state, told) in ["queued", "running", "completed"].iter().zip(&states) {
        assert!(told.contains(&format!("\"{state}\"")), "{told}");
    }
    let listed = bench
        .jobs
        .list(ListJobs {
            limit: 10,
            ..ListJobs::default()
        })
        .await
        .unwrap();
    assert_eq!(listed, [done]);
}

#[tokio::test]
async fn a_failed_job_says_why_and_can_be_tried_again() {
    let bench = Bench::new().await;
    bench.open_gate("a");
    for (failure, told) in [
        (Error::NotAModel("nothing there".into()), "nothing there"),
        (Error::Bug("secret".into()), BUG),
    ] {
        locked(&bench.failures).insert("a".into(), failure.clone());
        let id = bench.start("a").await;
        let failed = bench.settled(&id).await;
        assert_eq!(
            (
                failed.state,
                failed.error.as_deref(),
                failed.error_code.as_deref()
            ),
            (JobState::Failed, Some(told), Some(failure.kind()))
        );
        assert!(bench.jobs.cancel(&id).await.is_err());
        locked(&bench.failures).clear();
        bench.jobs.resume(&id).await.unwrap();
        let again = bench.settled(&id).await;
        assert_eq!(
            (again.state, again.error, again.result),
            (JobState::Completed, None, Some(json!({"steps": 2})))
        );
    }
}

#[tokio::test]
async fn a_runner_that_panics_fails_its_job_alone() {
    let bench = Bench::new().await;
    bench
        .jobs
        .register("broken", Kind::new(|_, _| async { panic!("oh") }));
    let job = bench.jobs.start("broken", json!({}), "B").await.unwrap();
    assert_eq!(
        bench.settled(&job.id).await.error_code.as_deref(),
        Some("internal_error")
    );
    let unknown = bench.jobs.start("later-version", json!({}), "L").await.unwrap();
    assert_eq!(
        bench.settled(&unknown.id).await.error_code.as_deref(),
        Some("wrong_job_state")
    );
}

#[tokio::test]
async fn pause_resume_and_cancel() {
    let bench = Bench::new().await;
    let id = bench.start("a").await;
    bench.until(&id, JobState::Running).await;
    for _ in 0..3 {
        bench.jobs.pause(&id).await.unwrap();
        bench.jobs.resume(&id).await.unwrap();
    }
    bench.jobs.pause(&id).await.unwrap();
    let paused = bench.settled(&id).await;
    assert_eq!((paused.state, paused.error), (JobState::Paused, None));
    locked(&bench.cleaned).clear();
    bench.jobs.cancel(&id).await.unwrap();
    let cancelled = bench.settled(&id).await;
    assert_eq!(
        (cancelled.state, cancelled.error_code.as_deref()),
        (JobState::Cancelled, Some("cancelled"))
    );
    assert_eq!(*locked(&bench.cleaned), ["a"]);
    for refused in [
        bench.jobs.cancel(&id).await,
        bench.jobs.pause(&id).await,
        bench.jobs.resume(&id).await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), "wrong_job_state");
    }
}

#[tokio::test]
async fn who_waits_need_not_wait_to_stop() {
    let bench = Bench::new().await;
    let ids = [
        bench.start("a").await,
        bench.start("b").await,
        bench.start("c").await,
    ];
    bench.until(&ids[0], JobState::Running).await;
    bench.jobs.pause(&ids[1]).await.unwrap();
    assert_eq!(bench.settled(&ids[1]).await.state, JobState::Paused);
    bench.jobs.cancel(&ids[2]).await.unwrap();
    assert_eq!(bench.settled(&ids[2]).await.state, JobState::Cancelled);
    bench.open_gate("a");
    assert_eq!(bench.settled(&ids[0]).await.state, JobState::Completed);
    let ended = locked(&bench.ended).clone();
    let expected = [
        ("b", JobState::Paused),
        ("c", JobState::Cancelled),
        ("a", JobState::Completed),
    ];
    assert_eq!(ended, expected.map(|(name, state)| (name.to_owned(), state)));
    bench.open_gate("d");
    let last = bench.start("d").await;
    assert_eq!(bench.settled(&last).await.state, JobState::Completed);
}

#[tokio::test]
async fn a_cancel_is_not_weakened() {
    let bench = Bench::new().await;
    let id = bench.start("a").await;
    bench.until(&id, JobState::Running).await;
    bench.jobs.cancel(&id).await.unwrap();
    let refused = bench.jobs.pause(&id).await;
    assert!(refused.is_err());
    bench.jobs.close().await;
    assert_eq!(bench.jobs.get(&id).await.unwrap().state, JobState::Cancelled);
}

#[tokio::test]
async fn closing_parks_and_opening_resumes() {
    let bench = Bench::new().await;
    let ids = [bench.start("a").await, bench.start("b").await];
    bench.until(&ids[0], JobState::Running).await;
    let bench = bench.reopened().await;
    for (id, name) in ids.iter().zip(["a", "b"]) {
        let job = bench.jobs.get(id).await.unwrap();
        assert_eq!(
            (job.state, job.error_code.as_deref()),
            (JobState::Paused, Some("interrupted"))
        );
        bench.open_gate(name);
        bench.jobs.resume(id).await.unwrap();
        assert_eq!(bench.settled(id).await.state, JobState::Completed);
    }
}

#[tokio::test]
async fn what_was_interrupted_goes_on_and_what_was_paused_stays() {
    let bench = Bench::new().await;
    let paused = bench.start("a").await;
    bench.until(&paused, JobState::Running).await;
    bench.jobs.pause(&paused).await.unwrap();
    bench.settled(&paused).await;
    let interrupted = bench.start("b").await;
    bench.until(&interrupted, JobState::Running).await;
    let bench = bench.reopened().await;
    bench.open_gate("b");
    assert!(bench.jobs.go_on("test").await.unwrap());
    assert_eq!(bench.settled(&interrupted).await.state, JobState::Completed);
    assert_eq!(bench.jobs.get(&paused).await.unwrap().state, JobState::Paused);
    assert!(!bench.jobs.go_on("test").await.unwrap());
}

#[tokio::test]
async fn two_calls_at_once_start_one_run() {
    let bench = Bench::new().await;
    let id = bench.start("a").await;
    bench.until(&id, JobState::Running).await;
    bench.jobs.pause(&id).await.unwrap();
    bench.settled(&id).await;
    let calls = (0..5).map(|_| bench.jobs.resume(&id));
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
}

#[tokio::test]
async fn progress_is_coalesced() {
    let bench = Bench::new().await;
    let busy = |context: JobContext, _: Value| async move {
        for done in 0..500 {
            context.report(Progress::new("scan", done, 0).unit("files"));
        }
        for done in 0..500 {
            context.report(Progress::new("copy", done, 499));
        }
        Ok(json!({}))
    };
    bench.jobs.register("busy", Kind::new(busy));
    let mut reader = bench.events.subscribe(vec!["job.progress".into()], None);
    let job = bench.jobs.start("busy", json!({}), "B").await.unwrap();
    bench.settled(&job.id).await;
    let told = reader.pending();
    let scans = told
        .iter()
        .filter(|e| String::from_utf8_lossy(&e.data).contains("\"scan\""))
        .count();
    assert!(
        (1..=20).contains(&scans) && (2..=20).contains(&(told.len() - scans)),
        "{} {scans}",
        told.len()
    );
    assert!(String::from_utf8_lossy(&told.last().unwrap().data).contains("\"progress\":1.0"));
}

#[tokio::test]
async fn a_damaged_row_hides_no_other() {
    let bench = Bench::new().await;
    bench.open_gate("a");
    let (good, bad) = (bench.start("a").await, bench.start("a").await);
    for id in [&good, &bad] {
        bench.settled(id).await;
    }
    let file = rusqlite::Connection::open(bench.folder.path().join("launcher-data/jobs.db")).unwrap();
    file.execute("UPDATE jobs SET params_json = '{' WHERE id = ?", [&bad])
        .unwrap();
    let listed = bench
        .jobs
        .list(ListJobs {
            limit: 10,
            ..ListJobs::default()
        })
        .await
        .unwrap();
    assert_eq!(
        listed.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(),
        [good.as_str()]
    );
    assert_eq!(bench.jobs.get(&bad).await.unwrap_err().kind(), "corrupt_state");
    assert_eq!(bench.jobs.get("none").await.unwrap_err().kind(), "job_not_found");
}

#[tokio::test]
async fn an_end_that_the_disk_refuses_is_told_and_written_later() {
    let bench = Bench::new().await;
    let id = bench.start("a").await;
    let file = rusqlite::Connection::open(bench.folder.path().join("launcher-data/jobs.db")).unwrap();
    let written = || -> String {
        file.query_row("SELECT state FROM jobs WHERE id = ?", [&id], |row| row.get(0))
            .unwrap()
    };
    bench.until(&id, JobState::Running).await;
    for _ in 0..5000 {
        if written() == "running" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    file.execute_batch("ALTER TABLE jobs RENAME TO away").unwrap();
    bench.open_gate("a");
    assert_eq!(bench.settled(&id).await.state, JobState::Failed);
    assert_eq!(bench.jobs.get(&id).await.unwrap().state, JobState::Failed);
    file.execute_batch("ALTER TABLE away RENAME TO jobs").unwrap();
    assert_eq!(written(), "running");
    let failed = ListJobs {
        states: vec![JobState::Failed],
        limit: 1,
        ..ListJobs::default()
    };
    assert_eq!(bench.jobs.list(failed).await.unwrap()[0].id, id);
    assert_eq!(written(), "failed");
    bench.jobs.resume(&id).await.unwrap();
    assert_eq!(bench.settled(&id).await.state, JobState::Completed);
    assert_eq!(written(), "completed");
}
