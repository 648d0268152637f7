//! Writes batches of the index in order, on a thread of its own, while the next one is being read. A long run of them is
//! copied out of the journal beside it, on another.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle, ScopedJoinHandle};

use crate::error::{Error, Result};
use crate::library::store::{self, Batch, Changes};
use crate::storage::database::Database;
use crate::storage::troubles::Troubles;

/// Beside the writing: the less of its journal is left for the writer to copy, the shorter it stops for that.
const BATCHES_PER_CHECKPOINT: usize = 4;

/// Told after each batch that changed something, from the writing thread.
pub type OnChanges = Box<dyn Fn(&Database, &Changes) + Send + Sync>;

/// Where batches go, and who hears of them.
pub struct Sink {
    /// The index.
    pub database: Database,
    /// What is wrong with folders is listed there.
    pub troubles: Arc<Troubles>,
    /// See [`OnChanges`].
    pub on_changes: OnChanges,
}

impl Sink {
    /// Tells what a batch did that is in the index now.
    pub fn committed(&self, batch: &Batch, changes: &Changes) {
        for subject in &changes.cleared {
            self.troubles.clear(subject);
        }
        for trouble in batch.troubles.values().flatten() {
            self.troubles
                .report(&trouble.subject, &trouble.kind, &trouble.message);
        }
        if changes.count() > 0 {
            (self.on_changes)(&self.database, changes);
        }
    }

    fn write(&self, batch: &Batch) -> Result<Counts> {
        let changes = self.database.write_sync(|c| store::apply(c, batch))?;
        self.committed(batch, &changes);
        Ok((changes.added.len(), changes.changed.len(), changes.removed.len()))
    }
}

/// Models added, changed, removed.
pub type Counts = (usize, usize, usize);

/// At most one batch is being written while another is filled. The thread is started for the first one.
pub struct BatchWriter {
    sink: Arc<Sink>,
    thread: Option<Thread>,
    counts: Counts,
    waiting: bool,
}

struct Thread {
    batches: Sender<Batch>,
    outcomes: Receiver<Result<Counts>>,
    handle: JoinHandle<()>,
}

impl BatchWriter {
    /// A writer that has written nothing.
    #[must_use]
    pub fn new(sink: Arc<Sink>) -> Self {
        Self {
            sink,
            thread: None,
            counts: (0, 0, 0),
            waiting: false,
        }
    }

    /// Hands over a batch, once the one before it is written.
    ///
    /// # Errors
    /// The batch before it could not be written.
    pub fn put(&mut self, batch: Batch) -> Result<()> {
        self.wait()?;
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => start(Arc::clone(&self.sink))?,
        };
        let sent = thread.batches.send(batch);
        self.thread = Some(thread);
        self.waiting = sent.is_ok();
        sent.map_err(|_| ended())
    }

    /// Returns when the batch that was handed over last is written.
    ///
    /// # Errors
    /// It could not be written.
    pub fn wait(&mut self) -> Result<()> {
        let (true, Some(thread)) = (self.waiting, &self.thread) else {
            return Ok(());
        };
        self.waiting = false;
        let (added, changed, removed) = thread.outcomes.recv().map_err(|_| ended())??;
        self.counts = (
            self.counts.0 + added,
            self.counts.1 + changed,
            self.counts.2 + removed,
        );
        Ok(())
    }

    /// Writes what is left and ends the thread.
    ///
    /// # Errors
    /// The last batch could not be written.
    pub fn close(&mut self) -> Result<Counts> {
        let waited = self.wait();
        if let Some(Thread { batches, handle, .. }) = self.thread.take() {
            drop(batches);
            let _ = handle.join();
        }
        waited.map(|()| self.counts)
    }
}

fn start(sink: Arc<Sink>) -> Result<Thread> {
    let (batches, inbox) = channel::<Batch>();
    let (outbox, outcomes) = channel();
    let work = move || {
        thread::scope(|scope| {
            let mut checkpoint: Option<ScopedJoinHandle<'_, ()>> = None;
            for (number, batch) in (1..).zip(inbox) {
                if outbox.send(sink.write(&batch)).is_err() {
                    return;
                }
                let is_due = number % BATCHES_PER_CHECKPOINT == 0;
                if is_due && checkpoint.as_ref().is_none_or(ScopedJoinHandle::is_finished) {
                    let copying = thread::Builder::new().name("index-checkpoint".to_owned());
                    checkpoint = copying
                        .spawn_scoped(scope, || sink.database.checkpoint_sync())
                        .ok();
                }
            }
        });
    };
    let handle = thread::Builder::new().name("index-writer".to_owned()).spawn(work);
    let handle =
        handle.map_err(|error| Error::OperationFailed(format!("No thread could be started: {error}.")))?;
    Ok(Thread {
        batches,
        outcomes,
        handle,
    })
}

fn ended() -> Error {
    Error::Bug("the thread that writes the index ended".to_owned())
}
