//! git as a program: argument vectors, safe settings, a bare environment, no prompts, time limits.
//!
//! What the user's and the machine's git settings say does not count here: they can name programs, rewrite addresses and
//! allow protocols. What is asked of git is in `git`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use crate::apps::child_environment;
use crate::child;
use crate::contracts::tables;
use crate::error::{Error, Result};
use crate::net::children::{require_online, with_network};
use crate::storage::files::reason;
use crate::storage::unicode::is_printable;
use crate::system::dependencies::find_program;
use crate::text::cut;
use crate::versions::running::note_running;

const LOOK: Duration = Duration::from_millis(100);
const MOST_OUTPUT: usize = 256 * 1024;

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'static"))]
struct Safety {
    settings: Vec<&'static str>,
}

static SAFETY: LazyLock<Option<Safety>> = LazyLock::new(|| serde_json::from_str(tables::GIT).ok());

/// Fails when the work should stop.
pub(crate) type Check = Box<dyn Fn() -> Result<()> + Send + Sync>;

/// One command. `check` is asked several times a second, and ends it by failing.
pub(super) struct Call<'a> {
    pub(super) folder: &'a Path,
    pub(super) words: &'a [&'a str],
    pub(super) limit: Duration,
    /// The address that it speaks to, or "".
    pub(super) url: &'a str,
    /// Another list of files than that of the checkout.
    pub(super) index: Option<&'a Path>,
    /// Where the running git is written down.
    pub(super) note: Option<&'a Path>,
    pub(super) check: &'a Check,
}

impl Call<'_> {
    /// What it said.
    ///
    /// # Errors
    /// `GitFailed`, and what `check` fails with.
    pub(super) fn run(&self) -> Result<String> {
        let safety = SAFETY
            .as_ref()
            .ok_or_else(|| Error::GitFailed("The safe settings of git cannot be read.".to_owned()))?;
        let program = env::var_os("PATH")
            .and_then(|paths| find_program("git", &paths))
            .ok_or_else(|| {
                Error::GitFailed("git is not installed; custom nodes and updates need it.".to_owned())
            })?;
        if let Some((_, place)) = self.url.split_once("://") {
            require_online(place.split('/').next().unwrap_or(place))?;
        }
        let failed =
            |error: &std::io::Error| Error::GitFailed(format!("git cannot be started: {}.", reason(error)));
        // A pipe would have to be read meanwhile; what is too much for a message is never read.
        let output = Output::new().map_err(|error| failed(&error))?;
        let mut command = Command::new(program);
        let allowed = self
            .url
            .starts_with("http:")
            .then_some("protocol.http.allow=always");
        for setting in safety.settings.iter().copied().chain(allowed) {
            command.args(["-c", setting]);
        }
        command
            .args(self.words)
            .current_dir(self.folder)
            .env_clear()
            .envs(environment(self.folder))
            .envs(self.index.map(|index| ("GIT_INDEX_FILE", index)))
            .stdin(Stdio::null())
            .stdout(output.writer().map_err(|error| failed(&error))?)
            .stderr(output.writer().map_err(|error| failed(&error))?)
            .process_group(0);
        let child = command.spawn().map_err(|error| failed(&error))?;
        let running = Running {
            child,
            note: self.note,
        };
        let status = running.wait(self.limit, self.check)?;
        let said = output.read().map_err(|error| {
            Error::GitFailed(format!("What git said cannot be read: {}.", reason(&error)))
        })?;
        let verb = verb(self.words);
        match status {
            None => Err(Error::GitFailed(format!(
                "git {verb} took longer than {} s and was ended.",
                self.limit.as_secs()
            ))),
            Some(true) => Ok(said),
            Some(false) => Err(Error::GitFailed(format!("git {verb} failed: {}", why(&said)))),
        }
    }
}

/// A file without a name that a program writes into: nothing stays behind, however this ends.
struct Output(fs::File);

impl Output {
    fn new() -> std::io::Result<Self> {
        let path = env::temp_dir().join(format!("pumas-git-{}", crate::storage::files::random_hex(8)));
        let file = fs::OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        fs::remove_file(&path)?;
        Ok(Self(file))
    }

    fn writer(&self) -> std::io::Result<fs::File> {
        self.0.try_clone()
    }

