//! Ends the sidecar when the process that started it dies, however it dies.
//!
//! Linux tells by a file descriptor of the parent (`pidfd_open(2)`), without any polling; elsewhere the parent's id is looked
//! at once a second. A parent that is process 1 from the start is no parent to watch.

use std::time::Duration;

use pumas_core::stop::Stop;
use rustix::process::{Pid, getppid};

const POLL: Duration = Duration::from_secs(1);
const STACK: usize = 64 * 1024;

/// The parent's id as it is now; asked for first of all, since it may die while the rest starts.
#[must_use]
pub fn current() -> u32 {
    getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
}

/// Ask `stop` to end the program when `parent` has died. Where there is no parent to watch, nothing happens.
pub fn watch(parent: u32, stop: Stop) {
    let watched = i32::try_from(parent)
        .ok()
        .and_then(Pid::from_raw)
        .filter(|_| parent > 1);
    let Some(watched) = watched else { return };
    let wait = move || {
        if current() == parent {
            wait_for_death(watched, parent);
        }
        tracing::info!("the process that started the sidecar has ended");
        stop.ask();
    };
    let started = std::thread::Builder::new()
        .name("parent".into())
        .stack_size(STACK)
        .spawn(wait);
    if let Err(error) = started {
        tracing::warn!("the end of the process that started the sidecar will not be noticed: {error}");
    }
}

fn wait_for_death(watched: Pid, parent: u32) {
    #[cfg(target_os = "linux")]
    if let Ok(door) = rustix::process::pidfd_open(watched, rustix::process::PidfdFlags::empty()) {
        use rustix::event::{PollFd, PollFlags, poll};
        // The parent may have died, and its number been reused, before the descriptor was opened.
        while current() == parent && !matches!(poll(&mut [PollFd::new(&door, PollFlags::IN)], None), Ok(1..))
        {
        }
        return;
    }
    let _ = watched;
    while current() == parent {
        std::thread::sleep(POLL);
    }
}
