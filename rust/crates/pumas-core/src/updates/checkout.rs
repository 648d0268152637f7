//! The launcher's own checkout: what it is at, what is newest, and going there with a way back.
//!
//! An update is fetched, laid out beside the checkout and tried there; only then the checkout goes forward, and back again
//! when its installation fails. From the first changed file to the end of the installation a journal says so: after a kill
//! the update is finished, without asking anybody again. GitHub's list of commits:
//! <https://docs.github.com/rest/commits/commits#list-commits>.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::apps::child_environment;
use crate::error::{Error, Result};
use crate::net::children::with_network;
use crate::net::{NetworkClient, Timeouts};
use crate::nodes::addresses::check_commit;
use crate::nodes::git::Git;
use crate::storage::files::{
    During as _, FILE_MODE, FOLDER_MODE, PRIVATE_FOLDER_MODE, make_folders, write_durably,
};
use crate::text::cut;
use crate::versions::github::{api, host_of};
use crate::versions::places::remove_tree;
use crate::versions::python::Python;
use crate::versions::running::{Check, InstallLog, Programs, end_noted};

/// Another folder than the one that this program was built in, for tests.
const CHECKOUT_VARIABLE: &str = "PUMAS_CHECKOUT";
const JOURNAL: &str = ".git/pumas-update";
const MOST_COMMITS: usize = 10;
const TRY: Duration = Duration::from_mins(1);
const SETUP: Duration = Duration::from_mins(30);
const LARGEST: usize = 4 * 1024 * 1024;
const TIMEOUTS: Timeouts = Timeouts {
    read: Duration::from_secs(5),
};
const PATIENCE: Duration = Duration::from_secs(1);
const LONGEST_WORDS: usize = 300;
/// With what was installed for it, all of the sidecar can be loaded.
const LOAD: [&str; 2] = ["-c", "import sys; sys.path[0] = 'backend'; import pumas.app"];

