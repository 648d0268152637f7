//! What a shortcut runs: `pumas-rpc start-app ROOT APP [TAG]` starts the app and opens its page once it answers.
//!
//! Uses the sidecar of the root when one runs, of either backend; otherwise it starts one and stays until the app ends. It
//! talks to it as any other client does.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pumas_core::config::Layout;
use pumas_core::storage::files::random_hex;
use pumas_core::storage::owner::live_owner;
use serde_json::{Value, json};

/// The first argument.
pub const START_APP: &str = "start-app";
const READY: Duration = Duration::from_mins(5);
const POLL: Duration = Duration::from_millis(500);
const ANSWER: Duration = Duration::from_secs(30);
const MOST_REPLY: u64 = 64 * 1024 * 1024;

/// Do that when the arguments say so; None when they do not. The status to end with.
#[must_use]
pub fn run(arguments: &[OsString]) -> Option<u8> {
    if arguments.first()? != START_APP {
        return None;
    }
    let words: Option<Vec<&str>> = arguments[1..].iter().map(|word| word.to_str()).collect();
    let done = match words.as_deref() {
        Some([root, app_id]) => start(root, app_id, None),
        Some([root, app_id, tag]) => start(root, app_id, Some(tag)),
        _ => Err(io::Error::other("usage: pumas-rpc start-app ROOT APP [TAG]")),
    };
    Some(match done {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            1
        }
    })
}

/// The sidecar of a root. One that was started here ends with this.
struct Sidecar {
    port: u16,
    token: Option<String>,
    own: Option<Child>,
}

impl Sidecar {
    fn of(root: &str) -> io::Result<Self> {
        if let Some(owner) = live_owner(&Layout::new(Path::new(root))) {
            return Ok(Self {
                port: owner.port,
                token: owner.token,
                own: None,
            });
        }
        let token = random_hex(32);
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--port", "0", "--launcher-root", root])
            .env("PUMAS_RPC_TOKEN", &token)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let port = line
            .trim()
            .strip_prefix("RPC_PORT=")
            .and_then(|port| port.parse().ok());
        Ok(Self {
            port: port.ok_or_else(|| io::Error::other("the sidecar did not start; its log says why"))?,
            token: Some(token),
            own: Some(child),
        })
    }

    fn call(&self, method: &str, params: &Value) -> io::Result<Value> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(ANSWER))?;
        let token = self
            .token
            .as_deref()
            .map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        write!(
            stream,
            "POST /rpc HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{token}Content-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.port,
            body.len()
        )?;
        let mut reply = Vec::new();
        stream.take(MOST_REPLY).read_to_end(&mut reply)?;
        let reply = String::from_utf8_lossy(&reply);
        let text = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let reply: Value = serde_json::from_str(text)?;
        let result = &reply["result"];
        if result.get("success") == Some(&Value::Bool(false)) {
            return Err(io::Error::other(said(&result["error"])));
        }
        match reply.get("error") {
            Some(error) => Err(io::Error::other(said(&error["message"]))),
            None => Ok(result.clone()),
        }
    }

    /// The run of an app, or that with the id.
    fn run_of(&self, app_id: &str, run_id: Option<&str>) -> io::Result<Option<Value>> {
        let listed = self.call("list_processes", &json!({}))?;
        let is_it = |run: &&Value| run["app_id"] == app_id && run_id.is_none_or(|id| run["run_id"] == id);
        Ok(listed["processes"]
            .as_array()
            .into_iter()
            .flatten()
            .find(is_it)
            .cloned())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if self.own.is_some() {
            let _ = self.call("shutdown", &json!({}));
        }
        if let Some(child) = &mut self.own {
            let _ = child.wait();
        }
    }
}

fn said(text: &Value) -> String {
    text.as_str()
        .unwrap_or("the sidecar answered in an unknown form")
        .to_owned()
}

fn start(root: &str, app_id: &str, tag: Option<&str>) -> io::Result<()> {
    let sidecar = Sidecar::of(root)?;
    let run = match sidecar.run_of(app_id, None)? {
        Some(run) => run,
        None => sidecar.call("launch_app", &json!({"app_id": app_id, "tag": tag}))?,
    };
    let run_id = run["run_id"].as_str().unwrap_or_default().to_owned();
    if is_ready(&sidecar, app_id, &run_id)? {
        sidecar.call("open_url", &json!({"url": run["url"]}))?;
    }
    while sidecar.own.is_some() && sidecar.run_of(app_id, Some(&run_id))?.is_some() {
        thread::sleep(POLL);
    }
    Ok(())
}

fn is_ready(sidecar: &Sidecar, app_id: &str, run_id: &str) -> io::Result<bool> {
    let began = Instant::now();
    while began.elapsed() < READY {
        match sidecar.run_of(app_id, Some(run_id))? {
            None => return Ok(false),
            Some(run) if run["ready"] == true => return Ok(true),
            Some(_) => thread::sleep(POLL),
        }
    }
    Ok(false)
}
