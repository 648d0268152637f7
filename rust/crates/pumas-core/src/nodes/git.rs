//! git as a program: argument vectors, an allow list of protocols and addresses, no prompts, no hooks, time limits.
//!
//! What the user's and the machine's git settings say does not count here: they can name programs, rewrite addresses and
//! allow protocols. Blocks; call from worker threads. What a checkout is for is not known here.

use std::collections::HashSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use caseless::default_case_fold_str;
use regex_lite::Regex;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use crate::apps::child_environment;
use crate::contracts::tables;
use crate::error::{Error, Result};
use crate::storage::files::{During as _, exists, reason};
use crate::storage::unicode::is_printable;
use crate::system::dependencies::find_program;
use crate::text::cut;
use crate::versions::running::note_running;

/// `loopback`: http is allowed to this machine alone, for tests.
const HTTP_VARIABLE: &str = "PUMAS_GIT_HTTP";
const CLONE: Duration = Duration::from_mins(5);
const FETCH: Duration = Duration::from_mins(1);
const LOCAL: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);
/// Most commands of git take a few milliseconds.
const POLL: Duration = Duration::from_millis(5);
const LONGEST_URL: usize = 500;
const MOST_OUTPUT: u64 = 256 * 1024;
const WHO: [&str; 4] = ["-c", "user.name=pumas", "-c", "user.email=pumas"];

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'static"))]
struct Safety {
    settings: Vec<&'static str>,
}

static SAFETY: LazyLock<Option<Safety>> = LazyLock::new(|| serde_json::from_str(tables::GIT).ok());

static URL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    const LABEL: &str = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?";
    Regex::new(&format!(
        r"^(https?)://({LABEL}(?:\.{LABEL})*)(?::([0-9]{{1,5}}))?((?:/[A-Za-z0-9_~][A-Za-z0-9._~-]*)+)/?$"
    ))
    .ok()
});

/// The trimmed address of a repository.
///
/// # Errors
/// `InvalidInput`: not https, or with anything but a plain host, port and path in it.
pub(crate) fn check_url<'a>(text: &'a str, field: &str) -> Result<&'a str> {
    let url = text.trim();
    let refused = || {
        Error::invalid(
            field,
            "must be https://host/path of a repository, without user, query or special signs",
        )
    };
    let found = URL
        .as_ref()
        .filter(|_| url.len() <= LONGEST_URL && !url.contains('\n'));
    let parts = found
        .and_then(|pattern| pattern.captures(url))
        .ok_or_else(refused)?;
    if parts[4].contains("..") || (&parts[1] == "http" && !is_http_allowed(&parts[2])) {
        return Err(refused());
    }
    match parts.get(3).map(|port| port.as_str().parse::<u16>()) {
        None | Some(Ok(1..)) => Ok(url),
        Some(_) => Err(Error::invalid(field, "must name a port that exists")),
    }
}

fn is_http_allowed(host: &str) -> bool {
    ["127.0.0.1", "localhost"].contains(&host.to_lowercase().as_str())
        && env::var_os(HTTP_VARIABLE).is_some_and(|value| value == "loopback")
}

/// A full commit id.
///
/// # Errors
/// `InvalidInput`: it is none.
pub(crate) fn check_commit<'a>(text: &'a str, field: &str) -> Result<&'a str> {
    let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    if text.len() == 40 && text.bytes().all(is_digit) {
        return Ok(text);
    }
    let reason = "must be a full commit id of 40 digits from 0-9a-f";
    Err(Error::invalid(field, reason))
}

fn is_plain_branch(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._/-".contains(&c);
    (1..=201).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(plain)
        && !name.contains("..")
}

/// Fails when the work should stop.
pub(crate) type Check = Box<dyn Fn() -> Result<()> + Send + Sync>;

/// Runs git. `check` is asked several times a second meanwhile, and ends it by failing; `note` is where the running git is
/// written down, so that a start after a kill can end it.
pub(crate) struct Git {
    check: Check,
    note: Option<PathBuf>,
}

impl Default for Git {
    fn default() -> Self {
        Self::new(Box::new(|| Ok(())), None)
    }
}

impl Git {
    pub(crate) fn new(check: Check, note: Option<PathBuf>) -> Self {
        Self { check, note }
    }

