//! What import, trash, metadata and verify need of the rest of the library: an index to keep true.
//!
//! The files are the truth and the index follows them, so it is told after the disk was made durable, and it is the index
//! that tells listeners (`model.added`, `model.changed`, `model.removed`). How models are stored in it is not known here.

use crate::error::Result;

/// All calls block and come from worker threads. A model id is its folder relative to the library, with `/`.
pub trait Index: Send + Sync {
    /// Read these models' files again; ids whose folder is gone are dropped.
    fn refresh(&self, model_ids: &[String]) -> Result<()>;

    /// These models are gone.
    fn remove(&self, model_ids: &[String]) -> Result<()>;

    /// Models whose primary file has this digest (64 lower-case hex digits).
    fn find_by_sha256(&self, digest: &str) -> Result<Vec<String>>;

    /// Models whose primary file may have this size in bytes; a model of unknown size belongs to the answer.
    fn find_by_size(&self, primary_size: u64) -> Result<Vec<String>>;

    /// Models whose primary file has the digest of another one's.
    fn duplicated(&self) -> Result<Vec<String>>;

    /// Whether the index shows this model.
    fn contains(&self, model_id: &str) -> Result<bool>;

    /// All models.
    fn model_ids(&self) -> Result<Vec<String>>;
}

/// Take note of how telling the index went about what is already on disk.
///
/// The change itself has succeeded, so an index that cannot be written now (a full disk) is no failure of it: the next
/// reconcile finds the difference.
pub fn follow(told: Result<()>, model_ids: &[String]) {
    if let Err(error) = told {
        tracing::warn!(
            "the index does not know yet what happened to {}: {error}",
            model_ids.join(", ")
        );
    }
}
