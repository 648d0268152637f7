//! From an installed version to a running process: port, command, log, ledger, keeper. Blocks.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ledger::{Ledger, Record, exit_file, is_log};
use super::ports::{HOST, free_port};
use super::run::start;
use super::spawn::Orders;
use crate::apps::{AppDescription, Environment, command_of};
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::installed::Version;
use crate::storage::clock::now;
use crate::storage::files::{During as _, FOLDER_MODE, exists, make_folders, random_hex};
use crate::storage::paths::{resolved, slug};

const MAX_ARGS: usize = 200;
const MAX_ARG: usize = 4096;

/// What is to be started, and how.
pub(super) struct Wish {
    pub(super) app: Arc<AppDescription>,
    pub(super) version: Version,
    pub(super) extra_args: Vec<String>,
    /// None: the app's own when nobody uses it, else any; never one of `taken`.
    pub(super) port: Option<u16>,
    pub(super) taken: HashSet<u16>,
    /// How long the app may take to end when the sidecar leaves that to its keeper.
    pub(super) grace: Duration,
}

/// Start it; the record that the ledger now has, and the keeper.
///
/// # Errors
/// `FileUnavailable`: the version is not whole. `LaunchFailed`: it could not be started. What the disk refuses: it could not
/// be written down; nothing runs.
pub(super) fn begin(layout: &Layout, ledger: &Ledger, wish: &Wish) -> Result<(Record, Child)> {
    let (app, version) = (&wish.app, &wish.version);
    let port = match wish.port {
        Some(port) => port,
        None => free_port(app.launch.port, &wish.taken)?,
    };
    let command = command_of(
        app,
        &version.folder,
        layout.root(),
        HOST,
        port,
        &wish.extra_args,
        false,
    )?;
    let log = new_log(&layout.logs(), ledger, &app.id, &version.tag)?;
    let run_id = random_hex(16);
    let exits = exit_file(&layout.cache(), &run_id);
    make_folders(exits.parent().unwrap_or(&exits), FOLDER_MODE).during("Making the cache folder")?;
    let programs = programs_of(command.argv.first().map_or("", String::as_str));
    let record = Record {
        run_id,
        app_id: app.id.clone(),
        tag: version.tag.clone(),
        boot: String::new(),
        keeper: 0,
        keeper_start: 0,
        leader: 0,
        leader_start: 0,
        port,
        command: command.argv.clone(),
        programs: programs.clone(),
        folder: version.folder.to_string_lossy().into_owned(),
        log: log.to_string_lossy().into_owned(),
        started_at: now(),
    };
    let orders = Orders::new(command.argv, command.folder, programs, log, exits, wish.grace);
    start(record, &orders, for_app(command.environment), ledger)
}

/// They go into the argument vector as they are; only what no vector can hold is refused.
///
/// # Errors
/// `InvalidInput`.
pub(super) fn check_arguments(extra_args: &[String]) -> Result<()> {
    let too_long = |arg: &String| arg.chars().count() > MAX_ARG;
    if extra_args.len() > MAX_ARGS || extra_args.iter().any(too_long) {
        let reason = format!("at most {MAX_ARGS} of at most {MAX_ARG} characters each");
        return Err(Error::invalid("extra_args", reason));
    }
    if extra_args.iter().any(|arg| arg.contains('\0')) {
        return Err(Error::invalid("extra_args", "must not hold NUL characters"));
    }
    Ok(())
}

/// A name that is free. The oldest logs of the app go, and none but those that the ledger knows as ours.
fn new_log(folder: &Path, ledger: &Ledger, app_id: &str, tag: &str) -> Result<PathBuf> {
    make_folders(folder, FOLDER_MODE).during("Making the log folder")?;
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let stem = format!("launch-{app_id}-{}-{seconds}", slug(tag, "version"));
    let first = folder.join(format!("{stem}.log"));
    let others = (2_u64..).map(|number| folder.join(format!("{stem}-{number}.log")));
    let path = std::iter::once(first.clone())
        .chain(others)
        .find(|path| !exists(path))
        .unwrap_or(first);
    for spare in ledger.add_log(app_id, &path.to_string_lossy())? {
        remove_log(folder, Path::new(&spare));
    }
    Ok(path)
}

fn remove_log(folder: &Path, path: &Path) {
    if !is_log(folder, path) {
        return;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let older = (1..10).map(|number| path.with_file_name(format!("{name}.{number}")));
    for path in std::iter::once(path.to_path_buf()).chain(older) {
        let _ = fs::remove_file(path);
    }
}

/// The file and what it links to: a Python of a virtual environment is a link to another.
fn programs_of(program: &str) -> Vec<String> {
    let real = resolved(Path::new(program)).to_string_lossy().into_owned();
    let mut programs = vec![program.to_owned(), real];
    programs.dedup();
    programs
}

/// Nothing that is meant for a sidecar: an app may start one of its own.
fn for_app(environment: Environment) -> Environment {
    let is_ours = |name: &std::ffi::OsString| name.as_encoded_bytes().starts_with(b"PUMAS_");
    environment
        .into_iter()
        .filter(|(name, _)| !is_ours(name))
        .collect()
}
