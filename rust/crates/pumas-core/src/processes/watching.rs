//! What happens to a run while it goes on: it gets ready, it prints, it ends. One task for each, for its life.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::output::Follower;
use super::readiness::{Found, pauses, probe};
use super::run::Run;
use super::values::RunState;
use crate::apps::AppDescription;
use crate::blocking::blocking;
use crate::error::Result;
use crate::events::EventStream;

const LOG_TOPIC: &str = "process.log";
const SLOW_PROBE: Duration = Duration::from_secs(5);
const NEWS: Duration = Duration::from_millis(300);

/// Ask again and again until it is ready, is being stopped, or has ended; `tell` hears of each change.
pub(super) async fn until_ready(run: Arc<Run>, app: Arc<AppDescription>, tell: impl Fn(&Run)) -> Result<()> {
    let limit_s = app.launch.ready.timeout_s;
    for pause in pauses() {
        if run.over.is_asked() || run.state() == RunState::Stopping {
            return Ok(());
        }
        let (asked, of) = (Arc::clone(&run), Arc::clone(&app));
        let found = blocking(move || {
            let pids: Vec<u32> = asked.family().iter().map(|seen| seen.pid).collect();
            Ok(probe(&of.launch.ready, asked.record.port, &pids))
        })
        .await?;
        if found == Found::Ready && became_ready(&run) {
            run.settled.ask();
            tell(&run);
            return Ok(());
        }
        if run.state() == RunState::Starting && run.began.elapsed().as_secs_f64() > limit_s {
            let why = if found == Found::Foreign {
                "another program has its port"
            } else {
                "it does not answer"
            };
            let name = &app.name;
            run.with(|now| {
                now.state = RunState::NotAnswering;
                now.error = Some(format!(
                    "{name} runs but is not ready after {limit_s} s: {why}. See its log."
                ));
            });
            tell(&run);
        }
        let is_slow = run.state() == RunState::NotAnswering;
        run.wait(if is_slow { SLOW_PROBE } else { pause }).await;
    }
    Ok(())
}

fn became_ready(run: &Run) -> bool {
    run.with(|now| {
        let waited = matches!(now.state, RunState::Starting | RunState::NotAnswering);
        if waited {
            (now.state, now.error) = (RunState::Ready, None);
        }
        waited
    })
}

/// Returns when nothing of it is left; then its state says so, and its error why if nobody wanted that.
pub(super) async fn until_over(run: &Arc<Run>, name: &str) -> Result<()> {
    run.until_gone().await?;
    run.until_ended().await;
    run.with(|now| {
        if !now.asked_to_stop {
            let how = match now.exit_code {
                None => String::new(),
                Some(code @ ..0) => format!(" by signal {}", -code),
                Some(code) => format!(" with status {code}"),
            };
            now.error = Some(format!("{name} ended by itself{how}. See its log."));
        }
        now.state = RunState::Exited;
    });
    Ok(())
}

/// Publish new lines, some times a second at most and only while somebody follows them.
pub(super) async fn follow_log(run: Arc<Run>, events: EventStream) -> Result<()> {
    let mut follower: Option<Follower> = None;
    let mut over = false;
    while !over {
        // What it printed last is read once more after that.
        over = run.over.is_asked();
        if events.wanted(LOG_TOPIC) {
            let from_start = !run.adopted && run.began.elapsed() < 2 * NEWS;
            let (known, log) = (follower.take(), run.record.log.clone());
            let (kept, lines, skipped) = blocking(move || {
                let mut follower = known.unwrap_or_else(|| Follower::new(Path::new(&log), from_start));
                let (lines, skipped) = follower.news();
                Ok((follower, lines, skipped))
            })
            .await?;
            follower = Some(kept);
            if !lines.is_empty() || skipped > 0 {
                let mut news = who(&run);
                news["lines"] = json!(lines);
                news["skipped_bytes"] = json!(skipped);
                events.publish(LOG_TOPIC, &news);
            }
        } else {
            follower = None;
        }
        run.wait(NEWS).await;
    }
    Ok(())
}

/// How events name a run.
pub(super) fn who(run: &Run) -> Value {
    json!({"run_id": run.record.run_id, "app_id": run.record.app_id, "tag": run.record.tag})
}
