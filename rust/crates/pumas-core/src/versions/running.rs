//! Runs the programs of an installation (uv, pip, the app itself): no shell, a process group of their own, a log.
//!
//! A program that outlives a killed sidecar is ended at the next start, by pid and start time from a note on disk and by the
//! mark in its environment, which what it started in sessions of their own has too; no other process is ever touched. Blocks;
//! called from the thread of an installation.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Zoned;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use super::places::write_lightly;
use crate::apps::Environment;
use crate::child;
use crate::error::{Error, Result};
use crate::processes::ending::Ending;
use crate::processes::kernel::{self, Seen, look};
use crate::storage::files::{During as _, random_hex, reason};
use crate::storage::locked;
use crate::text::cut;

const LOOK: Duration = Duration::from_millis(100);
const TERM: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(5);
const KILL: Duration = Duration::from_secs(5);
/// How often those that are known by the mark alone are looked for while they end.
const MARKED_POLL: Duration = Duration::from_millis(10);
const TAIL_LINES: usize = 40;
const LONGEST_LINE: usize = 4096;
/// The environment variable that holds the mark, in a program and in all that it starts.
const MARK: &str = "PUMAS_INSTALLS";
/// What `/proc` counts start times in, on every Linux: <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>.
const TICKS: f64 = 100.0;

/// Fails when the work should stop.
pub(crate) type Check = Arc<dyn Fn() -> Result<()> + Send + Sync>;

/// One text file per attempt, with the time of each step. Writing never fails the installation.
pub(crate) struct InstallLog {
    file: Mutex<Option<File>>,
}

impl InstallLog {
    pub(crate) fn new(path: &Path) -> Self {
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        let file = folder.and_then(|()| OpenOptions::new().append(true).create(true).open(path));
        Self {
            file: Mutex::new(file.ok()),
        }
    }

    pub(crate) fn say(&self, text: &str) {
        self.line(&format!(
            "[{}] {text}",
            Zoned::now().strftime("%Y-%m-%d %H:%M:%S")
        ));
    }

    fn line(&self, text: &str) {
        if let Some(file) = &mut *locked(&self.file) {
            let text = cut(text, LONGEST_LINE).trim_end_matches(['\r', '\n']);
            let _ = file.write_all(format!("{text}\n").as_bytes());
        }
    }
}

/// A started program whose output goes to the log, line by line. Ended, with its group, when it is dropped.
pub(crate) struct Running {
    child: Child,
    reader: Option<JoinHandle<()>>,
    lines: Receiver<String>,
    said: Vec<String>,
    tail: VecDeque<String>,
    silent: bool,
    note: PathBuf,
    mark: String,
    wholly: bool,
}

impl Running {
    /// End with it what it starts in sessions of their own, as an app does that makes itself independent. What a tool
    /// leaves behind on purpose (a cache's server, git's upkeep) is left alone otherwise.
    pub(crate) fn wholly(mut self) -> Self {
        self.wholly = true;
        self
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status once it has ended and its output is read.
    pub(crate) fn exited(&mut self) -> Option<i32> {
        let mut status = self.status();
        if status.is_none() && self.silent {
            self.wait(LOOK);
            status = self.status();
        }
        if status.is_some() {
            // A grandchild may keep the pipe open for ever.
            self.read_until(Instant::now() + Duration::from_secs(1));
        }
        status
    }

    fn status(&mut self) -> Option<i32> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(
            status
                .code()
                .unwrap_or_else(|| -status.signal().unwrap_or_default()),
        )
    }

    /// What was said since the last call.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    /// The last words.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    /// Return when it has ended, or after `time`. The end of its output is noticed at once.
    pub(crate) fn wait(&mut self, time: Duration) {
        let ends = Instant::now() + time;
        if !self.silent {
            return self.read_until(ends);
        }
        child::wait(&mut self.child, time);
    }

    fn read_until(&mut self, ends: Instant) {
        while !self.silent {
            match self
                .lines
                .recv_timeout(ends.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    if self.tail.len() == TAIL_LINES {
                        self.tail.pop_front();
                    }
                    self.tail.push_back(line.clone());
                    self.said.push(line);
                }
                Err(RecvTimeoutError::Disconnected) => self.silent = true,
                Err(RecvTimeoutError::Timeout) => return,
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = self.child.id();
        end_group(pid, || !matches!(self.child.try_wait(), Ok(None)));
        child::wait(&mut self.child, KILL);
        if self.wholly {
            end_marked(&self.mark);
        }
        let _ = fs::remove_file(&self.note);
        if let Some(reader) = self.reader.take().filter(JoinHandle::is_finished) {
            let _ = reader.join();
        }
    }
}

/// Starts the programs of one installation, one at a time. `note` is where the running one is written down.
#[derive(Clone)]
pub(crate) struct Programs {
    note: PathBuf,
    log: Arc<InstallLog>,
    check: Check,
}

impl Programs {
    pub(crate) fn new(note: PathBuf, log: Arc<InstallLog>, check: Check) -> Self {
        Self { note, log, check }
    }

