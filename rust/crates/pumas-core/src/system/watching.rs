//! The load of the machine and of running apps as events, while somebody follows the topic by its name.
//!
//! For curves on a screen: `system.resources` comes every two seconds with what `get_system_resources` and
//! `list_processes` would say, so that nobody has to poll. A moment that was missed is not replayed.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{AppProcess, SystemService};
use crate::error::Result;
use crate::events::EventStream;

const TOPIC: &str = "system.resources";
const EVERY: Duration = Duration::from_secs(2);

/// Runs for the life of the sidecar; costs nothing while nobody follows.
pub async fn tell_load(system: Arc<SystemService>, events: EventStream) {
    loop {
        events.until_wanted(TOPIC).await;
        // Where the machine does not answer now, it perhaps does in a moment.
        if let Ok(load) = load(&system).await {
            events.publish_passing(TOPIC, &load);
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn load(system: &SystemService) -> Result<Value> {
    let (resources, processes) = tokio::try_join!(system.resources(), system.processes())?;
    let apps: Vec<Value> = processes.iter().map(app).collect();
    Ok(json!({ "resources": resources, "apps": apps }))
}

fn app(process: &AppProcess) -> Value {
    json!({
        "app_id": process.app_id,
        "tag": process.tag,
        "pid": process.pid,
        "cpu_usage": process.cpu_usage,
        "ram_memory": process.ram_memory,
        "gpu_memory": process.gpu_memory,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_by_name_is_told() {
        let events = EventStream::starting_at(0);
        let root = tempfile::tempdir().unwrap();
        let system = Arc::new(SystemService::new(root.path().to_owned(), None));
        let telling = tokio::spawn(tell_load(system, events.clone()));
        let mut everything = events.subscribe(vec![], None);
        let mut named = events.subscribe(vec!["system".into()], None);
        let told = named.next().await;
        let load: Value = serde_json::from_slice(&told[0].data).unwrap();
        assert_eq!((told[0].topic, &load["apps"]), (TOPIC, &json!([])));
        assert!(load["resources"]["ram"]["total"].as_f64().unwrap() > 0.0);
        assert!(everything.pending().is_empty());
        telling.abort();
    }
}
