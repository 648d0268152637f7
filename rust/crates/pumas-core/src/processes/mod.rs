//! Runs apps. Each lives below a small process of ours ([`keeper`]) that owns its log and its children; only what that tree
//! or the ledger proves to be ours is ever signalled.

pub(crate) mod ending;
mod family;
pub mod keeper;
pub(crate) mod kernel;
mod ledger;
mod output;
mod patch;
mod patching;
pub(crate) mod ports;
pub(crate) mod readiness;
mod run;
pub mod service;
mod spawn;
mod starting;
mod status;
mod usage;
mod values;
mod watching;

pub use patching::Patching;
pub use service::{Launch, ProcessService};
pub use status::AppsStatus;
pub use values::{LogTail, OnExit, RunInfo, RunState, Stopped, Usage};
