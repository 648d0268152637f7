//! Planning, applying and health put together; what each promises is written there. Calls block and come from worker
//! threads.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::apps::Apps;
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::installed::Installed;
use crate::library::library_index::{LibraryIndex, LibraryState};
use crate::links::applying::{Applier, Watch, kept_folder};
use crate::links::health::{Examiner, Health, is_inside, recovered_rows};
use crate::links::keeping::LinkKeeper;
use crate::links::paths::{name, parent, text};
use crate::links::places::{Place, Places};
use crate::links::planning::{Planner, is_there};
use crate::links::rows::Replaced;
use crate::links::rules::write_default;
use crate::links::store::LinkStore;
use crate::links::values::{Allowed, Applied, Plan, Resolution};
use crate::links::volumes::{Volumes, device_of};
use crate::storage::clock::now;
use crate::storage::files::{During as _, FOLDER_MODE, make_folders, rename_new};
use crate::system::sandbox;
use crate::text::cut;

const REBUILT: &str = "rebuilt_after";

/// What became of orphaned links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// How many went.
    pub removed: u64,
    /// Links that we did not make and that nobody named.
    pub kept: Vec<String>,
}

/// See the module.
pub struct LinkWork {
    layout: Arc<Layout>,
    store: Arc<LinkStore>,
    keeper: LinkKeeper,
    index: Arc<LibraryIndex>,
    /// Where models go.
    pub places: Places,
    planner: Planner,
    applier: Applier,
    examiner: Examiner,
}

impl LinkWork {
    /// Opens nothing.
    #[must_use]
    pub fn new(
        layout: &Arc<Layout>,
        apps: Arc<Apps>,
        installed: Arc<dyn Installed>,
        store: &Arc<LinkStore>,
        keeper: LinkKeeper,
        index: Arc<LibraryIndex>,
    ) -> Self {
        let volumes = Arc::new(Volumes::default());
        Self {
            places: Places::new(apps, installed),
            planner: Planner::new(
                Arc::clone(layout),
                Arc::clone(store),
                Arc::clone(&index),
                Arc::clone(&volumes),
            ),
            applier: Applier::new(Arc::clone(store), keeper.clone(), volumes),
            examiner: Examiner::new(Arc::clone(layout), Arc::clone(store)),
            layout: Arc::clone(layout),
            store: Arc::clone(store),
            keeper,
            index,
        }
    }

    // -- plan and apply ----------------------------------------------------------------------------------------------

    /// See [`Planner::plan`].
    ///
    /// # Errors
    /// `UnknownApp`, `InvalidInput`, `VersionNotFound`: there is no such place; and see there.
    pub fn plan(
        &self,
        app_id: &str,
        tag: &str,
        model_ids: Option<&[String]>,
        allowed: Allowed,
    ) -> Result<Plan> {
        let place = self.places.get(app_id, tag)?;
        self.after_loss()?;
        let mut plan = self.planner.plan(place, model_ids, allowed)?;
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if sandbox::detect(Path::new("/"), is_set).is_sandboxed() {
            let warning =
                "The sidecar runs in a sandbox; apps outside of it may see these paths differently.";
            plan.warnings.push(warning.to_owned());
        }
        Ok(plan)
    }

    /// As [`LinkWork::plan`], after what a killed process began is settled.
    ///
    /// # Errors
    /// `PlanOutdated`: it is not the plan with `plan_id`; and see there.
    pub fn plan_for_apply(
        &self,
        app_id: &str,
        tag: &str,
        plan_id: Option<&str>,
        model_ids: Option<&[String]>,
        allowed: Allowed,
    ) -> Result<Plan> {
        {
            let _held = self.keeper.turn.hold();
            self.keeper.settle()?;
        }
        let plan = self.plan(app_id, tag, model_ids, allowed)?;
        if plan_id.is_some_and(|id| plan.id() != id) {
            return Err(Error::PlanOutdated);
        }
        Ok(plan)
    }

    /// See [`Applier::apply`].
    ///
    /// # Errors
    /// See there; and the app's rules cannot be written.
    pub fn apply(
        &self,
        plan: &Plan,
        resolutions: &HashMap<String, Resolution>,
        allow_copy: bool,
        watch: &dyn Watch,
    ) -> Result<Applied> {
        if plan.from_app {
            write_default(&self.layout, &plan.place.app, &now())?;
        }
        self.applier.apply(plan, resolutions, allow_copy, watch)
    }

    // -- health ------------------------------------------------------------------------------------------------------

    /// How the links are. A version that is not installed has no orphans.
    ///
    /// # Errors
    /// `UnknownApp`, `InvalidInput`, and what reading the library or the registry refuses.
    pub fn health(&self, app_id: &str, tag: Option<&str>) -> Result<Health> {
        self.places.require_app(app_id)?;
        let place = match tag {
            None => None,
            Some(tag) => self.places.find(app_id, tag)?,
        };
        if !is_there(&self.layout.library()) && !self.index.mappable()?.is_empty() {
            let warning = "The library's drive is away, and the registry of links with it.";
            return Ok(Health {
                warnings: vec![warning.to_owned()],
                ..Health::default()
            });
        }
        self.after_loss()?;
        self.examiner.examine(self.planned(place)?.as_ref())
    }

