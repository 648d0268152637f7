//! Blocking readings of the machine, made on a thread of their own and shared by everybody who asks.
//!
//! The one place where this domain leaves the async runtime. It does not know what is read, and never blocks the runtime:
//! the lock is held to swap values and to start a thread, never while something is read.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::storage::files::reason;
use crate::storage::locked;

const CLOSE_WITHIN: Duration = Duration::from_millis(500);

/// How often a source is read.
///
/// A reading is given out until it is `max_age` old. The first call after that starts the reading, which goes on every
/// `interval` until nobody has asked for `park_after`; with zero there is one reading per start. `window` passes between
/// opening the source and its first reading, for numbers that are differences. A caller waits for `answer_within` at most:
/// a driver or a network disk that hangs must not hang those who ask.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Until when a reading is fresh.
    pub max_age: Duration,
    /// Between readings.
    pub interval: Duration,
    /// How long a source is read that nobody asks about.
    pub park_after: Duration,
    /// Before the first reading.
    pub window: Duration,
    /// For callers.
    pub answer_within: Duration,
}

impl Pace {
    /// A reading when somebody asks and the last one is older than `max_age`.
    #[must_use]
    pub const fn when_asked(max_age: Duration) -> Self {
        let none = Duration::ZERO;
        Self {
            max_age,
            interval: none,
            park_after: none,
            window: none,
            answer_within: Duration::from_secs(2),
        }
    }
}

/// Gives one reading.
pub type Read<T> = Box<dyn FnMut() -> Result<T>>;

/// Opened on the sampling thread when reading starts, and dropped there when it stops.
pub type Source<T> = Arc<dyn Fn() -> Read<T> + Send + Sync>;

/// The latest reading of one source.
///
/// Reading happens on one thread, which opens the source, and closes it and ends when nobody asks any more: a source that
/// nobody watches costs nothing at all. There is never a second thread, so a reading that hangs costs one, and its callers
/// get `TimedOut`.
pub struct Sampler<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    name: &'static str,
    source: Source<T>,
    pace: Pace,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    closed: bool,
    running: bool,
    asked_at: Instant,
    last: Option<(Instant, Result<T>)>,
    waiting: Vec<oneshot::Sender<Result<T>>>,
}

enum Reading<T> {
    Known(Result<T>),
    Coming(oneshot::Receiver<Result<T>>),
}

