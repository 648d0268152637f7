//! Shows folders, files and pages by the desktop's own programs: argument vectors, never a shell.
//!
//! A file is never opened, only shown in its folder: opening could run it. Where `PUMAS_OPENER` names a program, that is
//! called with the one folder or address instead. Blocks for a moment.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::net::Ipv6Addr;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::apps::child_environment;
use crate::error::{Error, Result};
use crate::storage::files::{During as _, FOLDER_MODE, make_folders, reason};
use crate::system::dependencies::find_program;

const OPENER_VARIABLE: &str = "PUMAS_OPENER";
const BROWSER: &str = "brave-browser";
/// How long a failure of the program is waited for; a browser that is started may stay for hours.
const EARLY: Duration = Duration::from_secs(2);
const REVEAL: Duration = Duration::from_secs(5);
const MOST_ADDRESS: usize = 4096;

/// The address, when it is one.
///
/// # Errors
/// `InvalidInput`: no http or https address with a host, in printable ASCII.
pub(super) fn address(url: &str) -> Result<&str> {
    let is_plain = (1..=MOST_ADDRESS).contains(&url.len()) && url.bytes().all(|c| c.is_ascii_graphic());
    if !is_plain {
        let reason = "must be an address of at most 4096 printable ASCII characters without spaces";
        return Err(Error::invalid("url", reason));
    }
    if !has_host(url) {
        return Err(Error::invalid(
            "url",
            "must be an http or https address with a host",
        ));
    }
    Ok(url)
}

/// The parts of <https://www.rfc-editor.org/rfc/rfc3986#section-3.2> that matter here.
fn has_host(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once(':') else {
        return false;
    };
    let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let Some(rest) = rest.strip_prefix("//").filter(|_| is_web) else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match place.strip_prefix('[') {
        Some(bracketed) => match bracketed.split_once(']') {
            Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => match port.strip_prefix(':') {
                None if !port.is_empty() => return false,
                port => (host, port.unwrap_or_default()),
            },
            _ => return false,
        },
        None => place.split_once(':').unwrap_or((place, "")),
    };
    let has_brackets = host.contains(['[', ']']);
    let is_port = port.is_empty() || port.parse::<u16>().is_ok_and(|port| port != 0);
    !host.is_empty() && !has_brackets && is_port && port.bytes().all(|c| c.is_ascii_digit())
}

/// Open a folder, or show a file in its folder.
///
/// # Errors
/// As [`open_target`].
pub(super) fn show(path: &Path) -> Result<()> {
    if path.is_dir() {
        return open_target(path.as_os_str());
    }
    if chosen().is_some() || !reveal(path) {
        return open_target(path.parent().unwrap_or(path).as_os_str());
    }
    Ok(())
}

fn chosen() -> Option<OsString> {
    env::var_os(OPENER_VARIABLE).filter(|program| !program.is_empty())
}

fn on_path(name: &str) -> Option<PathBuf> {
    find_program(name, &env::var_os("PATH")?)
}

/// Open an absolute folder or an http(s) address.
///
/// # Errors
/// `Unsupported`: there is no program for that. `LaunchFailed`: it says that it could not.
pub(super) fn open_target(target: &OsStr) -> Result<()> {
    let program = match chosen() {
        Some(program) => program,
        None if cfg!(target_os = "macos") => OsString::from("open"),
        None => on_path("xdg-open")
            .ok_or_else(|| {
                Error::Unsupported(
                    "Nothing on this machine opens folders and pages: xdg-open is missing (xdg-utils)."
                        .to_owned(),
                )
            })?
            .into_os_string(),
    };
    start(&program, &[target])
}

/// Open an app's page: in a window of its own with a profile of its own where Brave is installed, else as any page.
///
/// # Errors
/// As [`open_target`]; and the folder of the profile cannot be made.
pub(super) fn open_window(url: &str, profile: &Path, name: &str) -> Result<()> {
    let browser = if chosen().is_some() {
        None
    } else {
        on_path(BROWSER)
    };
    let Some(browser) = browser else {
        return open_target(OsStr::new(url));
    };
    make_folders(profile, FOLDER_MODE).during("Making the browser's profile")?;
    let mut folder = OsString::from("--user-data-dir=");
    folder.push(profile);
    let app = OsString::from(format!("--app={url}"));
    let class = OsString::from(format!("--class={name}"));
    start(browser.as_os_str(), &[&app, &folder, &class])
}

