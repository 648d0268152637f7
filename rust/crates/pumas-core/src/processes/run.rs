//! One start of an app, from the first process to the last, as the sidecar sees it.
//!
//! `service` keeps the runs. Whom one may signal stands in `family`. What is not async blocks for a moment.

use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use rustix::process::{PidfdFlags, Signal, pidfd_open};
use serde_json::Value;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::ending::Ending;
use super::family;
use super::kernel::{self, Identity, Seen, Table};
use super::ledger::{Ledger, Record};
use super::spawn::{Orders, WaitingKeeper};
use super::values::{RunState, Stopped};
use crate::apps::Environment;
use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::stop::Stop;
use crate::storage::locked;

const LOOK: Duration = Duration::from_millis(50);
/// How long killed processes may take to go; one that hangs in a driver does not go at all.
const KILL_PATIENCE: Duration = Duration::from_secs(2);
const END_POLL: Duration = Duration::from_millis(500);
const EXIT_PATIENCE: Duration = Duration::from_secs(1);

type Attempt = Shared<BoxFuture<'static, Result<Stopped>>>;

/// What changes while it goes on.
pub(super) struct Now {
    pub(super) state: RunState,
    pub(super) error: Option<String>,
    pub(super) exit_code: Option<i32>,
    pub(super) asked_to_stop: bool,
}

pub(super) struct Run {
    pub(super) record: Record,
    /// An earlier sidecar started it.
    pub(super) adopted: bool,
    pub(super) began: Instant,
    /// It became ready or ended.
    pub(super) settled: Stop,
    pub(super) over: Stop,
    now: Mutex<Now>,
    exit_file: PathBuf,
    keeper: Mutex<Option<Child>>,
    attempt: Mutex<Option<Attempt>>,
}

impl Run {
    /// `keeper` when this sidecar started it.
    pub(super) fn new(record: Record, exit_file: PathBuf, keeper: Option<Child>) -> Self {
        Self {
            record,
            adopted: keeper.is_none(),
            began: Instant::now(),
            settled: Stop::default(),
            over: Stop::default(),
            now: Mutex::new(Now {
                state: RunState::Starting,
                error: None,
                exit_code: None,
                asked_to_stop: false,
            }),
            exit_file,
            keeper: Mutex::new(keeper),
            attempt: Mutex::default(),
        }
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Now) -> T) -> T {
        look(&mut locked(&self.now))
    }

    pub(super) fn state(&self) -> RunState {
        self.with(|now| now.state)
    }

    pub(super) fn is_going(&self) -> bool {
        self.state() != RunState::Exited
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.record.port)
    }

    /// Its processes now, looked for in `everyone`.
    pub(super) fn family_in(&self, everyone: &Table) -> Vec<Seen> {
        let record = &self.record;
        if kernel::alive(&record.keeper()) {
            return family::members(&record.marks(), record.keeper, everyone);
        }
        if record.boot != kernel::boot() {
            return Vec::new();
        }
        family::orphans(&record.marks(), &record.run_id, everyone)
    }

    pub(super) fn family(&self) -> Vec<Seen> {
        self.family_in(&kernel::table())
    }

    /// Stop all its processes; who calls twice gets the same attempt.
    ///
    /// # Errors
    /// `StopFailed`: some are still there.
    pub(super) async fn end(self: &Arc<Self>, grace: Duration) -> Result<Stopped> {
        let attempt = {
            let mut attempt = locked(&self.attempt);
            match &*attempt {
                Some(running) if running.peek().is_none() => running.clone(),
                _ => {
                    let run = Arc::clone(self);
                    // It goes on when the caller hangs up.
                    let work = tokio::spawn(async move { blocking(move || run.end_sync(grace)).await });
                    let done = async move {
                        work.await
                            .unwrap_or_else(|error| Err(Error::Bug(error.to_string())))
                    };
                    attempt.insert(done.boxed().shared()).clone()
                }
            }
        };
        attempt.await
    }

    fn end_sync(&self, grace: Duration) -> Result<Stopped> {
        let before = self.with(|now| {
            now.asked_to_stop = true;
            std::mem::replace(&mut now.state, RunState::Stopping)
        });
        let mut ending = Ending::new(grace);
        let patience = Instant::now() + grace + KILL_PATIENCE;
        while !ending.step(&self.family()) {
            if Instant::now() > patience {
                self.with(|now| (now.asked_to_stop, now.state) = (false, before));
                return Err(Error::StopFailed(format!(
                    "{} processes of this app do not end, not even when killed.",
                    self.family().len()
                )));
            }
            thread::sleep(LOOK);
        }
        self.let_go();
        Ok(ending.outcome())
    }

    /// Whether an attempt to end it is under way; returns when that is over.
    pub(super) async fn until_ended(&self) {
        let attempt = locked(&self.attempt).clone();
        if let Some(attempt) = attempt {
            let _ = attempt.await;
        }
    }

    /// Have it end without us: what the sidecar does when it stops itself.
    pub(super) fn leave_to_keeper(&self) {
        let record = &self.record;
        self.with(|now| now.asked_to_stop = true);
        if kernel::tell(record.keeper, record.keeper_start, Signal::USR1) == Ok(false) {
            Ending::new(Duration::ZERO).step(&self.family());
        }
    }

    /// Its processes are gone: what the keeper still waits for is nothing of ours.
    fn let_go(&self) {
        let keeper = self.record.keeper();
        if kernel::alive(&keeper) {
            let _ = kernel::tell(keeper.pid, keeper.start, Signal::TERM);
        }
    }

    /// A pause that ends early with the run.
    pub(super) async fn wait(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.over.asked()).await;
    }

    /// Returns when none of its processes is left, and knows its exit code if there is one to know.
    pub(super) async fn until_gone(self: &Arc<Self>) -> Result<()> {
        until_ended(&self.record.leader()).await;
        loop {
            let run = Arc::clone(self);
            if blocking(move || Ok(run.family().is_empty())).await? {
                break;
            }
            tokio::time::sleep(END_POLL).await;
        }
        let run = Arc::clone(self);
        blocking(move || {
            run.collect();
            Ok(())
        })
        .await
    }

    fn collect(&self) {
        self.let_go();
        let patience = Instant::now() + EXIT_PATIENCE;
        let mut code = self.written_exit();
        while code.is_none() && Instant::now() < patience {
            let is_over = !kernel::alive(&self.record.keeper());
            code = self.written_exit();
            if is_over {
                break;
            }
            thread::sleep(LOOK);
        }
        self.with(|now| now.exit_code = code);
        let _ = fs::remove_file(&self.exit_file);
        if let Some(mut keeper) = locked(&self.keeper).take() {
            let end = Instant::now() + EXIT_PATIENCE;
            while matches!(keeper.try_wait(), Ok(None)) && Instant::now() < end {
                thread::sleep(LOOK);
            }
        }
    }

    fn written_exit(&self) -> Option<i32> {
        let value: Value = serde_json::from_slice(&fs::read(&self.exit_file).ok()?).ok()?;
        value.get("exit_code")?.as_i64()?.try_into().ok()
    }
}

