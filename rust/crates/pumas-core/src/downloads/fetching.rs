//! Bring all files of a download: small ones in one piece each, large ones in segments over several connections.
//!
//! A handful of threads take whatever is to be done next. A failure that may pass makes its thread wait; any other ends the
//! whole. What the files are, where they go in the end and who asked for them is known to `downloading`.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{Builder, Scope, scope};
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use sha2::{Digest as _, Sha256};

use super::content::{Content, Refused, Reply};
use super::filling::fill;
use super::large::{LargeFile, MOST_CONNECTIONS, Segment};
use super::part::{MIB, PartFile, data_path, records_path};
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::library::hashing::{Digests, give_way};
use crate::storage::files::{During as _, hex, reason};
use crate::storage::locked;
use crate::storage::paths::contained;
use crate::text::grouped;

const SMALL: u64 = MIB;
const WORKERS: usize = 8;
/// A large file begins when connections have nothing to do at the one before: on a line that one of them fills, two would
/// take twice the memory and, with two digests beside each other, longer than one after the other.
const LARGE_AT_ONCE: usize = 2;
const SEGMENTS_AT_ONCE: usize = 6;
/// What small files are lost by a kill: so many bytes or so long.
const UNKEPT_BYTES: u64 = 4 * MIB;
const UNKEPT: Duration = Duration::from_secs(1);
/// Whose connections are those of small files.
const NOBODY: u64 = 0;

/// Digests of files by path.
pub(super) type Arrived = IndexMap<String, Digests>;

/// Called with files that are durably there.
pub(super) type Keep<'a> = &'a (dyn Fn(Arrived) -> Result<()> + Sync);

/// One run. `run` returns once all files are in `target`; what a stopped run brought is used by the next.
pub(super) struct Fetch<'a> {
    /// Of one volume with `target`, both there; partial files are named by their digests.
    parts: &'a Path,
    target: &'a Path,
    shared: Arc<Shared>,
    keep: Keep<'a>,
    state: Mutex<State>,
    unkept: Mutex<Unkept>,
    keeping: Mutex<()>,
}

struct State {
    small: VecDeque<Arc<Content>>,
    waiting: VecDeque<Arc<Content>>,
    large: Vec<Arc<LargeFile>>,
    begun: u64,
    segments: usize,
    unfinished: usize,
}

struct Unkept {
    files: Arrived,
    since: Instant,
}

enum Task {
    Small(Arc<Content>),
    Segment(Arc<LargeFile>, Segment),
}

impl<'a> Fetch<'a> {
    pub(super) fn new(
        contents: Vec<Content>,
        parts: &'a Path,
        target: &'a Path,
        shared: Arc<Shared>,
        keep: Keep<'a>,
    ) -> Self {
        let unfinished = contents.len();
        let (small, waiting): (Vec<_>, Vec<_>) = contents
            .into_iter()
            .map(Arc::new)
            .partition(|content| content.wanted.size <= SMALL);
        Self {
            parts,
            target,
            shared,
            keep,
            state: Mutex::new(State {
                small: small.into(),
                waiting: waiting.into(),
                large: Vec::new(),
                begun: NOBODY,
                segments: 0,
                unfinished,
            }),
            unkept: Mutex::new(Unkept {
                files: Arrived::new(),
                since: Instant::now(),
            }),
            keeping: Mutex::default(),
        }
    }

    /// # Errors
    /// `DigestMismatch`: wrong bytes, twice. Those of the network, `GatedRepo`, the disk's; and as [`Shared::stop`].
    pub(super) fn run(&self) -> Result<()> {
        let count = {
            let state = locked(&self.state);
            WORKERS.min(state.small.len() + state.waiting.len() * MOST_CONNECTIONS)
        };
        let outcome = scope(|scope| {
            for number in 0..count {
                self.spawn(scope, format!("download-{number}"), || self.work(scope));
            }
            let outcome = self.wait();
            self.shared
                .fail(Error::Interrupted("The download has ended.".to_owned()));
            outcome
        });
        if outcome.is_err() {
            // At an end for another reason, which is the one to tell.
            let _ = self.flush();
        }
        outcome
    }

