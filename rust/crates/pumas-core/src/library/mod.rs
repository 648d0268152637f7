//! The model library.

pub mod batch_writer;
pub mod entry;
pub mod formats;
pub mod index;
pub mod moments;
pub mod reading;
pub mod reconcile;
pub mod references;
pub mod repo_ids;
pub mod search;
pub mod store;
pub mod words;
