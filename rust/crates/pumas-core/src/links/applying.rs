//! Carries plans out, in batches: rows first, then links, then the folders synced, then the rows say so.
//!
//! A kill between any two steps leaves each link on disk in the registry; [`LinkKeeper::settle`] asks the disk about the
//! rest. Every link is looked at once more before it is made or taken away: what a plan said may have changed since. What
//! is in the way is moved aside only where the caller chose so, and never deleted.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;

use crate::error::{Error, Result};
use crate::links::keeping::{LinkKeeper, sync_folders};
use crate::links::linking::{
    self, CANNOT, LinkKind, MakeFailure, inode_of, is_ours, is_same, mtime_ns, size_of,
};
use crate::links::paths::{name, parent, read_link};
use crate::links::planning::looking::stamp_of;
use crate::links::rows::{Link, Replaced, new_link};
use crate::links::store::LinkStore;
use crate::links::values::{Action, Applied, Kept, Plan, PlannedLink, Resolution, Unneeded};
use crate::links::volumes::{Volumes, device_of};
use crate::storage::clock::now;
use crate::storage::files::{
    During as _, FOLDER_MODE, disk_error, exists, make_folders, random_hex, rename_new,
};
use crate::storage::paths::display_name;
use crate::text::grouped;

const BATCH: usize = 1000;
/// What is moved aside lies here, in the models folder.
pub const KEPT_FOLDER: &str = ".pumas-replaced";
const MAX_ERRORS: usize = 100;

/// How the caller follows the work, and stops it.
pub trait Watch {
    /// Fails when the work should stop; what was done stays done.
    ///
    /// # Errors
    /// `Cancelled`, `Interrupted`.
    fn check(&self) -> Result<()>;

    /// So many of so many links were looked at.
    fn report(&self, done: usize, total: usize);
}

/// Nobody follows.
impl Watch for () {
    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn report(&self, _done: usize, _total: usize) {}
}

/// One batch under way.
#[derive(Default)]
struct Batch {
    rows: Vec<Link>,
    links: Vec<PlannedLink>,
    moves: IndexMap<String, Replaced>,
    copies: HashMap<String, PathBuf>,
    /// Places that get no row.
    failed: Vec<String>,
    /// Were not moved aside.
    unreplaced: Vec<String>,
}

/// Calls block. Cheap to clone.
#[derive(Clone)]
pub struct Applier {
    store: Arc<LinkStore>,
    keeper: LinkKeeper,
    volumes: Arc<Volumes>,
}

impl Applier {
    /// With the registry and what is known of the volumes.
    #[must_use]
    pub fn new(store: Arc<LinkStore>, keeper: LinkKeeper, volumes: Arc<Volumes>) -> Self {
        Self {
            store,
            keeper,
            volumes,
        }
    }

    /// Carry a plan out. `resolutions` say by model id what to do about conflicts; others are skipped.
    ///
    /// # Errors
    /// What the registry's disk refuses, and what `watch` fails with: what was done stays and is registered.
    pub fn apply(
        &self,
        plan: &Plan,
        resolutions: &HashMap<String, Resolution>,
        allow_copy: bool,
        watch: &dyn Watch,
    ) -> Result<Applied> {
        let run = Run {
            applier: self,
            plan,
            resolutions,
            allow_copy,
            done: Applied::default(),
            kept_folder: kept_folder(&plan.place.models),
            more_errors: 0,
        };
        run.apply(watch)
    }

    /// Remove links that are ours, and the rows of those that are gone. Returns how many links were removed.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn take_away(&self, unneeded: &[Unneeded]) -> Result<u64> {
        let mut removed = 0;
        for part in unneeded.chunks(BATCH) {
            let _held = self.keeper.turn.hold();
            let mut gone = Vec::new();
            for one in part {
                let source = self.store.absolute(&one.link.source_path);
                if let Ok(taken) = linking::take_away(&one.link, &one.target, &source) {
                    removed += u64::from(taken);
                    gone.push(one.link.link_id);
                }
            }
            sync_folders(part.iter().map(|one| parent(&one.target))).during("Removing links")?;
            self.store.forget(&gone)?;
        }
        Ok(removed)
    }
}

struct Run<'a> {
    applier: &'a Applier,
    plan: &'a Plan,
    resolutions: &'a HashMap<String, Resolution>,
    allow_copy: bool,
    done: Applied,
    kept_folder: String,
    more_errors: usize,
}

