//! Custom nodes of versions: git clones that an app loads as programs of its own.

pub(crate) mod addresses;
pub(crate) mod git;
mod naming;
mod program;
mod record;
pub mod service;
mod trash;
mod work;

pub use service::{Answer, InstallNode, NodeParts, NodeService, Requirements};
pub use trash::RemovedNode;
pub use work::Node;
