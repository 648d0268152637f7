//! Brings the archive of a release: resumable, and compared with the published digest where there is one.
//!
//! It comes in one stream, because the archive of a repository has neither digest nor length; what can be resumed is.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use super::releases::{Release, not_found};
use super::running::Check;
use crate::apps::{AppDescription, PackageKind, this_platform};
use crate::error::{Error, Result};
use crate::net::{NetworkClient, Response, Timeouts};
use crate::storage::files::{During as _, MARGIN, free_space, hex, require_space};
use crate::text::grouped;

const NAME: &str = "archive";
const DURING: &str = "Writing the archive";
const PATIENCE: Duration = Duration::from_mins(2);
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const SHORTEST_WAIT_S: f64 = 0.1;
const SILENCE: Timeouts = Timeouts {
    read: Duration::from_secs(20),
};
const LOOK: Duration = Duration::from_millis(200);
const WINDOW: Duration = Duration::from_secs(5);
const LARGEST: u64 = 1 << 47;
/// HTTP answers that may be another one next time (RFC 9110 §15; 408, 425, 429 and the 5xx family).
const PASSING: [u16; 14] = [
    408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529,
];

/// What to bring. `size` and `sha256` are None when they are not published.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Archive {
    pub(super) url: String,
    pub(super) name: String,
    pub(super) size: Option<u64>,
    pub(super) sha256: Option<String>,
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
        let mut assets = release.assets();
        let asset = assets.find(|asset| word(asset, "name").as_deref() == Some(name));
        let url = asset.and_then(|asset| word(asset, "browser_download_url"));
        let url = url.ok_or_else(|| nothing("does not say where its files are"))?;
        let size = asset.and_then(|asset| asset.get("size")).and_then(Value::as_u64);
        let size = size.filter(|size| (1..LARGEST).contains(size));
        Ok(Self {
            url,
            name: name.to_owned(),
            sha256: size.and(published_digest(asset.and_then(|asset| asset.get("digest")))),
            size,
        })
    }
}

/// The SHA-256 of an asset as GitHub gives it (`sha256:…`), None for anything else.
fn published_digest(text: Option<&Value>) -> Option<String> {
    let digits = text?.as_str()?.strip_prefix("sha256:")?;
    let is_digest = digits.len() == 64 && digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    is_digest.then(|| digits.to_owned())
}

/// One archive into one folder. `report` is told (bytes, total, bytes per second, seconds left).
pub(super) struct ArchiveFetch<'a> {
    pub(super) archive: &'a Archive,
    /// It exists and is ours alone.
    pub(super) folder: &'a Path,
    pub(super) network: &'a NetworkClient,
    pub(super) check: &'a Check,
    pub(super) report: &'a (dyn Fn(u64, Option<u64>, Option<f64>, Option<f64>) + Sync),
}

