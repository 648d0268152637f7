//! What would have to be done so that a version of an app finds the library's models. Looks, and changes nothing.
//!
//! Each file of each model is held against the rules; what they want is held against the app's folder and the registry.
//! The same library, rules and folder give the same plan, and names once given stay: a plan that was carried out leaves
//! nothing to do. Foreign things in the way are conflicts. `applying` carries plans out.

mod files;
mod folders;
pub(crate) mod looking;

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::config::Layout;
use crate::error::{Error, Result};
use crate::library::library_index::{LibraryIndex, LibraryState};
use crate::library::store::Mappable;
use crate::links::linking::{LinkKind, library_of};
use crate::links::paths::text;
use crate::links::places::Place;
use crate::links::planning::files::{Chooser, File, Files, Notes};
use crate::links::planning::folders::{Folder, Folders, ModelsLink};
use crate::links::rows::Link;
use crate::links::rules::{Rules, load_rules};
use crate::links::store::LinkStore;
use crate::links::values::{Action, Allowed, Plan, PlannedLink};
use crate::links::volumes::{Ability, Volumes};
use crate::text::grouped;

/// So many models that are left out are named.
const SHOWN: usize = 20;

/// Registered links by their absolute places, in order of these.
type ByTarget = IndexMap<String, Link>;

/// Calls block.
pub struct Planner {
    layout: Arc<Layout>,
    store: Arc<LinkStore>,
    index: Arc<LibraryIndex>,
    volumes: Arc<Volumes>,
}

impl Planner {
    /// Of a library and a registry.
    #[must_use]
    pub fn new(
        layout: Arc<Layout>,
        store: Arc<LinkStore>,
        index: Arc<LibraryIndex>,
        volumes: Arc<Volumes>,
    ) -> Self {
        Self {
            layout,
            store,
            index,
            volumes,
        }
    }

    /// The plan for a version as it is now.
    ///
    /// `model_ids`: only these; None means all, and then links that are not wanted any more are seen too.
    ///
    /// # Errors
    /// `LibraryOffline`: the library's drive is away. What reading the index or the registry refuses.
    pub fn plan(&self, place: Place, model_ids: Option<&[String]>, allowed: Allowed) -> Result<Plan> {
        let models = self.listed()?;
        let wanted: Option<HashSet<&str>> = model_ids.map(|ids| ids.iter().map(String::as_str).collect());
        let run = Run {
            library: text(&self.layout.library()),
            named_library: library_of(self.store.root()),
            planner: self,
            plan: Plan::new(place),
            allowed,
        };
        run.plan(models, wanted.as_ref())
    }

    fn listed(&self) -> Result<Vec<Mappable>> {
        let models = self.index.mappable()?;
        let is_away = self.index.state() == LibraryState::Offline
            || (!models.is_empty() && !is_there(&self.layout.library()));
        if is_away {
            return Err(Error::LibraryOffline(
                "The library's drive is away; nothing was looked at or changed.".to_owned(),
            ));
        }
        Ok(models)
    }
}

struct Run<'a> {
    planner: &'a Planner,
    library: String,
    named_library: String,
    plan: Plan,
    allowed: Allowed,
}

