//! Starts an app below a keeper. The one place that starts programs which stay; nothing goes through a shell.
//!
//! The order makes sure that no app runs that nobody knows: the keeper is started and waits, whoever starts it writes down
//! who the keeper is, and only then it is told to go on. A sidecar that dies in between leaves a keeper whose stdin ends,
//! and that ends with it. Blocks.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::family::MARK;
use super::keeper::KEEP;
use super::kernel::{self, Identity};
use crate::error::{Error, Result};
use crate::storage::files::reason;

const LOG_BYTES: u64 = 4 * 1024 * 1024;
const LOG_FILES: u32 = 2;
const ANSWER: Duration = Duration::from_secs(10);

/// What to start, as one line of JSON for the keeper.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(super) struct Orders {
    /// Begins with an absolute path.
    pub(super) command: Vec<String>,
    pub(super) folder: PathBuf,
    /// The files that the app runs as, links followed.
    pub(super) programs: Vec<String>,
    pub(super) log: PathBuf,
    pub(super) exit_file: PathBuf,
    /// A log grows to this, and `log_files` older ones are kept beside it.
    pub(super) log_bytes: u64,
    pub(super) log_files: u32,
    pub(super) grace_s: f64,
}

impl Orders {
    pub(super) fn new(
        command: Vec<String>,
        folder: PathBuf,
        programs: Vec<String>,
        log: PathBuf,
        exit_file: PathBuf,
        grace: Duration,
    ) -> Self {
        Self {
            command,
            folder,
            programs,
            log,
            exit_file,
            log_bytes: LOG_BYTES,
            log_files: LOG_FILES,
            grace_s: grace.as_secs_f64(),
        }
    }
}

/// The keeper's one line.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Said {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) errno: Option<i32>,
}

/// A keeper that has not started anything yet. Ended when it is dropped before it was told to go on.
pub(super) struct WaitingKeeper {
    child: Option<Child>,
    pub(super) identity: Identity,
}

impl WaitingKeeper {
    /// `environment` is the whole one of the app.
    ///
    /// # Errors
    /// `LaunchFailed`: the machine has no room for another process.
    pub(super) fn new(
        run_id: &str,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self> {
        let failed = |error: &std::io::Error| {
            Error::LaunchFailed(format!("No process can be started: {}.", reason(error)))
        };
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let child = Command::new(program)
            .args([KEEP, run_id])
            .env_clear()
            .envs(environment)
            .env(MARK, run_id)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(&error))?;
        // A child that nobody has waited for has its number.
        let identity = kernel::identity(child.id())
            .ok_or_else(|| Error::Bug("a keeper that was just started is not there".to_owned()))?;
        Ok(Self {
            child: Some(child),
            identity,
        })
    }

    /// Start the app; number and start of its first process, and the keeper.
    ///
    /// # Errors
    /// `LaunchFailed`: it could not be started; nothing is left.
    pub(super) fn go(mut self, orders: &Orders) -> Result<(u32, u64, Child)> {
        let said = self.ask(orders).unwrap_or_default();
        if let (Some(pid), Some(start), Some(child)) = (said.pid, said.start, self.child.take()) {
            return Ok((pid, start, child));
        }
        let name = orders.command.first().map(Path::new).and_then(Path::file_name);
        let name = name.unwrap_or_default().to_string_lossy().into_owned();
        let why = said.errno.map_or_else(
            || "its keeper did not answer".to_owned(),
            |errno| reason(&std::io::Error::from_raw_os_error(errno)),
        );
        Err(Error::LaunchFailed(format!("{name} cannot be started: {why}.")))
    }

    fn ask(&mut self, orders: &Orders) -> Option<Said> {
        let child = self.child.as_mut()?;
        let (mut stdin, stdout) = (child.stdin.take()?, child.stdout.take()?);
        let mut line = serde_json::to_vec(orders).ok()?;
        line.push(b'\n');
        stdin.write_all(&line).ok()?;
        drop(stdin);
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut answer = String::new();
            if BufReader::new(stdout).read_line(&mut answer).is_ok() {
                let _ = tell.send(answer);
            }
        });
        serde_json::from_str(&told.recv_timeout(ANSWER).ok()?).ok()
    }
}

impl Drop for WaitingKeeper {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
