//! One look at all stores: where they are, what they hold, what of it we have, which bytes exist more than once.
//!
//! Blocks, for worker threads; opens no model file. The readers know the stores, `duplicates` compares; how a model comes
//! in is `adopting`.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use serde_json::Value;

use crate::adoption::duplicates::{BytesId, Duplicates, LIBRARY, Piece, find};
use crate::adoption::found::{Store, StoreKind, StoredModel};
use crate::adoption::huggingface::read_cache;
use crate::adoption::locations::{Location, known_locations, locations_in};
use crate::adoption::look::Look;
use crate::adoption::ollama::read_store;
use crate::adoption::programs::{Surroundings, own_versions};
use crate::adoption::trees::read_tree;
use crate::config::Layout;
use crate::error::Result;
use crate::library::hashing::Stamp;
use crate::library::index::Index;
use crate::library::metadata::{METADATA, file_entries};
use crate::library::references::{REFERENCES, Reference, file_path, references};
use crate::storage::json_file::{self, JsonObject};
use crate::storage::paths::resolved;

const CHECK_EVERY: usize = 64;

/// What was found.
#[derive(Debug)]
pub struct Scan {
    /// In the order of the places.
    pub stores: Vec<Store>,
    /// For ids of stored models: which model of the library has all their bytes already.
    pub in_library: HashMap<String, String>,
    /// Over everything.
    pub duplicates: Duplicates,
    /// How long it took.
    pub took: Duration,
}

impl Scan {
    /// Of all stores.
    pub fn models(&self) -> impl Iterator<Item = &StoredModel> {
        self.stores.iter().flat_map(|store| &store.models)
    }
}

/// A file of one of our models, with the model's id.
type Ours = (String, Piece);

/// Who says where programs keep their models.
pub type Around = Arc<dyn Fn() -> Surroundings + Send + Sync>;

/// The stores of one machine as one library sees them.
pub struct Scanner {
    layout: Arc<Layout>,
    index: Arc<dyn Index>,
    around: Around,
}

impl Scanner {
    /// `around` is asked at each look.
    #[must_use]
    pub fn new(layout: Arc<Layout>, index: Arc<dyn Index>, around: Around) -> Self {
        Self {
            layout,
            index,
            around,
        }
    }

    /// Look at the stores in `folders`, and with `known` at those where programs keep theirs. `check` is called now and
    /// then and fails to stop.
    ///
    /// # Errors
    /// What `check` fails with, and what the index refuses.
    pub fn scan(&self, folders: &[PathBuf], known: bool, check: &dyn Fn() -> Result<()>) -> Result<Scan> {
        let started = Instant::now();
        let look = Look::new(check);
        let stores = self
            .locations(folders, known)
            .iter()
            .map(|location| self.read(&look, location))
            .collect::<Result<Vec<Store>>>()?;
        let models: Vec<&StoredModel> = stores.iter().flat_map(|store| &store.models).collect();
        let ours = self.ours(&models, self.index.duplicated()?, check)?;
        let in_library = held(&models, &ours);
        let theirs = models.iter().flat_map(|model| pieces(model));
        let duplicates = find(theirs.chain(ours.into_iter().map(|(_, piece)| piece)));
        Ok(Scan {
            stores: self.finds(stores, &in_library),
            in_library,
            duplicates,
            took: started.elapsed(),
        })
    }

    /// One store.
    ///
    /// # Errors
    /// The look was stopped.
    pub fn read(&self, look: &Look<'_>, location: &Location) -> Result<Store> {
        match location.kind {
            StoreKind::Huggingface => read_cache(look, &location.path),
            StoreKind::Ollama => read_store(look, &location.path),
            kind => read_tree(look, kind, &location.path),
        }
    }

    /// Where programs keep their models now.
    #[must_use]
    pub fn known(&self) -> Vec<Location> {
        known_locations(&(self.around)())
    }

    /// The model of the library that has all bytes of this one, or claims to.
    ///
    /// # Errors
    /// What the index refuses.
    pub fn holder(&self, model: &StoredModel) -> Result<Option<String>> {
        let ours = self.ours(&[model], Vec::new(), &|| Ok(()))?;
        Ok(held(&[model], &ours).remove(&model.id()))
    }

    /// Without what our own versions of an app have from the library: that is no other program's.
    fn finds(&self, mut stores: Vec<Store>, held: &HashMap<String, String>) -> Vec<Store> {
        let own = resolved(&own_versions(&self.layout));
        stores.retain_mut(|store| {
            if !Path::new(&store.path).starts_with(&own) {
                return true;
            }
            store.models.retain(|model| !held.contains_key(&model.id()));
            !store.models.is_empty() || !store.problems.is_empty()
        });
        stores
    }

    /// Each place once, as it was named first.
    fn locations(&self, folders: &[PathBuf], known: bool) -> Vec<Location> {
        let mut found: Vec<Location> = folders.iter().flat_map(|folder| locations_in(folder)).collect();
        if known {
            found.extend(self.known());
        }
        let own = resolved(&self.layout.library());
        let mut distinct: IndexMap<String, Location> = IndexMap::new();
        for location in found.into_iter().rev() {
            distinct.insert(location.path.clone(), location);
        }
        let is_foreign = |location: &Location| !Path::new(&location.path).starts_with(&own);
        distinct.into_values().rev().filter(is_foreign).collect()
    }

