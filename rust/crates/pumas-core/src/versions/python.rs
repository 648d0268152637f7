//! The Python that environments are made with, and what it says of itself. A program of its own: this backend has none.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Deserialize;

use crate::apps::child_environment;
use crate::error::Result;
use crate::system::dependencies::find_program;

use super::running::failed;

/// The path of a Python interpreter; without it one is looked for.
const PYTHON_VARIABLE: &str = "PUMAS_PYTHON";
/// The path of uv; `off`: use pip.
const UV_VARIABLE: &str = "PUMAS_UV";
const DATED_PIP: u32 = 26;

const QUESTION: &str = "
import importlib.metadata as metadata, json, os, platform, sys
try:
    pip = metadata.version('pip')
except Exception:
    pip = ''
try:
    import ensurepip
    folder = os.path.join(os.path.dirname(ensurepip.__file__), '_bundled')
    wheels = sorted(n for n in os.listdir(folder) if n.startswith('pip-') and n.endswith('.whl'))
    wheel = os.path.join(folder, wheels[-1])
except Exception:
    wheel = 'pip'
try:
    try:
        from packaging.tags import sys_tags
    except ImportError:
        from pip._vendor.packaging.tags import sys_tags
    tags = [str(tag) for tag in sys_tags()]
except Exception:
    tags = []
print(json.dumps({'executable': sys.executable, 'version': platform.python_version(), 'pip': pip, 'wheel': wheel,
                  'tags': tags}))
";

/// What an interpreter says of itself.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Python {
    pub(crate) executable: String,
    /// Such as `3.11.4`.
    pub(super) version: String,
    pip: String,
    /// The pip that comes with it, for apps that call it: needs no index.
    pub(super) wheel: String,
    /// Which wheels can be installed, best first.
    pub(super) tags: Vec<String>,
}

impl Python {
    /// Asked once. Blocks for a moment.
    ///
    /// # Errors
    /// `InstallFailed`: there is none that works.
    pub(crate) fn get() -> Result<&'static Self> {
        static KNOWN: OnceLock<Python> = OnceLock::new();
        if let Some(known) = KNOWN.get() {
            return Ok(known);
        }
        let found = ask()?;
        Ok(KNOWN.get_or_init(|| found))
    }

    /// Whether its pip can leave out what was published after a time (`--uploaded-prior-to`, 26.0).
    pub(super) fn has_dated_pip(&self) -> bool {
        let major = self
            .pip
            .split('.')
            .next()
            .and_then(|major| major.parse::<u32>().ok());
        major.is_some_and(|major| major >= DATED_PIP)
    }

    /// Such as `3.11`.
    pub(super) fn short_version(&self) -> &str {
        let end = self
            .version
            .match_indices('.')
            .nth(1)
            .map_or(self.version.len(), |(at, _)| at);
        &self.version[..end]
    }
}

fn ask() -> Result<Python> {
    let none = || {
        failed(
            "venv",
            "No Python 3 was found; install one, or name it in PUMAS_PYTHON.".to_owned(),
        )
    };
    let path = interpreter().ok_or_else(none)?;
    let mut command = std::process::Command::new(&path);
    command
        .args(["-c", QUESTION])
        .env_clear()
        .envs(child_environment([("PYTHONUTF8", "1")]));
    let said = command.output().map_err(|_| none())?;
    serde_json::from_slice(&said.stdout).map_err(|_| {
        let text = format!("The Python at {} does not work.", path.display());
        failed("venv", text)
    })
}

/// What the environment names, the one of the environment that is active or that this program lies in, else that of the
/// machine.
fn interpreter() -> Option<PathBuf> {
    let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = given(PYTHON_VARIABLE) {
        return Some(PathBuf::from(path));
    }
    let active = given("VIRTUAL_ENV").map(|folder| Path::new(&folder).join("bin/python"));
    let beside = std::env::current_exe()
        .ok()
        .map(|program| program.with_file_name("python"));
    let near = [active, beside].into_iter().flatten().find(|path| path.is_file());
    near.or_else(|| find_program("python3", &std::env::var_os("PATH").unwrap_or_default()))
}

/// The path of uv; None when it is not there or not wanted.
pub(super) fn find_uv() -> Option<String> {
    let chosen = std::env::var(UV_VARIABLE).unwrap_or_default();
    if !chosen.is_empty() {
        return (chosen != "off").then_some(chosen);
    }
    let beside = interpreter()
        .map(|python| python.with_file_name("uv"))
        .filter(|path| path.is_file());
    let found = beside.or_else(|| find_program("uv", &std::env::var_os("PATH").unwrap_or_default()));
    found.map(|path| path.to_string_lossy().into_owned())
}
