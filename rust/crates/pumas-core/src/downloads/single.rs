//! Brings one file for another domain, at the pace and with the patience of all downloads.
//!
//! With a digest it comes in blocks over several connections, which survive a kill; without one in a single stream, which is
//! resumed where the server names what it sends (a strong `ETag`, RFC 9110 §13.1.5). What the file is for is not known here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use super::bandwidth::Bandwidth;
use super::content::{Content, Reply};
use super::fetching::Fetch;
use super::meter::Meter;
use super::schedule::Gate;
use super::shared::{Check, LOOK, Shared, Surroundings};
use super::wanted::WantedFile;
use crate::error::{Error, Result};
use crate::net::{NetworkClient, Timeouts};
use crate::storage::files::{During as _, MARGIN, free_space, hex, require_space};
use crate::storage::locked;
use crate::text::grouped;

const PATIENCE: Duration = Duration::from_mins(2);
/// Servers that pack an archive while it is asked for let one wait for its first byte.
const SILENCE: Timeouts = Timeouts {
    read: Duration::from_secs(20),
};
const DURING: &str = "Writing the archive";
const CHUNK: usize = 256 * 1024;
const PARTS: &str = "parts";
/// Whose connections are those of a single stream.
const STREAM: u64 = 0;

/// Told how far it is: bytes, bytes per second, and seconds left when they can be known.
pub(crate) type Report = Box<dyn Fn(u64, f64, Option<f64>) + Send + Sync>;

/// What to bring, and where to: `folder` exists and holds nothing of anybody else, the file in it will be `stem`.
pub(crate) struct Single<'a> {
    pub(crate) url: &'a str,
    /// For messages.
    pub(crate) name: &'a str,
    /// Bytes; None where nobody says.
    pub(crate) size: Option<u64>,
    /// In lower-case hex; None where nobody says.
    pub(crate) sha256: Option<&'a str>,
    pub(crate) folder: &'a Path,
    pub(crate) stem: &'static str,
}

/// Which way it comes. `check` fails when the work should stop.
pub(crate) struct Way {
    pub(crate) network: NetworkClient,
    pub(crate) bandwidth: Arc<Bandwidth>,
    pub(crate) runtime: Handle,
    pub(crate) check: Check,
    pub(crate) report: Report,
}