impl Run<'_> {
    fn store(&self) -> &LinkStore {
        &self.applier.store
    }

    fn apply(mut self, watch: &dyn Watch) -> Result<Applied> {
        let plan = self.plan;
        let is_work = |link: &&PlannedLink| {
            matches!(link.action, Action::Create | Action::Update) || self.is_chosen(link)
        };
        let work: Vec<PlannedLink> = plan.links.iter().filter(is_work).cloned().collect();
        let left = plan.of(&[Action::Conflict]).filter(|link| !self.is_chosen(link));
        self.done.conflicts = left.count() as u64;
        self.done.errors.clone_from(&plan.errors);
        self.done.skipped = plan.of(&[Action::Skip]).count() as u64;
        self.done.total = self.done.skipped;
        for link in plan.of(&[Action::Copy]) {
            let size = grouped(link.size);
            self.fail(
                link,
                &format!("it would need a copy of {size} bytes; allow_copy does that"),
            );
        }
        if !plan.models_link.is_empty() {
            self.move_models_link()?;
        }
        self.done.removed = self.applier.take_away(&plan.broken)?;
        let mut position = 0;
        for part in work.chunks(BATCH) {
            watch.check()?;
            {
                let _held = self.applier.keeper.turn.hold();
                let again = self.batch(part)?;
                if !again.is_empty() {
                    self.batch(&again)?;
                }
            }
            position += part.len();
            watch.report(position, work.len());
        }
        if self.more_errors > 0 {
            let text = format!("{} more links could not be made.", self.more_errors);
            self.done.errors.push(text);
        }
        Ok(self.done)
    }

    fn is_chosen(&self, link: &PlannedLink) -> bool {
        link.action == Action::Conflict && self.resolution(link) != Resolution::Skip
    }

    fn resolution(&self, link: &PlannedLink) -> Resolution {
        self.resolutions
            .get(&link.model_id)
            .copied()
            .unwrap_or(Resolution::Skip)
    }

    fn fail(&mut self, link: &PlannedLink, reason: &str) {
        if self.done.errors.len() >= MAX_ERRORS {
            self.more_errors += 1;
            return;
        }
        let shown = display_name(name(&link.target));
        self.done
            .errors
            .push(format!("{shown} ({}): {reason}.", link.model_id));
    }

    /// Only ever a link into the library: its place is taken by a real folder.
    fn move_models_link(&mut self) -> Result<()> {
        const WHAT: &str = "Moving the link to the library aside";
        let models = &self.plan.place.models;
        let aside = format!("{models}.replaced-{}", random_hex(4));
        let moved = Replaced {
            target_path: self.store().kept(models),
            kept_path: self.store().kept(&aside),
            model_id: String::new(),
            moved_at: now(),
        };
        let _held = self.applier.keeper.turn.hold();
        self.store().begin(&[], &[moved])?;
        rename_new(Path::new(models), Path::new(&aside))
            .map_err(|failure| failure.into_error(Path::new(&aside), WHAT))?;
        make_folders(Path::new(models), FOLDER_MODE).during(WHAT)?;
        self.done.kept.push(Kept {
            target_path: models.clone(),
            backup_path: aside,
        });
        Ok(())
    }

    // -- one batch: the turn is held ---------------------------------------------------------------------------------

    /// Returns links that need another kind, to be tried again with that.
    fn batch(&mut self, links: &[PlannedLink]) -> Result<Vec<PlannedLink>> {
        self.applier.keeper.settle()?;
        let mut batch = self.prepared(links);
        let moves: Vec<Replaced> = batch.moves.values().cloned().collect();
        self.store().begin(&batch.rows, &moves)?;
        let mut again = Vec::new();
        for (row, link) in std::mem::take(&mut batch.rows).iter().zip(batch.links.clone()) {
            again.extend(self.make(&mut batch, row, &link));
        }
        sync_folders(batch.links.iter().map(|link| parent(&link.target))).during("Making links")?;
        self.store().finish(&batch.failed, &batch.unreplaced)?;
        Ok(again)
    }

    /// Rows for what can be made. Our own older links at these places go first, while their rows still stand.
    fn prepared(&mut self, links: &[PlannedLink]) -> Batch {
        let mut batch = Batch::default();
        for link in links {
            if !Path::new(&link.source).exists() {
                self.fail(link, "the model's file is gone");
            } else if !Path::new(&self.plan.place.folder).is_dir() {
                self.fail(link, "the version is gone");
            } else {
                match self.prepare(&mut batch, link) {
                    Ok(None) => {}
                    Ok(Some(row)) => {
                        if link.action == Action::Conflict {
                            batch.moves.insert(link.target.clone(), self.aside(link));
                        }
                        batch.rows.push(row);
                        batch.links.push(link.clone());
                    }
                    Err(error) => self.fail(link, &said(&error)),
                }
            }
        }
        batch
    }

    fn prepare(&mut self, batch: &mut Batch, link: &PlannedLink) -> Result<Option<Link>> {
        make_folders(Path::new(parent(&link.target)), FOLDER_MODE).during(CANNOT)?;
        if !self.make_room(link)? {
            return Ok(None);
        }
        self.row(batch, link).map(Some)
    }

    /// Whether the link can be made: nothing is there, or our own older link was, or what will be moved aside.
    fn make_room(&mut self, link: &PlannedLink) -> Result<bool> {
        let target = Path::new(&link.target);
        if link.action == Action::Conflict || !exists(target) {
            return Ok(true);
        }
        if let Some(row) = self.store().at(&link.target)? {
            if row.source_path == self.store().kept(&link.source) && is_made(&row, link) {
                // Somebody else has just applied the same plan.
                self.done.skipped += 1;
                self.done.total += 1;
                return Ok(false);
            }
            if link.action == Action::Update {
                let source = self.store().absolute(&row.source_path);
                linking::take_away(&row, &link.target, &source).during(CANNOT)?;
            }
        }
        if exists(target) {
            self.taken(link);
            return Ok(false);
        }
        Ok(true)
    }

    fn taken(&mut self, link: &PlannedLink) {
        self.done.conflicts += 1;
        self.fail(link, "something else has taken its place");
    }

    fn row(&self, batch: &mut Batch, link: &PlannedLink) -> Result<Link> {
        let place = &self.plan.place;
        let mut row = new_link(
            &link.model_id,
            self.store().kept(&link.source),
            self.store().kept(&link.target),
            link.kind.as_str(),
            (&place.app.id, place.version()),
            link.external,
        );
        match link.kind {
            LinkKind::Symlink => row.link_text.clone_from(&link.text),
            LinkKind::Hardlink => row.inode = inode_of(&fs::metadata(&link.source).during(CANNOT)?),
            LinkKind::Copy => {
                let (temporary, status) = linking::prepare_copy(&link.source, &link.target)?;
                batch.copies.insert(link.target.clone(), temporary);
                (row.inode, row.size, row.mtime_ns) =
                    (inode_of(&status), size_of(&status), mtime_ns(&status));
            }
        }
        Ok(row)
    }

    fn aside(&self, link: &PlannedLink) -> Replaced {
        let kept = if self.resolution(link) == Resolution::Overwrite {
            format!(
                "{}/{}",
                self.kept_folder,
                &link.target[self.plan.place.models.len() + 1..]
            )
        } else {
            old_name(&link.target)
        };
        Replaced {
            target_path: self.store().kept(&link.target),
            kept_path: self.store().kept(&kept),
            model_id: link.model_id.clone(),
            moved_at: now(),
        }
    }

    /// Make one link, or note that it failed. Returns it with another kind when the place knows no such links.
    fn make(&mut self, batch: &mut Batch, row: &Link, link: &PlannedLink) -> Option<PlannedLink> {
        let failure = match self.made(batch, row, link) {
            Ok(()) => {
                self.count(link);
                return None;
            }
            Err(failure) => failure,
        };
        batch.failed.push(row.target_path.clone());
        match failure {
            Failure::OtherKind => return self.other_kind(link),
            Failure::Refused(Error::AlreadyExists(_)) => self.taken(link),
            Failure::Refused(error) => self.fail(link, &said(&error)),
        }
        None
    }

    fn made(&mut self, batch: &mut Batch, row: &Link, link: &PlannedLink) -> Result<(), Failure> {
        if let Some(moved) = batch.moves.shift_remove(&link.target) {
            self.move_aside(&moved, link).inspect_err(|_| {
                batch.unreplaced.push(moved.kept_path.clone());
            })?;
        }
        if let Some(temporary) = batch.copies.get(&link.target) {
            return Ok(linking::publish_copy(temporary, &link.target)?);
        }
        linking::make(row, &link.target, &link.source).map_err(|failure| match failure {
            MakeFailure::Unsupported => Failure::OtherKind,
            MakeFailure::Taken => Failure::Refused(Error::AlreadyExists(String::new())),
            MakeFailure::Io(error) => Failure::Refused(disk_error(&error, CANNOT)),
        })
    }

    fn move_aside(&mut self, moved: &Replaced, link: &PlannedLink) -> Result<()> {
        let kept = self.store().absolute(&moved.kept_path);
        if stamp(&link.target).during(CANNOT)? != link.stamp {
            let text = format!("{} has changed.", name(&link.target));
            return Err(Error::AlreadyExists(text));
        }
        make_folders(Path::new(parent(&kept)), FOLDER_MODE).during(CANNOT)?;
        rename_new(Path::new(&link.target), Path::new(&kept))
            .map_err(|failure| failure.into_error(Path::new(&kept), CANNOT))?;
        self.done.kept.push(Kept {
            target_path: link.target.clone(),
            backup_path: kept,
        });
        if self.resolution(link) == Resolution::Overwrite {
            self.done.overwritten += 1;
        } else {
            self.done.renamed += 1;
        }
        Ok(())
    }

    fn other_kind(&mut self, link: &PlannedLink) -> Option<PlannedLink> {
        let volumes = Arc::clone(&self.applier.volumes);
        let device = device_of(parent(&link.target));
        let is_symlink = link.kind == LinkKind::Symlink;
        volumes.lacks(device, is_symlink, !is_symlink);
        let mut other = link.clone();
        other.text.clear();
        if link.action == Action::Conflict {
            // What was in the way has been moved by now.
            other.action = Action::Create;
        }
        if volumes.ability(device).hardlinks && !link.external {
            other.kind = LinkKind::Hardlink;
            return Some(other);
        }
        let size = fs::metadata(&link.source).map_or(0, |status| status.len());
        if self.allow_copy {
            other.kind = LinkKind::Copy;
            other.size = size;
            return Some(other);
        }
        let bytes = grouped(size);
        let reason =
            format!("no link can be made there; it would need a copy of {bytes} bytes, allow_copy does that");
        self.fail(link, &reason);
        None
    }

    fn count(&mut self, link: &PlannedLink) {
        self.done.total += 1;
        self.done.created += 1;
        self.done.updated += u64::from(link.action == Action::Update);
        if link.kind == LinkKind::Copy {
            self.done.copied_bytes += link.size;
        }
    }
}

