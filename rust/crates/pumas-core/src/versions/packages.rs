//! Python environments and what is in them: made, resolved and filled by uv when it is there, else by pip.
//!
//! Resolving reads metadata only: with `build` false nothing of a package is ever run. Blocks. Knows nothing of apps.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::places::remove_tree;
use super::python::{Python, find_uv};
use super::requirements::normalised;
use super::running::{Programs, failed};
use super::scratch::{self, Scratch};
use crate::apps::{Environment, VENV, child_environment, python_of};
use crate::error::{Error, Result};
use crate::net::children::{require_online, with_network};
use crate::storage::files::During as _;
use crate::text::cut;

const MAKE: Duration = Duration::from_mins(2);
const RESOLVE: Duration = Duration::from_mins(10);
const INSTALL: Duration = Duration::from_hours(4);
const RELOCATED_BYTES: u64 = 256 * 1024;
/// Or the index that settings of the tools' own name.
const INDEX: &str = "PyPI";
const LAST_LINES: usize = 6;
const LONGEST_WORDS: usize = 800;

/// One package of a resolution.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Resolved {
    pub(super) name: String,
    pub(super) version: String,
    /// Bytes of the file that would be fetched, when told.
    pub(super) size: Option<u64>,
    pub(super) url: Option<String>,
}

/// What will be installed, and the `before` of the wish that could be kept.
pub(super) type Resolution = (Vec<Resolved>, String);

/// What an environment shall hold. `before`: an ISO time; packages published later do not count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) requirements: Option<PathBuf>,
    pub(crate) extra: Vec<String>,
    pub(crate) before: String,
}

/// `cache` is the folder for downloads that all versions share.
pub(crate) struct Packages {
    cache: PathBuf,
    programs: Programs,
    uv: Option<String>,
    python: &'static Python,
}

impl Packages {
    /// # Errors
    /// `InstallFailed`: there is no Python.
    pub(crate) fn new(cache: &Path, programs: Programs) -> Result<Self> {
        Ok(Self {
            cache: cache.to_path_buf(),
            programs,
            uv: find_uv(),
            python: Python::get()?,
        })
    }