impl Run<'_> {
    fn plan(mut self, models: Vec<Mappable>, model_ids: Option<&HashSet<&str>>) -> Result<Plan> {
        let place = self.plan.place.clone();
        if place.models.is_empty() {
            let error = format!("{} takes no models by links.", place.app.name);
            self.plan.errors.push(error);
            return Ok(self.plan);
        }
        let rules = load_rules(&self.planner.layout, &place.app, place.version())?;
        self.plan.from_app = rules.from_app;
        self.plan.warnings.extend(rules.warnings.iter().cloned());
        if rules.rules.is_empty() {
            let error = format!("There are no mapping rules for {} {}.", place.app.name, place.tag);
            self.plan.errors.push(error);
        }
        if let Err(reason) = self.look_at_models_folder(&place) {
            self.plan.errors.push(reason);
            return Ok(self.plan);
        }
        let store = &self.planner.store;
        let rows = store.below(&place.models)?;
        let by_target: ByTarget = rows
            .into_iter()
            .map(|row| (store.absolute(&row.target_path), row))
            .collect();
        let wanted = models
            .into_iter()
            .filter(|model| model_ids.is_none_or(|ids| ids.contains(model.id.as_str())));
        let notes = self.add_links(wanted, &rules, &by_target);
        self.look_at_rest(&by_target, model_ids, &notes.unread);
        self.warn(&notes.excluded);
        Ok(self.plan)
    }

    /// Fails with the reason why no links can be planned there.
    fn look_at_models_folder(&mut self, place: &Place) -> std::result::Result<(), String> {
        match folders::models_link(place, &self.library)? {
            ModelsLink::None => {}
            ModelsLink::IntoLibrary(text) => self.plan.models_link = text,
            ModelsLink::Elsewhere(text) => {
                self.plan.foreign_link.clone_from(&text);
                if !self.allowed.replace_models_link {
                    return Err(format!(
                        "The models folder of {} is a link to {text}, so nothing is linked there; replace_models_link \
                         puts a folder in its place and keeps the link beside that.",
                        place.tag
                    ));
                }
                self.plan.models_link = text;
            }
        }
        Ok(())
    }

    /// Plans what the rules want. Returns which models are left out.
    fn add_links(
        &mut self,
        models: impl Iterator<Item = Mappable>,
        rules: &Rules,
        by_target: &ByTarget,
    ) -> Notes {
        let known = self.known_names(by_target);
        let mut folders = Folders::new(
            self.planner.layout.root(),
            &self.plan.place.models,
            !self.plan.models_link.is_empty(),
            &self.named_library,
            &self.planner.volumes,
            known,
        );
        let mut files = Files::new(&self.planner.layout, &self.plan.place);
        let mut wanted = wanted(models, rules, &mut files, &mut folders);
        let mut notes = files.into_notes();
        self.plan.warnings.append(&mut notes.warnings);
        self.plan.warnings.extend(folders.take_warnings());
        wanted.sort_by_key(|(file, folder)| !folders.at(*folder).known.contains_key(&file.source));
        for (file, folder) in wanted {
            let planned = self.classify(&file, folders.at_mut(folder), by_target);
            self.plan.links.push(planned);
        }
        self.plan
            .links
            .sort_by(|one, other| one.target.cmp(&other.target));
        notes
    }

    /// A link keeps the name that it was once given: by folder and source.
    fn known_names(&self, by_target: &ByTarget) -> IndexMap<String, IndexMap<String, String>> {
        let mut known: IndexMap<String, IndexMap<String, String>> = IndexMap::new();
        for (target, row) in by_target {
            let (folder, name) = target.rsplit_once('/').unwrap_or_default();
            known
                .entry(folder.to_owned())
                .or_default()
                .entry(self.planner.store.absolute(&row.source_path))
                .or_insert_with(|| name.to_owned());
        }
        known
    }

    fn classify(&self, file: &File, folder: &mut Folder, by_target: &ByTarget) -> PlannedLink {
        let name = folder.name_for(file);
        let target = format!("{}/{name}", folder.path);
        let external = file.device != folder.device;
        let kind = kind_of(folder.ability, external);
        let library = if external {
            &self.named_library
        } else {
            &folder.way
        };
        let text = if file.inside.is_empty() {
            file.source.clone()
        } else {
            format!("{library}/{}", file.inside)
        };
        let found = self.look(file, folder, &name, &target, &text, by_target.get(&target));
        let (mut action, mut reason) = (found.action, found.reason);
        let is_copy = kind == LinkKind::Copy;
        if is_copy && matches!(action, Action::Create | Action::Update) && !self.allowed.copy {
            (action, reason) = (Action::Copy, "No link can be made there; it would need a copy");
        }
        PlannedLink {
            action,
            model_id: file.model.id.clone(),
            model_name: file.model.official_name.clone(),
            source: file.source.clone(),
            target,
            kind,
            text: if kind == LinkKind::Symlink {
                text
            } else {
                String::new()
            },
            external,
            reason,
            existing: found.existing,
            size: if is_copy { looking::size(&file.source) } else { 0 },
            stamp: found.stamp,
        }
    }

    fn warn(&mut self, excluded: &[String]) {
        let plan = &mut self.plan;
        let external = plan.links.iter().filter(|link| link.external).count();
        if external > 0 {
            plan.warnings.push(format!(
                "The library and the app lie on different volumes: {external} links are absolute and break when the \
                 library is moved."
            ));
        }
        let shown = excluded.iter().take(SHOWN);
        plan.warnings
            .extend(shown.map(|text| format!("Left out: {text}.")));
        if excluded.len() > SHOWN {
            plan.warnings
                .push(format!("{} more models are left out.", excluded.len() - SHOWN));
        }
        let copies: Vec<u64> = plan.of(&[Action::Copy]).map(|link| link.size).collect();
        if !copies.is_empty() {
            plan.warnings.push(format!(
                "{} files ({} bytes) cannot be linked there and would have to be copied; allow_copy does that.",
                copies.len(),
                grouped(copies.iter().sum())
            ));
        }
        if !plan.foreign_link.is_empty() {
            plan.warnings.push(format!(
                "The models folder is a link to {}; it is moved aside for a real folder. The app finds what lies there \
                 again when it is imported.",
                plan.foreign_link
            ));
        } else if !plan.models_link.is_empty() {
            let text = "The models folder is a link into the library; it is moved aside for a real folder.";
            plan.warnings.push(text.to_owned());
        }
        if !plan.unwanted.is_empty() {
            plan.warnings.push(format!(
                "{} links are wanted by no rule any more; they stay until removed.",
                plan.unwanted.len()
            ));
        }
    }
}

