//! What a volume can do: symbolic links, hard links. By the name of its file system, so that a plan changes nothing.
//!
//! What the name does not tell is found out when the first link is made there, and kept for the rest of the run.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Mutex;

use crate::links::paths::parent;
use crate::storage::locked;

/// FAT knows no links of any kind (<https://docs.kernel.org/filesystems/vfat.html>).
const NO_LINKS: [&str; 4] = ["vfat", "msdos", "exfat", "fuseblk.exfat"];

/// Which links can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ability {
    /// Symbolic ones.
    pub symlinks: bool,
    /// Further names of a file.
    pub hardlinks: bool,
}

/// What is known of the volumes.
#[derive(Debug, Default)]
pub struct Volumes {
    known: Mutex<HashMap<u64, Ability>>,
}

impl Volumes {
    /// Of the volume with this `st_dev`.
    #[must_use]
    pub fn ability(&self, device: u64) -> Ability {
        *locked(&self.known).entry(device).or_insert_with(|| {
            let links = !NO_LINKS.contains(&file_system(device).as_str());
            Ability {
                symlinks: links,
                hardlinks: links,
            }
        })
    }

    /// Remember that a link could not be made there.
    pub fn lacks(&self, device: u64, symlinks: bool, hardlinks: bool) {
        let known = self.ability(device);
        let ability = Ability {
            symlinks: known.symlinks && !symlinks,
            hardlinks: known.hardlinks && !hardlinks,
        };
        locked(&self.known).insert(device, ability);
    }
}

/// Its name in the kernel's table of mounts (proc(5)); "" when that is not to be had.
fn file_system(device: u64) -> String {
    let wanted = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    String::from_utf8_lossy(&table)
        .lines()
        .find_map(|line| {
            let (place, system) = line.split_once(" - ")?;
            (place.split(' ').nth(2)? == wanted)
                .then(|| system.split(' ').next().unwrap_or_default().to_owned())
        })
        .unwrap_or_default()
}

/// `st_dev` of a path or of its nearest existing parent, links followed.
#[must_use]
pub fn device_of(path: &str) -> u64 {
    let mut at = path;
    loop {
        match fs::metadata(at) {
            Ok(status) => return status.dev(),
            Err(_) if parent(at) == at || at.is_empty() => return 0,
            Err(_) => at = parent(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_made_is_remembered() {
        let volumes = Volumes::default();
        let device = device_of("/nowhere/at/all");
        assert_eq!(device, device_of("/"));
        let known = volumes.ability(device);
        volumes.lacks(device, true, false);
        let left = volumes.ability(device);
        assert_eq!((left.symlinks, left.hardlinks), (false, known.hardlinks));
    }
}
