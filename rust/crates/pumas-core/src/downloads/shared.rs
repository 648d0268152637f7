//! What all connections of one running download share: how to stop, how fast to go, how long to try, what to report.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::bandwidth::Bandwidth;
use super::content::Reply;
use super::meter::Meter;
use super::patience::{Asked, Patience};
use super::schedule::Gate;
use crate::error::{Error, Result};
use crate::hub::HubClient;
use crate::net::{NetworkClient, Timeouts};
use crate::stop::Stop;
use crate::storage::locked;

/// How often a thread that waits looks whether it should stop.
pub(super) const LOOK: Duration = Duration::from_millis(200);
const OFFLINE: Duration = Duration::from_secs(2);
const SHORTEST: Duration = Duration::from_millis(100);
/// HTTP answers that may be another one next time (RFC 9110 §15; 408, 425, 429 and the 5xx family).
const PASSING: [u16; 14] = [
    408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529,
];

/// Fails when the work should stop.
pub(super) type Check = Arc<dyn Fn() -> Result<()> + Send + Sync>;

/// A call for those who wait to look again. What it is about is under locks of its own.
#[derive(Default)]
struct Bell {
    rung: Mutex<u64>,
    changed: Condvar,
}

impl Bell {
    fn count(&self) -> u64 {
        *locked(&self.rung)
    }

    fn ring(&self) {
        *locked(&self.rung) += 1;
        self.changed.notify_all();
    }

    /// Return when it was rung since `seen` was counted, or after `most`.
    fn wait(&self, seen: u64, most: Duration) {
        let rung = locked(&self.rung);
        let waited = self.changed.wait_timeout_while(rung, most, |rung| *rung == seen);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

/// The answers being read now: a stop ends them, so that no read blocks on.
#[derive(Default)]
pub(super) struct Connections {
    open: Mutex<HashMap<u64, (u64, Stop)>>,
    next: AtomicU64,
    ended: AtomicBool,
}

/// An answer is being read for as long as this lives.
pub(super) struct Reading<'a> {
    connections: &'a Connections,
    number: u64,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        locked(&self.connections.open).remove(&self.number);
    }
}

impl Connections {
    pub(super) fn reading(&self, reply: &Reply, owner: u64) -> Reading<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        locked(&self.open).insert(number, (owner, reply.ended().clone()));
        if self.ended.load(Ordering::Acquire) {
            reply.ended().ask();
        }
        Reading {
            connections: self,
            number,
        }
    }

    /// End those of an owner.
    pub(super) fn end_of(&self, owner: u64) {
        self.end(|its| its == owner);
    }

    /// End those that are open now; others may follow.
    fn cut(&self) {
        self.end(|_| true);
    }

    /// End all for good.
    fn end_all(&self) {
        self.ended.store(true, Ordering::Release);
        self.cut();
    }

    fn end(&self, wanted: impl Fn(u64) -> bool) {
        for (owner, ended) in locked(&self.open).values() {
            if wanted(*owner) {
                ended.ask();
            }
        }
    }
}

/// One run of one download. Ends for all of its threads with the first call of `fail`.
pub(super) struct Shared {
    pub meter: Arc<Meter>,
    pub bandwidth: Arc<Bandwidth>,
    pub gate: Arc<Gate>,
    pub patience: Patience,
    pub connections: Connections,
    pub network: NetworkClient,
    pub runtime: Handle,
    check: Check,
    hub: Option<HubClient>,
    silence: Timeouts,
    changed: Bell,
    failure: Mutex<Option<Error>>,
    ended: Stop,
}

/// What a run needs of everybody else.
pub(super) struct Surroundings {
    pub meter: Arc<Meter>,
    pub bandwidth: Arc<Bandwidth>,
    pub gate: Arc<Gate>,
    pub check: Check,
    pub network: NetworkClient,
    /// Who knows the token for an address; None where none is sent.
    pub hub: Option<HubClient>,
    /// A connection that brings nothing for so long is given up for a new one.
    pub silence: Timeouts,
    pub runtime: Handle,
}

impl Shared {
    pub(super) fn new(around: Surroundings, patience: Duration) -> Self {
        Self {
            meter: around.meter,
            bandwidth: around.bandwidth,
            gate: around.gate,
            network: around.network,
            runtime: around.runtime,
            check: around.check,
            hub: around.hub,
            silence: around.silence,
            patience: Patience::new(patience),
            connections: Connections::default(),
            changed: Bell::default(),
            failure: Mutex::default(),
            ended: Stop::default(),
        }
    }

    /// Whether the run has ended or the job was told to stop. Called at least every [`LOOK`].
    ///
    /// # Errors
    /// `Interrupted`, `Cancelled`.
    pub(super) fn stop(&self) -> Result<()> {
        if self.ended.is_asked() {
            return Err(Error::Interrupted("The download has ended.".to_owned()));
        }
        (self.check)()
    }

