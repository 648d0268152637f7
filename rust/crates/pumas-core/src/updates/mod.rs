//! Brings the launcher's own checkout forward: tried aside first, back when it does not install or load; a journal in git's
//! folder lets the next start finish what a kill cut off.

mod checkout;
pub mod restarter;
mod service;

pub use checkout::{Applied, Commit, Current};
pub use service::{Check, UpdateService};
