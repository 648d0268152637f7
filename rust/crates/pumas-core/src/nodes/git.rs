//! What is asked of git: a clone, a step forward of a branch, and the way back, also from a step that a kill cut off.
//!
//! Blocks; call from worker threads. What is let through to git is in `addresses`, how it is run in `program`. What a
//! checkout is for is not known here.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use caseless::default_case_fold_str;

use super::addresses::{check_commit, check_ref, check_url, is_plain, is_short};
use super::program::{Call, Check};
use crate::error::{Error, Result};
use crate::storage::files::{During as _, exists};

const CLONE: Duration = Duration::from_mins(5);
const FETCH: Duration = Duration::from_mins(1);
const LOCAL: Duration = Duration::from_secs(30);
const APART: &str = "The newest commit does not follow the one that is here: the repository's history was rewritten, or there are \
                     commits of yours. Nothing was changed; remove it and install it again to have the newest.";
const HEADS: &str = "refs/heads/";
const TAGS: &str = "refs/tags/";
const WHO: [&str; 4] = ["-c", "user.name=pumas", "-c", "user.email=pumas"];

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

    /// Clone a repository into a folder that is not there yet; the id of the commit that is checked out.
    ///
    /// `reference`: a branch, which is then the one to follow; else a tag, else a commit of the main branch by its id or
    /// the first 7 digits of that and more. None: the main branch.
    ///
    /// # Errors
    /// `GitFailed`: nothing usable is left in `folder`.
    pub(crate) fn clone(&self, url: &str, folder: &Path, reference: Option<&str>) -> Result<String> {
        let url = check_url(url, "git_url")?;
        let above = folder.parent().unwrap_or(folder);
        let named = match reference {
            Some(name) => self.full_name(above, url, check_ref(name, "commit")?)?,
            None => None,
        };
        let branch = named.as_deref().and_then(|full| full.strip_prefix(HEADS));
        let branch = branch.map(|name| format!("--branch={name}"));
        let target = folder.to_string_lossy();
        let mut words = vec![
            "clone",
            "--quiet",
            "--no-recurse-submodules",
            "--single-branch",
            "--no-tags",
            "--template=",
        ];
        words.extend(branch.as_deref());
        words.extend(["--", url, &target]);
        self.run(above, &words, CLONE, url)?;
        if let Some(name) = reference
            && branch.is_none()
        {
            let commit = match &named {
                Some(full) => self.bring(folder, url, full)?,
                None => self.commit(folder, name)?,
            };
            self.local(folder, &["reset", "--quiet", "--hard", &commit, "--"])?;
        }
        self.head(folder)
    }

    /// What a repository calls the branch of this name, or else the tag; None: it has neither, but may have a commit.
    ///
    /// # Errors
    /// `GitFailed`.
    fn full_name(&self, folder: &Path, url: &str, name: &str) -> Result<Option<String>> {
        if check_commit(name, "commit").is_ok() {
            return Ok(None);
        }
        let wanted = [HEADS, TAGS].map(|kind| format!("{kind}{name}"));
        let words = ["ls-remote", "--refs", "--", url, &wanted[0], &wanted[1]];
        let listed = self.run(folder, &words, FETCH, url)?;
        // git finds longer names too that end like these.
        let names: HashSet<&str> = listed
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(_, name)| name)
            .collect();
        let found = wanted.into_iter().find(|full| names.contains(full.as_str()));
        if found.is_none() && !is_short(name) {
            return Err(unknown(name));
        }
        Ok(found)
    }

    /// The full id of a commit.
    fn commit(&self, folder: &Path, name: &str) -> Result<String> {
        let words = ["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")];
        let said = optional(self.local(folder, &words))?.unwrap_or_default();
        check_commit(said.trim(), "commit")
            .map(str::to_owned)
            .map_err(|_| unknown(name))
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
        Ok(name.filter(|name| is_plain(name)))
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
        self.bring(folder, check_url(url, "git_url")?, &format!("{HEADS}{branch}"))
    }

    fn bring(&self, folder: &Path, url: &str, full_name: &str) -> Result<String> {
        let words = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-recurse-submodules",
            "--",
            url,
            full_name,
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

    /// Check out a later commit; never merges, and leaves what is later already.
    ///
    /// # Errors
    /// `GitFailed`: it is no later one, files are in the way, or the disk refused something.
    pub(crate) fn forward(&self, folder: &Path, commit: &str) -> Result<()> {
        let before = self.head(folder)?;
        let commit = check_commit(commit, "commit")?;
        let fork = self.fork(folder, &before, commit);
        if fork != before && fork != commit {
            return Err(Error::GitFailed(APART.to_owned()));
        }
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

    /// The last commit that two have in common, "" when there is none.
    fn fork(&self, folder: &Path, one: &str, other: &str) -> String {
        let found = self.run(folder, &["merge-base", one, other], LOCAL, "");
        found.map_or_else(|_| String::new(), |said| said.trim().to_owned())
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
        let call = Call {
            folder,
            words,
            limit,
            url,
            index,
            note: self.note.as_deref(),
            check: &self.check,
        };
        call.run()
    }
}

fn unknown(name: &str) -> Error {
    Error::GitFailed(format!(
        "The repository has no branch, no tag and no commit of its main branch called {name}."
    ))
}

/// A failure of git alone is an answer, too.
fn optional(said: Result<String>) -> Result<Option<String>> {
    match said {
        Err(Error::GitFailed(_)) => Ok(None),
        said => said.map(Some),
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
