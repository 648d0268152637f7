//! What is wrong with the files that we keep, as a list that a user can read.
//!
//! Reported by whoever meets the trouble (a damaged file, a quarantined database, a folder that cannot be written),
//! cleared when it is gone, and shown by `get_library_status`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// More than these are only counted.
pub const MAX_TROUBLES: usize = 1000;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Trouble {
    /// A root-relative path or a domain's name.
    pub subject: String,
    /// Machine-readable.
    pub kind: String,
    /// What to do.
    pub message: String,
}

#[derive(Default)]
struct Known {
    order: u64,
    by_subject: HashMap<String, (u64, Trouble)>,
    dropped: usize,
}

/// The list. One trouble per subject: the newest report replaces an older one, in its place.
#[derive(Default)]
pub struct Troubles {
    known: Mutex<Known>,
}

impl Troubles {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Note a trouble.
    pub fn report(&self, subject: &str, kind: &str, message: &str) {
        let mut known = self.known();
        if !known.by_subject.contains_key(subject) && known.by_subject.len() >= MAX_TROUBLES {
            known.dropped += 1;
            return;
        }
        known.order += 1;
        let order = known.order;
        let trouble = Trouble {
            subject: subject.into(),
            kind: kind.into(),
            message: message.into(),
        };
        let entry = known
            .by_subject
            .entry(subject.into())
            .or_insert_with(|| (order, trouble.clone()));
        entry.1 = trouble;
    }

    /// The subject is well again.
    pub fn clear(&self, subject: &str) {
        self.known().by_subject.remove(subject);
    }

    /// All troubles of a kind are gone.
    pub fn clear_kind(&self, kind: &str) {
        self.known()
            .by_subject
            .retain(|_, (_, trouble)| trouble.kind != kind);
    }

    /// All of them, in the order in which they were first reported.
    #[must_use]
    pub fn list(&self) -> Vec<Trouble> {
        let mut all: Vec<_> = self.known().by_subject.values().cloned().collect();
        all.sort_by_key(|(order, _)| *order);
        all.into_iter().map(|(_, trouble)| trouble).collect()
    }

    /// How many there are, with those that the list has no room for.
    #[must_use]
    pub fn count(&self) -> usize {
        let known = self.known();
        known.by_subject.len() + known.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_per_subject_and_bounded() {
        let troubles = Troubles::default();
        troubles.report("a", "x", "first");
        troubles.report("b", "y", "second");
        troubles.report("a", "y", "third");
        let subjects: Vec<_> = troubles
            .list()
            .into_iter()
            .map(|t| (t.subject, t.message))
            .collect();
        assert_eq!(
            subjects,
            [("a".into(), "third".into()), ("b".into(), "second".into())]
        );
        troubles.clear_kind("y");
        assert_eq!(troubles.count(), 0);
        for number in 0..=MAX_TROUBLES {
            troubles.report(&number.to_string(), "x", "");
        }
        assert_eq!(
            (troubles.list().len(), troubles.count()),
            (MAX_TROUBLES, MAX_TROUBLES + 1)
        );
    }
}
