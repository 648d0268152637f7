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

/// Of our own program only: a library's place can be another's by the time it is let go of.
#[cfg(target_os = "linux")]
fn let_go_of_code() {
    let Ok(program) = std::fs::read_link("/proc/self/exe") else {
        return;
    };
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for range in unchanged_code(&maps, &program.to_string_lossy()) {
        #[expect(unsafe_code, reason = "rustix cannot know that nothing is lost")]
        // SAFETY: the program's own mappings stay where they are for as long as it runs. These are read-only, of a file,
        // and without a page of their own, so that the next use brings the same bytes back; who runs through them
        // meanwhile waits for that as for any page that was not used before.
        let _ = unsafe {
            rustix::mm::madvise(
                std::ptr::without_provenance_mut(range.start),
                range.len(),
                rustix::mm::Advice::LinuxDontNeed,
            )
        };
    }
}

/// Where the code of `program` lies of which no page was changed: `/proc/PID/smaps`, `proc_pid_smaps(5)`.
#[cfg(target_os = "linux")]
fn unchanged_code(maps: &str, program: &str) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut code = None;
    for line in maps.lines() {
        if let Some(changed) = line.strip_prefix("Anonymous:") {
            found.extend(code.take().filter(|_| changed.trim() == "0 kB"));
        } else if let Some(range) = mapping(line) {
            code = range
                .1
                .then_some(range.0)
                .filter(|_| line.ends_with(&format!(" {program}")));
        }
    }
    found
}

/// The addresses that a mapping's first line names, and whether they are code that nobody can write.
#[cfg(target_os = "linux")]
fn mapping(line: &str) -> Option<(std::ops::Range<usize>, bool)> {
    let mut fields = line.split_ascii_whitespace();
    let (from, to) = fields.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some((address(from)?..address(to)?, fields.next()? == "r-xp"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn only_our_own_unchanged_code_is_let_go_of() {
        let range = 0x55d0_c000..0x55d0_f000;
        for (rights, path, changed, found) in [
            ("r-xp", "/usr/bin/pumas-rpc", 0, true),
            ("r-xp", "/usr/bin/pumas-rpc", 4, false),
            ("r-xp", "/usr/lib/libc.so.6", 0, false),
            ("r-xp", "/else/usr/bin/pumas-rpc", 0, false),
            ("r--p", "/usr/bin/pumas-rpc", 0, false),
            ("rwxp", "/usr/bin/pumas-rpc", 0, false),
            ("r-xp", "[vdso]", 0, false),
        ] {
            let maps = format!(
                "55d0c000-55d0f000 {rights} 00439000 fe:00 131                {path}\nSize: 12 kB\nRss: 12 kB\n\
                 Anonymous:             {changed} kB\nVmFlags: rd ex mr mw me\n"
            );
            let expected = if found { vec![range.clone()] } else { vec![] };
            assert_eq!(
                unchanged_code(&maps, "/usr/bin/pumas-rpc"),
                expected,
                "{rights} {path} {changed}"
            );
        }
        assert!(unchanged_code("", "/usr/bin/pumas-rpc").is_empty());
    }

    #[test]
    fn the_program_goes_on_with_less() {
        let program = std::fs::read_link("/proc/self/exe").unwrap();
        let resident = || {
            let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let ours = maps.split_inclusive('\n').skip_while(|line| {
                !(line.contains(" r-xp ") && line.trim_end().ends_with(program.to_str().unwrap()))
            });
            let rss = ours.skip(1).find_map(|line| line.strip_prefix("Rss:")).unwrap();
            rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        // Other tests bring code back at the same moment.
        let ends = Instant::now() + Duration::from_secs(30);
        let less = || {
            let before = resident();
            settle();
            resident() < before
        };
        while !less() {
            assert!(Instant::now() < ends, "nothing was let go of");
        }
        assert_eq!(serde_json::json!({"a": [1.5]}).to_string(), r#"{"a":[1.5]}"#);
    }
}
