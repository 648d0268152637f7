//! Which archive of a release is brought, and bringing it once.
//!
//! A digest is published with the asset, or in a list of check sums beside it. Assets with one come by the engine of model downloads (several connections, blocks that survive a kill); the archive
//! of a repository has neither digest nor length, so it comes in one stream. `downloads` does both.

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::checksums::{LARGEST as LARGEST_LIST, digest_in, list_for};
use super::releases::{Release, not_found};
use crate::apps::{AppDescription, PackageKind, this_platform};
use crate::downloads::{Single, Way};
use crate::error::Result;
use crate::net::Timeouts;
use crate::storage::files::{During as _, MARGIN, require_space};

const NAME: &str = "archive";
const LARGEST: u64 = 1 << 47;
const LIST_TIMEOUTS: Timeouts = Timeouts {
    read: Duration::from_secs(20),
};
const LOOK: Duration = Duration::from_millis(200);

/// What to bring. `size` and `sha256` are None when they are not published; `checksums` is the address of a list that may
/// have the digest.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Archive {
    pub(super) url: String,
    pub(super) name: String,
    pub(super) size: Option<u64>,
    pub(super) sha256: Option<String>,
    #[serde(default)]
    pub(super) checksums: Option<String>,
}

impl Archive {
    /// What to download for this machine.
    ///
    /// # Errors
    /// `ReleaseNotFound`: the release has nothing for it.
    pub(super) fn of(app: &AppDescription, release: &Release) -> Result<Self> {
        let nothing = |reason: &str| not_found(&app.name, &release.tag, reason);
        if app.package.kind == PackageKind::Source {
            let url = |key: &str| release.raw.get(key).and_then(Value::as_str);
            let forms = [("zipball_url", "zip"), ("tarball_url", "tar.gz")];
            let found = forms.into_iter().find_map(|(key, ending)| {
                let url = url(key).filter(|url| url.starts_with("http://") || url.starts_with("https://"))?;
                Some(Self {
                    url: url.to_owned(),
                    name: format!("{}.{ending}", release.tag),
                    size: None,
                    sha256: None,
                    checksums: None,
                })
            });
            return found.ok_or_else(|| nothing("has no archive"));
        }
        let word = |asset: &'_ serde_json::Map<String, Value>, key: &str| {
            asset.get(key).and_then(Value::as_str).map(str::to_owned)
        };
        let names: Vec<String> = release.assets().filter_map(|asset| word(asset, "name")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let name = app
            .package
            .choose(&names)
            .ok_or_else(|| nothing(&format!("has nothing for this machine ({})", this_platform())))?;
        let find = |name: &str| {
            release
                .assets()
                .find(|asset| word(asset, "name").as_deref() == Some(name))
        };
        let url_of = |name: &str| find(name).and_then(|asset| word(asset, "browser_download_url"));
        let asset = find(name);
        let url = url_of(name).ok_or_else(|| nothing("does not say where its files are"))?;
        let size = asset.and_then(|asset| asset.get("size")).and_then(Value::as_u64);
        let size = size.filter(|size| (1..LARGEST).contains(size));
        let sha256 = size.and(published_digest(asset.and_then(|asset| asset.get("digest"))));
        let is_listed = size.is_some() && sha256.is_none();
        Ok(Self {
            url,
            name: name.to_owned(),
            size,
            sha256,
            checksums: list_for(name, &names).filter(|_| is_listed).and_then(url_of),
        })
    }
}

/// The SHA-256 of an asset as GitHub gives it (`sha256:…`), None for anything else.
fn published_digest(text: Option<&Value>) -> Option<String> {
    let digits = text?.as_str()?.strip_prefix("sha256:")?;
    let is_digest = digits.len() == 64 && digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    is_digest.then(|| digits.to_owned())
}

/// One archive into one folder, which exists and is ours alone.
pub(super) struct ArchiveFetch<'a> {
    pub(super) archive: &'a Archive,
    pub(super) folder: &'a Path,
}

impl ArchiveFetch<'_> {
    /// The archive's place, its SHA-256 and whether that was compared with a published one; at once when it is there already.
    /// Blocks.
    ///
    /// # Errors
    /// `DigestMismatch`, those of the network and the disk; and what the check of `way` fails with.
    pub(super) fn run(&self, way: Way) -> Result<(PathBuf, String, bool)> {
        let (place, digest_file) = (self.folder.join(NAME), self.folder.join("archive.sha256"));
        let expected = self.archive.sha256.as_deref();
        // A power cut may have taken its content.
        let is_digest = |text: &String| text.len() == 64 && text.bytes().all(|c| c.is_ascii_hexdigit());
        let known = fs::read_to_string(&digest_file).ok().filter(is_digest);
        if let Some(digest) = known
            && place.is_file()
            && expected.is_none_or(|expected| expected == digest)
        {
            return Ok((place, digest, expected.is_some()));
        }
        let listed = self.listed(&way)?;
        let expected = expected.or(listed.as_deref());
        if let Some(size) = self.archive.size {
            require_space(self.folder, size, MARGIN)?;
        }
        let single = Single {
            url: &self.archive.url,
            name: &self.archive.name,
            size: self.archive.size,
            sha256: expected,
            folder: self.folder,
            stem: NAME,
        };
        let digest = single.bring(way)?;
        fs::write(&digest_file, &digest).during("Keeping the archive")?;
        Ok((place, digest, expected.is_some()))
    }

    /// The digest that the list has. A list that is published and cannot be had is a failure: what it would have told is not
    /// known.
    fn listed(&self, way: &Way) -> Result<Option<String>> {
        let Some(list) = self.archive.checksums.as_deref() else {
            return Ok(None);
        };
        let request = way.network.get(list)?.timeouts(LIST_TIMEOUTS);
        let text = way.runtime.block_on(async {
            let mut asked = pin!(async { way.network.send(request).await?.read(LARGEST_LIST).await });
            loop {
                tokio::select! {
                    text = &mut asked => return text,
                    () = tokio::time::sleep(LOOK) => (way.check)()?,
                }
            }
        })?;
        Ok(digest_in(&text, &self.archive.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_github() {
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(published_digest(Some(&Value::from(good))), Some("0a".repeat(32)));
        for bad in ["sha256:", "md5:00", &format!("sha256:{}", "0A".repeat(32))] {
            assert_eq!(published_digest(Some(&Value::from(bad))), None);
        }
    }
}
