//! A program of its own: `pumas-rpc restart-launcher PID ROOT LAUNCHER` waits for a sidecar to end and starts the launcher.
//!
//! A desktop shell starts its sidecar again by itself; then there is nothing left to do.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::Layout;
use crate::error::{Error, Result};
use crate::storage::files::{During as _, exists};
use crate::storage::owner::live_owner;
use crate::versions::python::Python;

/// The first argument.
const RESTART: &str = "restart-launcher";
/// Another program than the checkout's `launcher` to be started by a restart.
const LAUNCHER_VARIABLE: &str = "PUMAS_LAUNCHER";
const GONE: Duration = Duration::from_mins(1);
const OTHERS: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(100);

/// Have the launcher of `checkout` started once this process has ended. Blocks for a moment.
///
/// # Errors
/// `Unsupported`: there is none. The disk's failures.
pub(super) fn prepare(root: &Path, checkout: &Path) -> Result<()> {
    let named = std::env::var_os(LAUNCHER_VARIABLE).filter(|value| !value.is_empty());
    let launcher = named.unwrap_or_else(|| checkout.join("launcher").into_os_string());
    if !Path::new(&launcher).is_file() {
        return Err(Error::Unsupported(
            "This installation has no launcher that could be started again.".to_owned(),
        ));
    }
    let during = "Preparing the restart";
    Command::new(std::env::current_exe().during(during)?)
        .args([OsStr::new(RESTART), OsStr::new(&std::process::id().to_string())])
        .args([root.as_os_str(), &launcher])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .during(during)?;
    Ok(())
}

/// Do that when the arguments say so; None when they do not. The status to end with.
#[must_use]
pub fn run(arguments: &[OsString]) -> Option<u8> {
    let [first, pid, root, launcher] = arguments else {
        return None;
    };
    if first != RESTART {
        return None;
    }
    let pid: u32 = pid.to_str().and_then(|pid| pid.parse().ok())?;
    // Its parent is the sidecar: when that ends, the parent is another.
    let is_over = wait(GONE, || std::os::unix::process::parent_id() != pid);
    let layout = Layout::new(Path::new(root));
    if !is_over || wait(OTHERS, || live_owner(&layout).is_some()) {
        return Some(0);
    }
    Some(start(root, launcher))
}

/// Whether it came true in time.
fn wait(most: Duration, is_so: impl Fn() -> bool) -> bool {
    let ends = Instant::now() + most;
    while !is_so() {
        if Instant::now() > ends {
            return false;
        }
        thread::sleep(POLL);
    }
    true
}

/// Returns only when it cannot be started.
fn start(root: &OsStr, launcher: &OsStr) -> u8 {
    let own = Path::new(launcher).with_file_name(".venv/bin/python");
    let python = if exists(&own) {
        own.into_os_string()
    } else {
        match Python::get() {
            Ok(python) => OsString::from(&python.executable),
            Err(_) => return 1,
        }
    };
    let _failure = Command::new(python).arg(launcher).env("PUMAS_ROOT", root).exec();
    1
}
