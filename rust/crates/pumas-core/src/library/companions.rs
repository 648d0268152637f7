//! What lives elsewhere and only makes sense while a model is in the library, such as links into it.
//!
//! The trash tells of models that go and come back; who listens is not known here.

use crate::error::Result;
use crate::library::facets::UsedBy;

/// All calls block. Those that name an entry of the trash come while the library is locked.
pub trait Companions: Send + Sync {
    /// The ids of the models that each app uses, by the app's id.
    ///
    /// # Errors
    /// What the disk refuses.
    fn used_by(&self) -> Result<UsedBy> {
        Ok(UsedBy::new())
    }

    /// How many would go with these models.
    ///
    /// # Errors
    /// What the disk refuses.
    fn count(&self, model_ids: &[String]) -> Result<usize>;

    /// The models are about to be moved into the trash. What goes with them goes now, and comes back when the value that
    /// is returned is dropped before [`Departure::complete`] was called.
    ///
    /// # Errors
    /// What the disk refuses: the models are then not moved.
    fn leaving(&self, trash_id: &str, model_ids: &[String]) -> Result<Box<dyn Departure>>;

    /// The models of this entry are back in their place. Answers how many companions are, too.
    ///
    /// # Errors
    /// What the disk refuses: the models are back all the same.
    fn returned(&self, trash_id: &str) -> Result<usize>;

    /// The entry was removed for good.
    ///
    /// # Errors
    /// What the disk refuses.
    fn forgotten(&self, trash_id: &str) -> Result<()>;
}

/// Companions that went.
pub trait Departure {
    /// How many.
    fn count(&self) -> usize;

    /// The models went, too.
    fn complete(self: Box<Self>);
}

/// Nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCompanions;

struct Nobody;

impl Departure for Nobody {
    fn count(&self) -> usize {
        0
    }

    fn complete(self: Box<Self>) {}
}

impl Companions for NoCompanions {
    fn count(&self, _model_ids: &[String]) -> Result<usize> {
        Ok(0)
    }

    fn leaving(&self, _trash_id: &str, _model_ids: &[String]) -> Result<Box<dyn Departure>> {
        Ok(Box::new(Nobody))
    }

    fn returned(&self, _trash_id: &str) -> Result<usize> {
        Ok(0)
    }

    fn forgotten(&self, _trash_id: &str) -> Result<()> {
        Ok(())
    }
}
