//! Keeps the process small: gives the pages of code back that only the start needed.
//!
//! A start opens databases, reads the contract and walks through most domains once; the kernel keeps every page of code that
//! this touched, and their neighbours, in the memory of the process until somebody else needs room. Let go, they stay in the
//! kernel's cache, and what is called again comes back in microseconds. Nothing depends on it.

/// Call from a worker thread when the start is over.
pub(crate) fn settle() {
    #[cfg(target_os = "linux")]
    let_go_of_code();
}

/// Only what is executable and not writable: nobody has changed such a page, so that the file holds all of it.
#[cfg(target_os = "linux")]
fn let_go_of_code() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for range in maps.lines().filter_map(code_of_file) {
        #[expect(unsafe_code, reason = "rustix cannot know that nothing is lost")]
        // SAFETY: the pages are read-only and of a file, so that the next use brings the same bytes back; who runs
        // through them meanwhile waits for that as for any page that was not used before.
        let _ = unsafe {
            rustix::mm::madvise(
                std::ptr::without_provenance_mut(range.start),
                range.len(),
                rustix::mm::Advice::LinuxDontNeed,
            )
        };
    }
}

/// The addresses of one line of `/proc/PID/maps` when it is code from a file: `proc_pid_maps(5)`.
#[cfg(target_os = "linux")]
fn code_of_file(line: &str) -> Option<std::ops::Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (from, to) = fields.next()?.split_once('-')?;
    let rights = fields.next()?;
    let path = fields.nth(3)?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    (rights == "r-xp" && path.starts_with('/')).then_some(address(from)?..address(to)?)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn only_code_of_files_is_let_go_of() {
        let line = |rights: &str, path: &str| format!("55d0c000-55d0f000 {rights} 00439000 fe:00 131 {path}");
        for (rights, path, found) in [
            ("r-xp", "/usr/bin/pumas-rpc", Some(0x55d0_c000..0x55d0_f000)),
            (
                "r-xp",
                "/a folder/pumas-rpc (deleted)",
                Some(0x55d0_c000..0x55d0_f000),
            ),
            ("r--p", "/usr/bin/pumas-rpc", None),
            ("rwxp", "/usr/bin/pumas-rpc", None),
            ("rw-p", "/usr/bin/pumas-rpc", None),
            ("r-xp", "[vdso]", None),
            ("r-xp", "", None),
        ] {
            assert_eq!(code_of_file(&line(rights, path)), found, "{rights} {path}");
        }
        assert_eq!(code_of_file(""), None);
    }

    #[test]
    fn the_program_goes_on_with_less() {
        let resident = || {
            let read = std::fs::read_to_string("/proc/self/statm").unwrap();
            read.split_ascii_whitespace()
                .nth(1)
                .unwrap()
                .parse::<u64>()
                .unwrap()
        };
        let ends = Instant::now() + Duration::from_secs(30);
        let less = || {
            let before = resident();
            settle();
            resident() < before
        };
        // Other tests may take more at the same moment.
        while !less() {
            assert!(Instant::now() < ends, "nothing was let go of");
        }
        assert_eq!(serde_json::json!({"a": [1.5]}).to_string(), r#"{"a":[1.5]}"#);
    }
}
