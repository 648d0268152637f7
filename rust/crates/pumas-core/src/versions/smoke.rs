//! Starts a freshly built version once, to see that it answers, and ends it.
//!
//! A port of its own, the app's own check of readiness, and the proof that the answer comes from a process that we started:
//! one of its group listens there. Blocks.

use std::collections::HashSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::running::{Programs, Running, stat_of};
use crate::apps::{AppDescription, Ready, command_of};
use crate::error::{Error, Result};
use crate::storage::files::reason;
use crate::text::cut;

const HOST: &str = "127.0.0.1";
const PROBE: Duration = Duration::from_secs(2);
const LARGEST_ANSWER: u64 = 1024 * 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
const PAUSE_GROWTH: f64 = 1.1;
const LONGEST_WORDS: usize = 600;
/// The state of a listening socket: <https://www.kernel.org/doc/Documentation/networking/proc_net_tcp.txt>.
const LISTENS: &str = "0A";

/// Seconds until it was ready.
///
/// # Errors
/// `SmokeLaunchFailed`: it ended, or did not answer in time; with the last words it said. `FileUnavailable`: it lacks what is
/// started. What the work is stopped by.
pub(super) fn smoke_launch(
    app: &AppDescription,
    folder: &Path,
    root: &Path,
    programs: &Programs,
) -> Result<f64> {
    let began = Instant::now();
    let port = free_port().map_err(|error| unusable(format!("no port is free: {}", reason(&error))))?;
    let command = command_of(app, folder, root, HOST, port, &[], true)?;
    let started = programs.start(&command.argv, &command.folder, &command.environment);
    let mut running = started.map_err(|error| match error {
        Error::InstallFailed { reason, .. } => unusable(reason),
        other => other,
    })?;
    wait_ready(app, &mut running, port, programs)?;
    Ok(began.elapsed().as_secs_f64())
}

fn unusable(reason: String) -> Error {
    Error::SmokeLaunchFailed {
        stage: "setup".to_owned(),
        reason,
    }
}

fn wait_ready(app: &AppDescription, running: &mut Running, port: u16, programs: &Programs) -> Result<()> {
    let ready = &app.launch.ready;
    let ends = Instant::now() + Duration::from_secs_f64(ready.timeout_s.clamp(0.0, 86_400.0));
    let mut pause = FIRST_PAUSE;
    loop {
        programs.check()?;
        let status = running.exited();
        running.lines();
        if let Some(status) = status {
            let said = said(running);
            return Err(unusable(format!(
                "{} was built but ended with status {status}: {said}",
                app.name
            )));
        }
        if answers(ready, port) && listens(running.pid(), port) {
            return Ok(());
        }
        if Instant::now() > ends {
            let said = said(running);
            return Err(unusable(format!(
                "{} was built but did not answer within {:.0} s: {said}",
                app.name, ready.timeout_s
            )));
        }
        running.wait(pause);
        pause = pause.mul_f64(PAUSE_GROWTH).min(LONGEST_PAUSE);
    }
}

fn said(running: &Running) -> String {
    let tail = running.tail();
    let last = &tail[tail.len().saturating_sub(5)..];
    let words: Vec<&str> = last
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty())
        .collect();
    match words.join(" ") {
        words if words.is_empty() => "it said nothing".to_owned(),
        words => cut(&words, LONGEST_WORDS).to_owned(),
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((HOST, 0))?.local_addr()?.port())
}

/// Whether what listens there answers as a ready app does.
pub(crate) fn answers(ready: &Ready, port: u16) -> bool {
    let Some((head, body)) = asked(&ready.path, port) else {
        return false;
    };
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let names: Vec<&str> = lines.filter_map(|line| Some(line.split_once(':')?.0)).collect();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let has = |name: &str| names.contains(&name);
    status.is_some_and(|status| ready.accepts(status, has, &body))
}

/// The head and the body of the answer to one GET; None when there is none within some seconds.
fn asked(path: &str, port: u16) -> Option<(String, Vec<u8>)> {
    let mut connection = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PROBE).ok()?;
    connection.set_read_timeout(Some(PROBE)).ok()?;
    connection.set_write_timeout(Some(PROBE)).ok()?;
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {HOST}:{port}\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let ends = Instant::now() + 2 * PROBE;
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(_) => return None,
        }
        if is_whole(&answer) || answer.len() as u64 > LARGEST_ANSWER || Instant::now() > ends {
            break;
        }
    }
    let gap = memchr::memmem::find(&answer, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..gap]).into_owned();
    Some((head, answer[gap + 4..].to_vec()))
}

/// Whether as much has come as the answer itself tells of.
fn is_whole(answer: &[u8]) -> bool {
    let Some(gap) = memchr::memmem::find(answer, b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&answer[..gap]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    length
        .and_then(|length| length.trim().parse::<usize>().ok())
        .is_some_and(|length| answer.len() - gap - 4 >= length)
}

/// Whether this process or one of its children listens on the port.
fn listens(pid: u32, port: u16) -> bool {
    let sockets = listening(port);
    !sockets.is_empty() && family(pid).into_iter().any(|pid| holds(pid, &sockets))
}

/// The inodes of sockets that listen on the port.
fn listening(port: u16) -> HashSet<String> {
    let end = format!(":{port:04X}");
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines());
    lines
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_it = words.get(1)?.ends_with(&end) && *words.get(3)? == LISTENS;
            is_it.then(|| format!("socket:[{}]", words.get(9).unwrap_or(&"")))
        })
        .collect()
}

/// A process and everything below it.
fn family(pid: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten();
    let parents: Vec<(u32, u32)> = pids
        .filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((pid, stat_of(pid)?.get(1)?.parse().ok()?))
        })
        .collect();
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        let children = parents
            .iter()
            .filter(|(_, its)| *its == parent)
            .map(|(pid, _)| *pid);
        found.extend(children.filter(|pid| *pid != parent).collect::<Vec<_>>());
        at += 1;
    }
    found
}

fn holds(pid: u32, sockets: &HashSet<String>) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    let mut targets = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets.any(|target| target.to_str().is_some_and(|target| sockets.contains(target)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_told_by_the_kernel() {
        let listener = TcpListener::bind((HOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listens(std::process::id(), port));
        drop(listener);
        assert!(!listens(std::process::id(), port));
        assert!(!answers(&Ready::default(), port));
    }

    #[test]
    fn an_answer_is_whole_when_its_length_says_so() {
        for (answer, whole) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", false),
            ("HTTP/1.1 200 OK\r\n\r\nok", false),
            ("HTTP/1.1 200 OK\r\n", false),
        ] {
            assert_eq!(is_whole(answer.as_bytes()), whole);
        }
    }
}
