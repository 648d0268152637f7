//! Facts about the machine and this installation: its load, its disk, the sandbox around us, what is missing.
//!
//! [`SystemService`] keeps one shared reading of everything that blocks, so that polling costs nothing and nobody waits for
//! a disk. Who is running comes through [`RunningApps`]; no other domain is known here.

pub mod dependencies;
pub mod disk;
mod gpus;
pub mod resources;
pub mod sampling;
pub mod sandbox;
mod service;
mod watching;

pub use service::{AppProcess, AppResources, AppsReport, ReleaseInfo, RunningApps, Status, SystemService};
pub use watching::tell_load;
