//! Publishing, replay and readers.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::Notify;

/// Events that are kept for readers that come back.
pub const REPLAY_EVENTS: usize = 4096;
/// Bytes of their data.
pub const REPLAY_BYTES: usize = 4 * 1024 * 1024;
/// Events that wait for one reader before it is told to load anew.
pub const QUEUE_EVENTS: usize = 1024;
/// The topic that says that events were missed.
pub const RESYNC: &str = "resync";

/// Something that happened. `topic` is dotted (`job.progress`); `data` is a JSON object, encoded once for all readers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the stream.
    pub cursor: u64,
    /// What it is about.
    pub topic: &'static str,
    /// JSON.
    pub data: Bytes,
}

struct State {
    cursor: u64,
    buffer: VecDeque<Event>,
    buffered_bytes: usize,
    readers: HashMap<u64, Reader>,
    next_reader: u64,
}

struct Reader {
    topics: Vec<String>,
    queue: VecDeque<Event>,
    wake: Arc<Notify>,
}

/// The stream. Cheap to clone; publishing is allowed from any thread.
#[derive(Clone)]
pub struct EventStream {
    state: Arc<Mutex<State>>,
    readers: Arc<AtomicU64>,
    joined: Arc<Notify>,
}

impl Default for EventStream {
    fn default() -> Self {
        Self::new()
    }
}

impl EventStream {
    /// A stream whose cursors begin at the present time in microseconds.
    #[must_use]
    pub fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros();
        Self::starting_at(u64::try_from(now).unwrap_or_default())
    }

    /// A stream whose first event has the cursor `cursor + 1`.
    #[must_use]
    pub fn starting_at(cursor: u64) -> Self {
        let state = State {
            cursor,
            buffer: VecDeque::new(),
            buffered_bytes: 0,
            readers: HashMap::new(),
            next_reader: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            readers: Arc::default(),
            joined: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cursor of the newest event.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.state().cursor
    }

    /// Whether anybody follows this topic now; for events that are made only then.
    #[must_use]
    pub fn wanted(&self, topic: &str) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
            && self.state().readers.values().any(|r| wants(&r.topics, topic))
    }

    /// Tell everybody. `data` must serialise to a JSON object; what cannot be serialised is logged and dropped.
    pub fn publish(&self, topic: &'static str, data: &impl Serialize) {
        match serde_json::to_vec(data) {
            Ok(text) => self.publish_encoded(topic, text.into()),
            Err(error) => tracing::error!("an event of {topic} has no JSON form: {error}"),
        }
    }

    fn publish_encoded(&self, topic: &'static str, data: Bytes) {
        let mut state = self.state();
        state.cursor += 1;
        let event = Event {
            cursor: state.cursor,
            topic,
            data,
        };
        state.buffered_bytes += event.data.len();
        state.buffer.push_back(event.clone());
        while state.buffer.len() > REPLAY_EVENTS || state.buffered_bytes > REPLAY_BYTES {
            let Some(oldest) = state.buffer.pop_front() else {
                break;
            };
            state.buffered_bytes -= oldest.data.len();
        }
        for reader in state.readers.values_mut() {
            reader.offer(&event);
        }
    }

    /// Tell those who follow the topic by its name now. It takes no cursor of its own and is never replayed.
    pub fn publish_passing(&self, topic: &'static str, data: &impl Serialize) {
        let Ok(text) = serde_json::to_vec(data) else {
            return;
        };
        let mut state = self.state();
        let event = Event {
            cursor: state.cursor,
            topic,
            data: text.into(),
        };
        for reader in state.readers.values_mut().filter(|reader| reader.named(topic)) {
            reader.offer(&event);
        }
    }

    /// Return as soon as somebody follows this topic by its name.
    pub async fn until_wanted(&self, topic: &str) {
        loop {
            let joined = self.joined.notified();
            if self.state().readers.values().any(|reader| reader.named(topic)) {
                return;
            }
            joined.await;
        }
    }

    /// Follow the stream from `after` (a cursor seen earlier) or from now on.
    ///
    /// `topics` are whole topics or their first words (`job` means `job.state` and `job.progress`); empty means all.
    #[must_use]
    pub fn subscribe(&self, topics: Vec<String>, after: Option<u64>) -> Subscription {
        let mut state = self.state();
        let mut reader = Reader {
            topics,
            queue: VecDeque::new(),
            wake: Arc::new(Notify::new()),
        };
        let wake = Arc::clone(&reader.wake);
        let start = after.map_or(state.cursor, |after| state.replay(&mut reader, after));
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, reader);
        self.readers.fetch_add(1, Ordering::Relaxed);
        self.joined.notify_waiters();
        Subscription {
            stream: self.clone(),
            id,
            start,
            wake,
        }
    }
}

impl State {
    /// Give the reader what it missed; returns the cursor after which it follows.
    fn replay(&self, reader: &mut Reader, after: u64) -> u64 {
        let oldest = self.buffer.front().map_or(self.cursor + 1, |event| event.cursor);
        if after > self.cursor || after < oldest - 1 {
            reader.lose(self.cursor);
            return self.cursor;
        }
        for event in self.buffer.iter().filter(|event| event.cursor > after) {
            reader.offer(event);
        }
        after
    }
}

impl Reader {
    /// As `wants`, but not for a reader that simply follows everything.
    fn named(&self, topic: &str) -> bool {
        !self.topics.is_empty() && wants(&self.topics, topic)
    }