    fn wait(&self) -> Result<()> {
        loop {
            let seen = self.shared.told();
            if self.shared.has_ended() || locked(&self.state).unfinished == 0 {
                break;
            }
            self.shared.wait(seen);
            if let Err(error) = self.shared.stop() {
                self.shared.fail(error);
            }
            self.shared.mind_offline();
        }
        match self.shared.failure() {
            Some(failure) => Err(failure),
            None => self.flush(),
        }
    }

    /// A thread of this run; its failure, and a mistake of ours in it, end the run.
    fn spawn<'scope, 'env>(
        &'scope self,
        scope: &'scope Scope<'scope, 'env>,
        name: String,
        work: impl FnOnce() -> Result<()> + Send + 'scope,
    ) {
        let guarded = move || {
            give_way();
            let done = catch_unwind(AssertUnwindSafe(work));
            let bug = || Err(Error::Bug("a thread of a download panicked".to_owned()));
            if let Err(error) = done.unwrap_or_else(|_| bug()) {
                self.shared.fail(error);
            }
        };
        if let Err(error) = Builder::new().name(name).spawn_scoped(scope, guarded) {
            let reason = reason(&error);
            let failure = Error::OperationFailed(format!("No thread can be started: {reason}."));
            self.shared.fail(failure);
        }
    }

    // -- a worker's life ---------------------------------------------------------------------------------------------

    fn work<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> Result<()> {
        while let Some(task) = self.next(scope)? {
            let done = self.shared.hold().and_then(|()| self.carry_out(&task));
            if let Err(error) = done {
                self.shared.stop()?;
                self.shared.wait_after(error)?;
            }
        }
        Ok(())
    }

    /// What to do now, waiting while others do all there is; `None` at the end.
    fn next<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> Result<Option<Task>> {
        loop {
            let seen = self.shared.told();
            {
                let mut state = locked(&self.state);
                if state.unfinished == 0 || self.shared.has_ended() {
                    break;
                }
                if let Some(task) = self.task(&mut state, scope)? {
                    return Ok(Some(task));
                }
            }
            self.shared.wait(seen);
        }
        self.shared.tell();
        Ok(None)
    }

    fn task<'scope>(
        &'scope self,
        state: &mut State,
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<Option<Task>> {
        if let Some(content) = state.small.pop_front() {
            return Ok(Some(Task::Small(content)));
        }
        if state.segments >= SEGMENTS_AT_ONCE {
            return Ok(None);
        }
        for file in &state.large {
            if let Some(segment) = file.take()? {
                state.segments += 1;
                return Ok(Some(Task::Segment(Arc::clone(file), segment)));
            }
        }
        if state.large.len() >= LARGE_AT_ONCE || !state.large.iter().all(|file| file.is_handed_out()) {
            return Ok(None);
        }
        match state.waiting.pop_front() {
            Some(content) => {
                self.begin(state, content, scope)?;
                self.task(state, scope)
            }
            None => Ok(None),
        }
    }

    fn carry_out(&self, task: &Task) -> Result<()> {
        match task {
            Task::Small(content) => self
                .bring_small(content)
                .inspect_err(|_| locked(&self.state).small.push_back(Arc::clone(content))),
            Task::Segment(file, segment) => {
                let done = file.fetch(segment);
                locked(&self.state).segments -= 1;
                self.shared.tell();
                done
            }
        }
    }

    fn finished(&self) {
        locked(&self.state).unfinished -= 1;
        self.shared.tell();
    }

    // -- small files -------------------------------------------------------------------------------------------------

    fn bring_small(&self, content: &Content) -> Result<()> {
        let data = self.whole(content)?;
        let path = &content.wanted.path;
        let place = contained(self.target, path, "file")?;
        let what = format!("Writing {path}");
        fs::create_dir_all(place.parent().unwrap_or(self.target)).during(&what)?;
        fs::write(&place, &data).during(&what)?;
        self.shared.meter.done(path, data.len() as u64);
        let due = {
            let mut unkept = locked(&self.unkept);
            unkept.files.insert(path.clone(), digests(&data));
            let bytes: u64 = unkept.files.values().map(|digests| digests.size).sum();
            bytes >= UNKEPT_BYTES || unkept.since.elapsed() > UNKEPT
        };
        if due {
            self.flush()?;
        }
        self.finished();
        Ok(())
    }

