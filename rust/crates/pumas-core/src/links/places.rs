//! Where models go: the models folder of each installed version of an app.
//!
//! The one place that links ask about versions: folders that nobody installed get no links.

use std::sync::Arc;

use crate::apps::{AppDescription, Apps};
use crate::error::{Error, Result};
use crate::installed::{Installed, Version};
use crate::links::paths::text;

const LONGEST_TAG: usize = 100;

/// An installed version as a place for models.
#[derive(Debug, Clone)]
pub struct Place {
    /// The app.
    pub app: Arc<AppDescription>,
    /// The version.
    pub tag: String,
    /// The version's folder; absolute.
    pub folder: String,
    /// Its folder for models (absolute, it may not exist yet), "" for an app that takes none.
    pub models: String,
}

impl Place {
    /// The tag without a leading v.
    #[must_use]
    pub fn version(&self) -> &str {
        match self.tag.trim_start_matches(['v', 'V']) {
            "" => &self.tag,
            version => version,
        }
    }

    fn of(app: Arc<AppDescription>, version: &Version) -> Self {
        let folder = text(&version.folder);
        let models = app.models.as_ref();
        Self {
            models: models.map_or_else(String::new, |models| format!("{folder}/{}", models.folder)),
            app,
            tag: version.tag.clone(),
            folder,
        }
    }
}

/// The places. Calls block.
pub struct Places {
    apps: Arc<Apps>,
    installed: Arc<dyn Installed>,
}

impl Places {
    /// Asks nothing yet.
    #[must_use]
    pub fn new(apps: Arc<Apps>, installed: Arc<dyn Installed>) -> Self {
        Self { apps, installed }
    }

    /// One version.
    ///
    /// # Errors
    /// `UnknownApp`. `InvalidInput`: no tag could be written like that. `VersionNotFound`.
    pub fn get(&self, app_id: &str, tag: &str) -> Result<Place> {
        let app = self.apps.get(app_id)?;
        let tag = tag.trim();
        if !is_tag(tag) {
            return Err(Error::invalid(
                "version_tag",
                "must begin with a letter or digit and hold letters, digits, '.' and '-'",
            ));
        }
        let version = self.installed.get(&app.id, tag)?;
        Ok(Place::of(app, &version))
    }

    /// None for a version that is not installed.
    ///
    /// # Errors
    /// `UnknownApp`, `InvalidInput`.
    pub fn find(&self, app_id: &str, tag: &str) -> Result<Option<Place>> {
        match self.get(app_id, tag) {
            Err(Error::VersionNotFound { .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    /// Fails when there is no such app.
    ///
    /// # Errors
    /// `UnknownApp`.
    pub fn require_app(&self, app_id: &str) -> Result<()> {
        self.apps.get(app_id).map(|_| ())
    }

    /// All installed versions, by tag.
    ///
    /// # Errors
    /// `UnknownApp`, and what the disk refuses.
    pub fn of_app(&self, app_id: &str) -> Result<Vec<Place>> {
        let app = self.apps.get(app_id)?;
        let mut versions = self.installed.installed(&app.id)?;
        versions.sort_by(|one, other| one.tag.cmp(&other.tag));
        Ok(versions
            .iter()
            .map(|version| Place::of(Arc::clone(&app), version))
            .collect())
    }

    /// All installed versions of all apps.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn all(&self) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        for app_id in self.apps.all()?.keys() {
            places.extend(self.of_app(app_id)?);
        }
        Ok(places)
    }
}

fn is_tag(text: &str) -> bool {
    (1..=LONGEST_TAG).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
}
