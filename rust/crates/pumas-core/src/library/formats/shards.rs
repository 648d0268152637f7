//! Which files are parts of one model, from their names alone.
//!
//! Three spellings are known: `name-00001-of-00005.ext`, `name.ext.part1`, `name_00001.ext`. Nothing is opened, and the
//! files need not exist. Numbers in names are claims: the answer never grows with them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use indexmap::{IndexMap, IndexSet};

/// What makes a folder a pipeline of diffusers.
pub const PIPELINE_INDEX: &str = "model_index.json";
/// How many missing numbers are listed.
pub const MAX_MISSING: usize = 1_000;

/// Whether a file belongs to the model beside it: what turns images into tokens for it (`mmproj`).
#[must_use]
pub fn is_projector(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.to_lowercase().contains("mmproj")
}

/// Whether a set is whole. `error` says why it is not, and when `missing` is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardValidation {
    /// All parts are there.
    pub complete: bool,
    /// The numbers of missing parts, at most [`MAX_MISSING`].
    pub missing: Vec<u64>,
    /// How many parts the names promise.
    pub expected: u64,
    /// How many there are.
    pub found: u64,
    /// One clause; empty when there is nothing to say.
    pub error: String,
}

/// One model's files: the paths as they were given, sorted by file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardGroup {
    /// The paths.
    pub files: Vec<String>,
    /// What is known of the set.
    pub validation: ShardValidation,
}

struct Part {
    path: String,
    name: String,
    number: u64,
    /// `None` when the name does not say.
    total: Option<u64>,
}

/// Group `paths` by the model that they are parts of; every path appears exactly once.
///
/// A set is keyed by what its members' names share, a file of its own by its name. Sets in different folders are
/// different sets; when two keys would be equal, the later one gets its folder's name in front.
#[must_use]
pub fn detect_sharded_sets(paths: &[String]) -> IndexMap<String, ShardGroup> {
    let mut sets: IndexMap<(String, String), Vec<Part>> = IndexMap::new();
    let mut single = Vec::new();
    for path in paths.iter().collect::<IndexSet<_>>() {
        let name = file_name(path);
        match parse(path, &name) {
            Some((key, part)) => sets.entry((folder(path), key)).or_default().push(part),
            None => single.push(Part {
                path: path.clone(),
                name,
                number: 0,
                total: None,
            }),
        }
    }
    let mut groups = IndexMap::new();
    for ((folder, key), mut parts) in sets {
        if parts.len() == 1 && matches!(parts[0].total, None | Some(1)) {
            single.append(&mut parts);
            continue;
        }
        parts.sort_by(|one, other| one.name.cmp(&other.name));
        let name = if parts.len() > 1 {
            key
        } else {
            parts[0].name.clone()
        };
        let group = ShardGroup {
            validation: validate(&parts),
            files: parts.into_iter().map(|part| part.path).collect(),
        };
        groups.insert(free_key(&groups, name, &folder), group);
    }
    for part in single {
        let key = free_key(&groups, part.name, &folder(&part.path));
        let validation = ShardValidation {
            complete: true,
            missing: Vec::new(),
            expected: 1,
            found: 1,
            error: String::new(),
        };
        groups.insert(
            key,
            ShardGroup {
                files: vec![part.path],
                validation,
            },
        );
    }
    groups
}

/// The last part of a path as given; `""` for a root.
fn file_name(path: &str) -> String {
    let last = Path::new(path).components().next_back();
    match last {
        Some(std::path::Component::Normal(name)) => name.to_string_lossy().into_owned(),
        Some(std::path::Component::ParentDir) => "..".to_owned(),
        _ => String::new(),
    }
}