    pub(super) fn tool(&self) -> &'static str {
        if self.uv.is_some() { "uv" } else { "pip" }
    }

    pub(super) fn python(&self) -> &'static Python {
        self.python
    }

    /// Whether `install` needs no constraints to come to what `resolve` says.
    pub(super) fn resolves_by_itself(&self) -> bool {
        self.uv.is_some()
    }

    fn has_own_pip(&self) -> bool {
        self.uv.is_none() && self.python.has_dated_pip()
    }

    /// Make an empty environment; what was there goes.
    ///
    /// # Errors
    /// `InstallFailed`: stage `venv`.
    pub(crate) fn make(&self, venv: &Path) -> Result<()> {
        // uv refuses to clear one that a kill left half made.
        remove_tree(venv);
        let python = self.python.executable.as_str();
        let mut argv = match &self.uv {
            Some(uv) => words(&[
                uv,
                "venv",
                "--quiet",
                "--no-project",
                "--clear",
                "--python",
                python,
            ]),
            None => words(&[python, "-m", "venv", "--clear"]),
        };
        if self.has_own_pip() {
            argv.push("--without-pip".to_owned());
        }
        argv.push(text(venv));
        let folder = venv.parent().unwrap_or(venv);
        let (status, tail) = self.run(&argv, folder, MAKE, &mut |_| {}, &mut || {})?;
        if status != 0 {
            let reason = format!("The Python environment could not be made: {}", last(&tail));
            return Err(failed("venv", reason));
        }
        // uv says nothing of a write that the disk refused.
        let settings = fs::read_to_string(venv.join("pyvenv.cfg")).unwrap_or_default();
        let mut keys = settings.lines().filter_map(|line| line.split_once('='));
        let names_its_python = keys.any(|(key, _)| key.trim_end() == "home");
        if !names_its_python {
            let reason = "The Python environment could not be made: its pyvenv.cfg is not whole.";
            return Err(failed("venv", reason.to_owned()));
        }
        Ok(())
    }

    /// Everything that would be installed, with exact versions, and the `before` that could be kept.
    ///
    /// # Errors
    /// `DependencyFailed`: there is no way to satisfy it, or no metadata without building. `Offline`: what is at hand is not
    /// enough.
    pub(super) fn resolve(&self, wish: &Wish, build: bool, python: Option<&Path>) -> Result<Resolution> {
        let scratch = Scratch::new(&self.cache, "resolve-")?;
        let mut sources: Vec<PathBuf> = wish.requirements.iter().cloned().collect();
        if !wish.extra.is_empty() {
            let path = scratch.path().join("extra.in");
            fs::write(&path, format!("{}\n", wish.extra.join("\n"))).during("Resolving")?;
            sources.push(path);
        }
        if sources.is_empty() {
            return Ok((Vec::new(), wish.before.clone()));
        }
        let before = if self.uv.is_some() || self.has_own_pip() {
            wish.before.as_str()
        } else {
            ""
        };
        let resolve = |before: &str| match &self.uv {
            Some(uv) => self.resolve_by_uv(uv, &sources, scratch.path(), build, before),
            None => self.resolve_by_pip(&sources, scratch.path(), build, python, before),
        };
        match resolve(before) {
            // An index that does not tell when files were published has nothing from before any time.
            Err(Error::DependencyFailed { .. }) if !before.is_empty() => Ok((resolve("")?, String::new())),
            done => Ok((done?, before.to_owned())),
        }
    }

    /// Why packages that were published after a release could not be left out, when they were not.
    pub(super) fn why_undated(&self) -> &'static str {
        if self.uv.is_some() || self.has_own_pip() {
            "The package index does not tell when files were published; newer packages were not left out."
        } else {
            "This pip cannot leave out packages that are newer than the release; uv, or pip 26 beside us, could."
        }
    }

    /// Fill the environment in `parent/venv`.
    ///
    /// # Errors
    /// `DependencyFailed`: with the last words of the tool. `Offline`: what is at hand is not enough.
    pub(crate) fn install(
        &self,
        parent: &Path,
        wish: &Wish,
        constraints: Option<&Path>,
        on_line: &mut dyn FnMut(&str),
        on_look: &mut dyn FnMut(),
    ) -> Result<()> {
        let python = python_of(parent);
        let mut argv = match &self.uv {
            Some(uv) => words(&[
                uv,
                "pip",
                "install",
                "--python",
                &text(&python),
                &self.python.wheel,
            ]),
            None => {
                let mut argv = self.pip(Some(&python));
                argv.extend(words(&["install", "--no-input", "--progress-bar", "off"]));
                if self.has_own_pip() {
                    argv.push(self.python.wheel.clone());
                }
                argv
            }
        };
        if self.uv.is_some() && !wish.before.is_empty() {
            argv.extend(words(&["--exclude-newer", &wish.before]));
        }
        if let Some(requirements) = &wish.requirements {
            argv.extend(words(&["-r", &text(requirements)]));
        }
        if let Some(constraints) = constraints {
            argv.extend(words(&["-c", &text(constraints)]));
        }
        argv.extend(wish.extra.iter().cloned());
        let (status, tail) = self.run(&argv, parent, INSTALL, on_line, on_look)?;
        if status == 0 {
            return Ok(());
        }
        require_online(INDEX)?;
        Err(unmet(format!(
            "The dependencies could not be installed: {}",
            last(&tail)
        )))
    }

    fn resolve_by_uv(
        &self,
        uv: &str,
        sources: &[PathBuf],
        place: &Path,
        build: bool,
        before: &str,
    ) -> Result<Vec<Resolved>> {
        let out = place.join("pylock.toml");
        let mut argv = words(&[
            uv,
            "pip",
            "compile",
            "--quiet",
            "--no-header",
            "--format",
            "pylock.toml",
        ]);
        argv.extend(sources.iter().map(|source| text(source)));
        argv.extend(words(&[
            "--output-file",
            &text(&out),
            "--python",
            &self.python.executable,
        ]));
        if !build {
            argv.push("--no-build".to_owned());
        }
        if !before.is_empty() {
            argv.extend(words(&["--exclude-newer", before]));
        }
        let tags = &self.python.tags;
        self.resolved(&argv, &out, |data| locked_packages(data, tags))
    }

    fn resolve_by_pip(
        &self,
        sources: &[PathBuf],
        place: &Path,
        build: bool,
        python: Option<&Path>,
        before: &str,
    ) -> Result<Vec<Resolved>> {
        let out = place.join("report.json");
        let mut argv = self.pip(python);
        argv.extend(words(&[
            "install",
            "--quiet",
            "--dry-run",
            "--ignore-installed",
            "--no-input",
        ]));
        argv.extend(words(&["--report", &text(&out)]));
        argv.extend(sources.iter().flat_map(|source| ["-r".to_owned(), text(source)]));
        if !build {
            argv.extend(words(&["--only-binary", ":all:"]));
        }
        if !before.is_empty() {
            argv.extend(words(&["--uploaded-prior-to", before]));
        }
        self.resolved(&argv, &out, reported)
    }

    fn resolved(
        &self,
        argv: &[String],
        out: &Path,
        read: impl FnOnce(&[u8]) -> Option<Vec<Resolved>>,
    ) -> Result<Vec<Resolved>> {
        let folder = out.parent().unwrap_or(out);
        let (status, tail) = self.run(argv, folder, RESOLVE, &mut |_| {}, &mut || {})?;
        if status != 0 {
            require_online(INDEX)?;
            return Err(unmet(format!(
                "The dependencies cannot be resolved: {}",
                last(&tail)
            )));
        }
        fs::read(out).ok().and_then(|data| read(&data)).ok_or_else(|| {
            unmet(format!(
                "What {} resolved cannot be read: {}",
                self.tool(),
                last(&tail)
            ))
        })
    }

    /// The pip beside our Python, when it is new enough, works on any environment; else that of the environment.
    fn pip(&self, python: Option<&Path>) -> Vec<String> {
        let own = self.python.executable.as_str();
        match python {
            Some(python) if self.has_own_pip() => words(&[own, "-m", "pip", "--python", &text(python)]),
            Some(python) => words(&[&text(python), "-m", "pip"]),
            None => words(&[own, "-m", "pip"]),
        }
    }

    fn run(
        &self,
        argv: &[String],
        folder: &Path,
        most: Duration,
        on_line: &mut dyn FnMut(&str),
        on_look: &mut dyn FnMut(),
    ) -> Result<(i32, Vec<String>)> {
        self.programs
            .run(argv, folder, &self.environment()?, most, on_line, on_look)
    }

    fn environment(&self) -> Result<Environment> {
        let mut ours = vec![
            ("PYTHONUNBUFFERED", "1".to_owned()),
            ("PIP_CACHE_DIR", text(&self.cache.join("pip"))),
            ("PIP_DISABLE_PIP_VERSION_CHECK", "1".to_owned()),
            ("NO_COLOR", "1".to_owned()),
            ("UV_NO_PROGRESS", "1".to_owned()),
        ];
        let is_free = |name: &str| std::env::var_os(name).is_none_or(|given| given.is_empty());
        if is_free("UV_CACHE_DIR") {
            ours.push(("UV_CACHE_DIR", text(&self.cache.join("uv"))));
        }
        if is_free("TMPDIR") {
            ours.push(("TMPDIR", text(&scratch::folder(&self.cache)?)));
        }
        Ok(with_network(child_environment(ours)))
    }
}

