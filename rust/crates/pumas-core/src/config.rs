//! Where everything lives below a launcher root. Plain values; reading them costs nothing.

use std::path::{Path, PathBuf};

/// Paths below one launcher root, shared with the other backend and with older sidecars. The only place that knows their
/// names.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

macro_rules! places {
    ($($(#[$doc:meta])* $name:ident = $($part:literal)/+;)*) => {
        $($(#[$doc])* #[must_use] pub fn $name(&self) -> PathBuf { let mut path = self.root.clone(); $(path.push($part);)+ path })*
    };
}

impl Layout {
    /// The places below `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The launcher root itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    places! {
        /// The launcher's own state.
        data = "launcher-data";
        /// `launcher.log` and its older parts.
        logs = "launcher-data"/"logs";
        /// Where clients find the sidecar.
        rpc_file = "launcher-data"/"rpc.json";
        /// Held for the life of the sidecar.
        owner_lock = "launcher-data"/"owner.lock";
        /// Held around load, change and save of JSON state.
        state_lock = "launcher-data"/"state.lock";
        /// Long work.
        jobs_db = "launcher-data"/"jobs.db";
        /// What was adopted from other programs' stores.
        adoptions_db = "launcher-data"/"adoptions.db";
        /// Files that a page handed over.
        uploads = "launcher-data"/"uploads";
        /// What can be fetched or made again.
        cache = "launcher-data"/"cache";
        /// What the hub said.
        hub_db = "launcher-data"/"cache"/"hub.db";
        /// Limits and schedule of downloads.
        download_settings = "launcher-data"/"metadata"/"downloads.json";
        /// Proxy, offline mode, mirrors.
        network_settings = "launcher-data"/"metadata"/"network.json";
        /// Descriptions of further apps, the user's own.
        apps = "launcher-data"/"apps";
        /// What was started and may still run, and what becomes of it when the sidecar ends.
        processes_file = "launcher-data"/"metadata"/"processes.json";
        /// The models.
        library = "shared-resources"/"models";
        /// The index of the library.
        models_db = "shared-resources"/"models"/"models.db";
        /// Which links are ours.
        link_registry_db = "shared-resources"/"models"/"link_registry.db";
        /// Of older sidecars; only read.
        link_registry_json = "shared-resources"/"models"/"link_registry.json";
        /// Which models an app gets, and where.
        mapping_rules = "launcher-data"/"config"/"model-library-translation";
        /// Of older sidecars; only read.
        older_mapping_rules = "launcher-data"/"mapping-configs";
        /// On the library's own volume, so that deleting and restoring are renames.
        trash = "shared-resources"/"models"/".trash";
        /// Imports that are not finished.
        staging = "shared-resources"/"models"/".staging";
        /// Workflows of the user.
        workflows = "shared-resources"/"user"/"workflows";
    }
}
