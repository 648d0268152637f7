//! One stream of what happens: services publish, readers follow with a cursor.
//!
//! Cursors grow by one per event over all topics and never repeat across restarts (a run starts at its start time in
//! microseconds), so a reader that comes back with an old cursor is told to load anew (`resync`) instead of silently
//! missing something. Memory is bounded twice: the replay buffer by count and bytes, each reader's queue by count.

mod stream;

pub use stream::{Event, EventStream, QUEUE_EVENTS, REPLAY_BYTES, REPLAY_EVENTS, RESYNC, Subscription};
