//! The files of a folder that may belong to a model, and why the others do not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::hugging_face::are_blobs;
use super::names::is_junk;
use super::{Skipped, last, unreadable};
use crate::error::{Error, Result};
use crate::storage::paths::display_name;
use crate::text::grouped;

const MAX_FILES: u64 = 20_000;
pub(super) const MAX_DEPTH: usize = 32;
pub(super) const TOO_DEEP: &str = "too deep";

/// Its name relative to the folder, and its path.
pub(super) type Found = (PathBuf, PathBuf);

/// Each file that may belong to the model, with a bound on depth and number.
pub(super) fn walk(folder: &Path, skipped: &mut Vec<Skipped>) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut pending = vec![(folder.to_path_buf(), PathBuf::new(), 0)];
    let mut count = 0;
    while let Some((current, prefix, depth)) = pending.pop() {
        let shown = if prefix.as_os_str().is_empty() {
            last(&current)
        } else {
            prefix.as_os_str()
        };
        let mut entries = fs::read_dir(&current)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(|error| unreadable(shown, &error))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            count += 1;
            if count > MAX_FILES {
                let name = display_name(last(folder));
                let many = grouped(MAX_FILES);
                return Err(Error::NotAModel(format!(
                    "{name} holds more than {many} files; import a folder inside it."
                )));
            }
            let name = prefix.join(entry.file_name());
            match what(&entry, depth).map_err(|error| unreadable(&name, &error))? {
                What::Skipped(reason) => skipped.push(Skipped {
                    path: display_name(&name),
                    reason: reason.to_owned(),
                }),
                What::Folder => pending.push((entry.path(), name, depth + 1)),
                What::File => found.push((name, entry.path())),
            }
        }
    }
    Ok(found)
}

enum What {
    File,
    Folder,
    Skipped(&'static str),
}

fn what(entry: &fs::DirEntry, depth: usize) -> io::Result<What> {
    let name = entry.file_name();
    let name = name.to_string_lossy();
    if name.starts_with('.') {
        return Ok(What::Skipped("hidden"));
    }
    if is_junk(&name) {
        return Ok(What::Skipped("left behind by a program, not part of a model"));
    }
    let kind = entry.file_type()?;
    let behind = match fs::metadata(entry.path()) {
        Ok(facts) => Some(facts),
        Err(error) if leads_nowhere(&error) => None,
        Err(error) => return Err(error),
    };
    let is_folder = behind.as_ref().is_some_and(fs::Metadata::is_dir);
    Ok(if kind.is_symlink() && is_folder {
        What::Skipped("a link to a folder is not followed")
    } else if kind.is_dir() {
        if are_blobs(&entry.path()) {
            What::Skipped("what the snapshots link to")
        } else if depth >= MAX_DEPTH {
            What::Skipped(TOO_DEEP)
        } else {
            What::Folder
        }
    } else if behind.is_some_and(|facts| facts.is_file()) {
        What::File
    } else if kind.is_symlink() {
        What::Skipped("the link leads nowhere")
    } else {
        What::Skipped("not a regular file")
    })
}

fn leads_nowhere(error: &io::Error) -> bool {
    let reason = Errno::from_io_error(error);
    reason.is_some_and(|reason| [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].contains(&reason))
}