fn folder(path: &str) -> String {
    let folder: Option<PathBuf> = Path::new(path)
        .parent()
        .map(|folder| folder.components().collect());
    folder
        .map(|folder| folder.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// What the set of `name` is called, and which part of it this is.
fn parse(path: &str, name: &str) -> Option<(String, Part)> {
    let (key, number, total) = numbered_of(name)
        .or_else(|| numbered_part(name))
        .or_else(|| counted(name))?;
    Some((
        key,
        Part {
            path: path.to_owned(),
            name: name.to_owned(),
            number,
            total,
        },
    ))
}

type Numbered = (String, u64, Option<u64>);

/// `base-1-of-5.ext`, the ending being optional.
fn numbered_of(name: &str) -> Option<Numbered> {
    let endings = [name.rfind('.'), Some(name.len())];
    endings.into_iter().flatten().find_map(|end| {
        let (stem, ending) = name.split_at(end);
        if ending.len() == 1 {
            return None;
        }
        let (rest, total) = stem.rsplit_once("-of-")?;
        let (base, number) = rest.rsplit_once('-')?;
        (!base.is_empty()).then_some(())?;
        Some((format!("{base}{ending}"), digits(number)?, Some(digits(total)?)))
    })
}

/// `base.ext.part1`.
fn numbered_part(name: &str) -> Option<Numbered> {
    let (rest, number) = name.rsplit_once(".part")?;
    let dot = rest.rfind('.').filter(|at| *at > 0 && at + 1 < rest.len())?;
    let (base, ending) = rest.split_at(dot);
    Some((format!("{base}{ending}"), digits(number)?, None))
}

/// `base_00001.ext`.
fn counted(name: &str) -> Option<Numbered> {
    let dot = name.rfind('.').filter(|at| at + 1 < name.len())?;
    let (stem, ending) = name.split_at(dot);
    let (base, number) = stem.rsplit_once('_')?;
    (number.len() == 5 && !base.is_empty()).then_some(())?;
    Some((format!("{base}{ending}"), digits(number)?, None))
}

fn digits(text: &str) -> Option<u64> {
    let proper = (1..=10).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit());
    proper.then(|| text.parse().ok())?
}

fn free_key(groups: &IndexMap<String, ShardGroup>, key: String, folder: &str) -> String {
    if !groups.contains_key(&key) {
        return key;
    }
    let key = format!("{}/{key}", file_name(folder));
    let mut free = key.clone();
    let mut count = 2;
    while groups.contains_key(&free) {
        free = format!("{key} ({count})");
        count += 1;
    }
    free
}

fn validate(parts: &[Part]) -> ShardValidation {
    let found = parts.len() as u64;
    let mut totals: Vec<u64> = parts.iter().filter_map(|part| part.total).collect();
    totals.sort_unstable();
    totals.dedup();
    let broken = |expected, error| ShardValidation {
        complete: false,
        missing: Vec::new(),
        expected,
        found,
        error,
    };
    let expected = match totals[..] {
        [] => {
            return ShardValidation {
                complete: true,
                error: String::new(),
                ..broken(found, String::new())
            };
        }
        [expected] => expected,
        [.., largest] => {
            let claimed: Vec<String> = totals.iter().take(5).map(ToString::to_string).collect();
            let error = format!(
                "the names disagree about how many parts there are: {}",
                claimed.join(", ")
            );
            return broken(largest, error);
        }
    };
    let numbers: HashSet<u64> = parts.iter().map(|part| part.number).collect();
    if !numbers.iter().all(|number| (1..=expected).contains(number)) {
        return broken(expected, format!("a part has a number outside 1 to {expected}"));
    }
    if (numbers.len() as u64) < found {
        return broken(expected, "two parts have the same number".to_owned());
    }
    let absent = expected - found;
    // Among the first MAX_MISSING and as many more numbers as there are, MAX_MISSING are missing, or all of them.
    let last = expected.min(MAX_MISSING as u64 + found);
    let missing: Vec<u64> = (1..=last)
        .filter(|number| !numbers.contains(number))
        .take(MAX_MISSING)
        .collect();
    let error = match absent {
        0 => String::new(),
        _ if missing.len() as u64 == absent => format!("{absent} of {expected} parts are missing"),
        _ => format!(
            "{absent} of {expected} parts are missing; only the first {} are listed",
            missing.len()
        ),
    };
    ShardValidation {
        complete: absent == 0,
        missing,
        expected,
        found,
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(paths: &[&str]) -> IndexMap<String, ShardGroup> {
        detect_sharded_sets(&paths.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn parts_are_grouped_and_counted() {
        let found = sets(&["a/m-00002-of-00003.gguf", "a/m-00001-of-00003.gguf", "b.gguf"]);
        let set = &found["m.gguf"];
        assert_eq!(set.files, ["a/m-00001-of-00003.gguf", "a/m-00002-of-00003.gguf"]);
        assert_eq!(
            (set.validation.missing.as_slice(), set.validation.expected),
            ([3].as_slice(), 3)
        );
        assert_eq!(set.validation.error, "1 of 3 parts are missing");
        assert!(found["b.gguf"].validation.complete);
    }

    #[test]
    fn other_spellings_and_equal_names_are_known() {
        let found = sets(&[
            "x.gguf.part1",
            "x.gguf.part2",
            "y_00001.bin",
            "y_00002.bin",
            "1/z.gguf",
            "2/z.gguf",
        ]);
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            ["x.gguf", "y.bin", "z.gguf", "2/z.gguf"]
        );
    }

    #[test]
    fn claims_do_not_cost_memory() {
        let found = sets(&["m-1-of-9999999999.gguf", "m-2-of-9999999999.gguf"]);
        assert_eq!(found["m.gguf"].validation.missing.len(), MAX_MISSING);
        assert!(
            !sets(&["m-1-of-2.gguf", "m-1-of-3.gguf"])["m.gguf"]
                .validation
                .complete
        );
    }

    proptest::proptest! {
        #[test]
        fn every_path_appears_once(paths in proptest::collection::vec("[a-c_.0-9/-]{1,12}|[ab]-[0-3]-of-[0-3]\\.x", 0..20)) {
            let wanted: HashSet<&String> = paths.iter().collect();
            let groups = detect_sharded_sets(&paths);
            let all: Vec<&String> = groups.values().flat_map(|group| &group.files).collect();
            proptest::prop_assert_eq!(all.len(), wanted.len());
            proptest::prop_assert_eq!(all.into_iter().collect::<HashSet<_>>(), wanted);
        }
    }
}
