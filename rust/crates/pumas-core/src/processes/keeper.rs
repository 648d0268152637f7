//! A small process of its own that keeps one app: its parent, the reader of its output, and the one that ends it late.
//!
//! Started as `PROGRAM keep RUN_ID`, told what to do by one line of JSON on stdin. It starts the app in a session of its own,
//! writes what the app prints to a log of bounded size however much that is, and collects every process that the app leaves
//! behind: as their subreaper (prctl(2)) it is an ancestor of all of them, so who belongs to the app can be told from the
//! process tree alone. It lives on when the sidecar is killed, so that the app neither stops nor loses its log, and ends with
//! the last of its children.
//!
//! Signals: SIGUSR1 ends the app (TERM, after the grace KILL); SIGTERM lets go once the app's first process has ended.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{WaitOptions, getpid, set_child_subreaper, setsid, wait};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ending::Ending;
use super::family::{self, Marks};
use super::kernel;
use super::spawn::{Orders, Said};

/// The first argument of a keeper.
pub const KEEP: &str = "keep";
/// The first argument of the process that becomes the app.
pub const LEAD: &str = "lead";
const CHUNK: usize = 64 * 1024;
/// How often the process table is looked at while the app is being ended, and otherwise how long a wait lasts.
const LOOK: Duration = Duration::from_millis(100);
const REST: Duration = Duration::from_secs(5);

/// Be what the arguments say, when they name one of the two; None when they do not. The status to end with.
#[must_use]
pub fn run(arguments: &[std::ffi::OsString]) -> Option<u8> {
    match arguments.first()?.to_str()? {
        KEEP => Some(u8::from(keep().is_err())),
        LEAD => Some(lead(&arguments[1..])),
        _ => None,
    }
}

/// Become the app: in a session of its own, with nothing on stdin, which until then is where a failure is told.
fn lead(command: &[std::ffi::OsString]) -> u8 {
    let Ok(tell) = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3) else {
        return 1;
    };
    let Some((program, arguments)) = command.split_first() else {
        return 1;
    };
    let error = match setsid() {
        Err(error) => io::Error::from(error),
        Ok(_) => Command::new(program).args(arguments).stdin(Stdio::null()).exec(),
    };
    let errno = error.raw_os_error().unwrap_or_default();
    let _ = File::from(tell).write_all(errno.to_string().as_bytes());
    1
}

fn keep() -> io::Result<()> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    // Whoever should have told is gone when the line has no end; nothing was started then.
    let orders: Orders = match line.strip_suffix('\n') {
        Some(line) => serde_json::from_str(line)?,
        None => return Err(io::ErrorKind::UnexpectedEof.into()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    runtime.block_on(async {
        match Keeper::start(&orders) {
            Ok(keeper) => {
                say(&Said {
                    pid: Some(keeper.marks.leader),
                    start: Some(keeper.marks.leader_start),
                    errno: None,
                });
                keeper.run().await;
                Ok(())
            }
            Err(error) => {
                say(&Said {
                    errno: Some(error.raw_os_error().unwrap_or(Errno::IO.raw_os_error())),
                    ..Said::default()
                });
                Err(error)
            }
        }
    })
}

/// The one line that the sidecar waits for; it may be gone by now.
fn say(said: &Said) {
    if let Ok(text) = serde_json::to_string(said) {
        let _ = writeln!(io::stdout(), "{text}");
    }
    if let Ok(nothing) = OpenOptions::new().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&nothing);
        let _ = rustix::stdio::dup2_stdout(&nothing);
    }
}

/// Those that are minded; the others stay without effect, because somebody listens and does nothing.
struct Signals {
    child: Signal,
    end: Signal,
    let_go: Signal,
    _ignored: Vec<Signal>,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let ignored = [SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()];
        Ok(Self {
            child: signal(SignalKind::child())?,
            end: signal(SignalKind::user_defined1())?,
            let_go: signal(SignalKind::terminate())?,
            _ignored: ignored.into_iter().map(signal).collect::<io::Result<_>>()?,
        })
    }
}

/// One app from its start to the end of its last process.
struct Keeper {
    log: Log,
    output: Option<Receiver>,
    signals: Signals,
    marks: Marks,
    exit_file: PathBuf,
    grace: Duration,
    ending: Option<Ending>,
    asked_to_end: bool,
    asked_to_let_go: bool,
    leader_ended: bool,
    finished: bool,
}

impl Keeper {
    fn start(orders: &Orders) -> io::Result<Self> {
        // A session of its own; that it leads one already is no failure.
        let _ = setsid();
        let signals = Signals::new()?;
        let log = Log::new(&orders.log, orders.log_bytes, orders.log_files)?;
        let _ = set_child_subreaper(Some(getpid()));
        let (output, inside) = io::pipe()?;
        let pid = start(&orders.command, &orders.folder, inside)?;
        let marks = Marks {
            leader: pid,
            leader_start: kernel::look(pid).map_or(0, |seen| seen.start),
            programs: orders.programs.clone(),
            folder: orders.folder.to_string_lossy().into_owned(),
        };
        Ok(Self {
            log,
            output: Some(Receiver::from_owned_fd(OwnedFd::from(output))?),
            signals,
            marks,
            exit_file: orders.exit_file.clone(),
            grace: Duration::try_from_secs_f64(orders.grace_s).unwrap_or_default(),
            ending: None,
            asked_to_end: false,
            asked_to_let_go: false,
            leader_ended: false,
            finished: false,
        })
    }

