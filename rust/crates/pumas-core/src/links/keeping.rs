//! Keeps registry and links in step when models go and come back, and after a kill. It is there from the start.
//!
//! A link's row is written before the link is made. [`LinkKeeper::recover`] asks the disk about every row whose making was
//! not finished, and about every model that was on its way into the trash or back: what is there and ours is registered,
//! and nothing else is. The keeper is the library's [`Companions`].

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use crate::config::Layout;
use crate::error::Result;
use crate::library::companions::{Companions, Departure};
use crate::library::facets::UsedBy;
use crate::library::trash::MODEL;
use crate::links::linking::{LinkKind, MakeFailure, is_ours, make, symlink_text, take_away};
use crate::links::paths::{name, parent, real};
use crate::links::rows::{Link, Parked, new_link};
use crate::links::store::LinkStore;
use crate::links::volumes::device_of;
use crate::storage::files::{
    During as _, FOLDER_MODE, disk_error, exists, fsync_folder, make_folders, remove_stale_temporaries,
};
use crate::storage::locked;

const LOOKING: &str = "Looking after the links";

/// How many links, by app and version (a tag without leading v).
pub type Changes = BTreeMap<(String, String), u64>;

type AskRemoved = Box<dyn Fn(&str, &str) -> bool + Send + Sync>;
type Told = Box<dyn Fn(&Changes, &Changes) + Send + Sync>;

/// Held while rows and links change; never for long. What holds it may be moved about, unlike a mutex's guard.
#[derive(Clone, Default)]
pub struct Turn(Arc<(Mutex<bool>, Condvar)>);

/// Gives the turn back when it is dropped.
pub struct Held(Turn);

impl Turn {
    /// Wait for it. Who has it must not ask again.
    #[must_use]
    pub fn hold(&self) -> Held {
        let (taken, freed) = &*self.0;
        let waited = freed.wait_while(locked(taken), |taken| *taken);
        *waited.unwrap_or_else(PoisonError::into_inner) = true;
        Held(self.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (taken, freed) = &*self.0.0;
        *locked(taken) = false;
        freed.notify_one();
    }
}

struct Shared {
    root: PathBuf,
    trash: PathBuf,
    store: Arc<LinkStore>,
    is_removed: OnceLock<AskRemoved>,
    told: OnceLock<Told>,
}

/// Cheap to clone. Calls block.
#[derive(Clone)]
pub struct LinkKeeper {
    shared: Arc<Shared>,
    /// See [`Turn`].
    pub turn: Turn,
}

impl LinkKeeper {
    /// Of a launcher root and its registry.
    #[must_use]
    pub fn new(layout: &Layout, store: &Arc<LinkStore>) -> Self {
        let shared = Shared {
            root: layout.root().to_path_buf(),
            trash: layout.trash(),
            store: Arc::clone(store),
            is_removed: OnceLock::new(),
            told: OnceLock::new(),
        };
        Self {
            shared: Arc::new(shared),
            turn: Turn::default(),
        }
    }

    /// `call(app_id, tag)` says whether a version lies in the trash and may come back. Asked from any thread.
    pub fn ask_removed(&self, call: impl Fn(&str, &str) -> bool + Send + Sync + 'static) {
        let _ = self.shared.is_removed.set(Box::new(call));
    }

    /// Have `call(made, removed)` done from any thread, after links came or went with their model.
    pub fn tell(&self, call: impl Fn(&Changes, &Changes) + Send + Sync + 'static) {
        let _ = self.shared.told.set(Box::new(call));
    }

    fn store(&self) -> &LinkStore {
        &self.shared.store
    }

    fn told(&self, made: &Changes, removed: &Changes) {
        if let Some(told) = self.shared.told.get() {
            told(made, removed);
        }
    }

    /// Forget the links of a version (its folder, absolute) that is gone for good.
    ///
    /// # Errors
    /// The registry cannot be read or written.
    pub fn version_lost(&self, folder: &str) -> Result<()> {
        let _held = self.turn.hold();
        if self.store().exists() && !exists(Path::new(folder)) {
            self.store().forget_below(folder)?;
        }
        Ok(())
    }

    /// Whether a link lies in a version that is in the trash: neither can be looked at, and both may come back.
    fn is_away(&self, target_path: &str, app_id: &str) -> bool {
        let parts: Vec<&str> = target_path.split('/').collect();
        if parts[0].is_empty() || parts.len() < 3 || self.shared.root.join(parts[0]).join(parts[1]).is_dir() {
            return false;
        }
        self.shared
            .is_removed
            .get()
            .is_some_and(|is_removed| is_removed(app_id, parts[1]))
    }

    fn is_there(&self, row: &Link) -> bool {
        let store = self.store();
        is_ours(
            row,
            &store.absolute(&row.target_path),
            &store.absolute(&row.source_path),
        )
    }

    fn is_gone_for_good(&self, row: &Link) -> bool {
        !self.is_there(row) && !self.is_away(&row.target_path, &row.app_id)
    }

