//! What killed writes left beside the state files, removed at each start by the owner of the root.
//!
//! Temporary names alone, of our form and of processes that are gone. Folders whose content is a domain's own (the library,
//! versions of apps) are swept by that domain.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::Layout;
use crate::storage::files::sweep;

/// How far below `launcher-data` state files lie.
const DEPTH: usize = 2;

/// Blocks; looks at a dozen folders.
pub fn remove_leftovers(layout: &Layout) {
    // Below these lie trees of others: packages, profiles of browsers, what a page hands over.
    let foreign = [layout.cache(), layout.logs(), layout.uploads()];
    sweep([layout.root()]);
    below(&layout.data(), &foreign, DEPTH);
}

fn below(folder: &Path, foreign: &[PathBuf], depth: usize) {
    sweep([folder]);
    if depth == 0 || foreign.iter().any(|one| one == folder) {
        return;
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        below(&entry.path(), foreign, depth - 1);
    }
}