    /// The file's bytes, right ones; asked for twice when the first were wrong.
    fn whole(&self, content: &Content) -> Result<Vec<u8>> {
        let wanted = &content.wanted;
        if wanted.size == 0 {
            return Ok(Vec::new());
        }
        let mut found = String::new();
        let send = |url: &str, headers: &[(&str, String)]| self.shared.send(url, headers);
        for _attempt in 0..2 {
            let mut reply = content.open(&send, None, "").map_err(|refused| match refused {
                Refused::Failed(error) => error,
                Refused::Changed(changed) => Error::Bug(changed.reason.to_owned()),
            })?;
            let _reading = self.shared.connections.reading(&reply, NOBODY);
            let data = self.read(&mut reply, content)?;
            found = wanted.digest(&hex(&Sha256::digest(&data)), |take| {
                take(&data);
                Ok(())
            })?;
            if data.len() as u64 == wanted.size && found == wanted.expected() {
                return Ok(data);
            }
        }
        Err(Error::DigestMismatch {
            name: wanted.path.clone(),
            reason: format!("expected {}, got {found}, twice", wanted.expected()),
        })
    }

    fn read(&self, reply: &mut Reply, content: &Content) -> Result<Vec<u8>> {
        let (shared, path, size) = (&*self.shared, &content.wanted.path, content.wanted.size);
        if reply.is_encoded() {
            let data = reply.read(usize::try_from(size).unwrap_or_default())?;
            if shared.meter.received(path, data.len()) {
                shared.patience.progressed();
            }
            shared.meter.dropped(path, data.len());
            shared.bandwidth.take(data.len(), &|| shared.stop())?;
            return Ok(data.into());
        }
        let mut data = vec![0; usize::try_from(size).unwrap_or_default()];
        fill(shared, reply, path, &mut data)?;
        shared.meter.dropped(path, data.len());
        if !reply.is_over()? {
            let size = grouped(size);
            return Err(reply.invalid(format!("more than the {size} bytes of {path}")));
        }
        Ok(data)
    }

    /// Make the small files durable and say so.
    fn flush(&self) -> Result<()> {
        let _keeping = locked(&self.keeping);
        let files = {
            let mut unkept = locked(&self.unkept);
            unkept.since = Instant::now();
            std::mem::take(&mut unkept.files)
        };
        if files.is_empty() {
            return Ok(());
        }
        for path in files.keys() {
            let synced = File::open(self.target.join(path)).and_then(|file| file.sync_all());
            synced.during(&format!("Writing {path}"))?;
        }
        (self.keep)(files)
    }

    // -- large files -------------------------------------------------------------------------------------------------

    fn begin<'scope>(
        &'scope self,
        state: &mut State,
        content: Arc<Content>,
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<()> {
        let part = PartFile::open(self.parts, content.wanted.expected(), content.wanted.size)?;
        state.begun += 1;
        let shared = Arc::clone(&self.shared);
        let file = Arc::new(LargeFile::new(content, part, shared, state.begun));
        state.large.push(Arc::clone(&file));
        self.spawn(scope, "download-verify".to_owned(), move || self.verify(&file));
        Ok(())
    }

    fn verify(&self, file: &Arc<LargeFile>) -> Result<()> {
        let digests = file.verify()?;
        let wanted = &file.content.wanted;
        // First the word that it is whole, then its name: what a killed run had named so far is found either way.
        (self.keep)(Arrived::from_iter([(wanted.path.clone(), digests)]))?;
        name_whole(self.parts, self.target, &wanted.path, wanted.expected())?;
        self.shared.meter.done(&wanted.path, wanted.size);
        locked(&self.state)
            .large
            .retain(|other| !Arc::ptr_eq(other, file));
        self.finished();
        Ok(())
    }
}

/// Give a whole and verified partial file its place.
pub(super) fn name_whole(parts: &Path, target: &Path, path: &str, name: &str) -> Result<()> {
    let place = contained(target, path, "file")?;
    let what = format!("Finishing {path}");
    fs::create_dir_all(place.parent().unwrap_or(target)).during(&what)?;
    fs::rename(data_path(parts, name), place).during(&what)?;
    match fs::remove_file(records_path(parts, name)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).during(&what),
        _ => Ok(()),
    }
}

fn digests(data: &[u8]) -> Digests {
    Digests {
        sha256: hex(&Sha256::digest(data)),
        blake3: blake3::hash(data).to_hex().to_string(),
        size: data.len() as u64,
    }
}
