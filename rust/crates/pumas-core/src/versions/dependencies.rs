//! What an installed version has and lacks of its packages, by metadata on disk alone; and bringing what it lacks.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::packages::{Packages, Resolved, Wish};
use super::requirements::{markers_of, normalised, parse};
use super::running::Programs;
use crate::apps::{AppDescription, VENV, python_of};
use crate::config::Layout;
use crate::error::{Error, Result};

/// What a version has and lacks.
#[derive(Clone, Debug, Default)]
pub struct Dependencies {
    /// Names of packages.
    pub installed: Vec<String>,
    /// Those of another version than is asked for, too.
    pub missing: Vec<String>,
    /// Root-relative; None when the version has no such file.
    pub requirements: Option<String>,
    /// Those of `missing` that are not there in any version.
    pub absent: Vec<String>,
}

/// A package of a wrong version counts as missing; one below the mark in the requirements file is never missing.
///
/// `absent` are those that the release asks for, as far as the environment alone decides what it can import.
pub(super) fn look_up(app: &AppDescription, folder: &Path, tag: &str) -> Dependencies {
    let Some(python) = &app.python else {
        return Dependencies::default();
    };
    let (path, venv) = (folder.join(&python.requirements), folder.join(VENV));
    let text = fs::read(&path).unwrap_or_default();
    let there = distributions(&venv);
    let markers = markers_of(&venv);
    let (mut installed, mut missing, mut absent) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for wanted in parse(&String::from_utf8_lossy(&text), &python.optional_after) {
        if !wanted.applies(markers.as_ref()) {
            continue;
        }
        let version = there.get(&wanted.name);
        if version.is_some_and(|version| wanted.fits(version)) {
            installed.insert(wanted.name);
        } else if !wanted.optional {
            if version.is_none() {
                absent.insert(wanted.name.clone());
            }
            missing.insert(wanted.name);
        }
    }
    for name in python.extra.iter().map(|name| normalised(name)) {
        if there.contains_key(&name) {
            installed.insert(name);
        } else {
            missing.insert(name);
        }
    }
    if !is_closed(&venv) {
        absent.clear();
    }
    Dependencies {
        installed: installed.into_iter().collect(),
        missing: missing.into_iter().collect(),
        absent: absent.into_iter().collect(),
        requirements: path
            .is_file()
            .then(|| format!("{}/{tag}/{}", app.folder, python.requirements)),
    }
}

/// Whether it is an environment that sees no packages but its own. <https://docs.python.org/3/library/venv.html>
fn is_closed(venv: &Path) -> bool {
    let Ok(text) = fs::read_to_string(venv.join("pyvenv.cfg")) else {
        return false;
    };
    !text
        .to_lowercase()
        .lines()
        .filter_map(|line| line.split_once('='))
        .any(|(key, value)| key.trim_end() == "include-system-site-packages" && value.trim() == "true")
}

/// What changes when the answer of `look_up` may have changed.
pub(super) type Stamp = Vec<(PathBuf, i64, i64, u64)>;

pub(super) fn stamp(app: &AppDescription, folder: &Path) -> Stamp {
    let Some(python) = &app.python else {
        return Stamp::new();
    };
    let mut paths = package_folders(&folder.join(VENV));
    paths.push(folder.join(&python.requirements));
    let stamped = |path: PathBuf| {
        let facts = path.metadata().ok()?;
        Some((path, facts.mtime(), facts.mtime_nsec(), facts.ino()))
    };
    paths.into_iter().filter_map(stamped).collect()
}

/// Where an environment keeps its packages.
fn package_folders(venv: &Path) -> Vec<PathBuf> {
    let versions = fs::read_dir(venv.join("lib"))
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let mut folders: Vec<PathBuf> = versions
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"python"))
        .map(|entry| entry.path())
        .collect();
    folders.sort();
    folders.push(venv.join("Lib"));
    let packages = folders.into_iter().map(|folder| folder.join("site-packages"));
    packages.filter(|folder| folder.is_dir()).collect()
}

