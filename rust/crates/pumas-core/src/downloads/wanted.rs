//! One file that a download must bring, and how to tell that what arrived is it.
//!
//! The hub names large files by the SHA-256 of their bytes and all others by git's id of a blob, the SHA-1 of a short header
//! and the bytes (<https://git-scm.com/book/en/v2/Git-Internals-Git-Objects>). Nothing here touches network or disk.

use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};

use crate::error::{Error, Result};
use crate::hub::HubFile;
use crate::storage::files::hex;
use crate::storage::paths::relative_path;

/// No repository is known to hold a file near this size; more is a hub that errs or lies.
const LARGEST_FILE: u64 = 1 << 47;

/// `path` in the repository, which is also its path in the model; digests in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WantedFile {
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// `None` for files that the hub keeps in git itself.
    pub sha256: Option<String>,
    pub git_oid: String,
}

impl WantedFile {
    /// # Errors
    /// As [`WantedFile::check`].
    pub(super) fn of(file: &HubFile) -> Result<Self> {
        let wanted = Self {
            path: file.path.clone(),
            size: file.size,
            sha256: file.sha256.clone(),
            git_oid: file.git_oid.clone(),
        };
        wanted.check().map(|()| wanted)
    }

    /// # Errors
    /// `UnsafePath`: the path cannot be one of a model's file. `InvalidInput`: the size or a digest is impossible.
    pub(super) fn check(&self) -> Result<()> {
        relative_path(&self.path, "file")?;
        let path = &self.path;
        let refused = |reason: String| Err(Error::invalid("file", reason));
        if self.size > LARGEST_FILE {
            return refused(format!("the hub gives {path} an impossible size"));
        }
        match &self.sha256 {
            Some(digest) if !is_hex(digest, 64) => {
                refused(format!("the hub gives {path} a digest that is none"))
            }
            None if !is_hex(&self.git_oid, 40) => refused(format!(
                "the hub gives {path} no digest, so it could not be verified"
            )),
            _ => Ok(()),
        }
    }

    /// The digest that decides.
    pub(super) fn expected(&self) -> &str {
        self.sha256.as_deref().unwrap_or(&self.git_oid)
    }

    /// The digest to compare with `expected`; `read` gives the bytes once more, and is called only where git names it.
    pub(super) fn digest(
        &self,
        sha256: &str,
        read: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<()>,
    ) -> Result<String> {
        if self.sha256.is_some() {
            return Ok(sha256.to_owned());
        }
        let mut digest = Sha1::new();
        digest.update(format!("blob {}\0", self.size));
        read(&mut |piece| digest.update(piece))?;
        Ok(hex(&digest.finalize()))
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: u64, sha256: Option<&str>, git_oid: &str) -> WantedFile {
        WantedFile {
            path: path.to_owned(),
            size,
            sha256: sha256.map(str::to_owned),
            git_oid: git_oid.to_owned(),
        }
    }

    #[test]
    fn what_cannot_be_verified_or_stored_is_refused() {
        let (sha256, oid) = ("a".repeat(64), "b".repeat(40));
        assert!(file("a/b.bin", 1, Some(&sha256), "").check().is_ok());
        assert!(file("a", 0, None, &oid).check().is_ok());
        for bad in [
            file("../a", 1, Some(&sha256), ""),
            file("a", 1 << 48, Some(&sha256), ""),
            file("a", 1, Some("A"), &oid),
            file("a", 1, None, ""),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn small_files_have_gits_name() {
        let wanted = file("a", 6, None, &"b".repeat(40));
        let found = wanted.digest("unused", |take| {
            take(b"hel");
            take(b"lo\n");
            Ok(())
        });
        // As `printf 'hello\n' | git hash-object --stdin` says.
        assert_eq!(found.unwrap(), "ce013625030ba8dba906f756967f9e9ca394464a");
        let large = file("a", 6, Some(&"a".repeat(64)), "");
        assert_eq!(
            large.digest("x", |_| Err(Error::Bug(String::new()))).unwrap(),
            "x"
        );
    }
}
