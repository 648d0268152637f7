//! What is in the places that links are wanted in, and in those of links that are not wanted.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::files::File;
use super::folders::Folder;
use super::{ByTarget, Run, is_away, is_unreadable};
use crate::links::linking::{LinkKind, is_ours, is_same, leads_to, mtime_ns, same_place};
use crate::links::paths::read_link;
use crate::links::rows::Link;
use crate::links::values::{Action, Unneeded};
use crate::storage::files::exists;

/// What is there, and what is to be done about it.
pub(super) struct Found {
    pub(super) action: Action,
    pub(super) reason: &'static str,
    pub(super) existing: String,
    pub(super) stamp: String,
}

impl Found {
    fn new(action: Action, reason: &'static str) -> Self {
        Self {
            action,
            reason,
            existing: String::new(),
            stamp: String::new(),
        }
    }

    fn linked(row: Option<&Link>) -> Self {
        let reason = if row.is_some() {
            "Already linked"
        } else {
            "Already linked, though not by us"
        };
        Self::new(Action::Skip, reason)
    }

    fn existing(self, existing: String) -> Self {
        Self { existing, ..self }
    }

    fn stamp(self, stamp: String) -> Self {
        Self { stamp, ..self }
    }
}

impl Run<'_> {
    pub(super) fn look(
        &self,
        file: &File,
        folder: &Folder,
        name: &str,
        target: &str,
        wanted: &str,
        row: Option<&Link>,
    ) -> Found {
        let unclear = || Found::new(Action::Conflict, "It cannot be looked at");
        match folder.entries.get(name) {
            None if row.is_some() => Found::new(Action::Create, "The link is missing"),
            None => Found::new(Action::Create, "New"),
            Some(false) => self.look_at_file(file, target, row).unwrap_or_else(|_| unclear()),
            Some(true) => match read_link(target) {
                None => unclear(),
                Some(text) => self.look_at_link(file, target, wanted, row, text),
            },
        }
    }

    fn is_ours(&self, row: Option<&Link>, target: &str) -> bool {
        row.is_some_and(|row| is_ours(row, target, &self.source_of(row)))
    }

    fn source_of(&self, row: &Link) -> String {
        self.planner.store.absolute(&row.source_path)
    }

    fn look_at_link(
        &self,
        file: &File,
        target: &str,
        wanted: &str,
        row: Option<&Link>,
        text: String,
    ) -> Found {
        if text == wanted || same_place(&leads_to(target, &text), &file.source) {
            return Found::linked(row).existing(text);
        }
        if self.is_ours(row, target) {
            return Found::new(Action::Update, "Our link leads elsewhere").existing(text);
        }
        let stamp = format!("link {text}");
        Found::new(Action::Conflict, "Symlink to a different source")
            .existing(text)
            .stamp(stamp)
    }

    fn look_at_file(&self, file: &File, target: &str, row: Option<&Link>) -> io::Result<Found> {
        let status = fs::symlink_metadata(target)?;
        let stamp = stamp_of(&status);
        if status.is_file() && is_same(&status, &fs::metadata(&file.source)?) {
            return Ok(Found::linked(row));
        }
        let ours = row.filter(|row| self.is_ours(Some(row), target));
        Ok(match ours {
            Some(row) if row.kind() == LinkKind::Copy => {
                if self.source_of(row) == file.source && status.len() == size(&file.source) {
                    Found::new(Action::Skip, "Already copied")
                } else {
                    Found::new(Action::Update, "Our copy is of another file").stamp(stamp)
                }
            }
            Some(_) => Found::new(Action::Update, "Our link leads elsewhere").stamp(stamp),
            None => {
                let reason = if status.is_dir() {
                    "Non-symlink folder"
                } else {
                    "Non-symlink file exists"
                };
                Found::new(Action::Conflict, reason)
                    .existing(target.to_owned())
                    .stamp(stamp)
            }
        })
    }

    /// Rows that no wanted file has.
    pub(super) fn look_at_rest(
        &mut self,
        by_target: &ByTarget,
        model_ids: Option<&HashSet<&str>>,
        unread: &HashSet<String>,
    ) {
        let wanted: HashSet<String> = self.plan.links.iter().map(|link| link.target.clone()).collect();
        let (mut away, mut unread_links) = (0, 0);
        for (target, row) in by_target {
            let is_asked = model_ids.is_none_or(|ids| ids.contains(row.model_id.as_str()));
            if wanted.contains(target) || !is_asked {
                continue;
            }
            let source = self.source_of(row);
            let unneeded = |reason| Unneeded {
                link: row.clone(),
                target: target.clone(),
                existing: read_link(target).unwrap_or_default(),
                reason,
            };
            let file = if row.kind() == LinkKind::Symlink {
                target
            } else {
                &source
            };
            if !self.plan.models_link.is_empty() || !exists(Path::new(target)) {
                self.plan.broken.push(unneeded("The link is gone"));
            } else if !is_ours(row, target, &source) {
                self.plan
                    .broken
                    .push(unneeded("Something else is there now; it stays"));
            } else if unread.contains(&row.model_id) || is_unreadable(file) {
                unread_links += 1;
            } else if Path::new(file).exists() {
                self.plan.unwanted.push(unneeded("No rule wants it any more"));
            } else if is_away(&source, &self.library) {
                away += 1;
            } else {
                self.plan.broken.push(unneeded("The model's file is gone"));
            }
        }
        if away > 0 {
            self.plan.warnings.push(format!(
                "{away} links lead to files on a drive that is away; they stay."
            ));
        }
        if unread_links > 0 {
            self.plan.warnings.push(format!(
                "{unread_links} links are of models that cannot be read; they stay."
            ));
        }
    }
}

/// Bytes; 0 for what cannot be looked at.
pub(super) fn size(path: &str) -> u64 {
    fs::metadata(path).map_or(0, |status| status.len())
}

/// Exactly enough of a file to notice that it was changed.
pub(crate) fn stamp_of(status: &fs::Metadata) -> String {
    format!("{} {} {}", status.ino(), status.len(), mtime_ns(status))
}
