//! What differs between apps, as values: one description each, from `contracts/apps/` and from the user's own files.
//!
//! No other module names an app. Nothing here starts a program or touches a version's folder beyond its names.

mod catalog;
mod command;
mod description;
mod glob;

pub use catalog::{Apps, DEFAULT_APP};
pub use command::{
    Command, Environment, VENV, child_environment, command_of, is_complete, missing_of, models_of,
    program_of, python_of, shared_of,
};
pub use description::{
    AppDescription, Launch, MappingRule, Models, NewestPer, Package, PackageKind, Python, Ready, Releases,
    SetupLink, fill, this_platform,
};
