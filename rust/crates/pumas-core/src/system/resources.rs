//! Load of the machine: processor, memory, the launcher's disk, NVIDIA GPUs.
//!
//! The machine and the GPUs are two sources with a thread each, so that a GPU driver that hangs takes no number but its own.
//! What single programs use is not known here.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sysinfo::System;

use super::disk::{measure, percent, rounded};
use super::gpus::Gpus;
use super::sampling::{Pace, Read, Sampler};
use crate::error::{Error, Result};

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// Readings live longer than the interval, so that a watcher never waits. The first CPU load covers the window, later ones
/// the time since the reading before.
const WATCHED: Pace = Pace {
    max_age: Duration::from_secs(3),
    interval: Duration::from_secs(1),
    park_after: Duration::from_secs(10),
    window: Duration::from_millis(100),
    answer_within: Duration::from_secs(2),
};

/// Linux hwmon chips that measure the processor, best first (<https://docs.kernel.org/hwmon/>).
const CPU_SENSORS: [&str; 7] = [
    "coretemp",
    "k10temp",
    "zenpower",
    "cpu_thermal",
    "cpu-thermal",
    "soc_thermal",
    "acpitz",
];

/// The processor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CpuLoad {
    /// Of all cores together, percent 0 to 100.
    pub usage: f64,
    /// Degrees Celsius; `None` without a sensor.
    pub temp: Option<f64>,
}

/// One GPU. A number that the driver does not give (virtual and partitioned GPUs) is zero, as without a GPU.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct GpuLoad {
    /// As the driver names it.
    pub name: Option<String>,
    /// Percent 0 to 100.
    pub usage: f64,
    /// GiB in use.
    pub memory: f64,
    /// GiB.
    pub memory_total: f64,
    /// Degrees Celsius.
    pub temp: Option<f64>,
}

/// Memory.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RamLoad {
    /// Percent 0 to 100.
    pub usage: f64,
    /// GiB that programs cannot get.
    pub used: f64,
    /// GiB.
    pub total: f64,
}

/// The file system of the launcher root.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DiskLoad {
    /// Percent 0 to 100.
    pub usage: f64,
    /// GiB.
    pub used: f64,
    /// GiB.
    pub total: f64,
    /// GiB.
    pub free: f64,
}

#[derive(Debug, Clone)]
struct HostLoad {
    cpu: CpuLoad,
    ram: RamLoad,
    disk: DiskLoad,
}

/// Everything at once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resources {
    /// The processor.
    pub cpu: CpuLoad,
    /// The first NVIDIA GPU, or zeros without one.
    pub gpu: GpuLoad,
    /// All of them, in the driver's order.
    pub gpus: Vec<GpuLoad>,
    /// Memory.
    pub ram: RamLoad,
    /// The launcher's disk.
    pub disk: DiskLoad,
}

/// The load of this machine, read in the background while somebody asks for it.
pub struct ResourceMonitor {
    host: Sampler<HostLoad>,
    gpus: Sampler<Vec<GpuLoad>>,
}

impl ResourceMonitor {
    /// `root` is on the disk to watch.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        let root: Arc<Path> = root.into();
        let host = move || host_source(root.clone());
        let gpus = || -> Read<Vec<GpuLoad>> {
            let gpus = Gpus::open();
            Box::new(move || Ok(gpus.read()))
        };
        Self {
            host: Sampler::new("machine's load", Arc::new(host), WATCHED),
            gpus: Sampler::new("GPUs", Arc::new(gpus), WATCHED),
        }
    }

    /// The load now, at most three seconds old.
    ///
    /// # Errors
    /// `DiskError` when the launcher's disk cannot be read, `TimedOut` when the machine does not answer. GPUs that do not
    /// answer in time are left out.
    pub async fn latest(&self) -> Result<Resources> {
        // Both sources start before either is waited for.
        self.gpus.wake()?;
        let host = self.host.latest().await?;
        let gpus = match self.gpus.latest().await {
            Err(Error::TimedOut(_)) => Vec::new(),
            gpus => gpus?,
        };
        let gpu = gpus.first().cloned().unwrap_or_default();
        Ok(Resources {
            cpu: host.cpu,
            gpu,
            gpus,
            ram: host.ram,
            disk: host.disk,
        })
    }

    /// Stop reading.
    pub async fn close(&self) {
        tokio::join!(self.host.close(), self.gpus.close());
    }
}

fn host_source(root: Arc<Path>) -> Read<HostLoad> {
    let mut system = System::new();
    if let Ok(system) = &mut system {
        // The start of the first window.
        system.refresh_cpu_usage();
    }
    Box::new(move || {
        let Ok(system) = &mut system else {
            return Err(Error::Unsupported(
                "The load of this system cannot be read.".to_owned(),
            ));
        };
        system.refresh_cpu_usage();
        system.refresh_memory();
        let space = measure(&root)?;
        let total = system.total_memory();
        let used = total.saturating_sub(system.available_memory());
        Ok(HostLoad {
            cpu: CpuLoad {
                usage: percent(f64::from(system.global_cpu_usage()), 100.0),
                temp: cpu_temperature(Path::new("/sys/class/hwmon")),
            },
            ram: RamLoad {
                usage: percent(used as f64, total as f64),
                used: gib(used),
                total: gib(total),
            },
            disk: DiskLoad {
                usage: space.percent,
                used: gib(space.used),
                total: gib(space.total),
                free: gib(space.free),
            },
        })
    })
}

/// Bytes as GiB with one decimal.
pub(super) fn gib(bytes: u64) -> f64 {
    rounded(bytes as f64 / GIB, 1)
}

/// Degrees Celsius of the first processor sensor, `None` without one. The package comes before its cores.
fn cpu_temperature(chips: &Path) -> Option<f64> {
    let read = |path: PathBuf| fs::read_to_string(path).ok();
    let chips: Vec<(String, PathBuf)> = fs::read_dir(chips)
        .ok()?
        .filter_map(|chip| {
            let folder = chip.ok()?.path();
            Some((read(folder.join("name"))?.trim().to_owned(), folder))
        })
        .collect();
    let degrees = |folder: &PathBuf| {
        (1..=32).find_map(|number| {
            let millis: f64 = read(folder.join(format!("temp{number}_input")))?
                .trim()
                .parse()
                .ok()?;
            Some(rounded(millis / 1000.0, 1)).filter(|degrees| degrees.is_finite())
        })
    };
    let of = |sensor: &&str| {
        chips
            .iter()
            .filter(|(name, _)| name == sensor)
            .find_map(|(_, folder)| degrees(folder))
    };
    CPU_SENSORS.iter().find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_processor_sensor_is_read() {
        let chips = tempfile::tempdir().unwrap();
        for (chip, name, millis) in [("hwmon0", "acpitz", "20000"), ("hwmon1", "k10temp", "48875\n")] {
            fs::create_dir(chips.path().join(chip)).unwrap();
            fs::write(chips.path().join(chip).join("name"), format!("{name}\n")).unwrap();
            fs::write(chips.path().join(chip).join("temp1_input"), millis).unwrap();
        }
        assert_eq!(
            cpu_temperature(chips.path())
                .map(|degrees| degrees.to_string())
                .as_deref(),
            Some("48.9")
        );
        assert_eq!(cpu_temperature(Path::new("/nowhere")), None);
    }

    #[tokio::test]
    async fn the_machine_has_a_load() {
        let monitor = ResourceMonitor::new(PathBuf::from("/"));
        let found = monitor.latest().await.unwrap();
        assert!(found.ram.total > 0.0 && found.ram.usage <= 100.0 && found.disk.total > 0.0);
        monitor.close().await;
    }
}
