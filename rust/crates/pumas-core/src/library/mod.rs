//! The model library.

pub mod batch_writer;
pub mod catalog;
pub mod companions;
pub mod copying;
pub mod entry;
pub mod facets;
pub mod formats;
pub mod hashing;
mod held;
pub mod holdings;
pub mod import_plan;
pub mod import_source;
pub mod importing;
pub mod index;
pub mod library_index;
pub mod listing;
pub mod metadata;
pub mod moments;
pub mod publishing;
pub mod reading;
pub mod reconcile;
pub mod references;
pub mod repo_ids;
pub mod search;
pub mod service;
pub mod sources;
pub mod staging;
pub mod store;
pub mod trash;
pub mod verify;
pub mod version_ranges;
pub mod words;

#[cfg(test)]
pub(crate) mod testing;
