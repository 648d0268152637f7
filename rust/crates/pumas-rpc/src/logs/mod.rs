//! Logging that never stops a call and never tells a secret: stderr and a rotating file, written by a thread.
//!
//! stdout belongs to the port line alone.

mod file;
mod line;
mod stderr;

use std::fmt::{Debug, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use file::LogFile;
use line::Lines;
use stderr::Stderr;

/// Records that wait for the writer; more are dropped.
const MAX_WAITING: usize = 10_000;
const STOP_PATIENCE: Duration = Duration::from_millis(300);

enum Message {
    Record(Record),
    Stop,
}

/// One thing that was said, not yet formatted: that is the writer's work.
struct Record {
    time: jiff::Timestamp,
    level: Level,
    target: &'static str,
    text: String,
}

struct Recorder {
    debug: bool,
    records: SyncSender<Message>,
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let most = if self.debug && metadata.target().starts_with("pumas") {
            Level::DEBUG
        } else {
            Level::INFO
        };
        metadata.is_event() && *metadata.level() <= most
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let record = Record {
            time: jiff::Timestamp::now(),
            level: *metadata.level(),
            target: metadata.target(),
            text: text.0,
        };
        // A writer that cannot keep up loses lines, and nothing else.
        let _ = self.records.try_send(Message::Record(record));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let gap = if self.0.is_empty() { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{gap}{value:?}"),
            name => write!(self.0, "{gap}{name}={value:?}"),
        };
    }
}

/// The writer thread.
pub struct LogWriter {
    records: SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl LogWriter {
    /// Write what waits, but do not wait for a disk that hangs.
    pub fn stop(mut self) {
        let _ = self.records.try_send(Message::Stop);
        let end = Instant::now() + STOP_PATIENCE;
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

/// Send all records of this process to stderr and, where it can be written, to `launcher.log` in `folder`. `secrets` are
/// never written.
pub fn start(folder: Option<&Path>, debug: bool, secrets: Vec<String>) -> LogWriter {
    let (records, waiting) = sync_channel(MAX_WAITING);
    let file = folder.map(LogFile::new);
    let lines = Lines::new(secrets);
    let thread = std::thread::Builder::new()
        .name("log".into())
        .spawn(move || write_all(&waiting, &lines, Stderr::new(), file))
        .ok();
    let recorder = Recorder {
        debug,
        records: records.clone(),
    };
    // A second call in one process, as in tests, changes nothing.
    let _ = tracing::subscriber::set_global_default(recorder);
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let words = panic
            .payload()
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned());
        let words = words
            .or_else(|| panic.payload().downcast_ref::<String>().cloned())
            .unwrap_or_default();
        tracing::error!("a bug at {place}: {words}");
    }));
    LogWriter { records, thread }
}

fn write_all(waiting: &Receiver<Message>, lines: &Lines, mut stderr: Stderr, mut file: Option<LogFile>) {
    loop {
        match waiting.recv() {
            Ok(Message::Record(record)) => {
                let line = lines.format(&record);
                stderr.write(line.as_bytes());
                if let Some(file) = &mut file {
                    file.write(line.as_bytes());
                }
            }
            Ok(Message::Stop) | Err(_) => return,
        }
    }
}
