//! Custom nodes of one version on disk: listed, cloned, updated, and put in order after a kill. Blocks.
//!
//! A node is cloned into a hidden folder of the version and takes its place by one rename. Where it came from and at which
//! commit it is stands in the version's record, which is written before anything is moved or checked out: [`Nodes::tidy`]
//! finishes or takes back what a kill cut off. Nodes are programs: nothing of them is run here, and their requirements are
//! installed only when that is asked for.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use super::addresses::check_commit;
use super::git::Git;
use super::naming::{HIDDEN, check_name, check_present, name_in};
use super::record::{Record, facts, text};
use crate::error::{Error, Result};
use crate::storage::clock::now;
use crate::storage::files::{
    During as _, FOLDER_MODE, PRIVATE_FOLDER_MODE, exists, make_folders, random_hex, rename_new,
};
use crate::storage::json_file::JsonObject;
use crate::storage::listing::entries;
use crate::storage::paths::contained;
use crate::versions::places::{remove_tree, sync};

/// In a version's folder: what is being cloned or removed for good.
pub(super) const STAGING: &str = ".pumas-nodes";
/// In a version's folder.
pub(super) const TRASH: &str = ".pumas-nodes-trash";
const REQUIREMENTS: &str = "requirements.txt";
const UPDATING: &str = "updating";

/// Installs what a file of requirements names.
pub(super) type InstallRequirements<'a> = &'a dyn Fn(&Path) -> Result<()>;

/// A custom node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Of its folder.
    pub name: String,
    /// Absolute.
    pub path: String,
    /// What was recorded when it was installed or updated here; None for others.
    pub url: Option<String>,
    /// As `url`.
    pub commit: Option<String>,
    /// As `url`; ISO-8601 UTC.
    pub installed_at: Option<String>,
    /// It names packages that it needs.
    pub has_requirements: bool,
    /// It has a repository of its own.
    pub is_checkout: bool,
}

/// Of one version.
pub(super) struct Nodes {
    pub(super) folder: PathBuf,
    tag: String,
    git: Git,
    pub(super) place: PathBuf,
    pub(super) trash: PathBuf,
    pub(super) record: Record,
}

impl Nodes {
    /// Of the version in `folder`; `place` is the name of the folder of its nodes.
    ///
    /// # Errors
    /// `UnsafePath`: that leads out of the version.
    pub(super) fn new(folder: &Path, tag: &str, place: &str, git: Git) -> Result<Self> {
        Ok(Self {
            folder: folder.to_path_buf(),
            tag: tag.to_owned(),
            git,
            place: contained(folder, place, "version_tag")?,
            trash: folder.join(TRASH),
            record: Record::new(folder),
        })
    }