    fn planned(&self, place: Option<Place>) -> Result<Option<Plan>> {
        place
            .filter(|place| !place.models.is_empty())
            .map(|place| self.planner.plan(place, None, Allowed::default()))
            .transpose()
    }

    /// Remove links that lead nowhere, and rows of links that are gone. Returns how many rows went.
    ///
    /// Nothing is removed while the library, or the drive of a file, is away.
    ///
    /// # Errors
    /// What reading the library or the registry refuses.
    pub fn clean_broken(&self) -> Result<u64> {
        self.index.reconcile()?;
        if self.index.state() == LibraryState::Offline {
            return Ok(0);
        }
        {
            let _held = self.keeper.turn.hold();
            self.keeper.settle()?;
        }
        let broken = self.examiner.examine(None)?.broken;
        self.applier.take_away(&broken)?;
        Ok(broken.len() as u64)
    }

    /// Remove links of ours that no rule wants, and links into the library that are named in `paths`. A named link that we
    /// did not make is moved aside, not deleted.
    ///
    /// # Errors
    /// `UnknownApp`. `InvalidInput`: a path that is no orphan of this version. What the disk refuses.
    pub fn remove_orphans(&self, app_id: &str, tag: &str, paths: &[String]) -> Result<Removed> {
        let place = self.places.find(app_id, tag)?;
        let models = place
            .as_ref()
            .map(|place| place.models.clone())
            .unwrap_or_default();
        let health = self.examiner.examine(self.planned(place)?.as_ref())?;
        let unknown = paths.iter().filter(|path| !health.orphaned.contains(path)).min();
        if let Some(path) = unknown {
            let reason = format!("{} is no orphaned link of this version", cut(name(path), 100));
            return Err(Error::invalid("paths", reason));
        }
        let mut removed = self.applier.take_away(&health.removable)?;
        let is_ours = |path: &String| health.removable.iter().any(|one| one.target == *path);
        let (named, kept): (Vec<&String>, Vec<&String>) = health
            .orphaned
            .iter()
            .filter(|path| !is_ours(path))
            .partition(|path| paths.contains(path));
        for path in named {
            if is_inside(&self.layout, path) {
                self.move_aside(&models, path)?;
                removed += 1;
            }
        }
        Ok(Removed {
            removed,
            kept: kept.into_iter().cloned().collect(),
        })
    }

    fn move_aside(&self, models: &str, path: &str) -> Result<()> {
        const WHAT: &str = "Moving a link aside";
        let kept = format!("{}/{}", kept_folder(models), &path[models.len() + 1..]);
        let moved = Replaced {
            target_path: self.store.kept(path),
            kept_path: self.store.kept(&kept),
            model_id: String::new(),
            moved_at: now(),
        };
        let _held = self.keeper.turn.hold();
        self.store.begin(&[], &[moved])?;
        make_folders(Path::new(parent(&kept)), FOLDER_MODE).during(WHAT)?;
        rename_new(Path::new(path), Path::new(&kept))
            .map_err(|failure| failure.into_error(Path::new(&kept), WHAT))
    }

    // -- after the registry was lost ---------------------------------------------------------------------------------

    /// Register our links again when a damaged registry was put aside: those that are as we would make them.
    fn after_loss(&self) -> Result<()> {
        self.store.prepare()?;
        let Some(lost) = self.store.put_aside().pop() else {
            return Ok(());
        };
        if self.store.setting(REBUILT)? == lost {
            return Ok(());
        }
        let _held = self.keeper.turn.hold();
        let mut plans = Vec::new();
        for place in self.places.all()? {
            plans.extend(self.planned(Some(place))?);
        }
        self.store.begin(&recovered_rows(&self.store, &plans)?, &[])?;
        self.store.finish(&[], &[])?;
        self.store.set(REBUILT, &lost)
    }

    // -- questions ---------------------------------------------------------------------------------------------------

    /// (library, models folder) when they lie on different volumes.
    ///
    /// # Errors
    /// `UnknownApp`, `InvalidInput`.
    pub fn across(&self, app_id: &str, tag: &str) -> Result<Option<(String, String)>> {
        let place = self.places.find(app_id, tag)?;
        let Some(place) = place.filter(|place| !place.models.is_empty()) else {
            return Ok(None);
        };
        let library = text(&self.layout.library());
        let is_across = device_of(&library) != device_of(&place.models);
        Ok(is_across.then_some((library, place.models)))
    }
}

/// The words of a caller.
///
/// # Errors
/// `InvalidInput`: one is none of `skip`, `overwrite`, `rename`.
pub fn resolutions_of<'a>(
    texts: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<HashMap<String, Resolution>> {
    texts
        .into_iter()
        .map(|(model_id, word)| {
            let resolution = Resolution::of(word).ok_or_else(|| {
                let reason = format!("{} must be skip, overwrite or rename", cut(model_id, 100));
                Error::invalid("resolutions", reason)
            })?;
            Ok((model_id.clone(), resolution))
        })
        .collect()
}
