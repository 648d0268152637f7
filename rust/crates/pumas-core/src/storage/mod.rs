//! The doors to the disk: path rules, durable writes, JSON state with backups, SQLite, the owner lock.
//!
//! No domain joins a root with foreign text or writes a state file by itself.

pub mod troubles;
