//! How much of a download an earlier run left in its staging folder: whole files, and blocks of partial ones.
//!
//! Who writes there is `downloading`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::part::{PartFile, records_path};
use super::wanted::WantedFile;
use crate::error::Result;
use crate::library::staging::Staging;

const PARTS: &str = "parts";

/// The folder of a download's partial files.
///
/// # Errors
/// `UnsafePath`: the id could name something outside.
pub(super) fn parts_of(staging: &Staging, job_id: &str) -> Result<PathBuf> {
    Ok(staging.folder(job_id)?.join(PARTS))
}

/// Bytes that need not be fetched again; `is_done` knows the paths of whole files. Blocks for a few small reads.
pub(super) fn arrived(files: &[WantedFile], is_done: impl Fn(&str) -> bool, parts: &Path) -> u64 {
    let (done, missing): (Vec<_>, Vec<_>) = files.iter().partition(|file| is_done(&file.path));
    let whole: u64 = done.iter().map(|file| file.size).sum();
    let missing: HashMap<&str, u64> = missing
        .into_iter()
        .map(|file| (file.expected(), file.size))
        .collect();
    whole
        + missing
            .into_iter()
            .map(|(digest, size)| recorded(parts, digest, size))
            .sum::<u64>()
}

fn recorded(parts: &Path, digest: &str, size: u64) -> u64 {
    if !records_path(parts, digest).is_file() {
        return 0;
    }
    PartFile::open(parts, digest, size).map_or(0, |part| part.arrived())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_files_and_blocks_count() {
        let folder = tempfile::tempdir().unwrap();
        let file = |path: &str, letter: &str| WantedFile {
            path: path.to_owned(),
            size: 2 << 20,
            sha256: Some(letter.repeat(64)),
            git_oid: String::new(),
        };
        let files = [
            file("a", "a"),
            file("b", "b"),
            file("copy of b", "b"),
            file("c", "c"),
        ];
        let part = PartFile::open(folder.path(), files[1].expected(), files[1].size).unwrap();
        part.write(0, &vec![0; part.length(0)]).unwrap();
        assert_eq!(arrived(&files, |path| path == "a", folder.path()), 3 << 20);
    }
}
