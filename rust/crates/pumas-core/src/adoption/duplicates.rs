//! Which bytes exist more than once, over all stores and our own library, and what sharing them would free.
//!
//! Three degrees of certainty, never mixed: `shared` is one file under several names already; `duplicate` is another file
//! for which the same SHA-256 was claimed or verified; `possible` has only size and name in common. Values in, values out.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};
use std::hash::Hash;

use indexmap::{IndexMap, IndexSet};

use crate::adoption::found::base_name;
use crate::library::entry::is_model_file;

const MAX_SHOWN: usize = 2000;
/// What our own library is called among the stores.
pub const LIBRARY: &str = "library";

/// How sure it is that bytes are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// One file under several names.
    Shared,
    /// The same SHA-256.
    Duplicate,
    /// Size and name.
    Possible,
}

impl Certainty {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Duplicate => "duplicate",
            Self::Possible => "possible",
        }
    }
}

/// Device and inode: equal for two names of one file; for a clone those of what it was cloned from.
pub type BytesId = (u64, u64);

/// One file in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The store's path, or [`LIBRARY`].
    pub store: String,
    /// What the model is called there.
    pub model: String,
    /// Its name in the model.
    pub name: String,
    /// Absolute.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Which bytes these are.
    pub bytes_id: BytesId,
    /// `""` when nobody says.
    pub sha256: String,
    /// Whether we computed it.
    pub verified: bool,
}

impl Piece {
    fn is_ours(&self) -> bool {
        self.store == LIBRARY
    }
}

/// Bytes in several places.
#[derive(Debug, Clone)]
pub struct Repeated {
    /// How sure it is.
    pub certainty: Certainty,
    /// Bytes of one copy.
    pub size: u64,
    /// Bytes that one shared copy would free; for `possible` ones, if they are equal.
    pub freed: u64,
    /// `""` when nobody says.
    pub sha256: String,
    /// None of its digests is only claimed.
    pub verified: bool,
    /// Ours first.
    pub pieces: Vec<Piece>,
}

/// What was found; the sums are over all of it, in bytes.
#[derive(Debug, Clone)]
pub struct Duplicates {
    /// The largest gains first.
    pub repeated: Vec<Repeated>,
    /// How many are not shown.
    pub omitted: usize,
    /// Saved already.
    pub shared_bytes: u64,
    /// What sharing all duplicates would free.
    pub freed_bytes: u64,
    /// What could be freed if the possible ones are equal.
    pub possible_bytes: u64,
}

/// Group pieces; a path that occurs twice counts once.
#[must_use]
pub fn find(pieces: impl IntoIterator<Item = Piece>) -> Duplicates {
    let pieces = pieces.into_iter().filter(|piece| piece.size > 0);
    let distinct: IndexMap<(String, bool), Piece> = pieces
        .map(|piece| ((piece.path.clone(), piece.is_ours()), piece))
        .collect();
    let mut found = all(distinct.into_values().collect());
    found.sort_by(|one, other| order(one).cmp(&order(other)));
    let sum = |certainty: Certainty, count: fn(&Repeated) -> u64| {
        let of_kind = found.iter().filter(|one| one.certainty == certainty);
        of_kind.map(count).sum()
    };
    Duplicates {
        shared_bytes: sum(Certainty::Shared, |one| {
            one.size * (paths(&one.pieces) as u64 - 1)
        }),
        freed_bytes: sum(Certainty::Duplicate, |one| one.freed),
        possible_bytes: sum(Certainty::Possible, |one| one.freed),
        omitted: found.len().saturating_sub(MAX_SHOWN),
        repeated: {
            found.truncate(MAX_SHOWN);
            found
        },
    }
}

fn order(one: &Repeated) -> (Reverse<u64>, Reverse<u64>, &str) {
    let path = one.pieces.first().map_or("", |piece| &piece.path);
    (Reverse(one.freed), Reverse(one.size), path)
}

/// How many paths.
fn paths(pieces: &[Piece]) -> usize {
    let distinct: HashSet<&str> = pieces.iter().map(|piece| piece.path.as_str()).collect();
    distinct.len()
}

fn all(pieces: Vec<Piece>) -> Vec<Repeated> {
    let by_bytes = by_key(pieces.into_iter().map(|piece| (piece.bytes_id, piece)));
    let digest_of = |group: &[Piece]| {
        let known = group.iter().find(|piece| !piece.sha256.is_empty());
        known.map_or_else(String::new, |piece| piece.sha256.clone())
    };
    let digests: IndexMap<BytesId, String> = by_bytes
        .iter()
        .map(|(key, group)| (*key, digest_of(group)))
        .collect();
    let mut found: Vec<Repeated> = by_bytes
        .iter()
        .filter(|(_, group)| paths(group) > 1)
        .map(|(key, group)| repeated(Certainty::Shared, group.clone(), &digests[key], 0))
        .collect();
    let known = by_bytes.iter().filter(|(key, _)| !digests[*key].is_empty());
    let known = by_key(known.map(|(key, group)| ((group[0].size, digests[key].as_str()), group)));
    for ((_, digest), groups) in known.iter().filter(|(_, groups)| groups.len() > 1) {
        let pieces = groups.iter().flat_map(|group| group.iter().cloned()).collect();
        found.push(repeated(Certainty::Duplicate, pieces, digest, groups.len() - 1));
    }
    found.extend(possible(&by_bytes, &digests));
    found
}

