//! From a description and a version's folder to a command that can be started. Starts nothing itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{AppDescription, fill};
use crate::error::{Error, Result};

/// The folder of a version's own Python environment.
pub const VENV: &str = "venv";
/// Nothing that an app starts may speak for us or for the user elsewhere.
const SECRETS: [&str; 5] = [
    "PUMAS_RPC_TOKEN",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HUGGINGFACE_HUB_TOKEN",
    "GITHUB_TOKEN",
];
/// What would make another Python run inside the app's environment.
const OURS: [&str; 5] = [
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "PYTHONSTARTUP",
    "__PYVENV_LAUNCHER__",
];

/// The whole environment of a program.
pub type Environment = BTreeMap<OsString, OsString>;

/// What can be started. `argv` begins with an absolute path.
#[derive(Clone, Debug)]
pub struct Command {
    /// The program and its words.
    pub argv: Vec<String>,
    /// All of its variables.
    pub environment: Environment,
    /// Where it is started.
    pub folder: PathBuf,
}

/// The interpreter of a version's own environment, whether it is there or not.
#[must_use]
pub fn python_of(folder: &Path) -> PathBuf {
    folder.join(VENV).join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    })
}

/// Where the app's program lies in a version's folder.
///
/// # Errors
/// `FileUnavailable`: the version does not have it.
pub fn program_of(app: &AppDescription, folder: &Path) -> Result<PathBuf> {
    let suffixes: &[&str] = if cfg!(windows) { &["", ".exe"] } else { &[""] };
    let places = app
        .package
        .programs
        .iter()
        .flat_map(|name| suffixes.iter().map(move |suffix| format!("{name}{suffix}")));
    places
        .map(|name| folder.join(name))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            Error::unavailable(
                &app.name,
                "the program is not in the version's folder; install it again",
            )
        })
}

/// Our environment without our token and without the user's, plus `extra`.
#[must_use]
pub fn child_environment<K: Into<OsString>, V: Into<OsString>>(
    extra: impl IntoIterator<Item = (K, V)>,
) -> Environment {
    let is_kept = |name: &OsString| !SECRETS.iter().chain(&OURS).any(|left_out| name == left_out);
    let mut environment: Environment = std::env::vars_os().filter(|(name, _)| is_kept(name)).collect();
    environment.extend(extra.into_iter().map(|(name, value)| (name.into(), value.into())));
    environment
}

/// The folder of a version that takes models.
#[must_use]
pub fn models_of(app: &AppDescription, folder: &Path) -> PathBuf {
    folder.join(app.models.as_ref().map_or("models", |models| &models.folder))
}

/// What versions share.
#[must_use]
pub fn shared_of(root: &Path) -> PathBuf {
    root.join("shared-resources")
}

/// How to start a version.
///
/// `folder` is the version's and `root` the launcher's, both absolute; `smoke`: for a short try after an install.
///
/// # Errors
/// `FileUnavailable`: the program or the interpreter is missing.
pub fn command_of(
    app: &AppDescription,
    folder: &Path,
    root: &Path,
    host: &str,
    port: u16,
    extra: &[String],
    smoke: bool,
) -> Result<Command> {
    let launch = &app.launch;
    let template = if smoke && !launch.smoke_command.is_empty() {
        &launch.smoke_command
    } else {
        &launch.command
    };
    let needs = |name: &str| {
        template
            .iter()
            .chain(launch.environment.values())
            .any(|text| text.contains(name))
    };
    let python = python_of(folder);
    if needs("{python}") && !python.exists() {
        let reason = "the version has no Python environment; install its dependencies";
        return Err(Error::unavailable(&app.name, reason));
    }
    let program = if needs("{program}") {
        program_of(app, folder)?
    } else {
        PathBuf::new()
    };
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let value = |name: &str| match name {
        "python" => text(&python),
        "program" => text(&program),
        "folder" => text(folder),
        "host" => host.to_owned(),
        "port" => port.to_string(),
        "models" => text(&models_of(app, folder)),
        "shared" => text(&shared_of(root)),
        _ => String::new(),
    };
    let mut argv: Vec<String> = template.iter().map(|part| fill(part, &value)).collect();
    argv.extend_from_slice(extra);
    let variables = launch
        .environment
        .iter()
        .map(|(name, template)| (name.clone(), fill(template, &value)));
    Ok(Command {
        argv,
        environment: child_environment(variables),
        folder: folder.to_path_buf(),
    })
}

/// Whether all that a version needs is there. Looks at names alone.
#[must_use]
pub fn is_complete(app: &AppDescription, folder: &Path) -> bool {
    missing_of(app, folder).next().is_none()
}

/// What a version needs and does not have.
pub fn missing_of<'a>(app: &'a AppDescription, folder: &'a Path) -> impl Iterator<Item = &'a str> {
    let lacks = |choice: &&String| !choice.split('|').any(|name| folder.join(name).exists());
    app.package.complete.iter().filter(lacks).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::super::Apps;
    use super::*;

    fn shipped(app_id: &str) -> std::sync::Arc<AppDescription> {
        let layout = crate::config::Layout::new("/nowhere");
        Apps::new(&layout, std::sync::Arc::default()).get(app_id).unwrap()
    }

    #[test]
    fn a_python_app_is_started_by_its_own_interpreter() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("comfyui-versions/v1");
        let app = shipped("comfyui");
        let start = |smoke| command_of(&app, &folder, root.path(), "127.0.0.1", 9, &["--x".into()], smoke);
        assert!(start(false).is_err());
        assert!(!is_complete(&app, &folder));
        std::fs::create_dir_all(folder.join("venv/bin")).unwrap();
        std::fs::write(folder.join("venv/bin/python"), b"").unwrap();
        std::fs::write(folder.join("main.py"), b"").unwrap();
        assert!(is_complete(&app, &folder));
        let command = start(false).unwrap();
        assert_eq!(command.argv[0], python_of(&folder).to_string_lossy());
        assert_eq!(command.argv.last().unwrap(), "--x");
        assert!(command.argv.contains(&"--enable-manager".to_owned()));
        assert!(start(true).unwrap().argv.contains(&"--cpu".to_owned()));
        assert_eq!(command.environment[&OsString::from("SKIP_BROWSER")], "1");
    }

    #[test]
    fn a_program_is_found_where_it_lies() {
        let root = tempfile::tempdir().unwrap();
        let app = shipped("llamacpp");
        assert!(program_of(&app, root.path()).is_err());
        std::fs::create_dir(root.path().join("bin")).unwrap();
        std::fs::write(root.path().join("bin/llama-server"), b"").unwrap();
        assert_eq!(
            program_of(&app, root.path()).unwrap(),
            root.path().join("bin/llama-server")
        );
    }
}