impl Single<'_> {
    /// Bring it; its SHA-256 in hex. Blocks.
    ///
    /// # Errors
    /// `InvalidInput`: a digest without a size. `DigestMismatch`, those of the network and of the disk; and what `check`
    /// fails with.
    pub(crate) fn bring(&self, way: Way) -> Result<String> {
        let wanted = WantedFile {
            path: self.stem.to_owned(),
            size: self.size.unwrap_or(0),
            sha256: self.sha256.map(str::to_owned),
            git_oid: String::new(),
        };
        let meter = Arc::new(Meter::new(std::slice::from_ref(&wanted), 0));
        let streamed = Arc::new(AtomicU64::new(0));
        let shared = Arc::new(Shared::new(
            Surroundings {
                check: self.looking(way.check, way.report, &meter, &streamed),
                meter,
                bandwidth: way.bandwidth,
                gate: Arc::new(Gate::default()),
                network: way.network,
                hub: None,
                silence: SILENCE,
                runtime: way.runtime,
            },
            PATIENCE,
        ));
        match self.sha256 {
            Some(_) if self.size.is_none() => {
                Err(Error::invalid("release", "its asset has a digest but no size"))
            }
            Some(sha256) => self.in_blocks(wanted, shared).map(|()| sha256.to_owned()),
            None => self.in_one_stream(&shared, &streamed),
        }
    }

    /// `check`, which also tells how far it is, now and then.
    fn looking(&self, check: Check, report: Report, meter: &Arc<Meter>, streamed: &Arc<AtomicU64>) -> Check {
        let (meter, streamed, size) = (Arc::clone(meter), Arc::clone(streamed), self.size);
        let told = Mutex::new(Instant::now());
        Arc::new(move || {
            check()?;
            let is_due = {
                let mut told = locked(&told);
                let is_due = told.elapsed() > LOOK;
                if is_due {
                    *told = Instant::now();
                }
                is_due
            };
            if is_due {
                let now = meter.snapshot();
                let done = now.downloaded.max(streamed.load(Ordering::Relaxed));
                report(done, now.speed, now.eta_s.filter(|_| size.is_some()));
            }
            Ok(())
        })
    }

    // -- with a digest -----------------------------------------------------------------------------------------------

    fn in_blocks(&self, wanted: WantedFile, shared: Arc<Shared>) -> Result<()> {
        let parts = self.folder.join(PARTS);
        match fs::create_dir(&parts) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).during("Preparing the download");
            }
            _ => {}
        }
        let (name, url) = (self.name.to_owned(), self.url.to_owned());
        let content = Content::new(wanted, name, url.clone(), url);
        Fetch::new(vec![content], &parts, self.folder, shared, &|_| Ok(())).run()
    }

    // -- without -----------------------------------------------------------------------------------------------------

    fn beside(&self, end: &str) -> PathBuf {
        self.folder.join(format!("{}.{end}", self.stem))
    }

    fn in_one_stream(&self, shared: &Shared, streamed: &AtomicU64) -> Result<String> {
        let mut furthest = 0;
        while let Err(error) = self.stream_beside(shared, streamed, &mut furthest) {
            shared.stop()?;
            shared.wait_after(error)?;
        }
        let during = "Keeping the archive";
        let part = self.beside("part");
        let digest = sha256(&part).during(during)?;
        fs::rename(&part, self.folder.join(self.stem)).during(during)?;
        let _ = fs::remove_file(self.beside("etag"));
        Ok(digest)
    }

    /// Read on a thread of its own: who cancels must not wait for a server that says nothing.
    fn stream_beside(&self, shared: &Shared, streamed: &AtomicU64, furthest: &mut u64) -> Result<()> {
        thread::scope(|threads| {
            let (end, ended) = channel();
            threads.spawn(move || end.send(self.stream(shared, streamed, furthest)));
            loop {
                match ended.recv_timeout(LOOK) {
                    Ok(done) => return done,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(Error::Bug("a download's thread ended".into()));
                    }
                }
                if let Err(stopped) = shared.stop() {
                    shared.connections.end_of(STREAM);
                    return Err(stopped);
                }
            }
        })
    }

    fn stream(&self, shared: &Shared, streamed: &AtomicU64, furthest: &mut u64) -> Result<()> {
        let (part, etag_file) = (self.beside("part"), self.beside("etag"));
        let (have, etag) = kept(&part, &etag_file);
        let mut headers = vec![("accept-encoding", "identity".to_owned())];
        if have > 0 {
            headers.push(("range", format!("bytes={have}-")));
            headers.push(("if-range", etag));
        }
        let mut reply = shared.send(self.url, &headers)?;
        let _reading = shared.connections.reading(&reply, STREAM);
        if reply.status() == 416 {
            let _ = fs::remove_file(&part);
        }
        if reply.status() >= 400 {
            return Err(reply.failure());
        }
        let (start, total) = extent(&reply, have)?;
        if let Some(total) = total {
            require_space(self.folder, total.saturating_sub(start), MARGIN)?;
        }
        let mut file = opened(&part, start)?;
        let etag = reply.header("etag");
        fs::write(&etag_file, if etag.starts_with("W/") { "" } else { etag }).during(DURING)?;
        streamed.store(start, Ordering::Relaxed);
        let done = self.copy(&mut reply, &mut file, shared, streamed, furthest)?;
        if let Some(total) = total.filter(|total| *total != done) {
            let (done, total) = (grouped(done), grouped(total));
            return Err(reply.invalid(format!("{done} bytes came instead of {total}")));
        }
        if self.size.is_some_and(|size| size != done) {
            let _ = fs::remove_file(&part);
            return Err(unusable(format!("{} has another size than it lists", self.name)));
        }
        Ok(())
    }

    /// How many bytes are there in the end.
    fn copy(
        &self,
        reply: &mut Reply,
        file: &mut File,
        shared: &Shared,
        streamed: &AtomicU64,
        furthest: &mut u64,
    ) -> Result<u64> {
        let mut buffer = vec![0; CHUNK];
        let mut room = free_space(self.folder).during(DURING)?.saturating_sub(MARGIN);
        loop {
            let bite = shared.bandwidth.bite().min(CHUNK);
            let count = reply.read_into(&mut buffer[..bite])?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count]).during(DURING)?;
            streamed.fetch_add(count as u64, Ordering::Relaxed);
            room = room
                .checked_sub(count as u64)
                .ok_or_else(|| Error::NotEnoughSpace {
                    needed: MARGIN,
                    free: free_space(self.folder).unwrap_or_default(),
                })?;
            shared.meter.received(self.stem, count);
            shared.meter.dropped(self.stem, count);
            let done = streamed.load(Ordering::Relaxed);
            if done > *furthest {
                *furthest = done;
                shared.patience.progressed();
            }
            shared.bandwidth.take(count, &|| shared.stop())?;
            shared.stop()?;
        }
        file.sync_all().during(DURING)?;
        Ok(streamed.load(Ordering::Relaxed))
    }
}

fn opened(part: &Path, start: u64) -> Result<File> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(false).open(part);
    let ready = opened.and_then(|mut file| {
        file.set_len(start)?;
        file.seek(SeekFrom::Start(start))?;
        Ok(file)
    });
    ready.during(DURING)
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
fn extent(reply: &Reply, have: u64) -> Result<(u64, Option<u64>)> {
    if reply.status() != 206 {
        return Ok((0, reply.header("content-length").parse().ok()));
    }
    part_of(reply.header("content-range").trim())
        .filter(|(start, _)| *start == have)
        .ok_or_else(|| unusable("a part that was not asked for".to_owned()))
}

/// Of `bytes 5-99/100`: where it begins, and the whole size when it is told.
fn part_of(range: &str) -> Option<(u64, Option<u64>)> {
    let (span, whole) = range.strip_prefix("bytes ")?.split_once('/')?;
    let start = span.split_once('-')?.0.parse().ok()?;
    let whole = (whole != "*").then(|| whole.parse()).transpose().ok()?;
    Some((start, whole))
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&digest.finalize())),
            count => digest.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_say_where_they_begin() {
        for (range, expected) in [
            ("bytes 5-99/100", Some((5, Some(100)))),
            ("bytes 5-99/*", Some((5, None))),
            ("bytes 5-99", None),
            ("bytes -99/100", None),
            ("bytes 5-99/x", None),
            ("items 5-99/100", None),
        ] {
            assert_eq!(part_of(range), expected, "{range}");
        }
    }

    #[test]
    fn only_what_has_a_strong_name_is_gone_on_from() {
        let folder = tempfile::tempdir().unwrap();
        let (part, etag) = (folder.path().join("a.part"), folder.path().join("a.etag"));
        assert_eq!(kept(&part, &etag), (0, String::new()));
        fs::write(&part, b"12345").unwrap();
        fs::write(&etag, "").unwrap();
        assert_eq!(kept(&part, &etag), (0, String::new()));
        fs::write(&etag, "\"x\"").unwrap();
        assert_eq!(kept(&part, &etag), (5, "\"x\"".to_owned()));
    }
}