    /// Clone a repository into a folder that is not there yet, at a commit of its main branch; the commit id.
    ///
    /// # Errors
    /// `GitFailed`: nothing usable is left in `folder`.
    pub(crate) fn clone(&self, url: &str, folder: &Path, commit: Option<&str>) -> Result<String> {
        let url = check_url(url, "git_url")?;
        let target = folder.to_string_lossy();
        let words = [
            "clone",
            "--quiet",
            "--no-recurse-submodules",
            "--single-branch",
            "--no-tags",
            "--template=",
            "--",
            url,
            &target,
        ];
        let above = folder.parent().unwrap_or(folder);
        self.run(above, &words, CLONE, url)?;
        if let Some(commit) = commit {
            let commit = check_commit(commit, "commit")?;
            self.local(folder, &["reset", "--quiet", "--hard", commit, "--"])?;
        }
        self.head(folder)
    }

    /// The commit that is checked out.
    ///
    /// # Errors
    /// `GitFailed`.
    pub(crate) fn head(&self, folder: &Path) -> Result<String> {
        let said = self.local(folder, &["rev-parse", "--verify", "HEAD^{commit}"])?;
        check_commit(said.trim(), "commit").map(str::to_owned)
    }

    /// None: no branch is checked out, or one whose name is not plain.
    pub(crate) fn branch(&self, folder: &Path) -> Result<Option<String>> {
        let said = optional(self.local(folder, &["symbolic-ref", "--short", "HEAD"]))?;
        let name = said.map(|said| said.trim().to_owned());
        Ok(name.filter(|name| is_plain_branch(name)))
    }

    /// The address that it was cloned from, when that is one we would use.
    pub(crate) fn remote(&self, folder: &Path) -> Result<Option<String>> {
        let words = ["config", "--local", "--get", "remote.origin.url"];
        let said = optional(self.local(folder, &words))?;
        Ok(said.and_then(|said| check_url(&said, "git_url").ok().map(str::to_owned)))
    }

    /// Whether files that git keeps were changed.
    ///
    /// # Errors
    /// `GitFailed`.
    pub(crate) fn changed(&self, folder: &Path) -> Result<bool> {
        let words = [
            "status",
            "--porcelain",
            "--untracked-files=no",
            "--ignore-submodules=all",
        ];
        Ok(!self.local(folder, &words)?.is_empty())
    }

