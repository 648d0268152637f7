//! Builds the services and connects them: the one place that knows all domains.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Layout;
use crate::error::Result;
use crate::events::EventStream;
use crate::stop::Stop;
use crate::storage::troubles::Troubles;

/// Every service, each built with just what it needs.
///
/// ```
/// # fn main() -> pumas_core::Result<()> {
/// let root = std::env::temp_dir().join("pumas-example");
/// let api = pumas_core::PumasApi::new(root)?;
/// assert_eq!(api.troubles.count(), 0);
/// # Ok(())
/// # }
/// ```
pub struct PumasApi {
    /// Where everything lives.
    pub layout: Arc<Layout>,
    /// What happens, as a stream.
    pub events: EventStream,
    /// What is wrong with the files that we keep.
    pub troubles: Arc<Troubles>,
    /// Asked for by a caller who wants the whole program to end.
    pub stop: Stop,
}

impl PumasApi {
    /// Connect the services of all domains. Touches no disk: [`PumasApi::open`] does.
    pub fn new(root: impl Into<PathBuf>) -> Result<Self> {
        Ok(Self {
            layout: Arc::new(Layout::new(root)),
            events: EventStream::new(),
            troubles: Arc::new(Troubles::default()),
            stop: Stop::default(),
        })
    }

    /// Open what the services need. A domain that cannot be opened is reported in [`PumasApi::troubles`], and the others
    /// work.
    #[expect(clippy::unused_async, reason = "domains open here")]
    pub async fn open(&self) {}

    /// Park what runs, then close the files.
    #[expect(clippy::unused_async, reason = "domains close here")]
    pub async fn close(&self) {}
}
