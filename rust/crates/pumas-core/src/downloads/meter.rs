//! What is known about a running download from one moment to the next, for whoever asks.
//!
//! Threads report bytes and waits; `snapshot` is answered from memory. Progress never falls except after a restart of a
//! file, which is counted and said.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use serde::Serialize;

use super::wanted::WantedFile;
use crate::storage::locked;

const WINDOW: Duration = Duration::from_secs(5);
const BUCKET: Duration = Duration::from_millis(250);
/// What a stop may lose: blocks that were under way.
const LOST_BY_A_STOP: u64 = 16 * 1024 * 1024;
/// Without a byte for so long, a download is not "downloading", whatever its connections hope for.
const SILENCE: Duration = Duration::from_secs(3);

/// One file of a download; sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileProgress {
    /// In the repository and in the model.
    pub path: String,
    /// Of the whole.
    pub size: u64,
    /// So far.
    pub downloaded: u64,
    /// `waiting`, `downloading`, `verifying` or `done`.
    pub state: &'static str,
}

/// How a download is now.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Snapshot {
    /// `downloading`, `retrying`, `waiting` (for space or for the schedule), `verifying`, `copying` or `publishing`.
    pub activity: &'static str,
    pub downloaded: u64,
    pub total: u64,
    /// Bytes per second.
    pub speed: f64,
    /// `None` when nobody can know.
    pub eta_s: Option<f64>,
    pub restarts: u32,
    pub retries: u32,
    /// A sentence about a wait or a restart, or "".
    pub note: String,
}

#[derive(Default)]
struct FileState {
    size: u64,
    arrived: u64,
    pending: i64,
    state: Stage,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Stage {
    #[default]
    Waiting,
    Downloading,
    Done,
}

pub(super) struct Meter {
    state: Mutex<State>,
}

struct State {
    files: IndexMap<String, FileState>,
    total: u64,
    arrived: u64,
    /// Bytes that came off the wire and are not kept yet.
    pending: i64,
    shown: u64,
    /// The most bytes that were there since the last restart.
    furthest: u64,
    buckets: VecDeque<(Instant, u64)>,
    began: Instant,
    last_byte: Instant,
    retrying_until: Option<Instant>,
    phase: &'static str,
    note: String,
    retry_note: String,
    restarts: u32,
    retries: u32,
}

impl Meter {
    /// `shown` is what an earlier run had reported, below which this one does not fall.
    pub(super) fn new(files: &[WantedFile], shown: u64) -> Self {
        let of = |file: &WantedFile| {
            let state = FileState {
                size: file.size,
                ..FileState::default()
            };
            (file.path.clone(), state)
        };
        let total = files.iter().map(|file| file.size).sum();
        let now = Instant::now();
        Self {
            state: Mutex::new(State {
                files: files.iter().map(of).collect(),
                total,
                arrived: 0,
                pending: 0,
                shown: shown.min(total),
                furthest: 0,
                buckets: VecDeque::new(),
                began: now,
                last_byte: now,
                retrying_until: None,
                phase: "",
                note: String::new(),
                retry_note: String::new(),
                restarts: 0,
                retries: 0,
            }),
        }
    }

    // -- told by the threads -----------------------------------------------------------------------------------------

    /// Bytes came off the wire; they count as pending until a whole block of them is kept.
    ///
    /// Answers whether more is there now than ever since the last restart: what only replaces lost bytes is no headway.
    pub(super) fn received(&self, path: &str, count: usize) -> bool {
        let moment = Instant::now();
        let mut state = locked(&self.state);
        state.pend(path, signed(count));
        if let Some(file) = state.files.get_mut(path)
            && file.state == Stage::Waiting
        {
            file.state = Stage::Downloading;
        }
        state.last_byte = moment;
        state.retrying_until = None;
        state.retry_note.clear();
        match state.buckets.back_mut() {
            Some((at, bytes)) if moment.duration_since(*at) <= BUCKET => *bytes += count as u64,
            _ => state.buckets.push_back((moment, count as u64)),
        }
        while state
            .buckets
            .front()
            .is_some_and(|(at, _)| moment.duration_since(*at) > WINDOW)
        {
            state.buckets.pop_front();
        }
        let there = state.there();
        let further = there > state.furthest;
        state.furthest = state.furthest.max(there);
        further
    }

    /// Pending bytes were kept or lost.
    pub(super) fn dropped(&self, path: &str, count: usize) {
        locked(&self.state).pend(path, -signed(count));
    }

    /// So many bytes of the file are kept in all.
    pub(super) fn arrived(&self, path: &str, count: u64) {
        locked(&self.state).arrived(path, count, Stage::Downloading);
    }

    /// The file is whole and verified.
    pub(super) fn done(&self, path: &str, size: u64) {
        locked(&self.state).arrived(path, size, Stage::Done);
    }

    /// An earlier run left so many bytes; much less than it had shown is a restart, too.
    pub(super) fn resumed(&self, found: u64) {
        let mut state = locked(&self.state);
        if found + LOST_BY_A_STOP < state.shown {
            state.restarts += 1;
            "Most of what had arrived is not on the disk any more; it is fetched again."
                .clone_into(&mut state.note);
            state.shown = 0;
        }
        state.shown = state.shown.max(found).min(state.total);
    }

    /// The file begins anew: the only thing that lets progress fall.
    pub(super) fn restarted(&self, path: &str, why: &str) {
        let mut state = locked(&self.state);
        state.restarts += 1;
        state.note = format!("Began {path} again: {why}.");
        state.arrived(path, 0, Stage::Downloading);
        (state.shown, state.furthest) = (0, 0);
    }

