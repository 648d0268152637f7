//! Which processes belong to an app. The only place that decides it; what is not named here is never signalled.
//!
//! A process belongs when it descends from the app's keeper (an ancestor of everything the app leaves behind) and either is
//! still in the app's session or group, or left that but runs the app's own program. A browser that the app opened and that
//! made itself a session of its own is the user's. Without a keeper (it was killed) the session counts as long as its first
//! process lives, and after that only those that carry the run's mark. Names, titles, command lines and pid files say
//! nothing.

use std::path::Path;

use super::kernel::{self, Seen, Table};

/// The environment variable that holds the run's id, in the keeper and in all that it starts.
pub(super) const MARK: &str = "PUMAS_RUN";

/// By what an app is known.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    /// Of its first process.
    pub(super) leader: u32,
    pub(super) leader_start: u64,
    /// It was started as these.
    pub(super) programs: Vec<String>,
    pub(super) folder: String,
}

/// The app's processes below its living keeper, parents before children.
pub(super) fn members(marks: &Marks, keeper: u32, everyone: &Table) -> Vec<Seen> {
    let mut found = kernel::descendants(keeper, everyone);
    found.retain(|seen| !seen.ended && (is_together(marks, seen) || runs_its_program(marks, seen)));
    found
}

/// The app's processes when its keeper is gone.
pub(super) fn orphans(marks: &Marks, run_id: &str, everyone: &Table) -> Vec<Seen> {
    let leader = everyone.get(&marks.leader);
    if leader.is_some_and(|leader| leader.start != marks.leader_start) {
        // The number is another's now, and so is the session of that name.
        return Vec::new();
    }
    let alive = everyone.values().filter(|seen| !seen.ended).copied();
    if leader.is_some_and(|leader| !leader.ended) {
        return alive.filter(|seen| is_together(marks, seen)).collect();
    }
    let is_marked = |seen: &Seen| {
        seen.start >= marks.leader_start
            && seen.pid != std::process::id()
            && kernel::has_variable(seen.pid, MARK, run_id)
            && (is_together(marks, seen) || runs_its_program(marks, seen))
    };
    alive.filter(is_marked).collect()
}

fn is_together(marks: &Marks, seen: &Seen) -> bool {
    [seen.session, seen.group, seen.pid].contains(&marks.leader) && seen.start >= marks.leader_start
}

fn runs_its_program(marks: &Marks, seen: &Seen) -> bool {
    let Some(program) = kernel::program(seen.pid).filter(|program| program.is_absolute()) else {
        return false;
    };
    let folder = Path::new(&marks.folder);
    let is_place = folder.is_absolute() && folder != Path::new("/");
    marks.programs.iter().any(|one| Path::new(one) == program) || (is_place && program.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pid: u32, parent: u32, session: u32, start: u64) -> Seen {
        Seen {
            pid,
            parent,
            group: session,
            session,
            start,
            ended: false,
        }
    }

    fn marks() -> Marks {
        Marks {
            leader: 1_000_001,
            leader_start: 50,
            programs: Vec::new(),
            folder: "/nowhere/at/all".to_owned(),
        }
    }

    fn pids(mut found: Vec<Seen>) -> Vec<u32> {
        found.sort_by_key(|seen| seen.pid);
        found.iter().map(|seen| seen.pid - 1_000_000).collect()
    }

    #[test]
    fn what_left_the_session_is_somebody_elses() {
        let everyone: Table = [
            row(1_000_001, 1_000_000, 1_000_001, 50),
            row(1_000_002, 1_000_001, 1_000_001, 60),
            row(1_000_003, 1_000_002, 1_000_003, 70),
            row(1_000_004, 1, 1_000_001, 80),
        ]
        .map(|seen| (seen.pid, seen))
        .into();
        assert_eq!(pids(members(&marks(), 1_000_000, &everyone)), [1, 2]);
        assert_eq!(pids(orphans(&marks(), "x", &everyone)), [1, 2, 4]);
    }

    #[test]
    fn a_number_that_was_used_again_names_nobody() {
        let everyone: Table = [row(1_000_001, 1, 1_000_001, 51)]
            .map(|seen| (seen.pid, seen))
            .into();
        assert!(orphans(&marks(), "x", &everyone).is_empty());
    }
}
