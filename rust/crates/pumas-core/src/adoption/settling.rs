//! What the journal says of an adoption, brought in line with what the library has: after a kill, and when it is listed.

use std::path::PathBuf;

use serde_json::Value;

use crate::adoption::store::{Adoption, AdoptionState, Journal};
use crate::error::{Error, Result};
use crate::library::metadata::{METADATA, model_folder};
use crate::storage::json_file::{self, JsonObject};

/// Calls block; they come from worker threads.
pub struct Settler {
    library: PathBuf,
    staging: PathBuf,
    journal: Journal,
}

impl Settler {
    /// For the library at `library`, whose models are put together in `staging`.
    #[must_use]
    pub fn new(library: PathBuf, staging: PathBuf, journal: Journal) -> Self {
        Self {
            library,
            staging,
            journal,
        }
    }

    /// Finish or take back what a killed process left; call before jobs run.
    ///
    /// Staging was made on the library's volume before any row: while it is not there, the volume is away and says nothing
    /// about its models.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn recover(&self) -> Result<()> {
        if !self.journal.exists() || !self.staging.is_dir() {
            return Ok(());
        }
        for row in self.journal.unfinished()? {
            let what = format!("adoption {} of {}", row.id, row.model_id);
            match self.settle(row) {
                // Nobody can say now; the next start asks again.
                Err(error @ Error::CorruptState { .. }) => tracing::warn!("{what} stays open: {error}"),
                settled => settled?,
            }
        }
        Ok(())
    }

    /// `begun` becomes `adopted` when its model is in the library, else it never was; an undo that had not moved the model
    /// yet never was either.
    ///
    /// # Errors
    /// `CorruptState` when nobody can say, and what the disk refuses.
    pub fn settle(&self, row: Adoption) -> Result<()> {
        let is_there = self.metadata_of(&row)?.is_some();
        let state = match (row.state, is_there) {
            (AdoptionState::Begun, false) => return self.journal.forget(&row.id),
            (AdoptionState::Begun | AdoptionState::Undoing, true) => AdoptionState::Adopted,
            (AdoptionState::Undoing, false) => AdoptionState::Undone,
            (AdoptionState::Adopted | AdoptionState::Undone, _) => return Ok(()),
        };
        self.journal.save(Adoption { state, ..row }).map(|_| ())
    }

    /// The metadata of the model of this adoption, while the library has it in its place.
    ///
    /// # Errors
    /// `CorruptState` when nobody can say.
    pub fn metadata_of(&self, row: &Adoption) -> Result<Option<JsonObject>> {
        let folder = match model_folder(&self.library, &row.model_id) {
            Err(Error::ModelNotFound(_)) => return Ok(None),
            folder => folder?,
        };
        let metadata = json_file::load(&folder.join(METADATA))?.value.unwrap_or_default();
        Ok((adoption_id_of(&metadata) == row.id).then_some(metadata))
    }
}

/// Which adoption made a model, `""` for none.
#[must_use]
pub fn adoption_id_of(metadata: &JsonObject) -> &str {
    let id = metadata.get("adoption").and_then(|adoption| adoption.get("id"));
    id.and_then(Value::as_str).unwrap_or_default()
}