    /// A connection waits before its next try; what is said about it holds until bytes come.
    pub(super) fn retries(&self, wait: Duration, why: String) {
        let mut state = locked(&self.state);
        state.retries += 1;
        let until = Instant::now() + wait;
        state.retrying_until = Some(state.retrying_until.map_or(until, |known| known.max(until)));
        state.retry_note = why;
    }

    /// What the whole download is at, when that is not fetching; "" for fetching.
    pub(super) fn phase(&self, name: &'static str, note: String) {
        let mut state = locked(&self.state);
        (state.phase, state.note) = (name, note);
        state.retry_note.clear();
        state.last_byte = Instant::now();
    }

    // -- asked by others ---------------------------------------------------------------------------------------------

    pub(super) fn snapshot(&self) -> Snapshot {
        let moment = Instant::now();
        let mut state = locked(&self.state);
        let there = state.there();
        state.shown = state.shown.max(there.min(state.total));
        let (speed, left) = (state.speed(moment), state.total - state.shown);
        let note = if state.retry_note.is_empty() {
            &state.note
        } else {
            &state.retry_note
        };
        Snapshot {
            activity: state.activity(moment, left),
            downloaded: state.shown,
            total: state.total,
            speed,
            eta_s: match left {
                0 => Some(0.0),
                _ => (speed > 0.0).then(|| left as f64 / speed),
            },
            restarts: state.restarts,
            retries: state.retries,
            note: note.clone(),
        }
    }

    pub(super) fn files(&self) -> Vec<FileProgress> {
        let progress = |(path, file): (&String, &FileState)| FileProgress {
            path: path.clone(),
            size: file.size,
            downloaded: file
                .arrived
                .saturating_add_signed(file.pending.max(0))
                .min(file.size),
            state: match file.state {
                Stage::Waiting => "waiting",
                Stage::Downloading => "downloading",
                Stage::Done => "done",
            },
        };
        locked(&self.state).files.iter().map(progress).collect()
    }
}

impl State {
    /// Bytes that are kept or on their way to it.
    fn there(&self) -> u64 {
        self.arrived.saturating_add_signed(self.pending.max(0))
    }

    fn pend(&mut self, path: &str, count: i64) {
        self.pending += count;
        if let Some(file) = self.files.get_mut(path) {
            file.pending += count;
        }
    }

    fn arrived(&mut self, path: &str, count: u64, stage: Stage) {
        if let Some(file) = self.files.get_mut(path) {
            self.arrived = self.arrived + count - file.arrived;
            (file.arrived, file.state) = (count, stage);
        }
    }

    fn speed(&self, moment: Instant) -> f64 {
        let recent = self
            .buckets
            .iter()
            .filter(|(at, _)| moment.saturating_duration_since(*at) <= WINDOW);
        let bytes: u64 = recent.map(|(_, bytes)| bytes).sum();
        let over = moment.saturating_duration_since(self.began).clamp(BUCKET, WINDOW);
        bytes as f64 / over.as_secs_f64()
    }

    fn activity(&self, moment: Instant, left: u64) -> &'static str {
        if !self.phase.is_empty() {
            return self.phase;
        }
        if left == 0 {
            return "verifying";
        }
        let silent = moment.saturating_duration_since(self.last_byte) > SILENCE;
        if silent || self.retrying_until.is_some_and(|until| moment < until) {
            "retrying"
        } else {
            "downloading"
        }
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(shown: u64) -> Meter {
        let file = |path: &str, size| WantedFile {
            path: path.to_owned(),
            size,
            sha256: None,
            git_oid: String::new(),
        };
        Meter::new(&[file("a", 100), file("b", 50)], shown)
    }

    #[test]
    fn progress_counts_what_is_pending_and_never_falls() {
        let meter = meter(0);
        meter.received("a", 40);
        assert_eq!(meter.snapshot().downloaded, 40);
        meter.dropped("a", 40);
        meter.arrived("a", 30);
        let now = meter.snapshot();
        assert_eq!(
            (now.downloaded, now.total, now.activity),
            (40, 150, "downloading")
        );
        assert!(now.speed > 0.0 && now.eta_s.unwrap() > 0.0);
        meter.done("a", 100);
        meter.done("b", 50);
        assert_eq!(meter.snapshot().activity, "verifying");
        assert_eq!(meter.files()[1].state, "done");
    }

    #[test]
    fn only_more_than_ever_is_headway() {
        let meter = meter(120);
        assert!(meter.received("a", 30));
        meter.dropped("a", 30);
        assert!(!meter.received("a", 30));
        assert!(meter.received("b", 1));
        meter.restarted("a", "it has changed on the server");
        assert!(meter.received("a", 1));
    }

    #[test]
    fn a_restart_is_said_and_lets_it_fall() {
        let meter = meter(60);
        meter.resumed(10);
        assert_eq!(meter.snapshot().downloaded, 60);
        meter.arrived("a", 70);
        meter.restarted("a", "it has changed on the server");
        let now = meter.snapshot();
        assert_eq!((now.downloaded, now.restarts), (0, 1));
        assert_eq!(now.note, "Began a again: it has changed on the server.");
    }

    #[test]
    fn a_retry_is_said_until_bytes_come() {
        let meter = meter(0);
        meter.phase("waiting", "No room.".to_owned());
        assert_eq!(meter.snapshot().activity, "waiting");
        meter.phase("", String::new());
        meter.retries(Duration::from_mins(1), "It broke off.".to_owned());
        let now = meter.snapshot();
        assert_eq!(
            (now.activity, now.note.as_str(), now.retries),
            ("retrying", "It broke off.", 1)
        );
        meter.received("b", 1);
        assert_eq!(meter.snapshot().note, "");
    }
}
