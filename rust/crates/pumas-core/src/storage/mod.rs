//! The doors to the disk: path rules, durable writes, JSON state with backups, SQLite, the owner lock.
//!
//! No domain joins a root with foreign text, writes a state file or opens a database by itself. What the files mean is
//! not known here.

pub mod clock;
pub mod database;
pub mod files;
pub mod json_file;
pub mod leftovers;
pub mod listing;
mod numerals;
pub mod owner;
pub mod paths;
pub mod state_lock;
pub mod troubles;
pub mod unicode;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose content is right whenever nobody holds it, also after a panic elsewhere.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
