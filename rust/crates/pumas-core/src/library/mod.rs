//! The model library.

pub mod entry;
pub mod formats;
pub mod moments;
pub mod references;
pub mod repo_ids;
pub mod search;
pub mod store;
pub mod words;