    /// Files of our models that may be like one in a store, by their sizes, and those of the models `also`.
    fn ours(
        &self,
        models: &[&StoredModel],
        also: Vec<String>,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Vec<Ours>> {
        let mut ids: BTreeSet<String> = also.into_iter().collect();
        let sizes: BTreeSet<u64> = models.iter().map(|model| model.primary_size()).collect();
        for size in sizes {
            ids.extend(self.index.find_by_size(size)?);
        }
        let mut found = Vec::new();
        for (number, model_id) in ids.into_iter().enumerate() {
            if number.is_multiple_of(CHECK_EVERY) {
                check()?;
            }
            let folder = self.layout.library().join(&model_id);
            if let Ok(metadata) = json_file::parse_object(&folder.join(METADATA)) {
                let pieces = library_pieces(&folder, &model_id, &metadata);
                found.extend(pieces.into_iter().map(|piece| (model_id.clone(), piece)));
            }
        }
        Ok(found)
    }
}

/// The files of one of our models that are there now.
fn library_pieces(folder: &Path, model_id: &str, metadata: &JsonObject) -> Vec<Piece> {
    let outside = references(metadata.get(REFERENCES)).into_iter();
    let outside = outside
        .map(|reference: Reference| (reference.name.clone(), reference))
        .collect();
    let clones = cloned_from(metadata);
    let of_model = metadata.get("hashes").and_then(|hashes| hashes.get("sha256"));
    let primary = metadata.get("primary_file").and_then(Value::as_str);
    let piece = |entry: crate::library::metadata::FileEntry| {
        let path = resolved(&file_path(folder, &outside, &entry.name).ok()?);
        let stamp = Stamp::of(&path.metadata().ok()?);
        let is_primary = primary == Some(&entry.name);
        let of_model = of_model.and_then(Value::as_str).filter(|_| is_primary);
        let computed = if entry.sha256.is_empty() {
            of_model.unwrap_or_default().to_owned()
        } else {
            entry.sha256
        };
        let verified = !computed.is_empty();
        Some(Piece {
            store: LIBRARY.to_owned(),
            model: model_id.to_owned(),
            path: path.to_string_lossy().into_owned(),
            size: stamp.size,
            bytes_id: clones
                .get(&entry.name)
                .copied()
                .unwrap_or((stamp.device, stamp.inode)),
            sha256: if verified { computed } else { entry.claimed },
            verified,
            name: entry.name,
        })
    };
    file_entries(metadata).into_iter().filter_map(piece).collect()
}

/// A clone has an inode of its own but shares its blocks: it counts as what it was cloned from, while that is unchanged.
fn cloned_from(metadata: &JsonObject) -> HashMap<String, BytesId> {
    if metadata.get("storage").and_then(Value::as_str) != Some("reflink") {
        return HashMap::new();
    }
    let files = metadata
        .get("adoption")
        .and_then(|adoption| adoption.get("files"));
    let original = |item: &Value| {
        let name = item.get("name")?.as_str()?;
        let stamp = Stamp::of(&fs::metadata(item.get("path")?.as_str()?).ok()?);
        let is_same = item.get("size").and_then(Value::as_u64) == Some(stamp.size)
            && item.get("mtime_ns").and_then(Value::as_i64) == Some(stamp.mtime_ns);
        is_same.then(|| (name.to_owned(), (stamp.device, stamp.inode)))
    };
    files
        .and_then(Value::as_array)
        .map(|items| items.iter().filter_map(original).collect())
        .unwrap_or_default()
}

fn pieces(model: &StoredModel) -> impl Iterator<Item = Piece> {
    model.files.iter().map(|file| Piece {
        store: model.store.clone(),
        model: model.name.clone(),
        name: file.name.clone(),
        path: file.path.clone(),
        size: file.stamp.size,
        bytes_id: file.bytes_id(),
        sha256: file.claimed_sha256.clone(),
        verified: false,
    })
}

/// Id of a stored model -> the model of ours whose files have all its bytes, or claim to.
fn held(models: &[&StoredModel], ours: &[Ours]) -> HashMap<String, String> {
    let mut by_bytes: HashMap<BytesId, BTreeSet<&str>> = HashMap::new();
    let mut by_digest: HashMap<(u64, &str), BTreeSet<&str>> = HashMap::new();
    for (model_id, piece) in ours {
        by_bytes.entry(piece.bytes_id).or_default().insert(model_id);
        if !piece.sha256.is_empty() {
            let digest = (piece.size, piece.sha256.as_str());
            by_digest.entry(digest).or_default().insert(model_id);
        }
    }
    let owner = |model: &&StoredModel| {
        let of_file = |file: &crate::adoption::found::StoredFile| {
            let digest = (file.stamp.size, file.claimed_sha256.as_str());
            let same = by_bytes.get(&file.bytes_id()).into_iter().flatten();
            let equal = by_digest.get(&digest).into_iter().flatten();
            same.chain(equal).copied().collect::<BTreeSet<&str>>()
        };
        let owners = model.weights().map(of_file).reduce(|some, more| &some & &more)?;
        Some((model.id(), (*owners.first()?).to_owned()))
    };
    models.iter().filter_map(owner).collect()
}