/// Each file that a rule wants, once per folder: with the folder's number.
fn wanted(
    models: impl Iterator<Item = Mappable>,
    rules: &Rules,
    files: &mut Files<'_>,
    folders: &mut Folders<'_>,
) -> Vec<(File, usize)> {
    let mut chooser = Chooser::new(&rules.rules);
    let mut seen: HashSet<(usize, String)> = HashSet::new();
    let mut found = Vec::new();
    for model in models {
        let chosen = chooser.choose(&model);
        let device = if chosen.is_empty() {
            None
        } else {
            files.device(&model)
        };
        let Some(device) = device.filter(|_| files.is_allowed(&model)) else {
            continue;
        };
        let deep = chosen.iter().any(|rule| rule.deep);
        for file in files.of(&Arc::new(model), device, deep) {
            for rule in chosen.iter().filter(|rule| rule.matches(&file.name)) {
                let Some(folder) = folders.open(&rule.folder) else {
                    continue;
                };
                if seen.insert((folder, file.source.clone())) {
                    found.push((file.clone(), folder));
                }
            }
        }
    }
    found
}

fn kind_of(ability: Ability, external: bool) -> LinkKind {
    if ability.symlinks {
        LinkKind::Symlink
    } else if ability.hardlinks && !external {
        LinkKind::Hardlink
    } else {
        LinkKind::Copy
    }
}

/// Whether a missing file may come back: its whole folder, or the library, is not there.
#[must_use]
pub fn is_away(source: &str, library: &str) -> bool {
    let in_library = source
        .strip_prefix(library)
        .is_some_and(|rest| rest.starts_with('/'));
    if in_library {
        return !is_there(Path::new(library));
    }
    !Path::new(source).parent().is_some_and(Path::is_dir)
}

/// Whether something may be there that cannot be looked at: it is not known to be gone.
#[must_use]
pub fn is_unreadable(path: &str) -> bool {
    std::fs::metadata(path).is_err_and(|error| !is_gone(&error))
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Whether the library's drive is: a folder in which nothing is may be the place where it should be mounted.
#[must_use]
pub fn is_there(library: &Path) -> bool {
    let entries = std::fs::read_dir(library).into_iter().flatten().flatten();
    entries
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .any(|entry| entry.path().is_dir())
}
