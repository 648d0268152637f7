//! How full a file system is. The calls here block, on a network disk for long.

use std::path::Path;

use crate::error::{Error, Result};
use crate::storage::files::reason;

/// The file system that holds a path, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiskSpace {
    /// All of it.
    pub total: u64,
    /// By files; what the system reserves is in neither `used` nor `free`.
    pub used: u64,
    /// What this user may still write.
    pub free: u64,
    /// `used` of `total`, 0 to 100 with one decimal.
    pub percent: f64,
}

/// The space of the file system that holds `path`; blocks.
///
/// # Errors
/// `DiskError`.
pub fn measure(path: &Path) -> Result<DiskSpace> {
    let facts = rustix::fs::statvfs(path).map_err(|error| {
        let reason = reason(&error.into());
        Error::DiskError(format!(
            "The free space of the launcher's disk cannot be read: {reason}."
        ))
    })?;
    let bytes = |blocks: u64| blocks.saturating_mul(facts.f_frsize);
    let total = bytes(facts.f_blocks);
    let used = bytes(facts.f_blocks.saturating_sub(facts.f_bfree));
    Ok(DiskSpace {
        total,
        used,
        free: bytes(facts.f_bavail),
        percent: percent(used as f64, total as f64),
    })
}

/// `part` of `whole` in percent, kept within 0 to 100, with one decimal; an empty whole is 0 percent used.
#[must_use]
pub fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 {
        rounded((100.0 * part / whole).clamp(0.0, 100.0), 1)
    } else {
        0.0
    }
}

/// `number` with so many decimals.
#[must_use]
pub fn rounded(number: f64, decimals: usize) -> f64 {
    format!("{number:.decimals$}").parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_kept_within_bounds() {
        let found = [(1.0, 3.0), (5.0, 2.0), (-1.0, 2.0), (1.0, 0.0)]
            .map(|(part, whole)| percent(part, whole).to_string());
        assert_eq!(found, ["33.3", "100", "0", "0"]);
    }

    #[test]
    fn a_disk_has_space_and_a_missing_one_says_why() {
        let space = measure(Path::new("/")).unwrap();
        assert!(space.total >= space.used && space.total > 0);
        let missing = measure(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(
            missing.ends_with("cannot be read: No such file or directory."),
            "{missing}"
        );
    }
}