impl ArchiveFetch<'_> {
    /// The archive's place and its SHA-256; at once when it is there already. Blocks.
    ///
    /// # Errors
    /// `DigestMismatch`, those of the network and the disk; and what `check` fails with.
    pub(super) fn run(&self, runtime: &Handle) -> Result<(PathBuf, String)> {
        let (place, digest_file) = (self.folder.join(NAME), self.folder.join("archive.sha256"));
        let expected = self.archive.sha256.as_ref();
        if let Ok(digest) = fs::read_to_string(&digest_file)
            && place.is_file()
            && expected.is_none_or(|expected| *expected == digest)
        {
            return Ok((place, digest));
        }
        if let Some(size) = self.archive.size {
            require_space(self.folder, size, MARGIN)?;
        }
        let mut again = true;
        let digest = loop {
            let digest = self.fetched(runtime)?;
            if expected.is_none_or(|expected| *expected == digest) {
                break digest;
            }
            let _ = fs::remove_file(self.part());
            if !again {
                return Err(Error::DigestMismatch {
                    name: self.archive.name.clone(),
                    reason: "its SHA-256 is another one".to_owned(),
                });
            }
            again = false;
        };
        let during = "Keeping the archive";
        fs::rename(self.part(), &place).during(during)?;
        let _ = fs::remove_file(self.etag_file());
        fs::write(&digest_file, &digest).during(during)?;
        let size = place.metadata().during(during)?.len();
        (self.report)(size, Some(size), None, None);
        Ok((place, digest))
    }

    fn part(&self) -> PathBuf {
        self.folder.join("archive.part")
    }

    fn etag_file(&self) -> PathBuf {
        self.folder.join("archive.etag")
    }

    /// The SHA-256 of what has arrived whole.
    fn fetched(&self, runtime: &Handle) -> Result<String> {
        let mut patience = Waiting::default();
        while let Err(error) = runtime.block_on(self.stream(&mut patience)) {
            (self.check)()?;
            let ends = Instant::now() + patience.after(error)?;
            while Instant::now() < ends {
                (self.check)()?;
                std::thread::sleep(LOOK.min(ends.saturating_duration_since(Instant::now())));
            }
        }
        sha256(&self.part()).during("Keeping the archive")
    }

    async fn stream(&self, patience: &mut Waiting) -> Result<()> {
        let (part, etag_file) = (self.part(), self.etag_file());
        let (have, etag) = kept(&part, &etag_file);
        let mut request = self
            .network
            .get(&self.archive.url)?
            .timeouts(SILENCE)
            .once()
            .unchecked();
        if have > 0 {
            request = request
                .header("Range", &format!("bytes={have}-"))?
                .header("If-Range", &etag)?;
        }
        let mut reply = self.while_looking(self.network.send(request)).await?;
        if reply.status == 416 {
            let _ = fs::remove_file(&part);
        }
        if reply.status >= 400 {
            return Err(reply.failure());
        }
        let (start, total) = extent(&reply, have)?;
        if let Some(total) = total {
            require_space(self.folder, total.saturating_sub(start), MARGIN)?;
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&part)
            .during(DURING)?;
        file.set_len(start)
            .and_then(|()| file.seek(SeekFrom::Start(start)))
            .during(DURING)?;
        let etag = reply.header("etag");
        fs::write(&etag_file, if etag.starts_with("W/") { "" } else { etag }).during(DURING)?;
        let done = self.copy(&mut reply, &mut file, start, patience).await?;
        if total.is_some_and(|total| total != done) {
            let wanted = grouped(total.unwrap_or_default());
            return Err(Error::InvalidReply {
                host: super::github::host_of(&reply),
                reason: format!("{} bytes came instead of {wanted}", grouped(done)),
            });
        }
        if self.archive.size.is_some_and(|size| size != done) {
            let _ = fs::remove_file(&part);
            return Err(unusable(format!(
                "{} has another size than it lists",
                self.archive.name
            )));
        }
        Ok(())
    }

    async fn copy(
        &self,
        reply: &mut Response,
        file: &mut fs::File,
        mut done: u64,
        patience: &mut Waiting,
    ) -> Result<u64> {
        let mut room = free_space(self.folder).during(DURING)?.saturating_sub(MARGIN);
        let mut speed = Speed::new();
        while let Some(chunk) = self.while_looking(reply.chunk()).await? {
            // A megabyte at most, into the page cache of the system.
            file.write_all(&chunk).during(DURING)?;
            let count = chunk.len() as u64;
            done += count;
            room = room.checked_sub(count).ok_or_else(|| Error::NotEnoughSpace {
                needed: done,
                free: free_space(self.folder).unwrap_or_default(),
            })?;
            patience.progressed();
            if let Some(rate) = speed.received(count) {
                let left = self
                    .archive
                    .size
                    .map(|size| size.saturating_sub(done) as f64 / rate.max(1.0));
                (self.report)(done, self.archive.size, Some(rate), left);
                (self.check)()?;
            }
        }
        file.sync_all().during(DURING)?;
        Ok(done)
    }

    /// The outcome, unless the work is to stop before.
    async fn while_looking<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut work = pin!(work);
        loop {
            match tokio::time::timeout(LOOK, &mut work).await {
                Ok(done) => return done,
                Err(_) => (self.check)()?,
            }
        }
    }
}

fn unusable(reason: String) -> Error {
    Error::InvalidReply {
        host: "the release server".to_owned(),
        reason,
    }
}