    async fn run(mut self) {
        while !self.is_over() {
            self.wait().await;
        }
        // What is in the pipe yet.
        let mut rest = vec![0; CHUNK];
        while let Some(output) = &self.output
            && let Ok(count @ 1..) = output.try_read(&mut rest)
        {
            self.log.write(&rest[..count]);
        }
    }

    fn is_over(&mut self) -> bool {
        self.reap();
        self.act();
        self.finished || (self.leader_ended && self.asked_to_let_go)
    }

    async fn wait(&mut self) {
        let mut data = vec![0; CHUNK];
        let read = async {
            match &mut self.output {
                Some(output) => output.read(&mut data).await,
                None => std::future::pending().await,
            }
        };
        let pause = if self.asked_to_end { LOOK } else { REST };
        tokio::select! {
            _ = self.signals.child.recv() => {}
            _ = self.signals.end.recv() => self.asked_to_end = true,
            _ = self.signals.let_go.recv() => self.asked_to_let_go = true,
            count = read => match count {
                Ok(count @ 1..) => self.log.write(&data[..count]),
                _ => self.output = None,
            },
            () = tokio::time::sleep(pause) => {}
        }
    }

    fn reap(&mut self) {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(None) => return,
                Ok(Some((pid, status))) => {
                    if u32::try_from(pid.as_raw_nonzero().get()) != Ok(self.marks.leader) {
                        continue;
                    }
                    self.leader_ended = true;
                    let signal = status.terminating_signal().map(|signal| -signal);
                    self.tell_exit(status.exit_status().or(signal).unwrap_or_default());
                }
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.finished = true;
                    return;
                }
            }
        }
    }

    /// Written whole or not at all: read by a sidecar that may not be our parent.
    fn tell_exit(&self, code: i32) {
        let mut name = self.exit_file.clone().into_os_string();
        name.push(format!(".{}.tmp", std::process::id()));
        let text = json!({ "exit_code": code }).to_string();
        let _ = fs::write(&name, text).and_then(|()| fs::rename(&name, &self.exit_file));
    }

    /// End the app when asked to.
    fn act(&mut self) {
        if !self.asked_to_end {
            return;
        }
        let here = family::members(&self.marks, std::process::id(), &kernel::table());
        let grace = self.grace;
        let ending = self.ending.get_or_insert_with(|| Ending::new(grace));
        // What is still below this process then is not the app's; see `family`.
        self.finished |= ending.step(&here) && self.leader_ended;
    }
}

/// Start the app with `output` for all that it prints; its number.
fn start(command: &[String], folder: &Path, output: io::PipeWriter) -> io::Result<u32> {
    let (mut told, tell) = io::pipe()?;
    let child = Command::new(std::env::current_exe()?)
        .arg(LEAD)
        .args(command)
        .current_dir(folder)
        .stdin(Stdio::from(tell))
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()?;
    // It ends without a word when the app takes the process over.
    let mut errno = String::new();
    told.read_to_string(&mut errno)?;
    match errno.parse() {
        Ok(errno) => Err(io::Error::from_raw_os_error(errno)),
        Err(_) => Ok(child.id()),
    }
}

/// A file that is put aside when it is full; the oldest of its kind goes. A full disk loses lines, nothing else.
struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
    older: u32,
}

impl Log {
    fn new(path: &Path, limit: u64, older: u32) -> io::Result<Self> {
        let file = open(path)?;
        Ok(Self {
            size: file.metadata()?.len(),
            path: path.to_path_buf(),
            file,
            limit,
            older,
        })
    }

    fn write(&mut self, data: &[u8]) {
        if self.size + data.len() as u64 > self.limit {
            self.turn();
        }
        if self.file.write_all(data).is_ok() {
            self.size += data.len() as u64;
        }
    }

    fn turn(&mut self) {
        let turned = self.put_aside().and_then(|()| open(&self.path));
        match turned {
            Ok(file) => (self.file, self.size) = (file, 0),
            // What was opened stays in use; without room there it is cut instead.
            Err(_) if self.file.set_len(0).is_ok() => self.size = 0,
            Err(_) => {}
        }
    }

    fn put_aside(&self) -> io::Result<()> {
        let name = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            if number > 0 {
                name.push(format!(".{number}"));
            }
            PathBuf::from(name)
        };
        for number in (0..self.older).rev() {
            match fs::rename(name(number), name(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_is_put_aside_and_the_oldest_goes() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("launch-a.log");
        let mut log = Log::new(&path, 4, 2).unwrap();
        for text in ["1111", "2222", "3333", "4444"] {
            log.write(text.as_bytes());
        }
        let read = |name: &str| fs::read_to_string(place.path().join(name)).unwrap();
        assert_eq!(
            ["launch-a.log", "launch-a.log.1", "launch-a.log.2"].map(read),
            ["4444", "3333", "2222"]
        );
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3);
    }
}
