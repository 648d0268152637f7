//! The blocking side of adoption, for worker threads: finds, takes in, lists and gives back.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::adoption::adopting::{Adopter, find_model};
use crate::adoption::found::StoredModel;
use crate::adoption::locations::{Location, locations_in};
use crate::adoption::look::Look;
use crate::adoption::planning::{AdoptMode, AdoptRequest};
use crate::adoption::scan::{Around, Scan, Scanner};
use crate::adoption::settling::Settler;
use crate::adoption::store::{Adoption, Journal};
use crate::adoption::undoing::{Meant, Undoer, Undone};
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::library::importing::Work;
use crate::library::references::{REFERENCES, State, references, state_of};
use crate::library::service::LibraryParts;
use crate::storage::json_file::JsonObject;
use crate::storage::paths::caller_path;
use crate::text::cut;

/// One thing to adopt: by the id of a scan, or by store and name. `""` means: find out.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// As a scan gave it.
    pub id: Option<String>,
    /// The store's path.
    pub store: Option<String>,
    /// The model's name there.
    pub name: Option<String>,
    /// Its commit.
    pub revision: Option<String>,
    /// The shown name.
    pub official_name: String,
    /// `llama`, `sdxl`, …
    pub family: String,
    /// `llm`, `diffusion`, …
    pub model_type: String,
    /// `loras`, `vae`, …
    pub subtype: String,
    /// The user's words for it.
    pub tags: Vec<String>,
    /// Accepts files that can run code when an app loads them (pickle).
    pub security_acknowledged: bool,
    /// Adopt what the library holds already.
    pub allow_duplicate: bool,
}

/// A row of the journal with what is true now.
#[derive(Debug, Clone)]
pub struct ListedAdoption {
    /// The row.
    pub row: Adoption,
    /// The model is in its place.
    pub present: bool,
    /// Whether its files can be read.
    pub state: State,
    /// `""` when it is not there.
    pub official_name: String,
}

/// Every method blocks.
pub struct AdoptionWork {
    scanner: Arc<Scanner>,
    adopter: Adopter,
    settler: Settler,
    undoer: Undoer,
    journal: Journal,
}

impl AdoptionWork {
    /// For the library of `layout`.
    #[must_use]
    pub fn new(layout: &Arc<Layout>, parts: LibraryParts, journal: Journal, around: Around) -> Self {
        let scanner = Arc::new(Scanner::new(Arc::clone(layout), Arc::clone(&parts.index), around));
        Self {
            settler: Settler::new(layout.library(), layout.staging(), journal.clone()),
            undoer: Undoer::new(
                layout.trash(),
                parts.models.clone(),
                parts.trash.clone(),
                journal.clone(),
            ),
            adopter: Adopter::new(Arc::clone(layout), Arc::clone(&scanner), journal.clone(), parts),
            scanner,
            journal,
        }
    }

    /// See [`Settler::recover`].
    ///
    /// # Errors
    /// See there.
    pub fn recover(&self) -> Result<()> {
        self.settler.recover()
    }

    /// See [`Scanner::scan`].
    ///
    /// # Errors
    /// See there.
    pub fn scan(&self, folders: &[String], known: bool, check: &dyn Fn() -> Result<()>) -> Result<Scan> {
        let folders: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
        self.scanner.scan(&folders, known, check)
    }

    /// See [`Adopter::run`].
    ///
    /// # Errors
    /// See there.
    pub fn adopt(&self, work: &dyn Work, requests: &[AdoptRequest]) -> Result<JsonObject> {
        self.adopter.run(work, requests)
    }

    /// See [`Undoer::undo`].
    ///
    /// # Errors
    /// See there.
    pub fn undo(&self, meant: &Meant, dry_run: bool) -> Result<Undone> {
        self.undoer.undo(meant, dry_run)
    }

    // -- what to adopt -----------------------------------------------------------------------------------------------

