//! Which version's `main.py` is meant, for `patch`. One change at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::patch;
use crate::apps::DEFAULT_APP;
use crate::blocking::blocking;
use crate::error::Result;
use crate::installed::{Installed, Version};

/// None for a tag means the active version. All fail with `InvalidInput` and `VersionNotFound` for a tag that is none.
#[derive(Clone)]
pub struct Patching {
    installed: Arc<dyn Installed>,
    changing: Arc<tokio::sync::Mutex<()>>,
    changes: Arc<AtomicU64>,
}

impl Patching {
    /// Of what is installed.
    #[must_use]
    pub fn new(installed: Arc<dyn Installed>) -> Self {
        Self {
            installed,
            changing: Arc::default(),
            changes: Arc::default(),
        }
    }

    /// How often a `main.py` may have been changed: what was read before is old when it has grown.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Without any version it is not.
    ///
    /// # Errors
    /// See [`Patching`].
    pub async fn is_patched(&self, tag: Option<String>) -> Result<bool> {
        let installed = Arc::clone(&self.installed);
        blocking(move || {
            let version = match tag {
                Some(tag) => Some(installed.get(DEFAULT_APP, &tag)?),
                None => installed.active(DEFAULT_APP)?,
            };
            Ok(version.is_some_and(|version| patch::is_patched(&version.folder)))
        })
        .await
    }

    /// Whether anything was changed.
    ///
    /// # Errors
    /// `NoActiveVersion`, `CannotPatch`, and what the disk refuses.
    pub async fn patch(&self, tag: Option<String>) -> Result<bool> {
        self.change(tag, |version| patch::patch(&version.folder, &version.tag))
            .await
    }

    /// Whether anything was changed.
    ///
    /// # Errors
    /// As [`Patching::patch`].
    pub async fn revert(&self, tag: Option<String>) -> Result<bool> {
        self.change(tag, |version| patch::revert(&version.folder)).await
    }

    /// Whether it is patched then.
    ///
    /// # Errors
    /// As [`Patching::patch`].
    pub async fn toggle(&self, tag: Option<String>) -> Result<bool> {
        self.change(tag, |version| {
            if patch::is_patched(&version.folder) {
                patch::revert(&version.folder).map(|reverted| !reverted)
            } else {
                patch::patch(&version.folder, &version.tag)
            }
        })
        .await
    }

    async fn change(
        &self,
        tag: Option<String>,
        work: impl FnOnce(&Version) -> Result<bool> + Send + 'static,
    ) -> Result<bool> {
        let _one = self.changing.lock().await;
        let (installed, changes) = (Arc::clone(&self.installed), Arc::clone(&self.changes));
        blocking(move || {
            let version = match tag {
                Some(tag) => installed.get(DEFAULT_APP, &tag)?,
                None => installed.require_active(DEFAULT_APP)?,
            };
            let done = work(&version);
            changes.fetch_add(1, Ordering::AcqRel);
            done
        })
        .await
    }
}