/// Where the launcher's own checkout is: what the environment names, else where this program was built.
pub(super) fn place() -> PathBuf {
    if let Some(named) = std::env::var_os(CHECKOUT_VARIABLE).filter(|value| !value.is_empty()) {
        return PathBuf::from(named);
    }
    let program = std::env::current_exe().unwrap_or_default();
    let is_checkout = |folder: &&Path| folder.join("launcher").is_file() && folder.join("rust").is_dir();
    let found = program.ancestors().skip(1).find(is_checkout);
    found
        .or(program.parent())
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// In git's own folder, while files change and dependencies are installed: the commits before and after.
pub(super) fn journal(folder: &Path) -> PathBuf {
    folder.join(JOURNAL)
}

/// What is checked out. `commit` and `branch` are "" outside a git checkout.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the words say it")]
pub struct Current {
    pub version: String,
    pub commit: String,
    pub branch: String,
    pub is_checkout: bool,
}

/// A commit, as GitHub lists it; `message` is its first line.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the words say it")]
pub struct Commit {
    pub sha: String,
    pub message: String,
    pub author: String,
    pub date: String,
}

/// A step from one commit to another.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the words say it")]
pub struct Applied {
    pub before: String,
    pub now: String,
}

/// Where an update works: `staging` is a folder of its own, `note` names the program that runs, `log` tells all.
#[derive(Clone, Debug)]
pub(super) struct Workplace {
    pub(super) staging: PathBuf,
    pub(super) note: PathBuf,
    pub(super) log: PathBuf,
}

impl Workplace {
    /// End what a killed process left running, and remove what it had laid out.
    fn clear(&self) {
        end_noted(&self.note);
        remove_tree(&self.staging);
    }
}

/// All but `newest` blocks. `check` is asked several times a second while a program runs, and ends it by failing.
pub(super) struct Checkout {
    folder: PathBuf,
    check: Check,
}

impl Checkout {
    pub(super) fn new(folder: PathBuf, check: Check) -> Self {
        Self { folder, check }
    }

    /// One that nobody stops.
    pub(super) fn here() -> Self {
        Self::new(place(), Arc::new(|| Ok(())))
    }

    fn git(&self, note: Option<&Path>) -> Git {
        let check = Arc::clone(&self.check);
        Git::new(Box::new(move || check()), note.map(Path::to_path_buf))
    }

    pub(super) fn current(&self) -> Current {
        let git = self.git(None);
        let found = git
            .head(&self.folder)
            .and_then(|commit| Ok((commit, git.branch(&self.folder)?.unwrap_or_default())));
        match found {
            Ok((commit, branch)) => Current {
                version: cut(&commit, 7).to_owned(),
                commit,
                branch,
                is_checkout: true,
            },
            Err(_) => Current {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..Current::default()
            },
        }
    }

    /// Where its newest commits are listed.
    ///
    /// # Errors
    /// `NotOurCheckout`.
    pub(super) fn list_url(&self) -> Result<String> {
        let (url, branch) = self.origin()?;
        let odd = || {
            Error::NotOurCheckout(
                "The launcher was not cloned from a repository owner/name on GitHub.".to_owned(),
            )
        };
        let url = Url::parse(&url).map_err(|_| odd())?;
        let host = url.host_str().unwrap_or_default();
        // http is only ever a server on this machine, for tests.
        if url.scheme() == "https" && !["github.com", "www.github.com"].contains(&host) {
            return Err(odd());
        }
        let path = url.path().trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        let is_name = |name: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            !name.is_empty() && name.chars().all(plain)
        };
        match path.split_once('/') {
            Some((owner, name)) if is_name(owner) && is_name(name) => Ok(format!(
                "{}/repos/{path}/commits?sha={branch}&per_page={MOST_COMMITS}",
                api()
            )),
            _ => Err(odd()),
        }
    }

    /// Go to the newest commit of its branch, after it was tried aside; or finish an update that was cut off.
    ///
    /// # Errors
    /// `NotOurCheckout`, `LocalChanges`, `GitFailed`, `UpdateFailed`, the disk's failures: all is as it was.
    pub(super) fn update(&self, at: &Workplace) -> Result<Applied> {
        at.clear();
        if let Some(begun) = self.begun() {
            self.take_back(&begun)?;
            return self.go(begun, at);
        }
        let git = self.git(Some(&at.note));
        let (url, branch) = self.origin()?;
        if git.changed(&self.folder)? {
            return Err(Error::LocalChanges(
                "Files of the launcher were changed here; commit or undo that, then update.".to_owned(),
            ));
        }
        let before = git.head(&self.folder)?;
        let now = git.fetch(&self.folder, &url, &branch)?;
        let step = Applied { before, now };
        if step.before == step.now {
            return Ok(step);
        }
        make_folders(&at.staging, PRIVATE_FOLDER_MODE).during("Preparing the update")?;
        let tree = at.staging.join("tree");
        let tried = git
            .lay_out(&self.folder, &step.now, &tree)
            .and_then(|()| self.try_out(&tree, at));
        remove_tree(&at.staging);
        tried?;
        self.go(step, at)
    }

    /// Take back an update that was cut off, when nobody is to finish it.
    ///
    /// # Errors
    /// `GitFailed`, the disk's failures.
    pub(super) fn undo(&self, at: &Workplace) -> Result<()> {
        at.clear();
        self.begun().map_or(Ok(()), |begun| self.take_back(&begun))
    }

    /// Change the files, then install what they need; all back when that fails.
    fn go(&self, step: Applied, at: &Workplace) -> Result<Applied> {
        let journal = journal(&self.folder);
        let noted = format!("{} {}\n", step.before, step.now);
        write_durably(&journal, noted.as_bytes(), FILE_MODE).during("Beginning the update")?;
        if let Err(error) = self.gone(&step, at) {
            self.take_back(&step)?;
            // What the new version had already replaced.
            let _ = self.set_up(at, Arc::new(|| Ok(())));
            return Err(error);
        }
        fs::remove_file(&journal).during("Ending the update")?;
        Ok(step)
    }

    fn gone(&self, step: &Applied, at: &Workplace) -> Result<()> {
        self.git(Some(&at.note)).forward(&self.folder, &step.now)?;
        self.set_up(at, Arc::clone(&self.check))?;
        if self.folder.join("backend/pumas/app.py").is_file() {
            self.run(&self.folder, &LOAD, TRY, at, Arc::clone(&self.check))?;
        }
        Ok(())
    }

    /// An update that was cut off, when it is still known between which commits.
    fn begun(&self) -> Option<Applied> {
        let noted = fs::read_to_string(journal(&self.folder)).ok()?;
        let mut commits = noted
            .split_whitespace()
            .map(|commit| check_commit(commit, "commit").ok());
        match (commits.next()??, commits.next()??, commits.next()) {
            (before, now, None) => Some(Applied {
                before: before.to_owned(),
                now: now.to_owned(),
            }),
            _ => None,
        }
    }

    fn take_back(&self, step: &Applied) -> Result<()> {
        Git::default().mend(&self.folder, &step.before, &step.now)?;
        match fs::remove_file(journal(&self.folder)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).during("Taking the update back")
            }
            _ => Ok(()),
        }
    }

    fn set_up(&self, at: &Workplace, check: Check) -> Result<()> {
        self.run(&self.folder, &["launcher", "setup"], SETUP, at, check)
    }

    /// Whether it can be read as a program at all; what it needs in addition is installed later.
    fn try_out(&self, folder: &Path, at: &Workplace) -> Result<()> {
        for name in ["launcher", "backend/rpc_server.py"] {
            if !folder.join(name).is_file() {
                let text = format!("The new version has no {name}; nothing was changed.");
                return Err(Error::UpdateFailed(text));
            }
        }
        let words: [&[&str]; 2] = [&["-m", "compileall", "-q", "backend"], &["launcher", "help"]];
        words
            .iter()
            .try_for_each(|words| self.run(folder, words, TRY, at, Arc::clone(&self.check)))
    }

    /// Run a script of the checkout, or a module, by the interpreter that the checkout was set up with.
    fn run(&self, folder: &Path, words: &[&str], most: Duration, at: &Workplace, check: Check) -> Result<()> {
        let refused =
            |reason: &str| Error::UpdateFailed(format!("The new version does not work here: {reason}"));
        let unusable = |error| match error {
            Error::InstallFailed { reason, .. } => refused(&reason),
            other => other,
        };
        let own = self.folder.join(".venv/bin/python");
        let python = if own.is_file() {
            own.to_string_lossy().into_owned()
        } else {
            Python::get().map_err(unusable)?.executable.clone()
        };
        let mut argv = vec![python];
        argv.extend(words.iter().map(|word| (*word).to_owned()));
        if let Some(folder) = at.note.parent() {
            make_folders(folder, FOLDER_MODE).during("Running the new version")?;
        }
        let log = Arc::new(InstallLog::new(&at.log));
        let programs = Programs::new(at.note.clone(), log, check);
        let environment = with_network(child_environment([("PYTHONDONTWRITEBYTECODE", "1")]));
        let done = programs.run(&argv, folder, &environment, most, &mut |_| {}, &mut || {});
        let (status, tail) = done.map_err(unusable)?;
        if status == 0 {
            return Ok(());
        }
        let last = tail
            .iter()
            .rev()
            .map(|line| line.trim())
            .find(|line| !line.is_empty());
        Err(refused(cut(last.unwrap_or("it said nothing"), LONGEST_WORDS)))
    }

    fn origin(&self) -> Result<(String, String)> {
        let not_ours = |text: &str| Error::NotOurCheckout(text.to_owned());
        if !self.folder.join(".git").exists() {
            return Err(not_ours(
                "The launcher is no git checkout; update it the way it was installed.",
            ));
        }
        let git = self.git(None);
        match (git.remote(&self.folder)?, git.branch(&self.folder)?) {
            (Some(url), Some(branch)) => Ok((url, branch)),
            _ => Err(not_ours(
                "The launcher's checkout has no branch, or was not cloned from an https address.",
            )),
        }
    }
}

/// The newest commits that an address lists, newest first.
///
/// # Errors
/// Those of the network.
pub(super) async fn newest(network: &NetworkClient, url: &str) -> Result<Vec<Commit>> {
    let request = network
        .get(url)?
        .timeouts(TIMEOUTS)
        .patience(PATIENCE)
        .preload(LARGEST);
    let mut reply = network.send(request).await?;
    let Value::Array(listed) = reply.json::<Value>().await? else {
        return Err(Error::InvalidReply {
            host: host_of(&reply),
            reason: "no list of commits".to_owned(),
        });
    };
    let objects = listed.iter().take(MOST_COMMITS).filter(|one| one.is_object());
    Ok(objects.map(commit).collect())
}

fn commit(one: &Value) -> Commit {
    let text = |pointer: &str, most| {
        let text = one.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        cut(text, most).to_owned()
    };
    let message = one
        .pointer("/commit/message")
        .and_then(Value::as_str)
        .unwrap_or_default();
    Commit {
        sha: text("/sha", 40),
        message: cut(message.lines().next().unwrap_or_default(), 200).to_owned(),
        author: text("/commit/author/name", 100),
        date: text("/commit/author/date", 40),
    }
}
