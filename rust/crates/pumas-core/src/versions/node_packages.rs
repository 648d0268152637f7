//! Packages of custom nodes, into the environment of a version. Blocks; knows nothing of nodes beyond their requirements.

use std::path::Path;
use std::sync::Arc;

use super::packages::{Packages, Wish};
use super::running::{InstallLog, Programs};
use crate::apps::python_of;
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::installed::Version;
use crate::jobs::JobContext;
use crate::nodes::Requirements;

/// Installs them with a log beside those of installations.
pub struct NodePackages {
    layout: Arc<Layout>,
}

impl NodePackages {
    /// Of a launcher root.
    #[must_use]
    pub fn new(layout: &Arc<Layout>) -> Self {
        Self {
            layout: Arc::clone(layout),
        }
    }
}

impl Requirements for NodePackages {
    fn install(&self, context: &JobContext, version: &Version, requirements: &Path) -> Result<()> {
        if !python_of(&version.folder).exists() {
            return Err(Error::Unsupported(format!(
                "ComfyUI {} has no Python environment to install into.",
                version.tag
            )));
        }
        let (job_id, cache) = (context.job_id(), self.layout.cache());
        let log = self.layout.logs().join(format!("install-node-{job_id}.log"));
        let asked = context.clone();
        let programs = Programs::new(
            cache.join(format!("node-{job_id}.json")),
            Arc::new(InstallLog::new(&log)),
            Arc::new(move || asked.check()),
        );
        programs.end_leftover();
        let wish = Wish {
            requirements: Some(requirements.to_path_buf()),
            ..Wish::default()
        };
        Packages::new(&cache, programs)?.install(&version.folder, &wish, None, &mut |_| {}, &mut || {})
    }
}