fn words(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| (*part).to_owned()).collect()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn unmet(reason: String) -> Error {
    Error::DependencyFailed {
        stage: "dependencies".to_owned(),
        reason,
    }
}

/// Make the scripts of an environment name the place to which its parent folder will be moved.
///
/// Interpreters find their environment by themselves; the scripts that pip and uv write name it in their first lines.
///
/// # Errors
/// The disk's failures.
pub(super) fn relocate(venv: &Path, new_parent: &Path) -> Result<()> {
    let (old, new) = (text(venv), text(&new_parent.join(VENV)));
    let relocated = || -> std::io::Result<()> {
        for folder in [venv.to_path_buf(), venv.join("bin"), venv.join("Scripts")] {
            let entries = fs::read_dir(folder).into_iter().flatten();
            for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
                let facts = path.symlink_metadata()?;
                if !facts.is_file() || facts.len() > RELOCATED_BYTES {
                    continue;
                }
                let data = fs::read(&path)?;
                if !data[..data.len().min(512)].contains(&0)
                    && let Some(changed) = replaced(&data, old.as_bytes(), new.as_bytes())
                {
                    fs::write(&path, changed)?;
                }
            }
        }
        Ok(())
    };
    relocated().during("Preparing the Python environment")
}

/// The data with each `old` as `new`; None when there is none.
fn replaced(data: &[u8], old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let places: Vec<usize> = memchr::memmem::find_iter(data, old).collect();
    if places.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(data.len());
    let mut done = 0;
    for at in places {
        out.extend_from_slice(&data[done..at]);
        out.extend_from_slice(new);
        done = at + old.len();
    }
    out.extend_from_slice(&data[done..]);
    Some(out)
}

