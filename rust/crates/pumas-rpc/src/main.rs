//! What a desktop shell starts: `pumas-rpc --port 0`.
//!
//! Prints `RPC_PORT=<n>` on stdout once it listens, logs to stderr and a file, and ends with its parent. The token comes
//! in the environment variable `PUMAS_RPC_TOKEN`; without it only programs of the same user are answered.

use std::env;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pumas_core::processes::keeper;
use pumas_core::updates::restarter;
use pumas_rpc::args::{Asked, HELP, Options, USAGE, parse};
use pumas_rpc::http::Settings;
use pumas_rpc::http::access::LOOPBACK_NAMES;
use pumas_rpc::parent;
use pumas_rpc::sidecar::{Run, run};
use pumas_rpc::starter;

const TOKEN_VARIABLE: &str = "PUMAS_RPC_TOKEN";
/// With it a page can get the token once, soon after the start.
const CODE_VARIABLE: &str = "PUMAS_SESSION_CODE";
const WRONG_USE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    if let Some(status) = keeper::run(&arguments)
        .or_else(|| starter::run(&arguments))
        .or_else(|| restarter::run(&arguments))
    {
        return ExitCode::from(status);
    }
    let started_by = parent::current();
    let (token, session_code) = (take(TOKEN_VARIABLE), take(CODE_VARIABLE));
    let options = match parse(arguments) {
        Ok(Asked::Serve(options)) => options,
        Ok(Asked::Help) => {
            let _ = write!(std::io::stdout(), "{USAGE}\n{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return refuse(&format!("{USAGE}\npumas-rpc: error: {error}")),
    };
    if token.as_deref().is_some_and(|token| token.trim().is_empty()) {
        // Whoever sets the variable wants a token; running without one would be the opposite.
        return refuse(&format!(
            "{TOKEN_VARIABLE} is empty: give it a value, or unset it to run without a token."
        ));
    }
    if token.is_none() && !LOOPBACK_NAMES.contains(&options.host.as_str()) {
        return refuse(&format!(
            "--host {} needs a token: set {TOKEN_VARIABLE}.",
            options.host
        ));
    }
    let mut settings = settings(options, token, started_by);
    settings.settings.session_code = session_code;
    run(&settings)
}

/// Taken out of the environment, so that no child process inherits it.
fn take(variable: &str) -> Option<String> {
    let value = env::var_os(variable)?;
    #[expect(unsafe_code, reason = "nothing else can take a variable away")]
    // SAFETY: no other thread runs yet, so nobody reads the environment meanwhile.
    unsafe {
        env::remove_var(variable);
    }
    Some(value.to_string_lossy().into_owned())
}

fn refuse(sentence: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{sentence}");
    ExitCode::from(WRONG_USE)
}

fn settings(options: Options, token: Option<String>, started_by: u32) -> Run {
    let checkout = checkout();
    let root = options
        .root
        .or_else(|| checkout.clone())
        .unwrap_or_else(|| PathBuf::from("."));
    let page = checkout.map(|checkout| checkout.join("electron").join("dist").join("renderer"));
    Run {
        root: std::path::absolute(&root).unwrap_or(root),
        settings: Settings {
            host: options.host,
            port: options.port,
            token,
            page,
            session_code: None,
        },
        debug: options.debug,
        parent: options.parent.unwrap_or(started_by),
    }
}

/// The folder that this program was built in, where it still lies there.
fn checkout() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let is_checkout = |folder: &&Path| folder.join("contracts").is_dir() && folder.join("rust").is_dir();
    program
        .ancestors()
        .skip(1)
        .find(is_checkout)
        .map(Path::to_path_buf)
}