    /// What is meant by `wanted`: found in `scans`, or by a new look.
    ///
    /// # Errors
    /// `StoredModelNotFound`, `InvalidInput`, `UnsafePath`: one of them cannot be found.
    pub fn requests(
        &self,
        wanted: Vec<Wanted>,
        mode: AdoptMode,
        folders: &[String],
        scans: &[Arc<Scan>],
        dry_run: bool,
    ) -> Result<Vec<AdoptRequest>> {
        let folders = given_folders(folders, "folders")?;
        let ids: HashSet<&str> = wanted.iter().filter_map(|one| one.id.as_deref()).collect();
        let mut by_id = HashMap::new();
        let mut note = |models: &mut dyn Iterator<Item = &StoredModel>| {
            for model in models {
                let id = model.id();
                if ids.contains(id.as_str()) {
                    by_id.insert(id, model.clone());
                }
            }
            by_id.len() == ids.len()
        };
        let mut all_known = ids.is_empty();
        for scan in scans {
            all_known = note(&mut scan.models());
        }
        if !all_known {
            note(&mut self.scanner.scan(&folders, true, &|| Ok(()))?.models());
        }
        let request = |one| self.request(one, &by_id, mode, dry_run);
        wanted.into_iter().map(request).collect()
    }

    fn request(
        &self,
        one: Wanted,
        by_id: &HashMap<String, StoredModel>,
        mode: AdoptMode,
        dry_run: bool,
    ) -> Result<AdoptRequest> {
        let model = match &one.id {
            None => self.by_name(&one)?,
            Some(id) => by_id
                .get(id)
                .cloned()
                .ok_or_else(|| Error::StoredModelNotFound(id.clone()))?,
        };
        Ok(AdoptRequest {
            kind: model.kind,
            store: model.store,
            name: model.name,
            revision: model.revision,
            mode,
            official_name: one.official_name,
            family: one.family,
            model_type: one.model_type,
            subtype: one.subtype,
            tags: one.tags,
            security_acknowledged: one.security_acknowledged,
            allow_duplicate: one.allow_duplicate,
            dry_run,
        })
    }

    fn by_name(&self, one: &Wanted) -> Result<StoredModel> {
        let (Some(store), Some(name)) = (&one.store, &one.name) else {
            let reason = "each needs the stored_id of a scan, or store and name";
            return Err(Error::invalid("items", reason));
        };
        let folders = given_folders(std::slice::from_ref(store), "store")?;
        let known = self.scanner.known();
        let as_known = |found: Location| {
            let same = known.iter().find(|location| location.path == found.path);
            same.cloned().unwrap_or(found)
        };
        for location in folders
            .iter()
            .flat_map(|folder| locations_in(folder))
            .map(as_known)
        {
            let store = self.scanner.read(&Look::default(), &location)?;
            if store.models.iter().any(|model| model.name == *name) {
                return find_model(&store.models, name, one.revision.as_deref()).cloned();
            }
        }
        Err(Error::StoredModelNotFound(name.clone()))
    }

    // -- adoptions ---------------------------------------------------------------------------------------------------

    /// (newest first, number of all).
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn adoptions(&self, undone: bool, limit: i64, offset: i64) -> Result<(Vec<ListedAdoption>, i64)> {
        if !self.journal.exists() {
            return Ok((Vec::new(), 0));
        }
        let (rows, total) = self.journal.list(undone, limit, offset)?;
        Ok((rows.into_iter().map(|row| self.listed(row)).collect(), total))
    }

    fn listed(&self, row: Adoption) -> ListedAdoption {
        let metadata = self.settler.metadata_of(&row).ok().flatten();
        let present = metadata.is_some();
        let metadata = metadata.unwrap_or_default();
        let name = metadata.get("official_name").and_then(Value::as_str);
        ListedAdoption {
            present,
            state: state_of(&references(metadata.get(REFERENCES))),
            official_name: name.unwrap_or_default().to_owned(),
            row,
        }
    }
}

/// The folders that a caller named.
///
/// # Errors
/// `UnsafePath`, `InvalidInput`.
pub fn given_folders(texts: &[String], field: &str) -> Result<Vec<PathBuf>> {
    let paths = texts.iter().map(|text| caller_path(text, field));
    let paths = paths.collect::<Result<Vec<PathBuf>>>()?;
    for path in &paths {
        if !path.is_dir() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let reason = format!("{} is no folder that can be looked into", cut(&name, 100));
            return Err(Error::invalid(field, reason));
        }
    }
    Ok(paths)
}
