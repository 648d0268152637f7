//! What other domains ask about versions: which are installed, where they lie, which is active. `versions` answers.

use std::path::PathBuf;

use crate::error::Result;
use crate::versions::{InstalledVersion, VersionService};

/// An installed version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// As the app's maker wrote it.
    pub tag: String,
    /// Absolute.
    pub folder: PathBuf,
}

/// What is installed. Calls block.
pub trait Installed: Send + Sync {
    /// All versions of an app, newest first.
    ///
    /// # Errors
    /// `UnknownApp`.
    fn installed(&self, app_id: &str) -> Result<Vec<Version>>;

    /// One of them.
    ///
    /// # Errors
    /// `UnknownApp`, `VersionNotFound`, `InvalidInput`.
    fn get(&self, app_id: &str, tag: &str) -> Result<Version>;

    /// The one in use; None when there is none.
    ///
    /// # Errors
    /// `UnknownApp`.
    fn active(&self, app_id: &str) -> Result<Option<Version>>;

    /// The one in use.
    ///
    /// # Errors
    /// `UnknownApp`, `NoActiveVersion`.
    fn require_active(&self, app_id: &str) -> Result<Version>;
}

impl From<InstalledVersion> for Version {
    fn from(version: InstalledVersion) -> Self {
        Self {
            tag: version.tag,
            folder: version.folder,
        }
    }
}

impl Installed for VersionService {
    fn installed(&self, app_id: &str) -> Result<Vec<Version>> {
        let versions = self.state(app_id)?.installed()?;
        Ok(versions.into_iter().map(Version::from).collect())
    }

    fn get(&self, app_id: &str, tag: &str) -> Result<Version> {
        self.state(app_id)?.get(tag).map(Version::from)
    }

    fn active(&self, app_id: &str) -> Result<Option<Version>> {
        let state = self.state(app_id)?;
        state
            .active()?
            .map(|tag| state.get(&tag).map(Version::from))
            .transpose()
    }

    fn require_active(&self, app_id: &str) -> Result<Version> {
        self.state(app_id)?.require_active().map(Version::from)
    }
}
