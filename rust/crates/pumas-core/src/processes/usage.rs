//! What running apps use: processor, memory and GPU memory, each with all its processes, read behind while somebody asks.
//!
//! It knows no app: who belongs to one is asked.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;

use super::kernel::Seen;
use super::values::Usage;
use crate::blocking::blocking;
use crate::storage::locked;

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
/// While somebody polls, readings are so far apart.
const PACE: Duration = Duration::from_secs(1);
/// A file that is there where a driver is loaded; looking costs less than opening the library.
const DRIVER: &str = "/dev/nvidiactl";

/// The processes of each run, by the run's id.
pub(super) type Families = HashMap<String, Vec<Seen>>;
type Readings = HashMap<String, Usage>;

#[derive(Default)]
struct State {
    read_at: Option<Instant>,
    is_reading: bool,
    last: Arc<Readings>,
    /// Ticks of processor time of each process, by number and start: load is a difference.
    ticks: HashMap<(u32, u64), u64>,
}

/// Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct UsageMonitor {
    state: Arc<Mutex<State>>,
}

impl UsageMonitor {
    /// The newest reading that is there, by the run's id, and the wish for newer ones. Never waits.
    pub(super) fn latest(&self, families: impl FnOnce() -> Families + Send + 'static) -> Arc<Readings> {
        let mut state = locked(&self.state);
        let is_due = state.read_at.is_none_or(|at| at.elapsed() >= PACE) && !state.is_reading;
        if is_due && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            state.is_reading = true;
            let monitor = self.clone();
            runtime.spawn(blocking(move || {
                monitor.read(&families());
                Ok(())
            }));
        }
        Arc::clone(&state.last)
    }

    fn read(&self, families: &Families) {
        let on_gpu = if families.values().all(Vec::is_empty) {
            HashMap::new()
        } else {
            gpu_memory()
        };
        let (before, read_at) = {
            let mut state = locked(&self.state);
            (std::mem::take(&mut state.ticks), state.read_at)
        };
        let now = Instant::now();
        let mut ticks = HashMap::new();
        let mut readings = Readings::new();
        for (run_id, family) in families {
            let (mut used, mut pages, mut gpu) = (0, 0, 0);
            for seen in family {
                // It may have ended meanwhile.
                let Some(spent) = spent(seen.pid) else { continue };
                let who = (seen.pid, seen.start);
                used += before
                    .get(&who)
                    .map_or(0, |earlier| spent.saturating_sub(*earlier));
                ticks.insert(who, spent);
                pages += resident(seen.pid);
                gpu += on_gpu.get(&seen.pid).copied().unwrap_or_default();
            }
            let seconds = read_at.map_or(0.0, |at| now.duration_since(at).as_secs_f64());
            let cpu = if seconds > 0.0 {
                used as f64 / rustix::param::clock_ticks_per_second() as f64 / seconds * 100.0
            } else {
                0.0
            };
            let bytes = pages as f64 * rustix::param::page_size() as f64;
            readings.insert(
                run_id.clone(),
                Usage {
                    cpu: rounded(cpu, 10.0),
                    ram: rounded(bytes / GIB, 100.0),
                    gpu: rounded(gpu as f64 / GIB, 100.0),
                },
            );
        }
        let mut state = locked(&self.state);
        (state.last, state.ticks) = (Arc::new(readings), ticks);
        (state.read_at, state.is_reading) = (Some(now), false);
    }
}

fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// Ticks of processor time, `proc_pid_stat(5)`.
fn spent(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
    Some(number(11)? + number(12)?)
}

/// Pages in memory, `proc_pid_statm(5)`.
fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = text
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse().ok());
    pages.unwrap_or_default()
}

/// Bytes on all GPUs, by process. One that computes and draws is in both lists of a GPU, and counts once.
/// <https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html>
fn gpu_memory() -> HashMap<u32, u64> {
    let mut total: HashMap<u32, u64> = HashMap::new();
    if !Path::new(DRIVER).exists() {
        return total;
    }
    let Ok(nvml) = Nvml::init() else { return total };
    for index in 0..nvml.device_count().unwrap_or_default() {
        let Ok(device) = nvml.device_by_index(index) else {
            continue;
        };
        let mut here: HashMap<u32, u64> = HashMap::new();
        let lists = [
            device.running_compute_processes(),
            device.running_graphics_processes(),
        ];
        for process in lists.into_iter().flatten().flatten() {
            if let UsedGpuMemory::Used(bytes) = process.used_gpu_memory {
                let known = here.entry(process.pid).or_default();
                *known = bytes.max(*known);
            }
        }
        for (pid, bytes) in here {
            *total.entry(pid).or_default() += bytes;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let me = std::process::id();
        assert!(spent(me).is_some() && resident(me) > 0);
        let family = super::super::kernel::look(me).into_iter().collect();
        let monitor = UsageMonitor::default();
        monitor.read(&Families::from([("a".to_owned(), family)]));
        assert!(locked(&monitor.state).last["a"].ram > 0.0);
    }
}