/// Why one link was not made.
enum Failure {
    /// The place knows no such links.
    OtherKind,
    Refused(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// A new folder for what is moved aside, on the volume of the models and outside of what the app looks through.
#[must_use]
pub fn kept_folder(models: &str) -> String {
    let moment = now()[..19].replace(':', "");
    format!("{models}/{KEPT_FOLDER}/{moment}-{}", random_hex(3))
}

fn old_name(target: &str) -> String {
    let first = format!("{target}.old");
    let names =
        std::iter::once(first.clone()).chain((1_u64..).map(|number| format!("{target}.old.{number}")));
    names
        .into_iter()
        .find(|name| !exists(Path::new(name)))
        .unwrap_or(first)
}

/// As the plan noted it: what is there is still what the caller decided about.
fn stamp(path: &str) -> std::io::Result<String> {
    let status: Metadata = fs::symlink_metadata(path)?;
    Ok(match read_link(path) {
        Some(text) => format!("link {text}"),
        None => stamp_of(&status),
    })
}

/// Whether a link is there already, just as it is planned.
fn is_made(row: &Link, link: &PlannedLink) -> bool {
    match link.kind {
        LinkKind::Symlink => read_link(&link.target).is_some_and(|text| text == link.text),
        LinkKind::Hardlink => match (fs::metadata(&link.target), fs::metadata(&link.source)) {
            (Ok(one), Ok(other)) => is_same(&one, &other),
            _ => false,
        },
        LinkKind::Copy => link.action == Action::Create && is_ours(row, &link.target, &link.source),
    }
}

fn said(error: &Error) -> String {
    error.to_string().trim_end_matches('.').to_owned()
}
