//! Answers of the hub, kept: fresh ones cost nothing, old ones serve while the hub cannot be reached.
//!
//! One question is asked once at a time, however many callers want it. A caller waits for a bounded time and then gets what
//! was known before, marked as stale; the answer is kept when it comes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::store::HubStore;
use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::storage::{clock, locked};

/// No call takes longer than 10 s.
const CALL: Duration = Duration::from_secs(9);
/// How long a caller waits when there is an old answer to fall back on.
const STALE_WAIT: Duration = Duration::from_secs(4);
const IN_MEMORY_BYTES: usize = 8 * 1024 * 1024;

/// What was fetched, as JSON.
#[derive(Debug, Clone)]
pub struct Answer {
    body: Bytes,
    fetched_at: f64,
    /// Old, and no newer one was to be had.
    pub stale: bool,
}

impl Answer {
    /// What the hub said.
    ///
    /// # Errors
    /// `Bug`: what was kept has another form.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::Bug(format!("a kept answer of the hub: {error}")))
    }

    /// When it was fetched, ISO-8601 UTC.
    #[must_use]
    pub fn fetched(&self) -> String {
        #[expect(clippy::cast_possible_truncation, reason = "microseconds of our time fit")]
        let micros = (self.fetched_at * 1e6) as i64;
        Timestamp::from_microsecond(micros)
            .map(clock::text)
            .unwrap_or_default()
    }

    fn is_fresh(&self, ttl: Duration) -> bool {
        // A clock that was set back makes answers from the future: those count as old.
        let age = now() - self.fetched_at;
        (0.0..ttl.as_secs_f64()).contains(&age)
    }
}

fn now() -> f64 {
    Timestamp::now().as_duration().as_secs_f64()
}

/// What is left of the time that one call may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn of_call() -> Self {
        Self(Instant::now() + CALL)
    }

    pub(super) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

type Asking = Shared<BoxFuture<'static, Result<Answer>>>;

pub(super) struct Answers {
    store: HubStore,
    memory: Mutex<IndexMap<String, Answer>>,
    asking: Mutex<HashMap<String, Asking>>,
}

impl Answers {
    pub(super) fn new(store: HubStore) -> Arc<Self> {
        Arc::new(Self {
            store,
            memory: Mutex::default(),
            asking: Mutex::default(),
        })
    }

    /// The kept answer when it is younger than `ttl`, else what `ask` brings.
    ///
    /// # Errors
    /// What `ask` failed with, when there is no old answer, or when it was no matter of the network. `TimedOut`: there is no
    /// old answer, and none within the deadline.
    pub(super) async fn get(
        self: &Arc<Self>,
        key: String,
        ttl: Duration,
        deadline: Deadline,
        ask: impl Future<Output = Result<Value>> + Send + 'static,
    ) -> Result<Answer> {
        let kept = self.kept(&key).await?;
        if let Some(kept) = &kept
            && kept.is_fresh(ttl)
        {
            self.remember(key, kept.clone());
            return Ok(kept.clone());
        }
        let asking = self.asking(key, ask);
        let wait = if kept.is_some() {
            STALE_WAIT.min(deadline.left())
        } else {
            deadline.left()
        };
        let outcome = tokio::time::timeout(wait, asking).await;
        let stale = kept.map(|kept| Answer { stale: true, ..kept });
        match (outcome, stale) {
            (Ok(Ok(answer)), _) => Ok(answer),
            (Ok(Err(error)), Some(stale)) if is_of_network(&error) => Ok(stale),
            (Ok(Err(error)), _) => Err(error),
            (Err(_), Some(stale)) => Ok(stale),
            (Err(_), None) => Err(Error::TimedOut(
                "The hub has not answered yet; ask again in a moment.".to_owned(),
            )),
        }
    }

    async fn kept(self: &Arc<Self>, key: &str) -> Result<Option<Answer>> {
        let remembered = locked(&self.memory).get(key).cloned();
        if remembered.is_some() {
            return Ok(remembered);
        }
        let (own, key) = (Arc::clone(self), key.to_owned());
        let row = blocking(move || Ok(own.store.answer(&key))).await?;
        Ok(row.map(|(fetched_at, body)| Answer {
            body: body.into(),
            fetched_at,
            stale: false,
        }))
    }

