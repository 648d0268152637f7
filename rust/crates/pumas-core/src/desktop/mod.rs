//! The desktop around the apps: shortcuts of versions, and opening folders and pages.

mod entry;
mod folders;
mod icons;
mod opening;
pub mod service;
mod shortcuts;

pub use service::{DesktopService, ShortcutState};