    fn read(&self) -> std::io::Result<String> {
        let mut data = vec![0; MOST_OUTPUT];
        let size = rustix::io::retry_on_intr(|| rustix::io::pread(&self.0, &mut data, 0))?;
        Ok(String::from_utf8_lossy(&data[..size]).into_owned())
    }
}

/// git, with the helpers that it leaves behind when it is ended alone. Ended when this is dropped.
struct Running<'a> {
    child: Child,
    note: Option<&'a Path>,
}

impl Running<'_> {
    /// Whether it succeeded; None when the time was over.
    fn wait(mut self, limit: Duration, check: &Check) -> Result<Option<bool>> {
        if let Some(note) = self.note {
            // Where that fails it ends by itself, after its time limits.
            let _ = note
                .parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| note_running(note, self.child.id()));
        }
        let ends = Instant::now() + limit;
        while Instant::now() < ends {
            if let Some(status) = child::wait(&mut self.child, LOOK) {
                return Ok(Some(status.success()));
            }
            check()?;
        }
        Ok(None)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = self.child.wait();
        }
        if let Some(note) = self.note {
            let _ = fs::remove_file(note);
        }
    }
}

/// Which of git's commands it is, its general options left out.
fn verb<'a>(words: &[&'a str]) -> &'a str {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if ["-c", "--git-dir", "--work-tree"].contains(word) {
            words.next();
        } else {
            return word;
        }
    }
    ""
}

fn environment(folder: &Path) -> Vec<(OsString, OsString)> {
    let is_kept = |name: &OsString| {
        let name = name.as_encoded_bytes();
        !name.starts_with(b"GIT_") && !name.starts_with(b"SSH_")
    };
    let mut kept = child_environment::<OsString, OsString>([]);
    kept.retain(|name, _| is_kept(name));
    let mut kept: Vec<(OsString, OsString)> = with_network(kept).into_iter().collect();
    let fixed = [
        ("GIT_TERMINAL_PROMPT", "0"),
        // Looking must leave no lock behind when it is ended.
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_ASKPASS", ""),
        ("SSH_ASKPASS", ""),
        ("GCM_INTERACTIVE", "never"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_LFS_SKIP_SMUDGE", "1"),
        ("GIT_PAGER", ""),
        ("LC_ALL", "C"),
    ];
    kept.extend(fixed.map(|(name, value)| (name.into(), value.into())));
    // A folder without a repository of its own is not a part of the one around it.
    let above = folder.parent().unwrap_or(folder);
    kept.push(("GIT_CEILING_DIRECTORIES".into(), above.as_os_str().to_owned()));
    kept
}

fn why(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let is_telling = |line: &&&str| line.starts_with("fatal:") || line.starts_with("error:");
    let telling = lines.iter().find(is_telling).or(lines.last());
    let text = telling.copied().unwrap_or("it said nothing");
    let text = text
        .strip_prefix("fatal: ")
        .or_else(|| text.strip_prefix("error: "))
        .unwrap_or(text);
    let mut text = text.to_owned();
    if text.ends_with(':') {
        // Of these files, which it lists below.
        let named: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with('\t'))
            .map(str::trim)
            .collect();
        text = format!("{text} {}", named.join(", "));
    }
    let shown: String = text
        .chars()
        .map(|c| if is_printable(c) { c } else { '?' })
        .collect();
    cut(&shown, 300).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_begins_with_the_safe_settings() {
        let settings = &SAFETY.as_ref().unwrap().settings;
        for needed in [
            "protocol.allow=never",
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
        ] {
            assert!(settings.contains(&needed), "{needed}");
        }
    }

    #[test]
    fn reasons_are_short_and_printable() {
        assert_eq!(why("x\nfatal: no \u{1b}[31mway\nlast"), "no ?[31mway");
        assert_eq!((why(""), why("a\nb\n")), ("it said nothing".into(), "b".into()));
        let said = "error: would be overwritten:\n\ta.py\n\tb/c.py\nPlease move or remove them.\nAborting\n";
        assert_eq!(why(said), "would be overwritten: a.py, b/c.py");
    }

    #[test]
    fn the_command_is_named_without_its_options() {
        assert_eq!(verb(&["-c", "x=y", "stash", "create"]), "stash");
        assert_eq!(verb(&[]), "");
    }
}
