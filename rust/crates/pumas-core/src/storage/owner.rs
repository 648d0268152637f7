//! One sidecar per launcher root: a kernel lock says who owns it, `rpc.json` says where to reach the owner.
//!
//! The kernel releases the lock when its process dies, however it dies, so a stale lock cannot exist; the file beside it
//! may be stale, which is why clients check whose it is before they trust it. The lock's own file says it best: the
//! process by its start since the boot, which no clock moves, and its port. Where it says nothing (an older sidecar, a
//! full disk, another system than Linux) the start time in `rpc.json` decides, which a clock that was set hides.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use rustix::fs::Access;
use serde::{Deserialize, Serialize};

use crate::config::Layout;
use crate::error::{Error, Result};
use crate::storage::files::{self, disk_error, is_odd, put_aside, write_durably};
use crate::storage::paths::display_name;

const START_TOLERANCE: SignedDuration = SignedDuration::from_secs(2);
const MOST_RECORD: u64 = 4096;
/// How a [`LockRecord`] begins in its file.
const RECORD: &[u8] = b"{\"pid\":";

/// `launcher-data/rpc.json`. `started_at` is the start time of the process (UTC), by which a recycled pid is told from the
/// sidecar; `token` is null when callers are told apart by user id alone.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RpcFile {
    /// The sidecar's process.
    pub pid: u32,
    /// Where it listens.
    pub port: u16,
    /// What callers must send.
    pub token: Option<String>,
    /// `python` or `rust`.
    pub backend: String,
    /// ISO 8601.
    pub started_at: String,
}

impl RpcFile {
    /// The facts of this process.
    pub fn own(port: u16, token: Option<&str>, backend: &str) -> Result<Self> {
        let pid = std::process::id();
        let began = process_start_time(pid).map_err(|error| disk_error(&error, "Reading the start time"))?;
        let started_at = began.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        Ok(Self {
            pid,
            port,
            token: token.map(str::to_owned),
            backend: backend.to_owned(),
            started_at,
        })
    }

    /// None when the file is missing or no such file.
    fn read(path: &Path) -> Option<Self> {
        if is_odd(path) {
            return None;
        }
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }
}

/// What the lock's file says of the process that holds it.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct LockRecord {
    pid: u32,
    port: u16,
    /// Ticks since the boot.
    start: u64,
    boot: String,
}

