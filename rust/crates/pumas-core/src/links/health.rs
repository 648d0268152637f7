//! How the links are: which work, which are broken, which nobody needs. Looks, and changes nothing.
//!
//! A broken link is one of ours that is gone or leads nowhere. An orphan is a symbolic link into the library that no rule
//! wants: ours from other rules, or somebody else's. Links that lead elsewhere are the user's own affair.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Layout;
use crate::error::Result;
use crate::links::applying::KEPT_FOLDER;
use crate::links::linking::{LinkKind, is_ours, leads_to, library_of};
use crate::links::paths::{parent, read_link, real, text};
use crate::links::planning::{is_away, is_unreadable};
use crate::links::rows::{Link, Replaced, new_link};
use crate::links::store::LinkStore;
use crate::links::values::{Action, Plan, Unneeded};
use crate::storage::files::exists;

const UNREAD: &str = "The model cannot be read";

/// What was found.
#[derive(Debug, Default)]
pub struct Health {
    /// Registered links of versions that are there.
    pub total: u64,
    /// Those that work.
    pub healthy: u64,
    /// Those that do not.
    pub broken: Vec<Unneeded>,
    /// Absolute paths.
    pub orphaned: Vec<String>,
    /// Those of the orphans that `remove_orphaned_links` removes by itself.
    pub removable: Vec<Unneeded>,
    /// What was moved aside and is still there.
    pub replaced: Vec<Replaced>,
    /// For the user.
    pub warnings: Vec<String>,
}

impl Health {
    /// In one word.
    #[must_use]
    pub fn status(&self) -> &'static str {
        if !self.broken.is_empty() {
            "errors"
        } else if !self.orphaned.is_empty() || !self.warnings.is_empty() {
            "warnings"
        } else {
            "healthy"
        }
    }
}

/// Calls block.
pub struct Examiner {
    layout: Arc<Layout>,
    library: String,
    store: Arc<LinkStore>,
}

impl Examiner {
    /// Of a library and a registry.
    #[must_use]
    pub fn new(layout: Arc<Layout>, store: Arc<LinkStore>) -> Self {
        Self {
            library: text(&layout.library()),
            layout,
            store,
        }
    }

    /// All registered links of versions that are there, and the folder of one version when its plan is given.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn examine(&self, plan: Option<&Plan>) -> Result<Health> {
        let mut health = Health::default();
        let (mut away, mut external, mut unread) = (0, 0, 0);
        for row in self.store.all()? {
            if !Path::new(&self.version_folder(&row)).is_dir() {
                continue;
            }
            health.total += 1;
            external += u64::from(row.is_external);
            let target = self.store.absolute(&row.target_path);
            let source = self.store.absolute(&row.source_path);
            let Some(reason) = trouble(&row, &target, &source) else {
                health.healthy += 1;
                continue;
            };
            // Where the link should be is there and the link is not: that is so whatever became of the file.
            let gone = !exists(Path::new(&target)) && Path::new(parent(&target)).is_dir();
            if !gone && is_away(&source, &self.library) {
                away += 1;
            } else if reason == UNREAD {
                unread += 1;
            } else {
                health.broken.push(Unneeded {
                    link: row,
                    existing: read_link(&target).unwrap_or_default(),
                    target,
                    reason,
                });
            }
        }
        if external > 0 {
            health.warnings.push(format!(
                "{external} links lead to another volume and break when the library is moved."
            ));
        }
        if away > 0 {
            health
                .warnings
                .push(format!("{away} links lead to files on a drive that is away."));
        }
        if unread > 0 {
            health
                .warnings
                .push(format!("{unread} links are of models that cannot be read."));
        }
        if let Some(plan) = plan {
            self.look_for_orphans(plan, &mut health)?;
        }
        health.replaced = self.store.replaced()?;
        health
            .replaced
            .retain(|one| exists(Path::new(&self.store.absolute(&one.kept_path))));
        Ok(health)
    }

    /// Of the version that has the link. One that was removed may come back, with its links.
    fn version_folder(&self, row: &Link) -> String {
        if row.target_path.starts_with('/') {
            return parent(&row.target_path).to_owned();
        }
        let parts: Vec<&str> = row.target_path.splitn(3, '/').take(2).collect();
        self.store.absolute(&parts.join("/"))
    }

    fn look_for_orphans(&self, plan: &Plan, health: &mut Health) -> Result<()> {
        health.removable.clone_from(&plan.unwanted);
        health.orphaned = plan.unwanted.iter().map(|one| one.target.clone()).collect();
        let rows = self.store.below(&plan.place.models)?;
        let ours: HashSet<String> = rows
            .iter()
            .map(|row| self.store.absolute(&row.target_path))
            .collect();
        let mut foreign = symlinks_below(Path::new(&plan.place.models));
        foreign.retain(|path| !ours.contains(path) && is_inside(&self.layout, path));
        if !foreign.is_empty() {
            health.warnings.push(format!(
                "{} links into the library were not made by us; they are only removed when they are named.",
                foreign.len()
            ));
        }
        health.orphaned.extend(foreign);
        Ok(())
    }
}

