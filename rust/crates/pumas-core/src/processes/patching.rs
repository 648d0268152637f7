//! Which version's `main.py` is meant, for `patch`. One change at a time.

use std::sync::Arc;

use super::patch;
use crate::apps::DEFAULT_APP;
use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::installed::{Installed, Version};

/// None for a tag means the active version. All fail with `InvalidInput` and `VersionNotFound` for a tag that is none.
#[derive(Clone)]
pub struct Patching {
    installed: Arc<dyn Installed>,
    changing: Arc<tokio::sync::Mutex<()>>,
}

impl Patching {
    /// Of what is installed.
    #[must_use]
    pub fn new(installed: Arc<dyn Installed>) -> Self {
        Self {
            installed,
            changing: Arc::default(),
        }
    }

    /// Without any version it is not.
    ///
    /// # Errors
    /// See [`Patching`].
    pub async fn is_patched(&self, tag: Option<String>) -> Result<bool> {
        let installed = Arc::clone(&self.installed);
        blocking(move || {
            let version = find(&*installed, tag.as_deref())?;
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
        let installed = Arc::clone(&self.installed);
        blocking(move || {
            let version = find(&*installed, tag.as_deref())?;
            work(&version.ok_or_else(|| Error::NoActiveVersion("ComfyUI".to_owned()))?)
        })
        .await
    }
}

fn find(installed: &dyn Installed, tag: Option<&str>) -> Result<Option<Version>> {
    match tag {
        Some(tag) => installed.get(DEFAULT_APP, tag).map(Some),
        None => installed.active(DEFAULT_APP),
    }
}