/// Names the profile of a version's window, for the app with `plain` names as older sidecars did: `v0.3.10` -> `0-3-10`.
pub(super) fn window_of(app_id: &str, tag: &str, plain: bool) -> String {
    let mut text = String::new();
    for c in tag.trim().to_lowercase().chars() {
        let c = if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' {
            c
        } else {
            '-'
        };
        if c != '-' || !text.ends_with('-') {
            text.push(c);
        }
    }
    let text = match text.strip_prefix('v') {
        Some(rest) if !rest.is_empty() => rest,
        _ => &text,
    };
    match text.trim_matches(['-', '_']) {
        text if !plain => format!("{app_id}-{text}"),
        "" => app_id.to_owned(),
        text => text.to_owned(),
    }
}

/// A program of its own, that no signal to our terminal reaches.
fn command(program: &OsStr, arguments: &[&OsStr]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir("/")
        .env_clear()
        .envs(child_environment::<OsString, OsString>([]))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    command
}

fn start(program: &OsStr, arguments: &[&OsStr]) -> Result<()> {
    let name = Path::new(program)
        .file_name()
        .unwrap_or(program)
        .to_string_lossy()
        .into_owned();
    let child = command(program, arguments)
        .spawn()
        .map_err(|error| Error::LaunchFailed(format!("{name} cannot be started: {}.", reason(&error))))?;
    match ended_within(child, EARLY) {
        Some(status) if !status.success() => Err(Error::LaunchFailed(format!(
            "{name} could not open it (status {}).",
            status
                .code()
                .unwrap_or_else(|| -status.signal().unwrap_or_default())
        ))),
        _ => Ok(()),
    }
}

/// Somebody waits for it until it ends, however long that takes.
fn ended_within(mut child: Child, patience: Duration) -> Option<ExitStatus> {
    let (tell, told) = mpsc::channel();
    let waiting = thread::Builder::new().name("opener".to_owned()).spawn(move || {
        if let Ok(status) = child.wait() {
            let _ = tell.send(status);
        }
    });
    waiting.ok()?;
    told.recv_timeout(patience).ok()
}

/// Show a file in its folder, where the desktop can do that.
///
/// <https://www.freedesktop.org/wiki/Specifications/file-manager-interface/>
fn reveal(path: &Path) -> bool {
    const NAME: &str = "org.freedesktop.FileManager1";
    let has_bus = env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some_and(|address| !address.is_empty());
    let Some(program) = on_path("gdbus").filter(|_| has_bus) else {
        return false;
    };
    // The address has its quotes and all else that is special as %XX.
    let shown = format!("['{}']", file_address(path));
    let method = format!("{NAME}.ShowItems");
    let words = [
        "call",
        "--session",
        "--dest",
        NAME,
        "--object-path",
        "/org/freedesktop/FileManager1",
        "--method",
        &method,
        &shown,
        "",
    ];
    let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
    let child = command(program.as_os_str(), &words).spawn();
    child.is_ok_and(|child| ended_within(child, REVEAL).is_some_and(|status| status.success()))
}

fn file_address(path: &Path) -> String {
    let mut address = String::from("file://");
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/_.-~".contains(byte) {
            address.push(char::from(*byte));
        } else {
            let _ = write!(address, "%{byte:02X}");
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in [
            "http://a",
            "HTTPS://a.b:1/x?y#z",
            "http://u:p@[::1]:80/",
            "http://a:/",
        ] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "file:///etc",
            "javascript:alert(1)",
            "http:a",
            "http://",
            "http:///x",
            "http://a b",
            "http://a:0",
            "http://a:65536",
            "http://a:x",
            "http://[::1",
            "http://[x]/",
            "http://ä",
            "--help",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
        assert!(address(&format!("http://{}", "a".repeat(5000))).is_err());
    }

    #[test]
    fn names_of_windows() {
        for (tag, expected) in [
            ("v0.3.10", "0-3-10"),
            (" V1..2-", "1-2"),
            ("v", "v"),
            ("...", "comfyui"),
        ] {
            assert_eq!(window_of("comfyui", tag, true), expected);
        }
        assert_eq!(window_of("ollama", "v0.1", false), "ollama-0-1");
    }

    #[test]
    fn what_is_special_in_a_name_is_quoted() {
        assert_eq!(file_address(Path::new("/a 'b/ü")), "file:///a%20%27b/%C3%BC");
    }
}