    pub(super) fn place_name(&self) -> String {
        let name = self.place.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// By name; what is hidden or a file does not count.
    ///
    /// # Errors
    /// `CorruptState`.
    pub(super) fn list(&self) -> Result<Vec<Node>> {
        let known = self.record.read()?;
        let mut names = names_in(&self.place).during("Looking for custom nodes")?;
        names.retain(|name| {
            !HIDDEN.iter().any(|start| name.starts_with(start)) && self.place.join(name).is_dir()
        });
        Ok(names
            .iter()
            .map(|name| self.node(name, known.nodes.get(name).unwrap_or(&JsonObject::new())))
            .collect())
    }

    // -- install and update ------------------------------------------------------------------------------------------

    /// Clone into the place of a new node, at `reference` (see [`Git::clone`]). One that the same job had put there before
    /// a kill is taken for done.
    ///
    /// # Errors
    /// `InvalidInput`, `AlreadyExists`, `GitFailed`, `InstallFailed`, `CorruptState`, and what the disk refuses.
    pub(super) fn install(
        &self,
        url: &str,
        name: &str,
        reference: Option<&str>,
        requirements: Option<InstallRequirements<'_>>,
        job_id: &str,
    ) -> Result<Node> {
        let place = self.where_of(name)?;
        // One that cannot be read is found out before anything is done.
        let known = self.record.read()?;
        if exists(&place) {
            let entry = known.nodes.get(name).cloned().unwrap_or_default();
            if !job_id.is_empty() && text(&entry, "job_id").as_deref() == Some(job_id) {
                return Ok(self.node(name, &entry));
            }
            let text = format!("{name} already exists in {}.", self.place_name());
            return Err(Error::AlreadyExists(text));
        }
        let staging = self.folder.join(STAGING);
        // What a killed process was cloning; there is never more than one at work.
        remove_tree(&staging);
        make_folders(&staging, PRIVATE_FOLDER_MODE).during("Preparing the custom node")?;
        let cloned = self.clone_into(
            &staging.join(random_hex(8)),
            url,
            name,
            reference,
            requirements,
            job_id,
        );
        remove_tree(&staging);
        Ok(self.node(name, &cloned?))
    }

    fn clone_into(
        &self,
        staging: &Path,
        url: &str,
        name: &str,
        reference: Option<&str>,
        requirements: Option<InstallRequirements<'_>>,
        job_id: &str,
    ) -> Result<JsonObject> {
        const WHAT: &str = "Putting the custom node in place";
        let found = self.git.clone(url, staging, reference)?;
        install_needs(staging, requirements)?;
        let entry = object([
            ("url", json!(url)),
            ("commit", json!(found)),
            ("installed_at", json!(now())),
            ("job_id", json!(job_id)),
        ]);
        make_folders(&self.place, FOLDER_MODE)
            .map(|_| ())
            .and_then(|()| sync(staging))
            .during(WHAT)?;
        self.record.note(name, Some(&entry))?;
        let place = self.place.join(name);
        if let Err(failure) = rename_new(staging, &place) {
            // Somebody else has taken the place meanwhile.
            self.record.note(name, None)?;
            return Err(failure.into_error(&place, WHAT));
        }
        Ok(entry)
    }

    /// Go forward to the newest commit of its branch; (commit before, commit now).
    ///
    /// # Errors
    /// `NodeNotFound`, `NotOurCheckout`, `LocalChanges`, and as `install`: it is as it was. `GitFailed`: also when it cannot
    /// go straight forward.
    pub(super) fn update(
        &self,
        name: &str,
        requirements: Option<InstallRequirements<'_>>,
    ) -> Result<(String, String)> {
        let place = self.there(name)?;
        if !is_checkout(&place) {
            return Err(Error::NotOurCheckout(format!(
                "{name} is no git checkout of its own, so it cannot be updated."
            )));
        }
        let known = self.settled(name)?;
        let before = self.git.head(&place)?;
        let url = match text(&known, "url").filter(|url| !url.is_empty()) {
            Some(url) => Some(url),
            None => self.git.remote(&place)?,
        };
        let (Some(url), Some(branch)) = (url, self.git.branch(&place)?) else {
            return Err(Error::NotOurCheckout(format!(
                "{name} has no https address or no branch to be updated from."
            )));
        };
        if self.git.changed(&place)? {
            return Err(Error::LocalChanges(format!(
                "Files of {name} were changed here; undo that, or remove and install it again."
            )));
        }
        let newest = self.git.fetch(&place, &url, &branch)?;
        let mut stepping = known.clone();
        stepping.insert(UPDATING.to_owned(), json!({"before": before, "after": newest}));
        self.record.note(name, Some(&stepping))?;
        let stepped = if newest == before {
            Ok(())
        } else {
            self.git.forward(&place, &newest)
        };
        let done = stepped.and_then(|()| install_needs(&place, requirements));
        // Commits of the user's may follow.
        let newest = match done.and_then(|()| self.git.head(&place)) {
            Ok(commit) => commit,
            Err(error) => {
                // Else the next start or update does it.
                let _ = self.settled(name);
                return Err(error);
            }
        };
        let mut done = known;
        done.extend(object([
            ("url", json!(url)),
            ("commit", json!(newest)),
            ("previous_commit", json!(before)),
            ("updated_at", json!(now())),
        ]));
        self.record.note(name, Some(&done))?;
        Ok((before, newest))
    }

    /// What is known of a node, after a step forward that was not finished is taken back.
    ///
    /// # Errors
    /// `GitFailed`, `CorruptState`, and what the disk refuses.
    fn settled(&self, name: &str) -> Result<JsonObject> {
        let mut known = self.record.read()?.nodes.shift_remove(name).unwrap_or_default();
        let step = facts(&known, UPDATING);
        if known.shift_remove(UPDATING).is_none() {
            return Ok(known);
        }
        let place = self.place.join(name);
        if is_checkout(&place) {
            let commit = |key: &str| text(&step, key).unwrap_or_default();
            let (before, after) = (commit("before"), commit("after"));
            let (before, after) = (check_commit(&before, "commit")?, check_commit(&after, "commit")?);
            if let Some(kept) = Git::default().mend(&place, before, after)? {
                known.insert("kept_changes".to_owned(), json!(kept));
            }
        }
        self.record.note(name, Some(&known))?;
        Ok(known)
    }

    // -- after a kill ------------------------------------------------------------------------------------------------

    /// Finish or take back what a killed process left half done; what is not recorded is not touched.
    ///
    /// # Errors
    /// `CorruptState`, `GitFailed`, and what the disk refuses.
    pub(super) fn tidy(&self) -> Result<()> {
        let mut known = self.record.read()?;
        let staging = self.folder.join(STAGING);
        let mut changed = false;
        for (trash_id, entry) in known.trash.clone() {
            let Some(name) = name_in(&trash_id) else { continue };
            if exists(&self.trash.join(&trash_id)) {
                continue;
            }
            // It was not moved there yet, or is back already; or it was being removed for good.
            let node = facts(&entry, "node");
            let purged = exists(&staging.join(&trash_id));
            if !node.is_empty() && !purged && exists(&self.place.join(name)) {
                known.nodes.entry(name.to_owned()).or_insert(node);
            }
            known.trash.shift_remove(&trash_id);
            changed = true;
        }
        let before = known.nodes.len();
        known
            .nodes
            .retain(|name, entry| !entry.contains_key("installed_at") || self.is_there(name));
        if changed || known.nodes.len() != before {
            self.record.save(&known)?;
        }
        remove_tree(&staging);
        for (name, entry) in &known.nodes {
            if entry.contains_key(UPDATING) && self.is_there(name) {
                self.settled(name)?;
            }
        }
        Ok(())
    }

    // -- one node ----------------------------------------------------------------------------------------------------

    pub(super) fn where_of(&self, name: &str) -> Result<PathBuf> {
        contained(&self.place, check_name(name)?, "node_name")
    }

    pub(super) fn there(&self, name: &str) -> Result<PathBuf> {
        let path = self.place.join(check_present(name)?);
        if path.is_dir() {
            return Ok(path);
        }
        Err(Error::NodeNotFound {
            name: name.to_owned(),
            tag: self.tag.clone(),
        })
    }

    fn is_there(&self, name: &str) -> bool {
        check_present(name).is_ok() && exists(&self.place.join(name))
    }

    fn node(&self, name: &str, entry: &JsonObject) -> Node {
        let path = self.place.join(name);
        Node {
            name: name.to_owned(),
            url: text(entry, "url"),
            commit: text(entry, "commit"),
            installed_at: text(entry, "installed_at"),
            has_requirements: path.join(REQUIREMENTS).is_file(),
            is_checkout: is_checkout(&path),
            path: path.to_string_lossy().into_owned(),
        }
    }
}

fn install_needs(folder: &Path, requirements: Option<InstallRequirements<'_>>) -> Result<()> {
    let file = folder.join(REQUIREMENTS);
    match requirements {
        Some(install) if file.is_file() => install(&file),
        _ => Ok(()),
    }
}

/// With a repository inside: a `.git` file would lead somewhere else.
fn is_checkout(path: &Path) -> bool {
    let git = path.join(".git");
    git.is_dir() && !git.is_symlink() && !path.is_symlink()
}

/// In order; none where there is no such folder.
pub(super) fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let named = entries(folder)?
        .into_iter()
        .map(|entry| entry.file_name().into_string());
    let mut names: Vec<String> = named.filter_map(std::result::Result::ok).collect();
    names.sort();
    Ok(names)
}

