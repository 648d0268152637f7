//! Who of a kind may run now.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::Semaphore;

/// An order among the jobs of a kind.
pub trait Turns: Send + Sync {
    /// Return when it is this job's turn. May be dropped before; then no turn was taken.
    fn take<'a>(&'a self, job_id: &'a str) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

    /// The job that had a turn has stopped.
    fn give_back(&self, job_id: &str);
}

/// At most so many run, the others follow in the order they came.
pub struct Slots(Semaphore);

impl Slots {
    /// `at_once` of them.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self(Semaphore::new(at_once))
    }
}

impl Turns for Slots {
    fn take<'a>(&'a self, _job_id: &'a str) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async {
            if let Ok(place) = self.0.acquire().await {
                place.forget();
            }
        })
    }

    fn give_back(&self, _job_id: &str) {
        self.0.add_permits(1);
    }
}