    fn forget_gone<'a>(&self, rows: impl IntoIterator<Item = &'a Link>) -> Result<()> {
        let gone = rows.into_iter().filter(|row| self.is_gone_for_good(row));
        let ids: Vec<i64> = gone.map(|row| row.link_id).collect();
        self.store().forget(&ids)
    }

    /// Remove what is ours; a link that cannot be removed stays, dangling and registered.
    fn take_away<'a>(&self, rows: impl IntoIterator<Item = &'a Link>) -> Result<Vec<Link>> {
        let mut gone = Vec::new();
        for row in rows {
            let target = self.store().absolute(&row.target_path);
            match take_away(row, &target, &self.store().absolute(&row.source_path)) {
                Ok(true) => gone.push(row.clone()),
                Ok(false) => {}
                Err(error) => {
                    let error = disk_error(&error, name(&target));
                    tracing::warn!("a link stays without its model: {error}");
                }
            }
        }
        self.sync_folders_of(&gone)?;
        Ok(gone)
    }

    fn sync_folders_of(&self, rows: &[Link]) -> Result<()> {
        let targets: Vec<String> = rows
            .iter()
            .map(|row| self.store().absolute(&row.target_path))
            .collect();
        sync_folders(targets.iter().map(|target| parent(target))).during(LOOKING)
    }

    /// How many links are made again. Those that the disk refused are tried again at the next start, those of a version in
    /// the trash when it is back.
    fn bring_back(&self, trash_id: &str) -> Result<usize> {
        let parked = self.store().parked(Some(trash_id))?;
        if parked.is_empty() {
            return Ok(0);
        }
        let (away, here): (Vec<Parked>, Vec<Parked>) = parked
            .into_iter()
            .partition(|one| self.is_away(&one.target_path, &one.app_id));
        let (made, mut keep) = self.make_again(&here)?;
        keep.extend(away.into_iter().map(|one| one.target_path));
        self.store().unpark(trash_id, &keep)?;
        Ok(made)
    }

    /// Links whose file is there, where nothing else is by now: (how many, places that the disk refused).
    fn make_again(&self, parked: &[Parked]) -> Result<(usize, HashSet<String>)> {
        let rows: Vec<Link> = parked.iter().filter_map(|one| self.row_of(one)).collect();
        if rows.is_empty() {
            return Ok((0, HashSet::new()));
        }
        self.store().begin(&rows, &[])?;
        let (mut failed, mut refused) = (Vec::new(), HashSet::new());
        for row in &rows {
            let target = self.store().absolute(&row.target_path);
            let made = make_folders(Path::new(parent(&target)), FOLDER_MODE)
                .map_err(MakeFailure::Io)
                .and_then(|_| make(row, &target, &self.store().absolute(&row.source_path)));
            let Err(failure) = made else { continue };
            if self.is_there(row) {
                continue;
            }
            failed.push(row.target_path.clone());
            if !matches!(failure, MakeFailure::Taken) {
                refused.insert(row.target_path.clone());
                tracing::warn!("a link could not be made again: {}", name(&target));
            }
        }
        self.sync_folders_of(&rows)?;
        self.store().finish(&failed, &[])?;
        let made: Vec<&Link> = rows
            .iter()
            .filter(|row| !failed.contains(&row.target_path))
            .collect();
        self.told(&count(made.iter().copied()), &Changes::new());
        Ok((made.len(), refused))
    }

    fn row_of(&self, one: &Parked) -> Option<Link> {
        let (source, target) = (
            self.store().absolute(&one.source_path),
            self.store().absolute(&one.target_path),
        );
        let status = fs::metadata(&source).ok()?;
        if !Path::new(parent(parent(&target))).is_dir() {
            return None;
        }
        let external = device_of(&source) != device_of(&target);
        let mut row = new_link(
            &one.model_id,
            one.source_path.clone(),
            one.target_path.clone(),
            &one.link_type,
            (&one.app_id, &one.app_version),
            external,
        );
        row.created_at.clone_from(&one.created_at);
        if row.kind() == LinkKind::Hardlink {
            row.inode = status.ino().cast_signed();
        } else {
            row.link_text = symlink_text(self.store().root(), &source, &real(parent(&target)), external);
        }
        Some(row)
    }

    // -- after a crash -----------------------------------------------------------------------------------------------

    /// Finish what a killed process began: at start, after the trash has done the same; and when a version is back.
    ///
    /// # Errors
    /// The registry cannot be read or written.
    pub fn recover(&self) -> Result<()> {
        if !self.store().database.path().exists() {
            return Ok(());
        }
        let _held = self.turn.hold();
        self.settle()?;
        let parked = self.store().parked(None)?;
        let trash_ids: BTreeSet<String> = parked.into_iter().map(|one| one.trash_id).collect();
        trash_ids
            .iter()
            .try_for_each(|trash_id| self.settle_parked(trash_id))
    }

    /// Ask the disk about links whose making was not finished. The caller holds the turn.
    ///
    /// # Errors
    /// The registry cannot be read or written.
    pub fn settle(&self) -> Result<()> {
        let rows = self.store().making()?;
        if rows.is_empty() {
            return Ok(());
        }
        let targets = rows.iter().map(|row| self.store().absolute(&row.target_path));
        let folders: BTreeSet<String> = targets.map(|target| parent(&target).to_owned()).collect();
        for folder in folders {
            let _ = remove_stale_temporaries(Path::new(&folder));
        }
        let failed: Vec<String> = rows
            .iter()
            .filter(|row| !self.is_there(row))
            .map(|row| row.target_path.clone())
            .collect();
        self.store().finish(&failed, &[])
    }

    fn settle_parked(&self, trash_id: &str) -> Result<()> {
        if !exists(&self.shared.trash.join(trash_id).join(MODEL)) {
            // The model never left or is back; or the trash was emptied, and then there is nothing to link to.
            return self.bring_back(trash_id).map(|_| ());
        }
        let parked = self.store().parked(Some(trash_id))?;
        let places: HashSet<&str> = parked.iter().map(|one| one.target_path.as_str()).collect();
        let ids: Vec<String> = parked.iter().map(|one| one.model_id.clone()).collect();
        let mut rows = self.store().of_models(&ids)?;
        rows.retain(|row| places.contains(row.target_path.as_str()));
        let gone = self.take_away(&rows)?;
        self.told(&Changes::new(), &count(&gone));
        self.forget_gone(&rows)
    }
}