pub(super) fn object<const N: usize>(values: [(&str, serde_json::Value); N]) -> JsonObject {
    values
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_removed_comes_back_as_it_was() {
        let version = tempfile::tempdir().unwrap();
        let nodes = Nodes::new(version.path(), "v1", "custom_nodes", Git::default()).unwrap();
        fs::create_dir_all(version.path().join("custom_nodes/one")).unwrap();
        let entry = object([("url", json!("https://a/one")), ("commit", json!("c"))]);
        nodes.record.note("one", Some(&entry)).unwrap();
        let id = nodes.remove("one").unwrap();
        assert!(nodes.list().unwrap().is_empty());
        assert_eq!(nodes.removed().unwrap()[0].url.as_deref(), Some("https://a/one"));
        nodes.tidy().unwrap();
        assert_eq!(nodes.restore(&id).unwrap(), "one");
        assert_eq!(nodes.list().unwrap()[0].commit.as_deref(), Some("c"));
        let id = nodes.remove("one").unwrap();
        nodes.purge(&id).unwrap();
        assert!(matches!(nodes.purge(&id), Err(Error::TrashEntryNotFound { .. })));
        assert!(nodes.removed().unwrap().is_empty());
    }

    #[test]
    fn a_removal_that_was_cut_short_is_undone() {
        let version = tempfile::tempdir().unwrap();
        let nodes = Nodes::new(version.path(), "v1", "custom_nodes", Git::default()).unwrap();
        fs::create_dir_all(version.path().join("custom_nodes/one")).unwrap();
        let mut known = nodes.record.read().unwrap();
        let node = object([("url", json!("https://a/one"))]);
        known.trash.insert(
            "one-00000000".to_owned(),
            object([("name", json!("one")), ("node", json!(node))]),
        );
        nodes.record.save(&known).unwrap();
        nodes.tidy().unwrap();
        assert_eq!(nodes.list().unwrap()[0].url.as_deref(), Some("https://a/one"));
        assert!(nodes.removed().unwrap().is_empty());
    }
}
