//! Standard error that never waits for a reader: a parent that does not read its pipe loses lines, and nothing else.

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A pipe that can be written takes this much at least without blocking (pipe(7)).
const PIECE: usize = 4096;
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
const NONE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

pub(super) struct Stderr {
    stuck: bool,
}

impl Stderr {
    pub(super) fn new() -> Self {
        Self { stuck: false }
    }

    pub(super) fn write(&mut self, line: &[u8]) {
        for piece in line.chunks(PIECE) {
            self.stuck = !can_write(if self.stuck { NONE } else { PATIENCE });
            if self.stuck || rustix::io::write(rustix::stdio::stderr(), piece).is_err() {
                return;
            }
        }
    }
}

fn can_write(patience: Timespec) -> bool {
    let door = rustix::stdio::stderr();
    let mut doors = [PollFd::new(&door, PollFlags::OUT)];
    // An error shows itself at the write.
    poll(&mut doors, Some(&patience)).is_ok_and(|ready| ready > 0)
}