    pub(super) fn failure(&self) -> Option<Error> {
        locked(&self.failure).clone()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_asked()
    }

    /// Hang up in offline mode: an answer that is still coming would be traffic, too. Called every [`LOOK`].
    pub(super) fn mind_offline(&self) {
        if self.network.offline() {
            self.connections.cut();
        }
    }

    /// Return while downloads may run; wait when the schedule says otherwise.
    pub(super) fn hold(&self) -> Result<()> {
        if !self.gate.is_open() {
            self.meter.phase("waiting", OUTSIDE_HOURS.to_owned());
            self.gate.wait(|| self.stop())?;
            self.meter.phase("", String::new());
        }
        Ok(())
    }

    pub(super) fn fail(&self, error: Error) {
        locked(&self.failure).get_or_insert(error);
        self.ended.ask();
        self.changed.ring();
        self.connections.end_all();
    }

    /// Those who wait for something of this run look again.
    pub(super) fn tell(&self) {
        self.changed.ring();
    }

    /// How often something was told; [`Shared::wait`] returns when it is more.
    pub(super) fn told(&self) -> u64 {
        self.changed.count()
    }

    /// Return when something was told after `seen`, or after [`LOOK`].
    pub(super) fn wait(&self, seen: u64) {
        self.changed.wait(seen, LOOK);
    }

    /// Wait as long as this failure asks for.
    ///
    /// # Errors
    /// The failure itself, when another try would be of no use; and as [`Shared::stop`].
    pub(super) fn wait_after(&self, error: Error) -> Result<()> {
        if !is_passing(&error) {
            return Err(error);
        }
        let why = error.to_string();
        let asked = asked(&error);
        let wait = self.patience.after(error, asked)?;
        let until = Instant::now() + wait;
        self.meter.retries(wait, why);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.stop()?;
            self.changed.wait(self.told(), left.min(LOOK));
        }
    }

    /// One GET, without any second try.
    ///
    /// # Errors
    /// As [`NetworkClient::send`] and [`Shared::stop`].
    pub(super) fn send(&self, url: &str, headers: &[(&str, String)]) -> Result<Reply> {
        let mut request = self.network.get(url)?.timeouts(self.silence).once().unchecked();
        for (name, value) in headers {
            request = request.header(name, value)?;
        }
        let asked = async {
            if let Some(hub) = &self.hub
                && let Some(token) = hub.token_for(url).await?
            {
                request = request.header("authorization", &format!("Bearer {token}"))?;
            }
            self.network.send(request).await
        };
        let response = self.runtime.block_on(self.until_stopped(asked))?;
        Ok(Reply::new(response, self.runtime.clone()))
    }

    async fn until_stopped<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.ended.asked() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            self.stop()?;
        }
    }
}

pub(super) const OUTSIDE_HOURS: &str = "Outside the hours in which downloads run.";

/// Whether the same request may succeed later.
pub(super) fn is_passing(error: &Error) -> bool {
    match error {
        Error::HttpStatus { status, .. } => PASSING.contains(status),
        Error::Network { .. }
        | Error::Offline { .. }
        | Error::ConnectionFailed { .. }
        | Error::RateLimited { .. }
        | Error::CircuitOpen { .. }
        | Error::InvalidReply { .. } => true,
        _ => false,
    }
}

/// How long we are made to wait, and by whom.
fn asked(error: &Error) -> Asked {
    let seconds = |wait: &f64| {
        Duration::try_from_secs_f64(*wait)
            .unwrap_or(SHORTEST)
            .max(SHORTEST)
    };
    match error {
        Error::RateLimited { retry_after_s, .. } => Asked::ByServer(seconds(retry_after_s)),
        Error::Offline { .. } => Asked::ByServer(OFFLINE),
        Error::CircuitOpen { retry_after_s, .. } => Asked::ByBreaker(seconds(retry_after_s)),
        _ => Asked::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again() {
        let host = String::new;
        let status = |status| Error::HttpStatus { status, host: host() };
        for (error, passes) in [
            (status(503), true),
            (status(404), false),
            (Error::Offline { host: host() }, true),
            (Error::DiskError(String::new()), false),
            (Error::TokenRefused, false),
        ] {
            assert_eq!(is_passing(&error), passes, "{error:?}");
        }
        let limited = Error::RateLimited {
            host: host(),
            retry_after_s: 7.0,
        };
        assert_eq!(asked(&limited), Asked::ByServer(Duration::from_secs(7)));
        assert_eq!(asked(&status(500)), Asked::Nobody);
    }
}