    pub(crate) fn check(&self) -> Result<()> {
        (self.check)()
    }

    /// # Errors
    /// `InstallFailed`: it cannot be started. The disk's failures.
    pub(crate) fn start(&self, argv: &[String], folder: &Path, environment: &Environment) -> Result<Running> {
        self.log.say(&format!("$ {}", argv.join(" ")));
        let cannot = |error: &io::Error| {
            failed(
                "start",
                format!("{} cannot be started: {}.", program(argv), reason(error)),
            )
        };
        let mark = random_hex(8);
        let (output, input) = io::pipe().map_err(|error| cannot(&error))?;
        let again = input.try_clone().map_err(|error| cannot(&error))?;
        let mut command = std::process::Command::new(argv.first().map_or("", String::as_str));
        command
            .args(argv.get(1..).unwrap_or_default())
            .current_dir(folder)
            .env_clear()
            .envs(environment)
            .env(MARK, &mark)
            .stdin(Stdio::null())
            .stdout(input)
            .stderr(again)
            .process_group(0);
        self.write_down(&json!({"mark": mark}))?;
        let child = command.spawn().map_err(|error| {
            let _ = fs::remove_file(&self.note);
            cannot(&error)
        })?;
        // Its ends of the pipe are kept by the command, and would keep the reader from seeing the end.
        drop(command);
        let (told, lines) = channel();
        let log = Arc::clone(&self.log);
        let reader = thread::spawn(move || read(output, &log, &told));
        let running = Running {
            child,
            reader: Some(reader),
            lines,
            said: Vec::new(),
            tail: VecDeque::new(),
            silent: false,
            note: self.note.clone(),
            mark,
            wholly: false,
        };
        let mut facts = identity(running.pid());
        facts["mark"] = json!(running.mark);
        self.write_down(&facts)?;
        Ok(running)
    }

    fn write_down(&self, facts: &Value) -> Result<()> {
        write_note(&self.note, facts).during("Writing the state of the installation")
    }

    /// Run to the end; the exit status and the last lines of output. `on_look` is called while it runs.
    ///
    /// # Errors
    /// `InstallFailed`: it cannot be started, or takes longer than `most`. What `check` fails with.
    pub(crate) fn run(
        &self,
        argv: &[String],
        folder: &Path,
        environment: &Environment,
        most: Duration,
        on_line: &mut dyn FnMut(&str),
        on_look: &mut dyn FnMut(),
    ) -> Result<(i32, Vec<String>)> {
        let ends = Instant::now() + most;
        let mut running = self.start(argv, folder, environment)?;
        loop {
            running.wait(LOOK);
            let status = running.exited();
            for line in running.lines() {
                on_line(&line);
            }
            if let Some(status) = status {
                return Ok((status, running.tail()));
            }
            on_look();
            self.check()?;
            if Instant::now() > ends {
                let text = format!("{} took longer than {} s.", program(argv), most.as_secs());
                return Err(failed("run", text));
            }
        }
    }

