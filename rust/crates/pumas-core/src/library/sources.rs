//! Questions about files that still lie on the user's disk: can they be moved, who else links to them.
//!
//! Calls block. Reading model files is `formats`; nothing here changes a file.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, access};

use crate::error::{Error, Result};
use crate::storage::files::reason;
use crate::storage::paths::{caller_path, display_name};

/// Whether a file exists and may be removed from its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writable {
    /// As given.
    pub path: String,
    /// Whether it may.
    pub writable: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// How many names the file has on its file system.
///
/// # Errors
/// `UnsafePath`: not an absolute path. `FileUnavailable`: there is no such file.
pub fn link_count(path: &str) -> Result<u64> {
    let file = caller_path(path, "file_path")?;
    let facts = file.metadata().map_err(|error| {
        Error::unavailable(display_name(file.file_name().unwrap_or_default()), reason(&error))
    })?;
    Ok(facts.nlink())
}

/// One answer per path, in their order.
///
/// # Errors
/// `UnsafePath`: a path is not absolute.
pub fn writable(paths: &[String]) -> Result<Vec<Writable>> {
    let answer = |given: &String| {
        let reason = why_not(&caller_path(given, "file_paths")?);
        Ok(Writable {
            path: given.clone(),
            writable: reason.is_none(),
            reason,
        })
    };
    paths.iter().map(answer).collect()
}

fn why_not(path: &Path) -> Option<String> {
    if let Err(error) = path.symlink_metadata() {
        return Some(reason(&error));
    }
    let folder = path.parent().unwrap_or(path);
    match access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => None,
        Err(_) => Some("its folder may not be written by this user".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_counted_and_missing_files_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.gguf");
        std::fs::write(&file, b"x").unwrap();
        std::fs::hard_link(&file, folder.path().join("n.gguf")).unwrap();
        let text = file.to_string_lossy().into_owned();
        assert_eq!(link_count(&text).unwrap(), 2);
        let missing = format!("{text}.none");
        assert_eq!(
            link_count(&missing).unwrap_err().to_string(),
            "m.gguf.none: No such file or directory"
        );
        let answers = writable(&[text, missing]).unwrap();
        assert_eq!(
            (answers[0].writable, answers[1].reason.as_deref()),
            (true, Some("No such file or directory"))
        );
        assert!(writable(&["relative".to_owned()]).is_err());
    }
}