    /// Bring the newest commits of a branch, and change no file; the id of the last one.
    ///
    /// # Errors
    /// `GitFailed`.
    pub(crate) fn fetch(&self, folder: &Path, url: &str, branch: &str) -> Result<String> {
        let url = check_url(url, "git_url")?;
        let reference = format!("refs/heads/{branch}");
        let words = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-recurse-submodules",
            "--",
            url,
            &reference,
        ];
        self.run(folder, &words, FETCH, url)?;
        let said = self.local(folder, &["rev-parse", "--verify", "FETCH_HEAD^{commit}"])?;
        check_commit(said.trim(), "commit").map(str::to_owned)
    }

    /// Write the files of a commit into a folder that is not there yet; it is no checkout.
    ///
    /// # Errors
    /// `GitFailed`; the disk's failures.
    pub(crate) fn lay_out(&self, folder: &Path, commit: &str, target: &Path) -> Result<()> {
        let commit = check_commit(commit, "commit")?;
        fs::DirBuilder::new()
            .mode(0o700)
            .create(target)
            .during("Preparing the update")?;
        let index = target.with_extension("index");
        let (git, tree) = (folder.join(".git"), target.to_string_lossy());
        let git = git.to_string_lossy();
        let by = |words: &[&str], limit| {
            let words = [&["--git-dir", &git, "--work-tree", &tree][..], words].concat();
            self.run_by(target, &words, limit, "", Some(&index))
        };
        let done = by(&["read-tree", commit], LOCAL)
            .and_then(|_| by(&["checkout-index", "--all", "--force"], FETCH));
        let _ = fs::remove_file(&index);
        done.map(|_| ())
    }

    /// Check out a later commit; never merges.
    ///
    /// # Errors
    /// `GitFailed`: it is no later one, files are in the way, or the disk refused something.
    pub(crate) fn forward(&self, folder: &Path, commit: &str) -> Result<()> {
        let before = self.head(folder)?;
        let commit = check_commit(commit, "commit")?;
        self.run(folder, &["merge", "--quiet", "--ff-only", commit], FETCH, "")?;
        let gone = self.removed(folder, &before, commit)?;
        let left = gone.iter().filter(|name| is_there(folder, name)).count();
        if left > 0 {
            // git says so and calls it a success.
            return Err(Error::GitFailed(format!(
                "git could not remove {left} files that the new commit does not have any more."
            )));
        }
        Ok(())
    }

    /// Names that one commit has and another does not, not even in other case.
    fn removed(&self, folder: &Path, before: &str, after: &str) -> Result<Vec<String>> {
        let gone = self.differing(folder, before, after, "D")?;
        let came = self.differing(folder, before, after, "A")?;
        let came: HashSet<String> = came.iter().map(|name| default_case_fold_str(name)).collect();
        Ok(gone
            .into_iter()
            .filter(|name| !came.contains(&default_case_fold_str(name)))
            .collect())
    }

    /// Check out an earlier commit as it was; files that git does not keep stay.
    ///
    /// # Errors
    /// `GitFailed`.
    pub(crate) fn back(&self, folder: &Path, commit: &str) -> Result<()> {
        let words = [
            "reset",
            "--quiet",
            "--hard",
            check_commit(commit, "commit")?,
            "--",
        ];
        self.run(folder, &words, FETCH, "").map(|_| ())
    }

    /// Take a step forward back that was ended anywhere between two commits.
    ///
    /// What is like neither of them is kept as a commit of its own; the name by which git knows that one.
    ///
    /// # Errors
    /// `GitFailed`: nothing was taken back.
    pub(crate) fn mend(&self, folder: &Path, before: &str, after: &str) -> Result<Option<String>> {
        let git = folder.join(".git");
        remove_locks(&git, false);
        remove_locks(&git.join("refs"), true);
        let changed = self.changed(folder)?;
        if !changed && self.head(folder)? == before {
            return Ok(None);
        }
        let kept = if changed {
            self.keep_changes(folder, before, after)?
        } else {
            None
        };
        // Files that only the later commit has are known to git again, and go with the way back.
        self.back(folder, after)?;
        self.back(folder, before)?;
        Ok(kept)
    }

    fn keep_changes(&self, folder: &Path, before: &str, after: &str) -> Result<Option<String>> {
        let words = [&WHO[..], &["stash", "create"]].concat();
        let said = self.local(folder, &words)?;
        let Ok(snapshot) = check_commit(said.trim(), "commit") else {
            return Ok(None);
        };
        let (one, other) = (
            self.differing(folder, before, snapshot, "ADMT")?,
            self.differing(folder, after, snapshot, "ADMT")?,
        );
        if one.is_disjoint(&other) {
            return Ok(None);
        }
        let name = format!("refs/pumas/kept-{}", &snapshot[..12]);
        self.local(folder, &["update-ref", &name, snapshot])?;
        Ok(Some(name))
    }

    /// Names by which two commits differ; `how`: Added, Deleted, Modified, of another Type.
    fn differing(&self, folder: &Path, one: &str, other: &str, how: &str) -> Result<HashSet<String>> {
        let how = format!("--diff-filter={how}");
        let words = [
            "diff-tree",
            "-r",
            "-z",
            "--name-only",
            "--no-renames",
            &how,
            check_commit(one, "commit")?,
            check_commit(other, "commit")?,
            "--",
        ];
        let said = self.local(folder, &words)?;
        let names = said.split('\0').filter(|name| !name.is_empty());
        Ok(names.map(str::to_owned).collect())
    }

    fn local(&self, folder: &Path, words: &[&str]) -> Result<String> {
        self.run(folder, words, LOCAL, "")
    }

    fn run(&self, folder: &Path, words: &[&str], limit: Duration, url: &str) -> Result<String> {
        self.run_by(folder, words, limit, url, None)
    }

    /// `index`: another list of files than that of the checkout.
    fn run_by(
        &self,
        folder: &Path,
        words: &[&str],
        limit: Duration,
        url: &str,
        index: Option<&Path>,
    ) -> Result<String> {
        let safety = SAFETY
            .as_ref()
            .ok_or_else(|| Error::GitFailed("The safe settings of git cannot be read.".to_owned()))?;
        let program = env::var_os("PATH")
            .and_then(|paths| find_program("git", &paths))
            .ok_or_else(|| {
                Error::GitFailed("git is not installed; custom nodes and updates need it.".to_owned())
            })?;
        let failed =
            |error: &std::io::Error| Error::GitFailed(format!("git cannot be started: {}.", reason(error)));
        // A pipe would have to be read meanwhile; what is too much for a message is never read.
        let output = Output::new().map_err(|error| failed(&error))?;
        let mut command = Command::new(program);
        let allowed = url.starts_with("http:").then_some("protocol.http.allow=always");
        for setting in safety.settings.iter().copied().chain(allowed) {
            command.args(["-c", setting]);
        }
        command
            .args(words)
            .current_dir(folder)
            .env_clear()
            .envs(environment(folder))
            .envs(index.map(|index| ("GIT_INDEX_FILE", index)))
            .stdin(Stdio::null())
            .stdout(output.writer().map_err(|error| failed(&error))?)
            .stderr(output.writer().map_err(|error| failed(&error))?)
            .process_group(0);
        let child = command.spawn().map_err(|error| failed(&error))?;
        let running = Running {
            child,
            note: self.note.as_deref(),
        };
        let status = running.wait(limit, &self.check)?;
        let said = output.read();
        let verb = verb(words);
        match status {
            None => Err(Error::GitFailed(format!(
                "git {verb} took longer than {} s and was ended.",
                limit.as_secs()
            ))),
            Some(true) => Ok(said),
            Some(false) => Err(Error::GitFailed(format!("git {verb} failed: {}", why(&said)))),
        }
    }
}

