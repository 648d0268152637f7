//! Reads a requirements file as far as we need it: which packages it names, and which of them may be missing.
//!
//! <https://pip.pypa.io/en/stable/reference/requirements-file-format/>. What pip or uv make of it is theirs to say; this only
//! counts and compares.

use std::path::Path;
use std::str::FromStr as _;

use pep440_rs::Version;
use pep508_rs::{MarkerEnvironment, MarkerEnvironmentBuilder, Requirement, VersionOrUrl};
use sha2::{Digest as _, Sha256};

use crate::storage::files::hex;

/// One line. `name` is normalised; `optional`: below the mark in the file.
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) optional: bool,
    requirement: Option<Requirement>,
}

impl Wanted {
    /// Whether its environment marker holds there.
    pub(super) fn applies(&self, environment: Option<&MarkerEnvironment>) -> bool {
        let (Some(requirement), Some(environment)) = (&self.requirement, environment) else {
            return true;
        };
        requirement.marker.evaluate(environment, &[])
    }

    pub(super) fn fits(&self, version: &str) -> bool {
        let wanted = self
            .requirement
            .as_ref()
            .and_then(|one| one.version_or_url.as_ref());
        match wanted {
            Some(VersionOrUrl::VersionSpecifier(specifiers)) => {
                Version::from_str(version).is_ok_and(|version| specifiers.contains(&version))
            }
            _ => true,
        }
    }
}

/// The packages that a requirements file names. Options and what is no requirement are left out.
pub(super) fn parse(text: &str, optional_after: &str) -> Vec<Wanted> {
    let mark = squeezed(optional_after);
    let text = text
        .trim_start_matches('\u{feff}')
        .replace("\\\r\n", " ")
        .replace("\\\n", " ");
    let mut optional = false;
    let mut found = Vec::new();
    for raw in text.lines() {
        optional |= !mark.is_empty() && squeezed(raw).starts_with(&mark);
        let line = without_comment(raw).trim();
        if line.is_empty() || line.starts_with('-') {
            continue;
        }
        let line = line.split(" --").next().unwrap_or(line).trim();
        if let Ok(requirement) = Requirement::from_str(line) {
            found.push(Wanted {
                name: requirement.name.to_string(),
                optional,
                requirement: Some(requirement),
            });
        } else if let Some(name) = name_of(line).filter(|_| !line.contains(['/', ':'])) {
            found.push(Wanted {
                name: normalised(name),
                optional,
                requirement: None,
            });
        }
    }
    found
}

fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        if c == '#' && before.is_whitespace() {
            return &line[..at];
        }
        before = c;
    }
    line
}

fn name_of(line: &str) -> Option<&str> {
    let end = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
        .unwrap_or(line.len());
    let name = &line[..end];
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        .then_some(name)
}

/// <https://packaging.python.org/en/latest/specifications/name-normalization/>
pub(super) fn normalised(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if out.ends_with('-') => {}
            '-' | '_' | '.' => out.push('-'),
            _ => out.extend(c.to_lowercase()),
        }
    }
    out
}

/// `sha256:` and hex, as older sidecars write it.
pub(super) fn digest(text: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(text)))
}

/// What markers mean in an environment on this machine, by what it says of itself; None when that cannot be told.
pub(super) fn markers_of(venv: &Path) -> Option<MarkerEnvironment> {
    let text = std::fs::read_to_string(venv.join("pyvenv.cfg")).ok()?;
    let value = |wanted: &str| {
        text.lines()
            .filter_map(|line| line.split_once('='))
            .find(|(key, _)| key.trim() == wanted)
            .map(|(_, value)| value.trim())
    };
    let full = value("version_info").or_else(|| value("version"))?;
    let mut parts = full.split('.');
    let short = format!("{}.{}", parts.next()?, parts.next()?);
    let system = rustix::system::uname();
    let said = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let (name, machine) = (said(system.sysname()), said(system.machine()));
    MarkerEnvironment::try_from(MarkerEnvironmentBuilder {
        implementation_name: "cpython",
        implementation_version: full,
        os_name: if cfg!(windows) { "nt" } else { "posix" },
        platform_machine: &machine,
        platform_python_implementation: "CPython",
        platform_release: &said(system.release()),
        platform_system: &name,
        platform_version: &said(system.version()),
        python_full_version: full,
        python_version: &short,
        sys_platform: &name.to_lowercase(),
    })
    .ok()
}

fn squeezed(text: &str) -> String {
    let kept = text.chars().filter(|c| !c.is_whitespace() && *c != '-');
    kept.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_what_may_be_missing() {
        let text = "\u{feff}# comment\n--index-url https://x\nTorch>=2.0 # why\nsome_Thing[extra] == 1.* ; python_version > '3'\n\
            weird line !\nhttps://x/y.whl\nlong \\\n  == 1 --hash=sha256:0\n\n#  Non-essential dependencies:\nkornia>=0.7\n";
        let found = parse(text, "#non essential dependencies");
        let names: Vec<(&str, bool)> = found
            .iter()
            .map(|one| (one.name.as_str(), one.optional))
            .collect();
        let expected = [
            ("torch", false),
            ("some-thing", false),
            ("weird", false),
            ("long", false),
            ("kornia", true),
        ];
        assert_eq!(names, expected);
        assert!(found[0].fits("2.1") && !found[0].fits("1.9") && !found[0].fits("odd"));
        assert!(found[2].fits("whatever"));
    }

    #[test]
    fn markers_are_those_of_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        assert!(markers_of(folder.path()).is_none());
        std::fs::write(folder.path().join("pyvenv.cfg"), "home = /x\nversion = 3.9.1\n").unwrap();
        let environment = markers_of(folder.path());
        let applies = |text: &str| parse(text, "")[0].applies(environment.as_ref());
        assert!(applies("a; python_version < '3.10'"));
        assert!(!applies("a; python_version >= '3.10'"));
        assert!(!applies("a; sys_platform == 'win32'"));
    }
}