/// <https://packaging.python.org/en/latest/specifications/pylock-toml/>
fn locked_packages(data: &[u8], tags: &[String]) -> Option<Vec<Resolved>> {
    let document: toml::Table = std::str::from_utf8(data).ok()?.parse().ok()?;
    let ranks: HashMap<&str, usize> = tags
        .iter()
        .enumerate()
        .map(|(rank, tag)| (tag.as_str(), rank))
        .collect();
    let packages = document.get("packages").and_then(toml::Value::as_array);
    let one = |package: &toml::Value| {
        let wheels = package.get("wheels").and_then(toml::Value::as_array);
        let first = wheels
            .and_then(|wheels| fitting(wheels, &ranks))
            .or_else(|| package.get("sdist"))
            .or_else(|| package.get("archive"));
        let word = |value: Option<&toml::Value>| value.and_then(toml::Value::as_str).map(str::to_owned);
        let size = first
            .and_then(|first| first.get("size"))
            .and_then(toml::Value::as_integer);
        Some(Resolved {
            name: normalised(&word(package.get("name"))?),
            version: word(package.get("version")).unwrap_or_default(),
            size: size.and_then(|size| u64::try_from(size).ok()),
            url: word(first.and_then(|first| first.get("url"))),
        })
    };
    packages.into_iter().flatten().map(one).collect()
}

/// The wheel that an installer would take here.
fn fitting<'a>(wheels: &'a [toml::Value], ranks: &HashMap<&str, usize>) -> Option<&'a toml::Value> {
    let rank = |wheel: &toml::Value| {
        let word = |key: &str| wheel.get(key).and_then(toml::Value::as_str);
        let name = word("name").or_else(|| word("url")?.rsplit('/').next())?;
        let parts: Vec<&str> = name.strip_suffix(".whl")?.rsplitn(4, '-').collect();
        let [platforms, abis, pythons, _] = parts[..] else {
            return None;
        };
        let tags = pythons.split('.').flat_map(move |python| {
            let abis = abis.split('.');
            abis.flat_map(move |abi| {
                platforms
                    .split('.')
                    .map(move |platform| format!("{python}-{abi}-{platform}"))
            })
        });
        tags.filter_map(|tag| ranks.get(tag.as_str()).copied()).min()
    };
    let ranked = wheels.iter().filter_map(|wheel| Some((rank(wheel)?, wheel)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, wheel)| wheel)
}