impl<T: Clone + Send + 'static> Sampler<T> {
    /// `name` is for messages and names the thread.
    pub fn new(name: &'static str, source: Source<T>, pace: Pace) -> Self {
        let state = State {
            closed: false,
            running: false,
            asked_at: Instant::now(),
            last: None,
            waiting: Vec::new(),
        };
        let shared = Shared {
            name,
            source,
            pace,
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A reading without a source to open, made only when somebody asks and the last one is older than `max_age`.
    pub fn when_asked(
        name: &'static str,
        read: impl Fn() -> Result<T> + Send + Sync + Clone + 'static,
        max_age: Duration,
    ) -> Self {
        Self::new(
            name,
            Arc::new(move || Box::new(read.clone())),
            Pace::when_asked(max_age),
        )
    }

    /// The newest reading; at once when there is a fresh one.
    ///
    /// # Errors
    /// What the reading failed with, `TimedOut` when it takes too long, `Interrupted` after [`Sampler::close`].
    pub async fn latest(&self) -> Result<T> {
        let coming = match self.ask()? {
            Reading::Known(reading) => return reading,
            Reading::Coming(coming) => coming,
        };
        let within = self.shared.pace.answer_within;
        match tokio::time::timeout(within, coming).await {
            Ok(Ok(reading)) => reading,
            Ok(Err(_)) => Err(stopping()),
            Err(_) => {
                let seconds = within.as_secs_f64();
                Err(Error::TimedOut(format!(
                    "Reading the {} takes longer than {seconds} s.",
                    self.shared.name
                )))
            }
        }
    }

    /// Like [`Sampler::latest`], but gives out a reading up to `within` old at once while a newer one is made.
    ///
    /// For callers that ask again soon and must not wait even for a fast reading.
    ///
    /// # Errors
    /// As [`Sampler::latest`].
    pub async fn recent(&self, within: Duration) -> Result<T> {
        self.wake()?;
        let known = match &self.shared.lock().last {
            Some((read_at, reading)) if read_at.elapsed() <= within => Some(reading.clone()),
            _ => None,
        };
        match known {
            Some(reading) => reading,
            None => self.latest().await,
        }
    }

    /// Say that somebody wants readings, without waiting for one.
    ///
    /// # Errors
    /// `Interrupted` after [`Sampler::close`].
    pub fn wake(&self) -> Result<()> {
        self.ask().map(|_| ())
    }

    fn ask(&self) -> Result<Reading<T>> {
        let mut state = self.shared.lock();
        if state.closed {
            return Err(stopping());
        }
        state.asked_at = Instant::now();
        if let Some((read_at, reading)) = &state.last
            && read_at.elapsed() <= self.shared.pace.max_age
        {
            return Ok(Reading::Known(reading.clone()));
        }
        if !state.running {
            self.start()?;
            state.running = true;
        }
        let (sender, coming) = oneshot::channel();
        state.waiting.push(sender);
        Ok(Reading::Coming(coming))
    }

    fn start(&self) -> Result<()> {
        let shared = self.shared.clone();
        let thread = thread::Builder::new().name(format!("sample {}", shared.name));
        let started = thread.spawn(move || shared.run());
        started.map(|_| ()).map_err(|error| {
            Error::OperationFailed(format!(
                "The {} cannot be read: {}.",
                self.shared.name,
                reason(&error)
            ))
        })
    }

    /// Stop reading; waits briefly for the source to be closed. Callers still waiting get `Interrupted`.
    pub async fn close(&self) {
        let running = self.shared.end();
        if running {
            let shared = self.shared.clone();
            let _ = tokio::task::spawn_blocking(move || {
                let state = shared.lock();
                drop(
                    shared
                        .changed
                        .wait_timeout_while(state, CLOSE_WITHIN, |state| state.running),
                );
            })
            .await;
        }
    }
}

fn stopping() -> Error {
    Error::Interrupted("The sidecar is stopping.".to_owned())
}

impl<T: Clone> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        locked(&self.state)
    }

    fn run(&self) {
        let _running = Running(self);
        let mut read = (self.source)();
        let mut going = self.wait(self.pace.window);
        while going {
            self.publish(read());
            going = !self.parks() && self.wait(self.pace.interval);
        }
    }

    /// Let nobody wait any more; whether the thread still runs.
    fn end(&self) -> bool {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
        self.changed.notify_all();
        state.running
    }

    /// False when reading should stop.
    fn wait(&self, time: Duration) -> bool {
        let state = self.lock();
        let waited = self
            .changed
            .wait_timeout_while(state, time, |state| !state.closed);
        waited.is_ok_and(|(state, _)| !state.closed)
    }

    /// Make room for a later thread, unless somebody waits; decided under the lock, so that no caller is lost.
    fn parks(&self) -> bool {
        let mut state = self.lock();
        let idle = state.waiting.is_empty() && state.asked_at.elapsed() >= self.pace.park_after;
        if idle {
            state.running = false;
        }
        idle
    }

    fn publish(&self, reading: Result<T>) {
        let mut state = self.lock();
        for waiting in state.waiting.drain(..) {
            // Somebody may have given up.
            let _ = waiting.send(reading.clone());
        }
        state.last = Some((Instant::now(), reading));
    }
}

/// Says that the thread has ended, also when a reading panicked: its callers then learn that nothing will come.
struct Running<'a, T: Clone>(&'a Shared<T>);

impl<T: Clone> Drop for Running<'_, T> {
    fn drop(&mut self) {
        if thread::panicking() || self.0.lock().closed {
            let mut state = self.0.lock();
            state.running = false;
            state.waiting.clear();
        }
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn counting(max_age: Duration) -> (Sampler<u32>, Arc<AtomicU32>) {
        let count = Arc::new(AtomicU32::new(0));
        let counted = count.clone();
        let read = move || Ok(counted.fetch_add(1, Ordering::SeqCst) + 1);
        (Sampler::when_asked("test", read, max_age), count)
    }

    #[tokio::test]
    async fn a_fresh_reading_is_shared() {
        let (sampler, count) = counting(Duration::from_mins(1));
        assert_eq!(sampler.latest().await.unwrap(), 1);
        assert_eq!(sampler.latest().await.unwrap(), 1);
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn an_old_reading_is_made_again() {
        let (sampler, _) = counting(Duration::ZERO);
        assert_eq!(sampler.latest().await.unwrap(), 1);
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(sampler.latest().await.unwrap(), 2);
        sampler.close().await;
        assert!(matches!(sampler.latest().await, Err(Error::Interrupted(_))));
    }

    #[tokio::test]
    async fn a_reading_that_hangs_times_out_and_is_not_made_twice() {
        let pace = Pace {
            answer_within: Duration::from_millis(50),
            ..Pace::when_asked(Duration::ZERO)
        };
        let started = Arc::new(AtomicU32::new(0));
        let counted = started.clone();
        let source: Source<u32> = Arc::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::new(|| {
                thread::sleep(Duration::from_millis(300));
                Ok(1)
            })
        });
        let sampler = Sampler::new("slow thing", source, pace);
        for _ in 0..2 {
            let failed = sampler.latest().await.unwrap_err();
            assert_eq!(
                failed.to_string(),
                "Reading the slow thing takes longer than 0.05 s."
            );
        }
        assert_eq!(started.load(Ordering::SeqCst), 1);
    }
}