impl LockRecord {
    /// Fails when there is no such process, or only its remains, and where there is no /proc.
    fn of(pid: u32, port: u16) -> io::Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Ok(Self {
            pid,
            port,
            start: start_ticks(pid)?,
            boot: boot.trim().to_owned(),
        })
    }

    /// None when the file holds none that can be used.
    fn read(path: &Path) -> Option<Self> {
        if is_odd(path) {
            return None;
        }
        let mut text = Vec::new();
        let file = File::open(path).ok()?;
        file.take(MOST_RECORD).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// Holds the root until it is dropped.
#[derive(Debug)]
pub struct OwnerLock {
    file: File,
}

impl OwnerLock {
    /// Own the root.
    ///
    /// # Errors
    /// `RootInUse` when another sidecar owns it, `ReadOnly` when nothing can be written there, `DiskError` when the lock
    /// alone cannot be had, or when the root's path is no text: the wire and the database, which name files by their
    /// paths, hold text only.
    pub fn acquire(layout: &Layout) -> Result<Self> {
        if layout.root().to_str().is_none() {
            return Err(Error::DiskError(format!(
                "{} has bytes in its path that are not UTF-8: rename the folder.",
                display_name(layout.root())
            )));
        }
        let path = layout.owner_lock();
        let file = open(layout, &path).map_err(|error| refused(&error, layout, &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(Error::RootInUse(describe_owner(layout))),
            Err(TryLockError::Error(error)) => Err(refused(&error, layout, &path)),
        }
    }

    /// Says in the lock's file whose it is; to be called once the port is open. Clients can do without.
    pub fn tell(&self, port: u16) {
        let _ = self.write(port);
    }

    fn write(&self, port: u16) -> io::Result<()> {
        let text = serde_json::to_string(&LockRecord::of(std::process::id(), port)?)?;
        let mut head = vec![0; RECORD.len()];
        let length = self.file.read_at(&mut head, 0)?;
        // What is not ours stays, the mark of a lock of another kind among it.
        if length > 0 && head != RECORD {
            return Ok(());
        }
        self.file.set_len(0)?;
        self.file.write_all_at(format!("{text}\n").as_bytes(), 0)
    }
}

fn open(layout: &Layout, path: &Path) -> io::Result<File> {
    std::fs::create_dir_all(layout.data())?;
    if is_odd(path) {
        put_aside(path)?;
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

fn refused(error: &io::Error, layout: &Layout, path: &Path) -> Error {
    let folder = layout.data();
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let folder_name = name(&folder);
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => Error::DiskError(format!(
            "{folder_name} is no folder: move what stands there away."
        )),
        // Another user's sidecar may hold it: without the lock nobody may write here.
        io::ErrorKind::PermissionDenied if rustix::fs::access(&folder, Access::WRITE_OK).is_ok() => {
            let name = name(path);
            Error::DiskError(format!(
                "{folder_name}/{name} may not be opened by this user. Remove it when no sidecar runs."
            ))
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Error::ReadOnly(format!(
            "{folder_name} cannot be written: {}.",
            files::reason(error)
        )),
        _ => disk_error(error, &format!("Locking {}", name(path))),
    }
}

fn describe_owner(layout: &Layout) -> String {
    let place = live_owner(layout).map(|owner| {
        format!(
            " It is process {}, listening on port {}, since {}.",
            owner.pid, owner.port, owner.started_at
        )
    });
    format!(
        "Another sidecar owns this launcher root.{} Use that one, or stop it first (pumas call shutdown).",
        place.unwrap_or_default()
    )
}

/// `proc_pid_stat(5)`, field 22: when a process began, since the machine did.
fn start_ticks(pid: u32) -> io::Result<u64> {
    let odd = || io::Error::from(io::ErrorKind::InvalidData);
    let stat = std::fs::read(format!("/proc/{pid}/stat"))?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, fields) = stat.rsplit_once(") ").ok_or_else(odd)?;
    if fields.starts_with(['Z', 'X']) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let field = fields.split_whitespace().nth(19).ok_or_else(odd)?;
    field.parse().map_err(|_| odd())
}

/// When a process began, by the system's clock.
///
/// # Errors
/// There is no such process, or only its remains, or this system does not tell.
#[cfg(target_os = "linux")]
pub fn process_start_time(pid: u32) -> io::Result<Timestamp> {
    let odd = || io::Error::from(io::ErrorKind::InvalidData);
    let ticks = i64::try_from(start_ticks(pid)?).map_err(|_| odd())?;
    // btime is moved with the clock.
    let machine = std::fs::read_to_string("/proc/stat")?;
    let boot = machine
        .lines()
        .find_map(|line| line.strip_prefix("btime "))
        .and_then(|text| text.trim().parse().ok());
    let boot: i64 = boot.ok_or_else(odd)?;
    let per_second = i64::try_from(rustix::param::clock_ticks_per_second())
        .unwrap_or(100)
        .max(1);
    let millis = (ticks / per_second) * 1000 + (ticks % per_second) * 1000 / per_second;
    Timestamp::from_millisecond(boot.saturating_mul(1000).saturating_add(millis)).map_err(|_| odd())
}

/// When a process began, by the system's clock.
///
/// # Errors
/// There is no such process, or this system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn process_start_time(pid: u32) -> io::Result<Timestamp> {
    if pid == std::process::id() {
        Ok(Timestamp::now())
    } else {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Say where the sidecar is, readable by its user alone.
pub fn write_rpc_file(layout: &Layout, facts: &RpcFile) -> Result<()> {
    let path = layout.rpc_file();
    let write = || {
        if files::exists(&path) && RpcFile::read(&path).is_none() {
            put_aside(&path)?;
        }
        let text = serde_json::to_string_pretty(facts).map_err(io::Error::other)?;
        write_durably(&path, text.as_bytes(), 0o600)
    };
    write().map_err(|error| disk_error(&error, "Writing rpc.json"))
}

/// Remove the file only when it is ours: a later sidecar may have written its own.
pub fn remove_rpc_file(layout: &Layout) {
    let path = layout.rpc_file();
    if RpcFile::read(&path).is_some_and(|facts| facts.pid == std::process::id()) {
        let _ = std::fs::remove_file(path);
    }
}

/// The sidecar of this root, when the process that wrote `rpc.json` still lives. Never send it a token otherwise.
#[must_use]
pub fn live_owner(layout: &Layout) -> Option<RpcFile> {
    let facts = RpcFile::read(&layout.rpc_file())?;
    if let Some(record) = LockRecord::read(&layout.owner_lock()) {
        let is_it = LockRecord::of(facts.pid, facts.port).is_ok_and(|found| found == record);
        return is_it.then_some(facts);
    }
    let started: Timestamp = facts.started_at.parse().ok()?;
    let began = process_start_time(facts.pid).ok()?;
    (began.duration_since(started).abs() <= START_TOLERANCE).then_some(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        (folder, layout)
    }

    #[test]
    fn a_path_that_is_no_text_is_refused_before_anything_is_written() {
        use std::os::unix::ffi::OsStrExt as _;
        let (folder, _layout) = root();
        let layout = Layout::new(folder.path().join(std::ffi::OsStr::from_bytes(b"mod\xe8les")));
        let refusal = OwnerLock::acquire(&layout).unwrap_err().to_string();
        assert!(
            refusal.ends_with("mod\\xe8les has bytes in its path that are not UTF-8: rename the folder.")
        );
        assert!(!layout.data().exists());
    }

    #[test]
    fn one_owner_who_is_named() {
        let (_folder, layout) = root();
        let lock = OwnerLock::acquire(&layout).unwrap();
        write_rpc_file(&layout, &RpcFile::own(4321, Some("secret"), "rust").unwrap()).unwrap();
        let refusal = OwnerLock::acquire(&layout).unwrap_err();
        assert_eq!(refusal.kind(), "root_in_use");
        let text = refusal.to_string();
        assert!(
            text.contains(&std::process::id().to_string())
                && text.contains("4321")
                && !text.contains("secret")
        );
        drop(lock);
        assert!(OwnerLock::acquire(&layout).is_ok());
        remove_rpc_file(&layout);
        assert!(!layout.rpc_file().exists());
    }

    #[test]
    fn a_stale_file_names_nobody() {
        let (_folder, layout) = root();
        let mut facts = RpcFile::own(1, None, "rust").unwrap();
        std::fs::create_dir_all(layout.data()).unwrap();
        write_rpc_file(&layout, &facts).unwrap();
        assert!(live_owner(&layout).is_some());
        facts.started_at = "2001-01-01T00:00:00.000000Z".into();
        write_rpc_file(&layout, &facts).unwrap();
        assert!(live_owner(&layout).is_none());
        for junk in ["", "[]", "null", "{\"pid\": \"x\"}"] {
            std::fs::write(layout.rpc_file(), junk).unwrap();
            assert!(live_owner(&layout).is_none());
        }
    }

    #[test]
    fn the_locks_file_is_believed_whatever_the_clock_says() {
        let (_folder, layout) = root();
        let lock = OwnerLock::acquire(&layout).unwrap();
        let mut facts = RpcFile::own(4321, Some("secret"), "rust").unwrap();
        write_rpc_file(&layout, &facts).unwrap();
        lock.tell(4321);
        assert!(live_owner(&layout).is_some());
        facts.started_at = "2001-01-01T00:00:00.000000Z".into();
        write_rpc_file(&layout, &facts).unwrap();
        assert!(live_owner(&layout).is_some());
        let text = std::fs::read_to_string(layout.owner_lock()).unwrap();
        lock.tell(4321);
        assert_eq!(std::fs::read_to_string(layout.owner_lock()).unwrap(), text);
        std::fs::write(layout.owner_lock(), "of somebody else").unwrap();
        lock.tell(4321);
        assert_eq!(
            std::fs::read_to_string(layout.owner_lock()).unwrap(),
            "of somebody else"
        );
        for junk in ["", "[]", "null", "{\"pid\": 1}", "{\"pid\""] {
            std::fs::write(layout.owner_lock(), junk).unwrap();
            assert!(live_owner(&layout).is_none(), "{junk}");
        }
        std::fs::write(layout.owner_lock(), text).unwrap();
        assert!(live_owner(&layout).is_some());
    }

    #[test]
    fn a_file_that_the_lock_does_not_fit_names_nobody() {
        let (_folder, layout) = root();
        let lock = OwnerLock::acquire(&layout).unwrap();
        let own = RpcFile::own(4321, Some("secret"), "rust").unwrap();
        let parent = std::os::unix::process::parent_id();
        lock.tell(4321);
        for (pid, port) in [(parent, 4321), (own.pid, 4322), (u32::MAX, 4321)] {
            let facts = RpcFile {
                pid,
                port,
                ..own.clone()
            };
            write_rpc_file(&layout, &facts).unwrap();
            assert!(live_owner(&layout).is_none(), "{pid} {port}");
        }
        write_rpc_file(&layout, &own).unwrap();
        let record = LockRecord::of(own.pid, own.port).unwrap();
        let others = [
            LockRecord {
                start: record.start + 1,
                boot: record.boot.clone(),
                ..record
            },
            LockRecord {
                boot: "another boot".into(),
                ..record
            },
        ];
        for other in others {
            std::fs::write(layout.owner_lock(), serde_json::to_vec(&other).unwrap()).unwrap();
            assert!(live_owner(&layout).is_none(), "{other:?}");
        }
    }
}