/// <https://pip.pypa.io/en/stable/reference/installation-report/>
fn reported(data: &[u8]) -> Option<Vec<Resolved>> {
    let report: Value = serde_json::from_slice(data).ok()?;
    let one = |one: &Value| {
        let word = |pointer: &str| one.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Some(Resolved {
            name: normalised(&word("/metadata/name")?),
            version: word("/metadata/version")?,
            size: None,
            url: Some(word("/download_info/url")?),
        })
    };
    report.get("install")?.as_array()?.iter().map(one).collect()
}

/// The words that say why, as far as the tool's last lines do.
fn last(tail: &[String]) -> String {
    let said: Vec<&str> = tail
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty())
        .collect();
    let is_cause = |line: &&str| {
        let text = line.to_lowercase();
        let is_error = text
            .strip_prefix("error")
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
        is_error || line.starts_with('×') || line.starts_with("╰─▶")
    };
    let first = said
        .iter()
        .position(is_cause)
        .unwrap_or(said.len().saturating_sub(4));
    let end = (first + LAST_LINES).min(said.len());
    match said[first..end].join(" ") {
        words if words.is_empty() => "it said nothing".to_owned(),
        words => cut(&words, LONGEST_WORDS).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_that_say_why() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        for (said, expected) in [
            ("", "it said nothing"),
            ("a\nb\nc\nd\ne\n", "b c d e"),
            ("Looking\nERROR: no such thing\nbye", "ERROR: no such thing bye"),
            ("x\n  × No solution\n  ╰─▶ because", "× No solution ╰─▶ because"),
            ("errors follow\nz", "errors follow z"),
        ] {
            assert_eq!(last(&lines(said)), expected);
        }
    }

    #[test]
    fn lock_files_say_which_wheel_would_come() {
        let text = "lock-version = '1.0'\n[[packages]]\nname = 'Tiny_Thing'\nversion = '1.0'\n\
            wheels = [{name = 'tiny_thing-1.0-cp39-cp39-win32.whl', size = 9, url = 'https://x/a'},\n\
            {url = 'https://x/tiny_thing-1.0-1-py2.py3-none-any.whl', size = 7}]\n\
            [[packages]]\nname = 'source'\nsdist = {url = 'https://x/s.tar.gz', size = 5}\n";
        let tags = ["cp311-cp311-linux_x86_64".to_owned(), "py3-none-any".to_owned()];
        let found = locked_packages(text.as_bytes(), &tags).unwrap();
        assert_eq!((found[0].name.as_str(), found[0].size), ("tiny-thing", Some(7)));
        assert_eq!((found[1].version.as_str(), found[1].size), ("", Some(5)));
        assert!(locked_packages(b"]", &tags).is_none());
    }

    #[test]
    fn reports_name_what_would_be_installed() {
        let report =
            br#"{"install": [{"metadata": {"name": "A.b", "version": "2"}, "download_info": {"url": "u"}}]}"#;
        let found = reported(report).unwrap();
        assert_eq!(
            (found[0].name.as_str(), found[0].url.as_deref()),
            ("a-b", Some("u"))
        );
        assert!(reported(b"{}").is_none());
    }

    #[test]
    fn scripts_name_the_place_that_they_will_lie_in() {
        let root = tempfile::tempdir().unwrap();
        let venv = root.path().join("build/venv");
        fs::create_dir_all(venv.join("bin")).unwrap();
        fs::write(
            venv.join("bin/pip"),
            format!("#!{0}/bin/python\n{0}", venv.display()),
        )
        .unwrap();
        fs::write(venv.join("bin/program"), format!("\0{}", venv.display())).unwrap();
        relocate(&venv, Path::new("/new/v1")).unwrap();
        assert_eq!(
            fs::read(venv.join("bin/pip")).unwrap(),
            b"#!/new/v1/venv/bin/python\n/new/v1/venv"
        );
        assert!(
            fs::read_to_string(venv.join("bin/program"))
                .unwrap()
                .contains("build")
        );
    }
}