/// Why a link does not work; None when it does.
fn trouble(row: &Link, target: &str, source: &str) -> Option<&'static str> {
    if !exists(Path::new(target)) {
        return Some("The link is gone");
    }
    if !is_ours(row, target, source) {
        return Some("Something else is there now; it stays");
    }
    let looked_at = if row.kind() == LinkKind::Symlink {
        target
    } else {
        source
    };
    if Path::new(looked_at).exists() {
        return None;
    }
    Some(if is_unreadable(looked_at) {
        UNREAD
    } else {
        "The model's file is gone"
    })
}

/// Whether a symbolic link leads into the library, be its file there or not.
#[must_use]
pub fn is_inside(layout: &Layout, path: &str) -> bool {
    let Some(held) = read_link(path) else {
        return false;
    };
    let place = leads_to(path, &held);
    let library = text(&layout.library());
    let roots = [real(&library), library_of(&text(layout.root())), library];
    roots
        .iter()
        .any(|root| place.strip_prefix(root).is_some_and(|rest| rest.starts_with('/')))
}

/// All symbolic links in a folder; what was moved aside is not looked into.
fn symlinks_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = vec![folder.to_path_buf()];
    while let Some(at) = waiting.pop() {
        let entries = fs::read_dir(&at).into_iter().flatten().flatten();
        let mut links: Vec<OsString> = Vec::new();
        let mut folders: Vec<OsString> = Vec::new();
        for entry in entries {
            let name = entry.file_name();
            match entry.file_type() {
                Ok(kind) if kind.is_symlink() && name != KEPT_FOLDER => links.push(name),
                Ok(kind) if kind.is_dir() && name != KEPT_FOLDER => folders.push(name),
                _ => {}
            }
        }
        links.sort();
        folders.sort();
        found.extend(links.iter().map(|name| text(&at.join(name))));
        waiting.extend(folders.iter().rev().map(|name| at.join(name)));
    }
    found
}

/// Rows for links that are just as we would make them: for a registry that was lost.
///
/// The plan says which they are; that they are ours is likely enough once the list of ours is gone.
///
/// # Errors
/// The registry cannot be read.
pub fn recovered_rows(store: &LinkStore, plans: &[Plan]) -> Result<Vec<Link>> {
    let known: HashSet<String> = store.all()?.into_iter().map(|row| row.target_path).collect();
    let mut rows = Vec::new();
    for plan in plans {
        for link in plan.of(&[Action::Skip]) {
            let target = store.kept(&link.target);
            if known.contains(&target) {
                continue;
            }
            let Some(text) = read_link(&link.target) else {
                continue;
            };
            let mut row = new_link(
                &link.model_id,
                store.kept(&link.source),
                target,
                LinkKind::Symlink.as_str(),
                (&plan.place.app.id, plan.place.version()),
                link.external,
            );
            row.link_text = text;
            rows.push(row);
        }
    }
    Ok(rows)
}