/// Normalised name -> version of what is installed, read from the names of metadata folders.
pub(super) fn distributions(venv: &Path) -> HashMap<String, String> {
    let folders = package_folders(venv).into_iter();
    let entries = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
    entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let stem = name
                .strip_suffix(".dist-info")
                .or_else(|| name.strip_suffix(".egg-info"))?;
            let (name, version) = stem.split_once('-').unwrap_or((stem, ""));
            let version = version.split('-').next().unwrap_or_default();
            Some((normalised(name), version.to_owned()))
        })
        .collect()
}

/// What an environment holds for its app, by name; the pip that came along is not of it.
pub(super) fn installed(venv: &Path) -> Vec<Resolved> {
    let folders = package_folders(venv).into_iter();
    let entries = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
    let mut found: Vec<Resolved> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let stem = entry.file_name().into_string().ok()?;
            let (name, version) = stem.strip_suffix(".dist-info")?.split_once('-')?;
            Some(Resolved {
                name: normalised(name),
                version: version.to_owned(),
                size: None,
                url: origin(&entry.path()),
            })
        })
        .collect();
    found.retain(|one| one.name != "pip" || !one.url.as_ref().is_some_and(|url| url.starts_with("file:")));
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

/// The address that was asked for by itself: <https://packaging.python.org/en/latest/specifications/direct-url/>
fn origin(metadata: &Path) -> Option<String> {
    let text = fs::read(metadata.join("direct_url.json")).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some(value.get("url")?.as_str()?.to_owned())
}

/// Bring what a version that is there lacks into its own environment, which is made when missing.
///
/// # Errors
/// `InstallFailed`, `DependencyFailed`.
pub(super) fn install_dependencies(
    app: &AppDescription,
    folder: &Path,
    layout: &Layout,
    programs: &Programs,
) -> Result<()> {
    let Some(python) = &app.python else {
        return Err(Error::DependencyFailed {
            stage: "dependencies".to_owned(),
            reason: format!("{} has no Python environment.", app.name),
        });
    };
    let packages = Packages::new(&layout.cache(), programs.clone())?;
    if !python_of(folder).exists() {
        packages.make(&folder.join(VENV))?;
    }
    let requirements = Some(folder.join(&python.requirements)).filter(|path| path.is_file());
    let wish = Wish {
        requirements,
        extra: python.extra.clone(),
        before: String::new(),
    };
    packages.install(folder, &wish, None, &mut |_| {}, &mut || {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_environment_holds_is_read_from_its_metadata() {
        let venv = tempfile::tempdir().unwrap();
        let site = venv.path().join("lib/python3.12/site-packages");
        for (name, url) in [
            ("pip-25.0", "file:///usr/lib/pip-25.0-py3-none-any.whl"),
            ("Tiny_Server-1.1+cu118", ""),
            ("local-2.0", "file:///home/me/local"),
            ("fetched-3.0", "https://example.org/fetched-3.0.whl"),
        ] {
            let folder = site.join(format!("{name}.dist-info"));
            fs::create_dir_all(&folder).unwrap();
            if !url.is_empty() {
                fs::write(folder.join("direct_url.json"), format!(r#"{{"url": "{url}"}}"#)).unwrap();
            }
        }
        fs::write(site.join("_virtualenv.py"), "").unwrap();
        let found = installed(venv.path());
        let shown: Vec<_> = found
            .iter()
            .map(|one| (&*one.name, &*one.version, one.url.as_deref()))
            .collect();
        assert_eq!(
            shown,
            [
                ("fetched", "3.0", Some("https://example.org/fetched-3.0.whl")),
                ("local", "2.0", Some("file:///home/me/local")),
                ("tiny-server", "1.1+cu118", None),
            ]
        );
    }
}
