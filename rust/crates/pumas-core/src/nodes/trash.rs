//! The trash of a version's custom nodes: moved there, listed, put back, removed for good. Blocks.
//!
//! What the record says is written before anything moves; what a kill cut off is finished or taken back by
//! [`Nodes::tidy`].

use serde::Serialize;
use serde_json::json;

use super::naming::{check_present, name_in};
use super::record::{Known, facts, text};
use super::work::{Nodes, STAGING, names_in, object};
use crate::error::{Error, Result};
use crate::storage::clock::now;
use crate::storage::files::{
    During as _, FOLDER_MODE, PRIVATE_FOLDER_MODE, exists, make_folders, random_hex, rename_new,
};
use crate::storage::paths::contained;
use crate::versions::places::remove_tree;

const LISTING: &str = "list_removed_custom_nodes";

/// A custom node in the trash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemovedNode {
    /// For restoring it.
    pub trash_id: String,
    /// Of its folder.
    pub name: String,
    /// As of [`Node`](super::work::Node).
    pub url: Option<String>,
    /// As of [`Node`](super::work::Node).
    pub commit: Option<String>,
    /// None when nobody wrote it down.
    pub removed_at: Option<String>,
}

impl Nodes {
    /// Move it to the version's trash, a link as the link it is; its name there.
    ///
    /// # Errors
    /// `NodeNotFound`, `CorruptState`, and what the disk refuses.
    pub(super) fn remove(&self, name: &str) -> Result<String> {
        let what = format!("Removing {name}");
        let place = self.there(name)?;
        let mut known = self.record.read()?;
        let trash_id = format!("{name}-{}", random_hex(4));
        let node = known.nodes.shift_remove(name).unwrap_or_default();
        let entry = object([
            ("name", json!(name)),
            ("removed_at", json!(now())),
            ("node", json!(node)),
        ]);
        known.trash.insert(trash_id.clone(), entry);
        make_folders(&self.trash, PRIVATE_FOLDER_MODE).during(&what)?;
        self.record.save(&known)?;
        let target = self.trash.join(&trash_id);
        if let Err(failure) = rename_new(&place, &target) {
            // Else the next start does it.
            let _ = self.tidy();
            return Err(failure.into_error(&target, &what));
        }
        Ok(trash_id)
    }

    /// What lies in the trash, newest first.
    ///
    /// # Errors
    /// `CorruptState`.
    pub(super) fn removed(&self) -> Result<Vec<RemovedNode>> {
        let known = self.record.read()?;
        let ids = self.in_trash()?;
        let mut found: Vec<RemovedNode> = ids.iter().filter_map(|id| described(id, &known)).collect();
        found.sort_by(|one, other| {
            (&other.removed_at, &other.trash_id).cmp(&(&one.removed_at, &one.trash_id))
        });
        Ok(found)
    }

    /// Put a node back; its name.
    ///
    /// # Errors
    /// `TrashEntryNotFound`, `AlreadyExists`, `CorruptState`, and what the disk refuses.
    pub(super) fn restore(&self, trash_id: &str) -> Result<String> {
        let mut known = self.record.read()?;
        let one = self.find(trash_id, &known)?;
        let what = format!("Restoring {}", one.name);
        let place = contained(&self.place, check_present(&one.name)?, "node_name")?;
        let entry = facts(&known.trash.shift_remove(trash_id).unwrap_or_default(), "node");
        if exists(&place) {
            return Err(Error::AlreadyExists(format!(
                "{} already exists in {}; remove it first.",
                one.name,
                self.place_name()
            )));
        }
        make_folders(&self.place, FOLDER_MODE).during(&what)?;
        rename_new(&self.trash.join(trash_id), &place)
            .map_err(|failure| failure.into_error(&place, &what))?;
        if !entry.is_empty() {
            known.nodes.insert(one.name.clone(), entry);
        }
        self.record.save(&known)?;
        Ok(one.name)
    }

    /// Remove a node from the trash for good.
    ///
    /// # Errors
    /// `TrashEntryNotFound`, `CorruptState`, and what the disk refuses.
    pub(super) fn purge(&self, trash_id: &str) -> Result<()> {
        const WHAT: &str = "Emptying the trash of custom nodes";
        let mut known = self.record.read()?;
        self.find(trash_id, &known)?;
        // What is half removed must not look like something that can be restored.
        let staging = self.folder.join(STAGING);
        make_folders(&staging, PRIVATE_FOLDER_MODE).during(WHAT)?;
        let target = staging.join(trash_id);
        rename_new(&self.trash.join(trash_id), &target)
            .map_err(|failure| failure.into_error(&target, WHAT))?;
        if known.trash.shift_remove(trash_id).is_some() {
            self.record.save(&known)?;
        }
        remove_tree(&staging);
        Ok(())
    }

    fn in_trash(&self) -> Result<Vec<String>> {
        let mut names = names_in(&self.trash).during("Looking into the trash of custom nodes")?;
        names.retain(|name| name_in(name).is_some());
        Ok(names)
    }

    fn find(&self, trash_id: &str, known: &Known) -> Result<RemovedNode> {
        let is_there = self.in_trash()?.iter().any(|name| name == trash_id);
        let found = if is_there {
            described(trash_id, known)
        } else {
            None
        };
        found.ok_or_else(|| Error::TrashEntryNotFound {
            trash_id: trash_id.to_owned(),
            listing: LISTING,
        })
    }
}

fn described(trash_id: &str, known: &Known) -> Option<RemovedNode> {
    let entry = known.trash.get(trash_id).cloned().unwrap_or_default();
    let node = facts(&entry, "node");
    Some(RemovedNode {
        trash_id: trash_id.to_owned(),
        name: name_in(trash_id)?.to_owned(),
        url: text(&node, "url"),
        commit: text(&node, "commit"),
        removed_at: text(&entry, "removed_at"),
    })
}
