//! Starts a freshly built version once, to see that it answers, and ends it.
//!
//! On a port of its own, and ready by the same proof as any start of an app. Blocks.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use super::running::{Programs, Running};
use crate::apps::{AppDescription, Ready, command_of};
use crate::error::{Error, Result};
use crate::processes::kernel::{descendants, table};
use crate::processes::ports::{HOST, Holder, free_port, holder};
use crate::processes::readiness::{Found, probe};
use crate::text::cut;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
const PAUSE_GROWTH: f64 = 1.1;
const LONGEST_WORDS: usize = 600;

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
    let port = free_port(0, &HashSet::new()).map_err(|error| unusable(error.to_string()))?;
    let command = command_of(app, folder, root, HOST, port, &[], true)?;
    let started = programs.start(&command.argv, &command.folder, &command.environment);
    let started = started.map_err(|error| match error {
        Error::InstallFailed { reason, .. } => unusable(reason),
        other => other,
    })?;
    let mut running = started.wholly();
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
        if is_ready(ready, port, running.pid()) {
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

/// Whether this process or its children, and nobody else, listen on the port, and answer as a ready app does.
fn is_ready(ready: &Ready, port: u16, pid: u32) -> bool {
    let mut pids = vec![pid];
    match holder(port, &pids) {
        Holder::Nobody => return false,
        Holder::Ours => {}
        // To know its children every process of the machine has to be looked at.
        Holder::Others => pids.extend(descendants(pid, &table()).iter().map(|child| child.pid)),
    }
    probe(ready, port, &pids) == Found::Ready
}