/// Start an app and write down who it is. `record` names no process yet.
///
/// # Errors
/// `LaunchFailed`, and what the disk refuses: nothing runs.
pub(super) fn start(
    mut record: Record,
    orders: &Orders,
    environment: Environment,
    ledger: &Ledger,
) -> Result<(Record, Child)> {
    let waiting = WaitingKeeper::new(&record.run_id, environment)?;
    record.boot.clone_from(&waiting.identity.boot);
    (record.keeper, record.keeper_start) = (waiting.identity.pid, waiting.identity.start);
    ledger.put(&record)?;
    let (leader, start, keeper) = waiting.go(orders).inspect_err(|_| {
        let _ = ledger.remove(std::slice::from_ref(&record.run_id));
    })?;
    let record = record.led_by(leader, start);
    if let Err(error) = ledger.put(&record) {
        // The keeper is written down, and leads to the app.
        tracing::warn!("the ledger of processes does not have the first process: {error}");
    }
    Ok((record, keeper))
}

/// A record that was written before the first process was known: the keeper's first child that leads a session.
pub(super) fn with_leader(record: Record) -> Record {
    if record.leader != 0 {
        return record;
    }
    let below = kernel::descendants(record.keeper, &kernel::table());
    let first = below
        .iter()
        .filter(|seen| seen.parent == record.keeper && seen.session == seen.pid)
        .min_by_key(|seen| seen.start);
    match first {
        Some(leader) => record.led_by(leader.pid, leader.start),
        None => record,
    }
}

/// Wait until this process has ended: the kernel tells by a descriptor (`pidfd_open(2)`).
async fn until_ended(who: &Identity) {
    let opened = kernel::number(who.pid).and_then(|id| pidfd_open(id, PidfdFlags::NONBLOCK).ok());
    // Else the number is another's by now.
    let Some(fd) = opened.filter(|_| kernel::alive(who)) else {
        return;
    };
    #[expect(
        deprecated,
        reason = "its successor is unsafe because of descriptors that change; an owned one does not"
    )]
    let registered = AsyncFd::with_interest(fd, Interest::READABLE);
    if let Ok(fd) = registered {
        let _ = fd.readable().await;
    }
}