/// A failure of git alone is an answer, too.
fn optional(said: Result<String>) -> Result<Option<String>> {
    match said {
        Err(Error::GitFailed(_)) => Ok(None),
        said => said.map(Some),
    }
}

/// A file without a name that a program writes into.
struct Output {
    path: PathBuf,
}

impl Output {
    fn new() -> std::io::Result<Self> {
        let name = format!("pumas-git-{}", crate::storage::files::random_hex(8));
        let path = env::temp_dir().join(name);
        fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Self { path })
    }

    fn writer(&self) -> std::io::Result<fs::File> {
        fs::OpenOptions::new().append(true).open(&self.path)
    }

    fn read(&self) -> String {
        let mut data = Vec::new();
        let _ = fs::File::open(&self.path).and_then(|file| file.take(MOST_OUTPUT).read_to_end(&mut data));
        String::from_utf8_lossy(&data).into_owned()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
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
        let began = Instant::now();
        let mut checked = began;
        while began.elapsed() < limit {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Ok(Some(status.success()));
            }
            if checked.elapsed() >= LOOK {
                check()?;
                checked = Instant::now();
            }
            thread::sleep(POLL);
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

fn remove_locks(folder: &Path, below: bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|end| end == "lock") {
            let _ = fs::remove_file(&path);
        } else if below && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_locks(&path, true);
        }
    }
}

/// What lies behind a link is nothing of this folder.
fn is_there(folder: &Path, name: &str) -> bool {
    let parents = Path::new(name).ancestors().skip(1);
    let is_behind_link = parents
        .filter(|parent| !parent.as_os_str().is_empty())
        .any(|parent| folder.join(parent).is_symlink());
    !is_behind_link && exists(&folder.join(name))
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
    let ours = child_environment::<OsString, OsString>([]);
    let mut kept: Vec<(OsString, OsString)> = ours.into_iter().filter(|(name, _)| is_kept(name)).collect();
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
    fn only_plain_https_addresses_pass() {
        for good in [
            "https://github.com/a/b",
            " https://git.example.org:8443/x/y.git/ ",
            "https://a/~me/b",
        ] {
            assert!(check_url(good, "git_url").is_ok(), "{good}");
        }
        for bad in [
            "",
            "http://github.com/a/b",
            "ssh://git@a/b",
            "git@github.com:a/b",
            "https://u@a/b",
            "https://a/b?x",
            "https://a/../b",
            "https://a/b/..c/..",
            "https://a",
            "https://-a/b",
            "https://a/-b",
            "https://a:0/b",
            "https://a:70000/b",
            "https://a/b\nhttps://c/d",
            "ext::sh -c x",
            "file:///a",
        ] {
            assert!(check_url(bad, "git_url").is_err(), "{bad}");
        }
    }

    #[test]
    fn reasons_are_short_and_printable() {
        assert_eq!(why("x\nfatal: no \u{1b}[31mway\nlast"), "no ?[31mway");
        assert_eq!((why(""), why("a\nb\n")), ("it said nothing".into(), "b".into()));
    }

    #[test]
    fn the_command_is_named_without_its_options() {
        assert_eq!(verb(&["-c", "x=y", "stash", "create"]), "stash");
        assert_eq!(verb(&[]), "");
    }
}