impl Companions for LinkKeeper {
    fn used_by(&self) -> Result<UsedBy> {
        self.store().models_by_app()
    }

    fn count(&self, model_ids: &[String]) -> Result<usize> {
        Ok(self.store().of_models(model_ids)?.len())
    }

    fn leaving(&self, trash_id: &str, model_ids: &[String]) -> Result<Box<dyn Departure>> {
        let held = self.turn.hold();
        let rows = self.store().of_models(model_ids)?;
        let mut departing = Departing {
            keeper: self.clone(),
            trash_id: trash_id.to_owned(),
            rows,
            gone: Vec::new(),
            parked: false,
            _held: held,
        };
        if !departing.rows.is_empty() {
            let links: Vec<&Link> = departing.links().collect();
            self.store().park(trash_id, &links)?;
            departing.parked = true;
            departing.gone = self.take_away(departing.links())?;
        }
        Ok(Box::new(departing))
    }

    /// Where something else has taken a link's place meanwhile, that stays.
    fn returned(&self, trash_id: &str) -> Result<usize> {
        let _held = self.turn.hold();
        self.bring_back(trash_id)
    }

    fn forgotten(&self, trash_id: &str) -> Result<()> {
        if self.store().exists() {
            self.store().unpark(trash_id, &HashSet::new())?;
        }
        Ok(())
    }
}

/// Links whose models are on their way into the trash. Made again when they do not get there.
struct Departing {
    keeper: LinkKeeper,
    trash_id: String,
    rows: Vec<Link>,
    gone: Vec<Link>,
    /// The links are noted as parked, and some may be gone.
    parked: bool,
    _held: Held,
}

impl Departing {
    fn links(&self) -> impl Iterator<Item = &Link> {
        self.rows.iter().filter(|row| row.kind() != LinkKind::Copy)
    }

    fn copies(&self) -> impl Iterator<Item = &Link> {
        self.rows.iter().filter(|row| row.kind() == LinkKind::Copy)
    }
}

impl Departure for Departing {
    fn count(&self) -> usize {
        self.gone.len() + self.copies().count()
    }

    fn complete(mut self: Box<Self>) {
        self.parked = false;
        let keeper = self.keeper.clone();
        // A copy is not made again by itself, so it goes last.
        let done = keeper.take_away(self.copies()).and_then(|copies| {
            self.gone.extend(copies);
            keeper.told(&Changes::new(), &count(&self.gone));
            keeper.forget_gone(&self.rows)
        });
        if let Err(error) = done {
            // The model has gone; the next start forgets them.
            tracing::warn!("links of a deleted model are still in the registry: {error}");
        }
    }
}

impl Drop for Departing {
    fn drop(&mut self) {
        if self.parked
            && let Err(error) = self.keeper.bring_back(&self.trash_id)
        {
            tracing::warn!("links of a model that stayed could not be made again: {error}");
        }
    }
}

fn count<'a>(rows: impl IntoIterator<Item = &'a Link>) -> Changes {
    let mut changes = Changes::new();
    for row in rows {
        *changes
            .entry((row.app_id.clone(), row.app_version.clone()))
            .or_default() += 1;
    }
    changes
}

/// Make the links in these folders durable. A folder that is gone, or that a file took the place of, has none.
pub(crate) fn sync_folders<'a>(folders: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
    let folders: BTreeSet<&str> = folders.into_iter().collect();
    for folder in folders {
        match fsync_folder(Path::new(folder)) {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(())
}