fn possible(by_bytes: &IndexMap<BytesId, Vec<Piece>>, digests: &IndexMap<BytesId, String>) -> Vec<Repeated> {
    let named = by_bytes.iter().flat_map(|(key, group)| {
        let names: BTreeSet<String> = group
            .iter()
            .map(|piece| base_name(&piece.name).to_lowercase())
            .collect();
        let models = names.into_iter().filter(|name| is_model_file(name));
        models.map(|name| ((group[0].size, name), *key))
    });
    let mut told: IndexSet<BTreeSet<BytesId>> = IndexSet::new();
    let mut found = Vec::new();
    for keys in by_key(named).into_values() {
        // Two digests that differ are no duplicates, two that agree were told above.
        let one: BTreeSet<BytesId> = keys.iter().copied().collect();
        let unsure = one.iter().filter(|key| digests[*key].is_empty()).count();
        if one.len() > 1 && unsure > 0 && told.insert(one.clone()) {
            let pieces = keys
                .iter()
                .flat_map(|key| by_bytes[key].iter().cloned())
                .collect();
            let copies = if unsure < one.len() { unsure } else { unsure - 1 };
            found.push(repeated(Certainty::Possible, pieces, "", copies));
        }
    }
    found
}

/// `copies`: how many of them sharing would make unnecessary.
fn repeated(certainty: Certainty, mut pieces: Vec<Piece>, digest: &str, copies: usize) -> Repeated {
    let size = pieces.first().map_or(0, |piece| piece.size);
    let mut told = pieces.iter().filter(|piece| !piece.sha256.is_empty());
    let verified = !digest.is_empty() && told.all(|piece| piece.verified);
    pieces.sort_by(|one, other| (!one.is_ours(), &one.path).cmp(&(!other.is_ours(), &other.path)));
    Repeated {
        certainty,
        size,
        freed: size * copies as u64,
        sha256: digest.to_owned(),
        verified,
        pieces,
    }
}

fn by_key<K: Hash + Eq, V>(items: impl IntoIterator<Item = (K, V)>) -> IndexMap<K, Vec<V>> {
    let mut found: IndexMap<K, Vec<V>> = IndexMap::new();
    for (key, value) in items {
        found.entry(key).or_default().push(value);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(store: &str, name: &str, inode: u64, sha256: &str) -> Piece {
        Piece {
            store: store.to_owned(),
            model: "m".to_owned(),
            name: name.to_owned(),
            path: format!("/{store}/{name}"),
            size: 100,
            bytes_id: (1, inode),
            sha256: sha256.to_owned(),
            verified: store == LIBRARY,
        }
    }

    fn check(pieces: &[Piece], expected: &[(Certainty, u64, bool)], sums: (u64, u64, u64)) {
        let found = find(pieces.iter().cloned());
        let shown: Vec<(Certainty, u64, bool)> = found
            .repeated
            .iter()
            .map(|one| (one.certainty, one.freed, one.verified))
            .collect();
        assert_eq!(shown, expected);
        assert_eq!(
            (found.shared_bytes, found.freed_bytes, found.possible_bytes),
            sums
        );
    }

    #[test]
    fn degrees_of_certainty_are_never_mixed() {
        let (shared, duplicate, possible) = (Certainty::Shared, Certainty::Duplicate, Certainty::Possible);
        check(&[], &[], (0, 0, 0));
        check(
            &[piece("a", "x.gguf", 1, ""), piece("a", "x.gguf", 1, "")],
            &[],
            (0, 0, 0),
        );
        check(
            &[piece("a", "x.gguf", 1, ""), piece("b", "y.gguf", 1, "")],
            &[(shared, 0, false)],
            (100, 0, 0),
        );
        check(
            &[piece("a", "x.gguf", 1, "d"), piece("b", "y.gguf", 2, "d")],
            &[(duplicate, 100, false)],
            (0, 100, 0),
        );
        check(
            &[piece(LIBRARY, "x.gguf", 1, "d"), piece(LIBRARY, "y.gguf", 2, "d")],
            &[(duplicate, 100, true)],
            (0, 100, 0),
        );
        check(
            &[piece("a", "x.gguf", 1, ""), piece("b", "X.gguf", 2, "d")],
            &[(possible, 100, false)],
            (0, 0, 100),
        );
        check(
            &[piece("a", "x.gguf", 1, ""), piece("b", "x.gguf", 2, "")],
            &[(possible, 100, false)],
            (0, 0, 100),
        );
        check(
            &[piece("a", "x.gguf", 1, "d"), piece("b", "x.gguf", 2, "e")],
            &[],
            (0, 0, 0),
        );
        check(
            &[piece("a", "LICENSE", 1, ""), piece("b", "LICENSE", 2, "")],
            &[],
            (0, 0, 0),
        );
    }

    #[test]
    fn ours_are_shown_first() {
        let found = find([piece("a", "x.gguf", 1, "d"), piece(LIBRARY, "y.gguf", 2, "d")]);
        let stores: Vec<&str> = found.repeated[0]
            .pieces
            .iter()
            .map(|piece| piece.store.as_str())
            .collect();
        assert_eq!(stores, [LIBRARY, "a"]);
    }
}
