//! Work that waits for a disk, off the async runtime.

use crate::error::{Error, Result};

/// Run `work` on a thread that may wait. It goes on when nobody waits for its answer any more.
///
/// # Errors
/// What `work` fails with; `Bug` when it panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::Bug(format!("blocking work ended early: {error}"))),
    }
}
