//! NVIDIA GPUs. The driver is let go when nobody watches: an open one keeps the GPU of a laptop from sleeping.

use std::path::Path;

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;

use super::disk::percent;
use super::resources::{GpuLoad, gib};

/// Files of which one exists where a driver is loaded; looking costs less than opening the library.
const MARKS: [&str; 3] = [
    "/dev/nvidiactl",
    "/proc/driver/nvidia/version",
    "/usr/lib/wsl/lib/libnvidia-ml.so.1",
];

/// The driver while it is open; `None` without one, or when it refuses.
pub(super) struct Gpus(Option<Nvml>);

impl Gpus {
    pub(super) fn open() -> Self {
        let is_there = MARKS.iter().any(|mark| Path::new(mark).exists());
        Self(is_there.then(Nvml::init).and_then(Result::ok))
    }

    /// Every GPU, in the driver's order; one that fell off the bus or belongs to somebody else is left out.
    pub(super) fn read(&self) -> Vec<GpuLoad> {
        let Some(nvml) = &self.0 else { return Vec::new() };
        (0..nvml.device_count().unwrap_or(0))
            .filter_map(|index| Some(load(&nvml.device_by_index(index).ok()?)))
            .collect()
    }
}

/// Which questions a GPU answers depends on its kind.
fn load(device: &nvml_wrapper::Device<'_>) -> GpuLoad {
    let memory = device.memory_info().ok();
    GpuLoad {
        name: device.name().ok(),
        usage: device
            .utilization_rates()
            .map_or(0.0, |rates| percent(f64::from(rates.gpu), 100.0)),
        memory: memory.as_ref().map_or(0.0, |memory| gib(memory.used)),
        memory_total: memory.map_or(0.0, |memory| gib(memory.total)),
        temp: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
    }
}
