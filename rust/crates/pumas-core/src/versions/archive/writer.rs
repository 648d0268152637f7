//! Writes members below one folder and keeps count.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use caseless::default_case_fold_str;
use rustix::fs::OFlags;
use unicode_normalization::UnicodeNormalization as _;

use super::{CHUNK, DURING, LONGEST_LINK, Limits, damaged, refused, too_many};
use crate::error::{Error, Result};
use crate::storage::files::{During as _, free_space};
use crate::storage::paths::contained;
use crate::text::grouped;

pub(super) struct Writer {
    target: PathBuf,
    limits: Limits,
    packed: u64,
    room: u64,
    written: u64,
    count: u64,
    /// Folded name -> whether it is a folder.
    seen: HashMap<String, bool>,
    symbolic: Vec<(PathBuf, String)>,
    hard: Vec<(PathBuf, PathBuf)>,
}

impl Writer {
    pub(super) fn new(target: &Path, packed: u64, limits: Limits) -> Result<Self> {
        let free = free_space(target).during(DURING)?;
        Ok(Self {
            target: target.to_path_buf(),
            packed: packed.max(1),
            room: free.saturating_sub(limits.margin),
            limits,
            written: 0,
            count: 0,
            seen: HashMap::new(),
            symbolic: Vec::new(),
            hard: Vec::new(),
        })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Where a member goes; None for the top folder itself.
    fn place(&mut self, name: &str, folder: bool) -> Result<Option<PathBuf>> {
        self.count += 1;
        if self.count > self.limits.members {
            return Err(too_many(self.limits.members));
        }
        let plain = if folder { name.trim_end_matches('/') } else { name };
        let plain = plain.strip_prefix("./").unwrap_or(plain);
        if folder && matches!(plain, "" | ".") {
            return Ok(None);
        }
        let path =
            contained(&self.target, plain, "member").map_err(|error| refused(error.to_string(), plain))?;
        self.claim(plain, folder)?;
        Ok(Some(path))
    }

    /// No two members may be one file, on no file system; and nothing lies below a file.
    fn claim(&mut self, name: &str, folder: bool) -> Result<()> {
        for (end, _) in name.match_indices('/') {
            if !*self.seen.entry(folded(&name[..end])).or_insert(true) {
                return Err(refused("a member lies below a file", name));
            }
        }
        match self.seen.insert(folded(name), folder) {
            Some(was_folder) if !(folder && was_folder) => {
                Err(refused("it has two members of one name", name))
            }
            _ => Ok(()),
        }
    }

    fn file_place(&mut self, name: &str) -> Result<PathBuf> {
        let place = self.place(name, false)?;
        place.ok_or_else(|| refused("a member has no name", name))
    }

    pub(super) fn folder(&mut self, name: &str) -> Result<()> {
        match self.place(name, true)? {
            Some(path) => fs::create_dir_all(path).during(DURING),
            None => Ok(()),
        }
    }

    pub(super) fn file(&mut self, name: &str, source: &mut dyn Read, size: u64, mode: u32) -> Result<()> {
        let path = self.file_place(name)?;
        self.require_room(size)?;
        make_parent(&path)?;
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let mut out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(&path)
            .during(DURING)?;
        let mut buffer = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK).max(1))];
        let mut left = size;
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(CHUNK));
            let count = source
                .read(&mut buffer[..most])
                .map_err(|error| damaged(&error))?;
            if count == 0 {
                return Err(refused("a member ends too early", name));
            }
            out.write_all(&buffer[..count]).during(DURING)?;
            left -= count as u64;
            self.count_bytes(count as u64)?;
        }
        if source.read(&mut [0]).map_err(|error| damaged(&error))? > 0 {
            return Err(refused("a member is longer than it says", name));
        }
        let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
        out.set_permissions(fs::Permissions::from_mode(mode))
            .during(DURING)
    }

    pub(super) fn link(&mut self, name: &str, target: &str) -> Result<()> {
        let path = self.file_place(name)?;
        let is_odd = target.is_empty()
            || target.chars().count() as u64 > LONGEST_LINK
            || target.starts_with('/')
            || target.contains(['\\', '\0']);
        if is_odd {
            return Err(refused("a link leads elsewhere", name));
        }
        self.symbolic.push((path, target.to_owned()));
        Ok(())
    }

    pub(super) fn hard_link(&mut self, name: &str, target: &str) -> Result<()> {
        let path = self.file_place(name)?;
        let target = target.strip_prefix("./").unwrap_or(target);
        let source =
            contained(&self.target, target, "member").map_err(|_| refused("a link leads elsewhere", name))?;
        self.hard.push((path, source));
        Ok(())
    }

    fn count_bytes(&mut self, size: u64) -> Result<()> {
        self.written += size;
        let allowed = self.packed.saturating_mul(self.limits.ratio);
        if self.written > self.limits.ratio_from && self.written > allowed {
            let reason = format!("it grows more than {} times when unpacked", self.limits.ratio);
            return Err(refused(reason, ""));
        }
        self.require_room(0)
    }

    fn require_room(&self, size: u64) -> Result<()> {
        let whole = self.written.saturating_add(size);
        if whole > self.limits.total {
            let reason = format!("it holds more than {} bytes", grouped(self.limits.total));
            return Err(refused(reason, ""));
        }
        if whole > self.room {
            return Err(Error::NotEnoughSpace {
                needed: whole.saturating_add(self.limits.margin),
                free: self.room.saturating_add(self.limits.margin),
            });
        }
        Ok(())
    }

    /// Make the links, now that nothing is written any more, and see where they really lead. The unpacked bytes.
    pub(super) fn finish(mut self) -> Result<u64> {
        for (path, source) in std::mem::take(&mut self.hard) {
            if !source.symlink_metadata().is_ok_and(|facts| facts.is_file()) {
                return Err(refused("a hard link leads to no file", &name_of(&path)));
            }
            make_parent(&path)?;
            if !path.exists() {
                let size = fs::copy(&source, &path).during(DURING)?;
                self.count_bytes(size)?;
            }
        }
        for (path, target) in &self.symbolic {
            make_parent(path)?;
            symlink(target, path).during(DURING)?;
        }
        let root = crate::storage::paths::resolved(&self.target);
        for (path, _) in &self.symbolic {
            let real = crate::storage::paths::resolved(path);
            if real == root || !real.starts_with(&root) {
                return Err(refused("a link leads elsewhere", &name_of(path)));
            }
        }
        Ok(self.written)
    }
}

fn make_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all).during(DURING)
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn folded(name: &str) -> String {
    let normal: String = name.nfc().collect();
    default_case_fold_str(&normal)
}
