//! Which programs this installation can use. No program is started to find out.
//!
//! This backend is one file and needs nothing to run; a Python interpreter is what it cannot install apps without. What an
//! installed app needs is not known here.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What is called missing, and the programs of which one is enough.
const REQUIRED: &[(&str, &[&str])] = &[("python3", &["python3", "uv"])];

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependencies {
    /// Only custom nodes need it.
    pub git: bool,
    /// The Brave browser.
    pub brave: bool,
    /// The Python package `setproctitle`, in the virtual environment that is active.
    pub setproctitle: bool,
    /// Names of what has to be there and is not, sorted.
    pub missing: Vec<String>,
}

impl Dependencies {
    /// Whether every feature of the sidecar can work.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.missing.is_empty()
    }
}

/// All of it, by the environment of this process; blocks for some milliseconds.
#[must_use]
pub fn look() -> Dependencies {
    look_in(
        std::env::var_os("PATH").as_deref(),
        std::env::var_os("VIRTUAL_ENV").as_deref(),
    )
}

fn look_in(path: Option<&OsStr>, environment: Option<&OsStr>) -> Dependencies {
    let path = path.unwrap_or_default();
    let has = |program: &str| find_program(program, path).is_some();
    let missing = REQUIRED
        .iter()
        .filter(|(_, programs)| !programs.iter().any(|program| has(program)));
    Dependencies {
        git: has("git"),
        brave: has("brave-browser"),
        setproctitle: environment.is_some_and(|folder| has_package(Path::new(folder), "setproctitle")),
        missing: missing.map(|(name, _)| (*name).to_owned()).collect(),
    }
}

/// The first program of this name on `path`, which is written as the environment variable is.
#[must_use]
pub fn find_program(name: &str, path: &OsStr) -> Option<PathBuf> {
    let is_program = |file: &PathBuf| {
        file.metadata()
            .is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path)
        .map(|folder| folder.join(name))
        .find(is_program)
}

/// Whether a virtual environment holds a package.
fn has_package(environment: &Path, name: &str) -> bool {
    let Ok(versions) = environment.join("lib").read_dir() else {
        return false;
    };
    versions
        .filter_map(Result::ok)
        .any(|version| version.path().join("site-packages").join(name).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_files_that_may_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().as_os_str();
        assert_eq!(look_in(Some(path), None).missing, ["python3"]);
        let git = folder.path().join("git");
        std::fs::write(&git, b"").unwrap();
        assert!(!look_in(Some(path), None).git);
        std::fs::set_permissions(&git, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(look_in(Some(path), None).git);
        std::fs::rename(&git, folder.path().join("uv")).unwrap();
        assert!(look_in(Some(path), None).ready());
    }

    #[test]
    fn packages_are_looked_for_in_the_active_environment() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!look_in(None, Some(folder.path().as_os_str())).setproctitle);
        std::fs::create_dir_all(folder.path().join("lib/python3.12/site-packages/setproctitle")).unwrap();
        assert!(look_in(None, Some(folder.path().as_os_str())).setproctitle);
    }
}
