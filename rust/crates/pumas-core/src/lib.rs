//! Pumas without a server: a model library that can be searched, filled and verified, its long work as jobs, and one
//! stream of what happens.
//!
//! [`PumasApi::new`] builds everything below one launcher root; each domain's service is a field. Services take and give
//! plain values and fail with [`Error`]. They know nothing of HTTP or JSON-RPC, and they never block the async runtime:
//! disk and SQLite work runs in threads of its own.

pub mod adoption;
pub mod apps;
pub mod blocking;
pub mod config;
pub mod contracts;
pub mod desktop;
pub mod downloads;
pub mod error;
pub mod events;
pub mod hub;
pub mod installed;
pub mod jobs;
pub mod library;
pub mod links;
pub mod net;
pub mod nodes;
pub mod processes;
pub mod stop;
pub mod storage;
pub mod system;
pub mod text;
pub mod updates;
pub mod versions;

mod api;
mod child;
mod connections;
mod zip_records;

pub use api::PumasApi;
pub use error::{Error, Result};