    fn offer(&mut self, event: &Event) {
        if !wants(&self.topics, event.topic) {
            return;
        }
        if self.queue.len() >= QUEUE_EVENTS {
            self.lose(event.cursor);
            return;
        }
        self.queue.push_back(event.clone());
        self.wake.notify_one();
    }

    /// Replace everything waiting by one `resync`: the reader must load the state anew.
    fn lose(&mut self, cursor: u64) {
        self.queue.clear();
        let data = format!("{{\"cursor\":{cursor}}}").into();
        self.queue.push_back(Event {
            cursor,
            topic: RESYNC,
            data,
        });
        self.wake.notify_one();
    }
}

fn wants(topics: &[String], topic: &str) -> bool {
    let below = |wanted: &String| {
        topic
            .strip_prefix(wanted.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    topics.is_empty() || topics.iter().any(below)
}

/// One reader. It ends when it is dropped. A reader that falls behind gets one `resync` and goes on from there.
pub struct Subscription {
    stream: EventStream,
    id: u64,
    start: u64,
    wake: Arc<Notify>,
}

impl Subscription {
    /// The cursor after which it follows.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Wait until something happens and return all of it, oldest first. May be cancelled without a loss.
    pub async fn next(&mut self) -> Vec<Event> {
        loop {
            let waiting = self.pending();
            if !waiting.is_empty() {
                return waiting;
            }
            self.wake.notified().await;
        }
    }

    /// All that waits now, taken out at once.
    #[must_use]
    pub fn pending(&mut self) -> Vec<Event> {
        self.stream
            .state()
            .readers
            .get_mut(&self.id)
            .map(|r| r.queue.drain(..).collect())
            .unwrap_or_default()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.stream.state().readers.remove(&self.id);
        self.stream.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(reader: &mut Subscription) -> Vec<(u64, &'static str)> {
        reader
            .pending()
            .iter()
            .map(|event| (event.cursor, event.topic))
            .collect()
    }

    #[test]
    fn topics_are_whole_words() {
        for (topics, topic, expected) in [
            (vec![], "job.state", true),
            (vec!["job"], "job.state", true),
            (vec!["job"], "jobs.state", false),
            (vec!["job.state"], "job.progress", false),
            (vec!["job.state"], "job.state", true),
            (vec!["job.state.x"], "job.state", false),
        ] {
            let topics: Vec<String> = topics.into_iter().map(str::to_owned).collect();
            assert_eq!(wants(&topics, topic), expected, "{topics:?} {topic}");
        }
    }

    #[test]
    fn replays_from_a_cursor_and_resyncs_when_it_is_gone() {
        let stream = EventStream::starting_at(100);
        for _ in 0..3 {
            stream.publish("job.state", &json!({}));
        }
        assert_eq!(
            said(&mut stream.subscribe(vec![], Some(101))),
            [(102, "job.state"), (103, "job.state")]
        );
        assert_eq!(said(&mut stream.subscribe(vec![], Some(103))), []);
        for gone in [0, 99, 104, u64::MAX] {
            assert_eq!(
                said(&mut stream.subscribe(vec![], Some(gone))),
                [(103, RESYNC)],
                "{gone}"
            );
        }
        assert_eq!(stream.subscribe(vec![], None).start(), 103);
    }

    #[test]
    fn memory_is_bounded() {
        let stream = EventStream::starting_at(0);
        let mut slow = stream.subscribe(vec![], None);
        for _ in 0..=REPLAY_EVENTS {
            stream.publish("model.changed", &json!({"text": "x".repeat(2000)}));
        }
        let state = stream.state();
        assert!(state.buffered_bytes <= REPLAY_BYTES && state.buffer.len() <= REPLAY_EVENTS);
        drop(state);
        let waiting = said(&mut slow);
        assert!(waiting.len() <= QUEUE_EVENTS);
        assert_eq!(waiting[0].1, RESYNC);
    }

    #[tokio::test]
    async fn passing_events_are_for_those_who_ask_for_them() {
        let stream = EventStream::starting_at(5);
        let mut everything = stream.subscribe(vec![], None);
        let waiting = stream.clone();
        let wanted = tokio::spawn(async move { waiting.until_wanted("load").await });
        tokio::task::yield_now().await;
        assert!(!wanted.is_finished());
        let mut named = stream.subscribe(vec!["load".into()], None);
        wanted.await.unwrap();
        stream.publish_passing("load", &json!({}));
        assert_eq!(
            (said(&mut named), said(&mut everything)),
            (vec![(5, "load")], vec![])
        );
        assert_eq!(said(&mut stream.subscribe(vec!["load".into()], Some(5))), []);
    }

    #[tokio::test]
    async fn a_reader_is_woken() {
        let stream = EventStream::starting_at(0);
        let mut reader = stream.subscribe(vec!["a".into()], None);
        assert!(stream.wanted("a.b") && !stream.wanted("b"));
        let other = stream.clone();
        let task = tokio::spawn(async move { reader.next().await });
        tokio::task::yield_now().await;
        other.publish("b", &json!({}));
        other.publish("a.b", &json!({"n": 1}));
        let got = task.await.unwrap();
        assert_eq!(
            got,
            [Event {
                cursor: 2,
                topic: "a.b",
                data: Bytes::from_static(b"{\"n\":1}")
            }]
        );
        assert!(!stream.wanted("a.b"));
    }
}
