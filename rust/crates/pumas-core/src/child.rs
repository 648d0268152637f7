//! Waits for a program that we started, and learns of its end at once.
//!
//! Linux tells by a descriptor of the process (`pidfd_open(2)`); elsewhere it is looked at every few milliseconds. What runs,
//! and what its end means, is known to whoever started it.

use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(5);

/// Returns when it has ended, with its status, or after `most` without one.
pub(crate) fn wait(child: &mut Child, most: Duration) -> Option<ExitStatus> {
    let ends = Instant::now() + most;
    loop {
        let left = ends.saturating_duration_since(Instant::now());
        match child.try_wait() {
            Ok(None) if !left.is_zero() => {}
            known => return known.ok().flatten(),
        }
        told_of_end(child, left);
        // Who traces it hears of its end before us, and where nobody tells, it is asked for again and again.
        if let Ok(None) = child.try_wait() {
            thread::sleep(POLL.min(left));
        }
    }
}

/// Waits until the kernel tells, or the time is over; false at once when it cannot tell.
#[cfg(target_os = "linux")]
fn told_of_end(child: &Child, most: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    // Its status was not asked for yet, so the number is still its own.
    let number = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let opened = number.and_then(|number| pidfd_open(number, PidfdFlags::empty()).ok());
    let (Some(process), Ok(most)) = (opened, Timespec::try_from(most)) else {
        return false;
    };
    let told = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&most));
    matches!(told, Ok(_) | Err(Errno::INTR))
}

#[cfg(not(target_os = "linux"))]
fn told_of_end(_child: &Child, _most: Duration) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn an_end_is_told_with_its_status() {
        let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        let status = wait(&mut child, Duration::from_secs(30));
        assert_eq!(status.and_then(|status| status.code()), Some(3));
        // Known already.
        assert_eq!(wait(&mut child, Duration::ZERO), status);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_tells() {
        let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        assert!(told_of_end(&child, Duration::from_secs(30)));
        assert!(child.try_wait().unwrap().is_some());
    }

    #[test]
    fn what_goes_on_is_not_waited_for_longer() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        assert_eq!(wait(&mut child, Duration::from_millis(20)), None);
        child.kill().unwrap();
        assert!(wait(&mut child, Duration::from_secs(30)).is_some());
    }
}