    /// The question goes on when nobody waits for its answer any more.
    fn asking(
        self: &Arc<Self>,
        key: String,
        ask: impl Future<Output = Result<Value>> + Send + 'static,
    ) -> Asking {
        let mut asking = locked(&self.asking);
        if let Some(under_way) = asking.get(&key) {
            return under_way.clone();
        }
        let (own, name) = (Arc::clone(self), key.clone());
        let task = tokio::spawn(async move {
            let answered = own.ask(&name, ask).await;
            locked(&own.asking).remove(&name);
            answered
        });
        let ended = |_| Error::Bug("a question to the hub ended without an outcome".to_owned());
        let shared = task.map(move |joined| joined.map_err(ended)?).boxed().shared();
        asking.insert(key, shared.clone());
        shared
    }

    async fn ask(
        self: &Arc<Self>,
        key: &str,
        ask: impl Future<Output = Result<Value>> + Send,
    ) -> Result<Answer> {
        let value = ask.await?;
        let (own, name) = (Arc::clone(self), key.to_owned());
        let answer = blocking(move || {
            let body = serde_json::to_vec(&value).map_err(|error| Error::Bug(error.to_string()))?;
            let answer = Answer {
                body: body.into(),
                fetched_at: now(),
                stale: false,
            };
            own.store.keep(&name, answer.fetched_at, &answer.body);
            Ok(answer)
        })
        .await?;
        self.remember(key.to_owned(), answer.clone());
        Ok(answer)
    }

    /// The answers that were used longest ago are forgotten first.
    fn remember(&self, key: String, answer: Answer) {
        if answer.body.len() >= IN_MEMORY_BYTES / 2 {
            return;
        }
        let mut memory = locked(&self.memory);
        memory.shift_remove(&key);
        memory.insert(key, answer);
        let mut bytes: usize = memory.values().map(|kept| kept.body.len()).sum();
        while bytes > IN_MEMORY_BYTES
            && let Some((_, oldest)) = memory.shift_remove_index(0)
        {
            bytes -= oldest.body.len();
        }
    }
}

/// Whether an old answer is better than this failure.
fn is_of_network(error: &Error) -> bool {
    matches!(
        error,
        Error::Network { .. }
            | Error::Offline { .. }
            | Error::ConnectionFailed { .. }
            | Error::HttpStatus { .. }
            | Error::RateLimited { .. }
            | Error::CircuitOpen { .. }
            | Error::InvalidReply { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layout;
    use serde_json::json;

    const HOUR: Duration = Duration::from_hours(1);

    async fn get(answers: &Arc<Answers>, ttl: Duration, outcome: Result<Value>) -> Result<Answer> {
        answers
            .get("k".to_owned(), ttl, Deadline::of_call(), async { outcome })
            .await
    }

    #[tokio::test]
    async fn answers_are_kept_and_serve_while_the_hub_is_away() {
        let root = tempfile::tempdir().unwrap();
        let answers = Answers::new(HubStore::new(&Layout::new(root.path())).unwrap());
        let away = || Err(Error::Offline { host: "h".to_owned() });
        assert!(get(&answers, HOUR, away()).await.is_err());
        assert_eq!(
            get(&answers, HOUR, Ok(json!([1])))
                .await
                .unwrap()
                .value::<Value>()
                .unwrap(),
            json!([1])
        );
        let again = get(&answers, HOUR, Ok(json!([2]))).await.unwrap();
        assert_eq!(
            (again.value::<Value>().unwrap(), again.stale),
            (json!([1]), false)
        );
        let restarted = Answers::new(HubStore::new(&Layout::new(root.path())).unwrap());
        let old = get(&restarted, Duration::ZERO, away()).await.unwrap();
        assert_eq!((old.value::<Value>().unwrap(), old.stale), (json!([1]), true));
        let refused = Err(Error::TokenRefused);
        assert!(matches!(
            get(&restarted, Duration::ZERO, refused).await,
            Err(Error::TokenRefused)
        ));
    }
}
