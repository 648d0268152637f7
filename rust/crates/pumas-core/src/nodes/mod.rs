//! Custom nodes of versions: git clones that an app loads as programs of its own.

pub(crate) mod git;
mod record;
pub mod service;
mod work;

pub use service::{Answer, InstallNode, NodeParts, NodeService, Requirements};
pub use work::{Node, RemovedNode};
