//! Processes as the kernel knows them: who is there, whose child, since when; and signals that reach only the one meant.
//!
//! A number alone names nobody, because numbers are used again: an [`Identity`] is the number, the start time and the boot.
//! It does not know what an app is.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

const MAX_ENVIRON: u64 = 1024 * 1024;

/// A process that once was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pid: u32,
    /// Ticks since the boot (`proc_pid_stat(5)`), so that no clock moves it.
    pub(super) start: u64,
    /// Names boot and pid namespace.
    pub(super) boot: String,
}

/// One row of the process table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    pub(crate) session: u32,
    /// As of [`Identity`].
    pub(crate) start: u64,
    /// A zombie.
    pub(crate) ended: bool,
}

pub(crate) type Table = HashMap<u32, Seen>;

/// This boot of the machine, and the pid namespace that numbers here belong to; "" where there is no /proc.
pub(super) fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", id.trim(), namespace.display())
}

/// The process with this number.
pub(crate) fn look(pid: u32) -> Option<Seen> {
    let mut line = Vec::new();
    let file = File::open(format!("/proc/{pid}/stat")).ok()?;
    file.take(4096).read_to_end(&mut line).ok()?;
    // The name stands in brackets and may hold brackets, spaces and line ends.
    let behind = line.iter().rposition(|c| *c == b')')? + 1;
    let text = String::from_utf8_lossy(&line[behind..]);
    let fields: Vec<&str> = text.split_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<u32>().ok();
    Some(Seen {
        pid,
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        start: fields.get(19)?.parse().ok()?,
        ended: ["Z", "X"].contains(fields.first()?),
    })
}

/// All processes that can be seen, by number.
pub(crate) fn table() -> Table {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, look(pid)?)))
        .collect()
}

/// Who has this number now.
pub(super) fn identity(pid: u32) -> Option<Identity> {
    look(pid).map(|seen| Identity {
        pid,
        start: seen.start,
        boot: boot(),
    })
}

/// Whether this very process still runs; a zombie does not.
pub(super) fn alive(who: &Identity) -> bool {
    look(who.pid).is_some_and(|seen| !seen.ended && seen.start == who.start) && who.boot == boot()
}

/// The number as the kernel takes it; None for one that stands for more than a process.
pub(super) fn number(pid: u32) -> Option<Pid> {
    i32::try_from(pid)
        .ok()
        .filter(|pid| *pid > 1)
        .and_then(Pid::from_raw)
}

/// Send a signal to the process that has this number since `start`; false when that one is gone.
///
/// Between looking and sending, the number cannot come to belong to another process (`pidfd_open(2)`).
///
/// # Errors
/// It belongs to another user.
pub(super) fn tell(pid: u32, start: u64, signal: Signal) -> rustix::io::Result<bool> {
    let Some(id) = number(pid) else {
        return Ok(false);
    };
    let fd = match pidfd_open(id, PidfdFlags::empty()) {
        Err(Errno::SRCH | Errno::INVAL) => return Ok(false),
        opened => opened?,
    };
    if look(pid).is_none_or(|seen| seen.ended || seen.start != start) {
        return Ok(false);
    }
    match pidfd_send_signal(&fd, signal) {
        Err(Errno::SRCH) => Ok(false),
        sent => sent.map(|()| true),
    }
}

/// Children, children of children and so on, each after its parent.
pub(crate) fn descendants(of: u32, everyone: &Table) -> Vec<Seen> {
    let mut children: HashMap<u32, Vec<Seen>> = HashMap::new();
    for seen in everyone.values() {
        children.entry(seen.parent).or_default().push(*seen);
    }
    let (mut found, mut waiting, mut known) = (Vec::new(), vec![of], HashSet::from([of]));
    while let Some(pid) = waiting.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            if known.insert(child.pid) {
                found.push(child);
                waiting.push(child.pid);
            }
        }
    }
    found
}

/// The file that the process runs; None when that cannot be seen.
pub(super) fn program(pid: u32) -> Option<PathBuf> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let text = path.to_str()?;
    Some(
        text.strip_suffix(" (deleted)")
            .map_or(path.clone(), PathBuf::from),
    )
}

/// Whether the process was started with this environment variable. One that wrote over it has it no more.
pub(crate) fn has_variable(pid: u32, name: &str, value: &str) -> bool {
    let mut data = Vec::new();
    let Ok(file) = File::open(format!("/proc/{pid}/environ")) else {
        return false;
    };
    let wanted = format!("{name}={value}");
    file.take(MAX_ENVIRON).read_to_end(&mut data).is_ok()
        && data
            .split(|c| *c == 0)
            .any(|variable| variable == OsStr::new(&wanted).as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_itself() {
        let me = identity(std::process::id()).unwrap();
        assert!(alive(&me));
        let other = Identity {
            start: me.start + 1,
            ..me.clone()
        };
        assert!(!alive(&other));
        assert_eq!(tell(me.pid, me.start + 1, Signal::KILL), Ok(false));
        assert_eq!(tell(1, 0, Signal::KILL), Ok(false));
        assert!(table().contains_key(&me.pid));
        assert!(program(me.pid).is_some_and(|path| path.is_absolute()));
    }

    #[test]
    fn children_come_after_their_parents() {
        let row = |pid, parent| Seen {
            pid,
            parent,
            group: 1,
            session: 1,
            start: 0,
            ended: false,
        };
        let everyone: Table = [row(2, 1), row(3, 2), row(4, 3), row(5, 9)]
            .map(|seen| (seen.pid, seen))
            .into();
        let pids: Vec<u32> = descendants(2, &everyone).iter().map(|seen| seen.pid).collect();
        assert_eq!(pids, [3, 4]);
    }
}