/// Bytes of an earlier try that can be gone on from, and what names their content.
fn kept(part: &Path, etag_file: &Path) -> (u64, String) {
    let etag = fs::read_to_string(etag_file).unwrap_or_default();
    let size = part.metadata().map_or(0, |facts| facts.len());
    if etag.is_empty() { (0, etag) } else { (size, etag) }
}

/// (where the body begins, the whole size when it is told)
fn extent(reply: &Response, have: u64) -> Result<(u64, Option<u64>)> {
    if reply.status != 206 {
        return Ok((0, reply.header("content-length").parse().ok()));
    }
    let span = reply.header("content-range").trim().strip_prefix("bytes ");
    let parts = span.and_then(|span| span.split_once('/'));
    let found = parts.and_then(|(span, whole)| {
        let start: u64 = span.split_once('-')?.0.parse().ok()?;
        let whole = if whole == "*" {
            None
        } else {
            Some(whole.parse().ok()?)
        };
        (start == have).then_some((start, whole))
    });
    found.ok_or_else(|| unusable("a part that was not asked for".to_owned()))
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&digest.finalize())),
            count => digest.update(&buffer[..count]),
        }
    }
}

/// How long to go on trying while nothing arrives.
#[derive(Default)]
struct Waiting {
    failures: u32,
    ends: Option<Instant>,
}

impl Waiting {
    fn progressed(&mut self) {
        *self = Self::default();
    }

    /// # Errors
    /// `error`, when another try would be of no use, or it was tried for long enough.
    fn after(&mut self, error: Error) -> Result<Duration> {
        let asked = match &error {
            Error::RateLimited { retry_after_s, .. } => Some((*retry_after_s, true)),
            Error::CircuitOpen { retry_after_s, .. } => Some((*retry_after_s, false)),
            Error::Offline { .. } => Some((2.0, true)),
            Error::HttpStatus { status, .. } if PASSING.contains(status) => None,
            Error::Network { .. } | Error::ConnectionFailed { .. } | Error::InvalidReply { .. } => None,
            _ => return Err(error),
        };
        let now = Instant::now();
        let mut ends = self.ends.unwrap_or(now + PATIENCE);
        let wait = match asked {
            Some((seconds, on_top)) => {
                let wait = Duration::from_secs_f64(seconds.max(SHORTEST_WAIT_S));
                if on_top {
                    ends += wait;
                }
                wait
            }
            None => {
                self.failures += 1;
                FIRST_WAIT
                    .saturating_mul(1 << (self.failures - 1).min(16))
                    .min(LONGEST_WAIT)
            }
        };
        self.ends = Some(ends);
        if now + wait > ends { Err(error) } else { Ok(wait) }
    }
}

/// Bytes per second over the last seconds.
struct Speed {
    began: Instant,
    told: Instant,
    recent: std::collections::VecDeque<(Instant, u64)>,
    sum: u64,
}

impl Speed {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            told: now,
            recent: std::collections::VecDeque::new(),
            sum: 0,
        }
    }

    /// The speed, when it is time to tell it.
    fn received(&mut self, count: u64) -> Option<f64> {
        let now = Instant::now();
        self.recent.push_back((now, count));
        self.sum += count;
        while let Some((at, count)) = self.recent.front().copied()
            && now.duration_since(at) > WINDOW
        {
            self.recent.pop_front();
            self.sum -= count;
        }
        if now.duration_since(self.told) < LOOK {
            return None;
        }
        self.told = now;
        let span = now.duration_since(self.began).min(WINDOW).max(LOOK);
        Some(self.sum as f64 / span.as_secs_f64())
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

    #[test]
    fn what_passes_is_waited_for_and_the_rest_is_told() {
        let mut waiting = Waiting::default();
        let status = |status| Error::HttpStatus {
            status,
            host: String::new(),
        };
        assert!(waiting.after(status(404)).is_err());
        assert_eq!(waiting.after(status(503)).unwrap(), FIRST_WAIT);
        assert_eq!(waiting.after(status(503)).unwrap(), 2 * FIRST_WAIT);
        waiting.progressed();
        assert_eq!(waiting.after(status(503)).unwrap(), FIRST_WAIT);
        waiting.ends = Some(Instant::now());
        assert!(waiting.after(status(503)).is_err());
    }
}
