//! How a finished build takes its place: one rename, then the list; and back again when the list cannot be written.
//!
//! An installation calls it, and a start that finds one which was killed in between. Blocks; knows nothing of how a build
//! is made.

use serde_json::{Value, json};

use super::places::{Places, is_there};
use super::state::VersionState;
use super::undoing::replaced_id;
use crate::apps::is_complete;
use crate::error::{Error, Result};
use crate::storage::clock;
use crate::storage::json_file::JsonObject;

/// Why a build that worked is in the trash.
const REPLACED: &str = "replaced";

/// The build that the installation `job_id` made of `tag`.
pub(super) struct Placing<'a> {
    pub(super) state: &'a VersionState,
    pub(super) places: &'a Places,
    pub(super) tag: &'a str,
    pub(super) job_id: &'a str,
}

impl Placing<'_> {
    /// Whether it has its place, and what was there before lies where it was built.
    pub(super) fn is_placed(&self) -> bool {
        let built = self
            .state
            .place(self.tag)
            .ok()
            .and_then(|place| self.state.built_by(&place));
        built.is_some_and(|(tag, job_id)| tag == self.tag && job_id == self.job_id)
    }

    /// # Errors
    /// `AlreadyExists`, `Busy`, and the disk's failures; nothing was changed.
    pub(super) fn take(&self, replace: bool, in_use: impl Fn(&str, &str) -> bool) -> Result<()> {
        let (tree, place) = (self.places.tree(self.job_id)?, self.state.place(self.tag)?);
        if !place.exists() {
            return Places::put(&tree, &place);
        }
        if !replace {
            let folder = self.places.folder().file_name().unwrap_or_default();
            return Err(Error::AlreadyExists(format!(
                "{} appeared in {} meanwhile; it was left as it is.",
                self.tag,
                folder.to_string_lossy()
            )));
        }
        let app = &self.state.app;
        if in_use(&app.id, self.tag) {
            return Err(Error::Busy(format!(
                "{} {} runs now; stop it and install again.",
                app.name, self.tag
            )));
        }
        Places::exchange(&tree, &place)
    }

    /// All that follows the rename; done again after a crash.
    ///
    /// # Errors
    /// `CorruptState`, and the disk's failures: what was there before is back, as far as the disk allows.
    pub(super) fn settle(&self, info: &JsonObject, activate: bool) -> Result<()> {
        if let Err(error) = self.listed(info, activate) {
            if let Err(failure) = self.take_back() {
                tracing::error!("{} stays in its place: {failure}", self.tag);
            }
            return Err(error);
        }
        self.places.discard(self.job_id, true);
        Ok(())
    }

    fn listed(&self, info: &JsonObject, activate: bool) -> Result<()> {
        let (tag, trash_id) = (self.tag, replaced_id(self.tag, self.job_id));
        let tree = self.places.tree(self.job_id)?;
        let history = self.state.history()?;
        let mut past = Vec::new();
        if is_there(&tree) {
            // The former build; one that cannot be gone back to is not pruned with those that can.
            let reason = if is_complete(&self.state.app, &tree) {
                REPLACED
            } else {
                "removed"
            };
            let former = Some(self.state.info(tag)?).filter(|info| !info.is_empty());
            let former = former.unwrap_or_else(|| VersionState::marker(&tree));
            self.places.remove(&tree, &trash_id, tag, reason, former)?;
        }
        let is_known = history
            .iter()
            .any(|entry| entry.get("trash_id").and_then(Value::as_str) == Some(&trash_id));
        let former = self.places.find(&trash_id)?;
        if !is_known && former.is_some_and(|former| former.reason == REPLACED) {
            past.push(entry(
                &json!({"kind": REPLACED, "tag": tag, "trash_id": trash_id, "at": clock::now()}),
            ));
        }
        // Asked before there is another one to choose from.
        let active = self.state.active()?;
        if let Some(active) = active.filter(|active| activate && active != tag) {
            past.push(entry(
                &json!({"kind": "switched", "tag": active, "at": clock::now()}),
            ));
        }
        let marked = VersionState::marker(&self.state.place(tag)?);
        let info = if marked.is_empty() { info.clone() } else { marked };
        self.state.add(tag, info, past, activate)
    }

    fn take_back(&self) -> Result<()> {
        let (tree, place) = (self.places.tree(self.job_id)?, self.state.place(self.tag)?);
        let removed = self.places.find(&replaced_id(self.tag, self.job_id))?;
        if is_there(&tree) {
            Places::exchange(&tree, &place)?;
        } else if let Some(removed) = removed {
            self.places.swap_in(&removed, &place)?;
            self.places.forget(&removed)?;
        } else {
            Places::put(&place, &tree)?;
        }
        self.places.discard(self.job_id, true);
        Ok(())
    }
}

/// An entry of the history.
pub(super) fn entry(value: &Value) -> JsonObject {
    value.as_object().cloned().unwrap_or_default()
}
