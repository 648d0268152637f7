//! The folders of an app into which rules lead, and the names that links get there.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use caseless::default_case_fold_str;
use indexmap::IndexMap;

use crate::links::paths::{name as last, parent, read_link, real, relative};
use crate::links::places::Place;
use crate::links::planning::files::File;
use crate::links::rules::HERE;
use crate::links::volumes::{Ability, Volumes, device_of};
use crate::storage::files::exists;
use crate::storage::paths::{contained, relative_path, slug};
use crate::text::cut;

/// Whether the models folder is a link itself; with what that holds.
pub(super) enum ModelsLink {
    None,
    /// Links made through it would land in the library itself.
    IntoLibrary(String),
    /// Somebody's.
    Elsewhere(String),
}

/// Fails with the reason when it is no folder either.
pub(super) fn models_link(place: &Place, library: &str) -> Result<ModelsLink, String> {
    let models = place.models.as_str();
    let path = Path::new(models);
    let Some(text) = read_link(models) else {
        if exists(path) && !path.is_dir() {
            return Err(format!("{} of {} is no folder.", last(models), place.tag));
        }
        return Ok(ModelsLink::None);
    };
    let (there, library) = (real(models), real(library));
    let is_below = |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
    if there == library || is_below(&there, &library) || is_below(&library, &there) {
        return Ok(ModelsLink::IntoLibrary(text));
    }
    Ok(ModelsLink::Elsewhere(text))
}

/// Whether something that is no folder stands there, or in the place of a folder above it.
fn is_taken(path: &str, models: &str) -> bool {
    let mut above = Path::new(path).ancestors();
    let nearest = above.find(|one| exists(one) || *one == Path::new(models));
    nearest.is_some_and(|one| exists(one) && !one.is_dir())
}

/// One of them.
pub(super) struct Folder {
    /// The name that links get.
    pub(super) path: String,
    /// `st_dev`.
    pub(super) device: u64,
    pub(super) ability: Ability,
    /// From where it really is to the library.
    pub(super) way: String,
    /// The names there now: whether each is a symbolic link.
    pub(super) entries: HashMap<String, bool>,
    /// Names that links have: source to name.
    pub(super) known: IndexMap<String, String>,
    /// Those given to sources so far, without case.
    names: HashMap<String, String>,
}

impl Folder {
    /// The name that a file has or gets there.
    pub(super) fn name_for(&mut self, file: &File) -> String {
        let name = match self.known.get(&file.source) {
            Some(known) => known.clone(),
            None => self.free_name(file),
        };
        self.names
            .insert(default_case_fold_str(&name), file.source.clone());
        name
    }

    /// The file's own name, or one with the model's when another model's file has that.
    fn free_name(&self, file: &File) -> String {
        let own = usable_name(last(&file.name));
        let is_free = |name: &String| {
            self.names
                .get(&default_case_fold_str(name))
                .is_none_or(|source| *source == file.source)
        };
        if is_free(&own) {
            return own;
        }
        let (stem, extension) = match own.rsplit_once('.') {
            Some((stem, extension)) => (stem, format!(".{extension}")),
            None => (own.as_str(), String::new()),
        };
        let model = slug(last(&file.model.id), "model");
        let stem = format!("{}-{}", cut(stem, 100), cut(&model, 80));
        let first = format!("{stem}{extension}");
        if is_free(&first) {
            return first;
        }
        (2..=u32::MAX)
            .map(|number| format!("{stem}-{number}{extension}"))
            .find(is_free)
            .unwrap_or(first)
    }
}

fn usable_name(name: &str) -> String {
    if relative_path(name, "path").is_ok() {
        return name.to_owned();
    }
    match name.rsplit_once('.') {
        Some((stem, extension)) => format!("{}.{}", slug(stem, "file"), slug(extension, "bin")),
        None => slug(name, "file"),
    }
}

/// Those that were asked for so far.
pub(super) struct Folders<'a> {
    root: &'a Path,
    models: &'a str,
    /// The models folder is a link that is not followed: a real one will be in its place.
    is_new: bool,
    library: &'a str,
    volumes: &'a Volumes,
    known: IndexMap<String, IndexMap<String, String>>,
    numbers: HashMap<String, Option<usize>>,
    opened: Vec<Folder>,
    warnings: Vec<String>,
}

impl<'a> Folders<'a> {
    /// `library` is how links name it; `known` are the names that links have, by folder and source.
    pub(super) fn new(
        root: &'a Path,
        models: &'a str,
        is_new: bool,
        library: &'a str,
        volumes: &'a Volumes,
        known: IndexMap<String, IndexMap<String, String>>,
    ) -> Self {
        Self {
            root,
            models,
            is_new,
            library,
            volumes,
            known,
            numbers: HashMap::new(),
            opened: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn at(&self, number: usize) -> &Folder {
        &self.opened[number]
    }

    pub(super) fn at_mut(&mut self, number: usize) -> &mut Folder {
        &mut self.opened[number]
    }

    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// The number of a folder below the models folder; None for one that no link may go into.
    pub(super) fn open(&mut self, subdir: &str) -> Option<usize> {
        if let Some(known) = self.numbers.get(subdir) {
            return *known;
        }
        let number = match self.look_at(subdir) {
            Ok(folder) => {
                self.opened.push(folder);
                Some(self.opened.len() - 1)
            }
            Err(warning) => {
                self.warnings.push(warning);
                None
            }
        };
        self.numbers.insert(subdir.to_owned(), number);
        number
    }

    fn look_at(&mut self, subdir: &str) -> Result<Folder, String> {
        let is_here = subdir == HERE;
        let path = if is_here {
            self.models.to_owned()
        } else {
            format!("{}/{subdir}", self.models)
        };
        if !self.is_new {
            let models = self.root.join(self.models);
            if !is_here && contained(&models, subdir, "target_subdir").is_err() {
                return Err(format!(
                    "{subdir} is a link that leads out of the app, so nothing is linked there."
                ));
            }
            if is_taken(&path, self.models) {
                return Err(format!("{subdir} is no folder, so nothing is linked there."));
            }
        }
        let above = parent(self.models);
        let there = if self.is_new {
            format!("{}{}", real(above), &path[above.len()..])
        } else {
            real(&path)
        };
        let device = device_of(if self.is_new { above } else { &path });
        let known = self.known.get(&path).cloned().unwrap_or_default();
        let names = known
            .iter()
            .map(|(source, name)| (default_case_fold_str(name), source.clone()))
            .collect();
        Ok(Folder {
            device,
            ability: self.volumes.ability(device),
            way: relative(self.library, &there),
            entries: if self.is_new {
                HashMap::new()
            } else {
                entries(&path)
            },
            known,
            names,
            path,
        })
    }
}

fn entries(path: &str) -> HashMap<String, bool> {
    let found = fs::read_dir(path).into_iter().flatten().flatten();
    found
        .filter_map(|entry| {
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            Some((entry.file_name().into_string().ok()?, is_link))
        })
        .collect()
}