    /// End what a killed sidecar left running for this installation.
    pub(crate) fn end_leftover(&self) {
        end_noted(&self.note);
    }
}

fn program(argv: &[String]) -> String {
    let name = argv.first().and_then(|path| Path::new(path).file_name());
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// A step failed.
pub(crate) fn failed(stage: &str, reason: String) -> Error {
    Error::InstallFailed {
        stage: stage.to_owned(),
        reason,
    }
}

fn read(output: io::PipeReader, log: &InstallLog, told: &Sender<String>) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while let Ok(1..) = output
        .by_ref()
        .take(LONGEST_LINE as u64)
        .read_until(b'\n', &mut line)
    {
        let text = String::from_utf8_lossy(&line)
            .trim_end_matches(['\r', '\n'])
            .to_owned();
        log.line(&text);
        let _ = told.send(text);
        line.clear();
    }
}

/// Write down which process runs, for [`end_noted`] after a kill of this one.
///
/// # Errors
/// What the disk refuses.
pub(crate) fn note_running(note: &Path, pid: u32) -> io::Result<()> {
    write_note(note, &identity(pid))
}

fn write_note(note: &Path, facts: &Value) -> io::Result<()> {
    write_lightly(note, facts.to_string().as_bytes(), 0o600)
}

fn identity(pid: u32) -> Value {
    json!({"pid": pid, "started": started(pid)})
}

fn read_identity(noted: &Value) -> Option<(u32, f64)> {
    let pid = u32::try_from(noted.get("pid")?.as_u64()?).ok()?;
    Some((pid, noted.get("started")?.as_f64()?))
}

/// Those that were started with this mark, and who is in a group that one of them leads.
fn marked(mark: &str) -> Vec<Seen> {
    let everyone: Vec<Seen> = kernel::table().into_values().filter(|seen| !seen.ended).collect();
    let has_mark = |seen: &&Seen| kernel::has_variable(seen.pid, MARK, mark);
    let marked: HashSet<u32> = everyone.iter().filter(has_mark).map(|seen| seen.pid).collect();
    let belongs = |seen: &Seen| marked.contains(&seen.pid) || marked.contains(&seen.group);
    everyone.into_iter().filter(belongs).collect()
}

fn end_marked(mark: &str) {
    let mut ending = Ending::new(TERM);
    let ends = Instant::now() + TERM + KILL;
    while !ending.step(&marked(mark)) && Instant::now() < ends {
        thread::sleep(MARKED_POLL);
    }
}

/// End the group of the process that was written down, when it is still that process, and all that have its mark.
pub(crate) fn end_noted(note: &Path) {
    let Some(noted) = fs::read(note)
        .ok()
        .and_then(|text| serde_json::from_slice::<Value>(&text).ok())
        .filter(Value::is_object)
    else {
        return;
    };
    if let Some((pid, since)) = read_identity(&noted) {
        let is_same = || started(pid).is_some_and(|now| (now - since).abs() < 1.0 / TICKS);
        if is_same() {
            end_group(pid, || !is_same());
        }
    }
    if let Some(mark) = noted
        .get("mark")
        .and_then(Value::as_str)
        .filter(|mark| !mark.is_empty())
    {
        end_marked(mark);
    }
    let _ = fs::remove_file(note);
}

/// Ask the group led by `pid` to end; after half a second end it. Also when its leader is gone already.
fn end_group(pid: u32, mut gone: impl FnMut() -> bool) {
    let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    let _ = kill_process_group(group, Signal::TERM);
    let ends = Instant::now() + TERM;
    while !gone() && Instant::now() < ends {
        thread::sleep(POLL);
    }
    let _ = kill_process_group(group, Signal::KILL);
}

/// Seconds since the epoch; None when there is no such process, or only its remains.
fn started(pid: u32) -> Option<f64> {
    let process = look(pid).filter(|process| !process.ended)?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(process.start as f64 / TICKS + boot.trim().parse::<f64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::child_environment;

    fn run(script: &str, seconds: u64, check: Check) -> Result<(i32, Vec<String>)> {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::new(InstallLog::new(&folder.path().join("logs/log")));
        let programs = Programs::new(folder.path().join("note"), log, check);
        let argv = ["/bin/sh", "-c", script].map(str::to_owned);
        let environment = child_environment([("X", "y")]);
        let most = Duration::from_secs(seconds);
        let done = programs.run(&argv, folder.path(), &environment, most, &mut |_| {}, &mut || {});
        assert!(!folder.path().join("note").exists());
        done
    }

    #[test]
    fn a_program_says_how_it_ended() {
        let going = || Arc::new(|| Ok(())) as Check;
        let (status, tail) = run("echo one; echo $X >&2; exit 3", 30, going()).unwrap();
        assert_eq!((status, tail), (3, vec!["one".to_owned(), "y".to_owned()]));
        assert_eq!(run("kill -9 $$", 30, going()).unwrap().0, -9);
        let late = run("sleep 600", 0, going()).unwrap_err();
        assert_eq!(late.to_string(), "sh took longer than 0 s.");
    }

    #[test]
    fn a_program_is_ended_with_its_children() {
        let began = Instant::now();
        let stop: Check = Arc::new(|| Err(Error::Cancelled(String::new())));
        assert!(run("sleep 600 & sleep 600", 600, stop).is_err());
        assert!(began.elapsed() < Duration::from_mins(1));
    }

    #[test]
    fn a_program_whose_number_was_not_written_down_yet_is_known_by_its_mark() {
        let folder = tempfile::tempdir().unwrap();
        let note = folder.path().join("note");
        let start = |mark: &str| {
            let mut command = std::process::Command::new("sleep");
            command
                .arg("600")
                .env(MARK, mark)
                .process_group(0)
                .spawn()
                .unwrap()
        };
        let (mut ours, mut other) = (start("a1"), start("b2"));
        write_note(&note, &json!({"mark": "a1"})).unwrap();
        end_noted(&note);
        assert!(!ours.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        end_group(other.id(), || false);
        other.wait().unwrap();
        assert!(!note.exists());
        // One that was never started.
        write_note(&note, &json!({"mark": "a1"})).unwrap();
        end_noted(&note);
        assert!(!note.exists());
    }

    #[test]
    fn what_was_written_down_is_ended_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let note = folder.path().join("note");
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .process_group(0)
            .spawn()
            .unwrap();
        fs::write(&note, json!({"pid": child.id(), "started": 1.0}).to_string()).unwrap();
        end_noted(&note);
        assert!(child.try_wait().unwrap().is_none());
        note_running(&note, child.id()).unwrap();
        end_noted(&note);
        assert!(!child.wait().unwrap().success());
    }
}
