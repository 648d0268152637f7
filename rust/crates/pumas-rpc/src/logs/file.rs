//! `launcher.log`, and five older parts of it beside it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use pumas_core::storage::files::{aside_name, exists, is_odd, put_aside};

const MAX_BYTES: u64 = 10_485_760;
const BACKUPS: u32 = 5;

/// Opened with the first line, so that a start that says nothing leaves nothing.
pub(super) struct LogFile {
    path: PathBuf,
    open: Option<(File, u64)>,
}

impl LogFile {
    pub(super) fn new(folder: &Path) -> Self {
        let log = Self {
            path: folder.join("launcher.log"),
            open: None,
        };
        // Also where nothing is ever said; what cannot be done now is tried again with the first line.
        let _ = log.make_way();
        log
    }

    /// The folder is there, and nothing in it stands where the log should be. Another user's log, or one that is marked
    /// as read-only, stays under another name.
    fn make_way(&self) -> std::io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        if is_odd(&self.path) {
            put_aside(&self.path)?;
        } else if exists(&self.path) && OpenOptions::new().append(true).open(&self.path).is_err() {
            fs::rename(&self.path, aside_name(&self.path, "damaged"))?;
        }
        Ok(())
    }

    /// What cannot be written is lost: a full disk must not stop a call.
    pub(super) fn write(&mut self, line: &[u8]) {
        let _ = self.try_write(line);
    }

    fn try_write(&mut self, line: &[u8]) -> std::io::Result<()> {
        let length = line.len() as u64;
        if self
            .open
            .as_ref()
            .is_some_and(|(_, size)| size + length > MAX_BYTES)
        {
            self.open = None;
            self.rotate()?;
        }
        if self.open.is_none() {
            self.open = Some(self.begin()?);
        }
        if let Some((file, size)) = &mut self.open {
            file.write_all(line)?;
            *size += length;
        }
        Ok(())
    }

    fn begin(&self) -> std::io::Result<(File, u64)> {
        self.make_way()?;
        let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    }

    fn rotate(&self) -> std::io::Result<()> {
        for number in (1..BACKUPS).rev() {
            let _ = fs::rename(self.numbered(number), self.numbered(number + 1));
        }
        fs::rename(&self.path, self.numbered(1))
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotates_and_keeps_five() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFile::new(&folder.path().join("logs"));
        let line = vec![b'x'; usize::try_from(MAX_BYTES / 2 + 1).unwrap()];
        for _ in 0..8 {
            log.write(&line);
        }
        let mut names: Vec<_> = fs::read_dir(folder.path().join("logs"))
            .unwrap()
            .map(|one| one.unwrap().file_name())
            .collect();
        names.sort();
        let expected = [
            "launcher.log",
            "launcher.log.1",
            "launcher.log.2",
            "launcher.log.3",
            "launcher.log.4",
            "launcher.log.5",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_folder_in_its_place_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("launcher.log")).unwrap();
        LogFile::new(folder.path()).write(b"x\n");
        assert_eq!(fs::read(folder.path().join("launcher.log")).unwrap(), b"x\n");
    }
}
